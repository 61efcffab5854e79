//! The eBPF programs: each is loaded and attached for a moment, as nothing else tells what this kernel accepts.

use super::report::{Line, Verdict};
use crate::config::{Config, EbpfMode};
use crate::discover::Hierarchy;
use crate::ebpf::{Decision, Probes, Sizes, Unsupported};
use crate::metrics::{FAMILIES, FamilySet, SelfMetrics};
use crate::read::{can_copy, for_cgroups};

const WHAT: &str = "eBPF";

/// Returns what runs, and what does not and why.
pub(super) fn check(config: &Config) -> Vec<Line> {
    // With --ebpf=on the program would not start.
    let verdict = if config.ebpf == EbpfMode::On { Verdict::Fail } else { Verdict::Warn };
    let (wanted, hierarchy) = match Decision::of(config) {
        Decision::Start(wanted, hierarchy) => (wanted, hierarchy),
        Decision::Useless(why) if config.ebpf == EbpfMode::On => {
            return vec![Line::fail(WHAT, why.missing, why.hint)];
        }
        Decision::Useless(why) => return vec![Line::ok(WHAT, format!("not used: {}", why.missing))],
        Decision::Off => return vec![Line::ok(WHAT, "switched off")],
    };
    let snapshots = config.snapshot != EbpfMode::Off;
    let mut probes = Probes::start(wanted, snapshots, &hierarchy, Sizes::default());
    let report = probes.report();
    let unsupported = report.unsupported().into_iter().map(|(programs, unsupported)| {
        let found = format!("{} cannot run: {}", programs.join(", "), unsupported.missing);
        Line::warn(WHAT, found, unsupported.hint.clone()).with(verdict)
    });
    let running = report.running();
    let ran = (!running.is_empty()).then(|| Line::ok(WHAT, format!("{} can run", running.join(", "))));
    let lines = ran.into_iter().chain(unsupported).collect::<Vec<_>>();
    let snapshot = snapshots.then(|| check_snapshots(config, &hierarchy, &mut probes));
    lines.into_iter().chain(snapshot).collect()
}

/// Returns whether files need not be read one by one.
fn check_snapshots(config: &Config, hierarchy: &Hierarchy, probes: &mut Probes) -> Line {
    const WHAT: &str = "snapshots";
    let (plan, _) = for_cgroups(hierarchy, &[], FamilySet::of(FAMILIES, config.collectors));
    let taken = SelfMetrics::new()
        .map_err(|error| Unsupported::new(error.to_string(), "please report it"))
        .and_then(|own| can_copy(&plan, hierarchy, probes, own));
    match taken {
        Ok(()) => Line::ok(WHAT, "the kernel gives the counters of all containers at once"),
        Err(why) if config.snapshot == EbpfMode::On => Line::fail(WHAT, why.missing, why.hint),
        Err(why) => Line::warn(WHAT, format!("files are read one by one, which costs more: {}", why.missing), why.hint),
    }
}
