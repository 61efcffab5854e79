//! Threads by state, and the load that they make.

use super::Source::{Absent, Probe};
use super::{Collector, Family, HostFact, Probed, Series, TaskState};

const fn probed(what: Probed) -> Series {
    Series::new(Probe(what), Probe(what), Absent).host(HostFact::Threads)
}

const fn threads(state: TaskState, labels: &'static str) -> Series {
    probed(Probed::Threads(state)).labels(labels)
}

pub(super) const FAMILIES: &[Family] = &[
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
];
