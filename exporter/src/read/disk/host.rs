//! The filesystems of the host: one for each block device or pool that is mounted where the exporter sees it.
//!
//! Filesystems in memory and overlays are left out, because they have no space on disk of their own, and so are images that
//! nobody can write to, because they are always full.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::metrics::SelfMetrics;
use crate::read::disk::mounts::HostMounts;
use crate::read::disk::statfs::{FsStats, Request, StatfsThreads, Target, is_timeout, reason};
use crate::read::diskstats::Devices;
use crate::read::files::format::Device;
use crate::read::plan::Plan;
use crate::read::sample::fill::fill_filesystem;
use crate::read::sample::{Labels, Sample};

/// How often the mounts are read. With many containers there are many of them.
const REFRESH: Duration = Duration::from_mins(1);
/// Maximum number of filesystems.
const MAX_FILESYSTEMS: usize = 256;
/// Index of the first filesystem of the host among the requests of a pass, above those of containers.
pub(super) const FIRST_INDEX: usize = usize::MAX / 2;
/// Generation of the first filesystem among all requests, above those of containers, which count from 1.
const FIRST_GENERATION: u64 = 1 << 48;
/// Types of filesystems that nobody can write to.
const IMAGES: [&[u8]; 4] = [b"squashfs", b"iso9660", b"erofs", b"cramfs"];

/// The filesystems of the host, with the values of this pass.
#[derive(Debug, Default)]
pub(super) struct HostFilesystems {
    all: Vec<HostFilesystem>,
    /// When the mounts were last read.
    read: Option<Instant>,
    /// Number of filesystems so far.
    numbers: u64,
}

#[derive(Debug, PartialEq)]
struct HostFilesystem {
    device: Device,
    /// The block device, or the pool.
    source: String,
    point: PathBuf,
    stats: Option<FsStats>,
    has_timed_out: bool,
    /// Unique number, kept while its mount point is there: requests of earlier passes are known by it.
    number: u64,
}

impl HostFilesystems {
    /// Requests all filesystems. Returns false if one of them is still blocked by an earlier request.
    pub(super) fn request(&mut self, threads: &StatfsThreads, now: Instant, self_metrics: &SelfMetrics) -> bool {
        self.refresh(now, self_metrics);
        let mut is_whole = true;
        for (position, filesystem) in self.all.iter_mut().enumerate() {
            filesystem.stats = None;
            let generation = FIRST_GENERATION + filesystem.number;
            let target = Target::Path(filesystem.point.clone());
            let request = Request { index: FIRST_INDEX + position, generation, target };
            is_whole &= threads.request(request, filesystem.has_timed_out);
        }
        is_whole
    }

    /// Reads the mounts again if they are due.
    fn refresh(&mut self, now: Instant, self_metrics: &SelfMetrics) {
        if self.read.is_some_and(|read| now.saturating_duration_since(read) < REFRESH) {
            return;
        }
        self.read = Some(now);
        // The exporter can measure what it sees: in a container, the mounts that it was given.
        let Ok(text) = std::fs::read("/proc/self/mountinfo") else { return };
        self.replace(filesystems(&HostMounts::parse_counting(&text, self_metrics)));
    }

    fn replace(&mut self, mut fresh: Vec<HostFilesystem>) {
        for filesystem in &mut fresh {
            let known = self.all.iter().find(|known| known.point == filesystem.point);
            if let Some(known) = known {
                (filesystem.number, filesystem.has_timed_out) = (known.number, known.has_timed_out);
            } else {
                self.numbers += 1;
                filesystem.number = self.numbers;
            }
        }
        self.all = fresh;
    }

    /// Stores an answer. Returns false if it is an error.
    pub(super) fn store(&mut self, index: usize, answer: io::Result<FsStats>, self_metrics: &SelfMetrics) -> bool {
        let Some(filesystem) = self.all.get_mut(index - FIRST_INDEX) else { return true };
        match answer {
            Ok(stats) => filesystem.stats = Some(stats),
            Err(error) => {
                self_metrics.count_read_error("filesystem", reason(&error));
                if is_timeout(&error) && !std::mem::replace(&mut filesystem.has_timed_out, true) {
                    let point = filesystem.point.display();
                    warn!(%point, "this filesystem does not answer statfs: its size is left out until it does");
                }
                return false;
            }
        }
        true
    }

    /// Fills the values of this pass into the host's sample.
    pub(super) fn fill(&self, plan: &Plan, devices: &mut Devices, labels: &mut Labels, sample: &mut Sample) {
        for filesystem in &self.all {
            let Some(stats) = filesystem.stats else { continue };
            let device = (Some(filesystem.device), Some(&*filesystem.source));
            fill_filesystem(device, |fact| stats.get(fact), plan, devices, labels, sample);
        }
    }
}

/// Returns one filesystem for each block device or pool that is mounted.
fn filesystems(mounts: &HostMounts) -> Vec<HostFilesystem> {
    let mut found: Vec<HostFilesystem> = Vec::new();
    for mount in mounts.iter() {
        let has_room = found.len() < MAX_FILESYSTEMS;
        let is_pool = *mount.kind == *b"zfs";
        if !is_pool && !mount.source.starts_with("/dev/") || IMAGES.contains(&&*mount.kind) {
            continue;
        }
        let source = if is_pool { mount.source.split('/').next().unwrap_or_default() } else { &mount.source };
        let known = found.iter_mut().find(|known| known.source == source);
        match known {
            // The mount with the shortest path most probably shows the whole filesystem and not one of its directories.
            Some(known) if mount.point.as_os_str().len() < known.point.as_os_str().len() => {
                (known.point, known.device) = (mount.point.clone(), mount.device);
            }
            Some(_) => {}
            None if !has_room => {}
            None => found.push(HostFilesystem {
                device: mount.device,
                source: source.to_owned(),
                point: mount.point.clone(),
                stats: None,
                has_timed_out: false,
                number: 0,
            }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{HostFilesystems, HostMounts, filesystems};

    #[test]
    fn a_filesystem_keeps_its_number_when_others_come_and_go() {
        let mut known = HostFilesystems::default();
        let mut numbers = |points: &[&str]| -> Vec<u64> {
            let lines = points
                .iter()
                .zip(1..)
                .map(|(point, minor)| format!("2 1 8:{minor} / {point} rw - ext4 /dev{point} rw\n"));
            known.replace(filesystems(&HostMounts::parse(lines.collect::<String>().as_bytes()).0));
            known.all.iter().map(|filesystem| filesystem.number).collect()
        };
        assert_eq!(numbers(&["/a", "/b", "/c"]), [1, 2, 3]);
        assert_eq!(numbers(&["/b", "/c", "/d"]), [2, 3, 4]);
        assert_eq!(numbers(&["/a", "/d"]), [5, 4], "a new one at an old point");
    }

    #[test]
    fn each_device_and_pool_is_one_filesystem() {
        let text = b"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            22 21 8:1 /x /var/lib/docker rw - ext4 /dev/sda1 rw\n\
            23 21 0:30 / /dev/shm rw - tmpfs tmpfs rw\n\
            24 21 0:31 / /var/lib/docker/overlay2/a/merged rw - overlay overlay rw,upperdir=/u\n\
            25 21 0:32 /@home /mnt/long/path rw - btrfs /dev/sdb rw\n\
            26 21 0:32 /@ /data rw - btrfs /dev/sdb rw\n\
            27 21 0:50 / /tank/a rw - zfs tank/a rw\n\
            28 21 0:51 / /tank rw - zfs tank rw\n\
            29 21 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro\n\
            30 21 0:60 / /net rw - nfs4 server:/export rw\n";
        let (mounts, _) = HostMounts::parse(text);
        let found = filesystems(&mounts);
        let found: Vec<_> =
            found.iter().map(|one| (&*one.source, one.point.to_str().unwrap(), one.device.minor)).collect();
        assert_eq!(found, [("/dev/sda1", "/", 1), ("/dev/sdb", "/data", 32), ("tank", "/tank", 51)]);
    }
}
