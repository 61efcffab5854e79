//! Size and use of the containers' filesystems.

use std::io;

use tracing::warn;

use crate::metrics::{Collector, CollectorSet, Dimension, DiskFact};
use crate::name::Names;
use crate::read::container::Container;
use crate::read::disk::measure::Question;
use crate::read::disk::root::RootDevice;
use crate::read::files::open_files::reason;
use crate::read::reader::{Pass, Reader};
use crate::read::timing::Timing;

impl Reader {
    /// Fills the size of the writable layer, as the engine reported it, and asks for that of its filesystem.
    pub(crate) fn begin_disk(&mut self, container: &mut Container, index: usize, names: &Names, timing: &mut Timing) {
        if let (None, Some(process)) = (&container.disk, &container.process) {
            container.disk = Some(RootDevice::find(process, &self.procfs, &self.self_metrics));
        }
        if let Some(size) = container.id.filter(|_| container.named).and_then(|id| names.sizes.get(&id)).copied() {
            self.fill_disk(container, |fact| (fact == DiskFact::Usage).then_some(size));
        }
        let (Some(process), Some(root)) = (container.process.as_ref().filter(|_| self.live), &container.disk) else {
            return;
        };
        let question = Question { index, generation: container.generation, root: root.open_by(process) };
        if !self.measure.ask(question, container.disk_has_hung) {
            self.lacks_disk(container, &io::ErrorKind::TimedOut.into(), timing);
        }
    }

    /// Fills the sizes of the filesystems that answered in time.
    pub(crate) fn end_disks(&mut self, pass: Pass<'_>, timing: &mut Timing) {
        if !pass.collectors.has(Collector::Disk) || self.plan.disks.is_empty() {
            return;
        }
        let mut containers = std::mem::take(&mut self.containers);
        let measure = self.measure.clone();
        measure.answers(|index, answer| {
            let Some(container) = containers.get_mut(index) else { return };
            match answer {
                Ok(figures) => self.fill_disk(container, |fact| figures.get(fact)),
                Err(error) => self.lacks_disk(container, &error, timing),
            }
        });
        self.containers = containers;
        timing.attribute_time_to(Collector::Disk);
    }

    fn fill_disk(&mut self, container: &mut Container, value: impl Fn(DiskFact) -> Option<u64>) {
        let Container { disk, sample, .. } = container;
        let (device, source) = disk.as_ref().map_or((None, None), |root| (root.device, root.source.as_deref()));
        let key = self.devices.filesystem_label(device, source, self.labels.of_mut(Dimension::Device));
        for (fact, column) in &self.plan.disks {
            if let Some(value) = value(*fact) {
                sample.table_mut(Dimension::Device).set(key, *column, value);
            }
        }
    }

    fn lacks_disk(&mut self, container: &mut Container, error: &io::Error, timing: &mut Timing) {
        let hangs = error.kind() == io::ErrorKind::TimedOut;
        self.self_metrics.count_read_error("root", if hangs { "hangs" } else { reason(error) });
        timing.fail(CollectorSet::EMPTY.with(Collector::Disk));
        if hangs && !std::mem::replace(&mut container.disk_has_hung, true) {
            warn!(
                container = %container.path,
                "the filesystem of this container does not answer statfs: its size is left out until it does (look for a FUSE or \
                 network mount whose server is stopped or cannot be reached)"
            );
        }
        if !hangs && self.is_first(Collector::Disk) {
            warn!(
                %error, container = %container.path,
                "the size of this container's filesystem cannot be read: run the exporter on the host, or with --sandbox=off and \
                 CAP_SYS_PTRACE (--cap-add=SYS_PTRACE), or leave --collector.disk out"
            );
        }
    }
}
