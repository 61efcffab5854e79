//! The thread that owns all readers and answers one batch of scrapes after the other.
//!
//! Scrapes that arrive during a pass share its collection, as do scrapes within `--scrape.min-interval`.
//!
//! Each scrape has its own deadline. A pass continues while any waiting scrape has time left. A scrape whose deadline
//! passes gets the values that were read so far. A scrape whose deadline leaves no time for reading gets an answer
//! without values and causes no pass. A scrape therefore waits for at most two passes: the running one, if that reads less
//! than the scrape selects, and its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::{debug, error};

use super::exposed_set::ExposedSet;
use super::queue::{Job, Overhead, Queue, Unread};
use super::request::{Error, Request, Selection};
use super::source::{Source, Standby};
use crate::docker::Engines;
use crate::memory;
use crate::metrics::{Collector, CollectorSet, SelfMetrics};
use crate::name::{MetricFilter, Moment, Names};
use crate::read::{HostFacts, HostFiles, Machine, Pass, Timing, Value};
use crate::render::{BufferPool, View, render};

/// How long a pass runs before it checks the queue.
const SLICE: Duration = Duration::from_millis(20);
/// Maximum number of different answers rendered during a pass, because they delay its end.
const ANSWERS_DURING_A_PASS: usize = 2;
/// Maximum number of different answers rendered after a pass, before new scrapes get theirs.
const ANSWERS_AFTER_A_PASS: usize = 8;

/// State of the thread.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) source: Source,
    pub(super) exposed_set: ExposedSet,
    pub(super) engines: Engines,
    pub(super) self_metrics: SelfMetrics,
    pub(super) machine: Machine,
    /// Time when the eBPF programs started to count, in nanoseconds since the epoch.
    pub(super) probed_since_ns: Option<u64>,
    pub(super) facts: HostFacts,
    pub(super) min_interval: Duration,
    /// Selects the exposed metrics among the exporter's own.
    pub(super) metrics: MetricFilter,
    pub(super) pool: BufferPool,
    pub(super) overhead: Overhead,
    pub(super) unread: Arc<Unread>,
    pub(super) last: Option<Collection>,
    /// Container count when memory was last returned to the system.
    pub(super) trimmed_for: i64,
    /// The kernel files to change to, if they showed no container at start and the API is used instead.
    pub(super) standby: Option<Standby>,
}

/// The result of a pass, apart from the samples, which the source holds.
#[derive(Debug)]
pub(super) struct Collection {
    at: Instant,
    selection: Selection,
    names: Arc<Names>,
    timing: Timing,
    /// When the pass was cut; `None` if everything was read.
    cut: Option<Instant>,
}

impl Collection {
    /// Returns whether the collection has everything that a scrape selects and that could be read by its deadline.
    fn answers(&self, request: &Request) -> bool {
        request.selection.is_part_of(&self.selection) && !has_time_after(self.cut, request)
    }
}

impl Worker {
    /// Answers scrapes until every sender is dropped.
    pub(super) fn run(mut self, mut queue: Queue) {
        while queue.wait() {
            // After a panic the pending scrapes are dropped, so that their clients get an error, and the next pass starts
            // with a new reader.
            if catch_unwind(AssertUnwindSafe(|| self.serve(&mut queue))).is_err() {
                error!("a scrape panicked; restarting its readers (please report the message above)");
                queue.clear();
                self.restart();
            }
            self.trim_memory();
        }
    }

    /// Returns memory to the system after the first scrape and whenever the number of containers has doubled, because growing
    /// buffers leave freed memory behind.
    fn trim_memory(&mut self) {
        let containers = self.self_metrics.containers.get();
        if containers >= 2 * self.trimmed_for.max(1) {
            self.trimmed_for = containers;
            memory::trim();
        }
    }

    fn restart(&mut self) {
        self.last = None;
        if let Source::Cgroups(cgroups) = &mut self.source {
            match cgroups.restart() {
                Ok(fresh) => self.source = Source::Cgroups(Box::new(fresh)),
                Err(error) => error!(%error, "cannot read the cgroup tree any more; keeping the known containers"),
            }
        }
    }

    /// Runs one pass for all waiting scrapes and those that arrive while it runs.
    fn serve(&mut self, queue: &mut Queue) {
        queue.refresh();
        let last = self.last.as_ref().filter(|last| last.at.elapsed() < self.min_interval);
        let recent = last.map(|last| last.selection.clone());
        if let Some(last) = last {
            let answered = queue.take(|request| last.answers(request));
            self.answer_some(queue, answered);
        }
        let (now, overhead) = (Instant::now(), &self.overhead);
        self.answer_unread(queue.take(|request| !overhead.allows(request, now)));
        let Some(waiting) = queue.selection() else { return };
        // Within the minimum interval the selection of the last pass is read again. Otherwise two scrapes with different
        // collectors would cause a pass each, every time.
        let selection = recent.map_or(waiting.clone(), |recent| recent.union(&waiting));
        self.collect(queue, &selection);
        queue.refresh();
        if let Some(last) = &self.last {
            let answered = queue.take(|request| last.answers(request));
            self.answer_some(queue, answered);
        }
    }

    fn collect(&mut self, queue: &mut Queue, selection: &Selection) {
        let at = Instant::now();
        self.reconsider_source();
        self.engines.scraped(at);
        let names = self.engines.names();
        let Selection { collectors, families, ids, .. } = selection;
        let mut pass =
            Pass { collectors: *collectors, families: *families, ids, names: &names, deadline: queue.last_deadline() };
        let mut progress = self.source.begin(pass, &self.engines, at);
        self.overhead.record(at.elapsed(), at);
        let (mut cut, mut answers) = (None, ANSWERS_DURING_A_PASS);
        loop {
            let begin = Instant::now();
            let slice = begin + SLICE;
            pass.deadline = Some(queue.first_deadline().map_or(slice, |first| first.min(slice)));
            if self.source.advance(&mut progress, pass) {
                break;
            }
            queue.refresh();
            let next = end_of_next(begin, Instant::now());
            let waits =
                |request: &Request| request.selection.is_part_of(selection) && has_time_after(Some(next), request);
            if !queue.requests().any(waits) {
                cut = Some(next);
                break;
            }
            let due = queue.take(|request| !has_time_after(Some(next), request));
            if !due.is_empty() {
                let timing = self.source.interim(&progress, pass);
                self.keep(Collection {
                    at,
                    selection: selection.clone(),
                    names: Arc::clone(&names),
                    timing,
                    cut: Some(next),
                });
                let (due, others) = due.into_iter().partition(|job| job.request.selection.is_part_of(selection));
                let left = self.answer(due, &mut answers);
                self.answer_unread(left);
                self.answer_unread(others);
            }
        }
        let (timing, late) = self.source.finish(progress, pass);
        debug!(containers = self.source.live_count(), took = ?at.elapsed(), "collected");
        self.keep(Collection {
            at,
            selection: selection.clone(),
            names: Arc::clone(&names),
            timing,
            cut: cut.or(late),
        });
    }

    /// Changes from the stats API to kernel files once these show containers.
    fn reconsider_source(&mut self) {
        let Some((source, procfs)) = self.standby.as_ref().and_then(Standby::retry) else { return };
        self.standby = None;
        self.source = source;
        self.facts = HostFacts::new(Some(procfs));
    }

    /// Stores a collection, with the values of host and engine.
    fn keep(&mut self, mut collection: Collection) {
        let state_from = Instant::now();
        let live = self.source.live_count();
        self.source.update(&mut self.exposed_set, &collection.names, Moment::now());
        self.engines.raise_doubts(self.exposed_set.doubts(), &collection.names);
        collection.timing.add(Collector::State, state_from.elapsed());
        let machine_from = Instant::now();
        self.facts.refresh(self.host_files(&collection.selection), &self.self_metrics);
        collection.timing.add(Collector::Machine, machine_from.elapsed());
        self.self_metrics.containers.set(i64::try_from(live).unwrap_or(i64::MAX));
        self.last = Some(collection);
    }

    /// Returns the procfs files that the selection needs for the host.
    fn host_files(&self, selection: &Selection) -> HostFiles {
        let wanted = self.source.rows().iter().filter(|row| selection.families.has(row.number));
        let has_host = selection.ids.has_host();
        wanted.fold(HostFiles::default(), |files, row| match row.value {
            Value::Machine(fact) => files.with_machine(fact),
            _ if has_host => files.with(row.series.host),
            _ => files,
        })
    }

    /// Answers from the last collection, up to a maximum of different answers. The other scrapes wait for the next pass.
    fn answer_some(&self, queue: &mut Queue, answered: Vec<Job>) {
        queue.put_back(self.answer(answered, &mut { ANSWERS_AFTER_A_PASS }));
    }

    /// Answers from the last collection, up to a maximum of different answers. Scrapes that select everything come
    /// first, so that many different partial selections cannot delay them. Returns the unanswered scrapes.
    fn answer(&self, mut jobs: Vec<Job>, answers: &mut usize) -> Vec<Job> {
        let all = self.last.as_ref().map(|last| last.selection.clone());
        jobs.sort_by_key(|job| all.as_ref().is_none_or(|all| !all.is_part_of(&job.request.selection)));
        while *answers > 0
            && let Some(request) = jobs.first().map(|first| first.request.clone())
        {
            *answers -= 1;
            let same = |job: &Job| {
                let other = &job.request;
                (&other.selection, other.format, other.gzip) == (&request.selection, request.format, request.gzip)
            };
            let (answered, rest): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(same);
            jobs = rest;
            let body = self.render(&request);
            for job in answered {
                job.answer(body.clone());
            }
        }
        jobs
    }

    fn answer_unread(&self, jobs: Vec<Job>) {
        for job in jobs {
            let body = self.unread.body(&job.request);
            job.answer(body);
        }
    }

    fn render(&self, request: &Request) -> Result<Bytes, Error> {
        let selection = &request.selection;
        let Some(last) = &self.last else { return Err(Error::Panicked) };
        self.publish(&last.timing, selection.collectors);
        let about = self.engines.about();
        let exposed = self.source.exposed(&self.exposed_set, &last.names, &selection.ids);
        let view = View {
            rows: self.source.rows(),
            containers: &exposed,
            host: selection.ids.has_host().then(|| self.source.host()),
            facts: &self.facts,
            machine: &self.machine,
            engine_version: about.as_ref().map_or("", |about| &about.version),
            labels: self.source.labels(),
            failed: last.timing.any_failed(selection.collectors),
            families: selection.families,
            probed_since_ns: self.probed_since_ns,
        };
        let mut self_metrics = self.self_metrics.gather();
        self_metrics.retain(|family| selection.has_own(family.name()) && self.metrics.selects(family.name()));
        Ok(render(&view, &self_metrics, request.format, request.gzip, &self.pool))
    }

    /// Publishes duration and success of the selected collectors.
    fn publish(&self, timing: &Timing, collectors: CollectorSet) {
        self.self_metrics.collector_duration.reset();
        self.self_metrics.collector_success.reset();
        for collector in collectors.intersection(self.source.collectors()).iter() {
            let name = [collector.name()];
            self.self_metrics.collector_duration.with_label_values(&name).set(timing.spent(collector).as_secs_f64());
            self.self_metrics.collector_success.with_label_values(&name).set(i64::from(timing.success(collector)));
        }
    }
}

/// Predicts when the next step of a pass ends. A step that exceeded its slice is expected to do so again, as the reading of
/// very large socket tables does. Scrapes whose deadline is earlier are answered before that step.
fn end_of_next(begin: Instant, end: Instant) -> Instant {
    end + end.saturating_duration_since(begin).saturating_sub(SLICE)
}

/// Returns whether a pass was cut before the deadline of a scrape.
fn has_time_after(cut: Option<Instant>, request: &Request) -> bool {
    cut.is_some_and(|cut| request.deadline.is_none_or(|deadline| deadline > cut))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Request, SLICE, end_of_next, has_time_after};
    use crate::metrics::CollectorSet;
    use crate::scrape::{Format, Selection};

    #[test]
    fn a_pass_that_was_cut_serves_those_whose_time_was_up() {
        let now = Instant::now();
        let request = |deadline| Request {
            selection: Selection::of_collectors(CollectorSet::EMPTY),
            format: Format::Text,
            gzip: false,
            deadline,
        };
        let later = request(Some(now + Duration::from_secs(5)));
        assert!(has_time_after(Some(now), &later) && has_time_after(Some(now), &request(None)));
        assert!(!has_time_after(Some(now), &request(Some(now))));
        assert!(!has_time_after(None, &later) && !has_time_after(None, &request(None)));
    }

    #[test]
    fn a_step_that_took_longer_than_its_slice_is_taken_into_account() {
        let begin = Instant::now();
        let end = |milliseconds| begin + Duration::from_millis(milliseconds);
        assert_eq!(end_of_next(begin, begin + SLICE), begin + SLICE);
        assert_eq!(end_of_next(begin, begin + SLICE + Duration::from_millis(200)), end(400) + SLICE);
    }
}
