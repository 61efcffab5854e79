//! Finds the counter behind each key of `memory.stat`.
//!
//! The kernel numbers these counters differently in each version and configuration, and not every kernel has an interface that
//! shows the numbers. So each comparison of a file with a snapshot eliminates the counters whose value differs. A value other than 0 is
//! used only after the remaining candidates have equalled the key for [`CONFIRMATIONS`] different values, of several containers or
//! of one over time.

/// Number of different values other than 0 that must be equal before a counter is used.
const CONFIRMATIONS: u8 = 2;
/// Number of eliminations of all counters after which a key is taken to be none of them. Some keys are sums.
const MAX_RESTARTS: u8 = 4;

/// The candidates for one key.
#[derive(Debug)]
pub(super) struct StatIndex {
    /// Number of counters.
    counters: u16,
    /// Possible units of the counter in those of the file: pages, bytes or events, KiB.
    units: [u64; 3],
    candidates: Vec<Candidate>,
    confirmations: u8,
    /// The last value that was equal.
    confirmed: u64,
    /// Number of times that no candidate was left. A counter that rises and falls back between two readings eliminates itself
    /// although it is the right one.
    restarts: u8,
}

/// A counter that may be the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Candidate {
    index: u16,
    /// None until the counter has equalled a value other than 0.
    unit: Option<u64>,
}

impl StatIndex {
    /// Begins with all of `counters` as candidates. `page` is the size of a page in bytes.
    pub(super) fn new(counters: usize, page: u64) -> Self {
        let counters = u16::try_from(counters).unwrap_or(u16::MAX);
        Self {
            counters,
            units: [page, 1, 1024],
            candidates: all(counters),
            confirmations: 0,
            confirmed: 0,
            restarts: 0,
        }
    }

    /// Returns the value of the key in a snapshot, whose counters `counter` returns. None if the candidates disagree or are not
    /// confirmed.
    pub(super) fn value(&self, counter: impl Fn(usize) -> Option<u64>) -> Option<u64> {
        let mut values = self.candidates.iter().map(|candidate| candidate.value(&counter));
        let first = values.next()??;
        let is_known = first == 0 || self.confirmations >= CONFIRMATIONS;
        (is_known && values.all(|value| value == Some(first))).then_some(first)
    }

    /// Eliminates the candidates that differ from the file, whose value did not change while the snapshot was made.
    pub(super) fn eliminate(&mut self, file: u64, counter: impl Fn(usize) -> Option<u64>) {
        let units = self.units;
        self.candidates.retain_mut(|candidate| {
            let Some(count) = counter(candidate.index.into()).map(clamped) else { return false };
            if count > 0 && candidate.unit.is_none() {
                candidate.unit = units.into_iter().find(|unit| count.checked_mul(*unit) == Some(file));
            }
            candidate.value(&counter) == Some(file)
        });
        if self.candidates.is_empty() && self.restarts < MAX_RESTARTS {
            let restarts = self.restarts + 1;
            let candidates = if restarts < MAX_RESTARTS { all(self.counters) } else { Vec::new() };
            *self = Self { candidates, restarts, confirmations: 0, confirmed: 0, ..*self };
        } else if file > 0 && file != self.confirmed {
            self.confirmed = file;
            self.confirmations = self.confirmations.saturating_add(1);
        }
    }

    /// Returns whether the key is none of the counters.
    pub(super) fn is_unresolvable(&self) -> bool {
        self.candidates.is_empty()
    }
}

impl Candidate {
    /// Returns the counter in the unit of the file; none if the unit is unknown. 0 is the same in all units.
    #[inline]
    fn value(self, counter: &impl Fn(usize) -> Option<u64>) -> Option<u64> {
        match clamped(counter(self.index.into())?) {
            0 => Some(0),
            count => Some(count.saturating_mul(self.unit?)),
        }
    }
}

/// Returns a counter as the file shows it: 0 if it is negative, which a sum may be for a moment while its parts are added.
fn clamped(count: u64) -> u64 {
    if count > u64::MAX / 2 { 0 } else { count }
}

fn all(counters: u16) -> Vec<Candidate> {
    (0..counters).map(|index| Candidate { index, unit: None }).collect()
}

#[cfg(test)]
mod tests {
    use super::{MAX_RESTARTS, StatIndex};

    fn counters(counters: &[u64]) -> impl Fn(usize) -> Option<u64> {
        |index| counters.get(index).copied()
    }

    #[test]
    fn a_value_is_used_once_it_was_seen_equal_twice() {
        let mut anon = StatIndex::new(3, 4096);
        assert_eq!(anon.value(counters(&[1, 2, 0])), None);
        // The first two counters are alike here, in pages.
        anon.eliminate(8192, counters(&[2, 2, 0]));
        assert_eq!((anon.candidates.len(), anon.value(counters(&[2, 2, 0]))), (2, None));
        // The same value again is no new evidence.
        anon.eliminate(8192, counters(&[2, 2, 0]));
        assert_eq!(anon.value(counters(&[2, 2, 0])), None);
        anon.eliminate(4 * 4096, counters(&[4, 4, 0]));
        assert_eq!(anon.value(counters(&[7, 7, 1])), Some(7 * 4096));
        assert_eq!(anon.value(counters(&[7, 8, 1])), None);
        anon.eliminate(8 * 4096, counters(&[7, 8, 1]));
        assert_eq!((anon.candidates.len(), anon.value(counters(&[7, 9, 1]))), (1, Some(9 * 4096)));
    }

    #[test]
    fn what_was_always_0_is_0_where_all_candidates_are() {
        let mut swap = StatIndex::new(3, 4096);
        swap.eliminate(0, counters(&[5, 0, 0]));
        assert_eq!(swap.value(counters(&[9, 0, 0])), Some(0));
        assert_eq!(swap.value(counters(&[9, 0, 3])), None);
    }

    #[test]
    fn a_sum_of_several_is_unresolvable() {
        let mut slab = StatIndex::new(2, 4096);
        for _ in 0..MAX_RESTARTS {
            assert!(!slab.is_unresolvable());
            slab.eliminate(11, counters(&[5, 6]));
        }
        assert!(slab.is_unresolvable());
        assert_eq!(slab.value(counters(&[5, 6])), None);
    }

    #[test]
    fn what_is_below_0_is_0() {
        let mut dirty = StatIndex::new(1, 4096);
        dirty.eliminate(0, counters(&[0]));
        assert_eq!(dirty.value(counters(&[2_u64.wrapping_neg()])), Some(0));
    }

    #[test]
    fn a_unit_stays_what_it_was_first_seen_to_be() {
        let mut key = StatIndex::new(2, 4096);
        key.eliminate(4096, counters(&[1, 4096]));
        key.eliminate(8192, counters(&[8, 8192]));
        assert_eq!(key.value(counters(&[1, 3])), Some(3));
    }
}
