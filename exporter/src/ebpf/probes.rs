//! All programs that run on this host: started together, read once per pass, queried per container.

use std::fmt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aya::Ebpf;
use aya::programs::ProgramInfo;

use super::Program;
use super::block::Block;
use super::counters::ContainerCounters;
use super::facts::Facts;
use super::loader::Loader;
use super::network::{Network, Sizes, Tcp};
use super::owners::{CgroupOwners, ContainerRef};
use super::sched::Sched;
use super::snapshot::{IterReader, TreeRequest};
use super::tasks::{Tasks, Threads};
use super::unsupported::Unsupported;
use crate::discover::{ContainerId, Hierarchy};
use crate::metrics::{Collector, CollectorSet, Probed, SelfMetrics};

/// The programs that run on this host.
pub struct Probes {
    report: Report,
    /// Owners of all counts but block I/O, by ids of the v2 tree.
    owners: CgroupOwners,
    network: Option<Network>,
    tcp: Option<Tcp>,
    sched: Option<Sched>,
    tasks: Option<Tasks>,
    /// Owners of block I/O, by ids of the tree with the block controller.
    block_owners: CgroupOwners,
    block: Option<Block>,
    /// Kept until snapshots are started.
    loader: Option<Loader>,
    /// When the programs were started.
    since: SystemTime,
}

/// Outcome of each wanted program.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Each wanted program, and why it does not run.
    pub programs: Vec<(Program, Result<(), Unsupported>)>,
}

impl Report {
    /// Returns the names of the programs that run.
    #[must_use]
    pub fn running(&self) -> Vec<&'static str> {
        self.programs.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(program, _)| program.name()).collect()
    }

    /// Returns the programs that do not run and why, grouped by reason.
    #[must_use]
    pub fn unsupported(&self) -> Vec<(Vec<&'static str>, &Unsupported)> {
        let mut found: Vec<(Vec<&'static str>, &Unsupported)> = Vec::new();
        for (program, outcome) in &self.programs {
            let Err(unsupported) = outcome else { continue };
            match found.iter_mut().find(|(_, known)| *known == unsupported) {
                Some((programs, _)) => programs.push(program.name()),
                None => found.push((vec![program.name()], unsupported)),
            }
        }
        found
    }

    /// Returns the collectors of which at least one program runs.
    #[must_use]
    pub fn collectors(&self) -> CollectorSet {
        let running = self.programs.iter().filter(|(_, outcome)| outcome.is_ok());
        running.fold(CollectorSet::EMPTY, |set, (program, _)| set.union(program.collectors()))
    }
}

impl Probes {
    /// Starts every program that the wanted collectors need and that this host allows. The report says which programs
    /// do not run, and why.
    #[must_use]
    pub fn start(wanted: CollectorSet, snapshots: bool, hierarchy: &Hierarchy, sizes: Sizes) -> Self {
        let since = SystemTime::now();
        let facts = Facts::gather(hierarchy);
        let owners = CgroupOwners::new(facts.cgroup2.clone().unwrap_or_default());
        let block_owners = CgroupOwners::new(facts.io.clone().unwrap_or_default());
        let wanted: Vec<Program> = Program::ALL
            .iter()
            .copied()
            .filter(|program| !wanted.intersection(program.collectors()).is_empty())
            .collect();
        let allowed = |program: &Program| facts.allow(*program);
        let mut report = Report { programs: wanted.iter().map(|program| (*program, allowed(program))).collect() };
        let (mut network, mut tcp, mut block, mut sched, mut tasks) = (None, None, None, None, None);
        // The loader reads the kernel's types, which is slow, so it is created only if it is needed.
        let mut loader = (snapshots || !report.running().is_empty()).then(|| Loader::new(facts));
        if let Some(loader) = &mut loader {
            network = report.try_start(&[Program::NetworkReceive, Program::NetworkTransmit], loader, |loader| {
                Network::start(loader, sizes)
            });
            tcp = report.try_start(&[Program::TcpRetransmit], loader, Tcp::start);
            block = report.try_start(&[Program::BlockComplete], loader, Block::start);
            sched = report.try_start(&[Program::SchedLatency], loader, Sched::start);
            tasks = report.try_start(&[Program::TaskStates], loader, Tasks::start);
        }
        let loader = loader.filter(|_| snapshots);
        Self { report, owners, network, tcp, sched, tasks, block_owners, block, loader, since }
    }

    /// Returns the time at which the programs have started to count, in nanoseconds since the epoch.
    #[must_use]
    pub fn since_ns(&self) -> u64 {
        let since = self.since.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Starts snapshots of the requested trees, with capacity for this number of cgroups. Can be called once, after the
    /// start and before the first scrape.
    ///
    /// # Errors
    /// What this host lacks, or the kernel refused.
    pub(crate) fn iter_reader(&mut self, requests: &[TreeRequest], cgroups: usize) -> Result<IterReader, Unsupported> {
        let loader = self.loader.take().ok_or_else(|| Unsupported::new("not wanted", "--read.snapshot=auto"))?;
        loader.facts.allow_tracing()?;
        IterReader::start(loader, requests, cgroups)
    }

    /// Returns the outcome of each program.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Reads the counts of the programs of the wanted collectors, and frees the entries of ended cgroups. Calls `done`
    /// after each step with the collector to which the time of the step is charged.
    pub fn read<'a>(
        &mut self,
        wanted: CollectorSet,
        containers: impl Iterator<Item = ContainerRef<'a>> + Clone,
        now: Instant,
        mut done: impl FnMut(Collector),
    ) {
        let wants = |program: Program| !wanted.intersection(program.collectors()).is_empty();
        // The collector of block I/O files uses these counts, too, if the files are empty.
        let block_for = if wants(Program::BlockComplete) { Collector::EbpfBlkio } else { Collector::Blkio };
        if let Some(block) = self.block.as_mut().filter(|_| wants(Program::BlockComplete) || wanted.has(block_for)) {
            block.read();
        }
        self.retire_ended_block(containers.clone(), now);
        done(block_for);
        if let Some(sched) = self.sched.as_mut().filter(|_| wants(Program::SchedLatency)) {
            sched.read();
            done(Collector::EbpfSched);
        }
        if let Some(network) = self.network.as_mut().filter(|_| wants(Program::NetworkReceive)) {
            network.read();
        }
        if let Some(tcp) = self.tcp.as_mut().filter(|_| wants(Program::TcpRetransmit)) {
            tcp.read();
        }
        self.retire_ended(containers, now);
        let single_id = self.network.is_none() && self.tcp.is_none();
        done(if single_id { Collector::EbpfSched } else { Collector::EbpfNetwork });
        if let Some(tasks) = self.tasks.as_mut().filter(|_| wants(Program::TaskStates)) {
            tasks.read();
            done(Collector::Tasks);
        }
    }

    /// Publishes changed containers to the programs that count by ids of the v2 tree, and frees the entries of ended
    /// cgroups.
    fn retire_ended<'a>(&mut self, containers: impl Iterator<Item = ContainerRef<'a>> + Clone, now: Instant) {
        if [self.network.is_none(), self.tcp.is_none(), self.sched.is_none(), self.tasks.is_none()] == [true; 4] {
            return;
        }
        let Self { owners, network, tcp, sched, tasks, .. } = self;
        let mut gone = owners.update(containers.clone());
        let is_changed = owners.take_changed();
        if is_changed {
            if let Some(network) = network {
                network.publish(owners);
            }
            if let Some(tcp) = tcp {
                tcp.publish(owners);
            }
            if let Some(sched) = sched {
                sched.publish(owners);
            }
            if let Some(tasks) = tasks {
                tasks.publish(owners, containers.clone());
            }
        }
        let counted = network.iter().flat_map(Network::cgroups);
        let counted = counted.chain(tcp.iter().flat_map(Tcp::cgroups));
        let counted = counted.chain(sched.iter().flat_map(Sched::cgroups));
        let owner = |id| {
            let of_network = network.as_ref().and_then(|network| network.owner(id));
            let of_tcp = || tcp.as_ref().and_then(|tcp| tcp.owner(id));
            of_network.or_else(of_tcp).or_else(|| sched.as_ref().and_then(|sched| sched.owner(id)))
        };
        let is_any_unknown = owners.attribute(counted.clone(), owner);
        gone.extend(owners.resolve_unknown(counted, is_any_unknown, containers, now));
        if is_changed || !gone.is_empty() {
            if let Some(network) = network {
                network.retire(&gone, owners);
            }
            if let Some(tcp) = tcp {
                tcp.retire(&gone, owners);
            }
            if let Some(sched) = sched {
                sched.retire(&gone, owners);
            }
        }
    }

    /// Publishes changed containers to the program of block I/O, and frees the entries of ended cgroups.
    fn retire_ended_block<'a>(&mut self, containers: impl Iterator<Item = ContainerRef<'a>> + Clone, now: Instant) {
        if let Some(block) = &mut self.block {
            let owners = &mut self.block_owners;
            let mut gone = owners.update(containers.clone());
            let is_changed = owners.take_changed();
            if is_changed {
                block.publish(owners);
            }
            let is_any_unknown = owners.attribute(block.cgroups(), |id| block.owner(id));
            gone.extend(owners.resolve_unknown(block.cgroups(), is_any_unknown, containers, now));
            if is_changed || !gone.is_empty() {
                block.retire(&gone, owners);
            }
        }
    }

    /// Restarts the counts of a block device from 0, because another disk has its number now.
    pub fn restart_device(&mut self, major: u32, minor: u32) {
        if let Some(block) = &mut self.block {
            block.restart_device(major, minor);
        }
    }

    /// Publishes the containers to the programs before the first pass, so that no container can fill a table until
    /// then.
    pub(crate) fn announce<'a>(&mut self, containers: impl Iterator<Item = ContainerRef<'a>> + Clone, now: Instant) {
        self.retire_ended_block(containers.clone(), now);
        self.retire_ended(containers, now);
    }

    /// Returns the counts of a container. `index` is its index among the containers of the last [`Probes::read`].
    #[must_use]
    pub fn counters(&self, index: usize, container: ContainerId) -> ContainerCounters<'_> {
        let cgroups = self.owners.ids(index, container);
        ContainerCounters::new(
            cgroups,
            self.block_owners.ids(index, container),
            (self.network.as_ref(), self.tcp.as_ref(), self.block.as_ref(), self.sched.as_ref()),
        )
        .with_threads(cgroups.first().and_then(|own| self.tasks.as_ref()?.counted(*own)))
    }

    /// Returns whether a program counts the states of threads.
    #[must_use]
    pub fn counts_threads(&self) -> bool {
        self.tasks.is_some()
    }

    /// Returns whether the last [`Probes::read`] of the states of threads has succeeded.
    #[must_use]
    pub fn has_counted_threads(&self) -> bool {
        self.tasks.as_ref().is_some_and(Tasks::succeeded)
    }

    /// Returns the states of the threads of the whole host.
    #[must_use]
    pub fn host_threads(&self) -> Option<Threads> {
        self.tasks.as_ref()?.host()
    }

    /// Returns one value of a container; none if nothing was counted. Slower than [`Probes::counters`].
    #[must_use]
    pub fn value(&self, container: ContainerId, what: Probed) -> Option<u64> {
        // No container has this index, so the container is looked up by its id.
        self.counters(usize::MAX, container).value(what)
    }

    /// Publishes our own metrics of the programs.
    pub fn publish(&self, self_metrics: &SelfMetrics) {
        for (program, outcome) in &self.report.programs {
            self_metrics.ebpf_program_loaded.with_label_values(&[program.name()]).set(i64::from(outcome.is_ok()));
        }
        for info in self.objects().flat_map(Ebpf::programs).filter_map(|(_, program)| program.info().ok()) {
            publish_runs(&info, self_metrics);
        }
        let entries = |map: &str, used: usize, refused: u64| {
            self_metrics.ebpf_map_entries.with_label_values(&[map]).set(i64::try_from(used).unwrap_or(i64::MAX));
            let counter = self_metrics.ebpf_refused.with_label_values(&[map]);
            counter.inc_by(refused.saturating_sub(counter.get()));
        };
        if let Some(network) = &self.network {
            entries("network", network.entries(), network.refused());
        }
        if let Some(tcp) = &self.tcp {
            entries("tcp", tcp.entries(), tcp.refused());
        }
        if let Some(block) = &self.block {
            entries("block", block.entries(), block.refused());
        }
        if let Some(sched) = &self.sched {
            entries("sched", sched.entries(), sched.refused());
        }
        if let Some(tasks) = &self.tasks {
            entries("tasks", tasks.entries(), 0);
        }
    }

    /// Returns the objects of all programs.
    fn objects(&self) -> impl Iterator<Item = &Ebpf> {
        let network = self.network.iter().map(|network| &network.object);
        let network = network.chain(self.tcp.iter().map(|tcp| &tcp.object));
        let block = self.block.iter().map(|block| &block.object);
        let tasks = self.tasks.iter().map(|tasks| &tasks.object);
        network.chain(block).chain(self.sched.iter().map(|sched| &sched.object)).chain(tasks)
    }
}

impl Report {
    /// Starts the programs of one object if this host allows all of them, and records the kernel's error otherwise.
    fn try_start<T>(
        &mut self,
        programs: &[Program],
        loader: &mut Loader,
        start: impl FnOnce(&mut Loader) -> Result<T, Unsupported>,
    ) -> Option<T> {
        let is_ours = |program: &Program| programs.contains(program);
        let allowed = self.programs.iter().filter(|(program, outcome)| is_ours(program) && outcome.is_ok()).count();
        if allowed < programs.len() {
            return None;
        }
        let started = start(loader);
        if let Err(unsupported) = &started {
            for (_, outcome) in self.programs.iter_mut().filter(|(program, _)| is_ours(program)) {
                *outcome = Err(unsupported.clone());
            }
        }
        started.ok()
    }
}

/// Publishes the number of runs of a program and their time. The kernel counts them only while
/// `kernel.bpf_stats_enabled` is set, because that takes time at each run.
fn publish_runs(info: &ProgramInfo, self_metrics: &SelfMetrics) {
    let name = info.name_as_str().unwrap_or_default();
    let Some(program) = Program::ALL.iter().find(|program| is_named(program.name(), name)) else { return };
    if info.run_count() == 0 {
        return;
    }
    let counter = self_metrics.ebpf_program_runs.with_label_values(&[program.name()]);
    counter.inc_by(info.run_count().saturating_sub(counter.get()));
    let seconds = self_metrics.ebpf_program_seconds.with_label_values(&[program.name()]);
    seconds.inc_by((info.run_time().as_secs_f64() - seconds.get()).max(0.0));
}

/// Returns whether the kernel's name of a program, which is cut to 15 characters, stands for `name`.
fn is_named(name: &str, kernel_name: &str) -> bool {
    !kernel_name.is_empty() && name.get(..15).unwrap_or(name) == kernel_name
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").field("report", &self.report).finish_non_exhaustive()
    }
}
