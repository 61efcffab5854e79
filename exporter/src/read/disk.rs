//! The filesystem below a container's root: which device it is on, how large it is.
//!
//! Device: the process' `mountinfo`; where the root is an overlay, the host's mount that holds its writable layer. Size: `statvfs`
//! of `/proc/PID/root`, which takes `CAP_SYS_PTRACE` for foreign processes; without it, of the writable layer's own directory,
//! which is there where the exporter runs on the host and not in a container. The layer's size comes from the engine.

use std::io;
use std::path::{Path, PathBuf};

use procfs::FromBufRead as _;
use procfs::process::{MountInfo, MountInfos};
use rustix::fs::{Mode, OFlags, StatVfs, fstatvfs, openat, statvfs};

use super::format::Device;
use super::process::Process;
use crate::metrics::DiskFact;

/// Where a container's root is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the block device, or of what stands for one.
    pub(super) device: Option<Device>,
    /// What the mount says it was made from: `/dev/NAME`, if the number has no name.
    pub(super) source: Option<String>,
    /// The writable layer of an overlay, as the host sees it.
    layer: Option<PathBuf>,
}

impl Place {
    /// Of the container that this process is in. Nothing is known where `mountinfo` cannot be read.
    pub(super) fn find(process: &Process, procfs: &Path) -> Self {
        let of_process = process.open_file("mountinfo").ok().and_then(|file| mounts(io::BufReader::new(file)));
        let of_host = ["1/mountinfo", "self/mountinfo"].into_iter().find_map(|name| {
            let file = std::fs::File::open(procfs.join(name)).ok()?;
            mounts(io::BufReader::new(file))
        });
        Self::of(&of_process.unwrap_or_default(), &of_host.unwrap_or_default())
    }

    fn of(process: &[MountInfo], host: &[MountInfo]) -> Self {
        // Of several mounts on one point the last is the one that is seen.
        let Some(root) = process.iter().rfind(|mount| mount.mount_point == Path::new("/")) else {
            return Self::default();
        };
        let upper = root.super_options.get("upperdir").cloned().flatten().map(PathBuf::from);
        let holds = |mount: &&MountInfo| upper.as_ref().is_some_and(|upper| upper.starts_with(&mount.mount_point));
        let below = host.iter().filter(holds).max_by_key(|mount| mount.mount_point.components().count());
        let mount = below.unwrap_or(root);
        let source = mount.mount_source.clone().filter(|source| source.starts_with("/dev/"));
        Self { device: Device::parse(mount.majmin.as_bytes()), source, layer: upper }
    }

    /// The filesystem's figures.
    ///
    /// # Errors
    /// The system's: `EACCES` without the right to look into the process' root.
    pub(super) fn measure(&self, process: &Process) -> io::Result<StatVfs> {
        process.root().or_else(|error| match &self.layer {
            Some(layer) => statvfs(layer).map_err(|_also| error),
            None => Err(error),
        })
    }
}

fn mounts(text: impl io::BufRead) -> Option<Vec<MountInfo>> {
    MountInfos::from_buf_read(text).ok().map(|mounts| mounts.0)
}

impl Process {
    fn root(&self) -> io::Result<StatVfs> {
        let root = openat(self.directory(), "root", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(fstatvfs(root)?)
    }
}

/// One of the figures. A filesystem without a fixed number of inodes, such as btrfs, says 0: that is none.
pub(super) fn figure(fact: DiskFact, figures: &StatVfs) -> Option<u64> {
    match fact {
        DiskFact::Usage => None,
        DiskFact::Limit => figures.f_blocks.checked_mul(figures.f_frsize),
        DiskFact::Inodes => Some(figures.f_files).filter(|inodes| *inodes > 0),
        DiskFact::InodesFree => (figures.f_files > 0).then_some(figures.f_ffree),
    }
}

#[cfg(test)]
mod tests {
    use super::{Device, DiskFact, MountInfo, Path, Place, figure, mounts};

    const HOST: &str = "21 1 8:1 / / rw - ext4 /dev/root rw\n\
        22 21 259:3 / /var/lib/docker rw - xfs /dev/nvme0n1p3 rw\n\
        23 21 8:17 / /var/lib/docker-other rw - ext4 /dev/sdb1 rw\n";
    const OVERLAY: &str = "30 29 0:5 / /proc rw - proc proc rw\n\
        31 29 0:48 / / rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/var/lib/docker/overlay2/ab/diff,workdir=/w\n";

    fn parse(text: &str) -> Vec<MountInfo> {
        mounts(text.as_bytes()).unwrap()
    }

    #[test]
    fn an_overlay_is_on_the_device_of_its_writable_layer() {
        let place = Place::of(&parse(OVERLAY), &parse(HOST));
        assert_eq!(place.device, Some(Device { major: 259, minor: 3 }));
        assert_eq!(place.source.as_deref(), Some("/dev/nvme0n1p3"));
        assert_eq!(place.layer.as_deref(), Some(Path::new("/var/lib/docker/overlay2/ab/diff")));
    }

    #[test]
    fn any_other_root_is_on_its_own_device() {
        let place = Place::of(&parse("31 29 0:33 /sub / rw - btrfs /dev/sda2 rw\n"), &parse(HOST));
        assert_eq!((place.device, place.source.as_deref()), (Some(Device { major: 0, minor: 33 }), Some("/dev/sda2")));
        assert_eq!(Place::of(&[], &parse(HOST)), Place::default());
    }

    #[test]
    fn figures_are_bytes_and_inodes_and_no_inodes_are_none() {
        let mut figures = rustix::fs::statvfs("/").unwrap();
        (figures.f_blocks, figures.f_frsize, figures.f_files, figures.f_ffree) = (10, 4096, 7, 3);
        assert_eq!(figure(DiskFact::Limit, &figures), Some(40_960));
        assert_eq!((figure(DiskFact::Inodes, &figures), figure(DiskFact::InodesFree, &figures)), (Some(7), Some(3)));
        figures.f_files = 0;
        assert_eq!((figure(DiskFact::Inodes, &figures), figure(DiskFact::InodesFree, &figures)), (None, None));
    }
}
