//! Sizes of the containers' layers, as the walker finds them: asked for with the scrapes, and filled in as they come.
//!
//! No scrape waits for it. A figure stays until the next one is there, however long that takes and whether or not the walker lives on.
//! It is kept by the layer's path: a container that is started again has its figure at once, and does not have it walked again.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use procfs::process::{Process, Stat};
use tracing::{info, warn};

use crate::metrics::SelfMetrics;
use crate::read::disk::root::RootDevice;
use crate::walker::{Event, Failure, Request, SUBCOMMAND, Walker, are_valid, encode_requests};

/// How old a figure gets before it is asked for anew.
const REPEAT: Duration = Duration::from_mins(1);
/// Requests that are not answered at a time.
const MAX_ASKED: usize = 4096;
/// Messages that are taken in at a time.
const MAX_MESSAGES: usize = 1024;
/// The next request's number. Never given twice, by no reader: an answer that is late is nobody else's.
static TICKETS: AtomicU64 = AtomicU64::new(1);

/// What is known of the layers of all containers, by path.
#[derive(Debug)]
pub(crate) struct LayerSizes {
    /// None where it could not be started, and once it is gone.
    walker: Option<Walker>,
    /// Process id of its guard, also once it is gone; 0 where there was none.
    guard: u32,
    /// Memory for its messages.
    buffer: Vec<u8>,
    self_metrics: SelfMetrics,
    known: HashMap<PathBuf, Known>,
    /// Requests that were sent and are not answered: ticket and layer.
    asked: HashMap<u64, PathBuf>,
    wanted: Vec<Request>,
    /// Number of this pass.
    pass: u64,
    /// Whether a layer was ever measured: then the walker sees what it should.
    has_measured: bool,
    logged: HashSet<NoSize>,
    worker: Option<Worker>,
}

/// Why the size of a layer is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NoSize {
    /// The walker could not sum it up.
    Failed(Failure),
    /// Several containers name it as theirs, and the host's mounts confirm none of them.
    Disputed,
    /// Its path is not one that can be sent.
    NoPath,
}

impl NoSize {
    /// For the `reason` label.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Failed(failure) => failure.name(),
            Self::Disputed => "disputed",
            Self::NoPath => "no_path",
        }
    }
}

#[derive(Debug, Default)]
struct Known {
    bytes: Option<u64>,
    /// When the last answer came; none while there is no answer.
    at: Option<Instant>,
    /// When the figure came.
    measured: Option<Instant>,
    failure: Option<NoSize>,
    is_asked: bool,
    /// The generation of the container that has named it last; 0 where none has.
    owner: u64,
    /// The pass in which that was.
    pass: u64,
    /// Whether the host's mounts say that it is the owner's.
    is_confirmed: bool,
    /// Whether several name it, and the host's mounts have none of them.
    is_disputed: bool,
}

impl Known {
    /// Notes that a container names it as its own. Returns whether that is believed.
    fn claim(&mut self, generation: u64, is_confirmed: bool, pass: u64) -> bool {
        let is_rival = self.owner != generation;
        if is_rival && self.is_confirmed && !is_confirmed {
            return false;
        }
        // The container before it, which is gone, has not named it in this pass.
        let is_disputed = if is_rival {
            self.is_disputed || self.owner != 0 && self.pass == pass
        } else {
            self.is_disputed && self.pass == pass
        };
        self.is_disputed = is_disputed && !is_confirmed;
        (self.owner, self.is_confirmed, self.pass) = (generation, is_confirmed, pass);
        !self.is_disputed
    }
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
        // A reader before this one may have received that it has begun, and counted its time so far.
        let worker = walker.as_ref().and_then(Walker::worker);
        let worker = worker.map(|pid| Worker { pid, ticks: stat(pid).map_or(0, |stat| ticks(&stat)) });
        if walker.is_some() {
            self_metrics.walker.set_up(worker.is_some());
        }
        Self {
            guard: walker.as_ref().map_or(0, Walker::guard),
            walker,
            buffer: Vec::new(),
            self_metrics,
            known: HashMap::new(),
            asked: HashMap::new(),
            wanted: Vec::new(),
            pass: 0,
            has_measured: false,
            logged: HashSet::new(),
            worker,
        }
    }

    /// Begins a pass. What one that was cut did not send is asked for again.
    pub(crate) fn begin(&mut self) {
        self.pass += 1;
        self.wanted.clear();
    }

    /// Whether it is the container's own doing that its layer has no size, and no failure: it may make its mounts look like anything. Once a
    /// layer was measured, one that is not visible is that of a container of another kind, and no missing mount.
    fn is_its_own(&self, reason: NoSize) -> bool {
        reason == NoSize::Disputed || reason == NoSize::Failed(Failure::NotVisible) && self.has_measured
    }

    /// Takes in what the walker has said.
    pub(crate) fn receive(&mut self, now: Instant) {
        for _ in 0..MAX_MESSAGES {
            let Some(walker) = &self.walker else { return };
            match walker.receive(&mut self.buffer) {
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
                    warn!(pid, "restarted the disk walker: it walks unfinished layers again");
                    self.self_metrics.walker.count_restart();
                } else {
                    info!(pid, lists_all, landlock, seccomp, data_roots = roots, "started the disk walker");
                }
                self.worker = Some(Worker { pid, ticks: 0 });
                self.self_metrics.walker.set_up(true);
                self.asked.clear();
                self.known.values_mut().for_each(|known| known.is_asked = false);
            }
            Event::Measured { ticket, bytes } => {
                let Some(layer) = self.asked.remove(&ticket) else { return };
                let Some(known) = self.known.get_mut(&layer) else { return };
                (known.is_asked, known.at, known.failure) = (false, Some(now), bytes.err().map(NoSize::Failed));
                match bytes {
                    Ok(bytes) => {
                        (known.bytes, known.measured) = (Some(bytes), Some(now));
                        self.has_measured = true;
                    }
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

    /// Asks for the size of a container's layer, whose cgroup is at `path`, where that is due. Returns false where the size is lacking for a
    /// reason that is not the container's own doing.
    pub(super) fn ask(&mut self, generation: u64, disk: &RootDevice, path: &str, now: Instant) -> bool {
        if disk.paths().is_empty() {
            return true;
        }
        match self.get(generation, disk, now) {
            Ok(_) => self.walker.is_some(),
            Err(reason) => {
                self.warn(reason, path, disk);
                self.is_its_own(reason)
            }
        }
    }

    /// The size of a container's layer, as far as it is known; asks for it where that is due.
    fn get(&mut self, generation: u64, disk: &RootDevice, now: Instant) -> Result<Option<u64>, NoSize> {
        let paths = disk.paths();
        let Some(layer) = paths.first() else { return Ok(None) };
        let known = match self.known.get_mut(layer) {
            Some(known) => known,
            None => self.known.entry(layer.clone()).or_default(),
        };
        let was_disputed = known.is_disputed;
        let is_believed = known.claim(generation, disk.is_confirmed(), self.pass);
        if known.is_disputed && !was_disputed {
            self.self_metrics.count_read_error("layer", NoSize::Disputed.name());
        }
        if !is_believed {
            return Err(NoSize::Disputed);
        }
        let is_due = known.at.is_none_or(|at| now.saturating_duration_since(at) >= REPEAT);
        if is_due && !known.is_asked && self.walker.is_some() && self.asked.len() + self.wanted.len() < MAX_ASKED {
            if !are_valid(paths) {
                (known.at, known.failure) = (Some(now), Some(NoSize::NoPath));
                self.self_metrics.count_read_error("layer", NoSize::NoPath.name());
                return Err(NoSize::NoPath);
            }
            let ticket = TICKETS.fetch_add(1, Ordering::Relaxed);
            self.wanted.push(Request { ticket, is_first: known.at.is_none(), paths: paths.to_vec() });
        }
        known.failure.filter(|_| known.bytes.is_none()).map_or(Ok(known.bytes), Err)
    }

    /// The size of a container's layer, as far as it has come by now.
    pub(crate) fn known(&self, generation: u64, disk: &RootDevice) -> Option<u64> {
        let known = self.known.get(disk.paths().first()?)?;
        known.bytes.filter(|_| known.owner == generation && !known.is_disputed)
    }

    /// Sends what was asked for. What there is no room for is asked for again by the next pass.
    pub(crate) fn send(&mut self) {
        let wanted = std::mem::take(&mut self.wanted);
        let Some(walker) = &self.walker else { return };
        let mut requests = &*wanted;
        while !requests.is_empty() {
            let (message, count) = encode_requests(requests);
            let (sent, rest) = requests.split_at(count);
            match if message.is_empty() { Ok(true) } else { walker.send(&message) } {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => return self.end(),
            }
            for (request, layer) in sent.iter().filter_map(|request| Some((request, request.paths.first()?))) {
                self.asked.insert(request.ticket, layer.clone());
                if let Some(known) = self.known.get_mut(layer) {
                    known.is_asked = true;
                }
            }
            requests = rest;
        }
    }

    /// Forgets layers that are no container's any more, and says of the walker what can be said.
    pub(crate) fn finish<'p>(&mut self, layers: impl Iterator<Item = &'p Path> + Clone, now: Instant) {
        let count = layers.clone().count();
        if self.known.len() > count + count / 8 + 8 {
            let layers: HashSet<&Path> = layers.clone().collect();
            self.known.retain(|layer, _| layers.contains(&**layer));
            self.asked.retain(|_, layer| self.known.contains_key(layer));
        }
        // Those of containers that have ended are not exposed.
        let oldest = layers.filter_map(|layer| self.known.get(layer)?.measured).min();
        let age = oldest.map(|oldest| now.saturating_duration_since(oldest).as_secs());
        self.self_metrics.walker.set_oldest(age);
        self.publish();
    }

    fn publish(&mut self) {
        Walker::reap(self.guard);
        let (Some(walker), Some(worker)) = (&self.walker, &mut self.worker) else { return };
        let [guard, work] = [walker.guard(), worker.pid].map(stat);
        // Where the guard was killed, both are one.
        let guard = guard.filter(|_| walker.guard() != worker.pid);
        let pages: u64 = [&guard, &work].into_iter().flatten().map(|stat| stat.rss).sum();
        self.self_metrics.walker.set_memory(pages * procfs::page_size());
        if let Some(stat) = work {
            let ticks = ticks(&stat);
            let more = u32::try_from(ticks.saturating_sub(worker.ticks)).unwrap_or(0);
            worker.ticks = ticks.max(worker.ticks);
            let per_second = u32::try_from(procfs::ticks_per_second()).unwrap_or(100);
            self.self_metrics.walker.add_cpu(f64::from(more) / f64::from(per_second));
        }
    }

    /// Logs once per reason why the layer of a container, whose cgroup is at `path`, has no size.
    fn warn(&mut self, reason: NoSize, path: &str, disk: &RootDevice) {
        if !self.logged.insert(reason) {
            return;
        }
        let hint = match reason {
            NoSize::Failed(Failure::NotVisible) => {
                "mount the engine's data root at its own path, for example -v /var/lib/docker:/var/lib/docker:ro; if it was there, \
                 restart the exporter: data roots are looked for at start"
            }
            NoSize::Failed(Failure::Denied) => "give the exporter CAP_DAC_READ_SEARCH (--cap-add=DAC_READ_SEARCH)",
            NoSize::Failed(Failure::TooLarge) => "it has more files, or directories within each other, than are walked",
            NoSize::Failed(Failure::Io | Failure::Busy) => "the kernel's log may say more",
            NoSize::Disputed => {
                "several containers name this directory as their writable layer, and the host's mounts confirm none of them: \
                 one of them may have mounts made to look so (grep for the directory in /proc/*/mountinfo), or the engine's mounts are \
                 not among those of the host's first process"
            }
            NoSize::NoPath => "its path is longer than paths can be, or leads elsewhere",
        };
        let layer = disk.paths().first().map(|path| path.display().to_string());
        warn!(
            reason = reason.name(), container = %path, layer, hint,
            "the writable layer of this container cannot be summed up: container_fs_usage_bytes is left out"
        );
    }
}

/// What the kernel says of a process of the walker; none where that has ended, and its number is another one's.
fn stat(pid: u32) -> Option<Stat> {
    let stat = Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok()?;
    (stat.comm == SUBCOMMAND).then_some(stat)
}

/// CPU ticks that it has taken.
fn ticks(stat: &Stat) -> u64 {
    stat.utime + stat.stime
}

#[cfg(test)]
mod tests;
