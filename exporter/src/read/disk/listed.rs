//! Disks where values come from an engine's stats API, which tells another size of a layer and nothing of filesystems.
//!
//! The figures are those of kernel files, by the same means: the engine names the first process of each container, whose mounts lead
//! to its layer and its filesystem. Asked at the beginning of a pass, taken at its end.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::discover::ContainerId;
use crate::metrics::{DiskFact, SelfMetrics};
use crate::read::disk::host::{FIRST_INDEX, HostFilesystems};
use crate::read::disk::layers::LayerSizes;
use crate::read::disk::measure::{Measure, Question, Target, hangs, reason};
use crate::read::disk::mounts::HostMounts;
use crate::read::disk::pass::fill;
use crate::read::disk::root::{Figures, RootDevice};
use crate::read::files::format::Device;
use crate::read::host::is_live;
use crate::read::plan::Plan;
use crate::read::process::Process;
use crate::read::sample::devices::Devices;
use crate::read::sample::{Labels, Sample};
use crate::walker::Walker;

/// The disks of this host and of the containers that its engines run.
#[derive(Debug)]
pub struct ListedDisks {
    procfs: PathBuf,
    self_metrics: SelfMetrics,
    measure: Measure,
    layers: LayerSizes,
    host: HostFilesystems,
    containers: HashMap<ContainerId, ListedDisk>,
    generations: u64,
    /// What this pass asks for: the containers whose filesystem each question is about.
    asked: Vec<Vec<ContainerId>>,
    has_warned: bool,
    failed: bool,
    spent: Duration,
}

#[derive(Debug)]
struct ListedDisk {
    /// Its first process.
    pid: u32,
    /// Which run of a container it is.
    generation: u64,
    disk: RootDevice,
    figures: Option<Figures>,
    has_hung: bool,
    /// Whether this pass has it.
    is_there: bool,
}

impl ListedDisks {
    /// None where procfs is a capture: this machine's disks are not those of its host.
    #[must_use]
    pub fn new(procfs: &Path, walker: Option<Walker>, self_metrics: SelfMetrics) -> Option<Self> {
        is_live(procfs).then(|| Self {
            procfs: procfs.to_owned(),
            measure: Measure::default(),
            layers: LayerSizes::new(walker, self_metrics.clone()),
            self_metrics,
            host: HostFilesystems::default(),
            containers: HashMap::new(),
            generations: 0,
            asked: Vec::new(),
            has_warned: false,
            failed: false,
            spent: Duration::ZERO,
        })
    }

    /// Asks for the disks of containers that run, each with the number of its first process and its cgroup's path; and for the host's
    /// where they are wanted.
    pub fn begin(&mut self, running: impl Iterator<Item = (ContainerId, u32, String)>, has_host: bool, now: Instant) {
        self.failed = false;
        self.measure.begin();
        self.layers.begin();
        self.layers.receive(now);
        if has_host {
            self.failed |= !self.host.ask(&self.measure, now, &self.self_metrics);
        }
        self.containers.values_mut().for_each(|container| container.is_there = false);
        let mut mounts = None;
        let mut shared: HashMap<Device, usize> = HashMap::new();
        self.asked.clear();
        for (id, pid, path) in running {
            // Without the host's processes in sight it is another one, or none.
            let Ok(process) = Process::open(&self.procfs, pid, &path, true) else { continue };
            let is_known = self.containers.get(&id).is_some_and(|container| container.pid == pid);
            if !is_known {
                let mounts = mounts.get_or_insert_with(|| HostMounts::read(&self.procfs, &self.self_metrics));
                let disk = RootDevice::find(&process, Some(id), mounts, &self.self_metrics);
                self.generations += 1;
                let generation = self.generations;
                let fresh = ListedDisk { pid, generation, disk, figures: None, has_hung: false, is_there: true };
                self.containers.insert(id, fresh);
            }
            let Some(container) = self.containers.get_mut(&id) else { continue };
            (container.is_there, container.figures) = (true, None);
            self.failed |= !self.layers.ask(container.generation, &container.disk, &path, now);
            let Some(device) = container.disk.device else {
                self.failed = true;
                continue;
            };
            // One that did not answer before speaks for no other one.
            let group = container.disk.shared().filter(|_| !container.has_hung).and_then(|device| shared.get(&device));
            if let Some(group) = group.and_then(|group| self.asked.get_mut(*group)) {
                group.push(id);
                continue;
            }
            let target = Target::Root(container.disk.open_by(Some(&process)));
            let question = Question { index: self.asked.len(), generation: container.generation, target };
            if self.measure.ask(question, container.has_hung) {
                if container.disk.shared().is_some() && !container.has_hung {
                    shared.insert(device, self.asked.len());
                }
                self.asked.push(vec![id]);
            } else {
                self.failed = true;
            }
        }
        self.containers.retain(|_, container| container.is_there);
        self.spent = now.elapsed();
    }

    /// Takes the answers, for a bounded time. Returns the time of both, and whether all that was wanted is there.
    pub fn end(&mut self) -> (Duration, bool) {
        let now = Instant::now();
        self.layers.send();
        let mut answers = Vec::new();
        self.measure.answers(|index, answer| answers.push((index, answer)));
        for (index, answer) in answers {
            if index >= FIRST_INDEX {
                self.failed |= !self.host.take(index, answer, &self.self_metrics);
            } else {
                self.take(index, answer);
            }
        }
        self.layers.receive(now);
        let layers = self.containers.values().filter_map(|container| Some(&**container.disk.paths().first()?));
        self.layers.finish(layers, now);
        (self.spent + now.elapsed(), !self.failed)
    }

    fn take(&mut self, index: usize, answer: io::Result<Figures>) {
        let group = self.asked.get(index).map_or(&[][..], Vec::as_slice);
        for id in group {
            let Some(container) = self.containers.get_mut(id) else { continue };
            container.figures = answer.as_ref().ok().copied();
        }
        if let (Err(error), Some(first)) = (answer, group.first()) {
            self.failed = true;
            self.self_metrics.count_read_error("root", reason(&error));
            if let Some(container) = self.containers.get_mut(first) {
                container.has_hung |= hangs(&error);
            }
            if !std::mem::replace(&mut self.has_warned, true) {
                warn!(container = %first, %error, "the size of this container's filesystem cannot be read: run the exporter on the host");
            }
        }
    }

    /// Fills what is known of a container into its sample.
    pub fn fill(&self, id: ContainerId, plan: &Plan, devices: &mut Devices, labels: &mut Labels, sample: &mut Sample) {
        let Some(container) = self.containers.get(&id) else { return };
        let size = self.layers.known(container.generation, &container.disk);
        let value = |fact| match fact {
            DiskFact::Usage => size,
            fact => container.figures.and_then(|figures| figures.get(fact)),
        };
        fill((container.disk.device, container.disk.source.as_deref()), value, plan, devices, labels, sample);
    }

    /// Fills the host's filesystems into its sample.
    pub fn fill_host(&self, plan: &Plan, devices: &mut Devices, labels: &mut Labels, sample: &mut Sample) {
        self.host.fill(plan, devices, labels, sample);
    }
}
