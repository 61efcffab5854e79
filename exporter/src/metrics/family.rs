//! The shape of a row.

use super::{Collector, Dimension, HostFact, Limit, Probed, Source};

/// A metric family: one name, help, type and unit, and the series that carry it.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Name as exposed in text 0.0.4, `_total` included.
    pub name: &'static str,
    /// One line of help; names what is special about the value.
    pub help: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Unit in which it is exposed.
    pub unit: Unit,
    /// The collector it belongs to.
    pub collector: Collector,
    /// Exposed only for containers that have this limit.
    pub given: Option<Limit>,
    /// The series.
    pub series: &'static [Series],
}

/// Prometheus' metric types, as far as we use them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Never falls while the container lives.
    Counter,
    /// May rise and fall.
    Gauge,
    /// How often a value was within each of some bounds, and the sum of all.
    Histogram,
    /// Unknown: the predecessor's values, which mix both.
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
    /// The word that OpenMetrics wants at the end of a name, where it knows the unit.
    #[must_use]
    pub const fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Bytes => Some("bytes"),
            Self::Seconds => Some("seconds"),
            _ => None,
        }
    }

    /// How many decimal digits the kernel's seconds have in this unit: the exposed number is the value shifted from its
    /// own exponent to this one.
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

/// What a 0 means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zero {
    /// Exposed like any value.
    Keep,
    /// Left out: the event needs a configuration that few containers have, and its series would be ballast for the rest.
    Omit,
}

/// One series of a family: its fixed labels and its source on every kind of host.
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
    /// Left out where the container has samples of this dimension: the sum is not exposed beside its parts.
    pub unless: Option<Dimension>,
    /// What the values per device come from where the files tell nothing of a device that a probe has seen at work.
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

    pub(super) const fn unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    pub(super) const fn bytes(self) -> Self {
        self.unit(Unit::Bytes)
    }

    pub(super) const fn seconds(self) -> Self {
        self.unit(Unit::Seconds)
    }

    pub(super) const fn given(self, limit: Limit) -> Self {
        Self { given: Some(limit), ..self }
    }
}

impl Series {
    /// A series of plain numbers from these sources.
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

    /// The same source everywhere.
    pub(super) const fn everywhere(source: Source) -> Self {
        Self::new(source, source, source)
    }

    pub(super) const fn labels(self, labels: &'static str) -> Self {
        Self { labels, ..self }
    }

    pub(super) const fn omit_zero(self) -> Self {
        Self { zero: Zero::Omit, ..self }
    }

    pub(super) const fn unless(self, dimension: Dimension) -> Self {
        Self { unless: Some(dimension), ..self }
    }

    pub(super) const fn filled(self, probed: Probed) -> Self {
        Self { filled: Some(probed), ..self }
    }

    pub(super) const fn host(self, host: HostFact) -> Self {
        Self { host, ..self }
    }

    pub(super) const fn exponents(self, v2: u8, v1: u8, api: u8) -> Self {
        Self { exponents: Exponents { v2, v1, api }, ..self }
    }
}
