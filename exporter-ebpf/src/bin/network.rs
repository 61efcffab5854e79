//! Counts the bytes and packets of every cgroup, by address family: `cgroup_skb` at the root of the v2 hierarchy, which
//! sees each packet of each cgroup below it once, whatever network namespace it is in.
//!
//! A count goes to the CPU's own slot of the cgroup. Where other cgroups hold both slots of the set, it goes to a hash map
//! that all CPUs share; where that is full, the packet is counted as refused. Where a container has too many cgroups below it,
//! the container's entry counts for them ([`exporter_ebpf::owners`]).

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "map values and packets are raw pointers, which the kernel's verifier checks")]

use core::ptr::{addr_of, null_mut};

use aya_ebpf::bindings::{__sk_buff, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::helpers::generated::{bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id};
use aya_ebpf::macros::{cgroup_skb, map};
use aya_ebpf::maps::{Array, HashMap};
use aya_ebpf::programs::SkBuffContext;
use exporter_ebpf::kernel;
use exporter_ebpf::network::{Counters, Family, Key, Slot, shard};
use exporter_ebpf::owners::OWNERS;
use exporter_ebpf::slots::{COUNTS, CPUS, CpuShards, FREE, Layout};

/// Shape of `NETWORK_SLOTS`, set by user space before loading. The verifier sees constants.
#[unsafe(no_mangle)]
static NETWORK_LAYOUT: Layout = Layout { shards: 2, set_bits: 1 };

/// The shard of each CPU, set by user space before loading.
#[unsafe(no_mangle)]
static NETWORK_SHARDS: CpuShards = [0; CPUS];

/// The table of slots; user space sizes it to `NETWORK_LAYOUT` and maps it into its memory.
#[map]
static NETWORK_SLOTS: Array<Slot> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Entries that found no slot.
#[map]
static NETWORK_OVERFLOW: HashMap<Key, Counters> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// Packets that found the overflow map full, too, and entries made in it.
#[map]
static NETWORK_COUNTS: Array<u64> = Array::with_max_entries(COUNTS, BPF_F_MMAPABLE);

/// Containers and the cgroups that hold them, written by user space.
#[map]
static NETWORK_OWNERS: HashMap<u64, u64> = HashMap::with_max_entries(OWNERS, BPF_F_NO_PREALLOC);
/// Number of entries charged to each payer.
#[map]
static NETWORK_CHARGES: HashMap<u64, u64> = HashMap::with_max_entries(OWNERS, BPF_F_NO_PREALLOC);
/// Owners of the nested cgroups that have entries.
#[map]
static NETWORK_MEMBERS: HashMap<u64, u64> = HashMap::with_max_entries(OWNERS, BPF_F_NO_PREALLOC);

/// Verdict of the programs: they only observe, and let every packet pass.
const PASS: i32 = 1;

#[derive(Clone, Copy)]
enum Direction {
    Receive,
    Transmit,
}

#[cgroup_skb(ingress)]
fn network_receive(context: SkBuffContext) -> i32 {
    count(&context, Direction::Receive)
}

#[cgroup_skb(egress)]
fn network_transmit(context: SkBuffContext) -> i32 {
    count(&context, Direction::Transmit)
}

#[inline(always)]
fn count(context: &SkBuffContext, direction: Direction) -> i32 {
    let packet = context.skb.skb;
    // SAFETY: the kernel hands in a packet that lives as long as the program runs, and the verifier checks each access.
    let (bytes, segments, protocol, cgroup) = unsafe {
        (
            u64::from((*packet).len),
            u64::from((*packet).gso_segs),
            u16::from_be((*packet).protocol as u16),
            bpf_skb_cgroup_id(packet),
        )
    };
    let family = match protocol {
        0x0800 => Family::Ipv4,
        0x86dd => Family::Ipv6,
        _ => return PASS,
    };
    // No socket, so no cgroup: an ICMP echo request, or a packet that is only routed.
    if cgroup == FREE {
        return PASS;
    }
    let packets = if segments == 0 { 1 } else { segments };
    // SAFETY: read-only data of the object. Volatile, as user space has changed it since it was compiled.
    let layout = unsafe { addr_of!(NETWORK_LAYOUT).read_volatile() };
    let shard = shard(kernel::shard(addr_of!(NETWORK_SHARDS)), family);
    let counters = match kernel::slot(&NETWORK_SLOTS, layout.set(shard, cgroup), |slot| is_held(slot, cgroup)) {
        // SAFETY: a map value, valid while the program runs.
        Some(slot) => unsafe { &raw mut (*slot).counters },
        None => count_without_slot(packet, cgroup, shard, family),
    };
    if !counters.is_null() {
        add(counters, direction, bytes, packets);
    }
    PASS
}

/// Where a cgroup counts that has no slot, or none yet. Null where there is no room.
#[inline(never)]
fn count_without_slot(packet: *mut __sk_buff, cgroup: u64, shard: u32, family: Family) -> *mut Counters {
    if let Some(counters) = NETWORK_OVERFLOW.get_ptr_mut(Key::new(cgroup, family)) {
        return counters;
    }
    // SAFETY: read-only data of the object. Volatile, as user space has changed it since it was compiled.
    let layout = unsafe { addr_of!(NETWORK_LAYOUT).read_volatile() };
    let owners = kernel::Owners {
        owners: &NETWORK_OWNERS,
        charges: &NETWORK_CHARGES,
        members: &NETWORK_MEMBERS,
        shards: layout.shards,
        has_many: false,
    };
    // SAFETY: the packet that the program was called with.
    let search = owners.search(|level| unsafe { bpf_skb_ancestor_cgroup_id(packet, level as i32) });
    let name = owners.admit(cgroup, search);
    if name == 0 {
        kernel::refuse(&NETWORK_COUNTS);
        return null_mut();
    }
    match kernel::slot(&NETWORK_SLOTS, layout.set(shard, name), |slot| is_mine(slot, name)) {
        // SAFETY: a map value, valid while the program runs.
        Some(slot) => unsafe { &raw mut (*slot).counters },
        None => {
            let key = Key::new(name, family);
            kernel::entry(&NETWORK_OVERFLOW, &key, &Counters::default(), &NETWORK_COUNTS).unwrap_or(null_mut())
        }
    }
}

/// Whether the slot counts this cgroup.
#[inline(always)]
fn is_held(slot: *mut Slot, cgroup: u64) -> bool {
    // SAFETY: a map value, valid while the program runs. Volatile, as others change it.
    unsafe { (&raw mut (*slot).state).read_volatile() == cgroup }
}

/// Whether the slot counts this cgroup; a free one does from now on.
#[inline(always)]
fn is_mine(slot: *mut Slot, cgroup: u64) -> bool {
    // SAFETY: a map value, valid while the program runs. Volatile, as others change it.
    let state = unsafe { &raw mut (*slot).state };
    match unsafe { state.read_volatile() } {
        known if known == cgroup => true,
        // SAFETY: part of a map value, aligned.
        FREE => unsafe { kernel::compare_exchange(state, FREE, cgroup) == FREE },
        _ => false,
    }
}

#[inline(always)]
fn add(counters: *mut Counters, direction: Direction, bytes: u64, packets: u64) {
    // SAFETY: parts of a map value, aligned.
    unsafe {
        let (total_bytes, total_packets) = match direction {
            Direction::Receive => (&raw mut (*counters).receive_bytes, &raw mut (*counters).receive_packets),
            Direction::Transmit => (&raw mut (*counters).transmit_bytes, &raw mut (*counters).transmit_packets),
        };
        kernel::add(total_bytes, bytes);
        kernel::add(total_packets, packets);
    }
}
