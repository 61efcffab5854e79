//! Names of block devices by number, from `/proc/diskstats`, and the online CPUs.
//!
//! The kernel gives the number of a disk that is gone to the next one (`259:3` was `nvme1n1` and becomes `nvme2n1`), so the
//! list is read once in each pass in which a device is shown. It is short, and one reading costs a microsecond per disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::metrics::SelfMetrics;
use crate::read::files::format::Device;
use crate::read::files::open_files::reason;
use crate::read::files::proc_text::{disks, online_cpus};
use crate::read::sample::{LabelId, LabelPool};

/// Names and labels of the devices seen so far.
#[derive(Debug)]
pub struct Devices {
    diskstats: Option<PathBuf>,
    self_metrics: SelfMetrics,
    disks: HashMap<Device, Disk>,
    labels: HashMap<Device, LabelId>,
    /// The list is read at most once in a pass.
    is_fresh: bool,
    /// Passes so far.
    pass: u64,
    /// The text of the list.
    text: Vec<u8>,
    replaced: Vec<Device>,
    /// Numbers of the online CPUs. Empty if unknown.
    cpus: Vec<u64>,
}

/// A disk or partition of the list.
#[derive(Debug)]
struct Disk {
    name: Box<[u8]>,
    /// The last pass in which the list had it.
    pass: u64,
}

impl Devices {
    /// Returns the names from `<procfs>/diskstats`; without one, numbers have to do.
    #[must_use]
    pub fn new(procfs: Option<&Path>, self_metrics: SelfMetrics) -> Self {
        Self {
            diskstats: procfs.map(|procfs| procfs.join("diskstats")),
            self_metrics,
            disks: HashMap::new(),
            labels: HashMap::new(),
            is_fresh: false,
            pass: 0,
            text: Vec::new(),
            replaced: Vec::new(),
            cpus: Vec::new(),
        }
    }

    /// Begins a pass. Returns the numbers whose disk is gone or was replaced since the last pass: counts under them do
    /// not belong to the new disk.
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

    /// Returns whether a CPU is online, as far as that is known.
    pub(crate) fn is_online(&self, cpu: u32) -> bool {
        self.cpus.is_empty() || self.cpus.contains(&u64::from(cpu))
    }

    /// Forgets all labels.
    pub fn forget(&mut self) {
        self.labels.clear();
    }

    /// `device="/dev/NAME"`, or the number where the list does not have it.
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

    /// Returns the label of a filesystem: by its device's number; `source` where that has no name; an empty label where
    /// nothing is known.
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

    /// Reads the list. If it cannot be read, the known names stay.
    fn refresh(&mut self) {
        self.is_fresh = true;
        self.pass += 1;
        let Self { diskstats: Some(path), text, self_metrics, disks: known, labels, pass, replaced, .. } = self else {
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
            Some(disk) if *disk.name == *name => disk.pass = *pass,
            before => {
                labels.remove(&device);
                if before.is_some() {
                    replaced.push(device);
                }
                known.insert(device, Disk { name: name.into(), pass: *pass });
            }
        });
        (0..malformed).for_each(|_| self_metrics.count_read_error("diskstats", "malformed"));
        // The disk of a malformed line is not gone.
        if malformed == 0 {
            known.retain(|device, disk| {
                let is_there = disk.pass == *pass;
                if !is_there {
                    labels.remove(device);
                    replaced.push(*device);
                }
                is_there
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{Device, Devices};
    use crate::metrics::{Dimension, SelfMetrics};
    use crate::read::Labels;

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
