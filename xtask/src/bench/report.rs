//! Formats the figures as Markdown, for the terminal and for `docs/OVERHEAD.md`.

use std::fs;
use std::process::Command;

use anyhow::Context;

use super::exporters::Side;
use super::figures::{float, head, mebibytes, megabytes, milliseconds, row, share};
use super::measure::{Row, Run, Tier};
use crate::sh::{self, say};
use crate::{docs, workspace};

const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

/// Puts the tables into `docs/OVERHEAD.md`, between its two marker lines.
pub(super) fn write(tables: &str) -> anyhow::Result<()> {
    let path = workspace::root().join("docs/OVERHEAD.md");
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let page = docs::with_block(&page, BEGIN, END, tables).context("docs/OVERHEAD.md")?;
    say("writing docs/OVERHEAD.md");
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// Returns all tables that have rows, after a line with the date and the machine.
pub(super) fn tables(runs: &[Run]) -> anyhow::Result<String> {
    let tables = [scrapes(runs), collection(runs), answers(runs), starts(runs), comparison(runs)];
    let with_rows = tables.into_iter().filter(|table| table.lines().count() > 4);
    Ok(std::iter::once(machine()?).chain(with_rows).collect::<Vec<_>>().join("\n"))
}

fn machine() -> anyhow::Result<String> {
    let date = sh::output(Command::new("date").arg("+%Y-%m-%d"))?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism()?;
    let hierarchy = docker_stats_exporter::discover::Hierarchy::detect("/sys/fs/cgroup".as_ref())?;
    Ok(format!(
        "Measured on {}: {cores} cores of {}, Linux {}, cgroup {}, revision {}.\n",
        date.trim(),
        model.trim_start_matches([' ', '\t', ':']),
        kernel.trim(),
        hierarchy.kind(),
        workspace::git(&["describe", "--always", "--dirty"]).unwrap_or_default(),
    ))
}

/// Returns a table with a row for each read path of each run.
fn per_tier(runs: &[Run], title: &str, columns: &[&str], cells: fn(&Run, &Row) -> Option<Vec<String>>) -> String {
    let mut table = head(title, &[&["containers", "tier"], columns].concat());
    for (run, tier) in runs.iter().flat_map(|run| run.tiers.iter().map(move |tier| (run, tier))) {
        if let Some(cells) = cells(run, tier) {
            table += &row(&[vec![run.containers.to_string(), tier.tier.name().to_owned()], cells].concat());
        }
    }
    table
}

fn scrapes(runs: &[Run]) -> String {
    let title = "By the way of reading, eBPF programs on, in turns: CPU time of a whole scrape (medians)";
    let columns = [
        "warm",
        "per container",
        "**warm / loop**",
        "gzip",
        "after 15 s of rest",
        "all have run",
        "that / loop",
        "wall p50",
        "wall p99",
        "start to first scrape",
        "resident",
        "peak",
        "descriptors",
    ];
    per_tier(runs, title, &columns, |run, tier| {
        Some(vec![
            milliseconds(tier.warm.cpu.median),
            each(tier.warm.cpu.median, run),
            format!("**{:.2}**", tier.warm.cpu.median / run.baseline.median),
            milliseconds(tier.gzip.cpu.median),
            milliseconds(tier.cold.cpu.median),
            milliseconds(tier.dirty.cpu.median),
            format!("{:.2}", tier.dirty.cpu.median / run.baseline_dirty.median),
            milliseconds(tier.warm.wall.median),
            milliseconds(tier.warm.wall.p99),
            milliseconds(tier.first),
            mebibytes(tier.memory.resident),
            mebibytes(tier.memory.peak),
            tier.descriptors.to_string(),
        ])
    })
}

fn collection(runs: &[Run]) -> String {
    let title = "Until the values of all containers are there, without rendering: of the warm scrapes above (medians)";
    let columns =
        ["collection", "per container", "loop", "**collection / loop**", "bare iterator", "collection / that"];
    per_tier(runs, title, &columns, |run, tier| {
        let collected = tier.warm.collected.median;
        let bare = run.bare.map(|bare| bare.median).filter(|_| tier.tier == Tier::Snapshot);
        Some(vec![
            milliseconds(collected),
            each(collected, run),
            milliseconds(run.baseline.median),
            format!("**{:.3}**", collected / run.baseline.median),
            bare.map(milliseconds).unwrap_or_default(),
            bare.map(|bare| format!("{:.1}", collected / bare)).unwrap_or_default(),
        ])
    })
}

fn answers(runs: &[Run]) -> String {
    let columns = ["samples", "size", "gzip size", "between scrapes"];
    per_tier(runs, "Answers, and what is done while nobody asks", &columns, |_, tier| {
        Some(vec![
            tier.warm.samples.to_string(),
            megabytes(tier.warm.bytes),
            megabytes(tier.gzip.bytes),
            share(tier.idle),
        ])
    })
}

fn starts(runs: &[Run]) -> String {
    let title = "While 50 containers start one after the other: a start without and with scrapes all the time, and those scrapes";
    let columns = ["start p50", "p99", "start beside scrapes p50", "p99", "scrape wall p50", "p99"];
    per_tier(runs, title, &columns, |_, tier| {
        let starts = tier.starts.as_ref()?;
        let figures = [starts.alone, starts.beside, starts.scrapes.wall];
        Some(figures.into_iter().flat_map(|figures| [figures.median, figures.p99]).map(milliseconds).collect())
    })
}

fn comparison(runs: &[Run]) -> String {
    let mut table = head(
        "Beside another exporter, uncompressed",
        &["containers", "exporter", "CPU time", "wall p50", "wall p99", "size", "between scrapes", "resident"],
    );
    let sides = runs.iter().filter_map(|run| Some((run.containers, run.comparison.as_ref()?)));
    let sides = sides
        .flat_map(|(containers, both)| [(containers, "this one", &both.ours), (containers, "the other", &both.other)]);
    for (containers, who, Side { scrapes, idle, memory }) in sides {
        table += &row(&[
            containers.to_string(),
            who.to_owned(),
            milliseconds(scrapes.cpu.median),
            milliseconds(scrapes.wall.median),
            milliseconds(scrapes.wall.p99),
            megabytes(scrapes.bytes),
            share(*idle),
            mebibytes(memory.resident),
        ]);
    }
    table
}

/// Formats a time per container.
fn each(nanoseconds: f64, run: &Run) -> String {
    format!("{:.1} µs", nanoseconds / 1e3 / float(run.containers as u64))
}
