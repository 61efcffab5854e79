//! Sizes of the containers' writable layers on disk, as the disk walker measures them.
//!
//! A scrape sends requests and takes the answers that have arrived; it does not wait for any. A size stays until the next
//! answer, even if the walker ends. It is kept by the path of the layer, so that a restarted container has its size at once.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use procfs::process::{Process, Stat};
use tracing::{info, warn};

use crate::metrics::SelfMetrics;
use crate::read::disk::mounts::ContainerDisk;
use crate::walker::{Event, Failure, Request, SUBCOMMAND, Walker, are_valid, encode_requests};

/// Age at which a size is requested again.
const REFRESH: Duration = Duration::from_mins(1);
/// Maximum number of requests without an answer.
const MAX_PENDING: usize = 4096;
/// Maximum number of messages that are received at a time.
const MAX_MESSAGES: usize = 1024;
/// Number of the next request. Unique in this process, so that no reader takes a late answer for that of another request.
static TICKETS: AtomicU64 = AtomicU64::new(1);

/// The sizes of all layers, and the requests for them.
#[derive(Debug)]
pub(super) struct LayerSizes {
    /// None if it could not be started or has ended for good.
    walker: Option<Walker>,
    /// Process id of the walker's guard process, kept after its end; 0 without a walker.
    guard: u32,
    /// Reused memory for messages.
    buffer: Vec<u8>,
    self_metrics: SelfMetrics,
    layers: HashMap<PathBuf, Layer>,
    /// Requests without an answer: ticket and layer.
    pending: HashMap<u64, PathBuf>,
    /// Those of them that are not sent yet.
    unsent: Vec<Request>,
    /// Number of the last pass that was finished.
    pass: u64,
    /// Whether any layer was ever measured, which shows that the walker sees the data root.
    has_measured: bool,
    /// Reasons that were logged; each is logged once.
    logged: HashSet<NoSize>,
    worker: Option<Worker>,
}

/// Why a layer has no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum NoSize {
    /// The walker failed.
    Failed(Failure),
    /// Several containers name the layer as theirs, and the host's mounts confirm none of them.
    Disputed,
    /// The path cannot be sent.
    NoPath,
}

impl NoSize {
    /// Returns the value of the label `reason`.
    const fn name(self) -> &'static str {
        match self {
            Self::Failed(failure) => failure.name(),
            Self::Disputed => "disputed",
            Self::NoPath => "no_path",
        }
    }
}

/// A writable layer. Containers claim it: each names a layer as its own, and may lie.
#[derive(Debug, Default)]
struct Layer {
    bytes: Option<u64>,
    /// When the last answer arrived.
    answered: Option<Instant>,
    /// When `bytes` arrived.
    measured: Option<Instant>,
    failure: Option<NoSize>,
    is_pending: bool,
    /// The pass of the last claim.
    pass: u64,
    /// The generation of the container whose claim was accepted in that pass.
    owner: u64,
    /// Whether the host's mounts confirm that claim.
    is_confirmed: bool,
    /// The last pass in which several containers claimed the layer without confirmation.
    disputed: Option<u64>,
}

impl Layer {
    /// Records a container's claim. All containers claim their layers in each pass, also those that a scrape does not select.
    /// Returns whether a dispute begins.
    fn claim(&mut self, generation: u64, is_confirmed: bool, pass: u64) -> bool {
        let is_first = self.pass != pass;
        if is_first || is_confirmed {
            (self.pass, self.owner, self.is_confirmed) = (pass, generation, is_confirmed);
            return false;
        }
        if self.is_confirmed || self.owner == generation {
            return false;
        }
        let last = self.disputed.replace(pass);
        last.is_none_or(|last| last + 1 < pass)
    }

    /// Returns whether the layer was a container's as of a pass, or may be.
    fn is_of(&self, generation: u64, pass: u64) -> bool {
        if self.is_confirmed { self.owner == generation } else { self.disputed != Some(pass) }
    }
}

/// The walker's current worker process.
#[derive(Debug)]
struct Worker {
    pid: u32,
    /// Its CPU ticks that are already in the metric.
    ticks: u64,
}

impl LayerSizes {
    pub(super) fn new(walker: Option<Walker>, self_metrics: SelfMetrics) -> Self {
        // An earlier reader may have received the start of the worker, and counted its time so far.
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
            layers: HashMap::new(),
            pending: HashMap::new(),
            unsent: Vec::new(),
            pass: 0,
            has_measured: false,
            logged: HashSet::new(),
            worker,
        }
    }

    /// Returns whether the container itself causes the lack of a size, so that the collector has not failed: a container can
    /// make its mounts look like anything. If the walker has measured another layer, it sees the data root, and a layer that
    /// it does not see is not there.
    fn is_by_container(&self, reason: NoSize) -> bool {
        reason == NoSize::Disputed || reason == NoSize::Failed(Failure::NotVisible) && self.has_measured
    }

    /// Receives the messages of the walker that have arrived.
    pub(super) fn receive(&mut self, now: Instant) {
        for _ in 0..MAX_MESSAGES {
            let Some(walker) = &self.walker else { return };
            match walker.receive(&mut self.buffer) {
                Ok(Some(events)) => events.into_iter().for_each(|event| self.apply(event, now)),
                Ok(None) => return,
                Err(_) => self.end(),
            }
        }
    }

    fn apply(&mut self, event: Event, now: Instant) {
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
                self.pending.clear();
                self.unsent.clear();
                self.layers.values_mut().for_each(|layer| layer.is_pending = false);
            }
            Event::Measured { ticket, bytes } => {
                let Some(path) = self.pending.remove(&ticket) else { return };
                let Some(layer) = self.layers.get_mut(&path) else { return };
                (layer.is_pending, layer.answered) = (false, Some(now));
                layer.failure = bytes.err().map(NoSize::Failed);
                match bytes {
                    Ok(bytes) => {
                        (layer.bytes, layer.measured) = (Some(bytes), Some(now));
                        self.has_measured = true;
                    }
                    Err(Failure::Busy) => {}
                    // The size before would look like a current one.
                    Err(failure) => {
                        (layer.bytes, layer.measured) = (None, None);
                        self.self_metrics.count_read_error("layer", failure.name());
                    }
                }
            }
        }
    }

    /// Goes on without the walker.
    fn end(&mut self) {
        warn!(
            "the disk walker is gone for good: restart the exporter to have container_fs_usage_bytes brought up to date"
        );
        (self.walker, self.worker) = (None, None);
        self.self_metrics.walker.set_up(false);
        self.pending.clear();
        self.unsent.clear();
    }

    /// Requests the size of the layer of a container, whose cgroup is at `path`, if it is due. Returns false if the layer has no
    /// size for a reason that the container does not cause.
    pub(super) fn request(&mut self, generation: u64, disk: &ContainerDisk, path: &str, now: Instant) -> bool {
        if disk.paths().is_empty() {
            return true;
        }
        match self.refresh(generation, disk, now) {
            Ok(()) => self.walker.is_some(),
            Err(reason) => {
                self.warn(reason, path, disk);
                self.is_by_container(reason)
            }
        }
    }

    /// Requests the size of a container's layer if it is due.
    ///
    /// # Errors
    /// Why there is no size. No error if there is one, or none yet.
    fn refresh(&mut self, generation: u64, disk: &ContainerDisk, now: Instant) -> Result<(), NoSize> {
        let paths = disk.paths();
        let Some(path) = paths.first() else { return Ok(()) };
        let layer = match self.layers.get_mut(path) {
            Some(layer) => layer,
            None => self.layers.entry(path.clone()).or_default(),
        };
        if !disk.is_confirmed() && !layer.is_of(generation, self.pass) {
            return Err(NoSize::Disputed);
        }
        let is_due = layer.answered.is_none_or(|answered| now.saturating_duration_since(answered) >= REFRESH);
        let has_room = self.pending.len() < MAX_PENDING;
        if is_due && !layer.is_pending && self.walker.is_some() && has_room {
            if !are_valid(paths) {
                (layer.answered, layer.failure) = (Some(now), Some(NoSize::NoPath));
                self.self_metrics.count_read_error("layer", NoSize::NoPath.name());
                return Err(NoSize::NoPath);
            }
            let ticket = TICKETS.fetch_add(1, Ordering::Relaxed);
            self.unsent.push(Request { ticket, is_first: layer.answered.is_none(), paths: paths.to_vec() });
            self.pending.insert(ticket, path.clone());
            layer.is_pending = true;
        }
        layer.failure.filter(|_| layer.bytes.is_none()).map_or(Ok(()), Err)
    }

    /// Returns the last known size of a container's layer in bytes, as of the last pass that was finished.
    pub(super) fn known(&self, generation: u64, disk: &ContainerDisk) -> Option<u64> {
        let layer = self.layers.get(disk.paths().first()?)?;
        layer.bytes.filter(|_| layer.is_of(generation, self.pass))
    }

    /// Sends the requests. Those for which the socket has no room are sent in the next pass.
    pub(super) fn send(&mut self) {
        let Some(walker) = &self.walker else { return };
        while !self.unsent.is_empty() {
            let (message, count) = encode_requests(&self.unsent);
            match if message.is_empty() { Ok(true) } else { walker.send(&message) } {
                Ok(true) => drop(self.unsent.drain(..count)),
                Ok(false) => return,
                Err(_) => return self.end(),
            }
        }
    }

    /// Ends a pass: decides which layer is whose, by the claims of all `containers`, each with its generation; forgets layers
    /// that none of them claims, and sets the metrics of the walker.
    pub(super) fn finish<'c>(&mut self, containers: impl Iterator<Item = (u64, &'c ContainerDisk)>, now: Instant) {
        self.pass += 1;
        let (mut count, mut oldest) = (0, None::<Instant>);
        for (generation, disk) in containers {
            let Some(layer) = disk.paths().first().and_then(|path| self.layers.get_mut(path)) else { continue };
            count += 1;
            if layer.claim(generation, disk.is_confirmed(), self.pass) {
                self.self_metrics.count_read_error("layer", NoSize::Disputed.name());
            }
            // Layers of ended containers are not exposed, and so do not count.
            oldest = oldest.into_iter().chain(layer.measured).min();
        }
        if self.layers.len() > count + count / 8 + 8 {
            self.layers.retain(|_, layer| layer.pass == self.pass);
            self.pending.retain(|_, path| self.layers.contains_key(path));
        }
        let age = oldest.map(|oldest| now.saturating_duration_since(oldest).as_secs());
        self.self_metrics.walker.set_oldest(age);
        self.publish();
    }

    /// Sets the metrics of the walker's processes.
    fn publish(&mut self) {
        Walker::reap(self.guard);
        let (Some(walker), Some(worker)) = (&self.walker, &mut self.worker) else { return };
        let [guard, work] = [walker.guard(), worker.pid].map(stat);
        // After the guard was killed, the worker is its own guard.
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

    /// Logs why the layer of a container, whose cgroup is at `path`, has no size. Each reason is logged once.
    fn warn(&mut self, reason: NoSize, path: &str, disk: &ContainerDisk) {
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

/// Reads the `stat` of a process of the walker. None if it has ended, even if its number is used again.
fn stat(pid: u32) -> Option<Stat> {
    let stat = Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok()?;
    (stat.comm == SUBCOMMAND).then_some(stat)
}

/// Returns the CPU time of a process in ticks.
fn ticks(stat: &Stat) -> u64 {
    stat.utime + stat.stime
}

#[cfg(test)]
mod tests;
