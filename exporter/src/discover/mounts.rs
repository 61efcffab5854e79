//! The mounted cgroup hierarchies, from `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::Version;

/// A mount of a cgroup hierarchy in our mount namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mount {
    /// Device number of the file system: one per v1 hierarchy, one for all of v2.
    pub(super) device: u64,
    /// Where it is mounted.
    pub(super) point: PathBuf,
    /// Its interface.
    pub(super) version: Version,
    /// Controllers of a v1 hierarchy; empty for a named one and for v2.
    pub(super) controllers: Vec<String>,
}

/// Reads the mounts. Empty if procfs cannot be read: then trees are recognised by names and files alone.
pub(super) fn read() -> Vec<Mount> {
    parse(&fs::read("/proc/self/mountinfo").unwrap_or_default())
}

fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAGS] - TYPE SOURCE SUPER_OPTIONS`, see `proc_pid_mountinfo(5)`.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (major, minor) = std::str::from_utf8(fields.nth(2)?).ok()?.split_once(':')?;
    let device = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
    let point = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let mut file_system = fields.skip_while(|field| *field != b"-").skip(1);
    let version = match file_system.next()? {
        b"cgroup" => Version::V1,
        b"cgroup2" => Version::V2,
        _ => return None,
    };
    let options = file_system.nth(1).unwrap_or_default().split(|byte| *byte == b',');
    let controllers = match version {
        Version::V1 => options.map(|option| String::from_utf8_lossy(option).into_owned()).collect(),
        Version::V2 => Vec::new(),
    };
    Some(Mount { device, point, version, controllers })
}

/// Decodes the octal escapes of a field of `mountinfo`: blank, tab, newline and backslash are written as `\ooo`.
pub(crate) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.first_chunk::<3>().filter(|digits| *first == b'\\' && digits.iter().all(u8::is_ascii_digit));
        let code = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    plain
}

/// Returns the root of the host's v2 hierarchy, wherever it is mounted. Every other cgroup has a `cgroup.type`.
pub(crate) fn host_v2() -> Option<PathBuf> {
    let points = read().into_iter().filter(|mount| mount.version == Version::V2).map(|mount| mount.point);
    let is_root = |point: &PathBuf| point.join("cgroup.controllers").is_file() && !point.join("cgroup.type").exists();
    points.into_iter().find(is_root)
}

/// Returns the mounts below `root`, as paths that begin with `root` as it was spelled.
pub(super) fn below(mounts: &[Mount], root: &Path) -> impl Iterator<Item = PathBuf> {
    let canonical = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    mounts.iter().filter_map(move |mount| {
        let rest = mount.point.strip_prefix(&canonical).ok().filter(|rest| !rest.as_os_str().is_empty())?;
        Some(root.join(rest))
    })
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Version, below, parse};

    const MOUNTINFO: &[u8] = b"25 30 0:23 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n\
        28 25 0:24 / /sys/fs/cgroup/my\\040tree rw,nosuid shared:10 master:2 - cgroup cgroup rw,memory,cpu,cpuacct\n\
        29 25 0:25 /docker/a /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        30 25 0:26 / /sys/fs/cgroup/deeper/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
        odd line\n";

    #[test]
    fn cgroup_mounts_are_read_with_their_controllers() {
        let mounts = parse(MOUNTINFO);
        let found: Vec<(&Path, Version)> = mounts.iter().map(|mount| (&*mount.point, mount.version)).collect();
        let expected = [("my tree", Version::V1), ("systemd", Version::V1), ("deeper/unified", Version::V2)];
        assert_eq!(found.len(), 3);
        for ((point, version), (name, expected)) in found.into_iter().zip(expected) {
            assert_eq!((point, version), (&*Path::new("/sys/fs/cgroup").join(name), expected));
        }
        assert_eq!(mounts[0].device, rustix::fs::makedev(0, 24));
        assert!(["memory", "cpu", "cpuacct"].iter().all(|name| mounts[0].controllers.iter().any(|has| has == name)));
    }

    #[test]
    fn mounts_below_a_root_keep_its_spelling() {
        let mounts =
            parse(b"1 1 0:1 / /does/not/exist/a rw - cgroup2 none rw\n1 1 0:1 / /does/not rw - cgroup2 none rw\n");
        let found: Vec<PathBuf> = below(&mounts, Path::new("/does/not/exist")).collect();
        assert_eq!(found, [Path::new("/does/not/exist/a")]);
    }
}
