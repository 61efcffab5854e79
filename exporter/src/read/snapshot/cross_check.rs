//! Compares the snapshot of a scrape with the files of a few containers, which are read before and after it.
//!
//! At first several containers are compared in each scrape, later one. A container that differs is compared again in the next
//! scrape.

use std::fs::File;
use std::time::Instant;

use tracing::warn;

use super::Snapshots;
use super::derivations::{Derivation, fill_device_table};
use super::record::fill_devices;
use super::sources::{Mismatch, Outcome, Source};
use super::stat_index::StatIndex;
use crate::ebpf::Unsupported;
use crate::metrics::{Dimension, FamilySet};
use crate::read::container::{Container, holders};
use crate::read::plan::PlannedFile;
use crate::read::reader::{Pass, Reader};
use crate::read::sample::Sample;
use crate::read::sample::fill::parse;
use crate::read::timing::Timing;

/// Number of containers that are compared in a scrape until snapshots replace any file.
const SAMPLED_AT_FIRST: usize = 8;

impl Reader {
    /// Reads snapshots of the kernel's counters in place of files from now on.
    ///
    /// # Errors
    /// What this host lacks.
    pub fn start_snapshots(&mut self) -> Result<(), Unsupported> {
        let nobody = || Unsupported::new("no eBPF programs are wanted or can be of use here", "--ebpf=auto");
        let probes = self.probes.as_mut().ok_or_else(nobody)?;
        let containers = &self.containers;
        probes.announce(holders(containers), Instant::now());
        let mut snapshots =
            Snapshots::start(&self.plan, &self.hierarchy, containers.len(), probes, self.self_metrics.clone())?;
        snapshots.try_set_containers(containers)?;
        snapshots.record_outcome(Ok(()));
        self.snapshots = Some(snapshots);
        Ok(())
    }

    /// Copies the counters of all containers, before these are visited.
    pub(crate) fn take_snapshot(&mut self, containers: &mut [Container], pass: Pass<'_>, timing: &mut Timing) {
        let Some(mut snapshots) = self.snapshots.take() else { return };
        snapshots.is_fresh = false;
        let served = snapshots.collectors(&self.plan, pass.families);
        // The files of a few containers cost less.
        let is_narrow = pass.is_narrow(containers.len());
        if !served.is_empty() && !is_narrow && snapshots.reader.has_roots() {
            let sampled = snapshots.sample_containers(containers, self.files.has_room());
            let files: Vec<_> = sampled
                .iter()
                .filter_map(|index| containers.get(*index))
                .map(|container| self.open_replaced_files(&snapshots, container, pass.families))
                .collect();
            let before: Vec<Sample> = files.iter().map(|files| self.read_open_files(files)).collect();
            snapshots.take();
            let after: Vec<Sample> = files.iter().map(|files| self.read_open_files(files)).collect();
            for (index, (before, after)) in sampled.into_iter().zip(before.iter().zip(&after)) {
                if let Some(container) = containers.get_mut(index).filter(|_| snapshots.is_fresh) {
                    self.cross_check(&mut snapshots, container, before, after, pass.families);
                }
            }
        }
        let entries = i64::try_from(snapshots.reader.entries()).unwrap_or(i64::MAX);
        snapshots.self_metrics.ebpf_map_entries.with_label_values(&["snapshot"]).set(entries);
        // The time is attributed in equal shares to all collectors whose files the snapshot may replace.
        timing.share_time_among(served);
        self.snapshots = Some(snapshots);
    }

    /// Opens the files of one container that snapshots may replace. Failures are counted when the container is visited.
    fn open_replaced_files(
        &mut self,
        snapshots: &Snapshots,
        container: &Container,
        wanted: FamilySet,
    ) -> Vec<(usize, File)> {
        let mut files = Vec::new();
        for (index, (file, source)) in self.plan.files.iter().zip(&snapshots.sources).enumerate() {
            if matches!(source, Source::Snapshot { .. }) && file.families.intersects(&wanted) {
                container.file_path(&file.tree, &file.name, &mut self.path);
                files.extend(File::open(&self.path).ok().map(|open| (index, open)));
            }
        }
        files
    }

    /// Reads the values of open files.
    fn read_open_files(&mut self, files: &[(usize, File)]) -> Sample {
        let mut sample = Sample::new(self.plan.slots, self.plan.columns);
        for (index, open) in files {
            if let (Some(file), Ok(text)) = (self.plan.files.get(*index), self.files.read_open(open)) {
                parse(file, text, &mut sample, &mut self.labels, &mut self.devices);
            }
        }
        sample
    }

    /// Compares a container's record with the values of its files before and after the snapshot. Only files of wanted families were read.
    fn cross_check(
        &mut self,
        snapshots: &mut Snapshots,
        container: &mut Container,
        before: &Sample,
        after: &Sample,
        wanted: FamilySet,
    ) {
        snapshots.refresh_container(container);
        snapshots.eliminate_stats(container, before, after);
        for index in 0..self.plan.files.len() {
            if !self.plan.files.get(index).is_some_and(|file| file.families.intersects(&wanted)) {
                continue;
            }
            let outcome = self.compare_file(snapshots, container, index, before, after);
            if let Some(file) = self.plan.files.get(index).filter(|_| outcome != Outcome::Unclear) {
                snapshots.record_evidence(index, file, outcome, container.generation);
            }
        }
    }

    /// Compares the values of one file.
    fn compare_file(
        &mut self,
        snapshots: &Snapshots,
        container: &Container,
        index: usize,
        before: &Sample,
        after: &Sample,
    ) -> Outcome {
        let Some(file) = self.plan.files.get(index) else { return Outcome::Unclear };
        let Some(Source::Snapshot { tree, keys, .. }) = snapshots.sources.get(index) else { return Outcome::Unclear };
        let Some(record) = container.record.get(&snapshots.reader, *tree) else { return Outcome::Unclear };
        if fill_device_table(keys) {
            let mut sample = Sample::new(0, self.plan.columns);
            let is_filled = fill_devices(&record, keys, &mut sample, &mut self.labels, &mut self.devices);
            return if is_filled { compare_devices(file, before, &sample, after) } else { Outcome::Unclear };
        }
        let present = snapshots.present_keys(&container.record, index).unwrap_or(0);
        let outcomes = keys.iter().zip(&file.keys).enumerate().map(|(bit, ((target, derivation), key))| {
            let value = snapshots.values().value(*derivation, &record);
            let values = Mismatch { key, before: before.get(*target), snapshot: value, after: after.get(*target) };
            values.compare(*derivation, present & (1 << bit) != 0)
        });
        outcomes.fold(Outcome::Unclear, Outcome::and)
    }
}

impl Snapshots {
    /// Returns the indices of the containers that are compared in this scrape. Near the descriptor limit it is one, because the files
    /// of all of them are open at the same time.
    fn sample_containers(&mut self, containers: &[Container], has_room: bool) -> Vec<usize> {
        let (recheck, unresolved) = (self.recheck.take(), self.unresolved.take());
        let index_of = |generation: u64| containers.iter().position(|container| container.generation == generation);
        // It is compared alone, so that others that agree do not reset its count of mismatches.
        if let Some(index) = recheck.and_then(index_of) {
            return vec![index];
        }
        if has_room && !self.sources.iter().any(Source::is_proven) {
            let step = containers.len().div_ceil(SAMPLED_AT_FIRST).max(1);
            return (0..containers.len()).step_by(step).collect();
        }
        // An unresolved container is compared in every other scrape at most, so that others are compared as well.
        let unresolved = unresolved.filter(|_| !self.was_unresolved).and_then(index_of);
        self.was_unresolved = unresolved.is_some();
        self.turn = self.turn.wrapping_add(usize::from(unresolved.is_none()));
        unresolved.or_else(|| self.turn.checked_rem(containers.len())).into_iter().collect()
    }

    /// Eliminates counters that cannot be a key of `memory.stat`, by keys whose value did not change.
    fn eliminate_stats(&mut self, container: &Container, before: &Sample, after: &Sample) {
        let Self { sources, stats, reader, .. } = self;
        for source in sources.iter_mut() {
            let Source::Snapshot { tree, keys, .. } = source else { continue };
            let Some(record) = container.record.get(reader, *tree) else { continue };
            for (target, derivation) in keys.iter() {
                let (Derivation::Stat(index), Some(value)) = (derivation, before.get(*target)) else { continue };
                if let Some(stat) = stats.get_mut(*index).filter(|_| after.get(*target) == Some(value)) {
                    stat.eliminate(value, record.stat());
                }
            }
            // A key is none of the counters, so the file has to be read.
            let is_unresolvable = |derivation: &Derivation| matches!(derivation, Derivation::Stat(index) if stats.get(*index).is_some_and(StatIndex::is_unresolvable));
            if keys.iter().any(|(_, derivation)| is_unresolvable(derivation)) {
                *source = Source::File;
            }
        }
    }

    /// Records the outcome of comparing a container's file.
    fn record_evidence(&mut self, index: usize, file: &PlannedFile, outcome: Outcome, generation: u64) {
        let Some(source) = self.sources.get_mut(index) else { return };
        let Source::Snapshot { evidence, .. } = source else { return };
        let is_given_up = evidence.record(outcome);
        let Outcome::Differs(mismatch) = outcome else { return };
        self.recheck = Some(generation);
        if is_given_up {
            warn!(
                file = &*file.name,
                key = mismatch.key,
                before = ?mismatch.before,
                snapshot = ?mismatch.snapshot,
                after = ?mismatch.after,
                kernel = %rustix::system::uname().release().to_string_lossy(),
                "a snapshot does not say what the file says: the file is read from now on, which costs more (please report this line)"
            );
            self.self_metrics.count_read_error(&file.name, "snapshot_differs");
            *source = Source::File;
        }
    }
}

/// Compares the devices of a record with those of their file.
fn compare_devices(file: &PlannedFile, before: &Sample, snapshot: &Sample, after: &Sample) -> Outcome {
    let value = |sample: &Sample, device, column| sample.table(Dimension::Device).get(device, column);
    let mismatch = file.targets.iter().zip(&file.keys).find_map(|(column, key)| {
        after.table(Dimension::Device).column(*column).find_map(|(device, after)| {
            let (before, snapshot) = (value(before, device, *column), value(snapshot, device, *column));
            let is_between =
                snapshot.map_or(before.is_none(), |snapshot| snapshot >= before.unwrap_or(0) && snapshot <= after);
            (!is_between).then_some(Mismatch { key, before, snapshot, after: Some(after) })
        })
    });
    mismatch.map_or(Outcome::Agrees, Outcome::Differs)
}
