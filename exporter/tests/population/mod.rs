//! Made-up containers with values for every series of the default collectors, the same in every run: two labels of a compose
//! project, one device, one interface, cgroup paths as systemd makes them. Used by `tests/body_size.rs` and by `benches/render.rs`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use docker_stats_exporter::discover::{ContainerId, Hierarchy};
use docker_stats_exporter::metrics::{
    BlockOperation, Collector, CollectorSet, Dimension, FAMILIES, FamilySet, IpFamily, Probed,
};
use docker_stats_exporter::name::{self, ContainerInfo, State};
use docker_stats_exporter::read::{Histogram, HostFacts, Labels, Limits, Machine, Plan, Row, Sample, for_cgroups};
use docker_stats_exporter::render::{Exposed, LabelSets, View};

/// A captured host with cgroup v2 whose files decide which series there are.
const HOST: &str = "../tests/fixtures/debian13-v2-systemd/sys/fs/cgroup";
const SERVICES: [&str; 3] = ["web", "worker", "cache"];

/// The containers, and what their exposition is made of.
pub(crate) struct Population {
    rows: Vec<Row>,
    labels: Labels,
    members: Vec<Member>,
    host: Sample,
    facts: HostFacts,
    machine: Machine,
}

struct Member {
    info: Arc<ContainerInfo>,
    sets: LabelSets,
    sample: Sample,
    limits: Limits,
}

impl Population {
    /// So many containers, with the families of the default eBPF programs or without them. Each reads, writes and talks IPv4.
    pub(crate) fn new(containers: usize, ebpf: bool) -> anyhow::Result<Self> {
        let hierarchy = Hierarchy::detect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(HOST))?;
        let collectors = Collector::ALL.iter().filter(|collector| ebpf || !collector.is_probed());
        let collectors = collectors.copied().filter(|collector| CollectorSet::defaults().has(*collector)).collect();
        let (plan, rows) = for_cgroups(&hierarchy, &[], FamilySet::of(FAMILIES, collectors));
        let mut labels = Labels::default();
        let mut numbers = Numbers(1);
        let members =
            (0..containers).map(|number| Member::new(number, &plan, &mut labels, &mut numbers)).collect::<Option<_>>();
        let members = members.context("a made-up id is none")?;
        let (host, facts, machine) = Default::default();
        Ok(Self { rows, labels, members, host, facts, machine })
    }

    /// The containers as they are to be exposed.
    pub(crate) fn exposed(&self) -> Vec<Exposed<'_>> {
        self.members
            .iter()
            .map(|member| Exposed {
                labels: member.sets.base(),
                sample: Some(&member.sample),
                limits: Some(&member.limits),
                info: Some(&*member.info),
                oom_kills: Some(0),
                last_seen_ms: Some(1_795_398_284_751),
                oom_since_ns: member.info.started_ns,
            })
            .collect()
    }

    /// The exposition of these containers.
    pub(crate) fn view<'a>(&'a self, containers: &'a [Exposed<'a>]) -> View<'a> {
        View {
            rows: &self.rows,
            containers,
            host: Some(&self.host),
            facts: &self.facts,
            machine: &self.machine,
            engine_version: "28.0.0",
            labels: &self.labels,
            failed: false,
            families: FamilySet::ALL,
            probed_since_ns: Some(1_795_398_500_000_000_000),
        }
    }
}

impl Member {
    fn new(number: usize, plan: &Plan, labels: &mut Labels, numbers: &mut Numbers) -> Option<Self> {
        let digit = |number: u64| char::from_digit(u32::try_from(number % 16).unwrap_or(0), 16);
        let id: String = (0..64).filter_map(|_| digit(numbers.next() >> 8)).collect();
        let id = ContainerId::parse(id.as_bytes())?;
        let service = SERVICES.get(number % SERVICES.len())?;
        let mut info = ContainerInfo::unknown(id);
        info.name = format!("shop-{service}-{}", number / SERVICES.len() + 1);
        info.image = format!("registry.example/shop/{service}:1.27.4");
        info.labels = vec![
            ("container_label_com_docker_compose_project".to_owned(), "shop".to_owned()),
            ("container_label_com_docker_compose_service".to_owned(), (*service).to_owned()),
        ];
        info.state = State::Running;
        info.started_ns = Some(1_795_398_000_000_000_000 + numbers.next() % 1_000_000_000_000);
        info.created_ns = info.started_ns;
        let engine = name::Limits { memory_bytes: Some(512 << 20), pids: Some(4096), ..name::Limits::default() };
        let sample = sample(plan, labels, numbers)?;
        let info = Arc::new(info);
        let sets = LabelSets::new(Some(id), &format!("/system.slice/docker-{id}.scope"), Some(&info));
        Some(Self { info, sets, sample, limits: Limits::of_engine(&engine) })
    }
}

fn sample(plan: &Plan, labels: &mut Labels, numbers: &mut Numbers) -> Option<Sample> {
    let mut sample = Sample::new(plan.slots, plan.columns);
    let of_ipv6 = |what: &Probed| matches!(what, Probed::Traffic(_, IpFamily::V6));
    let absent = |slot| plan.probes.iter().any(|(what, own)| *own == slot && of_ipv6(what));
    for slot in (0..u16::try_from(plan.slots).ok()?).filter(|slot| !absent(*slot)) {
        sample.set(slot, numbers.value());
    }
    let is_done = |operation: BlockOperation| matches!(operation, BlockOperation::Read | BlockOperation::Write);
    let absent = |column| plan.blocks.iter().any(|(_, operation, own)| *own == column && !is_done(*operation));
    for (dimension, key) in [(Dimension::Device, "/dev/vda"), (Dimension::Interface, "eth0")] {
        let key = labels.of_mut(dimension).label(key.as_bytes());
        for column in 0..u16::try_from(*plan.columns.get(dimension as usize)?).ok()? {
            if dimension != Dimension::Device || !absent(column) {
                sample.table_mut(dimension).set(key, column, numbers.value());
            }
        }
    }
    for (what, index) in &plan.histograms {
        if matches!(what, Probed::BlockLatency(operation) if is_done(*operation)) {
            sample.set_histogram(*index, numbers.histogram());
        }
    }
    Some(sample)
}

/// The same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ (self.0 >> 29)
    }

    /// As counters are: a third are 0, the others of every magnitude up to 2^40.
    fn value(&mut self) -> u64 {
        let number = self.next();
        if number.is_multiple_of(3) { 0 } else { self.next() >> (24 + number % 40) }
    }

    /// As latencies of a disk are: a thousand or more, from a tenth of a millisecond to some.
    fn histogram(&mut self) -> Histogram {
        let mut histogram = Histogram { sum_ns: 1_000_000_000 + self.next() % 1_000_000_000, ..Histogram::default() };
        for bucket in histogram.buckets.iter_mut().skip(3).take(8) {
            *bucket = self.next() % 1_000;
        }
        histogram
    }
}
