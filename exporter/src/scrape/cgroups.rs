//! Values from kernel files, for hosts whose cgroup tree can be read.

use std::path::PathBuf;
use std::time::Instant;

use super::exposed_set::LiveContainer;
use crate::discover::{
    CgroupFilter, ContainerId, Discovery, Engine, EngineRecord, Error, Hierarchy, IdFilter, NoEngine, and_empty,
    find_all,
};
use crate::docker::Engines;
use crate::ebpf::{Probes, Unsupported};
use crate::metrics::{Controller, FamilySet, SelfMetrics};
use crate::name::{Moment, Names};
use crate::read::{Labels, Pass, Progress, Reader, Row, Sample, Snapshots, Value, for_cgroups};
use crate::render::{Exposed, LabelSets};
use crate::walker::Walker;

/// Discovery and reader of one host.
#[derive(Debug)]
pub(super) struct Cgroups {
    setup: Setup,
    discovery: Discovery,
    reader: Reader,
    rows: Vec<Row>,
    /// Label sets of the cgroups that are not containers, in the reader's order.
    other_sets: Vec<LabelSets>,
    /// Start of the last pass.
    seen: Moment,
}

/// Settings to start a reader with, and to start it again.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) root: PathBuf,
    pub(super) procfs: PathBuf,
    pub(super) families: FamilySet,
    pub(super) self_metrics: SelfMetrics,
    pub(super) engines: Engines,
    /// Selects the cgroups that get rows without being containers.
    pub(super) others: CgroupFilter,
    /// The disk walker, if it could be started.
    pub(super) walker: Option<Walker>,
}

impl Cgroups {
    /// Detects the cgroup trees and discovers the containers for the first time.
    ///
    /// # Errors
    /// The root has no cgroup tree.
    pub(super) fn start(setup: Setup, probes: Option<Probes>, snapshots: Option<Snapshots>) -> Result<Self, Error> {
        let hierarchy = Hierarchy::detect(&setup.root)?;
        let live = hierarchy.is_live();
        let page_sizes = page_sizes(&hierarchy);
        let (plan, rows) = for_cgroups(&hierarchy, &page_sizes, setup.families);
        let reader = Reader::new(plan, hierarchy, &setup.procfs, live, setup.self_metrics.clone(), probes)
            .with_snapshots(snapshots)
            .with_walker(setup.walker.clone());
        let searched = reader.hierarchy().searched();
        let discovery = Discovery::new(searched, &setup.procfs, live, reader.lists_all());
        let discovery = discovery.with_others(setup.others.clone());
        let mut cgroups = Self { setup, discovery, reader, rows, other_sets: Vec::new(), seen: Moment::now() };
        cgroups.refresh(Instant::now(), &NoEngine);
        Ok(cgroups)
    }

    /// Returns whether the trees show only the cgroup of this process's own container.
    pub(super) fn is_blind(&self) -> bool {
        self.reader.hierarchy().is_blind()
    }

    /// Starts again if containers have appeared in trees that showed none at start.
    pub(super) fn appeared(setup: &Setup) -> Option<Self> {
        let hierarchy = Hierarchy::detect(&setup.root).ok().filter(|hierarchy| !hierarchy.is_blind())?;
        if find_all(hierarchy.searched()).is_empty() {
            return None;
        }
        Self::start(setup.clone(), None, None).ok()
    }

    /// Starts again after a panic left the reader in an unknown state.
    pub(super) fn restart(&mut self) -> Result<Self, Error> {
        let (probes, snapshots) = self.reader.take_ebpf();
        Self::start(self.setup.clone(), probes, snapshots)
    }

    /// Starts to read snapshots instead of files.
    ///
    /// # Errors
    /// The host does not support snapshots; the error says what it lacks.
    pub(super) fn start_snapshots(&mut self) -> Result<(), Unsupported> {
        self.reader.start_snapshots()
    }

    fn refresh(&mut self, now: Instant, engine: &dyn Engine) {
        let changes = self.discovery.refresh(now, engine);
        for reason in &changes.missed {
            self.setup.self_metrics.count_read_error("cgroup", reason);
        }
        self.reader.apply(changes);
        let others = self.discovery.take_other_changes();
        if others.dropped > 0 {
            self.setup.self_metrics.series_dropped.with_label_values(&["cgroup_limit"]).inc_by(others.dropped);
        }
        if !others.added.is_empty() || !others.removed.is_empty() {
            self.reader.apply_others(others);
            self.other_sets = self.reader.others().iter().map(|other| LabelSets::of_cgroup(&other.path)).collect();
        }
        let (refused, left) = self.discovery.refused();
        for (reason, count) in [("empty", left), ("foreign", refused.saturating_sub(left))] {
            let gauge = self.setup.self_metrics.cgroups_refused.with_label_values(&[reason]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Begins a pass over the present containers.
    pub(super) fn begin(&mut self, pass: Pass<'_>, now: Instant) -> Progress {
        for ended in self.reader.drop_ended() {
            self.discovery.forget(ended);
        }
        for path in self.reader.drop_ended_others() {
            self.discovery.forget_other(&path);
        }
        self.seen = Moment::now();
        let engines = &self.setup.engines;
        let engine = Known { names: pass.names, answering: engines.answering(), count: engines.members().len() };
        let empty = self.reader.containers().iter().filter(|container| container.seems_empty());
        let is_known = |id: &ContainerId| engine.container(*id).is_some_and(|record| record.runs);
        for id in empty.filter_map(|container| container.id).filter(|id| engine.answers(*id) && !is_known(id)) {
            self.discovery.suspect(id);
        }
        self.refresh(now, &engine);
        self.reader.begin(pass, now)
    }

    pub(super) fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    pub(super) fn live(&self) -> impl Iterator<Item = LiveContainer<'_>> + Clone {
        let oom_slot = self.oom_slot();
        self.reader.containers().iter().filter(|container| container.alive).filter_map(move |container| {
            Some(LiveContainer {
                id: container.id?,
                path: &container.path,
                named: container.named,
                sample: &container.sample,
                limits: &container.limits,
                generation: container.generation,
                oom_kills: oom_slot.and_then(|slot| container.sample.get(slot)),
            })
        })
    }

    /// Returns the cgroups that are not containers, with the label `id` alone.
    pub(super) fn others<'a>(&'a self, ids: &'a IdFilter) -> impl Iterator<Item = Exposed<'a>> {
        let oom_slot = self.oom_slot();
        let others = self.reader.others().iter().zip(&self.other_sets);
        others.filter(|(other, _)| other.alive && ids.has(None, &other.path)).map(move |(other, sets)| Exposed {
            labels: sets.base(),
            sample: Some(&other.sample),
            limits: Some(&other.limits),
            info: None,
            oom_kills: oom_slot.and_then(|slot| other.sample.get(slot)),
            last_seen_ms: Some(self.seen.wall_ms()),
            oom_since_ns: None,
        })
    }

    fn oom_slot(&self) -> Option<u16> {
        self.rows.iter().find_map(|row| match row.value {
            Value::OomKills(slot) => slot,
            _ => None,
        })
    }

    pub(super) fn limits_changed(&mut self, names: &Names, updated: &[ContainerId]) {
        for id in updated.iter().filter(|id| names.containers.contains_key(id)) {
            self.reader.limits_changed(*id);
        }
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn host(&self) -> &Sample {
        &self.reader.host().sample
    }

    pub(super) fn labels(&self) -> &Labels {
        self.reader.labels()
    }

    /// Logs what is read.
    pub(super) fn log_start(&self) {
        let hierarchy = self.reader.hierarchy();
        let empty = self.discovery.count_empty();
        tracing::info!(
            cgroups = %hierarchy.kind(), root = %hierarchy.root().display(), trees = self.searched().join(","),
            containers = self.discovery.len() - empty, without_process = empty, "reading kernel files"
        );
    }

    /// Returns the paths of the trees in which containers are searched.
    fn searched(&self) -> Vec<String> {
        self.reader.hierarchy().searched().iter().map(|tree| tree.path.display().to_string()).collect()
    }

    /// Returns what the exporter found on this host, for the live page.
    pub(super) fn findings(&self) -> Vec<(String, String)> {
        let hierarchy = self.reader.hierarchy();
        let empty = self.discovery.count_empty();
        vec![
            ("source".to_owned(), "kernel files".to_owned()),
            ("cgroups".to_owned(), format!("{} at {}", hierarchy.kind(), hierarchy.root().display())),
            ("containers searched in".to_owned(), self.searched().join(", ")),
            ("containers at start".to_owned(), format!("{}{}", self.discovery.len() - empty, and_empty(empty))),
        ]
    }
}

/// The engines' reports, as discovery asks for them.
pub(super) struct Known<'a> {
    pub(super) names: &'a Names,
    /// Engines that answer and have listed all containers, one bit each.
    pub(super) answering: u64,
    pub(super) count: usize,
}

impl Engine for Known<'_> {
    fn answers(&self, id: ContainerId) -> bool {
        match self.names.engine_of(id) {
            Some(engine) => self.answering >> engine & 1 == 1,
            None => self.answering.count_ones() as usize == self.count,
        }
    }

    fn answering(&self) -> u64 {
        self.answering
    }

    fn generation(&self) -> u64 {
        self.names.generation
    }

    fn container(&self, id: ContainerId) -> Option<EngineRecord<'_>> {
        self.names.containers.get(&id).map(|info| EngineRecord {
            runs: info.state.is_alive(),
            removed: info.removed.is_some(),
            pid: info.pid,
            cgroup_parent: &info.cgroup_parent,
        })
    }
}

/// Returns the huge page sizes in the spelling of cgroup files (`hugetlb.2MB.…`).
fn page_sizes(hierarchy: &Hierarchy) -> Vec<String> {
    let Some(tree) = hierarchy.tree(Controller::Hugetlb) else { return Vec::new() };
    // The root cgroup of v2 has no hugetlb files, so the sizes also come from sysfs, which spells them differently.
    let mut sizes: Vec<String> = std::fs::read_dir(&tree.path)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("hugetlb.")?.split('.').next()?.to_owned()))
        .chain(kernel_page_sizes())
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn kernel_page_sizes() -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| {
        let name = entry.file_name();
        let kib: u64 = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(match kib {
            kib if kib >= 1 << 20 => format!("{}GB", kib >> 20),
            kib if kib >= 1 << 10 => format!("{}MB", kib >> 10),
            kib => format!("{kib}KB"),
        })
    })
}
