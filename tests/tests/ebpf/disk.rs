//! A block device of a test's own, and what the kernel itself counts on it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// Keeps a test that counts the entries of all cgroups apart from one that makes many devices: udev reads each device, and
/// keeps an entry for it.
pub(crate) fn alone_with_devices() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A block device over a file, given back at the end.
pub(crate) struct Loop {
    /// As in `/dev/loop0`.
    pub(crate) device: String,
    /// What it shows.
    pub(crate) file: PathBuf,
    /// Attributes of its queue that were changed, and what they were.
    before: Vec<(PathBuf, String)>,
    _directory: TempDir,
}

/// What the kernel has counted of a device's reads, for everybody together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reads {
    pub(crate) count: f64,
    /// From the making of each request to its completion: more than the device's own part of it.
    pub(crate) seconds: f64,
}

impl Loop {
    /// The file lies on a disk, where direct I/O is possible.
    pub(crate) fn make(bytes: u64) -> Result<Self> {
        let directory = tempfile::tempdir_in("/var/tmp")?;
        let file = directory.path().join("disk");
        fs::write(&file, vec![7; usize::try_from(bytes)?])?;
        fs::File::open(&file)?.sync_all()?;
        let mut command = Command::new("losetup");
        let output = command.args(["--find", "--show", "--direct-io=on"]).arg(&file).output()?;
        ensure!(output.status.success(), "losetup: {}", String::from_utf8_lossy(&output.stderr));
        let device = String::from_utf8(output.stdout)?.trim().to_owned();
        let disk = Self { device, file, before: Vec::new(), _directory: directory };
        // A loop device keeps the settings of whoever had it before.
        fs::write(disk.attributes()?.join("queue/iostats"), "1")?;
        Ok(disk)
    }

    fn attributes(&self) -> Result<PathBuf> {
        Ok(Path::new("/sys/block").join(Path::new(&self.device).file_name().context("a device has a name")?))
    }

    /// Changes an attribute of its queue until the end.
    pub(crate) fn set(&mut self, attribute: &str, value: &str) -> Result<()> {
        let path = self.attributes()?.join("queue").join(attribute);
        let text = fs::read_to_string(&path)?;
        // Of several the chosen one stands in brackets.
        let chosen =
            text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(&*text, |(chosen, _)| chosen);
        self.before.push((path.clone(), chosen.trim().to_owned()));
        fs::write(&path, value).with_context(|| format!("{value} to {}", path.display()))
    }

    /// As in `7:0`.
    pub(crate) fn number(&self) -> Result<String> {
        Ok(fs::read_to_string(self.attributes()?.join("dev"))?.trim().to_owned())
    }

    /// The whole disk that its file lies on, as in `/dev/vda`.
    pub(crate) fn below(&self) -> Result<String> {
        let number = fs::metadata(&self.file)?.dev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let link = format!("/sys/dev/block/{major}:{minor}");
        let device = fs::canonicalize(&link).with_context(|| format!("{link}: /var/tmp is on no block device"))?;
        let whole = if device.join("partition").exists() { device.parent().unwrap_or(&device) } else { &device };
        let name = whole.file_name().context("a device has a name")?;
        Ok(Path::new("/dev").join(name).display().to_string())
    }

    /// What the kernel says of it now.
    pub(crate) fn reads(&self) -> Result<Reads> {
        let text = fs::read_to_string(self.attributes()?.join("stat"))?;
        let columns: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [count, _, _, milliseconds, ..] = columns[..] else { anyhow::bail!("{text:?}") };
        Ok(Reads { count, seconds: milliseconds / 1e3 })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        for (path, value) in self.before.iter().rev() {
            fs::write(path, value).unwrap_or_default();
        }
        Command::new("losetup").args(["--detach", &self.device]).output().map(drop).unwrap_or_default();
    }
}
