//! Size of the writable layer (as the engine counts it) and of the filesystem below it. Off by default: the engine walks the
//! layer's files for it, so it is asked at most every five minutes.

use super::{Collector, DiskFact, Family, Series, Source};

const fn filesystem(fact: DiskFact) -> Series {
    let source = Source::Disk(fact);
    Series::new(source, source, Source::Absent)
}

pub(super) const FAMILIES: &[Family] = &[
    Family::gauge(
        Collector::Disk,
        "container_fs_usage_bytes",
        "Size of the container's writable layer, up to five minutes old. Not before the engine has measured it.",
        &[Series::everywhere(Source::Disk(DiskFact::Usage))],
    )
    .bytes(),
    Family::gauge(
        Collector::Disk,
        "container_fs_limit_bytes",
        "Size of the filesystem that holds the container's root.",
        &[filesystem(DiskFact::Limit)],
    )
    .bytes(),
    Family::gauge(
        Collector::Disk,
        "container_fs_inodes_free",
        "Free inodes of the filesystem that holds the container's root.",
        &[filesystem(DiskFact::InodesFree)],
    ),
    Family::gauge(
        Collector::Disk,
        "container_fs_inodes_total",
        "Inodes of the filesystem that holds the container's root.",
        &[filesystem(DiskFact::Inodes)],
    ),
];
