//! The thread that owns everything a scrape needs, and answers one batch of scrapes after the other.
//!
//! Scrapes that come while one is collected share its collection; so do those within `--scrape.min-interval`.
//!
//! A deadline belongs to who asked. A pass goes on while anybody waits for it who has time left; those whose time is up
//! get what has been read by then. A scrape that has no time for any reading gets an answer without values, and costs no
//! pass. So an ordinary scrape waits for one pass that is under way, if it asks for more than that one reads, and for
//! its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::{debug, error};

use super::queue::{Job, Queue};
use super::request::{Error, Request};
use super::roster::Roster;
use super::source::Source;
use super::standby::Standby;
use super::unread::{Overhead, Unread};
use crate::docker::Engine;
use crate::ebpf::give_memory_back;
use crate::metrics::{Collector, CollectorSet, Own};
use crate::name::{Directory, Moment, Names};
use crate::read::{HostFacts, Machine, Pass, Timing};
use crate::render::{Pool, View, render};

/// How long a pass goes on before it looks for scrapes that have come, gone, or run out of time.
const SLICE: Duration = Duration::from_millis(20);
/// Different answers that are rendered in the middle of one pass: those who wait for its end wait for these, too.
const ANSWERS_DURING_A_PASS: usize = 2;
/// Different answers that are rendered of one collection, before those who have come meanwhile get theirs.
const ANSWERS_AFTER_A_PASS: usize = 8;

/// What the thread owns.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) source: Source,
    pub(super) roster: Roster,
    pub(super) directory: Arc<Directory>,
    pub(super) engine: Engine,
    pub(super) own: Own,
    pub(super) machine: Machine,
    pub(super) facts: HostFacts,
    pub(super) min_interval: Duration,
    pub(super) pool: Pool,
    pub(super) overhead: Overhead,
    pub(super) unread: Arc<Unread>,
    pub(super) last: Option<Collection>,
    /// Containers when free memory was last given back.
    pub(super) trimmed_for: i64,
    /// Where the API serves in place of kernel files that showed no container at start.
    pub(super) standby: Option<Standby>,
}

/// What the last pass brought, beside the samples that the source holds.
#[derive(Debug)]
pub(super) struct Collection {
    at: Instant,
    collectors: CollectorSet,
    names: Arc<Names>,
    timing: Timing,
    /// When the pass was ended early; none where everything was read.
    cut: Option<Instant>,
}

impl Collection {
    /// Whether it has all that a scrape asks for, and all that could be read in its time.
    fn answers(&self, request: &Request) -> bool {
        is_part_of(request.collectors, self.collectors) && !has_time_after(self.cut, request)
    }
}

impl Worker {
    /// Answers until every sender is gone.
    pub(super) fn run(mut self, mut queue: Queue) {
        while queue.wait() {
            // A panic drops the answers on their way, which tells those who wait; the next pass starts afresh.
            if catch_unwind(AssertUnwindSafe(|| self.serve(&mut queue))).is_err() {
                error!("a scrape panicked; its readers are made anew (please report the message above)");
                queue.clear();
                self.restart();
            }
            self.give_memory_back();
        }
    }

    /// After the first scrape, and again when there are twice as many containers: buffers have grown by doubling.
    fn give_memory_back(&mut self) {
        let containers = self.own.containers.get();
        if containers >= 2 * self.trimmed_for.max(1) {
            self.trimmed_for = containers;
            give_memory_back();
        }
    }

    fn restart(&mut self) {
        self.last = None;
        if let Source::Cgroups(cgroups) = &mut self.source {
            match cgroups.restart() {
                Ok(fresh) => self.source = Source::Cgroups(Box::new(fresh)),
                Err(error) => error!(%error, "the cgroup tree is gone; going on with what was there"),
            }
        }
    }

    /// One pass for all that wait, and for those who join while it runs.
    fn serve(&mut self, queue: &mut Queue) {
        queue.refresh();
        let last = self.last.as_ref().filter(|last| last.at.elapsed() < self.min_interval);
        let mut collectors = last.map_or(CollectorSet::EMPTY, |last| last.collectors);
        if let Some(last) = last {
            let answered = queue.take(|request| last.answers(request));
            self.answer_some(queue, answered);
        }
        let (now, overhead) = (Instant::now(), &self.overhead);
        self.answer_unread(queue.take(|request| !overhead.allows(request, now)));
        if queue.is_empty() {
            return;
        }
        // Within the interval what was read before is read again: else two scrapes that ask for different collectors in
        // turn would have a pass each.
        collectors = collectors.union(queue.collectors());
        self.collect(queue, collectors);
        queue.refresh();
        if let Some(last) = &self.last {
            let answered = queue.take(|request| last.answers(request));
            self.answer_some(queue, answered);
        }
    }

    fn collect(&mut self, queue: &mut Queue, collectors: CollectorSet) {
        let at = Instant::now();
        self.reconsider_source();
        self.directory.scraped(at);
        let names = self.directory.names();
        let mut pass = Pass { collectors, names: &names, deadline: queue.last_deadline() };
        let mut progress = self.source.begin(pass, &self.directory, at);
        self.overhead.record(at.elapsed(), at);
        let (mut cut, mut answers) = (None, ANSWERS_DURING_A_PASS);
        loop {
            let slice = Instant::now() + SLICE;
            pass.deadline = Some(queue.first_deadline().map_or(slice, |first| first.min(slice)));
            if self.source.advance(&mut progress, pass) {
                break;
            }
            queue.refresh();
            let now = Instant::now();
            let waits =
                |request: &Request| is_part_of(request.collectors, collectors) && has_time_after(Some(now), request);
            if !queue.requests().any(waits) {
                cut = Some(now);
                break;
            }
            let due = queue.take(|request| !has_time_after(Some(now), request));
            if !due.is_empty() {
                let timing = self.source.interim(&progress, pass);
                self.keep(Collection { at, collectors, names: Arc::clone(&names), timing, cut: Some(now) });
                let (due, others) = due.into_iter().partition(|job| is_part_of(job.request.collectors, collectors));
                let left = self.answer(due, &mut answers);
                self.answer_unread(left);
                self.answer_unread(others);
            }
        }
        let (timing, late) = self.source.finish(progress, pass);
        debug!(containers = self.source.live_count(), took = ?at.elapsed(), "collected");
        self.keep(Collection { at, collectors, names: Arc::clone(&names), timing, cut: cut.or(late) });
    }

    /// Changes from the API to kernel files where these show containers now.
    fn reconsider_source(&mut self) {
        let Some((source, procfs)) = self.standby.as_ref().and_then(Standby::retry) else { return };
        self.standby = None;
        self.source = source;
        self.machine = Machine::read(&procfs, &self.own);
        self.facts = HostFacts::new(Some(procfs));
    }

    /// Takes a collection in, with what is read of the host and known of the engine.
    fn keep(&mut self, mut collection: Collection) {
        let state_from = Instant::now();
        let live = self.source.live_count();
        self.source.update(&mut self.roster, &collection.names, Moment::now());
        self.engine.doubts().raise(self.roster.doubts());
        collection.timing.add(Collector::State, state_from.elapsed());
        let machine_from = Instant::now();
        self.facts.refresh(&self.own);
        collection.timing.add(Collector::Machine, machine_from.elapsed());
        self.own.containers.set(i64::try_from(live).unwrap_or(i64::MAX));
        self.last = Some(collection);
    }

    /// Renders once for each different request, a bounded number of them; the others wait for the next pass.
    fn answer_some(&self, queue: &mut Queue, answered: Vec<Job>) {
        queue.put_back(self.answer(answered, &mut { ANSWERS_AFTER_A_PASS }));
    }

    /// Answers by the last collection, until there are so many different answers. Those who ask for all of it come first: a
    /// crowd that asks for parts of it, each for another one, does not hold them up. Returns those that are left.
    fn answer(&self, mut jobs: Vec<Job>, answers: &mut usize) -> Vec<Job> {
        let all = self.last.as_ref().map(|last| last.collectors);
        jobs.sort_by_key(|job| Some(job.request.collectors) != all);
        while *answers > 0
            && let Some(request) = jobs.first().map(|first| first.request)
        {
            *answers -= 1;
            let same = |job: &Job| {
                let other = job.request;
                (other.collectors, other.format, other.gzip) == (request.collectors, request.format, request.gzip)
            };
            let (answered, rest): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(same);
            jobs = rest;
            let body = self.render(request);
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

    fn render(&self, request: Request) -> Result<Bytes, Error> {
        let Some(last) = &self.last else { return Err(Error::Panicked) };
        self.publish(&last.timing, request.collectors);
        let about = self.engine.about();
        let exposed = self.source.exposed(&self.roster, &last.names);
        let view = View {
            rows: self.source.rows(),
            containers: &exposed,
            host: self.source.host(),
            facts: &self.facts,
            machine: &self.machine,
            engine_version: about.as_ref().map_or("", |about| &about.version),
            labels: self.source.labels(),
            failed: last.timing.any_failed(request.collectors),
            collectors: request.collectors,
        };
        Ok(render(&view, &self.own.gather(), request.format, request.gzip, &self.pool))
    }

    /// Duration and success of the collectors that were asked for.
    fn publish(&self, timing: &Timing, collectors: CollectorSet) {
        self.own.collector_duration.reset();
        self.own.collector_success.reset();
        for collector in collectors.intersection(self.source.collectors()).iter() {
            let name = [collector.name()];
            self.own.collector_duration.with_label_values(&name).set(timing.spent(collector).as_secs_f64());
            self.own.collector_success.with_label_values(&name).set(i64::from(timing.success(collector)));
        }
    }
}

/// Whether a scrape has time for more than what was read until a pass was cut.
fn has_time_after(cut: Option<Instant>, request: &Request) -> bool {
    cut.is_some_and(|cut| request.deadline.is_none_or(|deadline| deadline > cut))
}

fn is_part_of(part: CollectorSet, whole: CollectorSet) -> bool {
    part.union(whole) == whole
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Request, has_time_after, is_part_of};
    use crate::metrics::{Collector, CollectorSet};
    use crate::scrape::Format;

    #[test]
    fn a_pass_that_was_cut_serves_those_whose_time_was_up() {
        let now = Instant::now();
        let request =
            |deadline| Request { collectors: CollectorSet::EMPTY, format: Format::Text, gzip: false, deadline };
        let later = request(Some(now + Duration::from_secs(5)));
        assert!(has_time_after(Some(now), &later) && has_time_after(Some(now), &request(None)));
        assert!(!has_time_after(Some(now), &request(Some(now))));
        assert!(!has_time_after(None, &later) && !has_time_after(None, &request(None)));
    }

    #[test]
    fn a_set_is_part_of_one_that_has_all_its_members() {
        let cpu = CollectorSet::EMPTY.with(Collector::Cpu);
        assert!(is_part_of(cpu, cpu.with(Collector::Tcp)) && is_part_of(CollectorSet::EMPTY, cpu));
        assert!(!is_part_of(cpu.with(Collector::Tcp), cpu));
    }
}
