//! The snapshots of this host, and which files they stand in for.

use std::path::PathBuf;

use tracing::{info, warn};

use super::choose::{Served, choose, has_local_events, parents};
use super::compare::{Bracket, Difference};
use super::recipes::{Recipe, are_of_devices};
use super::record::Copied;
use super::stats::Stat;
use super::values::{Values, fill_devices};
use crate::discover::{Hierarchy, cgroup};
use crate::ebpf::{Number, Obstacle, Probes, Snapshots, Wanted, counted};
use crate::metrics::{CollectorSet, Own};
use crate::read::container::Container;
use crate::read::plan::Plan;
use crate::read::sample::devices::Devices;
use crate::read::sample::{Labels, Sample};

/// Snapshots of this host, and what they serve.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) taker: Snapshots,
    pub(super) trees: Vec<PathBuf>,
    /// For each planned file.
    pub(super) files: Vec<Served>,
    pub(super) stats: Vec<Stat>,
    pub(super) page: u64,
    /// This pass has a snapshot.
    pub(super) is_fresh: bool,
    /// The last one that was wanted could not be taken.
    pub(super) has_failed: bool,
    /// Whether what snapshots give was compared with the files of several cgroups.
    pub(super) is_proven: bool,
    /// What differed in the last comparison, and in how many in a row.
    pub(super) suspects: Vec<Difference>,
    pub(super) tries: usize,
    pub(super) turn: usize,
    /// Cgroups with the same controllers have the same files, with the same keys.
    pub(super) kinds: Vec<Kind>,
    /// The container whose `memory.stat` could not be told: it is looked at next.
    pub(super) doubtful: Option<u64>,
    pub(super) brackets: Vec<Bracket>,
    pub(super) own: Own,
}

/// What cgroups with the same controllers have.
#[derive(Debug)]
pub(super) struct Kind {
    /// Which objects such cgroups have, and which trees show them.
    pub(super) objects: u64,
    /// For each planned file the keys that it has, a bit each; none where it was not read yet. Those of devices are not
    /// told apart: a snapshot has the devices that the file has.
    pub(super) known: Vec<Option<u64>>,
}

impl Snapshot {
    /// Starts snapshots of what the plan wants, where this host allows it.
    ///
    /// # Errors
    /// What it lacks, or what the kernel refused.
    pub(super) fn start(
        plan: &Plan,
        hierarchy: &Hierarchy,
        containers: usize,
        probes: &mut Probes,
        own: Own,
    ) -> Result<Self, Obstacle> {
        let mut wanted: Vec<Wanted> = Vec::new();
        let trees = counted(hierarchy);
        let mut keys_followed: Vec<&'static str> = Vec::new();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let local_events = has_local_events(&mounts);
        let mut files: Vec<Served> = Vec::new();
        for file in &plan.files {
            let is_local = local_events && file.name.ends_with(".events");
            files.push(if is_local { Served::ByFile } else { choose(file, &trees, &mut wanted, &mut keys_followed) });
        }
        let taker = probes.snapshots(&wanted, containers)?;
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        let stats = keys_followed.iter().map(|_| Stat::new(taker.stats(), page)).collect();
        info!(
            trees = wanted.len(),
            bytes = taker.bytes(),
            "counters come from snapshots that the kernel takes of all containers at once, as far as these agree with the files"
        );
        Ok(Self {
            trees: wanted.into_iter().map(|wanted| wanted.tree.path).collect(),
            taker,
            files,
            stats,
            page,
            is_fresh: false,
            has_failed: false,
            is_proven: false,
            suspects: Vec::new(),
            tries: 0,
            turn: 0,
            kinds: Vec::new(),
            doubtful: None,
            brackets: Vec::new(),
            own,
        })
    }

    /// Has the next snapshot show these containers.
    pub(in crate::read) fn follow(&mut self, containers: &[Container]) {
        if let Err(obstacle) = self.try_to_follow(containers) {
            self.note(Err(obstacle));
        }
    }

    /// What is iterated over are their parents. Those directly below the root have none that would do.
    pub(super) fn try_to_follow(&mut self, containers: &[Container]) -> Result<(), Obstacle> {
        self.taker.follow(parents(containers.iter().map(|container| container.path.as_str())))
    }

    /// Takes a snapshot. Where that does not succeed, files are read, until it does.
    pub(super) fn take(&mut self) {
        let taken = self.taker.take();
        self.is_fresh = taken.is_ok();
        self.note(taken);
    }

    /// Tells that it does not succeed any more, or succeeds again, once.
    pub(super) fn note(&mut self, taken: Result<(), Obstacle>) {
        let had_failed = std::mem::replace(&mut self.has_failed, taken.is_err());
        self.own.ebpf_program_loaded.with_label_values(&["snapshot"]).set(i64::from(!self.has_failed));
        match taken {
            Ok(()) if had_failed => info!("snapshots are taken again"),
            Ok(()) => {}
            Err(obstacle) => {
                self.own.count_read_error("snapshot", "failed");
                if !had_failed {
                    warn!(%obstacle, "no snapshot could be taken: files are read, which costs more and tells the same, until one can");
                }
            }
        }
    }

    /// The collectors for whose files a snapshot stands in.
    pub(super) fn collectors(&self, plan: &Plan) -> CollectorSet {
        let served = plan.files.iter().zip(&self.files).filter(|(_, served)| !matches!(served, Served::ByFile));
        served.fold(CollectorSet::EMPTY, |all, (file, _)| all.union(file.collectors))
    }

    pub(super) fn values(&self) -> Values<'_> {
        Values { stats: &self.stats, page: self.page }
    }

    /// Looks a container up in the snapshot of this pass. Has its limits read where they are others than before, or may be, as
    /// they are watched from now on, or no more. Gives the number of its tasks; none where that is not known.
    pub(in crate::read) fn find(&mut self, container: &mut Container) -> Option<u64> {
        let Container { copied, path, life, limits_due, .. } = container;
        if copied.life != *life || copied.cgroups.len() != self.trees.len() {
            *copied = Copied { life: *life, cgroups: vec![0; self.trees.len()], ..Copied::default() };
        }
        for (id, tree) in copied.cgroups.iter_mut().zip(&self.trees).filter(|(id, _)| **id == 0) {
            // The cgroups of a container are made one after the other, and not all engines make one in each tree.
            *id = cgroup::id(tree, path).unwrap_or(0);
        }
        if !self.is_fresh {
            // The next one tells what has changed till then, where there is one in sight.
            if self.has_failed && copied.lose().is_some() {
                *limits_due = None;
            }
            return None;
        }
        let walked = copied.cgroups.get(self.taker.walked()).copied().filter(|id| *id != 0);
        let before = copied.place.unwrap_or(u32::MAX);
        copied.place = walked.and_then(|id| self.taker.find(id, before));
        let Some(record) = copied.place.and_then(|place| self.taker.record(place)) else {
            if copied.lose().is_some() {
                *limits_due = None;
            }
            return None;
        };
        let (shown_trees, is_whole) = copied.compare(&record);
        let objects = record.objects() | u64::from(shown_trees) << u16::BITS;
        let kind = self.kinds.iter().position(|kind| kind.objects == objects).unwrap_or_else(|| {
            self.kinds.push(Kind { objects, known: vec![None; self.files.len()] });
            self.kinds.len() - 1
        });
        let limits = is_whole.then(|| record.limits());
        if (copied.kind, copied.limits) != (Some(kind), limits) {
            *limits_due = None;
        }
        (copied.shown_trees, copied.kind, copied.limits) = (shown_trees, Some(kind), limits);
        record.number(Number::Tasks).filter(|_| is_whole)
    }

    /// The values of a planned file into a sample, where the snapshot of this pass can give all of them.
    pub(in crate::read) fn fill(
        &mut self,
        place: usize,
        container: &mut Container,
        labels: &mut Labels,
        devices: &mut Devices,
    ) -> bool {
        let Container { copied, sample, .. } = container;
        if !self.is_fresh || !self.is_proven || self.is_suspect(place) {
            return false;
        }
        match self.files.get(place) {
            None | Some(Served::ByFile) => false,
            Some(Served::BySnapshot { tree, keys }) => {
                let Some(known) = self.known(copied, place) else { return false };
                let Some(record) = copied.record(&self.taker, *tree) else { return false };
                if are_of_devices(keys) {
                    return fill_devices(&record, keys, sample, labels, devices);
                }
                let told = self.values().fill(&record, keys, known, sample);
                if !told && matches!(keys.first(), Some((_, Recipe::Stat(_)))) {
                    self.doubtful = self.doubtful.or_else(|| copied.cgroups.get(*tree).copied());
                }
                told
            }
        }
    }

    /// Whether a file that was not read this time is best left open.
    pub(in crate::read) fn is_read_often(&self, place: usize) -> bool {
        let keys = match self.files.get(place) {
            Some(Served::BySnapshot { keys, .. }) => keys.as_slice(),
            _ => &[],
        };
        keys.iter().any(|(_, recipe)| recipe.is_file_s_own())
    }

    /// What a file had when it was read: a snapshot gives no other keys.
    pub(in crate::read) fn learn(&mut self, place: usize, container: &Container) {
        let Some(Served::BySnapshot { keys, .. }) = self.files.get(place) else { return };
        let kind = container.copied.kind.filter(|_| self.is_fresh).and_then(|kind| self.kinds.get_mut(kind));
        if let Some(known) = kind.and_then(|kind| kind.known.get_mut(place)) {
            *known = Some(keys_in(keys, &container.sample));
        }
    }

    /// The keys that a container's file has, by what the file of one like it had.
    pub(super) fn known(&self, copied: &Copied, place: usize) -> Option<u64> {
        self.kinds.get(copied.kind?)?.known.get(place).copied().flatten()
    }
}

/// Whether snapshots can be taken on this host: tries it.
///
/// # Errors
/// What it lacks, or what the kernel refused.
pub fn can_be_taken(plan: &Plan, hierarchy: &Hierarchy, probes: &mut Probes, own: Own) -> Result<(), Obstacle> {
    Snapshot::start(plan, hierarchy, 0, probes, own).map(drop)
}

/// A bit for each key that a sample has.
fn keys_in(keys: &[(u16, Recipe)], sample: &Sample) -> u64 {
    let has = |(place, (target, _)): (usize, &(u16, Recipe))| u64::from(sample.get(*target).is_some()) << place;
    keys.iter().enumerate().map(has).fold(0, |all, one| all | one)
}
