//! Programs for benchmarks, which the exporter never loads. Empty ones at the hooks of the others measure what the kernel's
//! accounting of run time costs by itself: `cargo xtask bench ebpf` subtracts it. An iterator that only stores cgroup ids is
//! what `cargo xtask bench` compares snapshots with.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "kernel objects and map values are raw pointers, which the kernel's verifier checks")]

use core::ptr::addr_of;

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::{btf_tracepoint, cgroup_skb, map};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::{BtfTracePointContext, SkBuffContext};
use exporter_ebpf::cgroup::CgroupIdOffsets;
use exporter_ebpf::kernel;
use exporter_ebpf::snapshot::Context;

/// Set by user space before loading.
#[unsafe(no_mangle)]
static EMPTY_ID_OFFSETS: CgroupIdOffsets = CgroupIdOffsets::UNSET;

/// Number of cgroups visited since user space last wrote 0.
#[map]
static EMPTY_VISITED: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Their ids.
#[map]
static EMPTY_IDS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Runs for each cgroup, and at the end once more without one.
#[unsafe(link_section = "iter/cgroup")]
#[unsafe(no_mangle)]
extern "C" fn empty_walk(context: *const Context) -> i32 {
    // SAFETY: the kernel's own objects, as the iterator's type says; the verifier checks each step.
    unsafe {
        let cgroup = (*context).cgroup;
        let id_offsets = addr_of!(EMPTY_ID_OFFSETS).read_volatile();
        if let (false, Some(visited)) = (cgroup.is_null(), EMPTY_VISITED.get_ptr_mut(0)) {
            if let Some(id) = EMPTY_IDS.get_ptr_mut(*visited as u32) {
                *id = kernel::id(cgroup, id_offsets);
            }
            *visited += 1;
        }
    }
    0
}

#[btf_tracepoint(function = "block_rq_complete")]
fn empty_block(_: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "sched_switch")]
fn empty_sched(_: BtfTracePointContext) -> i32 {
    0
}

#[cgroup_skb(egress)]
fn empty_packet(_: SkBuffContext) -> i32 {
    1
}
