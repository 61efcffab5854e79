//! Block I/O per device: `io.stat` (v2) and `blkio.*` (v1).
//!
//! On v1 kernel and I/O scheduler decide which files count: those of the throttle policy, of BFQ (Linux 5.0), or of CFQ
//! (before 5.0). A device's value is the largest of them, which does not fall when another file begins to count. Many kernels
//! count only on devices on which some cgroup has a limit; the eBPF program of `ebpf_blkio` fills in.

use super::BlockOperation::{Discard, Read, Write};
use super::DiskField::{BytesDiscarded, BytesRead, BytesWritten, Discards, Reads, Writes};
use super::Source::{JsonDevice, Nested, Operation};
use super::{BlockCount, BlockOperation, Collector, Controller, DiskField, Family, File, HostFact, Probed, Series};

const IO_STAT: File = File::new(Controller::Io, "io.stat");

/// The files of one count on v1. The recursive ones count the cgroups below too (throttle: Linux 4.20); where they are not
/// there, only the cgroup itself is counted.
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

const fn bytes(v2: &'static str, v1: &'static str, operation: BlockOperation, host: DiskField) -> Series {
    Series::new(Nested(IO_STAT, v2), Operation(BYTES, v1), JsonDevice("/blkio_stats/io_service_bytes_recursive", v1))
        .filled(Probed::Block(BlockCount::Bytes, operation))
        .host(HostFact::Disk(host))
}

const fn operations(v2: &'static str, v1: &'static str, operation: BlockOperation, host: DiskField) -> Series {
    Series::new(Nested(IO_STAT, v2), Operation(OPERATIONS, v1), JsonDevice("/blkio_stats/io_serviced_recursive", v1))
        .filled(Probed::Block(BlockCount::Operations, operation))
        .host(HostFact::Disk(host))
}

pub(super) const FAMILIES: &[Family] = &[
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
];
