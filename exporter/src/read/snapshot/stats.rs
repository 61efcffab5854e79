//! Which of the counters behind `memory.stat` is which key: found out on the running kernel, and never taken on trust.
//!
//! The kernel numbers them anew with each version and configuration, and nothing that all kernels have tells how. So at first
//! every counter may be every key. Each time a file is read on both sides of a snapshot and has not changed between, those
//! that have another value are struck off. A key is told wherever all counters that it may still be agree: whichever is the
//! right one, that is its value. Where they do not, the file is read, and the container is looked at next.

/// A key and what it may be.
#[derive(Debug)]
pub(super) struct Stat {
    candidates: Vec<Candidate>,
    units: [u64; UNITS],
    /// Times that nothing was left: a counter that rose and fell back between two readings strikes the right one off.
    begun_anew: u8,
}

/// A counter, and what the file may multiply it by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Candidate {
    place: u16,
    /// A bit for each of the units; see [`units`].
    units: u8,
}

/// More candidates than these are looked at for being nothing before they are compared.
const FEW: usize = 3;
/// Beginnings after which a key is none of the counters: some keys are sums of several.
const TRIES: u8 = 4;

impl Stat {
    /// May be any of so many counters: of pages, of bytes or events, or of KiB.
    pub(super) fn new(counters: usize, page: u64) -> Self {
        Self { candidates: all(counters), units: units(page), begun_anew: 0 }
    }

    /// Its value in a snapshot whose counters `stat` gives; none where that is not sure.
    pub(super) fn value(&self, stat: impl Fn(usize) -> Option<u64>) -> Option<u64> {
        // Where many are left, they have all been nothing so far: nothing is the same in all units.
        if self.candidates.len() > FEW
            && self.candidates.iter().all(|candidate| stat(candidate.place.into()) == Some(0))
        {
            return Some(0);
        }
        let mut values = self.candidates.iter().map(|candidate| candidate.value(&self.units, &stat));
        let first = values.next()??;
        values.all(|value| value == Some(first)).then_some(first)
    }

    /// Strikes off what has another value than the file, which did not change while the snapshot was taken.
    pub(super) fn narrow(&mut self, file: u64, counters: usize, stat: impl Fn(usize) -> Option<u64>) {
        let units = self.units;
        self.candidates.retain_mut(|candidate| {
            let counted = stat(candidate.place.into()).map(settled);
            for (bit, unit) in units.iter().enumerate() {
                if counted.map(|counted| counted.saturating_mul(*unit)) != Some(file) {
                    candidate.units &= !(1 << bit);
                }
            }
            candidate.units != 0
        });
        if self.candidates.is_empty() && self.begun_anew < TRIES {
            self.begun_anew += 1;
            if self.begun_anew < TRIES {
                self.candidates = all(counters);
            }
        }
    }

    /// Whether it is none of the counters.
    pub(super) fn is_hopeless(&self) -> bool {
        self.candidates.is_empty()
    }
}

impl Candidate {
    /// None where it may be several: only nothing is the same in all units.
    #[inline]
    fn value(self, units: &[u64; UNITS], stat: &impl Fn(usize) -> Option<u64>) -> Option<u64> {
        let counted = settled(stat(self.place.into())?);
        if counted == 0 {
            return Some(0);
        }
        let unit = units.get(self.units.trailing_zeros() as usize)?;
        self.units.is_power_of_two().then(|| counted.saturating_mul(*unit))
    }
}

/// Parts of a sum that are added up late may make it negative for a moment: the file shows 0 then.
fn settled(counted: u64) -> u64 {
    if counted > u64::MAX / 2 { 0 } else { counted }
}

const UNITS: usize = 3;

/// Pages; bytes or events; KiB.
fn units(page: u64) -> [u64; UNITS] {
    [page, 1, 1024]
}

fn all(counters: usize) -> Vec<Candidate> {
    let counters = u16::try_from(counters).unwrap_or(u16::MAX);
    (0..counters).map(|place| Candidate { place, units: (1 << UNITS) - 1 }).collect()
}

#[cfg(test)]
mod tests {
    use super::{Stat, TRIES};

    fn stat(counters: &[u64]) -> impl Fn(usize) -> Option<u64> {
        |place| counters.get(place).copied()
    }

    #[test]
    fn a_key_is_told_where_all_that_it_may_be_agree() {
        let mut anon = Stat::new(3, 4096);
        assert_eq!(anon.value(stat(&[1, 2, 0])), None);
        // Two counters are alike here, in pages.
        anon.narrow(8192, 3, stat(&[2, 2, 0]));
        assert_eq!((anon.candidates.len(), anon.value(stat(&[7, 7, 1]))), (2, Some(7 * 4096)));
        assert_eq!(anon.value(stat(&[7, 8, 1])), None);
        anon.narrow(8 * 4096, 3, stat(&[7, 8, 1]));
        assert_eq!((anon.candidates.len(), anon.value(stat(&[7, 9, 1]))), (1, Some(9 * 4096)));
    }

    #[test]
    fn what_is_nowhere_anything_is_nothing_everywhere() {
        let mut swap = Stat::new(3, 4096);
        swap.narrow(0, 3, stat(&[5, 0, 0]));
        assert_eq!(swap.value(stat(&[9, 0, 0])), Some(0));
        assert_eq!(swap.value(stat(&[9, 0, 3])), None);
    }

    #[test]
    fn a_sum_of_several_is_given_up() {
        let mut slab = Stat::new(2, 4096);
        for _ in 0..TRIES {
            assert!(!slab.is_hopeless());
            slab.narrow(11, 2, stat(&[5, 6]));
        }
        assert!(slab.is_hopeless());
        assert_eq!(slab.value(stat(&[5, 6])), None);
    }

    #[test]
    fn what_is_below_nothing_is_nothing() {
        let mut dirty = Stat::new(1, 4096);
        dirty.narrow(0, 1, stat(&[0]));
        assert_eq!(dirty.value(stat(&[2_u64.wrapping_neg()])), Some(0));
    }
}
