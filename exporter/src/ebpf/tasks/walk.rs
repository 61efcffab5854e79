//! Loads the program that counts threads, in the form that this kernel takes, and runs it.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;

use aya::programs::{ProgramFd, RawTracePoint};
use aya::{Ebpf, include_bytes_aligned};
use exporter_ebpf::tasks::{ITERATOR_FUNCTIONS, Offsets, call_of};
use tracing::debug;

use crate::ebpf::Program;
use crate::ebpf::btf::{Kind, Types};
use crate::ebpf::error::Unsupported;
use crate::ebpf::loader::{Loader, program_of, refused};
use crate::ebpf::quotas::ancestors;
use crate::ebpf::snapshot::link::{Link, run_once};

const OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../exporter-ebpf/prebuilt/tasks.o"));

/// The program that the kernel runs for each thread.
const BY_THREAD: &str = "task_states_iter";
/// The number of the host's own pid namespace (`PROC_PID_INIT_INO`), the same on every kernel since 3.8.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// A walk over all threads.
pub(super) enum Walk {
    /// The program goes through them itself.
    Whole(ProgramFd),
    /// The kernel runs the program for each.
    ByThread(Link),
}

impl Walk {
    /// Counts all threads.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn run(&self) -> io::Result<()> {
        match self {
            Self::Whole(program) => run_once(program.as_fd()),
            Self::ByThread(link) => link.run(),
        }
    }
}

/// Loads the program: as a whole where the kernel has an iterator for programs, else the one that is run by thread.
///
/// # Errors
/// What the kernel refused or lacks.
pub(super) fn load(loader: &mut Loader) -> Result<(Ebpf, Walk), Unsupported> {
    let offsets = offsets(loader)?;
    loader.set("TASKS_OFFSETS", offsets);
    loader.set("TASKS_ANCESTORS", ancestors(loader)?);
    let with_iterator = with_functions(OBJECT, loader.types()?);
    let mut object = loader.load(with_iterator.as_deref().unwrap_or(OBJECT))?;
    if with_iterator.is_some() {
        match load_whole(&mut object) {
            Ok(program) => return Ok((object, Walk::Whole(program))),
            // As without a compiler in the kernel (`net.core.bpf_jit_enable`).
            Err(why) => debug!(%why, "counting threads with the kernel's iterator"),
        }
    }
    if fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace.as_os_str() != INITIAL_PID_NAMESPACE) {
        let what = "before Linux 6.7 a program is shown the threads of our own pid namespace alone";
        return Err(Unsupported::new(what, "run the exporter with --pid=host"));
    }
    let program = loader.iterate_tasks(&mut object, BY_THREAD)?;
    let link = Link::over_tasks(program.as_fd()).map_err(|error| refused(BY_THREAD, &error))?;
    link.run().map_err(|error| refused(BY_THREAD, &error))?;
    Ok((object, Walk::ByThread(link)))
}

fn load_whole(object: &mut Ebpf) -> Result<ProgramFd, Unsupported> {
    let name = Program::TaskStates.name();
    let program: &mut RawTracePoint = program_of(object, name)?;
    program.load().map_err(|error| refused(name, &error))?;
    let loaded = program.fd().and_then(|loaded| Ok(loaded.try_clone()?)).map_err(|error| refused(name, &error))?;
    run_once(loaded.as_fd()).map_err(|error| refused(name, &error))?;
    Ok(loaded)
}

/// Returns the object with the numbers that the iterator's functions have in this kernel; none where it lacks one.
fn with_functions(object: &[u8], types: &Types) -> Option<Vec<u8>> {
    let mut object = object.to_vec();
    for (name, stand_in) in ITERATOR_FUNCTIONS {
        let (before, call) = (call_of(stand_in).to_le_bytes(), call_of(types.id(Kind::Function, name)?).to_le_bytes());
        for instruction in object.as_chunks_mut().0.iter_mut().filter(|instruction| **instruction == before) {
            *instruction = call;
        }
    }
    Some(object)
}

fn offsets(loader: &Loader) -> Result<Offsets, Unsupported> {
    let (task_iowait, task_iowait_mask) = loader.bit("task_struct", "in_iowait")?;
    Ok(Offsets {
        task_pid: loader.offset("task_struct", "pid")?,
        task_state: loader.offset("task_struct", "__state")?,
        task_exit_state: loader.offset("task_struct", "exit_state")?,
        task_iowait,
        task_iowait_mask,
        task_cgroups: loader.offset("task_struct", "cgroups")?,
        set_cgroup: loader.offset("css_set", "dfl_cgrp")?,
        id_offsets: loader.cgroup_id_offsets()?,
    })
}
