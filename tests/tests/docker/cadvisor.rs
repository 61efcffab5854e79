//! A scrape of this host and a captured one of cAdvisor 0.60.5 on default flags: name by name, label by label.
//!
//! The capture is of a host with cgroup v1 and ten containers, without what only that machine has.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use docker_stats_exporter::metrics::{Collector, FAMILIES, Family, Source};
use exporter_tests::{Container, Engine, Exporter};
use flate2::read::GzDecoder;

const CAPTURE: &[u8] = include_bytes!("../../cadvisor/default.prom.gz");
const LIST: &str = include_str!("../../cadvisor/families.tsv");
const SOON: Duration = Duration::from_secs(20);

/// What a sample is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Machine,
    Host,
    Container,
    Cgroup,
}

use About::{Cgroup, Container as OfContainer, Host};

/// Default families that a row may lack, each for the reason that stands in `docs/CADVISOR.md`.
const ABSENT: &[(About, &str)] = &[
    // Nothing limits the host, and it has no health check.
    (Host, "container_health_state"),
    (Host, "container_spec_cpu_period"),
    (Host, "container_spec_cpu_shares"),
    (Host, "container_spec_memory_reservation_limit_bytes"),
    // The root cgroup of v2 has no such file.
    (Host, "container_memory_failcnt"),
    (Host, "container_memory_max_usage_bytes"),
    // Not defined for the whole system: the kernel writes 0.
    (Host, "container_pressure_cpu_stalled_seconds_total"),
    // From the first burst on.
    (OfContainer, "container_cpu_cfs_burst_periods_total"),
    (OfContainer, "container_cpu_cfs_burst_seconds_total"),
    // From the first operation of a device on, and the host's in cAdvisor.
    (OfContainer, "container_fs_reads_bytes_total"),
    (OfContainer, "container_fs_writes_bytes_total"),
    (OfContainer, "container_fs_reads_total"),
    (OfContainer, "container_fs_writes_total"),
    // No engine tells of them.
    (Cgroup, "container_creation_time_seconds"),
    (Cgroup, "container_start_time_seconds"),
    (Cgroup, "container_health_state"),
    // cAdvisor shows the host's there.
    (Cgroup, "container_fs_reads_bytes_total"),
    (Cgroup, "container_fs_writes_bytes_total"),
    (Cgroup, "container_fs_reads_total"),
    (Cgroup, "container_fs_writes_total"),
];

/// The label names of each kind of row of a family.
type Shapes = BTreeMap<(About, String), BTreeSet<BTreeSet<String>>>;

type Labels = BTreeMap<String, String>;

fn about(labels: &Labels) -> About {
    let is_id = |part: &str| part.len() >= 64 && part.bytes().filter(u8::is_ascii_hexdigit).count() >= 64;
    match labels.get("id").map(String::as_str) {
        None => About::Machine,
        Some("/") => Host,
        Some(path) if path.split('/').any(is_id) => OfContainer,
        Some(_) => Cgroup,
    }
}

fn shapes(samples: impl Iterator<Item = (String, Labels)>) -> Shapes {
    let mut shapes = Shapes::new();
    for (family, labels) in samples {
        // Which labels of a container are exposed is the user's choice in both.
        let names = labels.keys().filter(|name| !name.starts_with("container_label_")).cloned();
        shapes.entry((about(&labels), family)).or_default().insert(names.collect());
    }
    shapes
}

/// cAdvisor's lines have timestamps, and no value of a label that is escaped.
fn captured(text: &str) -> impl Iterator<Item = (String, Labels)> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let Some((family, rest)) = line.split_once('{') else {
            return (line.split(' ').next().unwrap().to_owned(), Labels::new());
        };
        let labels = rest.split_once("\"}").unwrap().0.split("\",").map(|label| {
            let (name, value) = label.split_once("=\"").unwrap();
            (name.to_owned(), value.to_owned())
        });
        (family.to_owned(), labels.collect())
    })
}

/// Whether we expose a family when nothing is said, on every host and at once: not by eBPF, nor sizes of layers, which take a walk.
fn is_expected(about: About, family: &str) -> bool {
    let everywhere = |ours: &&Family| {
        let collector = ours.collector;
        collector.default_on() && !collector.is_probed() && collector != Collector::Disk
    };
    let has_it = |ours: &Family| about == Host || ours.series.iter().any(|series| series.v1 != Source::Absent);
    FAMILIES.iter().copied().flatten().filter(|ours| ours.name == family).filter(everywhere).any(has_it)
}

fn compare(theirs: &Shapes, ours: &Shapes) -> Result<()> {
    for ((about, family), shapes) in theirs {
        let found = ours.get(&(*about, family.clone()));
        let is_wanted = is_expected(*about, family);
        // cAdvisor shows the host's interfaces under a cgroup that is none of a container.
        let is_absent =
            ABSENT.contains(&(*about, family)) || *about == Cgroup && family.starts_with("container_network_");
        match found {
            None => ensure!(!is_wanted || is_absent, "{about:?}: {family} is missing"),
            Some(found) => ensure!(found == shapes, "{about:?}: {family} has {found:?}, in cAdvisor {shapes:?}"),
        }
    }
    Ok(())
}

#[test]
fn what_cadvisor_exposes_by_default_is_there_with_its_labels() {
    let mut text = String::new();
    GzDecoder::new(CAPTURE).read_to_string(&mut text).unwrap();
    let theirs = shapes(captured(&text));
    let engine = Engine::shared().unwrap();
    let limits = ["--network=bridge", "--cpus=0.5", "--memory=64m"];
    let writes = ["sh", "-c", "dd if=/dev/zero of=/file bs=1M count=4 conv=fsync; sleep 1d"];
    let container = Container::run(engine, "cadvisor", &limits, &writes).unwrap();
    let exporter = Exporter::builder().docker(engine).flag("--cgroups.include=/docker,/system.slice").start().unwrap();
    let exposition = exporter
        .scrape_until(SOON, "everything that cAdvisor has", |exposition| {
            let is_asked = |labels: &Labels| about(labels) != OfContainer || labels["id"].contains(&container.id);
            let samples = exposition.samples().filter(|sample| is_asked(&sample.labels));
            compare(&theirs, &shapes(samples.map(|sample| (sample.name.clone(), sample.labels.clone()))))?;
            Ok(exposition.clone())
        })
        .unwrap();

    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (family, kind) = line.split_once(' ').unwrap();
        assert!(LIST.contains(&format!("\n{family}\t{kind}\t")), "{line} is not in the list of cAdvisor's families");
        if let Some(ours) = exposition.family(family) {
            assert_eq!(ours.kind, kind, "{family}");
        }
    }
    // A row that one of our own exceptions names must be missing somewhere, or the exception is stale.
    let known: BTreeSet<&str> = ABSENT.iter().map(|(_, family)| *family).collect();
    assert!(known.iter().all(|family| theirs.keys().any(|(_, theirs)| theirs == family)));
    exporter.stop().unwrap();
}
