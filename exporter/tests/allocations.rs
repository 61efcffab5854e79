//! Once every container has been read a first time, a scrape allocates nothing per container: neither to read it nor to
//! render it. What rendering allocates besides is the handle of the body, and what reading the host's pressure takes. Counted with two numbers of containers,
//! each a copy of one from a captured host, whose files are kept open as a live host's are. The difference is what a
//! container costs.
//!
//! Outside of this: limits, which are slow facts and not due here; label sets, made when the engine says something new; and what
//! is opened anew for each scrape beyond the descriptor limit.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may fail a test; clippy.toml covers only the tests themselves"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use docker_stats_exporter::discover::{Discovery, Hierarchy, NoEngine, Tree, find_all};
use docker_stats_exporter::metrics::{Collector, CollectorSet, Controller, FAMILIES, FamilySet, SelfMetrics};
use docker_stats_exporter::name::Names;
use docker_stats_exporter::read::{HostFacts, HostFiles, Machine, Pass, Plan, Reader, Row, for_cgroups};
use docker_stats_exporter::render::{BufferPool, Exposed, LabelSets, View, render};
use docker_stats_exporter::scrape::Format;

const FEW: usize = 20;
/// Few enough for a limit of 4,096 descriptors.
const MANY: usize = 120;
const WARM_UP: usize = 3;
const PROTOBUF: Format = Format::Protobuf { native: true };
/// Paths and texts of the host's pressure, which is read where it is rendered.
const HOST_FILES: u64 = 6 * 4;

#[test]
fn a_container_costs_no_allocation() {
    let mut tried = 0;
    for fixture in fixtures() {
        let (few, many) = (allocations(&fixture, FEW), allocations(&fixture, MANY));
        assert_eq!(few, many, "in {}: {FEW} containers against {MANY}", fixture.display());
        assert!(many.text <= 1 + HOST_FILES, "{} to render a text", many.text);
        let forms = [many.open_metrics, many.gzip, many.protobuf, many.protobuf_gzip];
        assert_eq!(forms, [many.text; 4], "no form costs more than the plain text");
        tried += 1;
    }
    assert!(tried > 0, "there is no fixture");
}

fn fixtures() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let entries = fs::read_dir(&all).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.join("sys/fs/cgroup").is_dir()).collect()
}

/// Allocations of one pass and of each form of its answer.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    read: u64,
    text: u64,
    open_metrics: u64,
    gzip: u64,
    protobuf: u64,
    protobuf_gzip: u64,
}

fn allocations(fixture: &Path, containers: usize) -> Counts {
    let host = Host::copied(fixture, containers);
    // Mounts of a container are looked for again while it is young.
    let (start, grown) = (Instant::now(), Instant::now() + Duration::from_mins(1));
    let self_metrics = SelfMetrics::new().unwrap();
    let procfs = host.root.path().join("proc");
    let mut discovery = Discovery::new(host.hierarchy.searched(), &procfs, true, true);
    let mut reader = Reader::new(host.plan, host.hierarchy, &procfs, true, self_metrics.clone(), None);
    let names = Names::default();
    // Without eBPF threads are counted from /proc, and only where that is asked for.
    let collectors = CollectorSet::defaults().without(Collector::Tasks);
    let mut pass = |now| {
        reader.apply(discovery.refresh(now, &NoEngine));
        assert!(reader.drop_ended().is_empty(), "a container has vanished");
        reader.read(Pass::of_all(collectors, &names), now);
    };
    [start, grown, grown].into_iter().for_each(&mut pass);
    // The least of a few passes: one that finds something new, as a directory that was watched late, walks the trees again.
    let read = (0..3).map(|_| allocation_counter::measure(|| pass(grown)).count_total).min().unwrap();

    assert_eq!(reader.containers().len(), containers);
    let sets: Vec<LabelSets> =
        reader.containers().iter().map(|container| LabelSets::new(container.id, &container.path, None)).collect();
    let exposed: Vec<Exposed<'_>> = reader
        .containers()
        .iter()
        .zip(&sets)
        .map(|(container, sets)| Exposed {
            labels: sets.base(),
            sample: Some(&container.sample),
            limits: Some(&container.limits),
            info: None,
            oom_kills: Some(0),
            last_seen_ms: Some(1),
            oom_since_ns: Some(1),
        })
        .collect();
    let mut facts = HostFacts::new(Some(procfs.clone()));
    facts.refresh(HostFiles::ALL, &self_metrics);
    let view = View {
        rows: &host.rows,
        containers: &exposed,
        host: Some(&reader.host().sample),
        facts: &facts,
        machine: &Machine::read(&procfs, &self_metrics),
        engine_version: "",
        labels: reader.labels(),
        failed: false,
        families: FamilySet::of(FAMILIES, collectors),
        probed_since_ns: Some(1),
    };
    let (families, pool) = (self_metrics.gather(), BufferPool::default());
    let rendered = |format, gzip| {
        let one = || render(&view, &families, format, gzip, &pool);
        (0..WARM_UP).for_each(|_| drop(one()));
        if !gzip && format != PROTOBUF {
            let samples = one().split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"container_")).count();
            assert!(samples > 30 * containers, "only {samples} samples of {containers} containers");
        }
        allocation_counter::measure(|| drop(one())).count_total
    };
    Counts {
        read,
        text: rendered(Format::Text, false),
        open_metrics: rendered(Format::OpenMetrics, false),
        gzip: rendered(Format::Text, true),
        protobuf: rendered(PROTOBUF, false),
        protobuf_gzip: rendered(PROTOBUF, true),
    }
}

/// A host with copies of one container.
struct Host {
    root: tempfile::TempDir,
    hierarchy: Hierarchy,
    plan: Plan,
    rows: Vec<Row>,
}

impl Host {
    fn copied(fixture: &Path, containers: usize) -> Self {
        // Not every file system counts a directory's subdirectories in its link count, which the reader goes by.
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let captured = Hierarchy::detect(&fixture.join("sys/fs/cgroup")).unwrap();
        let (plan, _) = for_cgroups(&captured, &[], FamilySet::of(FAMILIES, CollectorSet::defaults()));
        let template = Template::of(fixture, &captured);
        for number in 0..containers {
            template.copy(&plan, root.path(), number);
        }
        for tree in all_trees(&captured) {
            let target = moved(fixture, root.path(), &tree.path);
            fs::create_dir_all(&target).unwrap();
            for name in ["cgroup.controllers", "cgroup.procs"] {
                copy_if_there(&tree.path.join(name), &target.join(name));
            }
        }
        for name in ["diskstats", "stat", "meminfo", "1/net/dev", "net/dev"] {
            copy_if_there(&fixture.join("proc").join(name), &root.path().join("proc").join(name));
        }
        let hierarchy = Hierarchy::detect(&root.path().join("sys/fs/cgroup")).unwrap();
        let (plan, rows) = for_cgroups(&hierarchy, &[], FamilySet::of(FAMILIES, CollectorSet::defaults()));
        Self { root, hierarchy, plan, rows }
    }
}

/// A captured container with a process that has a network of its own.
struct Template {
    fixture: PathBuf,
    id: String,
    /// Its cgroup, without a leading slash.
    path: String,
    procs: Tree,
    net_dev: PathBuf,
}

impl Template {
    fn of(fixture: &Path, captured: &Hierarchy) -> Self {
        let procs = captured.searched().first().unwrap().clone();
        let found = find_all(captured.searched());
        found
            .into_iter()
            .find_map(|(id, path)| {
                let path = path.trim_start_matches('/').to_owned();
                let pids = fs::read_to_string(procs.path.join(&path).join("cgroup.procs")).ok()?;
                let net_dev = fixture.join("proc").join(pids.lines().next()?).join("net/dev");
                let own_network = fs::read_to_string(&net_dev).ok()?.lines().count() > 3;
                own_network.then(|| Self {
                    fixture: fixture.to_owned(),
                    id: id.to_string(),
                    path,
                    procs: procs.clone(),
                    net_dev,
                })
            })
            .expect("no captured container has a process and a network of its own")
    }

    fn copy(&self, plan: &Plan, root: &Path, number: usize) {
        let id = format!("{number:064x}");
        let path = self.path.replace(&self.id, &id);
        for file in &plan.files {
            for name in [Some(&*file.name), file.fallback].into_iter().flatten() {
                let tree = moved(&self.fixture, root, &file.tree);
                copy_if_there(&file.tree.join(&self.path).join(name), &tree.join(&path).join(name));
            }
        }
        let pid = (1000 + number).to_string();
        let procs = moved(&self.fixture, root, &self.procs.path).join(&path).join("cgroup.procs");
        write(&procs, &format!("{pid}\n"));
        let process = root.join("proc").join(pid);
        write(&process.join("cgroup"), &format!("1:memory:/{path}\n0::/{path}\n"));
        copy_if_there(&self.net_dev, &process.join("net/dev"));
    }
}

fn all_trees(hierarchy: &Hierarchy) -> impl Iterator<Item = &Tree> {
    use Controller::{Core, Cpu, Cpuacct, Io, Memory, Pids};
    [Memory, Cpuacct, Cpu, Pids, Io, Core].into_iter().filter_map(|controller| hierarchy.tree(controller))
}

fn moved(from: &Path, to: &Path, path: &Path) -> PathBuf {
    to.join(path.strip_prefix(from).unwrap())
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn copy_if_there(from: &Path, to: &Path) {
    if from.is_file() {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}
