//! `docker-stats-exporter doctor`: checks this host, and reports line by line what works, what does not, and what
//! helps.
//!
//! Each check returns lines. This file decides how severe a missing feature is, which depends on the source of values.
//! The checks change nothing, and ask only this host and its Docker engine. `main` prints the report.

mod cgroup;
mod engine;
mod process;
mod procfs;

#[cfg(test)]
mod tests;

use std::fmt;

use crate::config::{Config, SourceMode};
use crate::discover::Hierarchy;
use crate::metrics::Collector;

/// Runs every check that applies to this configuration.
#[must_use]
pub fn run(config: &Config) -> Report {
    let detected = Hierarchy::detect(&config.cgroup_root);
    let has_tree = detected.is_ok() && config.source != SourceMode::DockerApi;
    // Without a tree, values come from the engine; with one, the engine gives only names.
    let needs_engine = !has_tree && config.source != SourceMode::Cgroup;
    let (engines, engine_answers) = engine::check_all(&config.docker, bad_if(needs_engine));
    // If the tree shows no container, the stats API of an engine that answers serves instead.
    let blind = bad_if(!(config.source == SourceMode::Auto && engine_answers));

    let mut lines = Vec::new();
    if config.source == SourceMode::DockerApi {
        lines
            .push(Line::ok("source", "the Docker API, as --source or USE_PSEUDO_FILES says: no cgroup tree is needed"));
        let are_local = config.docker.iter().all(|engine| engine.socket().is_some());
        if are_local && config.collectors.has(Collector::Disk) {
            lines.push(process::disk_usage(&config.procfs_root, &config.docker));
        }
    } else {
        lines.push(cgroup::tree(&config.cgroup_root, &detected, blind));
    }
    if let (true, Ok(hierarchy)) = (has_tree, &detected) {
        let found = cgroup::find_containers(hierarchy, &config.procfs_root);
        lines.push(cgroup::containers(hierarchy, &found, engine_answers, blind));
        lines.extend(kernel(hierarchy, &found, config));
        lines.push(process::open_files(found.len()));
        lines.push(process::inotify(&config.procfs_root));
        // This machine's files do not describe a captured tree.
        if hierarchy.is_live() && config.collectors.has(Collector::Disk) {
            lines.push(process::disk_usage(&config.procfs_root, &config.docker));
        }
    }
    lines.extend(engines);
    lines.extend(config.listen.iter().map(process::listen_address));
    lines.extend(process::ebpf(config));
    // The sandbox comes last, because it makes this process non-dumpable, which restricts access to its own /proc files.
    lines.push(process::sandbox(config));
    Report { lines }
}

/// Returns the features that this host's kernel and mounts lack, for the log of a starting server. Leaves out what
/// scrapes log themselves.
#[must_use]
pub fn shortcomings(config: &Config) -> Vec<Line> {
    let Ok(hierarchy) = Hierarchy::detect(&config.cgroup_root) else { return Vec::new() };
    let found = cgroup::find_containers(&hierarchy, &config.procfs_root);
    let is_left_to_start = |line: &Line| line.verdict != Verdict::Ok && !procfs::is_logged_by_scrapes(line);
    kernel(&hierarchy, &found, config).into_iter().filter(is_left_to_start).collect()
}

fn kernel(hierarchy: &Hierarchy, found: &[cgroup::Found], config: &Config) -> Vec<Line> {
    // A cgroup without a process may be a leftover, which exists in only some of the trees.
    let living: Vec<_> = found.iter().filter(|container| !container.is_empty).cloned().collect();
    let mut lines = cgroup::controllers(hierarchy, &living, &config.procfs_root);
    lines.push(cgroup::pressure(hierarchy, &living, &config.procfs_root));
    lines.extend(procfs::check(&config.procfs_root, found));
    lines
}

fn bad_if(needed: bool) -> Verdict {
    if needed { Verdict::Fail } else { Verdict::Warn }
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The checked feature works.
    Ok,
    /// Some metrics or features will be missing.
    Warn,
    /// Containers cannot be measured, or metrics cannot be served.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The result.
    pub verdict: Verdict,
    /// The subject of the check.
    pub what: String,
    /// The finding.
    pub found: String,
    /// The mount, capability, flag or command that helps; empty if nothing is wrong.
    pub hint: String,
}

impl Line {
    /// Returns a line with [`Verdict::Ok`].
    #[must_use]
    pub fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, what: what.into(), found: found.into(), hint: String::new() }
    }

    /// Returns a line with [`Verdict::Warn`].
    #[must_use]
    pub fn warn(what: impl Into<String>, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, what: what.into(), found: found.into(), hint: hint.into() }
    }

    /// Returns a line with [`Verdict::Fail`].
    #[must_use]
    pub fn fail(what: impl Into<String>, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(what, found, hint) }
    }

    /// Returns this line with another verdict.
    fn with(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<4}  {}: {}", self.verdict, self.what, self.found)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, " -> {}", self.hint) }
    }
}

/// The results of all checks.
#[derive(Debug, Default)]
pub struct Report {
    /// The lines, in the order of the checks.
    pub lines: Vec<Line>,
}

impl Report {
    /// Returns whether containers can be measured and the metrics served.
    #[must_use]
    pub fn main_job_can_run(&self) -> bool {
        self.lines.iter().all(|line| line.verdict != Verdict::Fail)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
