//! The kernel's own figures of a container, read by us at the moment of asking: what the exporter's values are held
//! against. Knows cgroup v1, v2 and hybrid only as far as the tests need it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Our families, and the kernel's figure of each.
pub type Device = BTreeMap<&'static str, u64>;

const READS: &str = "container_fs_reads_total";
const WRITES: &str = "container_fs_writes_total";
const READ_BYTES: &str = "container_fs_reads_bytes_total";
const WRITTEN_BYTES: &str = "container_fs_writes_bytes_total";

/// Files of cgroup v1 with what their lines `Write` and `Read` are to us.
const V1_DEVICES: [(&str, &str, &str); 2] =
    [("blkio.throttle.io_service_bytes", WRITTEN_BYTES, READ_BYTES), ("blkio.throttle.io_serviced", WRITES, READS)];

/// Keys of `io.stat`.
const V2_DEVICES: [(&str, &str); 4] =
    [("rbytes", READ_BYTES), ("wbytes", WRITTEN_BYTES), ("rios", READS), ("wios", WRITES)];

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

    /// The cgroup at this directory, in the same kind of trees: for one that holds no process to ask about.
    #[must_use]
    pub fn at(&self, directory: &Path) -> Self {
        Self { directories: self.directories.keys().map(|tree| (tree.clone(), directory.to_owned())).collect() }
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

    /// The path below its tree's root of a cgroup with this word in its name, with a leading slash.
    #[must_use]
    pub fn path_of(&self, word: &str) -> Option<String> {
        let root = Path::new("/sys/fs/cgroup");
        let (tree, directory) = self.directories.iter().find(|(_, path)| path.to_string_lossy().contains(word))?;
        let inside = directory.strip_prefix(root.join(tree)).or_else(|_| directory.strip_prefix(root)).ok()?;
        Some(Path::new("/").join(inside).display().to_string())
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

    /// What was read and written on every block device that the cgroup has used.
    ///
    /// # Errors
    /// There are no such files, or they are not in their form.
    pub fn devices(&self) -> Result<BTreeMap<String, Device>> {
        let mut devices = BTreeMap::new();
        if self.is_v1("blkio") {
            for (file, writes, reads) in V1_DEVICES {
                let text = self.read("blkio", file)?;
                for line in text.lines() {
                    let [number, operation, value] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
                    let device: &mut Device = devices.entry(number.to_owned()).or_default();
                    let key = match operation {
                        "Write" => writes,
                        "Read" => reads,
                        _ => continue,
                    };
                    device.insert(key, value.parse().with_context(|| line.to_owned())?);
                }
            }
            return Ok(devices);
        }
        for line in self.read("io", "io.stat")?.lines() {
            let mut words = line.split(' ');
            let number = words.next().context("no device")?;
            for word in words {
                let (key, value) = word.split_once('=').with_context(|| line.to_owned())?;
                if let Some((_, name)) = V2_DEVICES.iter().find(|(word, _)| *word == key) {
                    let device = devices.entry(number.to_owned()).or_default();
                    device.insert(*name, value.parse().with_context(|| line.to_owned())?);
                }
            }
        }
        Ok(devices)
    }

    /// The total of a line (`some`, `full`) of a resource's pressure file, in seconds; none where the kernel has no such
    /// file or line.
    ///
    /// # Errors
    /// The line has no total.
    pub fn pressure_seconds(&self, resource: &str, line: &str) -> Result<Option<f64>> {
        let Ok(text) = self.read("unified", &format!("{resource}.pressure")) else { return Ok(None) };
        let Some(rest) = text.lines().find_map(|text| text.strip_prefix(line)) else { return Ok(None) };
        let total = rest.split_once("total=").with_context(|| text.clone())?.1;
        Ok(Some(seconds(total.trim().parse().with_context(|| text.clone())?, 1_000_000)))
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
