//! `docker-stats-exporter doctor`: checks this host, and reports line by line what works, what does not, and what
//! helps.
//!
//! Each file checks one thing and returns lines; this file decides how bad a missing thing is, which depends on the
//! source of values. It changes nothing, and asks only this host and its Docker engine. `main` prints the report.

mod cgroup;
mod disk;
mod ebpf;
mod engine;
mod limits;
mod procfs;
mod report;
mod sandbox;
mod tree;
mod web;

#[cfg(test)]
mod tests;

pub use report::{Line, Report, Verdict};

use crate::config::{Config, SourceMode};
use crate::discover::Hierarchy;
use crate::metrics::Collector;

/// Makes every check that applies to this configuration.
#[must_use]
pub fn run(config: &Config) -> Report {
    let detected = Hierarchy::detect(&config.cgroup_root);
    let has_tree = detected.is_ok() && config.source != SourceMode::DockerApi;
    // Without a tree the engine is where values come from; with one it gives only names.
    let needs_engine = !has_tree && config.source != SourceMode::Cgroup;
    let (engines, engine_answers) = engine::check_all(&config.docker, bad_if(needs_engine));
    // Where no container can be seen, an engine that answers still serves.
    let blind = bad_if(!(config.source == SourceMode::Auto && engine_answers));

    let mut lines = Vec::new();
    if config.source == SourceMode::DockerApi {
        lines
            .push(Line::ok("source", "the Docker API, as --source or USE_PSEUDO_FILES says: no cgroup tree is needed"));
        let are_local = config.docker.iter().all(|engine| engine.socket().is_some());
        if are_local && config.collectors.has(Collector::Disk) {
            lines.push(disk::check(&config.procfs_root, &config.docker));
        }
    } else {
        lines.push(cgroup::tree(&config.cgroup_root, &detected, blind));
    }
    if let (true, Ok(hierarchy)) = (has_tree, &detected) {
        let found = tree::containers(hierarchy, &config.procfs_root);
        lines.push(cgroup::containers(hierarchy, &found, engine_answers, blind));
        lines.extend(kernel(hierarchy, &found, config));
        lines.push(limits::open_files(found.len()));
        lines.push(limits::inotify(&config.procfs_root));
        // Of a captured tree this machine's files say nothing.
        if hierarchy.is_live() && config.collectors.has(Collector::Disk) {
            lines.push(disk::check(&config.procfs_root, &config.docker));
        }
    }
    lines.extend(engines);
    lines.extend(config.listen.iter().map(web::check));
    lines.extend(ebpf::check(config));
    // Last: this very process hides itself from others.
    lines.push(sandbox::check(config));
    Report { lines }
}

/// Returns what this host's kernel and mounts leave out, for the log of a server that starts: nothing where all is
/// there. What scrapes log is left to them.
#[must_use]
pub fn shortcomings(config: &Config) -> Vec<Line> {
    let Ok(hierarchy) = Hierarchy::detect(&config.cgroup_root) else { return Vec::new() };
    let found = tree::containers(&hierarchy, &config.procfs_root);
    let is_left_to_start = |line: &Line| line.verdict != Verdict::Ok && !procfs::is_logged_by_scrapes(line);
    kernel(&hierarchy, &found, config).into_iter().filter(is_left_to_start).collect()
}

fn kernel(hierarchy: &Hierarchy, found: &[tree::Found], config: &Config) -> Vec<Line> {
    // One that was left behind may be in any of the trees.
    let living: Vec<_> = found.iter().filter(|container| !container.is_empty).cloned().collect();
    let mut lines = cgroup::controllers(hierarchy, &living, &config.procfs_root);
    lines.push(cgroup::pressure(hierarchy, &living, &config.procfs_root));
    lines.extend(procfs::check(&config.procfs_root, found));
    lines
}

fn bad_if(needed: bool) -> Verdict {
    if needed { Verdict::Fail } else { Verdict::Warn }
}
