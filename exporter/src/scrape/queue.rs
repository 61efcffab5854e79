//! The waiting scrapes, and the answer to those whose deadline leaves no time for reading.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::request::{Error, Request, Selection};
use crate::metrics::{CollectorSet, SelfMetrics};
use crate::render::{BufferPool, render_self_metrics};

/// A waiting scrape.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Result<Bytes, Error>>,
}

impl Job {
    pub(super) fn answer(self, answer: Result<Bytes, Error>) {
        // The client may have disconnected.
        drop(self.answer.send(answer));
    }
}

/// The waiting scrapes in the order of their arrival.
#[derive(Debug)]
pub(super) struct Queue {
    incoming: mpsc::Receiver<Job>,
    waiting: Vec<Job>,
}

impl Queue {
    pub(super) fn new(incoming: mpsc::Receiver<Job>) -> Self {
        Self { incoming, waiting: Vec::new() }
    }

    /// Blocks until a scrape waits. Returns false once all senders are dropped.
    pub(super) fn wait(&mut self) -> bool {
        self.refresh();
        if self.waiting.is_empty() {
            self.waiting.extend(self.incoming.blocking_recv());
        }
        !self.waiting.is_empty()
    }

    /// Adds new scrapes, and drops those whose clients have disconnected.
    pub(super) fn refresh(&mut self) {
        while let Ok(job) = self.incoming.try_recv() {
            self.waiting.push(job);
        }
        self.waiting.retain(|job| !job.answer.is_closed());
    }

    /// Returns the waiting requests.
    pub(super) fn requests(&self) -> impl Iterator<Item = &Request> {
        self.waiting.iter().map(|job| &job.request)
    }

    /// Returns the union of all selections, or `None` for an empty queue.
    pub(super) fn selection(&self) -> Option<Selection> {
        let mut requests = self.requests();
        let first = requests.next()?.selection.clone();
        Some(requests.fold(
            first,
            |all, request| {
                if request.selection.is_part_of(&all) { all } else { all.union(&request.selection) }
            },
        ))
    }

    /// Returns the latest deadline, or `None` if any scrape has no deadline.
    pub(super) fn last_deadline(&self) -> Option<Instant> {
        self.requests()
            .map(|request| request.deadline)
            .try_fold(None, |last, one| one.map(|one| last.max(Some(one))))?
    }

    /// Returns the earliest deadline.
    pub(super) fn first_deadline(&self) -> Option<Instant> {
        self.requests().filter_map(|request| request.deadline).min()
    }

    /// Removes and returns the scrapes whose requests match.
    pub(super) fn take(&mut self, wanted: impl Fn(&Request) -> bool) -> Vec<Job> {
        let (taken, left) = self.waiting.drain(..).partition(|job| wanted(&job.request));
        self.waiting = left;
        taken
    }

    /// Puts scrapes back in front of the queue.
    pub(super) fn put_back(&mut self, mut jobs: Vec<Job>) {
        jobs.append(&mut self.waiting);
        self.waiting = jobs;
    }

    /// Drops all scrapes, so that their clients get an error.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

/// Number of passes whose costs are kept. The cheapest one predicts the next pass, because a busy host delays some.
const KEPT_PASSES: usize = 4;
/// How long a cost is valid. After that, the next pass runs and is measured whatever it may cost.
const COST_VALIDITY: Duration = Duration::from_mins(1);

/// The time that a pass takes before it reads the first container, mostly for the kernel's snapshot. A scrape with less
/// time gets no values. Clones share the costs.
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
    /// Collectors that have metrics on this host.
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

    use tokio::sync::{mpsc, oneshot};

    use super::{COST_VALIDITY, Job, Overhead, Queue, Unread};
    use crate::metrics::{Collector, CollectorSet, SelfMetrics};
    use crate::render::BufferPool;
    use crate::scrape::{Format, Request, Selection};

    fn queue(deadlines: &[Option<Instant>]) -> (Queue, Vec<oneshot::Receiver<Result<bytes::Bytes, super::Error>>>) {
        let (sender, receiver) = mpsc::channel(16);
        let waiting = deadlines.iter().map(|deadline| {
            let (answer, answered) = oneshot::channel();
            let (selection, format) = (Selection::of_collectors(CollectorSet::EMPTY), Format::Text);
            let request = Request { selection, format, gzip: false, deadline: *deadline };
            sender.try_send(Job { request, answer }).unwrap();
            answered
        });
        let waiting = waiting.collect();
        let mut queue = Queue::new(receiver);
        queue.refresh();
        (queue, waiting)
    }

    #[test]
    fn the_last_deadline_is_none_while_anybody_has_none() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        let (one, _waiting) = queue(&[Some(later), Some(now)]);
        assert_eq!((one.first_deadline(), one.last_deadline()), (Some(now), Some(later)));
        let (other, _waiting) = queue(&[Some(later), None, Some(now)]);
        assert_eq!((other.first_deadline(), other.last_deadline()), (Some(now), None));
    }

    #[test]
    fn a_client_that_left_waits_no_more() {
        let (mut queue, mut waiting) = queue(&[None, None]);
        drop(waiting.remove(0));
        queue.refresh();
        assert_eq!(queue.requests().count(), 1);
        assert!(queue.wait());
        drop(waiting);
        assert!(!queue.wait());
    }

    #[test]
    fn what_is_put_back_stays_in_front() {
        let now = Instant::now();
        let (mut queue, _waiting) = queue(&[Some(now), None]);
        let taken = queue.take(|request| request.deadline.is_some());
        assert_eq!((taken.len(), queue.requests().count()), (1, 1));
        queue.put_back(taken);
        assert_eq!(queue.requests().next().and_then(|request| request.deadline), Some(now));
    }

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
