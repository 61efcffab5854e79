//! What of an exposition changes from run to run, and how two expositions are compared.

use std::collections::BTreeSet;

/// Samples whose value says when, or on what machine, the test ran.
const VOLATILE: &[&str] = &[
    "process_",
    "docker_stats_exporter_docker_requests_total",
    "docker_stats_exporter_scrape_collector_duration_seconds",
    "docker_stats_last_seen",
];

/// Families whose labels do.
const VOLATILE_LABELS: &[&str] = &["docker_stats_exporter_build_info", "cadvisor_version_info"];

/// The exposition with every volatile value 0 and every volatile label empty.
pub(crate) fn normal(text: &str) -> String {
    text.lines().filter(|line| !is_of_this_machine(line)).map(|line| normal_line(line) + "\n").collect()
}

/// How often the engine was asked is a matter of milliseconds, what the sandbox holds one of this kernel, and whether the disk walker
/// is up one of both.
fn is_of_this_machine(line: &str) -> bool {
    let series = ["# HELP ", "# TYPE ", "# UNIT "].iter().fold(line, |rest, word| rest.trim_start_matches(word));
    line.starts_with("docker_stats_exporter_docker_requests_total{")
        || ["docker_stats_exporter_sandbox", "docker_stats_exporter_disk_"].iter().any(|name| series.starts_with(name))
}

fn normal_line(line: &str) -> String {
    if VOLATILE_LABELS.iter().any(|name| line.starts_with(name)) {
        // Every second piece stands between quotes.
        let pieces = line.split('"').enumerate().map(|(index, piece)| if index % 2 == 1 { "" } else { piece });
        return pieces.collect::<Vec<_>>().join("\"");
    }
    let running = line.starts_with("container_last_seen");
    if running || VOLATILE.iter().any(|name| line.starts_with(name)) {
        return line.rsplit_once(' ').map_or_else(String::new, |(series, _)| format!("{series} 0"));
    }
    line.to_owned()
}

/// At most this many lines of a difference are shown.
const SHOWN: usize = 40;

/// Lines that only one of the two has; where both have the same lines, the first one out of order.
pub(crate) fn difference(golden: &str, got: &str) -> String {
    let (old, new): (BTreeSet<&str>, BTreeSet<&str>) = (golden.lines().collect(), got.lines().collect());
    let gone = golden.lines().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
    let come = got.lines().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
    let mut lines: Vec<String> = gone.chain(come).collect();
    if lines.is_empty() {
        let moved = golden.lines().zip(got.lines()).find(|(old, new)| old != new);
        lines.extend(moved.map(|(old, new)| format!("order: expected {old}\n       seen     {new}")));
    }
    // Lines of one series next to each other.
    lines.sort_by(|one, other| one.get(2..).cmp(&other.get(2..)));
    let more = lines.len().saturating_sub(SHOWN);
    lines.truncate(SHOWN);
    if more > 0 {
        lines.push(format!("and {more} more lines"));
    }
    lines.join("\n")
}
