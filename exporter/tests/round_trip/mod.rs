//! The one property of the compressor: what it makes of an exposition inflates to that exposition, whatever the labels and
//! values are, and whatever it has kept from the scrapes before. Bytes decide on all of it, so that chance and a fuzzer can
//! both drive it. Used by `tests/gzip.rs` and by `fuzz/`.

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use docker_stats_exporter::discover::ContainerId;
use docker_stats_exporter::metrics::{CollectorSet, DOCKER_STATS_FAMILIES, Dimension, FAMILIES, FamilySet};
use docker_stats_exporter::name::{ContainerInfo, State};
use docker_stats_exporter::read::{HostFacts, Labels, Limits, Machine, Plan, Row, Sample, for_api};
use docker_stats_exporter::render::{BufferPool, Exposed, LabelSets, View, render};
use docker_stats_exporter::scrape::Format;

/// Decisions, by bytes; 0 once there are no more.
pub(crate) struct Choices<'a>(pub(crate) &'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn below(&mut self, end: u8) -> u8 {
        self.byte() % end.max(1)
    }

    fn number(&mut self) -> u64 {
        let bytes: [u8; 8] = std::array::from_fn(|_| self.byte());
        match self.below(4) {
            0 => 0,
            1 => u64::from_le_bytes(bytes),
            _ => u64::from_le_bytes(bytes) >> (8 * (bytes[0] % 8)),
        }
    }

    /// A label's value: nothing, a word, bytes of any kind, the same thing very often.
    fn text(&mut self) -> String {
        let length = usize::from(self.byte());
        match self.below(8) {
            0 => String::new(),
            1 | 2 => format!("shop-{}", length % 5),
            3 => "\",name=\"".repeat(length % 7),
            4 => {
                let times = if self.below(64) == 1 { length * 200 } else { length % 9 };
                char::from(self.byte()).to_string().repeat(times)
            }
            5 => "0123456789abcdef".repeat(length / 8),
            _ => {
                let bytes: Vec<u8> = (0..length % 80).map(|_| self.byte()).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
        }
    }
}

struct Container {
    info: Option<Arc<ContainerInfo>>,
    sets: LabelSets,
    sample: Option<Sample>,
    limits: Limits,
}

fn info(id: ContainerId, choices: &mut Choices<'_>) -> Arc<ContainerInfo> {
    let mut info = ContainerInfo::unknown(id);
    info.name = choices.text();
    info.image = choices.text();
    info.started_ns = (choices.below(4) > 0).then(|| choices.number());
    info.created_ns = (choices.below(4) > 0).then(|| choices.number());
    info.state = if choices.below(4) == 0 { State::Exited } else { State::Running };
    for label in 0..choices.below(4) {
        info.labels.push((format!("container_label_{label}"), choices.text()));
    }
    Arc::new(info)
}

fn container(choices: &mut Choices<'_>, plan: &Plan, labels: &mut Labels) -> Container {
    let digits: String = (0..64).map(|_| char::from(b"0123456789abcdef"[usize::from(choices.below(16))])).collect();
    let id = ContainerId::parse(digits.as_bytes()).expect("64 digits");
    let info = (choices.below(8) > 0).then(|| info(id, choices));
    let path = if choices.below(8) == 0 { choices.text() } else { format!("/docker/{id}") };
    let sets = LabelSets::new(Some(id), &path, info.as_ref());
    let sample = (choices.below(8) > 0).then(|| sample(choices, plan, labels));
    let engine = info.as_ref().map(|info| info.limits.clone()).unwrap_or_default();
    Container { info, sets, sample, limits: Limits::of_engine(&engine) }
}

fn sample(choices: &mut Choices<'_>, plan: &Plan, labels: &mut Labels) -> Sample {
    let mut sample = Sample::new(plan.slots, plan.columns);
    for slot in 0..u16::try_from(plan.slots).expect("few slots") {
        if choices.below(6) > 0 {
            sample.set(slot, choices.number());
        }
    }
    for dimension in [Dimension::Device, Dimension::Interface] {
        for _ in 0..choices.below(3) {
            let key = labels.of_mut(dimension).label(choices.text().as_bytes());
            for column in 0..u16::try_from(plan.columns[dimension as usize]).expect("few columns") {
                sample.table_mut(dimension).set(key, column, choices.number());
            }
        }
    }
    sample
}

/// Scrapes a changing set of containers several times, and compares every compressed answer with the plain one. Gives the
/// last pair.
pub(crate) fn check(mut choices: Choices<'_>) -> (Bytes, Bytes) {
    let families: Vec<_> = FAMILIES.iter().chain(DOCKER_STATS_FAMILIES).copied().collect();
    let (plan, rows) = for_api(FamilySet::of(&families, CollectorSet::defaults()));
    let (mut labels, pool) = (Labels::default(), BufferPool::default());
    let mut containers: Vec<Container> = Vec::new();
    let mut last = (Bytes::new(), Bytes::new());
    for _ in 0..=choices.below(4) {
        containers.retain(|_| choices.below(8) > 0);
        if choices.below(4) == 0 {
            containers.reverse();
        }
        for _ in 0..choices.below(32) {
            let place = usize::from(choices.byte()) % (containers.len() + 1);
            containers.insert(place, container(&mut choices, &plan, &mut labels));
        }
        for format in [Format::Protobuf { native: true }, Format::Text, Format::OpenMetrics] {
            last = scrape(&containers, &rows, &labels, format, &pool);
        }
    }
    last
}

fn scrape(
    containers: &[Container],
    rows: &[Row],
    labels: &Labels,
    format: Format,
    pool: &BufferPool,
) -> (Bytes, Bytes) {
    let exposed: Vec<Exposed<'_>> = containers
        .iter()
        .map(|container| Exposed {
            labels: container.sets.base(),
            sample: container.sample.as_ref(),
            limits: container.sample.as_ref().map(|_| &container.limits),
            info: container.info.as_deref(),
            oom_kills: Some(0),
            last_seen_ms: Some(1_500),
            oom_since_ns: container.info.as_ref().and_then(|info| info.created_ns),
        })
        .collect();
    let host = Sample::default();
    let view = View {
        rows,
        containers: &exposed,
        host: Some(&host),
        facts: &HostFacts::default(),
        machine: &Machine::default(),
        engine_version: "",
        labels,
        failed: false,
        families: FamilySet::ALL,
        probed_since_ns: None,
    };
    let (plain, zipped) = (render(&view, &[], format, false, pool), render(&view, &[], format, true, pool));
    let mut inflated = Vec::new();
    flate2::read::GzDecoder::new(&zipped[..]).read_to_end(&mut inflated).expect("a gzip stream with a true checksum");
    assert!(inflated == plain, "{} bytes became {}", plain.len(), inflated.len());
    (plain, zipped)
}
