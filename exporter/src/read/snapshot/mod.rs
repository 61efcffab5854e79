//! Values of all containers from snapshots: which files need not be read any more, and what their values are.
//!
//! Which keys a file has, a file tells: it is read once for all cgroups that have the same controllers, and a snapshot gives
//! no value that it did not have. From then on snapshots stand in for it as long as they can give all that is wanted of it,
//! and as long as what they give is what the file says (`check`). Whatever they cannot give is read, as if they were not there.

mod check;
mod choose;
mod parents;
mod recipes;
mod stats;
mod values;

use std::path::PathBuf;
use std::time::Instant;

use tracing::{info, warn};

use super::container::Container;
use super::devices::Devices;
use super::plan::Plan;
use super::probed::holders;
use super::reader::Reader;
use super::sample::{Labels, Sample};
use crate::discover::{Hierarchy, cgroup};
use crate::ebpf::{Number, Obstacle, Probes, Record, Snapshots, Wanted, counted};
use crate::metrics::{CollectorSet, Own};

use check::Bracket;
use choose::{choose, has_local_events};
use parents::parents;
use recipes::{Recipe, are_of_devices};
use stats::Stat;
use values::{Values, fill_devices};

/// Snapshots of this host, and what they serve.
#[derive(Debug)]
pub struct Snapshot {
    taker: Snapshots,
    trees: Vec<PathBuf>,
    /// For each planned file.
    files: Vec<Served>,
    stats: Vec<Stat>,
    page: u64,
    /// This pass has a snapshot.
    is_fresh: bool,
    /// The last one that was wanted could not be taken.
    has_failed: bool,
    /// Whether what snapshots give was compared with the files of several cgroups.
    is_proven: bool,
    /// What differed in the last comparison, and in how many in a row.
    suspects: Vec<check::Difference>,
    tries: usize,
    turn: usize,
    /// Cgroups with the same controllers have the same files, with the same keys.
    kinds: Vec<Kind>,
    /// The container whose `memory.stat` could not be told: it is looked at next.
    doubtful: Option<u64>,
    brackets: Vec<Bracket>,
    own: Own,
}

/// How the values of a planned file are come by.
#[derive(Debug)]
enum Served {
    /// It is read.
    ByFile,
    /// From the snapshot of a cgroup of this tree, key by key: slot or column, and recipe.
    BySnapshot { tree: usize, keys: Vec<(u16, Recipe)> },
}

/// What is remembered of a container.
#[derive(Debug, Default)]
pub(super) struct Copied {
    life: u64,
    /// Its cgroup in each tree, 0 where it has none.
    cgroups: Vec<u64>,
    /// Where in the snapshot it is.
    place: Option<u32>,
    /// A bit for each tree whose cgroup the snapshot shows there.
    shown_trees: u8,
    /// Which of [`Snapshot::kinds`] it is of.
    kind: Option<usize>,
    /// A digest of its limits; none where the snapshot does not show all of its cgroups.
    limits: Option<u64>,
}

/// What cgroups with the same controllers have.
#[derive(Debug)]
struct Kind {
    /// Which objects such cgroups have, and which trees show them.
    objects: u64,
    /// For each planned file the keys that it has, a bit each; none where it was not read yet. Those of devices are not
    /// told apart: a snapshot has the devices that the file has.
    known: Vec<Option<u64>>,
}

impl Reader {
    /// Has snapshots stand in for files from now on.
    ///
    /// # Errors
    /// What this host lacks for that.
    pub fn start_snapshots(&mut self) -> Result<(), Obstacle> {
        let nobody = || Obstacle::new("no eBPF programs are wanted or can be of use here", "--ebpf=auto");
        let probes = self.probes.as_mut().ok_or_else(nobody)?;
        let containers = &self.containers;
        probes.announce(holders(containers), Instant::now());
        let mut snapshot = Snapshot::start(&self.plan, &self.hierarchy, containers.len(), probes, self.own.clone())?;
        snapshot.try_to_follow(containers)?;
        snapshot.note(Ok(()));
        self.snapshot = Some(snapshot);
        Ok(())
    }
}

impl Snapshot {
    /// Starts snapshots of what the plan wants, where this host allows it.
    ///
    /// # Errors
    /// What it lacks, or what the kernel refused.
    fn start(
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
    pub(super) fn follow(&mut self, containers: &[Container]) {
        if let Err(obstacle) = self.try_to_follow(containers) {
            self.note(Err(obstacle));
        }
    }

    /// What is iterated over are their parents. Those directly below the root have none that would do.
    fn try_to_follow(&mut self, containers: &[Container]) -> Result<(), Obstacle> {
        self.taker.follow(parents(containers.iter().map(|container| container.path.as_str())))
    }

    /// Takes a snapshot. Where that does not succeed, files are read, until it does.
    fn take(&mut self) {
        let taken = self.taker.take();
        self.is_fresh = taken.is_ok();
        self.note(taken);
    }

    /// Tells that it does not succeed any more, or succeeds again, once.
    fn note(&mut self, taken: Result<(), Obstacle>) {
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
    fn collectors(&self, plan: &Plan) -> CollectorSet {
        let served = plan.files.iter().zip(&self.files).filter(|(_, served)| !matches!(served, Served::ByFile));
        served.fold(CollectorSet::EMPTY, |all, (file, _)| all.union(file.collectors))
    }

    fn values(&self) -> Values<'_> {
        Values { stats: &self.stats, page: self.page }
    }

    /// Looks a container up in the snapshot of this pass. Has its limits read where they are others than before, or may be, as
    /// they are watched from now on, or no more. Gives the number of its tasks; none where that is not known.
    pub(super) fn find(&mut self, container: &mut Container) -> Option<u64> {
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
    pub(super) fn fill(
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
    pub(super) fn is_read_often(&self, place: usize) -> bool {
        let keys = match self.files.get(place) {
            Some(Served::BySnapshot { keys, .. }) => keys.as_slice(),
            _ => &[],
        };
        keys.iter().any(|(_, recipe)| recipe.is_file_s_own())
    }

    /// What a file had when it was read: a snapshot gives no other keys.
    pub(super) fn learn(&mut self, place: usize, container: &Container) {
        let Some(Served::BySnapshot { keys, .. }) = self.files.get(place) else { return };
        let kind = container.copied.kind.filter(|_| self.is_fresh).and_then(|kind| self.kinds.get_mut(kind));
        if let Some(known) = kind.and_then(|kind| kind.known.get_mut(place)) {
            *known = Some(keys_in(keys, &container.sample));
        }
    }

    /// The keys that a container's file has, by what the file of one like it had.
    fn known(&self, copied: &Copied, place: usize) -> Option<u64> {
        self.kinds.get(copied.kind?)?.known.get(place).copied().flatten()
    }
}

impl Copied {
    /// Whether a changed limit would have been noticed.
    pub(super) fn are_limits_watched(&self) -> bool {
        self.limits.is_some()
    }

    /// What the snapshot shows of it; none where it does not show its cgroup in this tree.
    fn record<'a>(&self, taker: &'a Snapshots, tree: usize) -> Option<Record<'a>> {
        taker.record(self.place.filter(|_| self.shown_trees & (1 << tree) != 0)?)
    }

    /// The snapshot does not show it. Gives what was known of its limits.
    fn lose(&mut self) -> Option<u64> {
        (self.place, self.shown_trees, self.kind) = (None, 0, None);
        self.limits.take()
    }

    /// A bit for each tree whose cgroup a record shows, and whether these are all that there are.
    fn compare(&self, record: &Record<'_>) -> (u8, bool) {
        let own = self.cgroups.iter().enumerate().filter(|(_, id)| **id != 0);
        own.fold(
            (0, true),
            |(shown, is_whole), (tree, id)| {
                if record.cgroup(tree) == *id { (shown | 1 << tree, is_whole) } else { (shown, false) }
            },
        )
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
