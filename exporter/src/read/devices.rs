//! Names of block devices by number, from `/proc/diskstats`.

use std::collections::HashMap;
use std::path::PathBuf;

use procfs::{DiskStats, FromRead as _};
use tracing::debug;

use super::format::Device;
use super::sample::{LabelId, LabelPool};

/// Labels of the devices seen so far.
#[derive(Debug)]
pub struct Devices {
    diskstats: Option<PathBuf>,
    names: HashMap<Device, String>,
    labels: HashMap<Device, LabelId>,
    /// The list is read at most once in a pass.
    fresh: bool,
}

impl Devices {
    /// Names from `<procfs>/diskstats`; without one, numbers have to do.
    #[must_use]
    pub fn new(procfs: Option<&std::path::Path>) -> Self {
        Self {
            diskstats: procfs.map(|procfs| procfs.join("diskstats")),
            names: HashMap::new(),
            labels: HashMap::new(),
            fresh: false,
        }
    }

    /// A pass begins: an unknown device may cause one more look at the list.
    pub fn begin(&mut self) {
        self.fresh = false;
    }

    /// Every label is void: names are looked up anew, so that a number that was given to another disk is told.
    pub fn forget(&mut self) {
        self.labels.clear();
        self.names.clear();
    }

    /// `device="/dev/NAME"`, or the number where the list does not have it.
    pub fn label(&mut self, device: Device, pool: &mut LabelPool) -> LabelId {
        if let Some(label) = self.labels.get(&device) {
            return *label;
        }
        if !self.fresh && !self.names.contains_key(&device) {
            self.reload();
        }
        let text = match self.names.get(&device) {
            Some(name) => format!("/dev/{name}"),
            None => format!("{}:{}", device.major, device.minor),
        };
        let label = pool.label(text.as_bytes());
        self.labels.insert(device, label);
        label
    }

    /// The label of a filesystem: by its device's number; `source` where that has no name; an empty label where nothing is known.
    pub(super) fn place(&mut self, device: Option<Device>, source: Option<&str>, pool: &mut LabelPool) -> LabelId {
        let Some(device) = device else { return pool.label(source.unwrap_or_default().as_bytes()) };
        let label = self.label(device, pool);
        match source {
            Some(source) if !self.names.contains_key(&device) => pool.label(source.as_bytes()),
            _ => label,
        }
    }

    fn reload(&mut self) {
        self.fresh = true;
        let Some(diskstats) = &self.diskstats else { return };
        match DiskStats::from_file(diskstats) {
            Ok(DiskStats(disks)) => {
                self.names =
                    disks.into_iter().filter_map(|disk| Some((number(disk.major, disk.minor)?, disk.name))).collect();
            }
            Err(error) => debug!(file = %diskstats.display(), %error, "devices stay without names"),
        }
    }
}

fn number(major: i32, minor: i32) -> Option<Device> {
    Some(Device { major: major.try_into().ok()?, minor: minor.try_into().ok()? })
}
