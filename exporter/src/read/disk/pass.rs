//! State of one pass over the containers' filesystems: which were asked for, by which container, and what they answered.

use std::collections::HashMap;
use std::io;

use crate::metrics::{Dimension, DiskFact};
use crate::read::container::Container;
use crate::read::disk::measure::{Measure, Question, Target};
use crate::read::disk::mounts::HostMounts;
use crate::read::disk::root::Figures;
use crate::read::files::format::Device;
use crate::read::plan::Plan;
use crate::read::sample::devices::Devices;
use crate::read::sample::{Labels, Sample};

/// Maximum number of containers that are asked for a filesystem that they share while none answers: each blocks a thread.
pub(super) const MAX_HUNG: usize = 2;

/// Maximum number of shared filesystems; with more, the next pass starts with none.
const MAX_SHARED: usize = 1024;

/// State of a pass. Its collections keep their memory from pass to pass.
#[derive(Debug, Default)]
pub(crate) struct DiskPass {
    /// The mounts of the host, once they were needed.
    pub(super) mounts: Option<HostMounts>,
    /// Filesystems on which all directories are of one size.
    pub(super) shared: HashMap<Device, Shared>,
    pub(super) answers: Vec<(usize, io::Result<Figures>)>,
}

/// A filesystem that several containers share: one of them asks for its size.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) is_asked: bool,
    /// The other containers on it.
    pub(super) others: Vec<usize>,
    /// How many of the others were tried in this pass.
    tried: usize,
    /// Generations of the containers by which the filesystem did not answer in time, while each blocks a thread.
    pub(super) hung: Vec<u64>,
}

impl DiskPass {
    pub(super) fn begin(&mut self, measure: &Measure) {
        self.mounts = None;
        if self.shared.len() > MAX_SHARED {
            self.shared.clear();
        }
        for shared in self.shared.values_mut() {
            (shared.is_asked, shared.tried) = (false, 0);
            shared.others.clear();
            shared.hung.retain(|generation| measure.is_running(*generation));
        }
    }
}

impl Shared {
    /// Asks by the next of the other containers that can ask. Returns false where there is none.
    pub(super) fn ask_next(&mut self, measure: &Measure, containers: &[Container]) -> bool {
        while let (true, Some(&index)) = (self.hung.len() < MAX_HUNG, self.others.get(self.tried)) {
            self.tried += 1;
            if containers.get(index).is_some_and(|container| ask_disk(measure, container, index)) {
                return true;
            }
        }
        false
    }
}

/// Asks for the filesystem of a container. Returns false where it has not answered an earlier pass yet.
pub(super) fn ask_disk(measure: &Measure, container: &Container, index: usize) -> bool {
    let Some(disk) = &container.disk else { return false };
    let target = Target::Root(disk.open_by(container.process.as_ref()));
    measure.ask(Question { index, generation: container.generation, target }, container.disk_has_hung)
}

/// Fills figures of a filesystem, or of a layer on it, into a sample.
pub(super) fn fill(
    (device, source): (Option<Device>, Option<&str>),
    value: impl Fn(DiskFact) -> Option<u64>,
    plan: &Plan,
    devices: &mut Devices,
    labels: &mut Labels,
    sample: &mut Sample,
) {
    let key = devices.filesystem_label(device, source, labels.of_mut(Dimension::Device));
    for (fact, column) in &plan.disks {
        if let Some(value) = value(*fact) {
            sample.table_mut(Dimension::Device).set(key, *column, value);
        }
    }
}
