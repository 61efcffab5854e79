//! Finds where the files of a container are on disk, by the mounts of one of its processes and those of the host.
//!
//! The device is that of the root in the `mountinfo` of the process. For an overlay it is the device of the host's mount that
//! holds the writable layer. The files that the container has written are in the upper directory of the overlay; for other
//! storage drivers (vfs, btrfs) in the directory that is mounted as root, together with the image. The log is in the engine's
//! directory of the container.
//!
//! The options of an overlay are text of whoever has mounted it, and a container may mount its own root. So its writable layer
//! is trusted if the host has the same overlay mounted. An engine without root mounts where the host does not see it: then the
//! path must be one where engines keep layers, and no other container may name it ([`super::layers`]).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::discover::ContainerId;
use crate::metrics::SelfMetrics;
use crate::read::disk::statfs::{ENGINE_FILES, Root};
use crate::read::files::format::Device;
use crate::read::files::open_files::count_malformed;
use crate::read::files::proc_text::{Mount, mounts, path};
use crate::read::process::Process;

/// Filesystem types without files on disk. On a host with many containers most mounts are of these types.
const PSEUDO_FILESYSTEMS: [&[u8]; 8] =
    [b"nsfs", b"proc", b"sysfs", b"cgroup", b"cgroup2", b"mqueue", b"devpts", b"securityfs"];
/// Maximum number of bytes that are read of a container's `mountinfo`: about 20,000 mounts.
const MAX_MOUNTINFO: u64 = 4 << 20;

/// The mounts of the host that have files on disk, in the order of `mountinfo`.
#[derive(Debug, Default)]
pub(super) struct HostMounts(Vec<HostMount>);

/// A mount of the host.
#[derive(Debug)]
pub(super) struct HostMount {
    pub(super) device: Device,
    /// Filesystem type.
    pub(super) kind: Box<[u8]>,
    /// `/dev/NAME`, or the name of a pool.
    pub(super) source: String,
    /// The mounted directory of the filesystem.
    root: PathBuf,
    pub(super) point: PathBuf,
    has_quotas: bool,
    /// Upper directory of an overlay.
    upper: Option<PathBuf>,
}

impl HostMounts {
    /// Reads the host's `mountinfo` and counts its malformed lines. Returns no mounts if it cannot be read.
    pub(super) fn read(procfs: &Path, self_metrics: &SelfMetrics) -> Self {
        let mut text = Vec::new();
        let is_read = ["1/mountinfo", "self/mountinfo"].into_iter().any(|name| {
            text.clear();
            File::open(procfs.join(name)).and_then(|mut file| file.read_to_end(&mut text)).is_ok()
        });
        if is_read { Self::parse_counting(&text, self_metrics) } else { Self::default() }
    }

    /// Parses the text of a `mountinfo` and counts its malformed lines.
    pub(super) fn parse_counting(mountinfo: &[u8], self_metrics: &SelfMetrics) -> Self {
        let (mounts, malformed) = Self::parse(mountinfo);
        count_malformed("mountinfo", malformed, self_metrics);
        mounts
    }

    /// Parses the text of a `mountinfo`. Also returns the number of malformed lines.
    pub(super) fn parse(mountinfo: &[u8]) -> (Self, u64) {
        let mut found = Vec::new();
        let malformed = mounts(mountinfo, |mount| {
            if !PSEUDO_FILESYSTEMS.contains(&mount.kind) {
                found.push(HostMount::new(&mount));
            }
        });
        (Self(found), malformed)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &HostMount> {
        self.0.iter()
    }

    /// Returns the mount that holds a path: the innermost, and of several on one point the last, which hides the others.
    fn holding(&self, path: &Path) -> Option<&HostMount> {
        let holding = self.0.iter().filter(|mount| strip_directory(path, &mount.point).is_some());
        holding.max_by_key(|mount| mount.point.as_os_str().len())
    }

    /// Returns whether the host has mounted an overlay with this device number and writable layer. An overlay that somebody
    /// else mounts with the same options has another number.
    fn has_overlay(&self, device: Device, upper: &Path) -> bool {
        self.0.iter().any(|mount| mount.device == device && mount.upper.as_deref() == Some(upper))
    }

    /// Returns the path under which the host has mounted a directory of a filesystem.
    fn path_of(&self, device: Device, directory: &Path) -> Option<PathBuf> {
        let of_device = self.0.iter().filter(|mount| mount.device == device);
        let found = of_device.filter_map(|mount| Some((mount, strip_directory(directory, &mount.root)?)));
        let (mount, rest) = found.max_by_key(|(mount, _)| mount.root.as_os_str().len())?;
        Some(if rest.as_os_str().is_empty() { mount.point.clone() } else { mount.point.join(rest) })
    }
}

impl HostMount {
    fn new(mount: &Mount<'_>) -> Self {
        Self {
            device: mount.device,
            kind: mount.kind.into(),
            source: path(mount.source).to_string_lossy().into_owned(),
            root: path(mount.root),
            point: path(mount.point),
            has_quotas: mount.has_quotas(),
            upper: mount.option("upperdir").map(path),
        }
    }
}

/// Returns the part of a path below a directory. Compares bytes and not components, because it runs for each mount of the
/// host and each new container.
fn strip_directory<'p>(path: &'p Path, directory: &Path) -> Option<&'p Path> {
    let rest = path.as_os_str().as_bytes().strip_prefix(directory.as_os_str().as_bytes())?;
    let rest = match rest {
        _ if directory == Path::new("/") => rest,
        [] => rest,
        [b'/', rest @ ..] => rest,
        _ => return None,
    };
    Some(Path::new(OsStr::from_bytes(rest)))
}

/// Where the files of a container are on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerDisk {
    /// Device number of the filesystem of its root.
    pub(super) device: Option<Device>,
    /// `/dev/NAME` as the mount has it, for a device number without a name in `/proc/diskstats`.
    pub(super) source: Option<String>,
    /// The directories with the files that it has written, as the host names them: first its writable layer, then those where
    /// its log may be.
    paths: Vec<PathBuf>,
    /// Whether the host has mounted the same overlay.
    is_confirmed: bool,
    /// Whether directories of the filesystem may have quotas, so that its size differs from container to container.
    has_quotas: bool,
}

impl ContainerDisk {
    /// Finds the disk of the container that a process is in, and counts malformed lines of its `mountinfo`. If the file cannot
    /// be read, all fields are empty.
    pub(super) fn find(
        process: &Process,
        id: Option<ContainerId>,
        host: &HostMounts,
        self_metrics: &SelfMetrics,
    ) -> Self {
        let text = process.open_file("mountinfo").and_then(read_mountinfo).unwrap_or_default();
        let (found, malformed) = Self::parse(&text, id, host);
        count_malformed("mountinfo", malformed, self_metrics);
        found
    }

    /// Finds the disk by the text of the `mountinfo`. Also returns the number of malformed lines.
    fn parse(mountinfo: &[u8], id: Option<ContainerId>, host: &HostMounts) -> (Self, u64) {
        // Of several mounts on `/` the last hides the others.
        let (mut root, mut of_engine): (Option<Mount<'_>>, Option<PathBuf>) = (None, None);
        let id = id.map(|id| id.to_string());
        let malformed = mounts(mountinfo, |mount| {
            if of_engine.is_none() && ENGINE_FILES.iter().any(|point| point.as_bytes() == mount.point) {
                let directory = path(mount.root).parent().map(Path::to_owned);
                let is_own = |directory: &PathBuf| id.as_ref().is_some_and(|id| directory.ends_with(id));
                of_engine = directory.filter(is_own).and_then(|directory| host.path_of(mount.device, &directory));
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
        // A process that the engine is about to move into its container still has the root of the host.
        let layer =
            upper.or_else(|| host.path_of(root.device, &path(root.root))).filter(|layer| layer.parent().is_some());
        let of_podman = layer.as_deref().zip(id.as_deref()).and_then(|(layer, id)| podman_directory(layer, id));
        let paths = layer.into_iter().flat_map(|layer| [Some(layer), of_engine.clone(), of_podman.clone()]);
        let paths = paths.flatten().collect();
        (Self { device: Some(device), source, paths, is_confirmed, has_quotas }, malformed)
    }

    /// Returns the root to measure, with a process in the container if one is known.
    pub(super) fn root(&self, process: Option<&Process>) -> Root {
        let process = process.map(|process| Arc::clone(process.directory()));
        Root { process, layer: self.paths.first().cloned(), device: self.shared_device() }
    }

    /// Returns the device number and the source, by which samples are labelled.
    pub(crate) fn label_source(&self) -> (Option<Device>, Option<&str>) {
        (self.device, self.source.as_deref())
    }

    /// Returns the device if its filesystem has one size for all containers on it.
    pub(super) fn shared_device(&self) -> Option<Device> {
        self.device.filter(|_| !self.has_quotas)
    }

    /// Returns the directories with the files that it has written, its layer first. Empty if they are unknown.
    pub(super) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Returns whether the host has mounted the same overlay. Otherwise only the container's own mounts name the layer.
    pub(super) fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Returns a disk of which only the layer is known.
    #[cfg(test)]
    pub(super) fn of_layer(layer: PathBuf, is_confirmed: bool) -> Self {
        Self { paths: vec![layer], is_confirmed, ..Self::default() }
    }
}

/// Returns whether engines keep writable layers at such a path: `overlay2/LAYER/diff` or `snapshots/NUMBER/fs`.
fn is_layer(path: &Path) -> bool {
    let store = path.ancestors().nth(2).and_then(Path::file_name).and_then(OsStr::to_str);
    let name = path.file_name().and_then(OsStr::to_str);
    matches!((store, name), (Some("overlay" | "overlay2"), Some("diff")) | (Some("snapshots"), Some("fs")))
}

/// Returns the directory where Podman keeps a container's log, beside its layers: `ROOT/overlay-containers/ID`.
fn podman_directory(layer: &Path, id: &str) -> Option<PathBuf> {
    let layers = layer.ancestors().nth(2).filter(|layers| layers.ends_with("overlay"))?;
    Some(layers.with_file_name("overlay-containers").join(id))
}

/// Reads a container's `mountinfo` up to [`MAX_MOUNTINFO`], cut after a whole line, because a container may have any number of
/// mounts.
fn read_mountinfo(file: File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(MAX_MOUNTINFO).read_to_end(&mut text)?;
    if text.len() as u64 == MAX_MOUNTINFO {
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        text.truncate(whole);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &[u8] = b"21 1 8:1 / / rw - ext4 /dev/root rw\nodd\n\
        22 21 259:3 / /var/lib/docker rw - xfs /dev/nvme0n1p3 rw,prjquota\n\
        23 21 8:17 / /var/lib/docker-other rw - ext4 /dev/sdb1 rw\n\
        24 21 0:40 /@data /srv rw - btrfs /dev/sdc rw\n\
        25 21 0:4 net:[4026532] /run/docker/netns/1 rw - nsfs nsfs rw\n\
        26 21 8:1 /export /mnt/a\\040b rw - ext4 /dev/root rw\n";

    #[test]
    fn a_path_is_on_the_innermost_mount() {
        let (mounts, malformed) = HostMounts::parse(HOST);
        assert_eq!((mounts.iter().count(), malformed), (5, 1));
        let source = |path: &str| mounts.holding(path.as_ref()).map(|mount| &*mount.source);
        assert_eq!(source("/var/lib/docker/overlay2/ab"), Some("/dev/nvme0n1p3"));
        assert_eq!(source("/var/lib/docker-other/x"), Some("/dev/sdb1"));
        assert_eq!(source("/var/lib/dockers"), Some("/dev/root"));
        assert_eq!(source("/"), Some("/dev/root"));
    }

    #[test]
    fn a_directory_of_a_filesystem_has_the_host_s_path() {
        let (mounts, _) = HostMounts::parse(HOST);
        let path = |(major, minor), directory: &str| mounts.path_of(Device { major, minor }, directory.as_ref());
        assert_eq!(path((259, 3), "/containers/ab").as_deref(), Some(Path::new("/var/lib/docker/containers/ab")));
        assert_eq!(path((8, 1), "/var/x").as_deref(), Some(Path::new("/var/x")));
        assert_eq!(path((8, 1), "/export/x").as_deref(), Some(Path::new("/mnt/a b/x")));
        assert_eq!(path((0, 40), "/@data").as_deref(), Some(Path::new("/srv")));
        assert_eq!(path((0, 40), "/@other/x"), None);
        assert_eq!(path((7, 7), "/"), None);
    }

    const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn of(process: &str) -> (ContainerDisk, u64) {
        let (host, _) = HostMounts::parse(
            b"21 1 8:1 / / rw - ext4 /dev/root rw\n\
            22 21 259:3 / /var/lib/docker rw - xfs /dev/nvme0n1p3 rw\n\
            23 21 8:17 / /var/lib/docker-other rw - ext4 /dev/sdb1 rw\n\
            24 21 0:33 / /pool rw - btrfs /dev/sda2 rw\n\
            25 22 0:48 / /var/lib/docker/overlay2/ab/merged rw - overlay overlay rw,upperdir=/var/lib/docker/overlay2/ab/diff\n\
            26 21 0:49 / /run/task/rootfs rw - overlay overlay rw,upperdir=/srv/layer\n",
        );
        ContainerDisk::parse(process.as_bytes(), ContainerId::parse(ID.as_bytes()), &host)
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
    fn a_mountinfo_without_an_end_is_cut_after_a_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = "30 29 0:5 / /proc rw - proc proc rw\n";
        std::fs::write(file.path(), line.repeat(200_000)).unwrap();
        let text = read_mountinfo(file.reopen().unwrap()).unwrap();
        let most = usize::try_from(MAX_MOUNTINFO).unwrap();
        assert!(text.len() <= most && text.len() > most - line.len() && text.ends_with(b"\n"), "{}", text.len());
        std::fs::write(file.path(), line.trim_end()).unwrap();
        assert_eq!(read_mountinfo(file.reopen().unwrap()).unwrap(), line.trim_end().as_bytes());
    }

    #[test]
    fn any_other_root_is_on_its_own_device() {
        let (found, _) = of("31 29 0:33 /sub / rw - btrfs /dev/sda2 rw\n");
        assert_eq!((found.device, found.source.as_deref()), (Some(Device { major: 0, minor: 33 }), Some("/dev/sda2")));
        assert_eq!(found.paths, [Path::new("/pool/sub")]);
        assert_eq!(of(""), (ContainerDisk::default(), 0));
    }
}
