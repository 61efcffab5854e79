//! A set of families: which of the table's rows somebody asks for.

use super::{CollectorSet, DOCKER_STATS_FAMILIES, FAMILIES, Family};

/// Room for the families of both schemas; a test counts them.
const WORDS: usize = 6;

/// A set of families of either schema.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FamilySet([u64; WORDS]);

/// Every family of both schemas; the index of one is its number.
fn families() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().chain(DOCKER_STATS_FAMILIES).copied().flatten()
}

impl Family {
    /// Returns the number under which [`FamilySet`] knows it.
    #[must_use]
    pub fn number(&self) -> u16 {
        let is_it = |other: &Family| other.name == self.name && other.collector == self.collector;
        families().position(is_it).and_then(|index| u16::try_from(index).ok()).unwrap_or(u16::MAX)
    }
}

impl FamilySet {
    /// No family.
    pub const EMPTY: Self = Self([0; WORDS]);
    /// Every family.
    pub const ALL: Self = Self([u64::MAX; WORDS]);

    /// Returns these families, as far as their collectors are wanted.
    #[must_use]
    pub fn of(families: &[&'static [Family]], collectors: CollectorSet) -> Self {
        let mut set = Self::EMPTY;
        let wanted = families.iter().copied().flatten().filter(|family| collectors.has(family.collector));
        wanted.for_each(|family| set.insert(family.number()));
        set
    }

    /// Returns the families of both schemas that these collectors have.
    #[must_use]
    pub fn of_collectors(collectors: CollectorSet) -> Self {
        Self::matching(|family| collectors.has(family.collector))
    }

    /// Returns the families that a condition is true for.
    pub fn matching(is_wanted: impl Fn(&Family) -> bool) -> Self {
        let mut set = Self::EMPTY;
        families().zip(0..).filter(|(family, _)| is_wanted(family)).for_each(|(_, number)| set.insert(number));
        set
    }

    /// Returns its members, in the order of the exposition.
    pub fn families(&self) -> impl Iterator<Item = &'static Family> {
        families().zip(0..).filter(|(_, number)| self.has(*number)).map(|(family, _)| family)
    }

    /// Adds the family of this number.
    pub fn insert(&mut self, number: u16) {
        let number = usize::from(number);
        if let Some(word) = self.0.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }

    /// Whether the sets have a family in common.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).any(|(word, other)| word & other != 0)
    }

    /// Whether the family of this number is in the set.
    #[must_use]
    pub fn has(&self, number: u16) -> bool {
        let number = usize::from(number);
        self.0.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// Returns what is in either set.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
        self
    }

    /// Returns what is in both sets.
    #[must_use]
    pub fn intersection(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
        self
    }

    /// Returns what is in this set and not in the other one.
    #[must_use]
    pub fn difference(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= !other);
        self
    }

    /// Whether everything in this set is in the other one, too.
    #[must_use]
    pub fn is_part_of(self, other: Self) -> bool {
        self.intersection(other) == self
    }

    /// Returns the collectors of its families.
    #[must_use]
    pub fn collectors(&self) -> CollectorSet {
        self.families().map(|family| family.collector).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{FamilySet, WORDS, families};
    use crate::metrics::Collector;

    #[test]
    fn there_is_room_for_every_family() {
        assert!(families().count() <= WORDS * 64, "raise WORDS: {} families", families().count());
    }

    #[test]
    fn a_family_is_found_by_its_number() {
        let set = FamilySet::matching(|family| family.name == "container_memory_rss");
        let members: Vec<_> = families().filter(|family| set.has(family.number())).map(|family| family.name).collect();
        assert_eq!(members, ["container_memory_rss"]);
        assert_eq!(set.collectors().iter().collect::<Vec<_>>(), [Collector::Memory]);
        assert!(set.is_part_of(FamilySet::ALL) && FamilySet::EMPTY.is_part_of(set) && !FamilySet::ALL.is_part_of(set));
        assert_eq!(set.union(FamilySet::EMPTY), set);
    }
}
