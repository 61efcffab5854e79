//! The promise to aya that the records are plain data: any bytes are a value, and no byte is left undefined.

use crate::{block, cgroup, latency, network, owners, sched, slots, snapshot, tasks, tcp};

macro_rules! plain {
    ($($record:ty)*) => {
        // SAFETY: `repr(C)`, `Copy`, integers only, and no padding (their sizes are asserted beside them).
        $(unsafe impl aya::Pod for $record {})*
    };
}

plain! {
    block::Key
    block::Counters
    block::Offsets
    latency::Histogram
    network::Key
    network::Counters
    owners::Ancestors
    sched::Offsets
    slots::Layout
    snapshot::Plan
    cgroup::CgroupIdOffsets
    tasks::Offsets
    tcp::Offsets
}
