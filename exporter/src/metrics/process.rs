//! Open files of a container's processes: a directory walk per process, hence off by default.

use super::{Collector, Family, ProcessFact, Series, Source};

const fn process(fact: ProcessFact) -> Series {
    let source = Source::Process(fact);
    Series::new(source, source, Source::Absent)
}

pub(super) const FAMILIES: &[Family] = &[
    Family::gauge(
        Collector::Process,
        "container_file_descriptors",
        "Open file descriptors of all processes.",
        &[process(ProcessFact::FileDescriptors)],
    ),
    Family::gauge(
        Collector::Process,
        "container_sockets",
        "Open sockets of all processes.",
        &[process(ProcessFact::Sockets)],
    ),
    Family::gauge(
        Collector::Process,
        "container_ulimits_soft",
        "Soft limits of the container's first process. Absent where not limited.",
        &[process(ProcessFact::OpenFilesLimit).labels(r#"ulimit="max_open_files""#)],
    ),
];
