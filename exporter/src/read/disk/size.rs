//! Size and use of the containers' filesystems.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::metrics::{Collector, CollectorSet, Dimension, DiskFact};
use crate::read::container::Container;
use crate::read::disk::host::FIRST_INDEX;
use crate::read::disk::measure::{Question, Target};
use crate::read::disk::mounts::HostMounts;
use crate::read::disk::root::{Figures, RootDevice};
use crate::read::files::format::Device;
use crate::read::files::open_files::reason;
use crate::read::reader::{Pass, Reader};
use crate::read::timing::Timing;
use crate::walker::Failure;

const DISK: CollectorSet = CollectorSet::EMPTY.with(Collector::Disk);

/// A process that is about to become a container's first one still has the host's mounts: they are read again.
const YOUTH: Duration = Duration::from_secs(10);

/// Filesystems that are remembered as shared: those of more devices are forgotten at the next pass.
const MAX_SHARED: usize = 1024;

/// State of a pass. Its maps keep their memory from pass to pass.
#[derive(Debug, Default)]
pub(crate) struct DiskPass {
    /// The mounts of the host, once they were needed.
    mounts: Option<HostMounts>,
    /// Filesystems on which all directories are of one size.
    shared: HashMap<Device, Shared>,
    answers: Vec<(usize, io::Result<Figures>)>,
}

/// A filesystem that one container asks for.
#[derive(Debug, Default)]
struct Shared {
    is_asked: bool,
    /// The other containers on it.
    others: Vec<usize>,
}

impl DiskPass {
    fn begin(&mut self) {
        self.mounts = None;
        if self.shared.len() > MAX_SHARED {
            self.shared.clear();
        }
        for shared in self.shared.values_mut() {
            shared.is_asked = false;
            shared.others.clear();
        }
    }
}

impl Reader {
    /// Begins a pass.
    pub(crate) fn begin_disks(&mut self, pass: Pass<'_>, now: Instant, timing: &mut Timing) {
        self.measure.begin();
        self.disk_pass.begin();
        self.layers.begin();
        if !self.wants_disk(pass) {
            return;
        }
        self.layers.receive(now);
        if self.live && pass.ids.has_host() {
            self.begin_host_disks(now, timing);
        }
    }

    pub(crate) fn wants_disk(&self, pass: Pass<'_>) -> bool {
        pass.collectors.has(Collector::Disk) && pass.families.intersects(&self.plan.needs.disks)
    }

    /// Asks for the size of a container's layer, and for that of its filesystem.
    pub(crate) fn begin_disk(&mut self, container: &mut Container, index: usize, now: Instant, timing: &mut Timing) {
        // Another cgroup has no layer, nor a filesystem of its own.
        if container.id.is_none() {
            return;
        }
        let is_young = container.first_seen.is_none_or(|seen| now.saturating_duration_since(seen) < YOUTH);
        let is_known = container.disk.as_ref().is_some_and(|disk| !disk.paths().is_empty() || !is_young);
        if let (false, Some(process)) = (is_known, &container.process) {
            let mounts = self.disk_pass.mounts.get_or_insert_with(|| {
                let (mounts, malformed) = HostMounts::read(&self.procfs);
                (0..malformed).for_each(|_| self.self_metrics.count_read_error("mountinfo", "malformed"));
                mounts
            });
            container.disk = Some(RootDevice::find(process, container.id, mounts, &self.self_metrics));
        }
        if !self.live {
            return;
        }
        let Some(disk) = &container.disk else { return };
        if !disk.paths().is_empty() {
            match self.layers.get(container.generation, disk, now) {
                Ok(_) if self.layers.is_served() => {}
                Ok(_) => timing.fail(DISK),
                Err(failure) => {
                    timing.fail(DISK);
                    self.log_layer(failure, container, disk);
                }
            }
        }
        if container.process.is_none() {
            return;
        }
        if disk.device.is_none() {
            return timing.fail(DISK);
        }
        if let Some(device) = disk.shared() {
            let shared = self.disk_pass.shared.entry(device).or_default();
            if shared.is_asked {
                return shared.others.push(index);
            }
            shared.is_asked = true;
        }
        self.ask_disk(container, index, timing);
    }

    fn ask_disk(&mut self, container: &mut Container, index: usize, timing: &mut Timing) {
        let Some(disk) = &container.disk else { return };
        let target = Target::Root(disk.open_by(container.process.as_ref()));
        if !self.measure.ask(Question { index, generation: container.generation, target }, container.disk_has_hung) {
            self.lacks_disk(container, &io::ErrorKind::TimedOut.into(), timing);
        }
    }

    /// Fills the sizes of the layers that are known, and of the filesystems that answered in time.
    pub(crate) fn end_disks(&mut self, pass: Pass<'_>, now: Instant, timing: &mut Timing) {
        if !self.wants_disk(pass) || self.plan.disks.is_empty() {
            return;
        }
        self.layers.send();
        let mut containers = std::mem::take(&mut self.containers);
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
        let mut others = device
            .and_then(|device| self.disk_pass.shared.get_mut(&device))
            .map(|shared| std::mem::take(&mut shared.others))
            .unwrap_or_default();
        match answer {
            Ok(figures) => {
                for index in others.drain(..).chain([index]) {
                    if let Some(container) = containers.get_mut(index) {
                        self.fill_disk(container, |fact| figures.get(fact).filter(|_| fact != DiskFact::Usage));
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                for index in others.drain(..).chain([index]) {
                    if let Some(container) = containers.get_mut(index) {
                        self.lacks_disk(container, &error, timing);
                    }
                }
            }
            Err(error) => {
                self.lacks_disk(container, &error, timing);
                // It may be this container alone whose root cannot be reached.
                if let Some(next) = others.pop()
                    && let Some(container) = containers.get_mut(next)
                {
                    self.ask_disk(container, next, timing);
                }
            }
        }
        if let Some(shared) = device.and_then(|device| self.disk_pass.shared.get_mut(&device)) {
            shared.others = others;
        }
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

    fn log_layer(&mut self, failure: Failure, container: &Container, disk: &RootDevice) {
        if !self.layers.is_first(failure) {
            return;
        }
        let hint = match failure {
            Failure::NotVisible => {
                "mount the engine's data root at its own path, for example -v /var/lib/docker:/var/lib/docker:ro; if it was there, \
                 restart the exporter: data roots are looked for at start"
            }
            Failure::Denied => "give the exporter CAP_DAC_READ_SEARCH (--cap-add=DAC_READ_SEARCH)",
            Failure::TooLarge => "it has more files, or directories within each other, than are walked",
            Failure::Io | Failure::Busy => "the kernel's log may say more",
        };
        let layer = disk.paths().first().map(|path| path.display().to_string());
        warn!(
            reason = failure.name(), container = %container.path, layer, hint,
            "the writable layer of this container cannot be summed up: container_fs_usage_bytes is left out"
        );
    }

    fn lacks_disk(&mut self, container: &mut Container, error: &io::Error, timing: &mut Timing) {
        let hangs = error.kind() == io::ErrorKind::TimedOut;
        self.self_metrics.count_read_error("root", if hangs { "hangs" } else { reason(error) });
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
}
