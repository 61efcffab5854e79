//! Sizes of the containers' filesystems, measured on threads of their own.
//!
//! `statfs` of a filesystem whose server does not answer (FUSE, NFS) does not return, and a container can cause that. So the
//! scraping thread hands the questions over, and waits for a short time only. A filesystem that hangs holds up one thread;
//! another one goes on with the rest. It is not asked again until it answers.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::statvfs;

use crate::read::disk::root::{Figures, Root};
use crate::read::files::open_files;

/// Threads at most: with so many filesystems that hang, no more are measured.
const MAX_THREADS: usize = 16;
/// How long a scrape waits for one filesystem. They answer in microseconds; one on a busy disk may need a while.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long a scrape waits for all of them.
const TIME: Duration = Duration::from_millis(300);

/// A filesystem that is to be measured.
#[derive(Debug)]
pub(crate) struct Question {
    /// Index of the container in this pass, or what stands for one.
    pub(crate) index: usize,
    /// A number that it has from pass to pass.
    pub(crate) generation: u64,
    pub(crate) target: Target,
}

/// What is measured.
#[derive(Debug)]
pub(crate) enum Target {
    /// The root of a container.
    Root(Root),
    /// A directory of ours.
    Path(PathBuf),
}

impl Target {
    fn measure(&self) -> io::Result<Figures> {
        match self {
            Self::Root(root) => root.measure(),
            Self::Path(path) => Ok(Figures::of(&statvfs(path)?)),
        }
    }
}

/// The threads and their questions. They end with the program, even if some hang. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measure(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    asked: Condvar,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct State {
    questions: VecDeque<Question>,
    /// Filesystems that a thread is at, by the generation of the container.
    running: HashMap<u64, Running>,
    answers: Vec<(usize, io::Result<Figures>)>,
    threads: usize,
    idle: usize,
}

#[derive(Debug)]
struct Running {
    index: usize,
    since: Instant,
    /// No scrape waits for it any more.
    is_given_up: bool,
}

impl Measure {
    /// Forgets what an earlier pass has asked and did not wait for.
    pub(crate) fn begin(&self) {
        let mut state = self.0.state();
        state.questions.clear();
        state.answers.clear();
        for running in state.running.values_mut() {
            running.is_given_up = true;
        }
    }

    /// Asks for a filesystem; one that has hung before comes last. Returns false where it has not answered yet.
    pub(crate) fn ask(&self, question: Question, has_hung: bool) -> bool {
        let mut state = self.0.state();
        if state.running.contains_key(&question.generation) {
            return false;
        }
        if has_hung {
            state.questions.push_back(question);
        } else {
            state.questions.push_front(question);
        }
        true
    }

    /// Whether a thread is at this filesystem.
    pub(crate) fn is_running(&self, generation: u64) -> bool {
        self.0.state().running.contains_key(&generation)
    }

    /// Has a thread that never comes back be at this filesystem.
    #[cfg(test)]
    pub(super) fn hang(&self, generation: u64) {
        let running = Running { index: 0, since: Instant::now(), is_given_up: true };
        self.0.state().running.insert(generation, running);
    }

    /// Waits for the answers to all questions, for a bounded time. Those that are not there by then are `TimedOut`.
    pub(crate) fn answers(&self, mut found: impl FnMut(usize, io::Result<Figures>)) {
        let mut state = self.0.state();
        let end = Instant::now() + TIME;
        while state.is_awaited() {
            // Where all threads hang, none takes the rest.
            let is_served = state.idle > 0 || state.questions.is_empty() || self.0.start(&mut state);
            self.0.asked.notify_one();
            state = self.0.answered.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
            let now = Instant::now();
            state.give_up(|running| now >= end || now.duration_since(running.since) >= PATIENCE);
            if now >= end || !is_served && state.running.values().all(|running| running.is_given_up) {
                break;
            }
        }
        let late = |index| (index, Err(io::ErrorKind::TimedOut.into()));
        let unasked: Vec<usize> = state.questions.drain(..).map(|question| question.index).collect();
        state.answers.extend(unasked.into_iter().map(late));
        for (index, answer) in state.answers.drain(..) {
            found(index, answer);
        }
    }
}

/// Whether a filesystem has not answered in time.
pub(super) fn hangs(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

/// Returns the label value under which a failure is counted.
pub(super) fn reason(error: &io::Error) -> &'static str {
    if hangs(error) { "hangs" } else { open_files::reason(error) }
}

impl State {
    fn is_awaited(&self) -> bool {
        !self.questions.is_empty() || self.running.values().any(|running| !running.is_given_up)
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
        // Nothing panics under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one more thread, if there may be one.
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

    /// Answers questions, until another thread waits for them already.
    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some(Question { index, generation, target }) = state.questions.pop_front() {
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
            state = self.asked.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests;
