//! The queue of walks and their share of CPU time.
//!
//! A walk starts at the level of small walks. A walk that exceeds the limit of its level is abandoned and starts again,
//! in its turn, at the next level. This wastes at most a tenth of its time; the walk neither delays small walks nor takes
//! memory while it waits. Each level has one active walk. First walks, those of containers without a figure, have at
//! least every second slice; the other levels take turns with the rest. A steady stream of new containers therefore
//! delays no other walk for ever.
//!
//! Walks may take a hundredth of one CPU, plus saved time. Half of the saved time is reserved for first walks, so that a
//! new container of ordinary size has its figure at once, whatever else is walked.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::protocol::{Failure, Request};
use super::roots::Roots;
use super::walk::Walk;

/// Greatest number of requests that wait at one level.
const MAX_WAITING: usize = 4096;
/// CPU time that a walk may take at each level: first, small, larger and all other walks.
const LIMITS: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(250), Duration::from_millis(2500), Duration::MAX];
/// The level of first walks.
const FIRST: usize = 0;

/// The waiting and active walks of all levels.
#[derive(Debug, Default)]
pub(super) struct Queue {
    levels: [Level; LIMITS.len()],
    /// The level, other than `FIRST`, that had a slice most recently.
    last: usize,
    /// Whether the most recent slice was at level `FIRST`.
    was_first: bool,
}

#[derive(Debug, Default)]
struct Level {
    waiting: VecDeque<Request>,
    active: Option<Active>,
}

#[derive(Debug)]
struct Active {
    request: Request,
    /// How many of the request's paths are measured.
    done: usize,
    walk: Option<Walk>,
    bytes: u64,
    spent: Duration,
}

impl Queue {
    /// Adds a request, or returns it as the error if too many requests wait.
    pub(super) fn push(&mut self, request: Request) -> Result<(), Request> {
        let [first, small, ..] = &mut self.levels;
        let level = if request.is_first { first } else { small };
        if level.waiting.len() >= MAX_WAITING {
            return Err(request);
        }
        level.waiting.push_back(request);
        Ok(())
    }

    /// Returns whether there are first walks, or `None` if there are no walks at all.
    pub(super) fn has_first(&self) -> Option<bool> {
        self.next().map(|_| self.is_busy(FIRST))
    }

    fn is_busy(&self, level: usize) -> bool {
        self.levels.get(level).is_some_and(|level| level.active.is_some() || !level.waiting.is_empty())
    }

    fn next(&self) -> Option<usize> {
        let count = self.levels.len();
        let mut turns = (1..=count).map(|step| (self.last + step) % count).filter(|level| *level != FIRST);
        let other = turns.find(|level| self.is_busy(*level));
        let first = self.is_busy(FIRST).then_some(FIRST);
        if self.was_first { other.or(first) } else { first.or(other) }
    }

    /// Runs one walk until `time`, the CPU time since the start of the slice, reaches `slice`. Returns the ticket and the
    /// bytes of a walk that ends.
    pub(super) fn advance(
        &mut self,
        roots: &Roots,
        slice: Duration,
        time: impl Fn() -> Duration,
    ) -> Option<(u64, Result<u64, Failure>)> {
        let number = self.next()?;
        self.was_first = number == FIRST;
        if !self.was_first {
            self.last = number;
        }
        let limit = *LIMITS.get(number)?;
        let level = self.levels.get_mut(number)?;
        let mut active = level.active.take().or_else(|| level.waiting.pop_front().map(Active::new))?;
        loop {
            match active.step(roots) {
                Ok(None) if time() < slice => {}
                Ok(None) => break,
                Ok(Some(bytes)) => return Some((active.request.ticket, Ok(bytes))),
                Err(failure) => return Some((active.request.ticket, Err(failure))),
            }
        }
        active.spent += time();
        if active.spent < limit {
            level.active = Some(active);
            return None;
        }
        let ticket = active.request.ticket;
        // A large first walk skips the level of small walks, whose limit is the same.
        let larger = self.levels.get_mut((number + 1).max(FIRST + 2))?;
        if larger.waiting.len() >= MAX_WAITING {
            return Some((ticket, Err(Failure::Busy)));
        }
        larger.waiting.push_back(active.request);
        None
    }
}

impl Active {
    fn new(request: Request) -> Self {
        Self { request, done: 0, walk: None, bytes: 0, spent: Duration::ZERO }
    }

    /// Takes one step. Returns the sum of all paths in bytes at the end.
    fn step(&mut self, roots: &Roots) -> Result<Option<u64>, Failure> {
        if let Some(walk) = &mut self.walk {
            if let Some(bytes) = walk.step()? {
                self.bytes = self.bytes.saturating_add(bytes);
                (self.walk, self.done) = (None, self.done + 1);
            }
            return Ok(None);
        }
        let Some(path) = self.request.paths.get(self.done) else { return Ok(Some(self.bytes)) };
        match roots.find(path) {
            Ok(found) => match found.quota_usage {
                Some(bytes) => {
                    self.bytes = self.bytes.saturating_add(bytes);
                    self.done += 1;
                }
                None => self.walk = Some(Walk::begin(found.directory)?),
            },
            // Not every container has a directory of logs.
            Err(Failure::NotVisible) if self.done > 0 => self.done += 1,
            Err(failure) => return Err(failure),
        }
        Ok(None)
    }
}

/// Walks may take one part in `SHARE` of the elapsed time.
const SHARE: u32 = 100;
/// Greatest CPU time that can be saved: enough for 1,000 containers of 50 files.
const CAPACITY: Duration = Duration::from_millis(500);
/// Part of `CAPACITY` that is reserved for first walks: enough for several walks of 20,000 files.
const RESERVE: Duration = Duration::from_millis(250);
/// Smallest CPU time that is worth a wake-up.
const SMALLEST: Duration = Duration::from_millis(1);

/// A token bucket of CPU time. Time beyond the bucket's content is owed.
#[derive(Debug)]
pub(super) struct Pace {
    saved: Duration,
    owed: Duration,
    refilled: Instant,
}

impl Pace {
    /// Returns a full bucket.
    pub(super) fn new(now: Instant) -> Self {
        Self { saved: CAPACITY, owed: Duration::ZERO, refilled: now }
    }

    /// Returns how long the next slice has to wait.
    pub(super) fn wait(&mut self, has_first: bool, now: Instant) -> Duration {
        let gained = now.saturating_duration_since(self.refilled) / SHARE;
        self.refilled = now;
        self.saved = (self.saved + gained.saturating_sub(self.owed)).min(CAPACITY);
        self.owed = self.owed.saturating_sub(gained);
        let floor = if has_first { Duration::ZERO } else { RESERVE };
        if self.saved > floor {
            Duration::ZERO
        } else {
            (floor.saturating_sub(self.saved) + self.owed).max(SMALLEST) * SHARE
        }
    }

    /// Takes used CPU time out of the bucket.
    pub(super) fn take(&mut self, taken: Duration) {
        self.owed += taken.saturating_sub(self.saved);
        self.saved = self.saved.saturating_sub(taken);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn request(ticket: u64, is_first: bool, path: &Path) -> Request {
        Request { ticket, is_first, paths: vec![path.to_owned(), path.join("no-logs")] }
    }

    /// Runs all walks with a clock that advances by a millisecond at each read. Returns the answers in their order.
    fn run(queue: &mut Queue, roots: &Roots) -> Vec<(u64, Result<u64, Failure>)> {
        let mut answers = Vec::new();
        while queue.has_first().is_some() {
            let clock = Cell::new(Duration::ZERO);
            let time = || {
                clock.set(clock.get() + Duration::from_millis(1));
                clock.get()
            };
            answers.extend(queue.advance(roots, Duration::from_millis(2), time));
        }
        answers
    }

    #[test]
    fn a_large_tree_holds_up_no_small_one_and_is_summed_up_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("data");
        for number in 0..3000 {
            fs::create_dir_all(root.join("large").join(number.to_string())).unwrap();
        }
        for name in ["small", "again"] {
            fs::create_dir_all(root.join(name)).unwrap();
            fs::write(root.join(name).join("file"), vec![1; 10_000]).unwrap();
        }
        let roots = Roots::open(std::slice::from_ref(&root));
        let mut queue = Queue::default();
        queue.push(request(1, true, &root.join("large"))).unwrap();
        queue.push(request(2, false, &root.join("large"))).unwrap();
        queue.push(request(3, false, &root.join("again"))).unwrap();
        queue.push(request(4, true, &root.join("small"))).unwrap();
        queue.push(request(5, true, &root.join("absent"))).unwrap();
        let answers = run(&mut queue, &roots);
        let order: Vec<u64> = answers.iter().map(|(ticket, _)| *ticket).collect();
        assert_eq!(order[..2], [4, 5], "first walks, but for the large one: {order:?}");
        assert_eq!(order[2], 3, "then the small one: {order:?}");
        let of = |ticket| answers.iter().find(|(number, _)| *number == ticket).unwrap().1;
        assert_eq!(of(1), of(2));
        assert!(of(1).unwrap() > 0 && of(4) == of(3) && of(4).unwrap() >= 10_000);
        assert_eq!(of(5), Err(Failure::NotVisible));
    }

    #[test]
    fn first_walks_without_an_end_hold_up_no_other_level() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("data");
        for number in 0..200 {
            fs::create_dir_all(root.join("large").join(number.to_string())).unwrap();
        }
        fs::create_dir_all(root.join("new")).unwrap();
        let roots = Roots::open(std::slice::from_ref(&root));
        let mut queue = Queue::default();
        queue.push(request(1, false, &root.join("large"))).unwrap();
        queue.push(request(2, false, &root.join("large"))).unwrap();
        // One walk at a larger level, where a first one may get to, beside one at the small level.
        let larger = queue.levels[1].waiting.pop_back().unwrap();
        queue.levels[3].waiting.push_back(larger);
        let mut answered = Vec::new();
        for ticket in 10..2000 {
            queue.push(request(ticket, true, &root.join("new"))).unwrap();
            let turn = Cell::new(0);
            let time = || {
                turn.set(turn.get() + 1);
                Duration::from_millis(turn.get())
            };
            answered.extend(queue.advance(&roots, Duration::from_millis(8), time).map(|(ticket, _)| ticket));
        }
        assert!(answered.contains(&1) && answered.contains(&2), "{} others", answered.len());
        let first = answered.iter().filter(|ticket| **ticket >= 10).count();
        assert!(first >= 990, "{first} of first walks: they have every second slice");
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let mut queue = Queue::default();
        for ticket in 0..MAX_WAITING as u64 {
            queue.push(request(ticket, true, "/a/b".as_ref())).unwrap();
        }
        let refused = queue.push(request(9, true, "/a/b".as_ref())).unwrap_err();
        assert_eq!(refused.ticket, 9);
        queue.push(request(9, false, "/a/b".as_ref())).unwrap();
    }

    #[test]
    fn what_is_saved_runs_at_once_and_then_a_hundredth() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let slice = Duration::from_millis(2);
        let (mut now, mut taken) = (start, Duration::ZERO);
        while now < start + Duration::from_mins(10) {
            let wait = pace.wait(true, now);
            now += wait;
            if wait.is_zero() {
                pace.take(slice);
                taken += slice;
                now += slice;
            }
        }
        let expected = CAPACITY + Duration::from_mins(10) / 100;
        assert!(taken + 2 * slice >= expected && taken <= expected + 2 * slice, "{taken:?}, expected {expected:?}");
    }

    #[test]
    fn first_walks_have_a_reserve() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.take(CAPACITY.saturating_sub(RESERVE));
        assert!(!pace.wait(false, start).is_zero() && pace.wait(true, start).is_zero());
        pace.take(RESERVE + Duration::from_millis(3));
        // Owed 3 ms, and another one saved up.
        assert!(pace.wait(true, start) >= Duration::from_millis(300));
        assert!(
            pace.wait(true, start + Duration::from_millis(301)).is_zero() || pace.wait(true, start).as_millis() <= 100
        );
        assert!(pace.wait(false, start + Duration::from_mins(10)).is_zero());
    }
}
