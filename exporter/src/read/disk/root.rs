//! The filesystem below a container's root: which device it is on, how large it is.
//!
//! Device: the process' `mountinfo`; where the root is an overlay, the host's mount that holds its writable layer. Size: `statvfs`
//! of `/proc/PID/root`, which takes `CAP_SYS_PTRACE` for foreign processes and is refused inside the sandbox; else of the writable
//! layer's own directory, which is there where the exporter runs on the host; else of something on the same filesystem: in a container, of
//! a file that the engine has mounted into it out of its data root. The layer's size comes from the engine.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, StatVfs, fstatvfs, makedev, openat, stat, statvfs};

use crate::discover::unescape;
use crate::metrics::{DiskFact, SelfMetrics};
use crate::read::files::format::Device;
use crate::read::files::proc_text::{Mount, mounts};
use crate::read::process::Process;

/// The device of a container's root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RootDevice {
    /// Number of the block device, or of what stands for one.
    pub(crate) device: Option<Device>,
    /// What the mount says it was made from: `/dev/NAME`, if the number has no name.
    pub(crate) source: Option<String>,
    /// The writable layer of an overlay, as the host sees it.
    layer: Option<Arc<Path>>,
    /// Whether its directories may have quotas: then no other one tells its size.
    has_quotas: bool,
}

/// What Docker mounts into every container from its data root, `FROM scratch` too.
const MOUNTED: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

impl RootDevice {
    /// Of the container that this process is in. Nothing is known where `mountinfo` cannot be read.
    pub(crate) fn find(process: &Process, procfs: &Path, self_metrics: &SelfMetrics) -> Self {
        let of_process = process.open_file("mountinfo").and_then(read);
        let of_host = ["1/mountinfo", "self/mountinfo"]
            .into_iter()
            .find_map(|name| File::open(procfs.join(name)).and_then(read).ok());
        let (found, malformed) = Self::of(&of_process.unwrap_or_default(), &of_host.unwrap_or_default());
        (0..malformed).for_each(|_| self_metrics.count_read_error("mountinfo", "malformed"));
        found
    }

    /// By the text of two `mountinfo`. Gives the number of malformed lines, too.
    fn of(process: &[u8], host: &[u8]) -> (Self, u64) {
        // Of several mounts on one point the last is the one that is seen.
        let mut root: Option<Mount<'_>> = None;
        let mut malformed = mounts(process, |mount| {
            if mount.point == b"/" {
                root = Some(mount);
            }
        });
        let Some(root) = root else { return (Self::default(), malformed) };
        let layer = root.option("upperdir").map(path);
        let mut below: Option<(usize, Mount<'_>)> = None;
        if let Some(layer) = &layer {
            malformed += mounts(host, |mount| {
                let point = path(mount.point);
                let depth = point.components().count();
                if layer.starts_with(&point) && below.as_ref().is_none_or(|(deepest, _)| depth >= *deepest) {
                    below = Some((depth, mount));
                }
            });
        }
        let mount = below.map_or(root, |(_, mount)| mount);
        let has_quotas = mount.has_quotas();
        let source = String::from_utf8_lossy(&unescape(mount.source)).into_owned();
        let source = Some(source).filter(|source| source.starts_with("/dev/"));
        (Self { device: Some(mount.device), source, layer: layer.map(Arc::from), has_quotas }, malformed)
    }

    /// The root to be measured, by a process that lives in it.
    pub(crate) fn open_by(&self, process: &Process) -> Root {
        let device = self.device.filter(|_| !self.has_quotas);
        Root { directory: Arc::clone(process.directory()), layer: self.layer.clone(), device }
    }
}

/// The root of a process.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) directory: Arc<File>,
    pub(crate) layer: Option<Arc<Path>>,
    /// The device of its filesystem, where all directories on it are of one size.
    pub(crate) device: Option<Device>,
}

impl Root {
    /// The filesystem's figures. This may never return: see `measure`.
    ///
    /// # Errors
    /// The system's: `EACCES` without the right to read the process' root.
    pub(crate) fn measure(&self) -> io::Result<Figures> {
        let root = openat(&self.directory, "root", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let of_layer = |error| match &self.layer {
            Some(layer) => statvfs(&**layer).map_err(|_also| error),
            None => Err(error),
        };
        let statistics = root.and_then(fstatvfs).or_else(of_layer).or_else(|error| self.neighbour().ok_or(error))?;
        Ok(Figures::of(&statistics))
    }

    /// The filesystem by a file that we see on the same device.
    fn neighbour(&self) -> Option<StatVfs> {
        let Device { major, minor } = self.device?;
        let is_there = |path: &&str| stat(*path).is_ok_and(|file| file.st_dev == makedev(major, minor));
        MOUNTED.iter().copied().find(is_there).and_then(|path| statvfs(path).ok())
    }
}

fn read(mut file: File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(text)
}

fn path(field: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(field)).into()
}

/// The figures of a filesystem.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Its size in bytes.
    pub(crate) bytes: Option<u64>,
    /// None for one without a fixed number of inodes, such as btrfs, which says 0.
    pub(crate) inodes: Option<u64>,
    pub(crate) inodes_free: Option<u64>,
}

impl Figures {
    fn of(statistics: &StatVfs) -> Self {
        let has_inodes = statistics.f_files > 0;
        Self {
            bytes: statistics.f_blocks.checked_mul(statistics.f_frsize),
            inodes: has_inodes.then_some(statistics.f_files),
            inodes_free: has_inodes.then_some(statistics.f_ffree),
        }
    }

    pub(crate) fn get(&self, fact: DiskFact) -> Option<u64> {
        match fact {
            DiskFact::Usage => None,
            DiskFact::Limit => self.bytes,
            DiskFact::Inodes => self.inodes,
            DiskFact::InodesFree => self.inodes_free,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Device, DiskFact, Figures, Path, RootDevice, StatVfs};

    const HOST: &str = "21 1 8:1 / / rw - ext4 /dev/root rw\n\
        22 21 259:3 / /var/lib/docker rw - xfs /dev/nvme0n1p3 rw\n\
        23 21 8:17 / /var/lib/docker-other rw - ext4 /dev/sdb1 rw\n";
    const OVERLAY: &str = "30 29 0:5 / /proc rw - proc proc rw\n\
        31 29 0:48 / / rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/var/lib/docker/overlay2/ab/diff,workdir=/w\n";

    #[test]
    fn an_overlay_is_on_the_device_of_its_writable_layer() {
        let (found, malformed) = RootDevice::of(OVERLAY.as_bytes(), &[b"odd\n", HOST.as_bytes()].concat());
        assert_eq!(malformed, 1);
        assert_eq!(found.device, Some(Device { major: 259, minor: 3 }));
        assert_eq!(found.source.as_deref(), Some("/dev/nvme0n1p3"));
        assert_eq!(found.layer.as_deref(), Some(Path::new("/var/lib/docker/overlay2/ab/diff")));
    }

    #[test]
    fn any_other_root_is_on_its_own_device() {
        let (found, _) = RootDevice::of(b"31 29 0:33 /sub / rw - btrfs /dev/sda2 rw\n", HOST.as_bytes());
        assert_eq!((found.device, found.source.as_deref()), (Some(Device { major: 0, minor: 33 }), Some("/dev/sda2")));
        assert_eq!(RootDevice::of(b"", HOST.as_bytes()), (RootDevice::default(), 0));
    }

    #[test]
    fn figures_are_bytes_and_inodes_and_no_inodes_are_none() {
        let mut statistics = rustix::fs::statvfs("/").unwrap();
        (statistics.f_blocks, statistics.f_frsize, statistics.f_files, statistics.f_ffree) = (10, 4096, 7, 3);
        let figures = |statistics: &StatVfs| {
            [DiskFact::Limit, DiskFact::Inodes, DiskFact::InodesFree].map(|fact| Figures::of(statistics).get(fact))
        };
        assert_eq!(figures(&statistics), [Some(40_960), Some(7), Some(3)]);
        statistics.f_files = 0;
        assert_eq!(figures(&statistics), [Some(40_960), None, None]);
    }
}
