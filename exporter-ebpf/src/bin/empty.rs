//! Programs that do nothing, at the hooks of the others: what the kernel's accounting of run time charges for itself, which
//! `cargo xtask bench ebpf` subtracts. And one that tells which cgroups there are and nothing else, with which
//! `cargo xtask bench` compares snapshots. The exporter never loads them.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "kernel objects and map values are raw pointers, which the kernel's verifier checks")]

use core::ptr::addr_of;

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::{btf_tracepoint, cgroup_skb, map};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::{BtfTracePointContext, SkBuffContext};
use exporter_ebpf::cgroup::Way;
use exporter_ebpf::kernel;
use exporter_ebpf::snapshot::Context;

/// Set by user space before loading.
#[unsafe(no_mangle)]
static EMPTY_WAY: Way = Way::UNSET;

/// How many cgroups were met since user space last wrote 0 there.
#[map]
static EMPTY_MET: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Their ids.
#[map]
static EMPTY_IDS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// For each cgroup, and once more without one at the end.
#[unsafe(link_section = "iter/cgroup")]
#[unsafe(no_mangle)]
extern "C" fn empty_walk(context: *const Context) -> i32 {
    // SAFETY: the kernel's own objects, as the iterator's type says; the verifier checks each step.
    unsafe {
        let cgroup = (*context).cgroup;
        let way = addr_of!(EMPTY_WAY).read_volatile();
        if let (false, Some(met)) = (cgroup.is_null(), EMPTY_MET.get_ptr_mut(0)) {
            if let Some(id) = EMPTY_IDS.get_ptr_mut(*met as u32) {
                *id = kernel::id(cgroup, way);
            }
            *met += 1;
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
