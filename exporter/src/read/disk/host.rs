//! The filesystems of the host: one for each block device or pool that the exporter sees mounted.
//!
//! Neither those in memory nor overlays, which hold no bytes of their own; nor images that are always full.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::metrics::SelfMetrics;
use crate::read::disk::measure::{Measure, Question, Target, hangs, reason};
use crate::read::disk::mounts::HostMounts;
use crate::read::disk::pass::fill;
use crate::read::disk::root::Figures;
use crate::read::files::format::Device;
use crate::read::plan::Plan;
use crate::read::sample::devices::Devices;
use crate::read::sample::{Labels, Sample};

/// How long the list of mounts is taken to be true: it is long where containers are many.
const REFRESH: Duration = Duration::from_mins(1);
/// Filesystems at most.
const MAX_FILESYSTEMS: usize = 256;
/// They are measured beside the containers', whose generations count from 1.
const FIRST_GENERATION: u64 = 1 << 48;
/// Filesystems that nobody can write to.
const IMAGES: [&[u8]; 4] = [b"squashfs", b"iso9660", b"erofs", b"cramfs"];

/// The filesystems of the host, with what was last measured of them.
#[derive(Debug, Default)]
pub(crate) struct HostFilesystems {
    all: Vec<HostFilesystem>,
    read: Option<Instant>,
    /// How many numbers were given.
    numbers: u64,
}

#[derive(Debug, PartialEq)]
struct HostFilesystem {
    device: Device,
    /// The block device, or the pool.
    source: String,
    point: PathBuf,
    figures: Option<Figures>,
    has_hung: bool,
    /// Its point's own for as long as that is mounted: threads that are at it know it by this.
    number: u64,
}

impl HostFilesystems {
    fn refresh(&mut self, now: Instant, self_metrics: &SelfMetrics) {
        if self.read.is_some_and(|read| now.saturating_duration_since(read) < REFRESH) {
            return;
        }
        self.read = Some(now);
        // What this process sees, and so can measure: in a container the mounts that it was given.
        let Ok(text) = std::fs::read("/proc/self/mountinfo") else { return };
        self.replace(filesystems(&HostMounts::counted(&text, self_metrics)));
    }

    fn replace(&mut self, mut fresh: Vec<HostFilesystem>) {
        for filesystem in &mut fresh {
            let known = self.all.iter().find(|known| known.point == filesystem.point);
            if let Some(known) = known {
                (filesystem.number, filesystem.has_hung) = (known.number, known.has_hung);
            } else {
                self.numbers += 1;
                filesystem.number = self.numbers;
            }
        }
        self.all = fresh;
    }
}

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
            // The shortest path is the least likely to be a part of it.
            Some(known) if mount.point.as_os_str().len() < known.point.as_os_str().len() => {
                (known.point, known.device) = (mount.point.clone(), mount.device);
            }
            Some(_) => {}
            None if !has_room => {}
            None => found.push(HostFilesystem {
                device: mount.device,
                source: source.to_owned(),
                point: mount.point.clone(),
                figures: None,
                has_hung: false,
                number: 0,
            }),
        }
    }
    found
}

/// Index of the first filesystem of the host among the questions of a pass.
pub(super) const FIRST_INDEX: usize = usize::MAX / 2;

impl HostFilesystems {
    /// Asks for all of them. Returns false where one has not answered an earlier pass yet.
    pub(super) fn ask(&mut self, measure: &Measure, now: Instant, self_metrics: &SelfMetrics) -> bool {
        self.refresh(now, self_metrics);
        let mut is_whole = true;
        for (position, filesystem) in self.all.iter_mut().enumerate() {
            filesystem.figures = None;
            let generation = FIRST_GENERATION + filesystem.number;
            let target = Target::Path(filesystem.point.clone());
            is_whole &=
                measure.ask(Question { index: FIRST_INDEX + position, generation, target }, filesystem.has_hung);
        }
        is_whole
    }

    /// Takes an answer in. Returns false where it has no figures.
    pub(super) fn take(&mut self, index: usize, answer: std::io::Result<Figures>, self_metrics: &SelfMetrics) -> bool {
        let Some(filesystem) = self.all.get_mut(index - FIRST_INDEX) else { return true };
        match answer {
            Ok(figures) => filesystem.figures = Some(figures),
            Err(error) => {
                self_metrics.count_read_error("filesystem", reason(&error));
                if hangs(&error) && !std::mem::replace(&mut filesystem.has_hung, true) {
                    let point = Path::display(&filesystem.point);
                    tracing::warn!(%point, "this filesystem does not answer statfs: its size is left out until it does");
                }
                return false;
            }
        }
        true
    }

    /// Fills what was measured into the host's sample.
    pub(super) fn fill(&self, plan: &Plan, devices: &mut Devices, labels: &mut Labels, sample: &mut Sample) {
        for filesystem in &self.all {
            let Some(figures) = filesystem.figures else { continue };
            let device = (Some(filesystem.device), Some(&*filesystem.source));
            fill(device, |fact| figures.get(fact), plan, devices, labels, sample);
        }
    }
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
            known.replace(filesystems(&HostMounts::of(lines.collect::<String>().as_bytes()).0));
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
        let (mounts, _) = HostMounts::of(text);
        let found = filesystems(&mounts);
        let found: Vec<_> =
            found.iter().map(|one| (&*one.source, one.point.to_str().unwrap(), one.device.minor)).collect();
        assert_eq!(found, [("/dev/sda1", "/", 1), ("/dev/sdb", "/data", 32), ("tank", "/tank", 51)]);
    }
}
