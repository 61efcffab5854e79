//! Values of all containers from one snapshot of the kernel's counters per scrape. `docs/SNAPSHOTS.md` explains it with a picture.
//!
//! - [`Snapshots`] takes the snapshot, and fills samples from it in place of the files that it replaces.
//! - `record` derives a container's values from its record in the snapshot.
//! - `derivations` has the derivation of each key from a counter, and `stat_index` finds the counters of `memory.stat`.
//! - `cross_check` compares snapshots with files, and `sources` has the evidence by which a snapshot replaces a file.
//!
//! A file determines which of its keys are exposed. It is read once for each layout class (cgroups with the same controllers).
//! Values that the snapshot lacks are read from files.

mod cross_check;
mod derivations;
pub(super) mod record;
mod sources;
mod stat_index;

use std::path::PathBuf;

use tracing::{info, warn};

use self::derivations::{Derivation, fill_device_table};
use self::record::{ContainerRecord, Values, fill_devices};
use self::sources::{Source, choose, has_local_events, parents};
use self::stat_index::StatIndex;
use crate::discover::{Hierarchy, cgroup};
use crate::ebpf::{IterReader, Number, Probes, TreeRequest, Unsupported, counted};
use crate::metrics::{CollectorSet, FamilySet, SelfMetrics};
use crate::read::container::Container;
use crate::read::diskstats::Devices;
use crate::read::plan::Plan;
use crate::read::sample::{Labels, Sample};

/// Takes snapshots of the counters of this host's containers, and has the last one.
#[derive(Debug)]
pub struct Snapshots {
    reader: IterReader,
    /// Roots of the copied trees.
    trees: Vec<PathBuf>,
    /// The source of each planned file.
    sources: Vec<Source>,
    /// The counters of the keys of `memory.stat`.
    stats: Vec<StatIndex>,
    /// Size of a page in bytes.
    page: u64,
    /// Whether this pass has a snapshot.
    is_fresh: bool,
    /// Whether the last attempt failed.
    has_failed: bool,
    /// Number of cgroups of the last snapshot that exceeded the capacity. The first such snapshot is logged.
    overflow: Option<usize>,
    layouts: Vec<LayoutClass>,
    /// Generation of a container that differed from its files, and is compared again.
    recheck: Option<u64>,
    /// Generation of a container whose `memory.stat` could not be derived.
    unresolved: Option<u64>,
    /// Whether the last comparison was of an unresolved container.
    was_unresolved: bool,
    /// Number of comparisons of containers in turn.
    turn: usize,
    self_metrics: SelfMetrics,
}

/// Cgroups with the same controllers, and so with the same files and keys.
#[derive(Debug)]
struct LayoutClass {
    /// A bit for each controller that the cgroups have, and above for each tree that shows them.
    css_mask: u64,
    /// For each planned file, a bit for each key that it has; none if it was not read yet. Tables of devices need no bits, because
    /// a snapshot has the same devices as the file.
    present_keys: Vec<Option<u64>>,
}

impl Snapshots {
    /// Loads the program that copies the planned counters, if this host allows it.
    ///
    /// # Errors
    /// What the host lacks, or what the kernel refused.
    fn start(
        plan: &Plan,
        hierarchy: &Hierarchy,
        containers: usize,
        probes: &mut Probes,
        self_metrics: SelfMetrics,
    ) -> Result<Self, Unsupported> {
        let (mut requests, mut stat_keys) = (Vec::new(), Vec::new());
        let trees = counted(hierarchy);
        let local_events = has_local_events(&std::fs::read_to_string("/proc/self/mounts").unwrap_or_default());
        let mut sources = Vec::new();
        for file in &plan.files {
            let is_local = local_events && file.name.ends_with(".events");
            sources.push(if is_local { Source::File } else { choose(file, &trees, &mut requests, &mut stat_keys) });
        }
        let reader = probes.iter_reader(&requests, containers)?;
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        info!(
            trees = requests.len(),
            bytes = reader.bytes(),
            "reading counters of all containers from kernel snapshots, after comparing them with the files"
        );
        Ok(Self {
            trees: requests.into_iter().map(|request: TreeRequest| request.tree.path).collect(),
            stats: stat_keys.iter().map(|_| StatIndex::new(reader.stats(), page)).collect(),
            reader,
            sources,
            page,
            is_fresh: false,
            has_failed: false,
            overflow: None,
            layouts: Vec::new(),
            recheck: None,
            unresolved: None,
            was_unresolved: false,
            turn: 0,
            self_metrics,
        })
    }

    /// Sets the containers of the next snapshot.
    pub(crate) fn set_containers(&mut self, containers: &[Container]) {
        if let Err(unsupported) = self.try_set_containers(containers) {
            self.record_outcome(Err(unsupported));
        }
    }

    /// Sets the cgroups below which the kernel iterates: the parents of the containers' cgroups. Containers directly below the root
    /// have none.
    fn try_set_containers(&mut self, containers: &[Container]) -> Result<(), Unsupported> {
        let paths = containers.iter().map(|container| container.path.as_str());
        self.reader.set_roots(parents(paths), containers.len())
    }

    /// Takes a snapshot. If that fails, files are read until it succeeds.
    fn take(&mut self) {
        let taken = self.reader.take();
        self.is_fresh = taken.is_ok();
        if self.reader.overflows() {
            self.self_metrics.count_read_error("snapshot", "too_many");
            let cgroups = self.reader.entries();
            if self.overflow.replace(cgroups).is_none() {
                warn!(
                    cgroups,
                    "containers have too many cgroups below their own for snapshots: some are read by files, which costs more and tells \
                     the same"
                );
            }
        }
        self.record_outcome(taken);
    }

    /// Logs the first failure and the first success after one.
    fn record_outcome(&mut self, taken: Result<(), Unsupported>) {
        let had_failed = std::mem::replace(&mut self.has_failed, taken.is_err());
        self.self_metrics.ebpf_program_loaded.with_label_values(&["snapshot"]).set(i64::from(!self.has_failed));
        match taken {
            Ok(()) if had_failed => info!("snapshots work again"),
            Ok(()) => {}
            Err(unsupported) => {
                self.self_metrics.count_read_error("snapshot", "failed");
                if !had_failed {
                    warn!(%unsupported, "cannot take a snapshot: reading files, which costs more and gives the same values; retrying");
                }
            }
        }
    }

    /// Returns the collectors of those files that these families need and a snapshot may replace.
    fn collectors(&self, plan: &Plan, families: FamilySet) -> CollectorSet {
        let wanted = plan.files.iter().zip(&self.sources).filter(|(file, _)| file.families.intersects(&families));
        let copied = wanted.filter(|(_, source)| matches!(source, Source::Snapshot { .. }));
        copied.fold(CollectorSet::EMPTY, |all, (file, _)| all.union(file.collectors))
    }

    fn values(&self) -> Values<'_> {
        Values { stats: &self.stats, page: self.page }
    }

    /// Finds a container's record in the snapshot of this pass. Returns its number of tasks; none if the snapshot lacks some of its cgroups.
    pub(crate) fn refresh_container(&mut self, container: &mut Container) -> Option<u64> {
        let Container { record: known, path, .. } = container;
        known.cgroups.resize(self.trees.len(), 0);
        for (id, tree) in known.cgroups.iter_mut().zip(&self.trees).filter(|(id, _)| **id == 0) {
            // The engine creates the cgroups of a container one after the other, and not every engine creates one in each tree.
            *id = cgroup::id(tree, path).unwrap_or(0);
        }
        if !self.is_fresh {
            // A pass that needs no value of a snapshot takes no snapshot, and leaves the state as it is.
            if self.has_failed {
                known.forget();
            }
            return None;
        }
        let primary = known.cgroups.get(self.reader.primary_tree()).copied().filter(|id| *id != 0);
        let before = known.index.unwrap_or(u32::MAX);
        known.index = primary.and_then(|id| self.reader.find(id, before));
        let Some(record) = known.index.and_then(|index| self.reader.record(index)) else {
            known.forget();
            return None;
        };
        let (trees, is_whole) = known.trees_in(&record);
        let css_mask = record.css_mask() | u64::from(trees) << u16::BITS;
        let layout = self.layouts.iter().position(|layout| layout.css_mask == css_mask).unwrap_or_else(|| {
            self.layouts.push(LayoutClass { css_mask, present_keys: vec![None; self.sources.len()] });
            self.layouts.len() - 1
        });
        (known.trees, known.layout) = (trees, Some(layout));
        known.digest = is_whole.then(|| (layout, record.limits()));
        record.number(Number::Tasks).filter(|_| is_whole)
    }

    /// Fills the values of a planned file into a container's sample. Returns false if the snapshot of this pass lacks one of them.
    pub(crate) fn fill(
        &mut self,
        file: usize,
        container: &mut Container,
        labels: &mut Labels,
        devices: &mut Devices,
    ) -> bool {
        let Container { record: known, sample, generation, .. } = container;
        let Some(Source::Snapshot { tree, keys, evidence }) = self.sources.get(file) else { return false };
        if !self.is_fresh || !evidence.is_enough() {
            return false;
        }
        let Some(present_keys) = self.present_keys(known, file) else { return false };
        let Some(record) = known.get(&self.reader, *tree) else { return false };
        if fill_device_table(keys) {
            return fill_devices(&record, keys, sample, labels, devices);
        }
        let is_filled = self.values().fill(&record, keys, present_keys, sample);
        if !is_filled && matches!(keys.first(), Some((_, Derivation::Stat(_)))) {
            self.unresolved = self.unresolved.or(Some(*generation));
        }
        is_filled
    }

    /// Returns whether a file that was not read this time should stay open.
    pub(crate) fn keeps_open(&self, file: usize) -> bool {
        matches!(self.sources.get(file), Some(Source::Snapshot { keys, .. })
            if keys.iter().any(|(_, derivation)| derivation.is_read_after_run()))
    }

    /// Records the keys of a file that was just read. Of cgroups of the same layout class no other keys are exposed.
    pub(crate) fn learn_keys(&mut self, file: usize, container: &Container) {
        let Some(Source::Snapshot { keys, .. }) = self.sources.get(file) else { return };
        let layout = container.record.layout.filter(|_| self.is_fresh).and_then(|layout| self.layouts.get_mut(layout));
        if let Some(present) = layout.and_then(|layout| layout.present_keys.get_mut(file)) {
            *present = Some(keys_in(keys, &container.sample));
        }
    }

    /// Returns a bit for each key that a container's file has, as it was read of a container of the same layout class.
    fn present_keys(&self, known: &ContainerRecord, file: usize) -> Option<u64> {
        self.layouts.get(known.layout?)?.present_keys.get(file).copied().flatten()
    }
}

/// Loads and drops the program that copies the planned counters, to find out whether this host allows it.
///
/// # Errors
/// What the host lacks, or what the kernel refused.
pub fn can_snapshot(
    plan: &Plan,
    hierarchy: &Hierarchy,
    probes: &mut Probes,
    self_metrics: SelfMetrics,
) -> Result<(), Unsupported> {
    Snapshots::start(plan, hierarchy, 0, probes, self_metrics).map(drop)
}

/// Returns a bit for each key that has a value in a sample.
fn keys_in(keys: &[(u16, Derivation)], sample: &Sample) -> u64 {
    let has = |(bit, (target, _)): (usize, &(u16, Derivation))| u64::from(sample.get(*target).is_some()) << bit;
    keys.iter().enumerate().map(has).fold(0, |all, one| all | one)
}
