//! Whether snapshots say what the files say. At first those of several containers are read on both sides of a snapshot, and
//! then one container at every scrape: a value must lie between the two readings, and be theirs where these are alike.
//!
//! A value that does not is compared again with the next scrape, as numbers move: one that rises and falls may be the same before
//! and after and another one between. Its file is read until then. What is wrong in ten scrapes in a row is wrong: the file
//! serves from then on.

use std::fs::File;

use tracing::warn;

use super::choose::Served;
use super::compare::{Bracket, Difference, Verdict, compare_devices, judge};
use super::recipes::{Recipe, are_of_devices};
use super::served::Snapshot;
use super::stats::Stat;
use super::values::fill_devices;
use crate::ebpf::Obstacle;
use crate::metrics::CollectorSet;
use crate::read::container::Container;
use crate::read::container::holders;
use crate::read::plan::{Plan, PlannedFile};
use crate::read::reader::{Pass, Reader};
use crate::read::sample::Sample;
use crate::read::sample::parse::parse;
use crate::read::timing::Timing;
use std::time::Instant;

/// Containers that are compared before snapshots serve.
const AT_FIRST: usize = 8;
/// Comparisons that a wrong value has to fail.
const TRIES: usize = 10;

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

    /// Before the containers are visited: the snapshot of all of them, between two readings of the files of some.
    pub(in crate::read) fn take_snapshot(&mut self, containers: &mut [Container], pass: Pass<'_>, timing: &mut Timing) {
        let Some(mut snapshot) = self.snapshot.take() else { return };
        snapshot.is_fresh = false;
        let served = snapshot.collectors(&self.plan).intersection(pass.collectors);
        if !served.is_empty() && snapshot.taker.has_parents() {
            let places = snapshot.turns(containers);
            self.bracket(&mut snapshot, containers, &places, pass.collectors);
            if snapshot.is_fresh {
                let (compared, differences) = self.judge(&mut snapshot, containers);
                snapshot.suspect(compared, differences, &self.plan);
            }
        }
        let entries = i64::try_from(snapshot.taker.entries()).unwrap_or(i64::MAX);
        snapshot.own.ebpf_map_entries.with_label_values(&["snapshot"]).set(entries);
        // It is for all whose files it stands in for, each to an equal part.
        timing.lap_for(served);
        self.snapshot = Some(snapshot);
    }

    /// Files, snapshot, files.
    fn bracket(&mut self, snapshot: &mut Snapshot, containers: &[Container], places: &[usize], wanted: CollectorSet) {
        let new = || Sample::new(self.plan.slots, self.plan.columns);
        snapshot.brackets.resize_with(places.len(), || Bracket {
            place: 0,
            files: Vec::new(),
            before: new(),
            after: new(),
        });
        let mut brackets = std::mem::take(&mut snapshot.brackets);
        for (bracket, place) in brackets.iter_mut().zip(places) {
            bracket.place = *place;
            self.open_served(snapshot, containers.get(*place), wanted, &mut bracket.files);
            self.read_served(&bracket.files, &mut bracket.before);
        }
        snapshot.take();
        for bracket in &mut brackets {
            self.read_served(&bracket.files, &mut bracket.after);
            bracket.files.clear();
        }
        snapshot.brackets = brackets;
    }

    /// Opens the files of one container that snapshots stand in for.
    fn open_served(
        &mut self,
        snapshot: &Snapshot,
        container: Option<&Container>,
        wanted: CollectorSet,
        files: &mut Vec<(usize, File)>,
    ) {
        files.clear();
        let Some(container) = container else { return };
        for (place, (file, served)) in self.plan.files.iter().zip(&snapshot.files).enumerate() {
            if !matches!(served, Served::BySnapshot { .. }) || file.collectors.intersection(wanted).is_empty() {
                continue;
            }
            container.file_path(&file.tree, &file.name, &mut self.path);
            // What cannot be read is told where the container is read.
            files.extend(File::open(&self.path).ok().map(|open| (place, open)));
        }
    }

    fn read_served(&mut self, files: &[(usize, File)], sample: &mut Sample) {
        sample.clear();
        for (place, open) in files {
            if let (Some(file), Ok(text)) = (self.plan.files.get(*place), self.files.read_open(open)) {
                parse(file, text, sample, &mut self.labels, &mut self.devices);
            }
        }
    }

    /// Compares, and learns which counters are which keys.
    fn judge(&mut self, snapshot: &mut Snapshot, containers: &mut [Container]) -> (usize, Vec<Difference>) {
        let mut differences = Vec::new();
        let mut compared = 0;
        let brackets = std::mem::take(&mut snapshot.brackets);
        for bracket in &brackets {
            let Some(container) = containers.get_mut(bracket.place) else { continue };
            snapshot.find(container);
            if container.copied.place.is_none() {
                continue;
            }
            compared += 1;
            let life = container.life;
            snapshot.narrow(container, bracket);
            for (place, (file, served)) in self.plan.files.iter().zip(&snapshot.files).enumerate() {
                let Served::BySnapshot { tree, keys } = served else { continue };
                let Some(record) = container.copied.record(&snapshot.taker, *tree) else { continue };
                if are_of_devices(keys) {
                    let mut sample = Sample::new(0, self.plan.columns);
                    let told = fill_devices(&record, keys, &mut sample, &mut self.labels, &mut self.devices);
                    differences.extend(told.then(|| compare_devices(life, place, file, bracket, &sample)).flatten());
                    continue;
                }
                let known = snapshot.known(&container.copied, place);
                for (bit, ((target, recipe), key)) in keys.iter().zip(&file.keys).enumerate() {
                    let (before, after) = (bracket.before.get(*target), bracket.after.get(*target));
                    let told = snapshot.values().value(*recipe, &record);
                    let is_known = known.is_some_and(|known| known & (1 << bit) != 0);
                    if judge(*recipe, is_known, before, told, after) == Verdict::Differs {
                        differences.push(Difference { life, file: place, key, before, snapshot: told, after });
                    }
                }
            }
        }
        snapshot.brackets = brackets;
        (compared, differences)
    }
}

impl Snapshot {
    /// The containers that are compared in this pass, by their places.
    fn turns(&mut self, containers: &[Container]) -> Vec<usize> {
        let count = containers.len();
        if self.is_proven && !self.suspects.is_empty() {
            let is_suspect =
                |(_, container): &(usize, &Container)| self.suspects.iter().any(|one| one.life == container.life);
            return containers.iter().enumerate().filter(is_suspect).map(|(index, _)| index).collect();
        }
        if !self.is_proven {
            let step = count.div_ceil(AT_FIRST).max(1);
            return (0..count).step_by(step).collect();
        }
        let doubtful = self.doubtful.take();
        let is_it = |container: &Container| doubtful.is_some_and(|id| container.copied.cgroups.contains(&id));
        let doubtful = doubtful.and_then(|_| containers.iter().position(is_it));
        self.turn = (self.turn + 1) % count.max(1);
        vec![doubtful.unwrap_or(self.turn)]
    }

    /// Compares with what differed in the scrapes before: what does so [`TRIES`] times in a row is wrong. Until then the files
    /// concerned are read.
    fn suspect(&mut self, compared: usize, mut differences: Vec<Difference>, plan: &Plan) {
        if self.tries > 0 {
            differences.retain(|difference| self.suspects.iter().any(|other| other.is_of_the_same(difference)));
        }
        self.is_proven |= compared > 0 && differences.is_empty();
        self.tries = if differences.is_empty() { 0 } else { self.tries + 1 };
        if self.tries == TRIES {
            self.tries = 0;
            for difference in differences.drain(..) {
                self.give_up(&difference, plan.files.get(difference.file));
            }
        }
        self.suspects = differences;
    }

    /// Whether a file differed when it was last compared.
    pub(super) fn is_suspect(&self, file: usize) -> bool {
        self.suspects.iter().any(|difference| difference.file == file)
    }

    /// Learns which counters are which keys of `memory.stat`, from what did not move.
    fn narrow(&mut self, container: &Container, bracket: &Bracket) {
        let Self { files, stats, taker, .. } = self;
        for served in files.iter() {
            let Served::BySnapshot { tree, keys } = served else { continue };
            let Some(record) = container.copied.record(taker, *tree) else { continue };
            for (target, recipe) in keys {
                let (Recipe::Stat(place), Some(before)) = (recipe, bracket.before.get(*target)) else { continue };
                if let Some(stat) = stats.get_mut(*place).filter(|_| bracket.after.get(*target) == Some(before)) {
                    stat.narrow(before, record.stats(), record.stat());
                }
            }
        }
        // A file with a key that is no counter has to be read, always.
        let is_hopeless =
            |recipe: &Recipe| matches!(recipe, Recipe::Stat(place) if stats.get(*place).is_some_and(Stat::is_hopeless));
        for served in files.iter_mut() {
            if matches!(served, Served::BySnapshot { keys, .. } if keys.iter().any(|(_, recipe)| is_hopeless(recipe))) {
                *served = Served::ByFile;
            }
        }
    }

    /// A file serves again, for good.
    fn give_up(&mut self, difference: &Difference, file: Option<&PlannedFile>) {
        let name = file.map_or("", |file| &file.name);
        warn!(
            file = name,
            key = difference.key,
            before = ?difference.before,
            snapshot = ?difference.snapshot,
            after = ?difference.after,
            kernel = %kernel(),
            "a snapshot does not say what the file says: the file is read from now on, which costs more (please report this line)"
        );
        self.own.count_read_error(name, "snapshot_differs");
        if let Some(served) = self.files.get_mut(difference.file) {
            *served = Served::ByFile;
        }
    }
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
