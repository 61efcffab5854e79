//! Parses the text of `/proc` files, without I/O: `stat`, `meminfo`, `cpuinfo`, `diskstats` and `mountinfo`.
//!
//! As in [`super::format`], every parser returns the number of malformed lines, and a malformed line does not affect the others.
//! Kernels, LXCFS and sandboxes leave lines out, add others, and write numbers that a parser of the whole file would refuse, such
//! as `procs_blocked 18446744073709551615`.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use crate::discover::unescape;
use crate::read::files::format::{Device, lines, number, split_once, words};

/// Indices of the words of the `cpu` line that add up to the busy time of CPUs: user, nice, system, irq and softirq. Idle time and
/// steal (another guest's time) are not busy time; guest time is part of user and nice.
pub(crate) const BUSY_WORDS: [usize; 5] = [0, 1, 2, 5, 6];

/// Parses the `cpu` line of `/proc/stat`: returns ticks in the order of [`BUSY_WORDS`]. None for a word that is absent or not a
/// time; the kernel writes a negative time as a number above 2^63.
pub(crate) fn cpu_ticks(text: &[u8]) -> ([Option<u64>; BUSY_WORDS.len()], u64) {
    let Some(line) = lines(text).find_map(|line| line.strip_prefix(b"cpu ")) else {
        return (BUSY_WORDS.map(|_| None), u64::from(!text.is_empty()));
    };
    let mut malformed = 0;
    let ticks = BUSY_WORDS.map(|index| {
        let word = words(line).nth(index)?;
        let ticks = number(word).filter(|ticks| i64::try_from(*ticks).is_ok());
        malformed += u64::from(ticks.is_none());
        ticks
    });
    (ticks, malformed)
}

/// Returns the numbers of the online CPUs: `/proc/stat` has a line for each.
pub(crate) fn online_cpus(text: &[u8]) -> impl Iterator<Item = u64> {
    lines(text).filter_map(|line| number(words(line).next()?.strip_prefix(b"cpu")?))
}

/// Parses `KEY: VALUE kB` lines of `/proc/meminfo`: passes key and value in bytes.
pub(crate) fn meminfo<'t>(text: &'t [u8], mut found: impl FnMut(&'t [u8], u64)) -> u64 {
    let mut malformed = 0;
    for line in lines(text) {
        let parsed = split_once(line, b':').and_then(|(key, value)| {
            let mut words = words(value);
            let number = number(words.next()?)?;
            let unit = if words.next() == Some(b"kB") { 1024 } else { 1 };
            Some((key, number.checked_mul(unit)?))
        });
        match parsed {
            Some((key, bytes)) => found(key, bytes),
            None => malformed += 1,
        }
    }
    malformed
}

/// Numbers of processors in `/proc/cpuinfo`. None if the file lacks the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Processors {
    /// Logical CPUs.
    pub(crate) logical: Option<u64>,
    /// Physical cores: different pairs of `physical id` and `core id`.
    pub(crate) cores: Option<u64>,
    /// Packages: different values of `physical id`.
    pub(crate) packages: Option<u64>,
}

/// Counts the processors of `/proc/cpuinfo`. On s390 the key has their number (`processor 0: …`).
pub(crate) fn processors(text: &[u8]) -> (Processors, u64) {
    let (mut logical, mut malformed) = (0, 0);
    let (mut packages, mut cores) = (HashSet::new(), HashSet::new());
    let mut package = None;
    for line in lines(text) {
        let Some((key, value)) = split_once(line, b':').map(|(key, value)| (key.trim_ascii(), value.trim_ascii()))
        else {
            malformed += u64::from(!line.trim_ascii().is_empty());
            continue;
        };
        match key {
            b"processor" => {
                logical += 1;
                package = None;
                malformed += u64::from(number(value).is_none());
            }
            b"physical id" => {
                package = number(value);
                packages.extend(package);
                malformed += u64::from(package.is_none());
            }
            b"core id" => match (package, number(value)) {
                (Some(package), Some(core)) => drop(cores.insert((package, core))),
                (_, None) => malformed += 1,
                (None, Some(_)) => {}
            },
            _ => logical += u64::from(key.strip_prefix(b"processor ").is_some_and(|cpu| number(cpu).is_some())),
        }
    }
    let known = |count: u64| Some(count).filter(|count| *count > 0);
    let (cores, packages) = (known(cores.len() as u64), known(packages.len() as u64));
    (Processors { logical: known(logical), cores, packages }, malformed)
}

/// Parses lines of `/proc/diskstats`: passes number and name of each disk and partition, and skips the counters.
pub(crate) fn disks<'t>(text: &'t [u8], mut found: impl FnMut(Device, &'t [u8])) -> u64 {
    let mut malformed = 0;
    for line in lines(text) {
        let mut words = words(line);
        let mut part = || words.next().and_then(number)?.try_into().ok();
        let device = part().zip(part()).map(|(major, minor)| Device { major, minor });
        match device.zip(words.next()) {
            Some((device, name)) => found(device, name),
            None => malformed += 1,
        }
    }
    malformed
}

/// A line of `/proc/PID/mountinfo`. Blanks within a field are escaped as `\040`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount<'t> {
    pub(crate) device: Device,
    /// The mounted directory of the filesystem.
    pub(crate) root: &'t [u8],
    pub(crate) point: &'t [u8],
    /// Filesystem type (`ext4`).
    pub(crate) kind: &'t [u8],
    pub(crate) source: &'t [u8],
    options: &'t [u8],
}

impl<'t> Mount<'t> {
    /// Returns whether directories may have quotas, and so be smaller than the filesystem (XFS, ext4).
    pub(crate) fn has_quotas(&self) -> bool {
        let mut options = self.options.split(|byte| *byte == b',');
        options.any(|option| matches!(option, b"prjquota" | b"pquota" | b"pqnoenforce"))
    }

    /// Returns the value of an option of the filesystem, such as `upperdir`.
    pub(crate) fn option(&self, name: &str) -> Option<&'t [u8]> {
        let mut options = self.options.split(|byte| *byte == b',');
        options.find_map(|option| option.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }
}

/// Parses `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG …] - TYPE SOURCE OPTIONS` lines of `mountinfo`: passes each mount.
pub(crate) fn mounts<'t>(text: &'t [u8], mut found: impl FnMut(Mount<'t>)) -> u64 {
    let mut malformed = 0;
    for line in lines(text) {
        let parsed = || {
            let mut words = words(line).skip(2);
            let device = Device::parse(words.next()?)?;
            let (root, point) = (words.next()?, words.next()?);
            words.find(|word| *word == b"-")?;
            let (kind, source) = (words.next()?, words.next()?);
            Some(Mount { device, root, point, kind, source, options: words.next().unwrap_or_default() })
        };
        match parsed() {
            Some(mount) => found(mount),
            None => malformed += 1,
        }
    }
    malformed
}

/// Returns the path in a field of `mountinfo`, without escapes.
pub(crate) fn path(field: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(field)).into()
}

#[cfg(test)]
mod tests {
    use super::{Device, Processors, cpu_ticks, disks, meminfo, mounts, online_cpus, processors};
    use crate::discover::unescape;

    #[test]
    fn cpu_time_takes_the_words_that_are_there() {
        let full =
            "cpu  1000 2 500 90000 10 3 20 40 50 60\ncpu0 1 0 5 9 1 0 2 0 0 0\nprocs_blocked 18446744073709551615\n";
        assert_eq!(cpu_ticks(full.as_bytes()), ([1000, 2, 500, 3, 20].map(Some), 0));
        assert_eq!(cpu_ticks(b"ctxt 5\ncpu 1 2 3\n"), ([Some(1), Some(2), Some(3), None, None], 0));
        assert_eq!(
            cpu_ticks(b"cpu 1 2 3 x 5 18446744073709551615 7\n"),
            ([Some(1), Some(2), Some(3), None, Some(7)], 1)
        );
        assert_eq!(cpu_ticks(b"cpu 1 99999999999999999999 3\n"), ([Some(1), None, Some(3), None, None], 1));
        assert_eq!(cpu_ticks(b"cpu0 1 2 3\n"), ([None; 5], 1));
        assert_eq!(cpu_ticks(b""), ([None; 5], 0));
    }

    #[test]
    fn online_cpus_are_those_with_a_line() {
        let stat = b"cpu  1 2 3\ncpu0 1 2 3\ncpu12 1\ncpufreq 7\nintr 5 0\n";
        assert_eq!(online_cpus(stat).collect::<Vec<_>>(), [0, 12]);
    }

    #[test]
    fn a_line_of_meminfo_costs_itself_alone() {
        let mut found = Vec::new();
        let text = b"MemTotal:       10 kB\nodd\nMemFree: x kB\nHugePages_Total:       3\nAnonPages: 18446744073709551615 kB\n";
        let malformed = meminfo(text, |key, bytes| found.push((key, bytes)));
        assert_eq!(found, [(&b"MemTotal"[..], 10_240), (b"HugePages_Total", 3)]);
        assert_eq!(malformed, 3);
    }

    #[test]
    fn processors_are_counted_by_their_packages_and_cores() {
        let cpu = |cpu: u32, package: u32, core: u32| {
            format!("processor\t: {cpu}\nphysical id\t: {package}\ncore id\t\t: {core}\nflags\t\t: fpu\n\n")
        };
        let text = [cpu(0, 0, 0), cpu(1, 0, 0), "odd\n".to_owned(), cpu(2, 1, 0), cpu(3, 1, 1)].concat();
        let counted = |logical, cores, packages| Processors { logical, cores, packages };
        assert_eq!(processors(text.as_bytes()), (counted(Some(4), Some(3), Some(2)), 1));
        // Arm has neither packages nor cores, s390 has the number in the key.
        assert_eq!(
            processors(b"processor\t: 0\nBogoMIPS\t: 50.00\n\nprocessor\t: 1\n"),
            (counted(Some(2), None, None), 0)
        );
        assert_eq!(processors(b"# processors    : 1\nprocessor 0: version = FF\n").0, counted(Some(1), None, None));
        assert_eq!(processors(b"processor\t: x\n"), (counted(Some(1), None, None), 1));
    }

    #[test]
    fn disks_have_a_number_and_a_name_whatever_follows() {
        let mut found = Vec::new();
        let text =
            b"   8       0 sda 1 0 2\n   8 x sda1 1\n 259 1048575 nvme0n1p1 -1 99999999999999999999\n   7\n 7 0 loop0";
        let malformed = disks(text, |device, name| found.push((device, name)));
        let device = |major, minor| Device { major, minor };
        let expected = [(device(8, 0), &b"sda"[..]), (device(259, 1_048_575), b"nvme0n1p1"), (device(7, 0), b"loop0")];
        assert_eq!(found, expected);
        assert_eq!(malformed, 2);
    }

    #[test]
    fn mounts_have_any_number_of_tags_and_perhaps_no_options() {
        let text = b"31 29 0:48 / / rw,relatime shared:1 master:2 - overlay overlay rw,upperdir=/a/diff,workdir=/w\n\
            garbage\n22 21 259:3 / /var/lib/my\\040disk rw - xfs /dev/nvme0n1p3\n";
        let mut found = Vec::new();
        let malformed = mounts(text, |mount| found.push(mount));
        let [overlay, disk] = &found[..] else { panic!("{found:?}") };
        assert_eq!((overlay.point, overlay.source), (&b"/"[..], &b"overlay"[..]));
        assert_eq!(overlay.option("upperdir"), Some(&b"/a/diff"[..]));
        assert_eq!((overlay.option("upper"), disk.option("upperdir")), (None, None));
        assert_eq!((disk.device, malformed), (Device { major: 259, minor: 3 }, 1));
        assert_eq!(unescape(disk.point), b"/var/lib/my disk");
        assert_eq!(unescape(br"\134040\9\04"), br"\040\9\04");
    }
}
