//! The life cycle of a container, from the engine's list and events: the rows of the collector `state`.

use super::{Collector, EngineFact, Family, HostFact, Series, Source};

const fn fact(fact: EngineFact) -> Series {
    Series::everywhere(Source::Engine(fact))
}

/// The engine gives nanoseconds since the epoch.
const fn time(at: EngineFact) -> Series {
    fact(at).exponents(9, 9, 9)
}

pub(super) const ROWS: &[Family] = &[
    Family::gauge(
        Collector::State,
        "container_last_seen",
        "When the container was last seen, in seconds since the epoch; stands still once its cgroup is gone.",
        &[fact(EngineFact::LastSeen).exponents(3, 3, 3).host(HostFact::Now)],
    )
    .seconds(),
    Family::gauge(
        Collector::State,
        "container_start_time_seconds",
        "When the container was last started, in seconds since the epoch; of the host when it was.",
        &[time(EngineFact::Started).host(HostFact::Boot)],
    )
    .seconds(),
    Family::gauge(
        Collector::State,
        "container_creation_time_seconds",
        "When the container was created, in seconds since the epoch; of the host when it was started.",
        &[time(EngineFact::Created).host(HostFact::Boot)],
    )
    .seconds(),
    Family::gauge(
        Collector::State,
        "container_finish_time_seconds",
        "When the last run of a container that does not run ended, in seconds since the epoch.",
        &[time(EngineFact::Finished)],
    )
    .seconds(),
    Family::gauge(
        Collector::State,
        "container_info",
        "What the container is; the value is always 1.",
        &[fact(EngineFact::Info)],
    ),
    Family::gauge(
        Collector::State,
        "container_state",
        "The state that the container is in; the value is always 1.",
        &[fact(EngineFact::State)],
    ),
    Family::gauge(
        Collector::State,
        "container_exit_code",
        "Exit code of the last run of a container that does not run or is about to be started again by its restart policy.",
        &[fact(EngineFact::ExitCode)],
    ),
    Family::gauge(
        Collector::State,
        "container_oom_killed",
        "Whether the last run of a container that does not run was ended for lack of memory.",
        &[fact(EngineFact::OomKilled)],
    ),
    Family::counter(
        Collector::State,
        "container_restarts_total",
        "Restarts of the container by its restart policy, as the engine counts them: a start by hand sets it to 0.",
        &[fact(EngineFact::Restarts)],
    ),
    Family::gauge(
        Collector::State,
        "container_health_state",
        "Health: 1 healthy, 0 starting or unhealthy, -1 without a health check.",
        &[fact(EngineFact::HealthState)],
    ),
    Family::gauge(
        Collector::State,
        "container_health_failing_streak",
        "Failed health checks in a row. Only with a health check.",
        &[fact(EngineFact::FailingStreak)],
    ),
];
