//! Makes cgroups like an engine's in every tree, each with one sleeping process in its own network namespace.
//!
//! Each sleeper reads from a pipe of this process, so it ends with this process. [`remove_all`] removes the directories.

use std::fs;
use std::io::{self, PipeWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use docker_stats_exporter::discover::Hierarchy;
use rustix::process::{Pid, Signal, kill_process};

use crate::sh::say;

/// Where this host's trees are mounted.
pub(super) const ROOT: &str = "/sys/fs/cgroup";
/// The parent of the benchmark's cgroups in each tree.
const PARENT: &str = "docker-stats-bench";
/// A process that sleeps for as long as its input is open, in a network namespace that looks like a container's: `eth0` is one end of
/// a veth pair whose other end is the host's and is named as engines do it. Without IPv6 nothing is sent. The pair goes with the namespace. Where `ip` or veths are
/// missing it has `lo` alone.
const SLEEPER: [&str; 4] = [
    "--net",
    "sh",
    "-c",
    "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
     ip link add eth0 type veth peer name vethb$$ netns 1
     ip link set eth0 up
     exec cat",
];
/// First number of the cgroups that are removed at once.
const FIRST_OF_BURST: usize = 1_000_000;
/// The command that a sleeper has become when it is ready.
const READY: &str = "cat\n";
/// Time limit for the processes of a cgroup to disappear after their end.
const PATIENCE: Duration = Duration::from_mins(1);

/// The cgroups and their processes.
#[derive(Debug)]
pub(super) struct Cgroups {
    trees: Vec<PathBuf>,
    sleepers: Vec<Child>,
    input: io::PipeReader,
    /// Closed to end the sleepers.
    awake: Option<PipeWriter>,
}

impl Cgroups {
    /// Prepares the parents. There are no containers yet.
    pub(super) fn new() -> anyhow::Result<Self> {
        let trees = trees()?;
        let (input, awake) = io::pipe().context("cannot make a pipe")?;
        trees.iter().try_for_each(|tree| make_parent(tree))?;
        Ok(Self { trees, sleepers: Vec::new(), input, awake: Some(awake) })
    }

    /// Adds containers up to `size`.
    pub(super) fn grow(&mut self, size: usize) -> anyhow::Result<()> {
        let start = Instant::now();
        for number in self.sleepers.len()..size {
            let sleeper = Command::new("unshare")
                .args(SLEEPER)
                .stdin(self.input.try_clone().context("cannot share the pipe")?)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("cannot start unshare (of util-linux)")?;
            let process = sleeper.id();
            self.sleepers.push(sleeper);
            self.trees.iter().try_for_each(|tree| add(tree, number, process))?;
        }
        self.sleepers.iter().try_for_each(wait_until_ready)?;
        self.raise_links();
        say(&format!("{size} containers in {} trees, {:.0} s", self.trees.len(), start.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Wakes every process for a moment: the kernel has something to add up for each of the cgroups.
    pub(super) fn touch(&self) -> anyhow::Result<()> {
        for sleeper in &self.sleepers {
            let process = Pid::from_child(sleeper);
            for signal in [Signal::STOP, Signal::CONT] {
                kill_process(process, signal).context("a sleeper has ended")?;
            }
        }
        // They are done when they sleep again.
        sleep(Duration::from_millis(100));
        Ok(())
    }

    /// Starts so many more and ends them: how long each took, in nanoseconds, from its first cgroup to its process in the last.
    pub(super) fn burst(&self, count: usize) -> anyhow::Result<Vec<u64>> {
        let mut processes = Vec::new();
        let mut taken = Vec::new();
        for number in 0..count {
            let process = Command::new("cat")
                .stdin(self.input.try_clone().context("cannot share the pipe")?)
                .stdout(Stdio::null())
                .spawn()
                .context("cannot start cat")?;
            let start = Instant::now();
            let number = FIRST_OF_BURST + number;
            let made = self.trees.iter().try_for_each(|tree| add(tree, number, process.id()));
            taken.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
            processes.push(process);
            made?;
        }
        for process in &mut processes {
            process.kill().and_then(|()| process.wait()).context("cannot end a process")?;
        }
        for (tree, number) in self.trees.iter().flat_map(|tree| (0..count).map(move |number| (tree, number))) {
            remove(&tree.join(PARENT).join(id(FIRST_OF_BURST + number)))?;
        }
        Ok(taken)
    }

    /// Sets the host's ends of the veth pairs up. A host that has none is measured as it is.
    fn raise_links(&self) {
        let links = self.sleepers.iter().map(|sleeper| format!("vethb{}", sleeper.id()));
        let is_quiet = |link: &String| fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "1").is_ok();
        let raised = io::pipe().and_then(|(reader, mut writer)| {
            let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(reader).spawn()?;
            links.filter(is_quiet).try_for_each(|link| writeln!(writer, "link set dev {link} up"))?;
            drop(writer);
            ip.wait()
        });
        if !raised.is_ok_and(|status| status.success()) {
            say("the host's ends of the veth pairs cannot be set up: is `ip` (iproute2) here?");
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        drop(self.awake.take());
        for sleeper in &mut self.sleepers {
            if let Err(error) = sleeper.wait() {
                say(&format!("a sleeper cannot be waited for: {error}"));
            }
        }
    }
}

/// The roots of the mounted trees: one on v2, else one per controller and the unified one.
fn trees() -> anyhow::Result<Vec<PathBuf>> {
    Ok(Hierarchy::detect(Path::new(ROOT))?.searched().iter().map(|tree| tree.path.clone()).collect())
}

fn make_parent(tree: &Path) -> anyhow::Result<()> {
    let parent = tree.join(PARENT);
    fs::create_dir(&parent).with_context(|| format!("cannot make {} (root is needed)", parent.display()))?;
    if tree.join("cgroup.controllers").is_file() {
        enable_controllers(tree)?;
        return enable_controllers(&parent);
    }
    if !parent.join("cpuset.cpus").is_file() {
        return Ok(());
    }
    // A v1 cpuset takes no process before its CPUs and memory nodes are set.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let inherited = fs::read(tree.join(file)).with_context(|| file.to_owned())?;
        fs::write(parent.join(file), inherited).with_context(|| file.to_owned())?;
    }
    fs::write(parent.join("cgroup.clone_children"), "1").context("cgroup.clone_children")
}

/// Enables all listed controllers, as an engine does. Controllers of v1 trees are not listed.
fn enable_controllers(directory: &Path) -> anyhow::Result<()> {
    let listed = fs::read_to_string(directory.join("cgroup.controllers"))?;
    for controller in listed.split_whitespace().filter(|name| ["cpu", "memory", "io", "pids"].contains(name)) {
        fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"))
            .with_context(|| format!("cannot enable {controller} in {}", directory.display()))?;
    }
    Ok(())
}

/// Makes a container's cgroup in one tree, with this process.
fn add(tree: &Path, number: usize, process: u32) -> anyhow::Result<()> {
    let directory = tree.join(PARENT).join(id(number));
    let made = fs::create_dir(&directory).and_then(|()| fs::write(directory.join("cgroup.procs"), process.to_string()));
    made.with_context(|| format!("cannot make {} (root is needed)", directory.display()))
}

fn id(number: usize) -> String {
    // Spread like real ids, so that nothing profits from their order.
    let mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{mixed:016x}{number:048x}")
}

fn wait_until_ready(sleeper: &Child) -> anyhow::Result<()> {
    let file = format!("/proc/{}/comm", sleeper.id());
    let start = Instant::now();
    while fs::read_to_string(&file).with_context(|| format!("a sleeper has ended: {file}"))? != READY {
        if start.elapsed() > PATIENCE {
            bail!("the sleeper {} does not get ready", sleeper.id());
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Removes the cgroups of a benchmark, waiting for processes that are just ending.
pub(super) fn remove_all() -> anyhow::Result<()> {
    trees()?.iter().try_for_each(|tree| remove(&tree.join(PARENT)))
}

/// Removes a cgroup and those below it, waiting for processes that are just ending.
fn remove(directory: &Path) -> anyhow::Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove(&entry.path())?;
    }
    let start = Instant::now();
    loop {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && start.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error).with_context(|| format!("cannot remove {}", directory.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use docker_stats_exporter::discover::ContainerId;

    use super::id;

    #[test]
    fn the_cgroups_are_named_as_containers_are() {
        assert_ne!(id(1), id(2));
        assert!([0, 1, 4999].into_iter().all(|number| ContainerId::parse(id(number).as_bytes()).is_some()));
    }
}
