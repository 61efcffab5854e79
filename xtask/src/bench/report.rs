//! What was measured as Markdown, for the terminal and for `docs/OVERHEAD.md`.

use std::fs;
use std::process::Command;

use anyhow::Context;

use super::figures::{Figures, float};
use super::measure::{Run, Scrapes, Side};
use super::plot;
use super::tiers::Tier;
use crate::sh::say;
use crate::{docs, workspace};

const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

/// Puts the tables into `docs/OVERHEAD.md`, between its two marker lines, and the picture beside it.
pub(super) fn write(tables: &str, runs: &[Run]) -> anyhow::Result<()> {
    let path = workspace::root().join("docs/OVERHEAD.md");
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let page = docs::with_block(&page, BEGIN, END, tables).context("docs/OVERHEAD.md")?;
    say("writing docs/OVERHEAD.md and docs/overhead.svg");
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    let picture = path.with_file_name("overhead.svg");
    fs::write(&picture, plot::svg(runs)).with_context(|| format!("cannot write {}", picture.display()))
}

/// Every table, and where and when it was measured.
pub(super) fn tables(runs: &[Run]) -> anyhow::Result<String> {
    let tables = [
        by_tier(runs),
        collection(runs),
        against_the_floor(runs),
        touched(runs),
        paced(runs),
        per_container(runs),
        answers(runs),
        memory(runs),
    ];
    let tables = tables.into_iter().chain(starts(runs)).chain(beside(runs));
    Ok(std::iter::once(machine()?).chain(tables).collect::<Vec<_>>().join("\n"))
}

fn machine() -> anyhow::Result<String> {
    let date = output("date", &["+%Y-%m-%d"])?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism()?;
    let hierarchy = docker_stats_exporter::discover::Hierarchy::detect("/sys/fs/cgroup".as_ref())?;
    Ok(format!(
        "Measured on {date}: {cores} cores of {}, Linux {}, cgroup {}, revision {}.\n",
        model.trim_start_matches([' ', '\t', ':']),
        kernel.trim(),
        hierarchy.kind(),
        output("git", &["-c", "safe.directory=*", "describe", "--always", "--dirty"]).unwrap_or_default(),
    ))
}

fn output(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let answer = Command::new(program).args(arguments).current_dir(workspace::root()).output();
    let answer = answer.with_context(|| format!("cannot start {program}"))?;
    Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
}

fn by_tier(runs: &[Run]) -> String {
    let mut table = head(
        "By the way of reading, eBPF programs on, in turns: CPU time of a whole scrape (medians)",
        &[
            "containers",
            "tier",
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
        ],
    );
    for run in runs {
        for tier in &run.tiers.rows {
            table += &row(&[
                run.containers.to_string(),
                tier.tier.name().to_owned(),
                milliseconds(tier.warm.cpu.median),
                each(tier.warm.cpu.median, run),
                format!("**{:.2}**", tier.warm.cpu.median / run.tiers.floor.median),
                milliseconds(tier.gzip.cpu.median),
                milliseconds(tier.cold.cpu.median),
                milliseconds(tier.dirty.cpu.median),
                format!("{:.2}", tier.dirty.cpu.median / run.tiers.floor_dirty.median),
                milliseconds(tier.warm.wall.median),
                milliseconds(tier.warm.wall.p99),
                milliseconds(tier.first),
                mebibytes(tier.memory.resident),
                mebibytes(tier.memory.peak),
                tier.descriptors.to_string(),
            ]);
        }
    }
    table
}

fn collection(runs: &[Run]) -> String {
    let mut table = head(
        "Until the values of all containers are there, without rendering: of the warm scrapes above (medians)",
        &[
            "containers",
            "tier",
            "collection",
            "per container",
            "loop",
            "**collection / loop**",
            "bare iterator",
            "collection / that",
        ],
    );
    for run in runs {
        for tier in &run.tiers.rows {
            let collected = tier.warm.collected.median;
            let bare = run.tiers.bare.map(|bare| bare.median).filter(|_| tier.tier == Tier::Snapshot);
            table += &row(&[
                run.containers.to_string(),
                tier.tier.name().to_owned(),
                milliseconds(collected),
                each(collected, run),
                milliseconds(run.tiers.floor.median),
                format!("**{:.3}**", collected / run.tiers.floor.median),
                bare.map(milliseconds).unwrap_or_default(),
                bare.map(|bare| format!("{:.1}", collected / bare)).unwrap_or_default(),
            ]);
        }
    }
    table
}

/// Per container.
fn each(nanoseconds: f64, run: &Run) -> String {
    format!("{:.1} µs", nanoseconds / 1e3 / float(run.containers as u64))
}

/// None where no container of ours was started meanwhile.
fn starts(runs: &[Run]) -> Option<String> {
    let mut table = head(
        "While 50 containers start one after the other: a start without and with scrapes all the time, and those scrapes",
        &["containers", "tier", "start p50", "p99", "start beside scrapes p50", "p99", "scrape wall p50", "p99"],
    );
    let mut any = false;
    for (run, tier) in runs.iter().flat_map(|run| run.tiers.rows.iter().map(move |tier| (run, tier))) {
        let Some(starts) = &tier.starts else { continue };
        any = true;
        let starts = [starts.alone, starts.beside, starts.scrapes.wall];
        let figures = starts.into_iter().flat_map(|figures| [figures.median, figures.p99]);
        let first = [run.containers.to_string(), tier.tier.name().to_owned()];
        table += &row(&first.into_iter().chain(figures.map(milliseconds)).collect::<Vec<_>>());
    }
    any.then_some(table)
}

fn against_the_floor(runs: &[Run]) -> String {
    let mut table = head(
        "CPU time of a whole uncompressed scrape, and of the loop (medians)",
        &["containers", "files", "scrape", "loop", "**scrape / loop**", "loop, `net/dev` kept", "scrape / that"],
    );
    for run in runs {
        let scrape = run.plain.cpu.median;
        table += &row(&[
            run.containers.to_string(),
            run.files.to_string(),
            milliseconds(scrape),
            milliseconds(run.floor_anew.median),
            format!("**{:.2}**", scrape / run.floor_anew.median),
            milliseconds(run.floor_kept.median),
            format!("{:.2}", scrape / run.floor_kept.median),
        ]);
    }
    table
}

fn touched(runs: &[Run]) -> String {
    let mut table = head(
        "After every container has run for a moment, uncompressed (medians)",
        &["containers", "scrape", "loop", "**scrape / loop**"],
    );
    for run in runs {
        let (scrape, floor) = (run.dirty.cpu.median, run.floor_dirty.median);
        table += &row(&[
            run.containers.to_string(),
            milliseconds(scrape),
            milliseconds(floor),
            format!("**{:.2}**", scrape / floor),
        ]);
    }
    table
}

fn paced(runs: &[Run]) -> String {
    let mut table = head(
        "At the pace of a Prometheus, uncompressed (means)",
        &["containers", "scrape", "loop", "**scrape / loop**", "between scrapes"],
    );
    for run in runs {
        let (scrape, floor) = (float(run.paced.scrape), float(run.paced.floor));
        table += &row(&[
            run.containers.to_string(),
            milliseconds(scrape),
            milliseconds(floor),
            format!("**{:.2}**", scrape / floor),
            share(run.paced.idle),
        ]);
    }
    table
}

fn per_container(runs: &[Run]) -> String {
    let mut table = head(
        "CPU time per container",
        &["containers", "scrape", "of it not in the loop", "gzip scrape", "`cpu` collector alone", "descriptors"],
    );
    for run in runs {
        table += &row(&[
            run.containers.to_string(),
            each(run.plain.cpu.median, run),
            each(run.plain.cpu.median - run.floor_anew.median, run),
            each(run.gzip.cpu.median, run),
            each(run.cpu_only.cpu.median, run),
            run.descriptors.to_string(),
        ]);
    }
    table
}

fn answers(runs: &[Run]) -> String {
    let mut table = head("Answers", &["containers", "coding", "CPU time", "wall p50", "wall p99", "size", "samples"]);
    for run in runs {
        for (coding, scrapes) in [("none", &run.plain), ("gzip", &run.gzip)] {
            table += &answer(run.containers, coding, scrapes, run.plain.samples);
        }
    }
    table
}

fn answer(containers: usize, coding: &str, scrapes: &Scrapes, samples: usize) -> String {
    let Figures { median, p99, .. } = scrapes.wall;
    row(&[
        containers.to_string(),
        coding.to_owned(),
        milliseconds(scrapes.cpu.median),
        milliseconds(median),
        milliseconds(p99),
        format!("{:.2} MB", float(scrapes.bytes as u64) / 1e6),
        samples.to_string(),
    ])
}

/// None where no other exporter was named.
fn beside(runs: &[Run]) -> Option<String> {
    let mut table = head(
        "Beside another exporter, uncompressed",
        &["containers", "exporter", "CPU time", "wall p50", "wall p99", "size", "between scrapes", "resident"],
    );
    let mut line = |containers: usize, who: &str, Side { scrapes, idle, memory }: &Side| {
        table += &row(&[
            containers.to_string(),
            who.to_owned(),
            milliseconds(scrapes.cpu.median),
            milliseconds(scrapes.wall.median),
            milliseconds(scrapes.wall.p99),
            format!("{:.2} MB", float(scrapes.bytes as u64) / 1e6),
            share(*idle),
            mebibytes(memory.resident),
        ]);
    };
    let mut any = false;
    for run in runs {
        let Some(peer) = &run.peer else { continue };
        any = true;
        line(run.containers, "this one", &peer.ours);
        line(run.containers, "the other", &peer.other);
    }
    any.then_some(table)
}

fn memory(runs: &[Run]) -> String {
    let mut table = head(
        "Resident memory",
        &["containers", "after the gzip scrapes", "peak", "after twice as many uncompressed ones", "peak"],
    );
    for run in runs {
        table += &row(&[
            run.containers.to_string(),
            mebibytes(run.memory_gzip.resident),
            mebibytes(run.memory_gzip.peak),
            mebibytes(run.memory_all.resident),
            mebibytes(run.memory_all.peak),
        ]);
    }
    table
}

/// Of nanoseconds per second.
fn share(idle: u64) -> String {
    format!("{:.4} % of a core", float(idle) / 1e7)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", float(bytes) / 1024.0 / 1024.0)
}

fn milliseconds(nanoseconds: f64) -> String {
    format!("{:.2} ms", nanoseconds / 1e6)
}

fn head(title: &str, columns: &[&str]) -> String {
    let rule = columns.iter().map(|_| "---:").collect::<Vec<_>>().join("|");
    format!("**{title}**\n\n| {} |\n|{rule}|\n", columns.join(" | "))
}

fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}
