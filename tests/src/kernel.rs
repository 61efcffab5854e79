//! The kernel's own figures of a container, read by us at the moment of asking: what the exporter's values are held
//! against. Knows cgroup v1, v2 and hybrid only as far as the tests need it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Where the cgroups of one process are.
pub struct Kernel {
    /// Controller name, or `unified`, to the cgroup's directory.
    directories: BTreeMap<String, PathBuf>,
}

impl Kernel {
    /// Looks up the cgroups of a process.
    ///
    /// # Errors
    /// The process is gone, or the cgroup trees are not mounted where they are expected.
    pub fn of(pid: u32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let root = Path::new("/sys/fs/cgroup");
        let unified = if root.join("cgroup.controllers").exists() { root.to_owned() } else { root.join("unified") };
        let mut directories = BTreeMap::new();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next().context("controllers")?;
            let path = fields.next().context("path")?.trim_start_matches('/');
            if controllers.is_empty() {
                directories.insert("unified".to_owned(), unified.join(path));
            }
            for controller in controllers.split(',').filter(|name| !name.is_empty()) {
                let mount = controller.trim_start_matches("name=");
                directories.insert(mount.to_owned(), root.join(mount).join(path));
            }
        }
        Ok(Self { directories })
    }

    /// The directory in which a controller's files are.
    ///
    /// # Errors
    /// Neither that controller's own tree nor the unified one holds the process.
    pub fn directory(&self, controller: &str) -> Result<PathBuf> {
        let directory = self.directories.get(controller).or_else(|| self.directories.get("unified"));
        let directory = directory.with_context(|| format!("no cgroup for {controller}"))?;
        Ok(directory.clone())
    }

    /// Every directory of the process, in whatever trees.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.values().map(PathBuf::as_path)
    }

    /// Whether a controller has a v1 tree here.
    #[must_use]
    pub fn is_v1(&self, controller: &str) -> bool {
        self.directories.contains_key(controller)
    }

    /// A file's text.
    ///
    /// # Errors
    /// There is no such file.
    pub fn read(&self, controller: &str, file: &str) -> Result<String> {
        let path = self.directory(controller)?.join(file);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// A file that holds one number.
    ///
    /// # Errors
    /// There is no such file or no number in it.
    pub fn number(&self, controller: &str, file: &str) -> Result<u64> {
        let text = self.read(controller, file)?;
        text.trim().parse().with_context(|| format!("{file}: {text:?}"))
    }

    /// One key of a file with a key and a number per line.
    ///
    /// # Errors
    /// There is no such file or key.
    pub fn key(&self, controller: &str, file: &str, key: &str) -> Result<u64> {
        let text = self.read(controller, file)?;
        for line in text.lines() {
            if let Some((word, number)) = line.split_once(' ')
                && word == key
            {
                return number.trim().parse().with_context(|| format!("{file}: {line:?}"));
            }
        }
        bail!("{file} has no {key}")
    }

    /// CPU time in seconds.
    ///
    /// # Errors
    /// As [`Kernel::number`].
    pub fn cpu_seconds(&self) -> Result<f64> {
        if self.is_v1("cpuacct") {
            return Ok(seconds(self.number("cpuacct", "cpuacct.usage")?, 1_000_000_000));
        }
        Ok(seconds(self.key("cpu", "cpu.stat", "usage_usec")?, 1_000_000))
    }

    /// Memory charged, in bytes.
    ///
    /// # Errors
    /// As [`Kernel::number`].
    pub fn memory_bytes(&self) -> Result<u64> {
        self.number("memory", if self.is_v1("memory") { "memory.usage_in_bytes" } else { "memory.current" })
    }

    /// Out-of-memory kills.
    ///
    /// # Errors
    /// As [`Kernel::key`].
    pub fn oom_kills(&self) -> Result<u64> {
        self.key("memory", if self.is_v1("memory") { "memory.oom_control" } else { "memory.events" }, "oom_kill")
    }
}

/// Whole and broken part apart, so that no digit that f64 can hold is lost.
#[expect(clippy::cast_precision_loss, reason = "seconds of a test's container are far below 2^53")]
fn seconds(units: u64, per_second: u64) -> f64 {
    (units / per_second) as f64 + (units % per_second) as f64 / per_second as f64
}
