//! Container cgroups without an engine: directories under the cgroup mounts, each with a sleeping process. For tests that
//! want more containers than an engine starts in good time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// Trees that get a directory each on cgroup v1.
const TREES: &[&str] = &["blkio", "cpu", "cpuacct", "memory", "pids", "unified"];

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
        let parents = roots().into_iter().map(|root| root.join(format!("dse-bare-{}", std::process::id()))).collect();
        let mut made = Self { ids: Vec::new(), parents, processes: Vec::new() };
        if is_v2() {
            made.enable()?;
        }
        for number in 0..count {
            made.add(format!("{:032x}{number:032x}", std::process::id()))?;
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

impl Drop for BareContainers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            process.kill().unwrap_or_default();
            process.wait().map(drop).unwrap_or_default();
        }
        for parent in &self.parents {
            for id in &self.ids {
                fs::remove_dir(parent.join(id)).unwrap_or_default();
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
