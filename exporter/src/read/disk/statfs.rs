//! Size and use of filesystems, measured by `statfs` on threads of their own.
//!
//! `statfs` does not return while the server of a FUSE or NFS filesystem does not answer, and a container can cause that. So
//! the scraping thread hands the calls over to other threads and waits for their answers for a short time. A filesystem that
//! hangs blocks one thread; the other threads measure the remaining filesystems. A filesystem is not measured a second time
//! while a thread is blocked on it.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, StatVfs, fstatvfs, makedev, openat, stat, statvfs};
use rustix::io::Errno;

use crate::metrics::DiskFact;
use crate::read::files::format::Device;
use crate::read::files::open_files;

/// Maximum number of threads. While so many filesystems hang, no other filesystem is measured.
const MAX_THREADS: usize = 16;
/// How long a scrape waits for one filesystem. A filesystem answers in microseconds; one on a busy disk may take longer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(100);
/// How long a scrape waits for all filesystems.
const TOTAL_TIMEOUT: Duration = Duration::from_millis(300);

/// Files that Docker mounts into every container from its data root, `FROM scratch` included.
pub(super) const ENGINE_FILES: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// Size and use of a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FsStats {
    /// Size in bytes.
    bytes: Option<u64>,
    /// Used bytes: those that are not free, whoever may use the free ones.
    used: Option<u64>,
    /// Maximum number of inodes. None for a filesystem without one, such as btrfs, which reports 0.
    pub(super) inodes: Option<u64>,
    inodes_free: Option<u64>,
}

impl FsStats {
    pub(super) fn new(statistics: &StatVfs) -> Self {
        let has_inodes = statistics.f_files > 0;
        Self {
            bytes: statistics.f_blocks.checked_mul(statistics.f_frsize),
            used: statistics.f_blocks.saturating_sub(statistics.f_bfree).checked_mul(statistics.f_frsize),
            inodes: has_inodes.then_some(statistics.f_files),
            inodes_free: has_inodes.then_some(statistics.f_ffree),
        }
    }

    /// Returns a value. `Usage` is that of the filesystem, not of a container's layer.
    pub(super) fn get(&self, fact: DiskFact) -> Option<u64> {
        match fact {
            DiskFact::Usage => self.used,
            DiskFact::Limit => self.bytes,
            DiskFact::Inodes => self.inodes,
            DiskFact::InodesFree => self.inodes_free,
        }
    }
}

/// A filesystem to measure.
#[derive(Debug)]
pub(super) enum Target {
    /// The filesystem of a container's root.
    Root(Root),
    /// The filesystem of a directory that the exporter sees.
    Path(PathBuf),
}

impl Target {
    fn measure(&self) -> io::Result<FsStats> {
        match self {
            Self::Root(root) => root.measure(),
            Self::Path(path) => Ok(FsStats::new(&statvfs(path)?)),
        }
    }
}

/// The root of a container, and three paths to its filesystem.
#[derive(Debug)]
pub(super) struct Root {
    /// The `/proc/PID` directory of a process in the container.
    pub(super) process: Option<Arc<File>>,
    /// The directory of the writable layer, as the host names it.
    pub(super) layer: Option<PathBuf>,
    /// The device of the filesystem. None if its directories may differ in size, because of quotas.
    pub(super) device: Option<Device>,
}

impl Root {
    /// Measures the filesystem. The call may block forever.
    ///
    /// The layer's directory is visible if the exporter runs on the host. In a container, a file that the engine has mounted
    /// into the exporter's own container from the same device replaces it. `/proc/PID/root` comes last: it needs
    /// `CAP_SYS_PTRACE` for processes of other users, the sandbox refuses it, and the process may change its root to any
    /// filesystem, while the result also counts for other containers on the device. With quotas `/proc/PID/root` comes first,
    /// because the result then counts for this container only.
    ///
    /// # Errors
    /// The system's error: `EACCES` without the right to read the root of the process.
    fn measure(&self) -> io::Result<FsStats> {
        let statistics = if self.device.is_some() {
            self.by_layer().or_else(|| self.by_engine_file()).map_or_else(|| self.by_process(), Ok)
        } else {
            self.by_process().or_else(|error| self.by_layer().ok_or(error))
        };
        Ok(FsStats::new(&statistics?))
    }

    fn by_process(&self) -> Result<StatVfs, Errno> {
        let process = self.process.as_ref().ok_or(Errno::NOENT)?;
        fstatvfs(openat(process, "root", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
    }

    fn by_layer(&self) -> Option<StatVfs> {
        statvfs(self.layer.as_ref()?).ok()
    }

    fn by_engine_file(&self) -> Option<StatVfs> {
        let Device { major, minor } = self.device?;
        let is_on_device = |path: &&str| stat(*path).is_ok_and(|file| file.st_dev == makedev(major, minor));
        ENGINE_FILES.iter().copied().find(is_on_device).and_then(|path| statvfs(path).ok())
    }
}

/// A request to measure a filesystem.
#[derive(Debug)]
pub(super) struct Request {
    /// Index under which the pass finds the answer's container or filesystem.
    pub(super) index: usize,
    /// Number that identifies the container or filesystem in all passes.
    pub(super) generation: u64,
    pub(super) target: Target,
}

/// The threads and their requests. The threads end with the program, even if some of them are blocked.
#[derive(Debug, Default)]
pub(super) struct StatfsThreads(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    requested: Condvar,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct State {
    requests: VecDeque<Request>,
    /// Calls in progress, by the generation of their request.
    running: HashMap<u64, Running>,
    /// Index and result of each request.
    answers: Vec<(usize, io::Result<FsStats>)>,
    threads: usize,
    idle: usize,
}

#[derive(Debug)]
struct Running {
    index: usize,
    since: Instant,
    /// Whether no scrape waits for the answer any more.
    is_given_up: bool,
}

impl StatfsThreads {
    /// Begins a pass: drops the requests and answers of earlier passes.
    pub(super) fn begin(&self) {
        let mut state = self.0.state();
        state.requests.clear();
        state.answers.clear();
        for running in state.running.values_mut() {
            running.is_given_up = true;
        }
    }

    /// Requests a measurement; one that timed out before is queued last. Returns false if an earlier call for the same
    /// generation is still blocked.
    pub(super) fn request(&self, request: Request, has_timed_out: bool) -> bool {
        let mut state = self.0.state();
        if state.running.contains_key(&request.generation) {
            return false;
        }
        if has_timed_out {
            state.requests.push_back(request);
        } else {
            state.requests.push_front(request);
        }
        true
    }

    /// Returns whether a thread is in a call for this generation.
    pub(super) fn is_running(&self, generation: u64) -> bool {
        self.0.state().running.contains_key(&generation)
    }

    /// Simulates a call that never returns.
    #[cfg(test)]
    pub(super) fn hang(&self, generation: u64) {
        let running = Running { index: 0, since: Instant::now(), is_given_up: true };
        self.0.state().running.insert(generation, running);
    }

    /// Waits for the answers to all requests, for a bounded time. The answer to a late one is `TimedOut`.
    pub(super) fn answers(&self, mut found: impl FnMut(usize, io::Result<FsStats>)) {
        let mut state = self.0.state();
        let deadline = Instant::now() + TOTAL_TIMEOUT;
        while state.is_awaited() {
            // With all threads blocked, the remaining requests have no thread.
            let has_thread = state.idle > 0 || state.requests.is_empty() || self.0.start(&mut state);
            self.0.requested.notify_one();
            state = self.0.answered.wait_timeout(state, ANSWER_TIMEOUT).unwrap_or_else(PoisonError::into_inner).0;
            let now = Instant::now();
            state.give_up(|running| now >= deadline || now.duration_since(running.since) >= ANSWER_TIMEOUT);
            if now >= deadline || !has_thread && state.running.values().all(|running| running.is_given_up) {
                break;
            }
        }
        let late = |index| (index, Err(io::ErrorKind::TimedOut.into()));
        let unstarted: Vec<usize> = state.requests.drain(..).map(|request| request.index).collect();
        state.answers.extend(unstarted.into_iter().map(late));
        for (index, answer) in state.answers.drain(..) {
            found(index, answer);
        }
    }
}

/// Returns whether an error says that a filesystem did not answer in time.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

/// Returns the label value under which a failure is counted.
pub(super) fn reason(error: &io::Error) -> &'static str {
    if is_timeout(error) { "hangs" } else { open_files::reason(error) }
}

impl State {
    fn is_awaited(&self) -> bool {
        !self.requests.is_empty() || self.running.values().any(|running| !running.is_given_up)
    }

    fn give_up(&mut self, is_late: impl Fn(&Running) -> bool) {
        for running in self.running.values_mut().filter(|running| !running.is_given_up && is_late(running)) {
            running.is_given_up = true;
            self.answers.push((running.index, Err(io::ErrorKind::TimedOut.into())));
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one more thread. Returns false if there are [`MAX_THREADS`] or the system refuses.
    fn start(self: &Arc<Self>, state: &mut State) -> bool {
        if state.threads >= MAX_THREADS {
            return false;
        }
        let shared = Arc::clone(self);
        let is_started = thread::Builder::new().name("statfs".to_owned()).spawn(move || shared.work()).is_ok();
        state.threads += usize::from(is_started);
        state.idle += usize::from(is_started);
        is_started
    }

    /// Serves requests. Ends when there are none and another thread is idle.
    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some(Request { index, generation, target }) = state.requests.pop_front() {
                state.idle -= 1;
                state.running.insert(generation, Running { index, since: Instant::now(), is_given_up: false });
                drop(state);
                let answer = target.measure();
                state = self.state();
                state.idle += 1;
                if state.running.remove(&generation).is_some_and(|running| !running.is_given_up) {
                    state.answers.push((index, answer));
                }
                continue;
            }
            self.answered.notify_one();
            if state.idle > 1 {
                (state.idle, state.threads) = (state.idle - 1, state.threads - 1);
                return;
            }
            state = self.requested.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests;
