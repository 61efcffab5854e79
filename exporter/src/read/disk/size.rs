//! Size and use of the containers' filesystems.

use std::io;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::metrics::{Collector, CollectorSet, DiskFact};
use crate::read::container::Container;
use crate::read::disk::host::FIRST_INDEX;
use crate::read::disk::measure::{hangs, reason};
use crate::read::disk::mounts::HostMounts;
use crate::read::disk::pass::{MAX_HUNG, ask_disk, fill};
use crate::read::disk::root::{Figures, RootDevice};
use crate::read::reader::{Pass, Reader};
use crate::read::timing::Timing;

const DISK: CollectorSet = CollectorSet::EMPTY.with(Collector::Disk);

/// A process that is about to become a container's first one still has the host's mounts: they are read again.
const YOUTH: Duration = Duration::from_secs(10);

impl Reader {
    /// Begins a pass.
    pub(crate) fn begin_disks(&mut self, pass: Pass<'_>, now: Instant, timing: &mut Timing) {
        self.measure.begin();
        self.disk_pass.begin(&self.measure);
        self.layers.begin();
        if !pass.wants_disks(&self.plan) {
            return;
        }
        self.layers.receive(now);
        if self.live && pass.ids.has_host() {
            self.begin_host_disks(now, timing);
        }
    }

    /// Asks for the size of a container's layer, and for that of its filesystem.
    pub(crate) fn begin_disk(&mut self, container: &mut Container, index: usize, now: Instant, timing: &mut Timing) {
        // Another cgroup has no layer, nor a filesystem of its own.
        if container.id.is_none() {
            return;
        }
        let is_young = now.saturating_duration_since(*container.first_seen.get_or_insert(now)) < YOUTH;
        let is_known = container.disk.as_ref().is_some_and(|disk| !disk.paths().is_empty() || !is_young);
        if let (false, Some(process)) = (is_known, &container.process) {
            let read = || HostMounts::read(&self.procfs, &self.self_metrics);
            let mounts = self.disk_pass.mounts.get_or_insert_with(read);
            container.disk = Some(RootDevice::find(process, container.id, mounts, &self.self_metrics));
        }
        if !self.live {
            return;
        }
        let Some(disk) = &container.disk else { return };
        if !self.layers.ask(container.generation, disk, &container.path, now) {
            timing.fail(DISK);
        }
        if container.process.is_none() {
            return;
        }
        if disk.device.is_none() {
            return timing.fail(DISK);
        }
        let Some(device) = disk.shared() else {
            if !ask_disk(&self.measure, container, index) {
                self.lacks_disk(container, &io::ErrorKind::TimedOut.into(), timing);
            }
            return;
        };
        let shared = self.disk_pass.shared.entry(device).or_default();
        // One that did not answer before speaks for the others only where none of them can.
        let may_ask = !shared.is_asked && !container.disk_has_hung && shared.hung.len() < MAX_HUNG;
        if may_ask && ask_disk(&self.measure, container, index) {
            shared.is_asked = true;
        } else {
            shared.others.push(index);
        }
    }

    /// Asks for the shared filesystems that no container was fit to ask for.
    fn ask_others(&mut self, containers: &[Container], timing: &mut Timing) {
        for shared in self.disk_pass.shared.values_mut().filter(|shared| !shared.is_asked && !shared.others.is_empty())
        {
            shared.is_asked = shared.ask_next(&self.measure, containers);
            if !shared.is_asked {
                self.self_metrics.count_read_error("root", "hangs");
                timing.fail(DISK);
            }
        }
    }

    /// Fills the sizes of the layers that are known, and of the filesystems that answered in time.
    pub(crate) fn end_disks(&mut self, pass: Pass<'_>, now: Instant, timing: &mut Timing) {
        if !pass.wants_disks(&self.plan) || self.plan.disks.is_empty() {
            return;
        }
        self.layers.send();
        let mut containers = std::mem::take(&mut self.containers);
        self.ask_others(&containers, timing);
        let measure = self.measure.clone();
        let mut answers = std::mem::take(&mut self.disk_pass.answers);
        loop {
            measure.answers(|index, answer| answers.push((index, answer)));
            if answers.is_empty() {
                break;
            }
            for (index, answer) in answers.drain(..) {
                self.end_disk(&mut containers, index, answer, timing);
            }
        }
        self.disk_pass.answers = answers;
        self.layers.receive(now);
        for container in containers.iter_mut().filter(|container| pass.wants(container)) {
            let disk = container.disk.as_ref();
            if let Some(size) = disk.and_then(|disk| self.layers.known(container.generation, disk)) {
                self.fill_disk(container, |fact| (fact == DiskFact::Usage).then_some(size));
            }
        }
        let layers = containers.iter().filter_map(|container| Some(&**container.disk.as_ref()?.paths().first()?));
        self.layers.finish(layers, now);
        self.containers = containers;
        timing.attribute_time_to(Collector::Disk);
    }

    /// Takes an answer in, for the container that it is of and for those that share its filesystem.
    fn end_disk(
        &mut self,
        containers: &mut [Container],
        index: usize,
        answer: io::Result<Figures>,
        timing: &mut Timing,
    ) {
        if index >= FIRST_INDEX {
            return self.end_host_disk(index, answer, timing);
        }
        let Some(container) = containers.get_mut(index) else { return };
        let device = container.disk.as_ref().and_then(RootDevice::shared);
        let mut shared = device.and_then(|device| self.disk_pass.shared.get_mut(&device)).map(std::mem::take);
        match answer {
            Ok(figures) => {
                let others = shared.iter_mut().flat_map(|shared| shared.others.drain(..));
                for index in others.chain([index]) {
                    if let Some(container) = containers.get_mut(index) {
                        self.fill_disk(container, |fact| figures.get(fact).filter(|_| fact != DiskFact::Usage));
                    }
                }
            }
            Err(error) => {
                self.lacks_disk(container, &error, timing);
                let (generation, hangs) = (container.generation, hangs(&error));
                // It may be this container alone whose root cannot be reached.
                if let Some(shared) = &mut shared {
                    shared.hung.extend(hangs.then_some(generation));
                    shared.ask_next(&self.measure, containers);
                }
            }
        }
        if let Some(found) = device.and_then(|device| self.disk_pass.shared.get_mut(&device)) {
            *found = shared.unwrap_or_default();
        }
    }

    fn fill_disk(&mut self, container: &mut Container, value: impl Fn(DiskFact) -> Option<u64>) {
        let Container { disk, sample, .. } = container;
        let device = disk.as_ref().map_or((None, None), |root| (root.device, root.source.as_deref()));
        fill(device, value, &self.plan, &mut self.devices, &mut self.labels, sample);
    }

    fn lacks_disk(&mut self, container: &mut Container, error: &io::Error, timing: &mut Timing) {
        let hangs = hangs(error);
        self.self_metrics.count_read_error("root", reason(error));
        timing.fail(DISK);
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

    /// Asks for the sizes of the host's filesystems.
    fn begin_host_disks(&mut self, now: Instant, timing: &mut Timing) {
        if !self.host_filesystems.ask(&self.measure, now, &self.self_metrics) {
            timing.fail(DISK);
        }
    }

    /// Stores an answer about the host's filesystems.
    fn end_host_disk(&mut self, index: usize, answer: io::Result<Figures>, timing: &mut Timing) {
        if !self.host_filesystems.take(index, answer, &self.self_metrics) {
            timing.fail(DISK);
        }
    }

    /// Fills the sizes of the host's filesystems into its sample.
    pub(crate) fn fill_host_disks(&mut self, host: &mut Container) {
        self.host_filesystems.fill(&self.plan, &mut self.devices, &mut self.labels, &mut host.sample);
    }
}

#[cfg(test)]
mod tests;
