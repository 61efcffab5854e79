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
use exporter_ebpf::cgroup::CgroupIdOffsets;
use exporter_ebpf::kernel;
use exporter_ebpf::owners::{Ancestors, OWNERS};
use exporter_ebpf::slots::COUNTS;
use exporter_ebpf::tcp::Offsets;

/// Factor of the quota. All CPUs share one table here; other tables pass their number of shards.
const QUOTA_SHARDS: u32 = 4;

/// Set by user space before loading.
#[unsafe(no_mangle)]
static TCP_OFFSETS: Offsets = Offsets { sock_cgroup: 0, id_offsets: CgroupIdOffsets::UNSET };

/// Segments by id of the cgroup.
#[map]
static RETRANSMITS: HashMap<u64, u64> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// Segments that found the map full, and entries made.
#[map]
static TCP_COUNTS: Array<u64> = Array::with_max_entries(COUNTS, BPF_F_MMAPABLE);

/// Containers and the cgroups that hold them, written by user space.
#[map]
static TCP_OWNERS: HashMap<u64, u64> = HashMap::with_max_entries(OWNERS, BPF_F_NO_PREALLOC);
/// Number of entries charged to each payer.
#[map]
static TCP_CHARGES: HashMap<u64, u64> = HashMap::with_max_entries(OWNERS, BPF_F_NO_PREALLOC);
/// Owners of nested cgroups that have entries.
#[map]
static TCP_MEMBERS: HashMap<u64, u64> = HashMap::with_max_entries(OWNERS, BPF_F_NO_PREALLOC);
/// Set by user space before loading.
#[unsafe(no_mangle)]
static TCP_ANCESTORS: Ancestors = Ancestors::UNSET;

/// `tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb)`
#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn tcp_retransmit(context: BtfTracePointContext) -> i32 {
    // SAFETY: the kernel's own objects, as the tracepoint's type says; the verifier checks each step.
    let (cgroup, id, id_offsets) = unsafe {
        let offsets = addr_of!(TCP_OFFSETS).read_volatile();
        let cgroup: *const u8 = kernel::load(context.arg(0), offsets.sock_cgroup);
        if cgroup.is_null() {
            return 0;
        }
        (cgroup, kernel::id(cgroup, offsets.id_offsets), offsets.id_offsets)
    };
    let mut name = id;
    if RETRANSMITS.get_ptr(&id).is_none() {
        // SAFETY: read-only data of the object. Volatile, as user space has changed it since it was compiled.
        let at = unsafe { addr_of!(TCP_ANCESTORS).read_volatile() };
        let owners = kernel::Owners {
            owners: &TCP_OWNERS,
            charges: &TCP_CHARGES,
            members: &TCP_MEMBERS,
            shards: QUOTA_SHARDS,
            has_many: false,
        };
        // SAFETY: the kernel's own object, and its offsets.
        name = owners.admit(id, owners.search(|level| unsafe { kernel::ancestor(cgroup, level, at, id_offsets) }));
        if name == 0 {
            kernel::refuse(&TCP_COUNTS);
            return 0;
        }
    }
    if let Some(count) = kernel::entry(&RETRANSMITS, &name, &0, &TCP_COUNTS) {
        // SAFETY: a map value.
        unsafe { kernel::add(count, 1) };
    }
    0
}
