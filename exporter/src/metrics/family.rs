//! The shape of a row: families and their series; sets of families; labels as exposed.

use super::{Collector, CollectorSet, DOCKER_STATS_FAMILIES, Dimension, FAMILIES, HostFact, Limit, Probed, Source};

/// A metric family: its name, help, type and unit, and the sources of its series. Families of one name are one in the exposition.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Name as exposed in text 0.0.4, `_total` included.
    pub name: &'static str,
    /// One line of help: what the value is, and what is special about it.
    pub help: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Unit of the exposed number.
    pub unit: Unit,
    /// The collector it belongs to.
    pub collector: Collector,
    /// Exposed only for containers that have this limit.
    pub given: Option<Limit>,
    /// One for each set of fixed labels.
    pub series: &'static [Series],
}

/// The metric types of Prometheus that the exporter uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Never falls while the container lives.
    Counter,
    /// May rise and fall.
    Gauge,
    /// Counts of values by upper bound, and the sum of all values.
    Histogram,
    /// Unknown: the predecessor's values, which are counters and gauges.
    Untyped,
}

/// The unit of the exposed number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// A plain number.
    None,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Nanoseconds: only the predecessor's values.
    Nanoseconds,
    /// Ticks of 10 ms (`USER_HZ`): only the predecessor's values.
    Ticks,
    /// Microseconds: only cAdvisor's CPU quota and period.
    Microseconds,
}

impl Unit {
    /// Returns the word that OpenMetrics wants at the end of a name; none for a unit that it does not know.
    #[must_use]
    pub const fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Bytes => Some("bytes"),
            Self::Seconds => Some("seconds"),
            _ => None,
        }
    }

    /// Returns the decimal places of a second in this unit: 9 for nanoseconds. The exposed number is the raw value shifted from its own
    /// exponent ([`Exponents`]) to this one.
    #[must_use]
    pub const fn exponent(self) -> u8 {
        match self {
            Self::Ticks => 2,
            Self::Microseconds => 6,
            Self::Nanoseconds => 9,
            Self::None | Self::Bytes | Self::Seconds => 0,
        }
    }
}

/// What happens to a value of 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zero {
    /// Exposed like any value.
    Keep,
    /// Left out, for events that few containers ever have: all others need no series.
    Omit,
}

/// One series of a family: its fixed labels, and its source on every kind of host.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    /// Labels beside those of the container, as exposed: `event="oom"`. Empty for none.
    pub labels: &'static str,
    /// Source on cgroup v2.
    pub v2: Source,
    /// Source on cgroup v1.
    pub v1: Source,
    /// Source in the engine's stats API.
    pub api: Source,
    /// Source for the host as a whole.
    pub host: HostFact,
    /// Decimal exponents of the raw values.
    pub exponents: Exponents,
    /// What happens to a value of 0.
    pub zero: Zero,
    /// Left out where the container has samples of this dimension, as a sum is not exposed beside its parts.
    pub unless: Option<Dimension>,
    /// The eBPF count that fills in for a device which the files do not list.
    pub filled: Option<Probed>,
}

/// Decimal places of a raw value, per source: 9 for nanoseconds, 6 for microseconds, 2 for ticks, 0 for plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exponents {
    /// Of the v2 source.
    pub v2: u8,
    /// Of the v1 source.
    pub v1: u8,
    /// Of the API source.
    pub api: u8,
}

impl Family {
    const fn new(
        kind: Kind,
        collector: Collector,
        name: &'static str,
        help: &'static str,
        series: &'static [Series],
    ) -> Self {
        Self { name, help, kind, unit: Unit::None, collector, given: None, series }
    }

    pub(super) const fn counter(
        collector: Collector,
        name: &'static str,
        help: &'static str,
        series: &'static [Series],
    ) -> Self {
        Self::new(Kind::Counter, collector, name, help, series)
    }

    pub(super) const fn gauge(
        collector: Collector,
        name: &'static str,
        help: &'static str,
        series: &'static [Series],
    ) -> Self {
        Self::new(Kind::Gauge, collector, name, help, series)
    }

    pub(super) const fn histogram(
        collector: Collector,
        name: &'static str,
        help: &'static str,
        series: &'static [Series],
    ) -> Self {
        Self::new(Kind::Histogram, collector, name, help, series)
    }

    pub(super) const fn untyped(collector: Collector, name: &'static str, series: &'static [Series]) -> Self {
        Self::new(Kind::Untyped, collector, name, "As the predecessor gave it.", series)
    }

    /// Sets the unit.
    pub(super) const fn unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    pub(super) const fn bytes(self) -> Self {
        self.unit(Unit::Bytes)
    }

    pub(super) const fn seconds(self) -> Self {
        self.unit(Unit::Seconds)
    }

    /// Exposes the family only for containers that have this limit.
    pub(super) const fn given(self, limit: Limit) -> Self {
        Self { given: Some(limit), ..self }
    }
}

impl Series {
    /// Returns a series of plain numbers from these sources.
    pub(super) const fn new(v2: Source, v1: Source, api: Source) -> Self {
        Self {
            labels: "",
            v2,
            v1,
            api,
            host: HostFact::None,
            exponents: Exponents { v2: 0, v1: 0, api: 0 },
            zero: Zero::Keep,
            unless: None,
            filled: None,
        }
    }

    /// Returns a series that has the same source everywhere.
    pub(super) const fn everywhere(source: Source) -> Self {
        Self::new(source, source, source)
    }

    /// Sets the fixed labels, as exposed.
    pub(super) const fn labels(self, labels: &'static str) -> Self {
        Self { labels, ..self }
    }

    /// Leaves a value of 0 out.
    pub(super) const fn omit_zero(self) -> Self {
        Self { zero: Zero::Omit, ..self }
    }

    /// Leaves the series out where the container has samples of this dimension.
    pub(super) const fn unless(self, dimension: Dimension) -> Self {
        Self { unless: Some(dimension), ..self }
    }

    /// Sets the eBPF count for devices that the files do not list.
    pub(super) const fn filled(self, probed: Probed) -> Self {
        Self { filled: Some(probed), ..self }
    }

    /// Sets the source for the host as a whole.
    pub(super) const fn host(self, host: HostFact) -> Self {
        Self { host, ..self }
    }

    /// Sets the decimal places of the raw values.
    pub(super) const fn exponents(self, v2: u8, v1: u8, api: u8) -> Self {
        Self { exponents: Exponents { v2, v1, api }, ..self }
    }
}

/// Room for the families of both schemas; a test counts them.
const WORDS: usize = 6;

/// A set of families of either schema.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FamilySet([u64; WORDS]);

/// Returns every family of both schemas. The index of a family is its number.
fn families() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().chain(DOCKER_STATS_FAMILIES).copied().flatten()
}

impl Family {
    /// Returns the family's number, which is its place in a [`FamilySet`].
    #[must_use]
    pub fn number(&self) -> u16 {
        let is_self = |other: &Family| other.name == self.name && other.collector == self.collector;
        families().position(is_self).and_then(|index| u16::try_from(index).ok()).unwrap_or(u16::MAX)
    }
}

impl FamilySet {
    /// No family.
    pub const EMPTY: Self = Self([0; WORDS]);
    /// Every family.
    pub const ALL: Self = Self([u64::MAX; WORDS]);

    /// Returns those of these families whose collectors are in the set.
    #[must_use]
    pub fn of(families: &[&'static [Family]], collectors: CollectorSet) -> Self {
        let mut set = Self::EMPTY;
        let wanted = families.iter().copied().flatten().filter(|family| collectors.has(family.collector));
        wanted.for_each(|family| set.insert(family.number()));
        set
    }

    /// Returns the families of these collectors, of both schemas.
    #[must_use]
    pub fn of_collectors(collectors: CollectorSet) -> Self {
        Self::matching(|family| collectors.has(family.collector))
    }

    /// Returns the families for which the condition is true.
    pub fn matching(is_wanted: impl Fn(&Family) -> bool) -> Self {
        let mut set = Self::EMPTY;
        families().zip(0..).filter(|(family, _)| is_wanted(family)).for_each(|(_, number)| set.insert(number));
        set
    }

    /// Returns the members, in the order of the exposition.
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

    /// Returns whether the sets have a family in common.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).any(|(word, other)| word & other != 0)
    }

    /// Returns whether the family of this number is in the set.
    #[must_use]
    pub fn has(&self, number: u16) -> bool {
        let number = usize::from(number);
        self.0.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// Returns the families that are in either set.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
        self
    }

    /// Returns the families that are in both sets.
    #[must_use]
    pub fn intersection(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
        self
    }

    /// Returns the families of this set that are not in the other one.
    #[must_use]
    pub fn difference(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= !other);
        self
    }

    /// Returns whether all families of this set are in the other one.
    #[must_use]
    pub fn is_part_of(self, other: Self) -> bool {
        self.intersection(other) == self
    }

    /// Returns the collectors of the families.
    #[must_use]
    pub fn collectors(&self) -> CollectorSet {
        self.families().map(|family| family.collector).collect()
    }
}

/// Appends a label value with `\`, `"` and line feeds escaped, as both text formats want it.
pub fn escape_label(value: &str, out: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str(r"\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str(r"\n"),
            other => out.push(other),
        }
    }
}

/// Appends the label `name="value"`, after a comma where `out` has a label already.
pub fn push_label(name: &str, value: &str, out: &mut String) {
    if !out.is_empty() {
        out.push(',');
    }
    out.push_str(name);
    out.push_str("=\"");
    escape_label(value, out);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::{Collector, FamilySet, WORDS, escape_label, families};

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

    #[test]
    fn hostile_values_stay_one_label() {
        let mut out = String::new();
        escape_label("a\"b\\c\nd", &mut out);
        assert_eq!(out, r#"a\"b\\c\nd"#);
    }
}
