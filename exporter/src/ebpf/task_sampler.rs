//! Loads the program that counts threads, runs it at each scrape and once a second while scrapes come, and keeps the
//! counts and load averages by slot.

use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use aya::programs::{ProgramFd, RawTracePoint};
use aya::{Ebpf, include_bytes_aligned};
use exporter_ebpf::tasks::{
    ASSIGNMENT, Counts, ITERATOR_FUNCTIONS, LAST_CGROUP, MAX_THREADS, OTHERS, Offsets, SLOTS, STATES, State, VISITED,
    call_of,
};
use tracing::debug;

use super::Program;
use super::btf::{Kind, Types};
use super::loader::{Loader, program_of, refused};
use super::sys::{Link, run_once};
use super::tables::ancestors;
use super::unsupported::Unsupported;

const OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../exporter-ebpf/prebuilt/tasks.o"));

/// Name of the program that the kernel runs for each thread.
const ITERATOR_PROGRAM: &str = "task_states_iter";
/// The host's pid namespace. Its number (`PROC_PID_INIT_INO`) is the same on every kernel since 3.8.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// The loaded program that counts all threads.
pub(super) enum Walk {
    /// One run of the program visits all threads.
    Whole(ProgramFd),
    /// The kernel runs the program for each thread.
    ByThread(Link),
}

impl Walk {
    /// Counts all threads.
    ///
    /// # Errors
    /// The kernel's error.
    fn run(&self) -> io::Result<()> {
        match self {
            Self::Whole(program) => run_once(program.as_fd()),
            Self::ByThread(link) => link.run(),
        }
    }
}

/// Loads the program: the one that visits all threads itself if the kernel lets programs iterate over them (Linux 6.7),
/// else the one that the kernel runs for each thread.
///
/// # Errors
/// What the kernel refused or lacks.
pub(super) fn load(loader: &mut Loader) -> Result<(Ebpf, Walk), Unsupported> {
    let offsets = offsets(loader)?;
    loader.set_constant("TASKS_OFFSETS", offsets);
    loader.set_constant("TASKS_ANCESTORS", ancestors(loader)?);
    let with_iterator = with_functions(OBJECT, loader.types()?);
    let mut object = loader.load(with_iterator.as_deref().unwrap_or(OBJECT))?;
    if with_iterator.is_some() {
        match load_whole(&mut object) {
            Ok(program) => return Ok((object, Walk::Whole(program))),
            // For example because the kernel's compiler is off (`net.core.bpf_jit_enable`).
            Err(why) => debug!(%why, "counting threads with the kernel's iterator"),
        }
    }
    if fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace.as_os_str() != INITIAL_PID_NAMESPACE) {
        let what = "before Linux 6.7 a program is shown the threads of our own pid namespace alone";
        return Err(Unsupported::new(what, "run the exporter with --pid=host"));
    }
    let program = loader.load_task_iterator(&mut object, ITERATOR_PROGRAM)?;
    let link = Link::over_tasks(program.as_fd()).map_err(|error| refused(ITERATOR_PROGRAM, &error))?;
    link.run().map_err(|error| refused(ITERATOR_PROGRAM, &error))?;
    Ok((object, Walk::ByThread(link)))
}

/// Loads the program that visits all threads, and runs it once.
fn load_whole(object: &mut Ebpf) -> Result<ProgramFd, Unsupported> {
    let name = Program::TaskStates.name();
    let program: &mut RawTracePoint = program_of(object, name)?;
    program.load().map_err(|error| refused(name, &error))?;
    let loaded = program.fd().and_then(|loaded| Ok(loaded.try_clone()?)).map_err(|error| refused(name, &error))?;
    run_once(loaded.as_fd()).map_err(|error| refused(name, &error))?;
    Ok(loaded)
}

/// Returns the object with calls of this kernel's iterator functions; none if the kernel lacks one of them.
fn with_functions(object: &[u8], types: &Types) -> Option<Vec<u8>> {
    let mut object = object.to_vec();
    for (name, stand_in) in ITERATOR_FUNCTIONS {
        let (before, call) = (call_of(stand_in).to_le_bytes(), call_of(types.id(Kind::Function, name)?).to_le_bytes());
        for instruction in object.as_chunks_mut().0.iter_mut().filter(|instruction| **instruction == before) {
            *instruction = call;
        }
    }
    Some(object)
}

/// Returns the offsets that the program needs.
fn offsets(loader: &Loader) -> Result<Offsets, Unsupported> {
    let (task_iowait, task_iowait_mask) = loader.bit("task_struct", "in_iowait")?;
    Ok(Offsets {
        task_pid: loader.offset("task_struct", "pid")?,
        task_state: loader.offset("task_struct", "__state")?,
        task_exit_state: loader.offset("task_struct", "exit_state")?,
        task_iowait,
        task_iowait_mask,
        task_cgroups: loader.offset("task_struct", "cgroups")?,
        set_cgroup: loader.offset("css_set", "dfl_cgrp")?,
        id_offsets: loader.cgroup_id_offsets()?,
    })
}

/// Time between two samples: that of cAdvisor.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long after a scrape samples are taken, in expectation of the next scrape.
const EXPECTED: Duration = Duration::from_secs(90);
/// Size of the stack of the thread, in bytes.
const STACK_BYTES: usize = 128 * 1024;

/// Counts threads by slot, and keeps the counts and load averages.
pub(super) struct Sampler {
    walk: Walk,
    /// Words that control the program.
    words: &'static [AtomicU64],
    /// The program's counts by slot and state.
    table: &'static [AtomicU64],
    /// Whether each slot is in use. The first slot is for threads in no container.
    slots: Vec<bool>,
    /// The slots of nested containers, each with the slot of the container that it is in, the innermost first.
    nested: Vec<(u32, u32)>,
    /// Counts by slot, as of the last sample. The first slot has those of the host.
    pub(super) counts: Vec<Counts>,
    /// Load averages by slot.
    pub(super) loads: Vec<LoadAverage>,
    /// When the last sample was taken or attempted.
    sampled: Option<Instant>,
    /// The time until which samples are wanted.
    until: Option<Instant>,
    is_ended: bool,
}

impl Sampler {
    /// Returns a sampler of the program with these arrays.
    pub(super) fn new(walk: Walk, words: &'static [AtomicU64], table: &'static [AtomicU64]) -> Self {
        Self {
            walk,
            words,
            table,
            slots: vec![true],
            nested: Vec::new(),
            counts: Vec::new(),
            loads: vec![LoadAverage::default()],
            sampled: None,
            until: None,
            is_ended: false,
        }
    }

    /// Takes a free slot; returns none if there is none.
    pub(super) fn take_slot(&mut self) -> Option<u32> {
        let slot = self.slots.iter().position(|used| !used).unwrap_or(self.slots.len());
        let number = u32::try_from(slot).ok().filter(|slot| *slot < SLOTS)?;
        if slot == self.slots.len() {
            self.slots.push(false);
            self.loads.push(LoadAverage::default());
        }
        self.slots.get_mut(slot).into_iter().for_each(|used| *used = true);
        Some(number)
    }

    /// Frees a slot.
    pub(super) fn free(&mut self, slot: u32) {
        let slot = slot as usize;
        self.slots.get_mut(slot).into_iter().for_each(|used| *used = false);
        self.loads.get_mut(slot).into_iter().for_each(|load| *load = LoadAverage::default());
    }

    /// Tells the program that slots have been assigned anew, and sets the nested containers.
    pub(super) fn assign(&mut self, nested: Vec<(u32, u32)>) {
        self.nested = nested;
        if let Some(assignment) = self.words.get(ASSIGNMENT as usize) {
            // The program compares only the lower half.
            let next = assignment.load(Ordering::Relaxed).wrapping_add(1) & u64::from(u32::MAX);
            assignment.store(next, Ordering::Relaxed);
        }
    }

    /// Counts all threads, and has samples taken while another scrape is expected.
    ///
    /// # Errors
    /// The kernel's error, or that there are too many threads.
    pub(super) fn sample_for_scrape(&mut self) -> Result<(), String> {
        let now = Instant::now();
        self.until = Some(now + EXPECTED);
        self.sample(now)
    }

    /// Counts all threads and updates the load averages.
    fn sample(&mut self, now: Instant) -> Result<(), String> {
        // Set even if the sample fails, so that the next attempt is a second later.
        let since_last = self.sampled.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let used = self.table.get(..self.slots.len() * STATES).unwrap_or_default();
        for counter in used {
            counter.store(0, Ordering::Relaxed);
        }
        let (Some(seen), Some(last)) = (self.words.get(VISITED as usize), self.words.get(LAST_CGROUP as usize)) else {
            return Err("the program's words are missing".to_owned());
        };
        seen.store(0, Ordering::Relaxed);
        last.store(0, Ordering::Relaxed);
        self.walk.run().map_err(|error| error.to_string())?;
        if seen.load(Ordering::Acquire) >= MAX_THREADS {
            return Err(format!("there are more than {MAX_THREADS} threads"));
        }
        self.counts.clear();
        let of_slot =
            |counters: &[AtomicU64; STATES]| counters.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        self.counts.extend(used.as_chunks().0.iter().map(of_slot));
        add_totals(&mut self.counts, &self.nested);
        for (load, counts) in self.loads.iter_mut().zip(&self.counts) {
            load.add(counts.get(State::Running as usize).copied().unwrap_or(0), since_last);
        }
        Ok(())
    }

    /// Returns the time until the next sample; none if none is wanted.
    fn due_in(&self, now: Instant) -> Option<Duration> {
        self.until.filter(|until| now < *until)?;
        Some(self.sampled.map_or(Duration::ZERO, |last| (last + INTERVAL).saturating_duration_since(now)))
    }
}

/// Sums up all counts in the first slot, and adds those of nested containers to the containers that they are in.
fn add_totals(counts: &mut [Counts], nested: &[(u32, u32)]) {
    let add = |total: &mut Counts, more: &Counts| total.iter_mut().zip(more).for_each(|(total, more)| *total += more);
    let mut host = Counts::default();
    for one in counts.iter() {
        add(&mut host, one);
    }
    for (inner, outer) in nested {
        let Some(more) = counts.get(*inner as usize).copied() else { continue };
        counts.get_mut(*outer as usize).into_iter().for_each(|one| add(one, &more));
    }
    counts.get_mut(OTHERS as usize).into_iter().for_each(|one| *one = host);
}

/// A sampler and its thread. The thread ends when this is dropped.
pub(super) struct SamplerThread {
    shared: Arc<Shared>,
    has_thread: bool,
}

struct Shared {
    sampler: Mutex<Sampler>,
    changed: Condvar,
}

impl SamplerThread {
    /// Returns the sampler without a thread.
    pub(super) fn new(sampler: Sampler) -> Self {
        let shared = Shared { sampler: Mutex::new(sampler), changed: Condvar::new() };
        Self { shared: Arc::new(shared), has_thread: false }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Sampler> {
        self.shared.lock()
    }

    /// Wakes the thread, or starts it. The first scrape starts it, after the sandbox is in force.
    pub(super) fn keep_sampling(&mut self) {
        if self.has_thread {
            self.shared.changed.notify_one();
            return;
        }
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("threads".to_owned()).stack_size(STACK_BYTES);
        // Without the thread, only scrapes take samples.
        self.has_thread = thread.spawn(move || shared.sample_while_wanted()).is_ok();
    }
}

impl Drop for SamplerThread {
    fn drop(&mut self) {
        self.shared.lock().is_ended = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Sampler> {
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes samples while they are wanted, until the sampler ends.
    fn sample_while_wanted(&self) {
        let mut sampler = self.lock();
        while !sampler.is_ended {
            let now = Instant::now();
            sampler = match sampler.due_in(now) {
                None => self.changed.wait(sampler).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    // If this fails, the next scrape fails, too, and logs the error.
                    _ = sampler.sample(now);
                    sampler
                }
                Some(due) => self.changed.wait_timeout(sampler, due).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

/// Time constant of the load average in seconds: after this time, the average has followed a change by 63 %.
const LOAD_PERIOD: f64 = 10.0;

/// The load average that readers of cAdvisor know: the number of runnable threads, averaged over ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadAverage(Option<f64>);

impl LoadAverage {
    /// Adds the current number of threads. The first number becomes the average.
    pub fn add(&mut self, threads: u64, since_last: Duration) {
        let threads = f64::from(u32::try_from(threads).unwrap_or(u32::MAX));
        let before = self.0.unwrap_or(threads);
        let kept = (-since_last.as_secs_f64() / LOAD_PERIOD).exp();
        self.0 = Some(before * kept + threads * (1.0 - kept));
    }

    /// Returns the average in thousandths, as cAdvisor exposes it.
    #[must_use]
    pub fn thousandths(self) -> Option<u64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and below 2^42")]
        self.0.map(|load| (load * 1000.0).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LoadAverage, add_totals};

    #[test]
    fn the_host_has_every_thread_once_and_a_container_those_of_containers_in_it() {
        let mut counts = [[5, 1, 0, 0, 0], [1, 1, 0, 0, 0], [2, 0, 0, 1, 0], [3, 0, 1, 0, 1]];
        add_totals(&mut counts, &[(3, 2), (2, 1)]);
        assert_eq!(counts, [[11, 2, 1, 1, 1], [6, 1, 1, 1, 1], [5, 0, 1, 1, 1], [3, 0, 1, 0, 1]]);
    }

    #[test]
    fn the_first_number_is_the_average_and_others_go_in_over_ten_seconds() {
        let mut load = LoadAverage::default();
        assert_eq!(load.thousandths(), None);
        load.add(4, Duration::from_secs(100));
        assert_eq!(load.thousandths(), Some(4000));
        load.add(0, Duration::from_secs(10));
        assert_eq!(load.thousandths(), Some(1472));
        // Ten steps of a second are one of ten.
        let mut steps = LoadAverage::default();
        steps.add(4, Duration::ZERO);
        (0..10).for_each(|_| steps.add(0, Duration::from_secs(1)));
        assert_eq!(steps.thousandths(), load.thousandths());
        steps.add(3, Duration::from_hours(1));
        assert_eq!(steps.thousandths(), Some(3000));
    }
}
