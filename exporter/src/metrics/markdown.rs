//! The table as text: `docs/METRICS.md`, and the help of a family with its sources.

use std::fmt::Write as _;

use super::{
    Collector, DOCKER_STATS_FAMILIES, Dimension, DiskFact, EngineFact, FAMILIES, Family, File, HostFact, Kind,
    MachineFact, Probed, Series, Source, Unit, Zero,
};

const INTRODUCTION: &str = "\
# Metrics

Generated from the table in `exporter/src/metrics/` by `cargo xtask docs`; do not edit by hand.

Every `container_*` sample carries `id` (cgroup path), `name`, `image` and the allow-listed `container_label_*`; `id=\"/\"` is the
host as a whole, where the column *host* gives its source. Cgroups that are no containers (`--cgroups.include`) have `id` alone, and what
their files count. A value that the kernel does not give makes no sample. `+` marks
collectors that are on by default. Limits (`container_spec_*`, `container_threads_max`) are read when a container is found, half a minute
later, when the engine tells of an update, and otherwise every five minutes. On hosts with many containers, drops and errors
of an interface that is an end of a veth pair are read when the host's end counts one, else every two minutes under traffic and every five
without, and a name that was changed inside the container is noticed then; bytes and packets are those of the scrape. An interface that
the host itself gets while hundreds of containers run may be shown up to a minute later, and the interfaces of a process that leaves the
host's network namespace within 16 scrapes. Everything else is read at each scrape.

Where snapshots stand in for files (`docker_stats_exporter_read_path{path=\"snapshot\"}`; see SNAPSHOTS.md), the values are those of the same
files at the moment of the scrape, with two exceptions: pressure is as of the kernel's last averaging, at most two seconds before, as
only reading the file adds it up; and `container_processes` is counted again when the number of threads has changed,
and at least every five minutes. A changed limit is in the next scrape, whoever changed it, if a snapshot
shows all cgroups of the container, as it does of nearly all. While no snapshot can be taken, files are read.
";

/// Returns `docs/METRICS.md`.
#[must_use]
pub fn markdown() -> String {
    let mut out = INTRODUCTION.to_owned();
    for collector in Collector::ALL {
        let families = FAMILIES.iter().copied().flatten().filter(|family| family.collector == *collector);
        section(&mut out, *collector, families);
    }
    out.push_str("\n## The `docker-stats` schema\n\nThe predecessor's names, all untyped integers with the label `container` (`--metrics.schema=docker-stats`).\n\n");
    table(&mut out, DOCKER_STATS_FAMILIES.iter().copied().flatten());
    out
}

fn section<'a>(out: &mut String, collector: Collector, families: impl Iterator<Item = &'a Family>) {
    let mut families = families.peekable();
    if families.peek().is_none() {
        return;
    }
    let mark = if collector.default_on() { "+" } else { "off by default" };
    _ = write!(out, "\n## `{collector}` ({mark})\n\n{}.\n\n", collector.about());
    table(out, families);
}

fn table<'a>(out: &mut String, families: impl Iterator<Item = &'a Family>) {
    out.push_str("| metric | type | unit | labels | cgroup v2 | cgroup v1 | stats API | host | meaning |\n");
    out.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for family in families {
        for series in family.series {
            row(out, family, series);
        }
    }
}

fn row(out: &mut String, family: &Family, series: &Series) {
    let zero = if series.zero == Zero::Omit { " A 0 is left out." } else { "" };
    _ = writeln!(
        out,
        "| `{}` | {} | {} | {} | {} | {} | {} | {} | {}{zero} |",
        family.name,
        kind(family.kind),
        unit(family.unit),
        labels(series),
        filled(series, Column::V2),
        filled(series, Column::V1),
        source(&series.api, Column::Api),
        host(series),
        family.help.replace('|', "\\|"),
    );
}

/// The source column of the document that holds on one host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Column {
    /// cgroup v2.
    V2,
    /// cgroup v1.
    V1,
    /// The engine's stats API.
    Api,
}

/// Returns the help of a family as exposed: its meaning, its unit, and what it is read from on this host. `sources` has all series of the
/// family's name, each with the column that holds for it; none for a series that only the host has.
#[must_use]
pub fn help<'a>(family: &Family, sources: impl Iterator<Item = (&'a Series, Option<Column>)> + Clone) -> String {
    let of_containers = sources.clone().filter_map(|(series, column)| match column? {
        Column::Api => Some(source(&series.api, Column::Api)),
        column => Some(filled(series, column)),
    });
    let of_host = sources.filter_map(|(series, column)| match series.host {
        // The file in the root cgroup has the name that stands there already.
        HostFact::None | HostFact::Cgroup => None,
        _ if column == Some(Column::Api) => Some(host(series).replace(ROOT_CGROUP, "")),
        _ => Some(host(series)),
    });
    let mut described = distinct(of_containers);
    let of_host = distinct(of_host).join(", ");
    if !of_host.is_empty() {
        described.push(format!("of the host: {of_host}"));
    }
    let unit = match unit(family.unit) {
        "" => String::new(),
        unit => format!(" Unit: {unit}."),
    };
    format!("{}{unit} Source: {}.", family.help, described.join("; "))
}

/// Returns each source once; for more than two keys of one file, the file alone.
fn distinct(sources: impl Iterator<Item = String>) -> Vec<String> {
    let mut distinct = Vec::new();
    for source in sources.map(|source| source.replace('`', "")) {
        if !distinct.contains(&source) {
            distinct.push(source);
        }
    }
    let file = |source: &String| source.split(' ').next().unwrap_or_default().to_owned();
    match distinct.first().map(file) {
        Some(first) if distinct.len() > 2 && distinct.iter().all(|source| file(source) == first) => vec![first],
        _ => distinct,
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
        Kind::Untyped => "untyped",
    }
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::None => "",
        Unit::Bytes => "bytes",
        Unit::Seconds => "seconds",
        Unit::Nanoseconds => "nanoseconds",
        Unit::Ticks => "ticks of 10 ms",
        Unit::Microseconds => "microseconds",
    }
}

fn labels(series: &Series) -> String {
    let dimension = [series.v2, series.v1, series.api].iter().find_map(Source::dimension);
    let own = match (series.v2, dimension) {
        (Source::HugePages(..), _) => "`pagesize`",
        (Source::Engine(EngineFact::State), _) => "`state`",
        (Source::Engine(EngineFact::Info), _) => "`container_id`, `image_id`, `network_mode`, `restart_policy`",
        (Source::Machine(MachineFact::VersionInfo), _) => {
            "`kernelVersion`, `osVersion`, `dockerVersion`, `cadvisorVersion`, `cadvisorRevision`"
        }
        (Source::Machine(MachineFact::ScrapeError), _) => "",
        (Source::Machine(_), _) => "`boot_id`, `machine_id`, `system_uuid`",
        (_, Some(Dimension::Device)) => "`device`",
        (_, Some(Dimension::Interface)) => "`interface`",
        (_, Some(Dimension::Node)) => "`node`",
        (_, Some(Dimension::Cpu | Dimension::Core)) => "`cpu`",
        (_, None) => "",
    };
    match (own, series.labels) {
        (own, "") => own.to_owned(),
        ("", fixed) => format!("`{fixed}`"),
        (own, fixed) => format!("{own}, `{fixed}`"),
    }
}

fn source(source: &Source, column: Column) -> String {
    match *source {
        Source::Absent => "–".to_owned(),
        Source::Single(file) | Source::PerCpu(file) | Source::PerCore(file) => name(file),
        Source::Flat(file, key) | Source::Psi(file, key) | Source::Nested(file, key) | Source::Node(file, key, _) => {
            format!("{} {key}", name(file))
        }
        Source::Operation(files, key) => {
            let names: Vec<String> = files.iter().copied().map(name).collect();
            let largest = if names.len() > 1 { "largest of " } else { "" };
            format!("{largest}{} {key}", names.join(", "))
        }
        Source::Processes => "`cgroup.procs` lines".to_owned(),
        Source::Interface(column) => format!("`/proc/PID/net/dev` column {}", column + 1),
        Source::HugePages(suffix, None) => format!("`hugetlb.SIZE.{suffix}`"),
        Source::HugePages(suffix, Some(key)) => format!("`hugetlb.SIZE.{suffix}` {key}"),
        Source::Limit(limit) => {
            let (v2, v1, api) = limit.files();
            match column {
                Column::V2 => v2,
                Column::V1 => v1,
                Column::Api => api,
            }
            .to_owned()
        }
        Source::Engine(fact) => engine(fact).to_owned(),
        Source::OomKills(Source::Absent) => "`oom` events".to_owned(),
        Source::OomKills(kernel) => format!("{}, `oom` events", self::source(kernel, column)),
        Source::Probe(what) => probed(what).to_owned(),
        Source::Machine(fact) => machine(fact).to_owned(),
        Source::Sockets(file, _) => format!("`/proc/PID/net/{file}`"),
        Source::Process(_) => "`/proc/PID/fd`, `/proc/PID/limits`".to_owned(),
        Source::Disk(DiskFact::Usage) => "`statx` of its files, or its quota".to_owned(),
        Source::Disk(_) => "`statvfs`".to_owned(),
        Source::Json(pointer) | Source::JsonPerCpu(pointer) | Source::JsonPerCore(pointer) => format!("`{pointer}`"),
        Source::JsonDevice(list, operation) => format!("`{list}` {operation}"),
        Source::JsonInterface(field) => format!("`/networks/IF/{field}`"),
        Source::Difference(minuend, subtrahend) => {
            format!("{} − {}", self::source(minuend, column), self::source(subtrahend, column))
        }
        Source::FirstOf(sources) => join(sources, ", else ", column),
        Source::Sum(sources) => join(sources, " + ", column),
    }
}

/// Returns the source in cgroup files, and the eBPF program that fills in for it.
fn filled(series: &Series, column: Column) -> String {
    let file = if matches!(column, Column::V2) { &series.v2 } else { &series.v1 };
    let instead = series.filled.map(|what| format!(", else {}", probed(what)));
    source(file, column) + &instead.unwrap_or_default()
}

fn join(sources: &[Source], separator: &str, column: Column) -> String {
    sources.iter().map(|one| source(one, column)).collect::<Vec<_>>().join(separator)
}

fn name(file: File) -> String {
    match file.fallback {
        None => format!("`{}`", file.name),
        Some(fallback) => format!("`{}` (else `{fallback}`)", file.name),
    }
}

fn engine(fact: EngineFact) -> &'static str {
    match fact {
        EngineFact::LastSeen => "time of the scrape; `State.FinishedAt`",
        EngineFact::Started => "`State.StartedAt`",
        EngineFact::Created => "`Created`",
        EngineFact::Finished => "`State.FinishedAt`",
        EngineFact::Info => "`Id`, `Image`, `HostConfig`",
        EngineFact::State => "`State.Status`, events",
        EngineFact::ExitCode => "`State.ExitCode`, `die` event",
        EngineFact::OomKilled => "`State.OOMKilled`, `oom` event",
        EngineFact::Restarts => "`RestartCount`",
        EngineFact::HealthState => "`State.Health.Status`, `health_status` event",
        EngineFact::FailingStreak => "`State.Health.FailingStreak`",
        EngineFact::IsUp | EngineFact::Seen => "cgroup, `State.Status`",
        EngineFact::Healthy => "`State.Status`, `State.Health.Status`",
    }
}

fn probed(what: Probed) -> &'static str {
    match what {
        Probed::Traffic(..) => "eBPF: `cgroup_skb`",
        Probed::Retransmits => "eBPF: `tcp_retransmit_skb`",
        Probed::Block(..) | Probed::BlockLatency(_) => "eBPF: `block_rq_complete`",
        Probed::RunQueueLatency => "eBPF: `sched_switch`",
        Probed::Threads(_) | Probed::Load => "eBPF: iterator over tasks; else `/proc/PID/task/TID/stat`",
    }
}

fn machine(fact: MachineFact) -> &'static str {
    match fact {
        MachineFact::Cores | MachineFact::PhysicalCores | MachineFact::Sockets => "`/proc/cpuinfo`",
        MachineFact::Memory => "`/proc/meminfo` MemTotal",
        MachineFact::Swap => "`/proc/meminfo` SwapTotal",
        MachineFact::VersionInfo => "`/proc/sys/kernel/osrelease`, engine's version",
        MachineFact::ScrapeError => "own",
    }
}

/// What is read before procfs.
const ROOT_CGROUP: &str = "root cgroup, else ";

fn host(series: &Series) -> String {
    let else_in = |file: &str| {
        // The root cgroup has no limits.
        let first = if matches!(series.v2, Source::Limit(_)) { "" } else { ROOT_CGROUP };
        format!("{first}`/proc/{file}`")
    };
    match series.host {
        HostFact::None => String::new(),
        HostFact::Cgroup => "root cgroup".to_owned(),
        HostFact::CpuBusy | HostFact::CpuUser | HostFact::CpuSystem => else_in("stat"),
        HostFact::MemoryUsed | HostFact::MemoryWorkingSet | HostFact::SwapUsed => else_in("meminfo"),
        HostFact::Meminfo(key) => format!("{} {key}", else_in("meminfo")),
        HostFact::KernelMemory => format!("{} KernelStack + PageTables + Percpu + Slab", else_in("meminfo")),
        HostFact::Pressure(file, line) => format!("{} {line}", else_in(&format!("pressure/{file}"))),
        HostFact::Filesystems => "`statvfs` of the mounts in `/proc/self/mountinfo`".to_owned(),
        HostFact::Threads => "eBPF: all threads".to_owned(),
        HostFact::Interface(_) => "`/proc/1/net/dev`".to_owned(),
        HostFact::Vmstat(keys) => format!("`/proc/vmstat` {}", keys.join(" + ")),
        HostFact::Disk(_) => "`/proc/diskstats`".to_owned(),
        HostFact::Boot => "`/proc/stat` btime".to_owned(),
        HostFact::Now => "time of the scrape".to_owned(),
    }
}
