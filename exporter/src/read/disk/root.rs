//! The filesystem below a container's root: which device it is on, how large it is, and which directories hold what the container has written.
//!
//! Device: the process' `mountinfo`; where the root is an overlay, the host's mount that holds its writable layer. Size: `statvfs`
//! of the writable layer's own directory, which is there where the exporter runs on the host; else of something on the same filesystem: in
//! a container, of a file that the engine has mounted into it out of its data root; else of `/proc/PID/root`, which takes
//! `CAP_SYS_PTRACE` for foreign processes and is refused inside the sandbox. That comes last, as the process may change its root to
//! whatever filesystem it likes, and the size is that of other containers, too; but first where directories may have quotas, which is the
//! container's own affair. What is written: the upper directory of an overlay, else the
//! directory that is mounted as the root (vfs, btrfs: with the image); and the engine's directory of the container, which its log is in.
//!
//! What an overlay's options say is the text of whoever has mounted it, and a container may have mounted its root itself. So its writable
//! layer is that of an overlay that the host has, too; where an engine mounts out of the host's sight (without root), it is at least
//! where engines have layers, and only one container names it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, StatVfs, fstatvfs, makedev, openat, stat, statvfs};
use rustix::io::Errno;

use crate::discover::ContainerId;
use crate::metrics::{DiskFact, SelfMetrics};
use crate::read::disk::mounts::HostMounts;
use crate::read::files::format::Device;
use crate::read::files::proc_text::{Mount, mounts, path};
use crate::read::process::Process;

/// The device of a container's root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RootDevice {
    /// Number of the block device, or of what stands for one.
    pub(crate) device: Option<Device>,
    /// What the mount says it was made from: `/dev/NAME`, if the number has no name.
    pub(crate) source: Option<String>,
    /// The directories that hold what it has written, as the host names them: its layer, and where its log may be.
    paths: Vec<PathBuf>,
    /// Whether the host's mounts have the same layer.
    is_confirmed: bool,
    /// Whether its directories may have quotas: then no other one tells its size.
    has_quotas: bool,
}

/// Bytes of a container's `mountinfo` that are read: some 20,000 mounts.
const MAX_MOUNTINFO: u64 = 4 << 20;

/// What Docker mounts into every container from its data root, `FROM scratch` too.
const MOUNTED: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

impl RootDevice {
    /// Of the container that this process is in. Nothing is known where `mountinfo` cannot be read.
    pub(crate) fn find(
        process: &Process,
        id: Option<ContainerId>,
        host: &HostMounts,
        self_metrics: &SelfMetrics,
    ) -> Self {
        let text = process.open_file("mountinfo").and_then(read).unwrap_or_default();
        let (found, malformed) = Self::of(&text, id, host);
        (0..malformed).for_each(|_| self_metrics.count_read_error("mountinfo", "malformed"));
        found
    }

    /// By the text of its `mountinfo`. Gives the number of malformed lines, too.
    fn of(process: &[u8], id: Option<ContainerId>, host: &HostMounts) -> (Self, u64) {
        // Of several mounts on one point the last is the one that is seen.
        let (mut root, mut of_engine): (Option<Mount<'_>>, Option<PathBuf>) = (None, None);
        let id = id.map(|id| id.to_string());
        let malformed = mounts(process, |mount| {
            if of_engine.is_none() && MOUNTED.iter().any(|point| point.as_bytes() == mount.point) {
                let directory = path(mount.root).parent().map(Path::to_owned);
                let is_its_own = |directory: &PathBuf| id.as_ref().is_some_and(|id| directory.ends_with(id));
                of_engine = directory.filter(is_its_own).and_then(|directory| host.path_of(mount.device, &directory));
            }
            if mount.point == b"/" {
                root = Some(mount);
            }
        });
        let Some(root) = root else { return (Self::default(), malformed) };
        let upper = root.option("upperdir").map(path);
        let is_confirmed = upper.as_deref().is_some_and(|upper| host.has_overlay(root.device, upper));
        let upper = upper.filter(|upper| is_confirmed || is_layer(upper));
        let below = upper.as_deref().and_then(|upper| host.holding(upper));
        let (device, has_quotas) =
            below.map_or((root.device, root.has_quotas()), |mount| (mount.device, mount.has_quotas));
        let source = below.map_or_else(|| path(root.source), |mount| PathBuf::from(&mount.source));
        let source = source.to_str().filter(|source| source.starts_with("/dev/")).map(str::to_owned);
        // The host's own root is that of a process on its way into a container.
        let layer =
            upper.or_else(|| host.path_of(root.device, &path(root.root))).filter(|layer| layer.parent().is_some());
        let of_podman = layer.as_deref().zip(id.as_deref()).and_then(|(layer, id)| podman_directory(layer, id));
        let paths = layer.into_iter().flat_map(|layer| [Some(layer), of_engine.clone(), of_podman.clone()]);
        let paths = paths.flatten().collect();
        (Self { device: Some(device), source, paths, is_confirmed, has_quotas }, malformed)
    }

    /// The root to be measured, by a process that lives in it.
    pub(crate) fn open_by(&self, process: Option<&Process>) -> Root {
        let directory = process.map(|process| Arc::clone(process.directory()));
        Root { directory, layer: self.paths.first().cloned(), device: self.shared() }
    }

    /// The device of its filesystem, where all directories on it are of one size.
    pub(crate) fn shared(&self) -> Option<Device> {
        self.device.filter(|_| !self.has_quotas)
    }

    /// The directories that hold what it has written; none where that is not known.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// One of which only the layer is known.
    #[cfg(test)]
    pub(super) fn of_layer(layer: PathBuf, is_confirmed: bool) -> Self {
        Self { paths: vec![layer], is_confirmed, ..Self::default() }
    }

    /// Whether the host's mounts have the same layer; else its mounts alone say that it is its own.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }
}

/// Whether an engine may have a writable layer there: `overlay2/LAYER/diff`, or `snapshots/NUMBER/fs`.
fn is_layer(path: &Path) -> bool {
    let store = path.ancestors().nth(2).and_then(Path::file_name).and_then(OsStr::to_str);
    let name = path.file_name().and_then(OsStr::to_str);
    matches!((store, name), (Some("overlay" | "overlay2"), Some("diff")) | (Some("snapshots"), Some("fs")))
}

/// Podman keeps a container's log beside its layers: `ROOT/overlay-containers/ID`.
fn podman_directory(layer: &Path, id: &str) -> Option<PathBuf> {
    let layers = layer.ancestors().nth(2).filter(|layers| layers.ends_with("overlay"))?;
    Some(layers.with_file_name("overlay-containers").join(id))
}

/// The root of a process.
#[derive(Debug)]
pub(crate) struct Root {
    /// That of the process.
    pub(crate) directory: Option<Arc<File>>,
    pub(crate) layer: Option<PathBuf>,
    /// The device of its filesystem, where all directories on it are of one size.
    pub(crate) device: Option<Device>,
}

impl Root {
    /// The filesystem's figures. This may never return: see `measure`.
    ///
    /// # Errors
    /// The system's: `EACCES` without the right to read the process' root.
    pub(crate) fn measure(&self) -> io::Result<Figures> {
        let statistics = if self.device.is_some() {
            self.of_layer().or_else(|| self.neighbour()).map_or_else(|| self.of_process(), Ok)
        } else {
            self.of_process().or_else(|error| self.of_layer().ok_or(error))
        };
        Ok(Figures::of(&statistics?))
    }

    fn of_process(&self) -> Result<StatVfs, Errno> {
        let process = self.directory.as_ref().ok_or(Errno::NOENT)?;
        fstatvfs(openat(process, "root", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
    }

    fn of_layer(&self) -> Option<StatVfs> {
        statvfs(self.layer.as_ref()?).ok()
    }

    /// The filesystem by a file that we see on the same device.
    fn neighbour(&self) -> Option<StatVfs> {
        let Device { major, minor } = self.device?;
        let is_there = |path: &&str| stat(*path).is_ok_and(|file| file.st_dev == makedev(major, minor));
        MOUNTED.iter().copied().find(is_there).and_then(|path| statvfs(path).ok())
    }
}

/// Reads a container's `mountinfo`: its first lines where it has mounted without an end.
fn read(file: File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(MAX_MOUNTINFO).read_to_end(&mut text)?;
    if text.len() as u64 == MAX_MOUNTINFO {
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        text.truncate(whole);
    }
    Ok(text)
}

/// The figures of a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Its size in bytes.
    pub(crate) bytes: Option<u64>,
    /// What of it is not free.
    used: Option<u64>,
    /// None for one without a fixed number of inodes, such as btrfs, which says 0.
    pub(crate) inodes: Option<u64>,
    pub(crate) inodes_free: Option<u64>,
}

impl Figures {
    pub(super) fn of(statistics: &StatVfs) -> Self {
        let has_inodes = statistics.f_files > 0;
        Self {
            bytes: statistics.f_blocks.checked_mul(statistics.f_frsize),
            used: statistics.f_blocks.saturating_sub(statistics.f_bfree).checked_mul(statistics.f_frsize),
            inodes: has_inodes.then_some(statistics.f_files),
            inodes_free: has_inodes.then_some(statistics.f_ffree),
        }
    }

    pub(crate) fn get(&self, fact: DiskFact) -> Option<u64> {
        match fact {
            DiskFact::Usage => self.used,
            DiskFact::Limit => self.bytes,
            DiskFact::Inodes => self.inodes,
            DiskFact::InodesFree => self.inodes_free,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, ContainerId, Device, DiskFact, Figures, HostMounts, Path, Root, RootDevice, StatVfs};

    const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn of(process: &str) -> (RootDevice, u64) {
        let (host, _) = HostMounts::of(
            b"21 1 8:1 / / rw - ext4 /dev/root rw\n\
            22 21 259:3 / /var/lib/docker rw - xfs /dev/nvme0n1p3 rw\n\
            23 21 8:17 / /var/lib/docker-other rw - ext4 /dev/sdb1 rw\n\
            24 21 0:33 / /pool rw - btrfs /dev/sda2 rw\n\
            25 22 0:48 / /var/lib/docker/overlay2/ab/merged rw - overlay overlay rw,upperdir=/var/lib/docker/overlay2/ab/diff\n\
            26 21 0:49 / /run/task/rootfs rw - overlay overlay rw,upperdir=/srv/layer\n",
        );
        RootDevice::of(process.as_bytes(), ContainerId::parse(ID.as_bytes()), &host)
    }

    #[test]
    fn an_overlay_is_on_the_device_of_its_writable_layer() {
        let other = "b".repeat(64);
        let (found, malformed) = of(&format!(
            "30 29 0:5 / /proc rw - proc proc rw\nodd\n\
            31 29 0:48 / / rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/var/lib/docker/overlay2/ab/diff,workdir=/w\n\
            32 31 259:3 /containers/{other}/hosts /etc/hosts rw - xfs /dev/nvme0n1p3 rw\n\
            33 31 259:3 /containers/{ID}/hostname /etc/hostname rw - xfs /dev/nvme0n1p3 rw\n"
        ));
        assert_eq!(malformed, 1);
        assert_eq!(found.device, Some(Device { major: 259, minor: 3 }));
        assert_eq!(found.source.as_deref(), Some("/dev/nvme0n1p3"));
        let log = format!("/var/lib/docker/containers/{ID}");
        assert_eq!(found.paths, [Path::new("/var/lib/docker/overlay2/ab/diff"), Path::new(&log)]);
        let (podman, _) = of("31 29 0:48 / / rw - overlay overlay rw,upperdir=/var/lib/docker/overlay/ab/diff\n");
        let log = format!("/var/lib/docker/overlay-containers/{ID}");
        assert_eq!(podman.paths, [Path::new("/var/lib/docker/overlay/ab/diff"), Path::new(&log)]);
    }

    #[test]
    fn a_layer_is_one_that_the_host_has_mounted_or_that_is_where_layers_are() {
        let layer = |device: &str, upper: &str| {
            let (found, _) = of(&format!("31 29 {device} / / rw - overlay overlay rw,upperdir={upper},workdir=/w\n"));
            (found.is_confirmed, found.paths.first().and_then(|path| path.to_str().map(str::to_owned)))
        };
        let own = "/var/lib/docker/overlay2/ab/diff";
        assert_eq!(layer("0:48", own), (true, Some(own.to_owned())));
        assert_eq!(layer("0:49", "/srv/layer"), (true, Some("/srv/layer".to_owned())));
        // An overlay that the container has mounted itself, after another one's.
        assert_eq!(layer("0:77", own), (false, Some(own.to_owned())));
        let rootless = "/srv/me/.local/share/containers/storage/overlay/ab/diff";
        assert_eq!(layer("0:77", rootless), (false, Some(rootless.to_owned())));
        for other in ["/srv/layer", "/var/lib/docker", "/var/lib/docker/overlay2", "/var/lib/docker/overlay2/ab"] {
            assert_eq!(layer("0:77", other), (false, None), "{other}");
        }
    }

    #[test]
    fn a_process_that_has_changed_its_root_speaks_for_no_other_container() {
        let size = |path: &str| Figures::of(&rustix::fs::statvfs(path).unwrap()).bytes;
        assert_ne!(size("/"), size("/proc"));
        let root = |device| Root {
            // Of another filesystem than the layer.
            directory: Some(Arc::new(std::fs::File::open("/proc/self").unwrap())),
            layer: Some("/proc".into()),
            device,
        };
        let shared = root(Some(Device { major: 8, minor: 1 })).measure().unwrap();
        assert_eq!(shared.bytes, size("/proc"), "by the layer");
        assert_eq!(root(None).measure().unwrap().bytes, size("/"), "its own alone");
    }

    #[test]
    fn a_mountinfo_without_an_end_is_cut_after_a_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = "30 29 0:5 / /proc rw - proc proc rw\n";
        std::fs::write(file.path(), line.repeat(200_000)).unwrap();
        let text = super::read(file.reopen().unwrap()).unwrap();
        let most = usize::try_from(super::MAX_MOUNTINFO).unwrap();
        assert!(text.len() <= most && text.len() > most - line.len() && text.ends_with(b"\n"), "{}", text.len());
        std::fs::write(file.path(), line.trim_end()).unwrap();
        assert_eq!(super::read(file.reopen().unwrap()).unwrap(), line.trim_end().as_bytes());
    }

    #[test]
    fn any_other_root_is_on_its_own_device() {
        let (found, _) = of("31 29 0:33 /sub / rw - btrfs /dev/sda2 rw\n");
        assert_eq!((found.device, found.source.as_deref()), (Some(Device { major: 0, minor: 33 }), Some("/dev/sda2")));
        assert_eq!(found.paths, [Path::new("/pool/sub")]);
        assert_eq!(of(""), (RootDevice::default(), 0));
    }

    #[test]
    fn figures_are_bytes_and_inodes_and_no_inodes_are_none() {
        let mut statistics = rustix::fs::statvfs("/").unwrap();
        (statistics.f_blocks, statistics.f_bfree, statistics.f_frsize) = (10, 4, 4096);
        (statistics.f_files, statistics.f_ffree) = (7, 3);
        let figures = |statistics: &StatVfs| {
            let facts = [DiskFact::Usage, DiskFact::Limit, DiskFact::Inodes, DiskFact::InodesFree];
            facts.map(|fact| Figures::of(statistics).get(fact))
        };
        assert_eq!(figures(&statistics), [Some(24_576), Some(40_960), Some(7), Some(3)]);
        statistics.f_files = 0;
        assert_eq!(figures(&statistics), [Some(24_576), Some(40_960), None, None]);
    }
}
