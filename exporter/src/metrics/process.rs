//! Processes, threads and open files: the rows of the collectors `pids`, `tasks` and `process`, in this order.

use super::Source::{Absent, Flat, Json, Probe, Processes, Single};
use super::{Collector, Controller, Family, File, HostFact, Limit, Probed, ProcessFact, Series, Source, TaskState};

const CURRENT: File = File::new(Controller::Pids, "pids.current");
const EVENTS: File = File::new(Controller::Pids, "pids.events");

/// A count of threads by eBPF programs, of containers and of the host.
const fn probed(what: Probed) -> Series {
    Series::new(Probe(what), Probe(what), Absent).host(HostFact::Threads)
}

const fn threads(state: TaskState, labels: &'static str) -> Series {
    probed(Probed::Threads(state)).labels(labels)
}

/// A sum that takes a walk over a directory of each process, so that the collector `process` is off by default.
const fn of_processes(fact: ProcessFact) -> Series {
    let source = Source::Process(fact);
    Series::new(source, source, Absent)
}

pub(super) const ROWS: &[Family] = &[
    Family::gauge(
        Collector::Pids,
        "container_processes",
        "Processes in the container, those in cgroups below it included.",
        &[Series::new(Processes, Processes, Absent)],
    ),
    Family::gauge(
        Collector::Pids,
        "container_threads",
        "Tasks (threads) in the container.",
        &[Series::new(Single(CURRENT), Single(CURRENT), Json("/pids_stats/current"))],
    ),
    Family::gauge(
        Collector::Pids,
        "container_threads_max",
        "Tasks that the container may have; 0 where not limited.",
        &[Series::everywhere(Source::Limit(Limit::Pids))],
    ),
    Family::counter(
        Collector::Pids,
        "container_pids_max_events_total",
        "Times that a fork failed because of the task limit (Linux 4.8).",
        &[Series::new(Flat(EVENTS, "max"), Flat(EVENTS, "max"), Absent)],
    ),
    Family::gauge(
        Collector::Tasks,
        "container_tasks_state",
        "Threads of the container by what they do now, those in cgroups below it included. Each is in one state: iowaiting ones are not \
         uninterruptible, traced ones are stopped, idle kernel threads sleep, and threads that have ended are in none. Read from /proc, \
         iowaiting is absent and in uninterruptible. iowaiting, stopped and uninterruptible are left out where they are 0.",
        &[
            threads(TaskState::IoWaiting, "state=\"iowaiting\"").omit_zero(),
            threads(TaskState::Running, "state=\"running\""),
            threads(TaskState::Sleeping, "state=\"sleeping\""),
            threads(TaskState::Stopped, "state=\"stopped\"").omit_zero(),
            threads(TaskState::Uninterruptible, "state=\"uninterruptible\"").omit_zero(),
        ],
    ),
    Family::gauge(
        Collector::Tasks,
        "container_cpu_load_average_10s",
        "Threads that run or want to, averaged over ten seconds, in thousandths as cAdvisor has it: 1000 is one thread. Sampled each second \
         while scrapes come; read from /proc, at each scrape.",
        &[probed(Probed::Load)],
    ),
    Family::gauge(
        Collector::Process,
        "container_file_descriptors",
        "Open file descriptors of all processes.",
        &[of_processes(ProcessFact::FileDescriptors)],
    ),
    Family::gauge(
        Collector::Process,
        "container_sockets",
        "Open sockets of all processes.",
        &[of_processes(ProcessFact::Sockets)],
    ),
    Family::gauge(
        Collector::Process,
        "container_ulimits_soft",
        "Soft limits of the container's first process. Absent where not limited.",
        &[of_processes(ProcessFact::OpenFilesLimit).labels(r#"ulimit="max_open_files""#)],
    ),
];
