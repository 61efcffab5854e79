//! `cargo xtask bench ebpf`: what the eBPF programs cost, by the kernel's own accounting of their run time less that of a
//! program that does nothing, and by the throughput with and without them in one run. As root.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use aya::programs::{BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, Program};
use aya::{Btf, Ebpf};
use docker_stats_exporter::discover::Hierarchy;
use docker_stats_exporter::ebpf::{Probes, Sizes};
use docker_stats_exporter::metrics::{Collector, CollectorSet, SelfMetrics};
use prometheus::proto::{LabelPair, MetricFamily};

const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";
const ALL: CollectorSet =
    CollectorSet::EMPTY.with(Collector::EbpfNetwork).with(Collector::EbpfBlkio).with(Collector::EbpfSched);
const DEFAULTS: CollectorSet = ALL.without(Collector::EbpfSched);
/// Of the accounting, each with all the work: a cache that others use makes one round half as dear as the next.
const ROUNDS: usize = 9;
const PAIRS: usize = 15;
const BLOCK: usize = 4096;
const FILE_BYTES: usize = 64 << 20;
const READS: usize = 10_000;
const STREAM_BYTES: usize = 256 << 20;
const DATAGRAMS: usize = 100_000;
const TURNS: usize = 20_000;

/// Each program, and the one that does nothing at the same kind of hook.
const PROGRAMS: [(&str, &str); 4] = [
    ("network_receive", "empty_packet"),
    ("network_transmit", "empty_packet"),
    ("block_complete", "empty_block"),
    ("sched_latency", "empty_sched"),
];

#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn say(line: &str) {
    println!("{line}");
}

fn main() -> anyhow::Result<()> {
    let hierarchy = Hierarchy::detect(Path::new("/sys/fs/cgroup"))?;
    let work = Work::new()?;
    say("\n| program | runs | ns per run | of it an empty program | net ns |\n|---|---:|---:|---:|---:|");
    let rounds = (0..ROUNDS).map(|_| accounted(&work, &hierarchy)).collect::<anyhow::Result<Vec<_>>>()?;
    for (program, empty) in PROGRAMS {
        let [runs, ns, zero, net] = paired(&rounds, program, empty)?;
        say(&format!("| `{program}` | {runs:.0} | {ns:.0} | {zero:.0} | **{net:.0}** |"));
    }
    say("\n| work | without | with | with / without, median of pairs |\n|---|---:|---:|---:|");
    for (what, unit, one) in Work::ALL {
        let mut rates = Vec::new();
        for pair in 0..PAIRS {
            let attached = || -> anyhow::Result<f64> {
                let _probes = Probes::start(DEFAULTS, false, &hierarchy, Sizes::default());
                one(&work)
            };
            // They take turns at being first.
            let rate = if pair % 2 == 0 {
                let without = one(&work)?;
                (without, attached()?)
            } else {
                let with = attached()?;
                (one(&work)?, with)
            };
            rates.push(rate);
        }
        let of = |get: fn(&(f64, f64)) -> f64| median(rates.iter().map(get).collect());
        let (without, with, ratio) = (of(|rate| rate.0), of(|rate| rate.1), of(|rate| rate.1 / rate.0));
        say(&format!("| {what} | {without:.0} {unit} | {with:.0} {unit} | **{ratio:.3}** |"));
    }
    Ok(())
}

/// Over all rounds: runs of a program, and the medians of its nanoseconds per run, of the empty program's, and of the
/// difference.
fn paired(rounds: &[Vec<Cost>], program: &str, empty: &str) -> anyhow::Result<[f64; 4]> {
    let find = |round: &Vec<Cost>, name: &str| {
        round.iter().find(|one| one.0 == name).copied().with_context(|| format!("no run of {name}"))
    };
    let both = |round: &Vec<Cost>| Ok((find(round, program)?, find(round, empty)?));
    let pairs = rounds.iter().map(both).collect::<anyhow::Result<Vec<_>>>()?;
    let of = |get: fn(&(Cost, Cost)) -> f64| pairs.iter().map(get).collect::<Vec<f64>>();
    let runs = of(|(program, _)| program.1).iter().sum();
    let medians = [of(|(program, _)| program.2), of(|(_, empty)| empty.2), of(|(program, empty)| program.2 - empty.2)];
    let [ns, zero, net] = medians.map(median);
    Ok([runs, ns, zero, net])
}

/// A program's name, its runs and nanoseconds per run.
type Cost = (&'static str, f64, f64);

/// Runs and nanoseconds per run of each program, while all the work is done.
fn accounted(work: &Work, hierarchy: &Hierarchy) -> anyhow::Result<Vec<Cost>> {
    let before = fs::read_to_string(STATISTICS).with_context(|| STATISTICS.to_owned())?;
    fs::write(STATISTICS, "1").with_context(|| format!("{STATISTICS}: needs root"))?;
    let costs = (|| {
        let probes = Probes::start(ALL, false, hierarchy, Sizes::default());
        ensure!(probes.report().unsupported().is_empty(), "{:?}", probes.report().unsupported());
        let empty = Empty::attach()?;
        Work::ALL.iter().try_for_each(|(.., one)| one(work).map(drop))?;
        let self_metrics = SelfMetrics::new()?;
        probes.publish(&self_metrics);
        let mut costs = empty.costs()?;
        for (program, _) in PROGRAMS {
            let value = |name: &str| value(&self_metrics, name, program);
            let runs = value("docker_stats_exporter_ebpf_program_runs_total");
            costs.push((program, runs, value("docker_stats_exporter_ebpf_program_run_seconds_total") / runs * 1e9));
        }
        Ok(costs)
    })();
    fs::write(STATISTICS, before).with_context(|| STATISTICS.to_owned())?;
    costs
}

fn value(self_metrics: &SelfMetrics, name: &str, program: &str) -> f64 {
    let families = self_metrics.gather();
    let metrics = families.iter().filter(|family| family.name() == name).flat_map(MetricFamily::get_metric);
    let ours = |pairs: &[LabelPair]| pairs.iter().any(|pair| pair.value() == program);
    metrics.filter(|metric| ours(metric.get_label())).map(|metric| metric.get_counter().get_value()).sum()
}

/// The programs that do nothing.
struct Empty(Ebpf);

impl Empty {
    fn attach() -> anyhow::Result<Self> {
        let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../exporter-ebpf/prebuilt/empty.o");
        let mut object = Ebpf::load(&fs::read(&object).with_context(|| object.display().to_string())?)?;
        let types = Btf::from_sys_fs()?;
        for (name, tracepoint) in [("empty_block", "block_rq_complete"), ("empty_sched", "sched_switch")] {
            let program: &mut BtfTracePoint = object.program_mut(name).context(name)?.try_into()?;
            program.load(tracepoint, &types)?;
            program.attach()?;
        }
        let unified = Path::new("/sys/fs/cgroup/unified");
        let root = File::open(if unified.exists() { unified } else { Path::new("/sys/fs/cgroup") })?;
        let program: &mut CgroupSkb = object.program_mut("empty_packet").context("empty_packet")?.try_into()?;
        program.load()?;
        program.attach(&root, CgroupSkbAttachType::Egress, CgroupAttachMode::Single)?;
        Ok(Self(object))
    }

    fn costs(&self) -> anyhow::Result<Vec<Cost>> {
        let costs = |name: &'static str| {
            let info = self.0.program(name).map(Program::info).context(name)??;
            let runs = Duration::from_secs(info.run_count()).as_secs_f64();
            Ok((name, runs, info.run_time().as_secs_f64() / runs * 1e9))
        };
        ["empty_packet", "empty_block", "empty_sched"].into_iter().map(costs).collect()
    }
}

/// What is done again and again: each gives a rate.
struct Work {
    file: File,
    path: tempfile::TempPath,
}

type One = (&'static str, &'static str, fn(&Work) -> anyhow::Result<f64>);

impl Work {
    const ALL: [One; 4] = [
        ("TCP over loopback", "MB/s", Self::stream),
        ("UDP of 64 bytes over loopback", "packets/s", Self::datagrams),
        ("direct reads of 4 KiB", "reads/s", Self::reads),
        ("turns of two threads over a socket", "turns/s", Self::turns),
    ];

    fn new() -> anyhow::Result<Self> {
        let mut file = tempfile::Builder::new().tempfile_in("/var/tmp")?;
        file.write_all(&vec![7; FILE_BYTES])?;
        file.as_file().sync_all()?;
        let path = file.into_temp_path();
        let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits())?;
        let file = OpenOptions::new().read(true).custom_flags(direct).open(&path)?;
        Ok(Self { file, path })
    }

    fn reads(&self) -> anyhow::Result<f64> {
        let mut room = vec![0_u8; 2 * BLOCK];
        let from = room.as_ptr().align_offset(BLOCK);
        let aligned = room.get_mut(from..from + BLOCK).context("room for a block")?;
        let began = Instant::now();
        for index in 0..READS {
            let at = u64::try_from(index * BLOCK % FILE_BYTES)?;
            self.file.read_exact_at(aligned, at).with_context(|| self.path.display().to_string())?;
        }
        rate(READS, began)
    }

    fn stream(_: &Self) -> anyhow::Result<f64> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let sender = thread::spawn(move || -> std::io::Result<()> {
            let mut stream = TcpStream::connect(address)?;
            let piece = vec![7; 64 << 10];
            (0..STREAM_BYTES / piece.len()).try_for_each(|_| stream.write_all(&piece))
        });
        let (mut stream, _) = listener.accept()?;
        let began = Instant::now();
        let mut room = vec![0; 256 << 10];
        let mut received = 0;
        loop {
            match stream.read(&mut room)? {
                0 => break,
                more => received += more,
            }
        }
        let rate = rate(received / 1_000_000, began);
        sender.join().map_err(|panic| anyhow::anyhow!("the sender gave up: {panic:?}"))??;
        rate
    }

    fn datagrams(_: &Self) -> anyhow::Result<f64> {
        let (from, to) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
        from.connect(to.local_addr()?)?;
        // Nobody reads: what does not fit into the buffer is dropped behind the hooks.
        let began = Instant::now();
        (0..DATAGRAMS).try_for_each(|_| from.send(&[7; 64]).map(drop))?;
        rate(DATAGRAMS, began)
    }

    fn turns(_: &Self) -> anyhow::Result<f64> {
        let (mut one, mut other) = std::os::unix::net::UnixStream::pair()?;
        let partner = thread::spawn(move || -> std::io::Result<()> {
            let mut byte = [0];
            (0..TURNS).try_for_each(|_| other.read_exact(&mut byte).and_then(|()| other.write_all(&byte)))
        });
        let began = Instant::now();
        let mut byte = [7];
        (0..TURNS).try_for_each(|_| one.write_all(&byte).and_then(|()| one.read_exact(&mut byte)))?;
        let rate = rate(TURNS, began);
        partner.join().map_err(|panic| anyhow::anyhow!("the partner gave up: {panic:?}"))??;
        rate
    }
}

fn rate(count: usize, began: Instant) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(count)?) / began.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
