//! Block devices, from `/proc/diskstats`: the name of each device number, and the counters of the host's disks.
//!
//! The kernel gives the number of a disk that is gone to the next one (`259:3` was `nvme1n1` and becomes `nvme2n1`). So the names
//! are read once in each pass in which a device is shown, which costs a microsecond per disk.
//!
//! The host's disks are whole disks that were used. Partitions are left out, and so are devices on files or in memory (`loop`,
//! `ram`, `zram`): their operations are counted with the disk below, or do not reach any.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::metrics::{DiskField, SelfMetrics};
use crate::read::files::format::{Device, lines, number, words};
use crate::read::files::open_files::{count_malformed, reason};
use crate::read::files::proc_text::{disks, online_cpus};
use crate::read::sample::{LabelId, LabelPool};

/// Number of counters in a line: 11 since Linux 2.6, and 4 for discards since 4.18.
const FIELDS: usize = 15;
/// Maximum number of disks. Each is a series in every family.
const MAX_DISKS: usize = 256;

/// Names and labels of the devices seen so far.
#[derive(Debug)]
pub struct Devices {
    /// Path of the file; none without a procfs.
    diskstats: Option<PathBuf>,
    self_metrics: SelfMetrics,
    disks: HashMap<Device, Disk>,
    labels: HashMap<Device, LabelId>,
    /// Whether this pass has read the file.
    is_fresh: bool,
    /// Number of readings so far.
    reading: u64,
    /// Reused memory for the text of the file.
    text: Vec<u8>,
    /// The numbers whose disk is gone or was replaced since the last pass.
    replaced: Vec<Device>,
    /// Numbers of the online CPUs. Empty if unknown.
    cpus: Vec<u64>,
}

/// A disk or partition.
#[derive(Debug)]
struct Disk {
    name: Box<[u8]>,
    /// The last reading that had it.
    reading: u64,
}

impl Devices {
    /// Returns the devices of this procfs. Without one they have no names.
    #[must_use]
    pub fn new(procfs: Option<&Path>, self_metrics: SelfMetrics) -> Self {
        Self {
            diskstats: procfs.map(|procfs| procfs.join("diskstats")),
            self_metrics,
            disks: HashMap::new(),
            labels: HashMap::new(),
            is_fresh: false,
            reading: 0,
            text: Vec::new(),
            replaced: Vec::new(),
            cpus: Vec::new(),
        }
    }

    /// Begins a pass. Returns the numbers whose disk is gone or was replaced since the last pass: counts under these numbers do
    /// not belong to the new disks.
    pub fn begin(&mut self) -> &[Device] {
        self.is_fresh = false;
        self.replaced.clear();
        if !self.labels.is_empty() {
            self.refresh();
        }
        &self.replaced
    }

    /// Reads which CPUs are online.
    pub(crate) fn begin_cpus(&mut self, procfs: &Path) {
        self.cpus.clear();
        self.cpus.extend(online_cpus(&std::fs::read(procfs.join("stat")).unwrap_or_default()));
    }

    /// Returns whether a CPU is online, or whether that is unknown.
    pub(crate) fn is_online(&self, cpu: u32) -> bool {
        self.cpus.is_empty() || self.cpus.contains(&u64::from(cpu))
    }

    /// Forgets all labels.
    pub fn forget(&mut self) {
        self.labels.clear();
    }

    /// Returns `device="/dev/NAME"`, or `device="MAJOR:MINOR"` for a device without a name.
    pub fn label(&mut self, device: Device, pool: &mut LabelPool) -> LabelId {
        if let Some(label) = self.labels.get(&device) {
            return *label;
        }
        if !self.is_fresh && !self.disks.contains_key(&device) {
            self.refresh();
        }
        let label = match self.disks.get(&device) {
            Some(disk) => pool.label(&[b"/dev/", &disk.name[..]].concat()),
            None => pool.label(format!("{}:{}", device.major, device.minor).as_bytes()),
        };
        self.labels.insert(device, label);
        label
    }

    /// Returns the label of a filesystem: that of its device, or `source` if the device has no name. It is empty if both are
    /// unknown.
    pub(crate) fn filesystem_label(
        &mut self,
        device: Option<Device>,
        source: Option<&str>,
        pool: &mut LabelPool,
    ) -> LabelId {
        let Some(device) = device else { return pool.label(source.unwrap_or_default().as_bytes()) };
        let label = self.label(device, pool);
        match source {
            Some(source) if !self.disks.contains_key(&device) => pool.label(source.as_bytes()),
            _ => label,
        }
    }

    /// Reads the file. If it cannot be read, the known names stay.
    fn refresh(&mut self) {
        self.is_fresh = true;
        self.reading += 1;
        let Self { diskstats: Some(path), text, self_metrics, disks: known, labels, reading, replaced, .. } = self
        else {
            return;
        };
        text.clear();
        if let Err(error) = File::open(&*path).and_then(|mut file| file.read_to_end(text)) {
            if error.kind() != io::ErrorKind::NotFound {
                self_metrics.count_read_error("diskstats", reason(&error));
            }
            return;
        }
        let malformed = disks(text, |device, name| match known.get_mut(&device) {
            Some(disk) if *disk.name == *name => disk.reading = *reading,
            before => {
                labels.remove(&device);
                if before.is_some() {
                    replaced.push(device);
                }
                known.insert(device, Disk { name: name.into(), reading: *reading });
            }
        });
        count_malformed("diskstats", malformed, self_metrics);
        // The disk of a malformed line is not gone.
        if malformed == 0 {
            known.retain(|device, disk| {
                let is_there = disk.reading == *reading;
                if !is_there {
                    labels.remove(device);
                    replaced.push(*device);
                }
                is_there
            });
        }
    }
}

/// The disks of the host as of the last reading.
#[derive(Debug, Default)]
pub(super) struct HostDisks {
    disks: Vec<HostDisk>,
    /// Whether an excess of disks was counted.
    is_cut: bool,
}

#[derive(Debug)]
struct HostDisk {
    /// `device="/dev/NAME"`.
    label: String,
    counts: [Option<u64>; FIELDS],
    /// Whether this reading has it.
    is_there: bool,
}

impl HostDisks {
    /// Stores the counters of a text. Returns the number of malformed lines.
    pub(super) fn update(&mut self, text: &[u8], self_metrics: &SelfMetrics) -> u64 {
        let mut malformed = 0;
        self.disks.iter_mut().for_each(|disk| disk.is_there = false);
        let (mut disk, mut found): (&[u8], usize) = (b"", 0);
        for line in lines(text) {
            let mut words = words(line).skip(2);
            let Some(name) = words.next() else {
                malformed += 1;
                continue;
            };
            // The kernel lists the partitions of a disk after it.
            if is_partition(name, disk) {
                continue;
            }
            disk = name;
            let mut counts = [None; FIELDS];
            counts.iter_mut().zip(words).for_each(|(count, word)| *count = number(word));
            let is_used = counts.iter().any(|count| count.is_some_and(|count| count > 0));
            let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_used && !is_virtual(name)) else {
                continue;
            };
            found += usize::from(self.store(name, counts, found, self_metrics));
        }
        self.disks.retain(|disk| disk.is_there);
        malformed
    }

    /// Stores a disk. Returns false if there is no room, or if the name cannot be a label. `found` known disks were in the text before
    /// this one; usually the text has them in the same order.
    fn store(&mut self, name: &str, counts: [Option<u64>; FIELDS], found: usize, self_metrics: &SelfMetrics) -> bool {
        let is_it = |disk: &HostDisk| {
            let named = disk.label.strip_prefix("device=\"/dev/").and_then(|rest| rest.strip_suffix('"'));
            named == Some(name)
        };
        let known = match self.disks.get(found) {
            Some(next) if is_it(next) => Some(found),
            _ if found < MAX_DISKS => self.disks.iter().position(is_it),
            _ => None,
        };
        if let Some(known) = known.and_then(|known| self.disks.get_mut(known)) {
            (known.counts, known.is_there) = (counts, true);
            return true;
        }
        if self.disks.len() < MAX_DISKS {
            // The kernel writes `!` for the slash in a name such as cciss/c0d0.
            let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
            let label = format!("device=\"/dev/{name}\"");
            self.disks.extend(is_plain.then_some(HostDisk { label, counts, is_there: true }));
            return is_plain;
        }
        if !std::mem::replace(&mut self.is_cut, true) {
            self_metrics.series_dropped.with_label_values(&["disk_limit"]).inc();
        }
        false
    }

    /// Returns a counter of each disk that has it, with the label of the disk and its decimal exponent.
    pub(super) fn values(&self, field: DiskField) -> impl Iterator<Item = (&str, u64, u8)> {
        let (index, factor, exponent) = match field {
            DiskField::Reads => (0, 1, 0),
            DiskField::ReadsMerged => (1, 1, 0),
            DiskField::SectorsRead => (2, 1, 0),
            DiskField::BytesRead => (2, 512, 0),
            DiskField::ReadTime => (3, 1, 3),
            DiskField::Writes => (4, 1, 0),
            DiskField::WritesMerged => (5, 1, 0),
            DiskField::SectorsWritten => (6, 1, 0),
            DiskField::BytesWritten => (6, 512, 0),
            DiskField::WriteTime => (7, 1, 3),
            DiskField::InFlight => (8, 1, 0),
            DiskField::BusyTime => (9, 1, 3),
            DiskField::WeightedTime => (10, 1, 3),
            DiskField::Discards => (11, 1, 0),
            DiskField::BytesDiscarded => (13, 512, 0),
        };
        let value = move |disk: &HostDisk| disk.counts.get(index).copied().flatten()?.checked_mul(factor);
        self.disks.iter().filter_map(move |disk| Some((disk.label.as_str(), value(disk)?, exponent)))
    }
}

/// Returns whether a name is that of a partition of this disk: the name of the disk and a number, with a `p` between them if the
/// name of the disk ends in a digit.
fn is_partition(name: &[u8], disk: &[u8]) -> bool {
    let number = name.strip_prefix(disk).filter(|_| !disk.is_empty());
    let number = if disk.last().is_some_and(u8::is_ascii_digit) {
        number.and_then(|rest| rest.strip_prefix(b"p"))
    } else {
        number
    };
    number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

/// Returns whether a device lies on files or in memory, or is a floppy disk.
fn is_virtual(name: &str) -> bool {
    let stem = name.trim_end_matches(|digit: char| digit.is_ascii_digit());
    stem.len() < name.len() && ["loop", "ram", "zram", "fd"].contains(&stem)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{Device, Devices, DiskField, HostDisks, SelfMetrics};
    use crate::metrics::Dimension;
    use crate::read::Labels;

    const TEXT: &[u8] = b"\
   7       0 loop0 11 0 28 0 0 0 0 0 0 4 0
 252       0 vda 558566 50092 29951978 796514 416064 452869 64476648 415777 2 118108 1252863 3 0 16 9 0 0
 252       1 vda1 558000 50000 29950000 796000 416000 452000 64470000 415000 0 118000 1250000
 259       0 nvme0n1 10 1 80 5 20 2 160 7 0 9 12
 259       1 nvme0n1p1 10 1 80 5 20 2 160 7 0 9 12
 253       0 dm-0 1 0 8 1 0 0 0 0 0 1 1
 254       0 zram0 5 0 40 0 0 0 0 0 0 0 0
   8       0 sda 0 0 0 0 0 0 0 0 0 0 0
   8      16
";

    #[test]
    fn used_disks_are_read_without_their_partitions() {
        let (mut disks, self_metrics) = (HostDisks::default(), SelfMetrics::new().unwrap());
        assert_eq!(disks.update(TEXT, &self_metrics), 1);
        let values = |disks: &HostDisks, field| {
            let values = disks.values(field).map(|(label, value, exponent)| (label.to_owned(), value, exponent));
            values.collect::<Vec<_>>()
        };
        let [vda, nvme, dm] = ["vda", "nvme0n1", "dm-0"].map(|name| format!("device=\"/dev/{name}\""));
        assert_eq!(
            values(&disks, DiskField::BytesRead),
            [(vda.clone(), 29_951_978 * 512, 0), (nvme.clone(), 80 * 512, 0), (dm.clone(), 8 * 512, 0)]
        );
        assert_eq!(values(&disks, DiskField::ReadTime), [(vda.clone(), 796_514, 3), (nvme.clone(), 5, 3), (dm, 1, 3)]);
        assert_eq!(values(&disks, DiskField::BytesDiscarded), [(vda, 16 * 512, 0)], "absent where the kernel has none");
        disks.update(b" 259 0 nvme0n1 11 1 80 5 20 2 160 7 0 9 12\n", &self_metrics);
        assert_eq!(values(&disks, DiskField::Reads), [(nvme, 11, 0)], "a disk that is gone ends");
    }

    #[test]
    fn a_partition_is_told_by_the_disk_before_it() {
        let (mut disks, self_metrics) = (HostDisks::default(), SelfMetrics::new().unwrap());
        let names = [
            ("sda", "sda1", "sda15"),
            ("mmcblk0", "mmcblk0p1", "mmcblk0p2"),
            ("cciss!c0d0", "cciss!c0d0p1", "cciss!c0d0p2"),
            ("md127", "md127p1", "md127p2"),
        ];
        let whole = ["sdb", "mmcblk0boot0", "dm-1", "dm-10", "nvme0n1", "nvme0n10", "sdaa", "sda7x"];
        let listed = names.iter().flat_map(|(disk, first, second)| [disk, first, second]).chain(&whole);
        let lines: Vec<String> = listed.map(|name| format!("8 0 {name} 1 0 8 1\n")).collect();
        assert_eq!(disks.update(lines.concat().as_bytes(), &self_metrics), 0);
        let seen: Vec<_> = disks.values(DiskField::Reads).map(|(label, ..)| label.to_owned()).collect();
        let expected: Vec<_> = names.iter().map(|(disk, ..)| disk).chain(&whole).collect();
        assert_eq!(seen, expected.iter().map(|name| format!("device=\"/dev/{name}\"")).collect::<Vec<_>>());
    }

    #[test]
    fn the_number_of_disks_is_bounded_and_what_is_left_out_is_counted_once() {
        let (mut disks, self_metrics) = (HostDisks::default(), SelfMetrics::new().unwrap());
        let lines: Vec<String> = (0..300).map(|number| format!("252 {number} dm-{number} 1 0 8 1\n")).collect();
        for _ in 0..2 {
            disks.update(lines.concat().as_bytes(), &self_metrics);
            assert_eq!(disks.values(DiskField::Reads).count(), super::MAX_DISKS);
        }
        assert_eq!(self_metrics.series_dropped.with_label_values(&["disk_limit"]).get(), 1);
    }

    const fn nvme(minor: u32) -> Device {
        Device { major: 259, minor }
    }

    fn labels_of(devices: &mut Devices, labels: &mut Labels, asked: &[Device]) -> Vec<String> {
        let pool = labels.of_mut(Dimension::Device);
        asked
            .iter()
            .map(|device| {
                let label = devices.label(*device, pool);
                pool.text(label).to_owned()
            })
            .collect()
    }

    fn write(procfs: &Path, disks: &[(u32, &str)]) {
        let line = |(minor, name): &(u32, &str)| format!(" 259 {minor:7} {name} 1 0 2 0 2 0 4 0 0 0 0\n");
        fs::write(procfs.join("diskstats"), disks.iter().map(line).collect::<String>()).unwrap();
    }

    #[test]
    fn a_number_that_another_disk_takes_over_gets_its_name() {
        let procfs = tempfile::tempdir().unwrap();
        let self_metrics = SelfMetrics::new().unwrap();
        let (mut devices, mut labels) = (Devices::new(Some(procfs.path()), self_metrics.clone()), Labels::default());
        let asked = [nvme(0), nvme(3)];
        let mut pass = || (devices.begin().to_vec(), labels_of(&mut devices, &mut labels, &asked));
        let (first, second) = (r#"device="/dev/nvme0n1""#, r#"device="/dev/nvme1n1""#);

        write(procfs.path(), &[(0, "nvme0n1"), (3, "nvme1n1")]);
        assert_eq!(pass(), (vec![], vec![first.to_owned(), second.to_owned()]));
        write(procfs.path(), &[(0, "nvme0n1"), (3, "nvme2n1")]);
        assert_eq!(pass(), (vec![nvme(3)], vec![first.to_owned(), r#"device="/dev/nvme2n1""#.to_owned()]));
        // Gone, and its name with another number, as after it was plugged in again.
        write(procfs.path(), &[(0, "nvme0n1"), (5, "nvme2n1")]);
        assert_eq!(pass(), (vec![nvme(3)], vec![first.to_owned(), r#"device="259:3""#.to_owned()]));
        // A disk that appears late.
        write(procfs.path(), &[(0, "nvme0n1"), (3, "nvme1n1"), (5, "nvme2n1")]);
        assert_eq!(pass(), (vec![], vec![first.to_owned(), second.to_owned()]));
        // A list that is malformed or gone shows no disk to be gone.
        fs::write(procfs.path().join("diskstats"), " 259 0 nvme0n1 1\n 259 3\n").unwrap();
        assert_eq!(pass().0, []);
        fs::remove_file(procfs.path().join("diskstats")).unwrap();
        assert_eq!(pass(), (vec![], vec![first.to_owned(), second.to_owned()]));
        assert_eq!(self_metrics.read_errors.with_label_values(&["diskstats", "malformed"]).get(), 1);
    }
}
