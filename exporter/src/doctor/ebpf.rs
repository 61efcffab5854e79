//! Checks the eBPF programs by loading and attaching each for a moment, because nothing else shows what this kernel
//! accepts.

use super::report::{Line, Verdict};
use crate::config::{Config, FeatureMode};
use crate::discover::Hierarchy;
use crate::ebpf::{Decision, Probes, Sizes, Unsupported};
use crate::metrics::{FAMILIES, FamilySet, SelfMetrics};
use crate::read::{can_copy, for_cgroups};

const WHAT: &str = "eBPF";

/// Returns a line for the programs that run, and one for each reason why others do not.
pub(super) fn check(config: &Config) -> Vec<Line> {
    // With --ebpf=on the exporter would not start.
    let verdict = if config.ebpf == FeatureMode::On { Verdict::Fail } else { Verdict::Warn };
    let (wanted, hierarchy) = match Decision::of(config) {
        Decision::Start(wanted, hierarchy) => (wanted, hierarchy),
        Decision::Useless(why) if config.ebpf == FeatureMode::On => {
            return vec![Line::fail(WHAT, why.missing, why.hint)];
        }
        Decision::Useless(why) => return vec![Line::ok(WHAT, format!("not used: {}", why.missing))],
        Decision::Off => return vec![Line::ok(WHAT, "switched off")],
    };
    let snapshots = config.snapshot != FeatureMode::Off;
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

/// Checks whether snapshots can replace files.
fn check_snapshots(config: &Config, hierarchy: &Hierarchy, probes: &mut Probes) -> Line {
    const WHAT: &str = "snapshots";
    let (plan, _) = for_cgroups(hierarchy, &[], FamilySet::of(FAMILIES, config.collectors));
    let taken = SelfMetrics::new()
        .map_err(|error| Unsupported::new(error.to_string(), "please report it"))
        .and_then(|own| can_copy(&plan, hierarchy, probes, own));
    match taken {
        Ok(()) => Line::ok(WHAT, "the kernel gives the counters of all containers at once"),
        Err(why) if config.snapshot == FeatureMode::On => Line::fail(WHAT, why.missing, why.hint),
        Err(why) => Line::warn(WHAT, format!("files are read one by one, which costs more: {}", why.missing), why.hint),
    }
}
