//! Fills samples with counts of eBPF programs: in columns of their own, and in columns of files for devices that the files lack.

use std::time::Instant;

use crate::discover::Version;
use crate::ebpf::{BlockUse, Probes};
use crate::metrics::{BlockCount, Collector, CollectorSet, Controller, Dimension, Probed};
use crate::read::container::{Container, holders};
use crate::read::files::format::Device;
use crate::read::plan::{Format, Plan};
use crate::read::reader::{Pass, Reader};
use crate::read::sample::{LabelId, Table};
use crate::read::timing::Timing;

impl Reader {
    /// Reads the maps of the programs for all containers.
    pub(super) fn read_ebpf_maps(&mut self, pass: Pass<'_>, now: Instant, timing: &mut Timing) {
        let Some(probes) = &mut self.probes else { return };
        let mut last = Collector::EbpfNetwork;
        probes.read(pass.collectors, holders(&self.containers), now, |collector| {
            timing.attribute_time_to(collector);
            last = collector;
        });
        probes.publish(&self.self_metrics);
        timing.attribute_time_to(last);
        if pass.collectors.has(Collector::Tasks) && probes.counts_threads() && !probes.has_counted_threads() {
            self.self_metrics.count_read_error("task", "ebpf");
            timing.fail(CollectorSet::EMPTY.with(Collector::Tasks));
        }
    }

    /// Returns whether threads have to be counted by procfs, because no program counts them.
    pub(super) fn counts_threads_by_files(&self, collectors: CollectorSet) -> bool {
        collectors.has(Collector::Tasks) && !self.probes.as_ref().is_some_and(Probes::counts_threads)
    }

    /// Fills the states of the host's threads into its sample.
    pub(super) fn fill_host_threads(&self, host: &mut Container) {
        let Some(threads) = self.probes.as_ref().and_then(Probes::host_threads) else { return };
        for (what, slot) in &self.plan.probes {
            let value = match *what {
                Probed::Threads(state) => Some(threads.count(state)),
                Probed::Load => threads.load,
                _ => None,
            };
            if let Some(value) = value {
                host.sample.set(*slot, value);
            }
        }
    }

    /// Begins a pass over the devices. Resets the counts of a disk that is gone, so that they are not added to those of the next disk
    /// with its number.
    pub(super) fn begin_devices(&mut self) {
        if self.plan.files.iter().any(|file| matches!(file.format, Format::List(_))) {
            self.devices.begin_cpus(&self.procfs);
        }
        for device in self.devices.begin() {
            if let Some(probes) = &mut self.probes {
                probes.restart_device(device.major, device.minor);
            }
            for container in &mut self.containers {
                container.probe_fed.retain(|fed| fed != device);
            }
        }
    }

    /// Fills the programs' counts of a container into its sample, after its files.
    pub(super) fn fill_ebpf_values(&mut self, index: usize, container: &mut Container, timing: &mut Timing) {
        let (Some(probes), Some(id)) = (&self.probes, container.id) else { return };
        let counters = probes.counters(index, id);
        for (what, slot) in &self.plan.probes {
            if let Some(value) = counters.value(*what) {
                container.sample.set(*slot, value);
            }
        }
        if !self.plan.probes.is_empty() {
            timing.attribute_time_to(Collector::EbpfNetwork);
        }
        // The values of a collector follow each other, so that one reading of the clock serves all of them.
        let mut timed = None;
        for (what, index) in &self.plan.histograms {
            let collector = if *what == Probed::RunQueueLatency { Collector::EbpfSched } else { Collector::EbpfBlkio };
            if let Some(before) = timed.replace(collector).filter(|before| *before != collector) {
                timing.attribute_time_to(before);
            }
            if let Some(histogram) = counters.histogram(*what) {
                container.sample.set_histogram(*index, histogram);
            }
        }
        if let Some(timed) = timed {
            timing.attribute_time_to(timed);
        }
        let is_fed = counters.has_blocks() || !container.probe_fed.is_empty();
        if !is_fed || (self.plan.blocks.is_empty() && self.plan.fills.is_empty()) {
            return;
        }
        let mut uses = std::mem::take(&mut self.block_uses);
        counters.block_uses(&mut uses);
        if !uses.is_empty() {
            let pool = self.labels.of_mut(Dimension::Device);
            let one_tree = self.hierarchy.tree(Controller::Io).is_some_and(|tree| tree.version == Version::V2);
            let table = container.sample.table_mut(Dimension::Device);
            fill(&self.plan, &uses, one_tree, &mut container.probe_fed, table, |device| {
                self.devices.label(device, pool)
            });
        }
        self.block_uses = uses;
        // If only families of files are selected, their collector gets the time.
        let of = if self.plan.blocks.is_empty() { Collector::Blkio } else { Collector::EbpfBlkio };
        timing.attribute_time_to(of);
    }
}

/// Fills the table of devices: the columns of the programs' own families, and the columns of files for devices that the files
/// lack.
///
/// The source of a device is chosen when the container is first seen to use it, and kept in `probe_fed`. Files and programs have
/// begun to count at different times, so that a change of the source would be a jump. The programs' counts are read before the
/// files, so that a file that counts a device has every use that a program has seen. On v2 (`one_tree`) a file with any device
/// has all of them: further devices of the program are those that such a device consists of.
fn fill(
    plan: &Plan,
    uses: &[BlockUse],
    one_tree: bool,
    probe_fed: &mut Vec<Device>,
    table: &mut Table,
    mut label: impl FnMut(Device) -> LabelId,
) {
    let has_values = |table: &Table, key: Option<LabelId>| {
        plan.fills.iter().any(|(.., column)| match key {
            Some(key) => table.get(key, *column).is_some(),
            None => table.column(*column).next().is_some(),
        })
    };
    let files_have_all = one_tree && has_values(table, None);
    for one in uses {
        let device = Device { major: one.major, minor: one.minor };
        let key = label(device);
        if !plan.fills.is_empty() && !probe_fed.contains(&device) && !files_have_all && !has_values(table, Some(key)) {
            probe_fed.push(device);
        }
    }
    for device in probe_fed.iter() {
        let key = label(*device);
        plan.fills.iter().for_each(|(.., column)| table.set(key, *column, 0));
    }
    for one in uses {
        let device = Device { major: one.major, minor: one.minor };
        let key = label(device);
        let of_all = plan.blocks.iter().filter(|(count, ..)| *count == BlockCount::TimeOfAll);
        for ((.., column), time) in of_all.zip(one.time_ns) {
            let before = table.get(key, *column).unwrap_or(0);
            table.set(key, *column, before + time);
        }
        let mut set = |columns: &[(BlockCount, _, u16)]| {
            for (count, _, column) in columns.iter().filter(|(_, operation, _)| *operation == one.operation) {
                let value = match count {
                    BlockCount::Bytes => Some(one.bytes),
                    BlockCount::Operations => Some(one.operations),
                    BlockCount::Sectors => Some(one.bytes / 512),
                    BlockCount::Time => one.time_ns,
                    // The loop above sums it up.
                    BlockCount::TimeOfAll => None,
                };
                if let Some(value) = value {
                    table.set(key, *column, value);
                }
            }
        };
        set(&plan.blocks);
        if probe_fed.contains(&device) {
            set(&plan.fills);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BlockUse, Device, Plan, fill};
    use crate::metrics::{BlockCount, BlockOperation, Dimension};
    use crate::read::{Labels, Sample};

    const DISK: Device = Device { major: 254, minor: 0 };
    const OTHER: Device = Device { major: 7, minor: 1 };

    /// Column 0: the program's own family; 1 and 2: the files' families of bytes read and written.
    fn plan() -> Plan {
        let (bytes, read, write) = (BlockCount::Bytes, BlockOperation::Read, BlockOperation::Write);
        Plan { blocks: vec![(bytes, read, 0)], fills: vec![(bytes, read, 1), (bytes, write, 2)], ..Plan::default() }
    }

    fn read(device: Device, bytes: u64) -> BlockUse {
        let (major, minor, operation) = (device.major, device.minor, BlockOperation::Read);
        BlockUse { major, minor, operation, bytes, operations: 1, time_ns: None }
    }

    /// One pass: what the files have, and what the probe has counted. Returns the three columns of a device.
    fn pass(
        files: &[(Device, u64)],
        uses: &[BlockUse],
        one_tree: bool,
        fed: &mut Vec<Device>,
        asked: Device,
    ) -> [Option<u64>; 3] {
        let mut labels = Labels::default();
        let mut sample = Sample::new(0, [3, 0, 0, 0, 0]);
        let mut label = |device: Device| {
            labels.of_mut(Dimension::Device).label(format!("{}:{}", device.major, device.minor).as_bytes())
        };
        let table = sample.table_mut(Dimension::Device);
        for (device, value) in files {
            table.set(label(*device), 1, *value);
        }
        fill(&plan(), uses, one_tree, fed, table, &mut label);
        let key = label(asked);
        [0, 1, 2].map(|column| table.get(key, column))
    }

    #[test]
    fn times_of_all_operations_are_added_up_and_bytes_are_sectors() {
        let plan = Plan {
            blocks: vec![
                (BlockCount::TimeOfAll, BlockOperation::Read, 0),
                (BlockCount::Sectors, BlockOperation::Write, 1),
                (BlockCount::Time, BlockOperation::Flush, 2),
            ],
            ..Plan::default()
        };
        let done = |operation, bytes, time_ns| BlockUse { operation, bytes, time_ns, ..read(DISK, 0) };
        let uses = [
            done(BlockOperation::Read, 512, Some(5)),
            done(BlockOperation::Write, 2048, Some(7)),
            done(BlockOperation::Flush, 0, None),
        ];
        let (mut labels, mut sample) = (Labels::default(), Sample::new(0, [3, 0, 0, 0, 0]));
        let key = labels.of_mut(Dimension::Device).label(b"254:0");
        let table = sample.table_mut(Dimension::Device);
        fill(&plan, &uses, false, &mut Vec::new(), table, |_| key);
        assert_eq!([0, 1, 2].map(|column| table.get(key, column)), [Some(12), Some(4), None]);
    }

    #[test]
    fn files_that_tell_of_a_device_stay_its_source() {
        let fed = &mut Vec::new();
        assert_eq!(pass(&[(DISK, 500)], &[read(DISK, 400)], false, fed, DISK), [Some(400), Some(500), None]);
        assert!(fed.is_empty());
    }

    #[test]
    fn a_device_that_files_are_silent_about_is_filled_and_stays_so() {
        let fed = &mut Vec::new();
        assert_eq!(pass(&[], &[read(DISK, 400)], false, fed, DISK), [Some(400), Some(400), Some(0)]);
        // Somebody sets a limit: the files begin to count, from 0. The series must not fall.
        assert_eq!(pass(&[(DISK, 7)], &[read(DISK, 450)], false, fed, DISK), [Some(450), Some(450), Some(0)]);
        // The files have the same container's other device from the start.
        let both = [read(DISK, 450), read(OTHER, 90)];
        assert_eq!(pass(&[(DISK, 7), (OTHER, 99)], &both, false, fed, OTHER), [Some(90), Some(99), None]);
    }

    #[test]
    fn on_v2_devices_beside_those_of_the_file_are_their_parts() {
        let fed = &mut Vec::new();
        assert_eq!(pass(&[(DISK, 500)], &[read(OTHER, 400)], true, fed, OTHER), [Some(400), None, None]);
        assert_eq!(pass(&[(DISK, 500)], &[read(OTHER, 400)], false, fed, OTHER), [Some(400), Some(400), Some(0)]);
    }

    #[test]
    fn a_container_without_io_has_no_rows() {
        let fed = &mut Vec::new();
        assert_eq!(pass(&[], &[], false, fed, DISK), [None; 3]);
    }
}
