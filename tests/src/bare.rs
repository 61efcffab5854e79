//! Container cgroups without an engine: directories under the cgroup mounts, each with a sleeping process. For tests that
//! want more containers than an engine starts in good time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::kernel::Kernel;
use crate::wait::eventually;

const ROOT: &str = "/sys/fs/cgroup";

/// Trees that get a directory each on cgroup v1.
const TREES: &[&str] = &["blkio", "cpu", "cpuacct", "memory", "pids", "unified"];

/// How names of cgroups begin that are no containers.
const CROWD: &str = "crowd-";

/// Some cgroups that look like containers. They go with the value.
pub struct BareContainers {
    /// 64 hex digits each.
    pub ids: Vec<String>,
    parents: Vec<PathBuf>,
    processes: Vec<Child>,
}

impl BareContainers {
    /// Makes so many.
    ///
    /// # Errors
    /// Not root, or no cgroup tree may be written to.
    pub fn make(count: usize) -> Result<Self> {
        // Tests of one process run beside each other.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let (process, turn) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let parents = roots().into_iter().map(|root| root.join(format!("dse-bare-{process}-{turn}"))).collect();
        let mut made = Self { ids: Vec::new(), parents, processes: Vec::new() };
        if is_v2() {
            made.enable()?;
        }
        for number in 0..count {
            made.add(format!("{process:016x}{turn:016x}{number:032x}"))?;
        }
        Ok(made)
    }

    /// On cgroup v2 a parent says which controllers its children have.
    fn enable(&self) -> Result<()> {
        for file in self.parents.iter().map(|parent| parent.join("cgroup.subtree_control")) {
            let parent = file.parent().context("no parent")?;
            fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
            fs::write(&file, "+cpu +io +memory +pids").with_context(|| file.display().to_string())?;
        }
        Ok(())
    }

    fn add(&mut self, id: String) -> Result<()> {
        let process = Command::new("sleep").arg("1d").stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let pid = process.id().to_string();
        self.processes.push(process);
        for parent in &self.parents {
            let directory = parent.join(&id);
            let made = fs::create_dir_all(&directory).and_then(|()| fs::write(directory.join("cgroup.procs"), &pid));
            made.with_context(|| format!("{}: making a cgroup takes root and a writable tree", directory.display()))?;
        }
        self.ids.push(id);
        Ok(())
    }
}

impl BareContainers {
    /// Makes so many cgroups beside them that are no containers, and without processes. They go with the value, too.
    ///
    /// # Errors
    /// As [`BareContainers::make`].
    pub fn crowd(&self, count: usize) -> Result<()> {
        for directory in
            self.parents.iter().flat_map(|parent| (0..count).map(|number| parent.join(format!("{CROWD}{number}"))))
        {
            fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        }
        Ok(())
    }

    /// The path of one of them in each of the trees, with a leading slash.
    #[must_use]
    pub fn path(&self, id: &str) -> String {
        let parent = self.parents.first().and_then(|parent| parent.file_name()).unwrap_or_default();
        format!("/{}/{id}", parent.to_string_lossy())
    }

    /// What the kernel says of one of them.
    ///
    /// # Errors
    /// There is no such container.
    pub fn kernel(&self, id: &str) -> Result<Kernel> {
        let mut all = self.ids.iter().zip(&self.processes);
        let (_, process) = all.find(|(known, _)| *known == id).with_context(|| format!("no container {id}"))?;
        Kernel::of(process.id())
    }

    /// Ends the first process of one of them, whose cgroup stays.
    ///
    /// # Errors
    /// There is no such container.
    pub fn end(&mut self, id: &str) -> Result<()> {
        let mut all = self.ids.iter().zip(&mut self.processes);
        let (_, process) = all.find(|(known, _)| *known == id).with_context(|| format!("no container {id}"))?;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Makes a cgroup below one of them, and gives what [`BareContainers::run`] calls it. It goes with the value.
    ///
    /// # Errors
    /// The tree may not be written to.
    pub fn nest(&self, id: &str, name: &str) -> Result<String> {
        for parent in &self.parents {
            let directory = parent.join(id).join(name);
            fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
        }
        Ok(format!("{id}/{name}"))
    }

    /// Moves all processes of one of them, or of what is below it, to another, in those of the trees that `wanted` accepts.
    ///
    /// # Errors
    /// The tree may not be written to.
    pub fn move_processes(&self, from: &str, to: &str, wanted: impl Fn(&Path) -> bool) -> Result<()> {
        for parent in self.parents.iter().filter(|parent| wanted(parent)) {
            let (from, to) = (parent.join(from).join("cgroup.procs"), parent.join(to).join("cgroup.procs"));
            for process in fs::read_to_string(&from).with_context(|| from.display().to_string())?.lines() {
                fs::write(&to, process).with_context(|| to.display().to_string())?;
            }
        }
        Ok(())
    }

    /// Runs a command inside one of them, waits for its end and gives its output.
    ///
    /// # Errors
    /// It does not start or fails.
    pub fn run(&self, id: &str, command: &[&str]) -> Result<String> {
        let output = self.command(id, command).output()?;
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a command inside one of them, which ends with the value. It runs there when this returns.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&mut self, id: &str, command: &[&str]) -> Result<u32> {
        let process = self.command(id, command).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let pid = process.id();
        self.processes.push(process);
        let line: String = command.iter().flat_map(|word| [word, "\0"]).collect();
        eventually(Duration::from_secs(10), &format!("{command:?} to run in {id}"), || {
            ensure!(fs::read(format!("/proc/{pid}/cmdline"))? == line.as_bytes(), "it does not run yet");
            Ok(())
        })?;
        Ok(pid)
    }

    fn command(&self, id: &str, command: &[&str]) -> Command {
        let files = self.parents.iter().map(|parent| parent.join(id).join("cgroup.procs"));
        let enter: Vec<String> = files.map(|file| format!("echo $$ >'{}' && ", file.display())).collect();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{}exec \"$@\"", enter.concat()), "sh"]).args(command).stdin(Stdio::null());
        shell
    }
}

impl Drop for BareContainers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            process.kill().unwrap_or_default();
            process.wait().map(drop).unwrap_or_default();
        }
        for parent in &self.parents {
            for id in &self.ids {
                let below = fs::read_dir(parent.join(id)).into_iter().flatten().filter_map(Result::ok);
                for nested in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                    fs::remove_dir(nested.path()).unwrap_or_default();
                }
                fs::remove_dir(parent.join(id)).unwrap_or_default();
            }
            let crowd = fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok);
            for other in crowd.filter(|entry| entry.file_name().to_string_lossy().starts_with(CROWD)) {
                fs::remove_dir(other.path()).unwrap_or_default();
            }
            fs::remove_dir(parent).unwrap_or_default();
        }
    }
}

fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

fn roots() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    if is_v2() {
        return vec![root.to_owned()];
    }
    // Where two controllers share a tree, one is a link to the other's.
    let mut roots: Vec<PathBuf> = TREES.iter().filter_map(|tree| fs::canonicalize(root.join(tree)).ok()).collect();
    roots.sort();
    roots.dedup();
    roots
}
