//! Sizes of the containers' layers, as the walker finds them: asked for with the scrapes, and filled in as they come.
//!
//! No scrape waits for it. A figure stays until the next one is there, however long that takes and whether or not the walker lives on.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use procfs::process::Process;
use tracing::{info, warn};

use crate::metrics::SelfMetrics;
use crate::walker::{Event, Failure, Request, Walker, are_valid, encode_requests};

/// How old a figure gets before it is asked for anew.
const REPEAT: Duration = Duration::from_mins(1);
/// Requests that are not answered at a time.
const MAX_ASKED: usize = 4096;
/// Messages that are taken in at a time.
const MAX_MESSAGES: usize = 1024;
/// The next request's number. Never given twice, by no reader: an answer that is late is nobody else's.
static TICKETS: AtomicU64 = AtomicU64::new(1);

/// What is known of the layers of all containers, by generation.
#[derive(Debug)]
pub(crate) struct LayerSizes {
    /// None where it could not be started, and once it is gone.
    walker: Option<Walker>,
    self_metrics: SelfMetrics,
    known: HashMap<u64, Known>,
    /// Requests that were sent and are not answered: ticket and generation.
    asked: HashMap<u64, u64>,
    wanted: Vec<(u64, Request)>,
    logged: HashSet<Failure>,
    worker: Option<Worker>,
}

#[derive(Debug)]
struct Known {
    bytes: Option<u64>,
    /// When the last answer came; none while there is no answer.
    at: Option<Instant>,
    /// When the figure came.
    measured: Option<Instant>,
    failure: Option<Failure>,
    is_asked: bool,
}

/// The worker that has begun last.
#[derive(Debug)]
struct Worker {
    pid: u32,
    /// CPU ticks that were counted of it.
    ticks: u64,
}

impl LayerSizes {
    pub(crate) fn new(walker: Option<Walker>, self_metrics: SelfMetrics) -> Self {
        let fresh = Self {
            walker,
            self_metrics,
            known: HashMap::new(),
            asked: HashMap::new(),
            wanted: Vec::new(),
            logged: HashSet::new(),
            worker: None,
        };
        if fresh.walker.is_some() {
            fresh.self_metrics.walker.set_up(false);
        }
        fresh
    }

    /// Whether there is anybody to ask.
    pub(crate) fn is_served(&self) -> bool {
        self.walker.is_some()
    }

    /// Takes in what the walker has said.
    pub(crate) fn receive(&mut self, now: Instant) {
        for _ in 0..MAX_MESSAGES {
            let Some(walker) = &self.walker else { return };
            match walker.receive() {
                Ok(Some(events)) => events.into_iter().for_each(|event| self.take(event, now)),
                Ok(None) => return,
                Err(_) => self.end(),
            }
        }
    }

    fn take(&mut self, event: Event, now: Instant) {
        match event {
            Event::Began { pid, lists_all, landlock, seccomp, roots } => {
                if self.worker.is_some() {
                    warn!(pid, "the disk walker ended and was started anew: layers that it was at are walked again");
                    self.self_metrics.walker.count_restart();
                } else {
                    info!(pid, lists_all, landlock, seccomp, data_roots = roots, "the disk walker is at work");
                }
                self.worker = Some(Worker { pid, ticks: 0 });
                self.self_metrics.walker.set_up(true);
                self.asked.clear();
                self.known.values_mut().for_each(|known| known.is_asked = false);
            }
            Event::Measured { ticket, bytes } => {
                let Some(generation) = self.asked.remove(&ticket) else { return };
                let Some(known) = self.known.get_mut(&generation) else { return };
                (known.is_asked, known.at, known.failure) = (false, Some(now), bytes.err());
                match bytes {
                    Ok(bytes) => (known.bytes, known.measured) = (Some(bytes), Some(now)),
                    // An old figure would look as if it were true.
                    Err(Failure::Busy) => {}
                    Err(failure) => {
                        (known.bytes, known.measured) = (None, None);
                        self.self_metrics.count_read_error("layer", failure.name());
                    }
                }
            }
        }
    }

    fn end(&mut self) {
        warn!(
            "the disk walker is gone for good: restart the exporter to have container_fs_usage_bytes brought up to date"
        );
        (self.walker, self.worker) = (None, None);
        self.self_metrics.walker.set_up(false);
        self.asked.clear();
    }

    /// The size of a container's layer, as far as it is known; asks for it where that is due.
    pub(crate) fn get(&mut self, generation: u64, paths: &[PathBuf], now: Instant) -> Result<Option<u64>, Failure> {
        let known = self.known.entry(generation).or_insert(Known {
            bytes: None,
            at: None,
            measured: None,
            failure: None,
            is_asked: false,
        });
        let is_due = known.at.is_none_or(|at| now.saturating_duration_since(at) >= REPEAT);
        if is_due && !known.is_asked && self.walker.is_some() && self.asked.len() + self.wanted.len() < MAX_ASKED {
            if !are_valid(paths) {
                (known.at, known.failure) = (Some(now), Some(Failure::NotVisible));
                self.self_metrics.count_read_error("layer", Failure::NotVisible.name());
                return Err(Failure::NotVisible);
            }
            let ticket = TICKETS.fetch_add(1, Ordering::Relaxed);
            self.wanted.push((generation, Request { ticket, is_first: known.at.is_none(), paths: paths.to_vec() }));
        }
        known.failure.filter(|_| known.bytes.is_none()).map_or(Ok(known.bytes), Err)
    }

    /// The size of a container's layer, as far as it has come by now.
    pub(crate) fn known(&self, generation: u64) -> Option<u64> {
        self.known.get(&generation)?.bytes
    }

    /// Sends what was asked for. What there is no room for is asked for again by the next pass.
    pub(crate) fn send(&mut self) {
        let wanted = std::mem::take(&mut self.wanted);
        let Some(walker) = &self.walker else { return };
        let (generations, requests): (Vec<u64>, Vec<Request>) = wanted.into_iter().unzip();
        let (mut requests, mut generations) = (&*requests, &*generations);
        while !requests.is_empty() {
            let (message, count) = encode_requests(requests);
            let (sent, rest) = requests.split_at(count);
            let (theirs, others) = generations.split_at(count);
            match if message.is_empty() { Ok(true) } else { walker.send(&message) } {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => return self.end(),
            }
            for (request, generation) in sent.iter().zip(theirs) {
                self.asked.insert(request.ticket, *generation);
                if let Some(known) = self.known.get_mut(generation) {
                    known.is_asked = true;
                }
            }
            (requests, generations) = (rest, others);
        }
    }

    /// Forgets containers that are gone, and says of the walker what can be said.
    pub(crate) fn finish(&mut self, generations: impl Fn() -> HashSet<u64>, containers: usize, now: Instant) {
        if self.known.len() > containers + containers / 8 + 8 {
            let generations = generations();
            self.known.retain(|generation, _| generations.contains(generation));
        }
        let oldest = self.known.values().filter_map(|known| known.measured).min();
        let age = oldest.map(|oldest| now.saturating_duration_since(oldest).as_secs());
        self.self_metrics.walker.set_oldest(age);
        self.publish();
    }

    fn publish(&mut self) {
        let (Some(walker), Some(worker)) = (&self.walker, &mut self.worker) else { return };
        let stat = |pid: u32| Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok();
        let [guard, work] = [walker.guard(), worker.pid].map(stat);
        // Where the guard was killed, both are one.
        let guard = guard.filter(|_| walker.guard() != worker.pid);
        let pages: u64 = [&guard, &work].into_iter().flatten().map(|stat| stat.rss).sum();
        self.self_metrics.walker.set_memory(pages * procfs::page_size());
        if let Some(stat) = work {
            let ticks = stat.utime + stat.stime;
            let more = u32::try_from(ticks.saturating_sub(worker.ticks)).unwrap_or(0);
            worker.ticks = ticks.max(worker.ticks);
            let per_second = u32::try_from(procfs::ticks_per_second()).unwrap_or(100);
            self.self_metrics.walker.add_cpu(f64::from(more) / f64::from(per_second));
        }
    }

    /// Whether this failure has not been logged yet: once is enough.
    pub(crate) fn is_first(&mut self, failure: Failure) -> bool {
        self.logged.insert(failure)
    }
}
