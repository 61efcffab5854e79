//! The eBPF programs: each is loaded and attached for a moment, as nothing else tells what this kernel accepts.

use super::report::{Line, Verdict};
use crate::config::{Config, EbpfMode};
use crate::ebpf::{Decision, Probes, Sizes};

const WHAT: &str = "eBPF";

/// What runs, and what does not and why.
pub(super) fn check(config: &Config) -> Vec<Line> {
    // With --ebpf=on the program would not start.
    let verdict = if config.ebpf == EbpfMode::On { Verdict::Fail } else { Verdict::Warn };
    let (wanted, hierarchy) = match Decision::of(config) {
        Decision::Start(wanted, hierarchy) => (wanted, hierarchy),
        Decision::Useless(why) if config.ebpf == EbpfMode::On => {
            return vec![Line::fail(WHAT, why.missing, why.cure)];
        }
        Decision::Useless(why) => return vec![Line::ok(WHAT, format!("not used: {}", why.missing))],
        Decision::Off => return vec![Line::ok(WHAT, "switched off")],
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
