//! What the reader reads only where its collector is switched on, because it costs: socket tables, open files, filesystems.

use tracing::warn;

use super::container::Container;
use super::disk::{Place, figure};
use super::process::{count_processes, count_sockets};
use super::reader::{Reader, reason};
use super::timing::Timing;
use crate::metrics::{Collector, CollectorSet, Dimension, DiskFact};
use crate::name::Names;

/// What has been said once and is not said again.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The containers' processes are in another pid namespace.
    pub(super) foreign: bool,
    descriptors: bool,
    disk: bool,
}

impl Reader {
    pub(super) fn read_sockets(&self, container: &mut Container) {
        let Some(process) = container.process.as_ref() else { return };
        let mut table: Option<(&str, Vec<u8>)> = None;
        for (name, count, slot) in &self.plan.sockets {
            if table.as_ref().is_none_or(|(known, _)| known != name) {
                table = process.socket_table(name).ok().map(|text| (*name, text));
            }
            if let Some((_, text)) = &table {
                container.sample.set(*slot, count_sockets(text, *count));
            }
        }
    }

    /// What the processes hold open. Without the right to look into them all there is no sum.
    pub(super) fn read_descriptors(&mut self, container: &mut Container, timing: &mut Timing) {
        for (fact, slot) in &self.plan.processes {
            match count_processes(&self.procfs, &container.pids, *fact) {
                Ok(Some(value)) => container.sample.set(*slot, value),
                Ok(None) => {}
                Err(error) => {
                    self.own.count_read_error("fd", reason(&error));
                    timing.fail(CollectorSet::EMPTY.with(Collector::Process));
                    if !std::mem::replace(&mut self.told.descriptors, true) {
                        warn!(
                            %error, container = %container.path,
                            "open files and sockets of this container cannot be counted: give the exporter CAP_SYS_PTRACE \
                             (--cap-add=SYS_PTRACE), or leave --collector.process out"
                        );
                    }
                }
            }
        }
    }

    /// The size of the writable layer, as the engine has told it, and of the filesystem that it is on.
    pub(super) fn read_disk(&mut self, container: &mut Container, names: &Names, timing: &mut Timing) {
        if let (None, Some(process)) = (&container.disk, &container.process) {
            container.disk = Some(Place::find(process, &self.procfs));
        }
        let place = container.disk.clone().unwrap_or_default();
        let figures = container.process.as_ref().filter(|_| self.live).map(|process| place.measure(process));
        if let Some(Err(error)) = &figures {
            self.lacks_disk(container, error, timing);
        }
        let figures = figures.and_then(Result::ok);
        let size = container.id.and_then(|id| names.sizes.get(&id)).copied();
        let key = self.devices.place(place.device, place.source.as_deref(), self.labels.of_mut(Dimension::Device));
        for (fact, column) in &self.plan.disks {
            let value =
                if *fact == DiskFact::Usage { size } else { figures.as_ref().and_then(|all| figure(*fact, all)) };
            if let Some(value) = value {
                container.sample.table_mut(Dimension::Device).set(key, *column, value);
            }
        }
    }

    fn lacks_disk(&mut self, container: &Container, error: &std::io::Error, timing: &mut Timing) {
        self.own.count_read_error("root", reason(error));
        timing.fail(CollectorSet::EMPTY.with(Collector::Disk));
        if !std::mem::replace(&mut self.told.disk, true) {
            warn!(
                %error, container = %container.path,
                "the size of this container's filesystem cannot be read: give the exporter CAP_SYS_PTRACE (--cap-add=SYS_PTRACE), or \
                 leave --collector.disk out"
            );
        }
    }
}
