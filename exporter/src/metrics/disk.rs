//! Block I/O per device, and what is on disk: the rows of the collectors `blkio` and `disk`, in this order.
//!
//! Block I/O comes from `io.stat` (v2) and `blkio.*` (v1). On v1 kernel and I/O scheduler decide which files count: those of the throttle
//! policy, of BFQ (Linux 5.0), or of CFQ (before 5.0). A device's value is the largest of them, which does not fall when another file
//! begins to count. Many kernels count only on devices on which some cgroup has a limit; the eBPF program of `ebpf_blkio` fills in.

use super::BlockOperation::{Discard, Read, Write};
use super::DiskField::{BytesDiscarded, BytesRead, BytesWritten, Discards, Reads, Writes};
use super::Source::{JsonDevice, Nested, Operation};
use super::{
    BlockCount, BlockOperation, Collector, Controller, DiskFact, DiskField, Family, File, HostFact, Probed, Series,
    Source,
};

pub(super) const IO_STAT: File = File::new(Controller::Io, "io.stat");

/// The files of one count on v1. The recursive ones count the cgroups below, too (throttle: Linux 4.20). Kernels without them
/// count the cgroup alone.
macro_rules! v1_files {
    ($count:literal) => {
        &[
            File::new(Controller::Io, concat!("blkio.throttle.", $count, "_recursive"))
                .or(concat!("blkio.throttle.", $count)),
            File::new(Controller::Io, concat!("blkio.bfq.", $count, "_recursive")).or(concat!("blkio.bfq.", $count)),
            File::new(Controller::Io, concat!("blkio.", $count, "_recursive")).or(concat!("blkio.", $count)),
        ]
    };
}
const BYTES: &[File] = v1_files!("io_service_bytes");
const OPERATIONS: &[File] = v1_files!("io_serviced");

/// Bytes per device: a key of `io.stat` on v2, an operation on v1 and of the engine.
const fn bytes(v2: &'static str, v1: &'static str, operation: BlockOperation, host: DiskField) -> Series {
    Series::new(Nested(IO_STAT, v2), Operation(BYTES, v1), JsonDevice("/blkio_stats/io_service_bytes_recursive", v1))
        .filled(Probed::Block(BlockCount::Bytes, operation))
        .host(HostFact::Disk(host))
}

/// Operations per device, from the same sources.
const fn operations(v2: &'static str, v1: &'static str, operation: BlockOperation, host: DiskField) -> Series {
    Series::new(Nested(IO_STAT, v2), Operation(OPERATIONS, v1), JsonDevice("/blkio_stats/io_serviced_recursive", v1))
        .filled(Probed::Block(BlockCount::Operations, operation))
        .host(HostFact::Disk(host))
}

const fn on_disk(fact: DiskFact) -> Series {
    Series::everywhere(Source::Disk(fact)).host(HostFact::Filesystems)
}

pub(super) const ROWS: &[Family] = &[
    Family::counter(
        Collector::Blkio,
        "container_fs_reads_bytes_total",
        "Bytes read from the block device, the page cache's hits not counted.",
        &[bytes("rbytes", "Read", Read, BytesRead)],
    )
    .bytes(),
    Family::counter(
        Collector::Blkio,
        "container_fs_writes_bytes_total",
        "Bytes written to the block device. Of containers on cgroup v1 without buffered writes.",
        &[bytes("wbytes", "Write", Write, BytesWritten)],
    )
    .bytes(),
    Family::counter(
        Collector::Blkio,
        "container_fs_reads_total",
        "Read operations on the block device.",
        &[operations("rios", "Read", Read, Reads)],
    ),
    Family::counter(
        Collector::Blkio,
        "container_fs_writes_total",
        "Write operations on the block device. Of containers on cgroup v1 without buffered writes.",
        &[operations("wios", "Write", Write, Writes)],
    ),
    Family::counter(
        Collector::Blkio,
        "container_fs_discards_bytes_total",
        "Bytes discarded on the block device, from the first discard on.",
        &[bytes("dbytes", "Discard", Discard, BytesDiscarded).omit_zero()],
    )
    .bytes(),
    Family::counter(
        Collector::Blkio,
        "container_fs_discards_total",
        "Discard operations on the block device, from the first discard on.",
        &[operations("dios", "Discard", Discard, Discards).omit_zero()],
    ),
    Family::gauge(
        Collector::Disk,
        "container_fs_usage_bytes",
        "Bytes on disk of the container's writable layer and of its log, as du counts them, a minute old or more where there are many files. \
         Of the host (id=\"/\"): what is not free, per block device or pool.",
        &[on_disk(DiskFact::Usage)],
    )
    .bytes(),
    Family::gauge(
        Collector::Disk,
        "container_fs_limit_bytes",
        "Size of the filesystem that holds the container's root, or its quota; of the host, of each filesystem.",
        &[on_disk(DiskFact::Limit)],
    )
    .bytes(),
    Family::gauge(
        Collector::Disk,
        "container_fs_inodes_free",
        "Free inodes of the filesystem that holds the container's root; of the host, of each filesystem.",
        &[on_disk(DiskFact::InodesFree)],
    ),
    Family::gauge(
        Collector::Disk,
        "container_fs_inodes_total",
        "Inodes of the filesystem that holds the container's root; of the host, of each filesystem.",
        &[on_disk(DiskFact::Inodes)],
    ),
];
