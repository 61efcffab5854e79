//! What a container has written, and the filesystem below it; and the host's filesystems.

use super::{Collector, DiskFact, Family, HostFact, Series, Source};

const fn filesystem(fact: DiskFact) -> Series {
    let source = Source::Disk(fact);
    Series::everywhere(source).host(HostFact::Filesystems)
}

pub(super) const FAMILIES: &[Family] = &[
    Family::gauge(
        Collector::Disk,
        "container_fs_usage_bytes",
        "Bytes on disk of the container's writable layer and of its log, as du counts them, a minute old or more where there are many files. \
         Of the host (id=\"/\"): what is not free, per block device or pool.",
        &[filesystem(DiskFact::Usage)],
    )
    .bytes(),
    Family::gauge(
        Collector::Disk,
        "container_fs_limit_bytes",
        "Size of the filesystem that holds the container's root, or its quota; of the host, of each filesystem.",
        &[filesystem(DiskFact::Limit)],
    )
    .bytes(),
    Family::gauge(
        Collector::Disk,
        "container_fs_inodes_free",
        "Free inodes of the filesystem that holds the container's root; of the host, of each filesystem.",
        &[filesystem(DiskFact::InodesFree)],
    ),
    Family::gauge(
        Collector::Disk,
        "container_fs_inodes_total",
        "Inodes of the filesystem that holds the container's root; of the host, of each filesystem.",
        &[filesystem(DiskFact::Inodes)],
    ),
];
