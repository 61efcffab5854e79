//! The mounts of the host: where the host has a directory that a container's mounts name.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::metrics::SelfMetrics;
use crate::read::files::format::Device;
use crate::read::files::proc_text::{Mount, mounts, path};

/// Filesystems that hold nobody's files; on a host with many containers they are most of the mounts.
const NO_FILES: [&[u8]; 8] = [b"nsfs", b"proc", b"sysfs", b"cgroup", b"cgroup2", b"mqueue", b"devpts", b"securityfs"];

/// Mounts with files, in the order of `mountinfo`.
#[derive(Debug, Default)]
pub(crate) struct HostMounts(Vec<HostMount>);

#[derive(Debug)]
pub(crate) struct HostMount {
    pub(crate) device: Device,
    pub(crate) kind: Box<[u8]>,
    /// `/dev/NAME`, or the name of a pool.
    pub(crate) source: String,
    /// The directory of its filesystem that is mounted.
    root: PathBuf,
    pub(crate) point: PathBuf,
    pub(crate) has_quotas: bool,
    /// The writable layer of an overlay.
    upper: Option<PathBuf>,
}

impl HostMounts {
    /// Reads them, and counts malformed lines. Nothing is known where `mountinfo` cannot be read.
    pub(crate) fn read(procfs: &Path, self_metrics: &SelfMetrics) -> Self {
        let mut text = Vec::new();
        let is_read = ["1/mountinfo", "self/mountinfo"].into_iter().any(|name| {
            text.clear();
            File::open(procfs.join(name)).and_then(|mut file| file.read_to_end(&mut text)).is_ok()
        });
        if is_read { Self::counted(&text, self_metrics) } else { Self::default() }
    }

    /// By the text of `mountinfo`, whose malformed lines are counted.
    pub(super) fn counted(mountinfo: &[u8], self_metrics: &SelfMetrics) -> Self {
        let (mounts, malformed) = Self::of(mountinfo);
        (0..malformed).for_each(|_| self_metrics.count_read_error("mountinfo", "malformed"));
        mounts
    }

    /// By the text of `mountinfo`. Gives the number of malformed lines, too.
    pub(crate) fn of(mountinfo: &[u8]) -> (Self, u64) {
        let mut found = Vec::new();
        let malformed = mounts(mountinfo, |mount| {
            if !NO_FILES.contains(&mount.kind) {
                found.push(HostMount::of(&mount));
            }
        });
        (Self(found), malformed)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &HostMount> {
        self.0.iter()
    }

    /// The mount that holds a path: the innermost one, and of several on one point the last, which is the one that is seen.
    pub(super) fn holding(&self, path: &Path) -> Option<&HostMount> {
        let holding = self.0.iter().filter(|mount| below(path, &mount.point).is_some());
        holding.max_by_key(|mount| mount.point.as_os_str().len())
    }

    /// Whether the host has this very overlay mounted, with this writable layer. Others of the same text are of other devices.
    pub(super) fn has_overlay(&self, device: Device, upper: &Path) -> bool {
        self.0.iter().any(|mount| mount.device == device && mount.upper.as_deref() == Some(upper))
    }

    /// Where the host has a directory of this filesystem.
    pub(super) fn path_of(&self, device: Device, directory: &Path) -> Option<PathBuf> {
        let of_device = self.0.iter().filter(|mount| mount.device == device);
        let found = of_device.filter_map(|mount| Some((mount, below(directory, &mount.root)?)));
        let (mount, rest) = found.max_by_key(|(mount, _)| mount.root.as_os_str().len())?;
        Some(if rest.as_os_str().is_empty() { mount.point.clone() } else { mount.point.join(rest) })
    }
}

impl HostMount {
    fn of(mount: &Mount<'_>) -> Self {
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

/// What of a path is below a directory. By bytes, as this is asked of every mount for every container.
fn below<'p>(path: &'p Path, directory: &Path) -> Option<&'p Path> {
    let rest = path.as_os_str().as_bytes().strip_prefix(directory.as_os_str().as_bytes())?;
    let rest = match rest {
        _ if directory == Path::new("/") => rest,
        [] => rest,
        [b'/', rest @ ..] => rest,
        _ => return None,
    };
    Some(Path::new(std::ffi::OsStr::from_bytes(rest)))
}

#[cfg(test)]
mod tests {
    use super::{Device, HostMounts, Path};

    const HOST: &[u8] = b"21 1 8:1 / / rw - ext4 /dev/root rw\nodd\n\
        22 21 259:3 / /var/lib/docker rw - xfs /dev/nvme0n1p3 rw,prjquota\n\
        23 21 8:17 / /var/lib/docker-other rw - ext4 /dev/sdb1 rw\n\
        24 21 0:40 /@data /srv rw - btrfs /dev/sdc rw\n\
        25 21 0:4 net:[4026532] /run/docker/netns/1 rw - nsfs nsfs rw\n\
        26 21 8:1 /export /mnt/a\\040b rw - ext4 /dev/root rw\n";

    #[test]
    fn a_path_is_on_the_innermost_mount() {
        let (mounts, malformed) = HostMounts::of(HOST);
        assert_eq!((mounts.iter().count(), malformed), (5, 1));
        let source = |path: &str| mounts.holding(path.as_ref()).map(|mount| &*mount.source);
        assert_eq!(source("/var/lib/docker/overlay2/ab"), Some("/dev/nvme0n1p3"));
        assert_eq!(source("/var/lib/docker-other/x"), Some("/dev/sdb1"));
        assert_eq!(source("/var/lib/dockers"), Some("/dev/root"));
        assert_eq!(source("/"), Some("/dev/root"));
    }

    #[test]
    fn a_directory_of_a_filesystem_has_the_host_s_path() {
        let (mounts, _) = HostMounts::of(HOST);
        let path = |(major, minor), directory: &str| mounts.path_of(Device { major, minor }, directory.as_ref());
        assert_eq!(path((259, 3), "/containers/ab").as_deref(), Some(Path::new("/var/lib/docker/containers/ab")));
        assert_eq!(path((8, 1), "/var/x").as_deref(), Some(Path::new("/var/x")));
        assert_eq!(path((8, 1), "/export/x").as_deref(), Some(Path::new("/mnt/a b/x")));
        assert_eq!(path((0, 40), "/@data").as_deref(), Some(Path::new("/srv")));
        assert_eq!(path((0, 40), "/@other/x"), None);
        assert_eq!(path((7, 7), "/"), None);
    }
}
