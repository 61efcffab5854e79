//! What the kernel side and the user side of the eBPF collectors must agree on: the records of their maps, and the
//! offsets that user space looks up for the programs.
//!
//! A record is written by a program inside the kernel and read by the exporter, so its layout is part of the
//! interface: `repr(C)`, no unnamed padding, sizes asserted at compile time on both sides. The library has no
//! dependency and builds for the host and for the kernel's virtual machine; the programs are in `src/bin/`, one file
//! (and one object) per hook family, so that a program that a kernel refuses costs only its own metrics.

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod block;
pub mod cgroup;
#[cfg(target_arch = "bpf")]
#[expect(unsafe_code, reason = "inline assembly, and names that the kernel looks for")]
pub mod kernel;
pub mod latency;
pub mod network;
pub mod owners;
#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "only the author of a record can promise that it is plain data")]
mod plain;
pub mod sched;
pub mod slots;
pub mod snapshot;
pub mod tasks;
pub mod tcp;
