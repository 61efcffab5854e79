//! Evidence from comparing a copy with the files, and when it suffices for the copy to replace a file.

use super::derivations::Derivation;

/// Comparisons that must agree before a copy replaces a file.
const MIN_AGREEMENTS: u8 = 3;
/// Consecutive mismatches after which a file is always read.
const MAX_MISMATCHES: u8 = 10;

/// Evidence for and against the copy of one file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    agreements: u8,
    mismatches: u8,
}

/// Outcome of comparing a copied value, or all values of a file, with two readings of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The value lies between the readings.
    Agrees,
    /// Inconclusive: the value changed too much, or there was nothing to compare.
    Unclear,
    /// The value differs from the file.
    Differs(Mismatch),
}

/// A value that differs from its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mismatch {
    pub(super) key: &'static str,
    pub(super) before: Option<u64>,
    pub(super) copy: Option<u64>,
    pub(super) after: Option<u64>,
}

impl Evidence {
    /// Returns whether the copy replaces the file.
    pub(super) fn is_enough(self) -> bool {
        self.agreements >= MIN_AGREEMENTS
    }

    /// Records a comparison. Returns whether to stop using the copy.
    pub(super) fn record(&mut self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Agrees => (self.agreements, self.mismatches) = (self.agreements.saturating_add(1), 0),
            Outcome::Unclear => {}
            Outcome::Differs(_) => (self.agreements, self.mismatches) = (0, self.mismatches.saturating_add(1)),
        }
        self.mismatches >= MAX_MISMATCHES
    }
}

impl Outcome {
    /// Returns the outcome of two values of one file.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (differs @ Self::Differs(_), _) | (_, differs @ Self::Differs(_)) => differs,
            (Self::Agrees, _) | (_, Self::Agrees) => Self::Agrees,
            (Self::Unclear, Self::Unclear) => Self::Unclear,
        }
    }
}

impl Mismatch {
    /// Compares a value with the readings before and after it. `is_present` if files of such cgroups have the key.
    pub(super) fn compare(self, derivation: Derivation, is_present: bool) -> Outcome {
        let (before, copy, after) = match (self.before, self.copy, self.after) {
            (Some(before), Some(copy), Some(after)) => (before, copy, after),
            // The value would be exposed although the file lacks the key.
            (None, Some(_), None) if is_present => return Outcome::Differs(self),
            // A key that files of such cgroups lack is not exposed, and a key that the copy lacks is read.
            _ => return Outcome::Unclear,
        };
        match (before.min(after)..=before.max(after)).contains(&copy) {
            true => Outcome::Agrees,
            // A gauge may have had any value between two different readings.
            false if derivation.is_gauge() && before != after => Outcome::Unclear,
            false => Outcome::Differs(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Derivation, Evidence, MAX_MISMATCHES, Mismatch, Outcome};
    use crate::ebpf::Number;

    const COUNTER: Derivation = Derivation::Count(Number::Periods);

    fn values(before: impl Into<Option<u64>>, copy: impl Into<Option<u64>>, after: impl Into<Option<u64>>) -> Mismatch {
        Mismatch { key: "nr_periods", before: before.into(), copy: copy.into(), after: after.into() }
    }

    #[test]
    fn a_counter_lies_between_two_readings() {
        for agrees in [values(5, 5, 5), values(5, 6, 7), values(5, 7, 7)] {
            assert_eq!(agrees.compare(COUNTER, true), Outcome::Agrees);
        }
        for differs in [values(5, 4, 5), values(5, 8, 7), values(5, 0, 7)] {
            assert_eq!(differs.compare(COUNTER, true), Outcome::Differs(differs));
        }
    }

    #[test]
    fn a_gauge_is_wrong_only_where_it_stood_still() {
        let gauge = Derivation::Pages(Number::MemoryUsage);
        assert_eq!(values(5, 9, 5).compare(gauge, true), Outcome::Differs(values(5, 9, 5)));
        assert_eq!(values(5, 9, 6).compare(gauge, true), Outcome::Unclear);
        assert_eq!(values(6, 5, 5).compare(gauge, true), Outcome::Agrees);
    }

    #[test]
    fn what_either_side_lacks_is_not_compared() {
        assert_eq!(values(None, 1, None).compare(COUNTER, false), Outcome::Unclear);
        assert_eq!(values(None, 1, 1).compare(COUNTER, true), Outcome::Unclear);
        assert_eq!(values(1, None, 1).compare(COUNTER, true), Outcome::Unclear);
    }

    #[test]
    fn what_the_file_does_not_have_must_not_be_exposed() {
        assert_eq!(values(None, 1, None).compare(COUNTER, true), Outcome::Differs(values(None, 1, None)));
    }

    #[test]
    fn a_copy_serves_after_three_agreements_and_not_after_a_mismatch() {
        let mut evidence = Evidence::default();
        let served = [(); 3].map(|()| {
            evidence.record(Outcome::Agrees);
            evidence.is_enough()
        });
        assert_eq!(served, [false, false, true]);
        evidence.record(Outcome::Unclear);
        assert!(evidence.is_enough());
        let differs = Outcome::Differs(values(1, 2, 1));
        assert!(!evidence.record(differs) && !evidence.is_enough());
        evidence.record(Outcome::Agrees);
        let given_up: Vec<bool> = (0..MAX_MISMATCHES).map(|_| evidence.record(differs)).collect();
        assert_eq!(given_up.iter().position(|given_up| *given_up), Some(usize::from(MAX_MISMATCHES) - 1));
    }
}
