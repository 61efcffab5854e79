//! The floor: a process that does nothing but read the files that a scrape reads, into one buffer, without looking at them.
//!
//! In the loop: one `pread` per cgroup file that the exporter's plan names and that is there, one of `cgroup.procs`, both through
//! descriptors kept open, and `net/dev` of one process of the container: opened relative to that process' directory,
//! read and closed (`anew`, as the exporter must, because an open one would keep the container's network namespace
//! alive), or kept open too (`kept`). Nothing else: no path is built, nothing is parsed, nothing is looked up.
//!
//! A descriptor limit does not bind it: the containers are dealt out to as many processes as it takes.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};
use docker_stats_exporter::discover::{Hierarchy, find_all};
use docker_stats_exporter::metrics::{CollectorSet, FAMILIES};
use docker_stats_exporter::read::for_cgroups;
use rustix::fs::{Mode, OFlags, openat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::exporter::cpu_ns;

/// How a container's `net/dev` is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetDev {
    /// Opened, read and closed.
    Anew,
    /// Kept open.
    Kept,
}

impl NetDev {
    fn word(self) -> &'static str {
        match self {
            Self::Anew => "anew",
            Self::Kept => "kept",
        }
    }
}

/// The processes of the loop.
#[derive(Debug)]
pub(super) struct Floor {
    shards: Vec<Shard>,
    /// Files that one round reads.
    pub(super) files: usize,
}

#[derive(Debug)]
struct Shard {
    process: Child,
    answers: BufReader<ChildStdout>,
}

impl Floor {
    /// Starts as many processes as the descriptors ask for.
    pub(super) fn start(root: &Path, containers: usize) -> anyhow::Result<Self> {
        let shards = containers.div_ceil(1000);
        let mut floor = Self { shards: Vec::new(), files: 0 };
        for place in 0..shards {
            let mut shard = Shard::start(root, place, shards)?;
            floor.files += shard.answer()?;
            floor.shards.push(shard);
        }
        Ok(floor)
    }

    /// CPU time of one round over all containers, in nanoseconds.
    pub(super) fn round(&mut self, net_dev: NetDev) -> anyhow::Result<u64> {
        let mut spent = 0;
        for shard in &mut self.shards {
            let before = cpu_ns(shard.process.id())?;
            shard.ask(net_dev)?;
            let read = shard.answer()?;
            if read == 0 {
                bail!("the loop read nothing");
            }
            spent += cpu_ns(shard.process.id())?.saturating_sub(before);
        }
        Ok(spent)
    }
}

impl Shard {
    fn start(root: &Path, place: usize, shards: usize) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find our own binary")?;
        let mut process = Command::new(program)
            .args(["bench", "floor", &place.to_string(), &shards.to_string()])
            .arg(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the loop")?;
        let answers = process.stdout.take().context("the loop has no output")?;
        Ok(Self { process, answers: BufReader::new(answers) })
    }

    fn ask(&mut self, net_dev: NetDev) -> anyhow::Result<()> {
        let input = self.process.stdin.as_mut().context("the loop has no input")?;
        writeln!(input, "{}", net_dev.word()).context("the loop has ended")
    }

    fn answer(&mut self) -> anyhow::Result<usize> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("the loop does not answer")?;
        line.trim().parse().with_context(|| format!("the loop answers {line:?}"))
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        if let Err(error) = self.process.wait() {
            crate::sh::say(&format!("the loop cannot be waited for: {error}"));
        }
    }
}

/// The process' own side: opens its share, then reads it whenever a line asks for it.
pub(super) fn serve(arguments: &[&str]) -> anyhow::Result<()> {
    let &[place, shards, root] = arguments else { bail!("a share is missing") };
    let containers = open_share(root.as_ref(), place.parse()?, shards.parse()?)?;
    let files =
        containers.iter().map(|container| container.files.len() + usize::from(container.process.is_some())).sum();
    let mut output = io::stdout().lock();
    let mut tell = |number: usize| writeln!(output, "{number}").and_then(|()| output.flush());
    tell(files)?;
    let mut buffer = vec![0; 16 * 1024];
    for line in io::stdin().lock().lines() {
        let anew = line? == NetDev::Anew.word();
        tell(containers.iter().map(|container| container.read(anew, &mut buffer)).sum())?;
    }
    Ok(())
}

struct Container {
    files: Vec<File>,
    /// The directory of one of its processes, and that process' `net/dev`.
    process: Option<(File, File)>,
}

impl Container {
    fn read(&self, anew: bool, buffer: &mut [u8]) -> usize {
        // A container that has just ended reads as nothing.
        let cgroup: usize = self.files.iter().map(|file| file.read_at(buffer, 0).unwrap_or(0)).sum();
        let network = self.process.as_ref().map(|(directory, net_dev)| {
            if anew { open_net_dev(directory)?.read_at(buffer, 0) } else { net_dev.read_at(buffer, 0) }
        });
        cgroup + network.and_then(Result::ok).unwrap_or(0)
    }
}

fn open_net_dev(directory: &File) -> io::Result<File> {
    Ok(openat(directory, "net/dev", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into())
}

fn open_share(root: &Path, place: usize, shards: usize) -> anyhow::Result<Vec<Container>> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("cannot raise the descriptor limit")?;
    let hierarchy = Hierarchy::detect(root)?;
    let (plan, _) = for_cgroups(&hierarchy, &[], FAMILIES, CollectorSet::defaults());
    let procs = hierarchy.searched().first().context("no tree lists processes")?.clone();
    let found: Vec<String> = find_all(hierarchy.searched()).into_iter().map(|(_, path)| path).collect();
    let share = found.iter().skip(place).step_by(shards);
    let open = |path: &String| {
        let path = path.trim_start_matches('/');
        let planned = plan.files.iter().filter_map(|file| {
            let names = [Some(&*file.name), file.fallback];
            names.into_iter().flatten().find_map(|name| File::open(file.tree.join(path).join(name)).ok())
        });
        let list = procs.path.join(path).join("cgroup.procs");
        let first = fs::read_to_string(&list).ok().and_then(|pids| Some(pids.lines().next()?.to_owned()));
        let process = first.and_then(|pid| {
            let directory = File::open(Path::new("/proc").join(pid)).ok()?;
            let net_dev = open_net_dev(&directory).ok()?;
            Some((directory, net_dev))
        });
        Container { files: planned.chain(File::open(&list)).collect(), process }
    };
    Ok(share.map(open).collect())
}
