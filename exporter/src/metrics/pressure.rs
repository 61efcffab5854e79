//! Pressure stall information (PSI): the rows of the collector `pressure`.
//!
//! Every v2 cgroup has the files `*.pressure` (Linux 4.20, `CONFIG_PSI`), on hybrid hosts in the tree `unified`.

use super::Source::{Absent, Psi};
use super::{Collector, Controller, Family, File, HostFact, Series};

const fn stall(file: &'static str, line: &'static str, host: HostFact) -> Series {
    let source = Psi(File::new(Controller::Core, file), line);
    Series::new(source, source, Absent).exponents(6, 6, 0).host(host)
}

/// `/proc/pressure/<resource>`.
const fn procfs(resource: &'static str, line: &'static str) -> HostFact {
    HostFact::Pressure(resource, line)
}

/// No source, for a line that is 0 in `/proc/pressure`: the kernel does not define it for the whole system.
const fn none(_resource: &str, _line: &str) -> HostFact {
    HostFact::None
}

macro_rules! pressure {
    ($($resource:literal $kind:literal $line:literal $host:ident $help:literal;)*) => {
        &[$(Family::counter(
            Collector::Pressure,
            concat!("container_pressure_", $resource, "_", $kind, "_seconds_total"),
            $help,
            &[stall(concat!($resource, ".pressure"), $line, $host($resource, $line))],
        )
        .seconds(),)*]
    };
}

pub(super) const ROWS: &[Family] = pressure! {
    "cpu" "waiting" "some" procfs "Time in which at least one task waited for a CPU (PSI some).";
    "cpu" "stalled" "full" none "Time in which every task waited for a CPU (PSI full, Linux 5.13).";
    "memory" "waiting" "some" procfs "Time in which at least one task waited for memory (PSI some).";
    "memory" "stalled" "full" procfs "Time in which every task waited for memory (PSI full).";
    "io" "waiting" "some" procfs "Time in which at least one task waited for I/O (PSI some).";
    "io" "stalled" "full" procfs "Time in which every task waited for I/O (PSI full).";
};
