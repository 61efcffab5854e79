//! Answers scrapes whose deadline leaves no time for reading.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::request::{Error, Request};
use crate::metrics::{CollectorSet, SelfMetrics};
use crate::render::{BufferPool, render_self_metrics};

/// Number of passes whose costs are kept. The cheapest predicts the next pass, because a busy host delays some passes.
const KEPT_PASSES: usize = 4;
/// How long a cost is valid. After that a pass runs whatever it may cost, and is measured.
const COST_VALIDITY: Duration = Duration::from_mins(1);

/// Cost of a pass before it reads the first container, mostly that of the kernel's snapshot. A scrape with less time
/// gets no values. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(super) struct Overhead(Arc<Mutex<Recent>>);

#[derive(Debug, Default)]
struct Recent {
    costs: [Duration; KEPT_PASSES],
    next: usize,
    at: Option<Instant>,
}

impl Overhead {
    fn recent(&self) -> MutexGuard<'_, Recent> {
        // No code panics while it holds this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the cost of a pass that began at `at`.
    pub(super) fn record(&self, cost: Duration, at: Instant) {
        let mut recent = self.recent();
        let next = recent.next % KEPT_PASSES;
        if let Some(slot) = recent.costs.get_mut(next) {
            *slot = cost;
        }
        (recent.next, recent.at) = (next + 1, Some(at));
    }

    /// Returns whether a pass that begins now could read anything before the request's deadline.
    pub(super) fn allows(&self, request: &Request, now: Instant) -> bool {
        let Some(deadline) = request.deadline else { return true };
        let recent = self.recent();
        let is_believed = recent.at.is_some_and(|at| now.saturating_duration_since(at) < COST_VALIDITY);
        let cost = recent.costs.iter().min().copied().filter(|_| is_believed).unwrap_or_default();
        deadline.saturating_duration_since(now) > cost
    }
}

/// Renders answers without values: valid expositions in which no collector succeeded.
#[derive(Debug)]
pub(super) struct Unread {
    /// The collectors that have metrics on this host.
    pub(super) collectors: CollectorSet,
    pub(super) self_metrics: SelfMetrics,
    pub(super) pool: BufferPool,
}

impl Unread {
    pub(super) fn body(&self, request: &Request) -> Result<Bytes, Error> {
        let self_metrics =
            self.self_metrics.of_nothing_read(request.selection.collectors.intersection(self.collectors));
        let mut self_metrics = self_metrics.map_err(|_invalid| Error::Panicked)?;
        self_metrics.retain(|family| request.selection.has_own(family.name()));
        Ok(render_self_metrics(&self_metrics, request.format, request.gzip, &self.pool))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{COST_VALIDITY, Overhead, Unread};
    use crate::metrics::{Collector, CollectorSet, SelfMetrics};
    use crate::render::BufferPool;
    use crate::scrape::{Format, Request, Selection};

    fn request(deadline: Option<Instant>) -> Request {
        let collectors = CollectorSet::EMPTY.with(Collector::Cpu).with(Collector::Tcp);
        Request { selection: Selection::of_collectors(collectors), format: Format::Text, gzip: false, deadline }
    }

    #[test]
    fn a_scrape_has_time_if_it_has_more_than_the_cheapest_recent_pass_cost() {
        let (overhead, now) = (Overhead::default(), Instant::now());
        let has_time = |milliseconds: u64, at: Instant| {
            overhead.allows(&request(Some(at + Duration::from_millis(milliseconds))), at)
        };
        assert!(has_time(1, now) && !has_time(0, now) && overhead.allows(&request(None), now));
        for cost in [900, 20, 30, 40] {
            overhead.record(Duration::from_millis(cost), now);
        }
        assert!(has_time(21, now) && !has_time(20, now));
        assert!(!overhead.allows(&request(Some(now)), now + Duration::from_secs(1)));
        assert!(has_time(1, now + COST_VALIDITY));
    }

    #[test]
    fn no_collector_has_succeeded_of_those_that_were_asked_for_and_are_there() {
        let self_metrics = SelfMetrics::new().unwrap();
        let unread =
            Unread { collectors: CollectorSet::EMPTY.with(Collector::Cpu), self_metrics, pool: BufferPool::default() };
        let body = unread.body(&request(None)).unwrap();
        let samples: Vec<&str> =
            std::str::from_utf8(&body).unwrap().lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples, ["docker_stats_exporter_scrape_collector_success{collector=\"cpu\"} 0"]);
    }
}
