//! Processes, threads and their limit.

use super::Source::{Absent, Flat, Json, Processes, Single};
use super::{Collector, Controller, Family, File, Limit, Series, Source};

const CURRENT: File = File::new(Controller::Pids, "pids.current");
const EVENTS: File = File::new(Controller::Pids, "pids.events");

pub(super) const FAMILIES: &[Family] = &[
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
];
