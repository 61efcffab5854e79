//! What one walk over all threads gives, by slot, and the thread that has one made each second while scrapes come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use exporter_ebpf::tasks::{ASSIGNMENT, Counts, LAST_CGROUP, MAX_THREADS, OTHERS, SLOTS, STATES, State, VISITED};

use super::walk::Walk;
use crate::ebpf::load::LoadAverage;

/// As often as cAdvisor samples.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long after a scrape the next one is expected.
const EXPECTED: Duration = Duration::from_secs(90);
/// The thread calls little.
const STACK_BYTES: usize = 128 * 1024;

/// Runs the walk and keeps what it gives.
pub(super) struct Sampler {
    walk: Walk,
    words: &'static [AtomicU64],
    table: &'static [AtomicU64],
    /// Slots in use, the first included, which is for threads in no container.
    slots: Vec<bool>,
    /// Of containers in others their slots and those of the others.
    nested: Vec<(u32, u32)>,
    /// By slot; the first one is the host's.
    pub(super) counts: Vec<Counts>,
    pub(super) loads: Vec<LoadAverage>,
    sampled: Option<Instant>,
    /// Until when samples are wanted.
    until: Option<Instant>,
    is_ended: bool,
}

impl Sampler {
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

    /// Takes a slot; none where all are taken.
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

    /// Gives a slot back.
    pub(super) fn free(&mut self, slot: u32) {
        let slot = slot as usize;
        self.slots.get_mut(slot).into_iter().for_each(|used| *used = false);
        self.loads.get_mut(slot).into_iter().for_each(|load| *load = LoadAverage::default());
    }

    /// Has the program forget which slots cgroups had.
    pub(super) fn assign(&mut self, nested: Vec<(u32, u32)>) {
        self.nested = nested;
        if let Some(assignment) = self.words.get(ASSIGNMENT as usize) {
            // The program compares the lower half alone.
            let next = assignment.load(Ordering::Relaxed).wrapping_add(1) & u64::from(u32::MAX);
            assignment.store(next, Ordering::Relaxed);
        }
    }

    /// Counts all threads, and has samples taken for as long as another scrape is expected.
    ///
    /// # Errors
    /// What the kernel said, or that there are too many threads.
    pub(super) fn sample_for_scrape(&mut self) -> Result<(), String> {
        let now = Instant::now();
        self.until = Some(now + EXPECTED);
        self.sample(now)
    }

    fn sample(&mut self, now: Instant) -> Result<(), String> {
        // Also where it fails: it is tried again a second later.
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
        total(&mut self.counts, &self.nested);
        for (load, counts) in self.loads.iter_mut().zip(&self.counts) {
            load.add(counts.get(State::Running as usize).copied().unwrap_or(0), since_last);
        }
        Ok(())
    }

    /// Returns how long until the next sample; none where none is wanted.
    fn due_in(&self, now: Instant) -> Option<Duration> {
        self.until.filter(|until| now < *until)?;
        Some(self.sampled.map_or(Duration::ZERO, |last| (last + INTERVAL).saturating_duration_since(now)))
    }
}

/// Makes the first slot the host's, and adds containers in others to those, the innermost first.
fn total(counts: &mut [Counts], nested: &[(u32, u32)]) {
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

/// A sampler and its thread, which ends with this.
pub(super) struct Shared {
    inner: Arc<Inner>,
    has_thread: bool,
}

struct Inner {
    sampler: Mutex<Sampler>,
    changed: Condvar,
}

impl Shared {
    pub(super) fn new(sampler: Sampler) -> Self {
        let inner = Inner { sampler: Mutex::new(sampler), changed: Condvar::new() };
        Self { inner: Arc::new(inner), has_thread: false }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Sampler> {
        self.inner.lock()
    }

    /// Has the thread go on. It is started by the first scrape, so that the sandbox holds for it.
    pub(super) fn keep_sampling(&mut self) {
        if self.has_thread {
            self.inner.changed.notify_one();
            return;
        }
        let inner = Arc::clone(&self.inner);
        let thread = thread::Builder::new().name("threads".to_owned()).stack_size(STACK_BYTES);
        // Without it the average goes by scrapes alone.
        self.has_thread = thread.spawn(move || inner.sample_while_wanted()).is_ok();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.inner.lock().is_ended = true;
        self.inner.changed.notify_one();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Sampler> {
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sample_while_wanted(&self) {
        let mut sampler = self.lock();
        while !sampler.is_ended {
            let now = Instant::now();
            sampler = match sampler.due_in(now) {
                None => self.changed.wait(sampler).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    // The next scrape says so, if it fails, too.
                    _ = sampler.sample(now);
                    sampler
                }
                Some(due) => self.changed.wait_timeout(sampler, due).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_host_has_every_thread_once_and_a_container_those_of_containers_in_it() {
        let mut counts = [[5, 1, 0, 0, 0], [1, 1, 0, 0, 0], [2, 0, 0, 1, 0], [3, 0, 1, 0, 1]];
        total(&mut counts, &[(3, 2), (2, 1)]);
        assert_eq!(counts, [[11, 2, 1, 1, 1], [6, 1, 1, 1, 1], [5, 0, 1, 1, 1], [3, 0, 1, 0, 1]]);
    }
}
