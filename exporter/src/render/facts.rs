//! Samples of what the engine says of a container, and of what is known of the machine.

use super::labels::LabelSet;
use super::number::Number;
use super::output::Output;
use super::protobuf::Start;
use super::sample::{write_number, write_sample};
use super::view::{Exposed, View};
use crate::metrics::{EngineFact, MachineFact, escape_label};
use crate::name::HealthStatus;
use crate::read::Row;

/// Writes what the engine says of a container.
pub(super) fn write_fact(row: &Row, container: &Exposed<'_>, labels: LabelSet<'_>, fact: EngineFact, out: &mut Output) {
    let extra = match fact {
        EngineFact::Info => &container.sets.info,
        EngineFact::State => &container.sets.state,
        _ => "",
    };
    if fact == EngineFact::LastSeen {
        if let Some(seen) = container.last_seen_ms {
            write_number(row, "", labels, seen, Start::Unknown, out);
        }
    } else if let Some(Fact::Time(time)) = fact_of(container, fact) {
        write_number(row, "", labels, time, Start::Unknown, out);
    } else if let Some(Fact::Number(number)) = fact_of(container, fact) {
        // The one counter among these facts.
        let created = container.info.filter(|_| fact == EngineFact::Restarts).and_then(|info| info.created_ns);
        let start = created.map_or(Start::Unknown, Start::At);
        write_sample(row, extra, labels, Number::Signed(number), start, out);
    }
}

/// What a sample of it shows.
enum Fact {
    Number(i64),
    Time(u64),
}

fn fact_of(container: &Exposed<'_>, fact: EngineFact) -> Option<Fact> {
    let running = container.sample.is_some();
    if fact == EngineFact::Seen {
        return Some(Fact::Number(1));
    }
    let info = container.info;
    if fact == EngineFact::IsUp {
        return Some(Fact::Number(i64::from(running && info.is_none_or(|info| info.state.is_alive()))));
    }
    let info = info?;
    let ended = !info.state.is_alive();
    match fact {
        EngineFact::Started => info.started_ns.map(Fact::Time),
        EngineFact::Created => info.created_ns.map(Fact::Time),
        EngineFact::Finished => {
            info.finished.filter(|_| ended && info.reported.end).map(|moment| Fact::Time(moment.wall_ns))
        }
        EngineFact::Info => Some(Fact::Number(1)),
        EngineFact::State => info.reported.state.then_some(Fact::Number(1)),
        EngineFact::ExitCode => info.exit_code.filter(|_| ended).map(Fact::Number),
        EngineFact::OomKilled => {
            let is_known = info.exit_code.is_some() && (info.reported.end || info.oom_killed);
            (ended && is_known).then_some(Fact::Number(i64::from(info.oom_killed)))
        }
        EngineFact::Restarts => info.restarts.map(|count| Fact::Number(i64::try_from(count).unwrap_or(i64::MAX))),
        EngineFact::HealthState | EngineFact::FailingStreak if ended || !info.reported.health => None,
        EngineFact::HealthState => {
            Some(Fact::Number(info.health.map_or(-1, |health| i64::from(health.status == HealthStatus::Healthy))))
        }
        EngineFact::FailingStreak => {
            let streak = info.health?.failing_streak?;
            Some(Fact::Number(i64::try_from(streak).unwrap_or(i64::MAX)))
        }
        EngineFact::Healthy => {
            let healthy = info.health.is_none_or(|health| health.status != HealthStatus::Unhealthy);
            Some(Fact::Number(i64::from(running && healthy)))
        }
        EngineFact::LastSeen | EngineFact::IsUp | EngineFact::Seen => None,
    }
}

/// Writes what is known of the machine.
pub(super) fn write_machine(view: &View<'_>, row: &Row, fact: MachineFact, out: &mut Output) {
    let (memory, swap) = view.facts.machine_memory();
    let value = match fact {
        MachineFact::Cores => view.machine.cores,
        MachineFact::PhysicalCores => view.machine.physical_cores,
        MachineFact::Sockets => view.machine.sockets,
        MachineFact::Memory => memory,
        MachineFact::Swap => swap,
        MachineFact::ScrapeError => Some(u64::from(view.failed)),
        MachineFact::VersionInfo => {
            return write_versions(view, row, out);
        }
    };
    let labels = if fact == MachineFact::ScrapeError { "" } else { &view.machine.labels };
    if let Some(value) = value {
        write_number(row, "", LabelSet::fixed(labels), value, Start::Unknown, out);
    }
}

fn write_versions(view: &View<'_>, row: &Row, out: &mut Output) {
    let mut labels = std::mem::take(&mut out.scratch);
    labels.clear();
    for (name, value) in [
        ("cadvisorRevision", env!("BUILD_REVISION")),
        ("cadvisorVersion", env!("CARGO_PKG_VERSION")),
        ("dockerVersion", view.engine_version),
        ("kernelVersion", &view.machine.kernel),
        ("osVersion", &view.machine.system),
    ] {
        if !labels.is_empty() {
            labels.push(',');
        }
        labels.push_str(name);
        labels.push_str("=\"");
        escape_label(value, &mut labels);
        labels.push('"');
    }
    write_sample(row, &labels, LabelSet::fixed(""), Number::Signed(1), Start::Unknown, out);
    out.scratch = labels;
}
