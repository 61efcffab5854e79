//! Counts the TCP segments that are sent again, by the cgroup that the socket belongs to.
//!
//! They are rare, so one hash map for all CPUs serves.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "kernel objects and map values are raw pointers, which the kernel's verifier checks")]

use core::ptr::addr_of;

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::{Array, HashMap};
use aya_ebpf::programs::BtfTracePointContext;
use exporter_ebpf::cgroup::Way;
use exporter_ebpf::kernel;
use exporter_ebpf::slots::COUNTS;
use exporter_ebpf::tcp::Offsets;

/// Set by user space before loading.
#[unsafe(no_mangle)]
static TCP_OFFSETS: Offsets = Offsets { sock_cgroup: 0, way: Way::UNSET };

/// Segments by id of the cgroup.
#[map]
static RETRANSMITS: HashMap<u64, u64> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// Segments that found the map full, and entries made.
#[map]
static TCP_COUNTS: Array<u64> = Array::with_max_entries(COUNTS, BPF_F_MMAPABLE);

/// `tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb)`
#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn tcp_retransmit(context: BtfTracePointContext) -> i32 {
    // SAFETY: the kernel's own objects, as the tracepoint's type says; the verifier checks each step.
    let cgroup = unsafe {
        let offsets = addr_of!(TCP_OFFSETS).read_volatile();
        let cgroup: *const u8 = kernel::load(context.arg(0), offsets.sock_cgroup);
        if cgroup.is_null() {
            return 0;
        }
        kernel::id(cgroup, offsets.way)
    };
    if let Some(count) = kernel::entry(&RETRANSMITS, &cgroup, &0, &TCP_COUNTS) {
        // SAFETY: a map value.
        unsafe { kernel::add(count, 1) };
    }
    0
}
