//! Pressure stall information: `*.pressure` of every v2 cgroup (Linux 4.20, `CONFIG_PSI`), on hybrid hosts in `unified`.

use super::Source::{Absent, Psi};
use super::{Collector, Controller, Family, File, HostFact, Series};

const fn stall(file: &'static str, line: &'static str, host: HostFact) -> Series {
    let source = Psi(File::new(Controller::Core, file), line);
    Series::new(source, source, Absent).exponents(6, 6, 0).host(host)
}

macro_rules! pressure {
    ($($resource:literal $kind:literal $line:literal $host:ident $help:literal;)*) => {
        &[$(Family::counter(
            Collector::Pressure,
            concat!("container_pressure_", $resource, "_", $kind, "_seconds_total"),
            $help,
            &[stall(concat!($resource, ".pressure"), $line, host::$host($resource, $line))],
        )
        .seconds(),)*]
    };
}

/// The host's source.
mod host {
    use crate::metrics::HostFact;

    pub(super) const fn file(resource: &'static str, line: &'static str) -> HostFact {
        HostFact::Pressure(resource, line)
    }

    /// Not defined for the whole system: the kernel writes 0.
    pub(super) const fn none(_: &str, _: &str) -> HostFact {
        HostFact::None
    }
}

pub(super) const FAMILIES: &[Family] = pressure! {
    "cpu" "waiting" "some" file "Time in which at least one task waited for a CPU (PSI some).";
    "cpu" "stalled" "full" none "Time in which every task waited for a CPU (PSI full, Linux 5.13).";
    "memory" "waiting" "some" file "Time in which at least one task waited for memory (PSI some).";
    "memory" "stalled" "full" file "Time in which every task waited for memory (PSI full).";
    "io" "waiting" "some" file "Time in which at least one task waited for I/O (PSI some).";
    "io" "stalled" "full" file "Time in which every task waited for I/O (PSI full).";
};
