//! Programs that do nothing, at the hooks of the others: what the kernel's accounting of run time charges for itself.
//! `cargo xtask bench ebpf` subtracts it. The exporter never loads them.

#![no_std]
#![no_main]

use aya_ebpf::macros::{btf_tracepoint, cgroup_skb};
use aya_ebpf::programs::{BtfTracePointContext, SkBuffContext};
use exporter_ebpf as _;

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
