//! Compares a value of a snapshot with what its file said before and after.

use std::fs::File;

use super::recipes::Recipe;
use crate::metrics::Dimension;
use crate::read::plan::PlannedFile;
use crate::read::sample::Sample;

/// A container's files before and after a snapshot.
#[derive(Debug)]
pub(super) struct Bracket {
    pub(super) place: usize,
    /// Those of the planned files that snapshots stand in for.
    pub(super) files: Vec<(usize, File)>,
    pub(super) before: Sample,
    pub(super) after: Sample,
}

/// What comparing a value came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is what the file says.
    Agrees,
    /// It moved too much to tell.
    Unclear,
    /// It is not.
    Differs,
}

/// A value that is not what its file says.
#[derive(Debug)]
pub(super) struct Difference {
    /// Of which container.
    pub(super) life: u64,
    pub(super) file: usize,
    pub(super) key: &'static str,
    pub(super) before: Option<u64>,
    pub(super) snapshot: Option<u64>,
    pub(super) after: Option<u64>,
}

impl Difference {
    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        (self.life, self.file, self.key) == (other.life, other.file, other.key)
    }
}

/// Whether a value is what the file said before and after; `is_known` where files of such cgroups have it.
pub(super) fn judge(
    recipe: Recipe,
    is_known: bool,
    before: Option<u64>,
    told: Option<u64>,
    after: Option<u64>,
) -> Verdict {
    let (before, told, after) = match (before, told, after) {
        (Some(before), Some(told), Some(after)) => (before, told, after),
        // It would be filled in, and the file does not have it.
        (None, Some(_), None) if is_known => return Verdict::Differs,
        // What files of such cgroups do not have is not filled in, and what a snapshot cannot tell is read.
        _ => return Verdict::Unclear,
    };
    match (before.min(after)..=before.max(after)).contains(&told) {
        true => Verdict::Agrees,
        // What may fall may have been anything between two readings that are not alike.
        false if recipe.is_gauge() && before != after => Verdict::Unclear,
        false => Verdict::Differs,
    }
}

/// The first value of a device that is not between the readings.
pub(super) fn compare_devices(
    life: u64,
    place: usize,
    file: &PlannedFile,
    bracket: &Bracket,
    sample: &Sample,
) -> Option<Difference> {
    let table = |sample: &Sample, key, column| sample.table(Dimension::Device).get(key, column);
    file.targets.iter().zip(&file.keys).find_map(|(column, key)| {
        let told = bracket.after.table(Dimension::Device).column(*column);
        told.into_iter().find_map(|(device, after)| {
            let before = table(&bracket.before, device, *column);
            let snapshot = table(sample, device, *column);
            let is_between = snapshot.map_or(before.is_none(), |value| value >= before.unwrap_or(0) && value <= after);
            (!is_between).then_some(Difference { life, file: place, key, before, snapshot, after: Some(after) })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{Recipe, Verdict, judge};
    use crate::ebpf::Number;

    #[test]
    fn a_counter_lies_between_two_readings() {
        let counter = Recipe::Count(Number::Periods);
        let verdict = |before, told, after| judge(counter, true, Some(before), Some(told), Some(after));
        assert_eq!([verdict(5, 5, 5), verdict(5, 6, 7), verdict(5, 7, 7)], [Verdict::Agrees; 3]);
        assert_eq!([verdict(5, 4, 5), verdict(5, 8, 7), verdict(5, 0, 7)], [Verdict::Differs; 3]);
    }

    #[test]
    fn a_gauge_is_wrong_only_where_it_stood_still() {
        let gauge = Recipe::Pages(Number::MemoryUsage);
        assert_eq!(judge(gauge, true, Some(5), Some(9), Some(5)), Verdict::Differs);
        assert_eq!(judge(gauge, true, Some(5), Some(9), Some(6)), Verdict::Unclear);
        assert_eq!(judge(gauge, true, Some(6), Some(5), Some(5)), Verdict::Agrees);
    }

    #[test]
    fn what_either_side_lacks_is_not_compared() {
        let counter = Recipe::Count(Number::Periods);
        assert_eq!(judge(counter, false, None, Some(1), None), Verdict::Unclear);
        assert_eq!(judge(counter, true, None, Some(1), Some(1)), Verdict::Unclear);
        assert_eq!(judge(counter, true, Some(1), None, Some(1)), Verdict::Unclear);
    }

    #[test]
    fn what_the_file_does_not_have_must_not_be_filled_in() {
        assert_eq!(judge(Recipe::Count(Number::Periods), true, None, Some(1), None), Verdict::Differs);
    }
}
