//! Values of all containers from snapshots: which files need not be read any more, and what their values are.
//!
//! A container's files are read once, which tells what its cgroup has: a snapshot gives no value that the file did not have.
//! From then on it stands in for a file as long as it can give all that is wanted of it, and as long as what it gives is
//! what the file says (`check`). Whatever it cannot give is read, as if it were not there.

mod check;
mod cputime;
mod recipes;
mod stats;

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use tracing::{info, warn};

use super::container::Container;
use super::devices::Devices;
use super::format::Device;
use super::plan::{Plan, PlannedFile};
use super::sample::{Labels, Sample};
use crate::discover::{Hierarchy, Version};
use crate::ebpf::{DeviceUse, Number, Obstacle, Probes, Record, Snapshots, Wanted};
use crate::metrics::{CollectorSet, Controller, Dimension, Own};

pub(super) use check::Bracket;
use cputime::{Times, share};
use recipes::{Column, Part, Recipe, recipe};
use stats::Stat;

/// Keys of a file that are told apart.
const KEYS: usize = 64;
/// Cgroups that are iterated over, at most: where containers have more parents, what these have in common.
const PARENTS: usize = 16;

/// Snapshots of this host, and what they serve.
#[derive(Debug)]
pub struct Snapshot {
    taker: Snapshots,
    trees: Vec<PathBuf>,
    /// For each planned file.
    files: Vec<Served>,
    stats: Vec<Stat>,
    page: u64,
    parents: Vec<String>,
    /// This pass has a snapshot.
    is_fresh: bool,
    /// Whether what snapshots give was compared with the files of several cgroups.
    is_proven: bool,
    turn: usize,
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
    /// From the snapshot of a tree, key by key: slot or column, and recipe.
    BySnapshot { tree: usize, keys: Vec<(u16, Recipe)> },
}

/// What is remembered of a container.
#[derive(Debug, Default)]
pub(super) struct Copied {
    life: u64,
    /// Its cgroup in each tree, and where in the snapshot that is.
    cgroups: Vec<(u64, Option<u32>)>,
    /// For each planned file the keys that it has, a bit each; none where it was not read yet. Those of devices are not
    /// told apart: a snapshot has the devices that the file has.
    known: Vec<Option<u64>>,
    /// Controllers and limits, as digests.
    condition: Option<(u64, u64)>,
    /// User and system time as last shown.
    shown: [u64; 2],
}

/// What a look at a container's record told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct News {
    /// A limit is another one than before.
    pub(super) limits: bool,
    /// Tasks in it; none where that is not known.
    pub(super) tasks: Option<u64>,
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
        let mut wanted: Vec<(PathBuf, Wanted)> = Vec::new();
        let mut keys_followed: Vec<&'static str> = Vec::new();
        let files: Vec<Served> =
            plan.files.iter().map(|file| choose(file, hierarchy, &mut wanted, &mut keys_followed)).collect();
        let taker = probes.snapshots(&wanted, containers)?;
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        let counters = (0..wanted.len()).map(|tree| taker.stats(tree)).max().unwrap_or(0);
        let stats = keys_followed.iter().map(|_| Stat::new(counters, page)).collect();
        info!(
            trees = wanted.len(),
            bytes = taker.bytes(),
            "counters come from snapshots that the kernel takes of all containers at once, as far as these agree with the files"
        );
        Ok(Self {
            trees: wanted.into_iter().map(|(tree, _)| tree).collect(),
            taker,
            files,
            stats,
            page,
            parents: Vec::new(),
            is_fresh: false,
            is_proven: false,
            turn: 0,
            doubtful: None,
            brackets: Vec::new(),
            own,
        })
    }

    /// Parents of these containers: what is to be iterated over. Those directly below the root have none that would do.
    pub(super) fn follow(&mut self, containers: &[Container]) {
        self.parents = parents(containers.iter().map(|container| container.path.as_str()));
        if let Err(obstacle) = self.taker.follow(&self.parents) {
            self.fail(&obstacle);
        }
    }

    /// What cannot be taken now is told once, and taken no more.
    fn fail(&mut self, obstacle: &Obstacle) {
        warn!(%obstacle, "no more snapshots: values are read from files, which costs more and tells the same");
        self.own.count_read_error("snapshot", "failed");
        self.files.iter_mut().for_each(|file| *file = Served::ByFile);
        self.is_fresh = false;
    }

    /// Whether a snapshot stands in for any file.
    fn serves(&self) -> bool {
        self.files.iter().any(|file| !matches!(file, Served::ByFile))
    }

    /// The collectors for whose files it does.
    fn collectors(&self, plan: &Plan) -> CollectorSet {
        let served = plan.files.iter().zip(&self.files).filter(|(_, served)| !matches!(served, Served::ByFile));
        served.fold(CollectorSet::EMPTY, |all, (file, _)| all.union(file.collectors))
    }

    fn values(&self) -> Values<'_> {
        Values { stats: &self.stats, page: self.page }
    }

    /// Looks a container up in the snapshot of this pass. Gives what is new.
    pub(super) fn find(&mut self, container: &mut Container) -> News {
        let Container { copied, path, life, .. } = container;
        if copied.life != *life || copied.cgroups.len() != self.trees.len() {
            let id = |tree: &PathBuf| {
                let found = std::fs::metadata(tree.join(path.trim_start_matches('/')));
                (found.map_or(0, |metadata| metadata.ino()), None)
            };
            *copied = Copied {
                life: *life,
                cgroups: self.trees.iter().map(id).collect(),
                known: vec![None; self.files.len()],
                ..Copied::default()
            };
        }
        let (mut objects, mut limits, mut tasks, mut is_whole) = (0_u64, 0_u64, None, true);
        for (tree, (id, place)) in copied.cgroups.iter_mut().enumerate() {
            let before = place.unwrap_or(u32::MAX);
            *place = if self.is_fresh && *id != 0 { self.taker.find(tree, *id, before) } else { None };
            let Some(record) = place.and_then(|place| self.taker.record(tree, place)) else {
                is_whole = false;
                continue;
            };
            let (of_objects, of_limits) = record.condition();
            objects = objects.rotate_left(8) ^ of_objects;
            limits = limits.rotate_left(8) ^ of_limits;
            tasks = tasks.or_else(|| record.number(Number::Tasks));
        }
        if !is_whole {
            return News::default();
        }
        let before = copied.condition.replace((objects, limits));
        if before.is_some_and(|(before, _)| before != objects) {
            // A controller has come or gone: the files tell what there is now.
            copied.known.fill(None);
        }
        News { limits: before.is_some_and(|(_, before)| before != limits), tasks }
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
        if !self.is_fresh || !self.is_proven {
            return false;
        }
        match self.files.get(place) {
            None | Some(Served::ByFile) => false,
            Some(Served::BySnapshot { tree, keys }) => {
                let Some(known) = copied.known.get(place).copied().flatten() else { return false };
                let Some((id, Some(found))) = copied.cgroups.get(*tree).copied() else { return false };
                let Some(record) = self.taker.record(*tree, found) else { return false };
                if keys.iter().any(|(_, recipe)| recipe.is_of_devices()) {
                    return fill_devices(&record, keys, sample, labels, devices);
                }
                let told = self.values().fill(&record, keys, known, &mut copied.shown, sample);
                if !told && matches!(keys.first(), Some((_, Recipe::Stat(_)))) {
                    self.doubtful.get_or_insert(id);
                }
                told
            }
        }
    }

    /// What a file had when it was read: a snapshot gives no other keys.
    pub(super) fn learn(&self, place: usize, container: &mut Container) {
        let Container { copied, sample, .. } = container;
        let Some(Served::BySnapshot { keys, .. }) = self.files.get(place) else { return };
        if let Some(known) = copied.known.get_mut(place) {
            *known = Some(keys_in(keys, sample));
        }
    }
}

impl Copied {
    /// Whether a changed limit would have been noticed.
    pub(super) fn are_limits_watched(&self) -> bool {
        self.condition.is_some()
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

/// How a planned file may be served. Adds what it takes to what is wanted.
fn choose(
    file: &PlannedFile,
    hierarchy: &Hierarchy,
    wanted: &mut Vec<(PathBuf, Wanted)>,
    followed: &mut Vec<&'static str>,
) -> Served {
    let Some(version) = version(file, hierarchy) else { return Served::ByFile };
    if file.keys.len() > KEYS {
        return Served::ByFile;
    }
    let mut follow = |key: &'static str| {
        followed.iter().position(|known| *known == key).unwrap_or_else(|| {
            followed.push(key);
            followed.len() - 1
        })
    };
    let recipes: Option<Vec<Recipe>> = file.keys.iter().map(|key| recipe(version, file, key, &mut follow)).collect();
    let Some(recipes) = recipes else { return Served::ByFile };
    let tree = wanted.iter().position(|(tree, _)| *tree == file.tree).unwrap_or_else(|| {
        wanted.push((file.tree.clone(), Wanted::default()));
        wanted.len() - 1
    });
    if let Some((_, wanted)) = wanted.get_mut(tree) {
        for recipe in &recipes {
            recipe.ask(version, wanted);
        }
    }
    Served::BySnapshot { tree, keys: file.targets.iter().copied().zip(recipes).collect() }
}

/// The interface of the tree that a file is in.
fn version(file: &PlannedFile, hierarchy: &Hierarchy) -> Option<Version> {
    let controllers =
        [Controller::Memory, Controller::Cpuacct, Controller::Cpu, Controller::Pids, Controller::Io, Controller::Core];
    let trees = controllers.into_iter().filter_map(|controller| hierarchy.tree(controller));
    trees.into_iter().find(|tree| tree.path == file.tree).map(|tree| tree.version)
}

/// Whether a cgroup is below another.
fn is_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'))
}

/// The parents of cgroups, none of them below another. Where there are too many, what they have in common.
fn parents<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut parents: Vec<String> = paths.filter_map(|path| Some(path.rsplit_once('/')?.0.to_owned())).collect();
    loop {
        // The root's own files do not have the kernel add up what is below.
        parents.retain(|parent| !parent.is_empty());
        parents.sort_unstable();
        parents.dedup_by(|later, earlier| later == earlier || is_below(later, earlier));
        if parents.len() <= PARENTS {
            return parents;
        }
        let deepest = parents.iter().map(|parent| parent.matches('/').count()).max().unwrap_or(0);
        for parent in parents.iter_mut().filter(|parent| parent.matches('/').count() == deepest) {
            let above = parent.rfind('/').unwrap_or(0);
            parent.truncate(above);
        }
    }
}

/// What it takes to tell values of a record.
#[derive(Clone, Copy, Debug)]
struct Values<'a> {
    stats: &'a [Stat],
    page: u64,
}

impl Values<'_> {
    /// One value as its file would show it; none where it cannot be told.
    fn value(self, recipe: Recipe, record: &Record<'_>, shown: &mut [u64; 2]) -> Option<u64> {
        Some(match recipe {
            Recipe::Count(number) => record.number(number)?,
            Recipe::Pages(number) => record.number(number)?.saturating_mul(self.page),
            Recipe::Microseconds(number) => record.number(number)? / 1_000,
            Recipe::AllCpus => record.cpus()?[0],
            Recipe::Share(part) => {
                let times = Times {
                    runtime: record.number(Number::Runtime)?,
                    user: record.number(Number::UserTime)?,
                    system: record.number(Number::SystemTime)?,
                };
                shared(times, record, shown, part)? / 1_000
            }
            Recipe::Ticks(part) => {
                let [runtime, user, system] = record.cpus()?;
                shared(Times { runtime, user, system }, record, shown, part)? / NANOSECONDS_PER_TICK
            }
            Recipe::Stat(place) => self.stats.get(place)?.value(|counter| record.stat(counter))?,
            Recipe::Device(_) | Recipe::NoDevice | Recipe::Spare => return None,
        })
    }

    /// The keys that a file has; false where one of them cannot be told.
    fn fill(
        self,
        record: &Record<'_>,
        keys: &[(u16, Recipe)],
        known: u64,
        shown: &mut [u64; 2],
        sample: &mut Sample,
    ) -> bool {
        keys.iter().enumerate().all(|(bit, (target, recipe))| {
            if known & (1 << bit) == 0 || *recipe == Recipe::Spare {
                return true;
            }
            let value = self.value(*recipe, record, shown);
            value.inspect(|value| sample.set(*target, *value)).is_some()
        })
    }
}

/// `USER_HZ` is 100 on every machine that we run on.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

fn shared(times: Times, record: &Record<'_>, shown: &mut [u64; 2], part: Part) -> Option<u64> {
    if *shown == [0, 0] {
        *shown = [record.number(Number::ShownUser)?, record.number(Number::ShownSystem)?];
    }
    *shown = share(times, *shown);
    let [user, system] = *shown;
    Some(if part == Part::User { user } else { system })
}

/// Devices with any I/O, as their file lists them; false where the snapshot does not tell them all.
fn fill_devices(
    record: &Record<'_>,
    keys: &[(u16, Recipe)],
    sample: &mut Sample,
    labels: &mut Labels,
    devices: &mut Devices,
) -> bool {
    if keys.iter().any(|(_, recipe)| *recipe == Recipe::NoDevice) {
        return record.number(Number::FirstDevice) == Some(0);
    }
    let Some(uses) = record.devices() else { return false };
    for one in uses.filter(is_listed) {
        let device = Device { major: one.major, minor: one.minor };
        let key = devices.label(device, labels.of_mut(Dimension::Device));
        for (column, recipe) in keys {
            let Recipe::Device(which) = recipe else { continue };
            let value = match which {
                Column::Bytes(operation) => one.bytes.get(*operation),
                Column::Operations(operation) => one.operations.get(*operation),
            };
            if let Some(value) = value {
                sample.table_mut(Dimension::Device).set(key, *column, *value);
            }
        }
    }
    true
}

/// The kernel lists a device once something was read or written.
fn is_listed(one: &DeviceUse) -> bool {
    let any = |counts: &[u64; 3]| counts.iter().take(2).any(|count| *count > 0);
    one.major != 0 && (any(&one.bytes) || any(&one.operations))
}

#[cfg(test)]
mod tests {
    use super::{is_below, parents};

    #[test]
    fn parents_are_named_once_and_what_is_below_another_goes_with_it() {
        let found = parents(["/docker/a", "/docker/b", "/docker/b/docker/c", "/top", "/shop.slice/x"].into_iter());
        assert_eq!(found, ["/docker", "/shop.slice"]);
        assert!(
            is_below("/docker/a", "/docker") && !is_below("/docker", "/docker") && !is_below("/dockers/a", "/docker")
        );
    }

    #[test]
    fn many_parents_are_followed_by_what_they_have_in_common() {
        let pods: Vec<String> = (0..40).map(|pod| format!("/kubepods/pod{pod}/one")).collect();
        assert_eq!(parents(pods.iter().map(String::as_str)), ["/kubepods"]);
        let alone: Vec<String> = (0..40).map(|slice| format!("/slice{slice}/one")).collect();
        assert!(parents(alone.iter().map(String::as_str)).is_empty());
    }
}
