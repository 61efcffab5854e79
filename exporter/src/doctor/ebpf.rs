//! The eBPF programs: each is loaded and attached for a moment, as nothing else tells what this kernel accepts.

use super::report::{Line, Verdict};
use crate::config::{Config, EbpfMode, SourceMode};
use crate::discover::{Hierarchy, Tree};
use crate::ebpf::{Probes, Sizes};
use crate::metrics::CollectorSet;

const WHAT: &str = "eBPF";

/// What runs, and what does not and why.
pub(super) fn check(config: &Config) -> Vec<Line> {
    let wanted: CollectorSet = config.collectors.iter().filter(|collector| collector.is_probed()).collect();
    if config.ebpf == EbpfMode::Off || wanted.is_empty() {
        return vec![Line::ok(WHAT, "switched off")];
    }
    // With --ebpf=on the program would not start.
    let verdict = if config.ebpf == EbpfMode::On { Verdict::Fail } else { Verdict::Warn };
    let hierarchy = Hierarchy::detect(&config.cgroup_root).ok().filter(|hierarchy| !hierarchy.is_private());
    let live = hierarchy.filter(|found| found.walked().is_some_and(Tree::is_live));
    let Some(hierarchy) = live.filter(|_| config.source != SourceMode::DockerApi) else {
        return match config.ebpf {
            EbpfMode::On => {
                vec![Line::fail(WHAT, "it needs the host's cgroup tree", "mount /sys/fs/cgroup, or --ebpf=auto")]
            }
            _ => vec![Line::ok(WHAT, "not used without the host's cgroup tree")],
        };
    };
    let probes = Probes::start(wanted, &hierarchy, Sizes::default());
    let report = probes.report();
    let obstacles = report.obstacles().into_iter().map(|(programs, obstacle)| {
        let found = format!("{} cannot run: {}", programs.join(", "), obstacle.missing);
        Line::warn(WHAT, found, obstacle.cure.clone()).with(verdict)
    });
    let running = report.running();
    let ran = (!running.is_empty()).then(|| Line::ok(WHAT, format!("{} can run", running.join(", "))));
    ran.into_iter().chain(obstacles).collect()
}
