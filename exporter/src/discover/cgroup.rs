//! Cgroup trees and where this host has them mounted; cgroups as directories in a tree.
//!
//! Trees are found in the kernel's list of mounts; in a capture, or without procfs, by the names of directories and
//! files.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;

/// Version of the kernel interface that a tree has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// Documented in `Documentation/admin-guide/cgroup-v1/`.
    V1,
    /// Documented in `Documentation/admin-guide/cgroup-v2.rst`.
    V2,
}

/// A mounted cgroup tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tree {
    /// Where it is mounted.
    pub path: PathBuf,
    /// Its interface.
    pub version: Version,
}

/// Magic numbers of the kernel's cgroup file systems (`include/uapi/linux/magic.h`).
const CGROUP_SUPER_MAGIC: u64 = 0x0027_e0eb;
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

impl Tree {
    /// Returns whether the kernel serves the tree; false for a capture.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let magic = statfs(&self.path).map(|statistics| u64::try_from(statistics.f_type).unwrap_or(0));
        matches!(magic, Ok(CGROUP_SUPER_MAGIC | CGROUP2_SUPER_MAGIC))
    }
}

/// Returns the directory of the cgroup at `path` (from the root of its tree, with a leading slash) in the tree at
/// `root`.
pub(crate) fn directory(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Returns the id of a cgroup, the inode number of its directory. None if the cgroup does not exist.
pub(crate) fn id(root: &Path, path: &str) -> Option<u64> {
    fs::metadata(directory(root, path)).ok().map(|metadata| metadata.ino())
}

/// Returns whether a cgroup has no children. In cgroup file systems too, the link count of a directory is two plus the
/// number of its subdirectories. Reading the count costs less than listing a hundred files.
pub(crate) fn is_leaf(directory: &Metadata) -> bool {
    directory.nlink() == 2
}

/// A mount of a cgroup hierarchy in our mount namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Mount {
    /// Device number of the file system: one per v1 hierarchy, one for all of v2.
    device: u64,
    /// Where it is mounted.
    point: PathBuf,
    /// Its interface.
    version: Version,
    /// Controllers of a v1 hierarchy; empty for a named one and for v2.
    controllers: Vec<String>,
}

/// Reads the cgroup mounts from `/proc/self/mountinfo`; returns none if procfs cannot be read.
fn read_mounts() -> Vec<Mount> {
    parse_mountinfo(&fs::read("/proc/self/mountinfo").unwrap_or_default())
}

fn parse_mountinfo(mountinfo: &[u8]) -> Vec<Mount> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(parse_mount).collect()
}

/// Parses `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAGS] - TYPE SOURCE SUPER_OPTIONS`, as in `proc_pid_mountinfo(5)`.
/// Returns none for a mount of another file system.
fn parse_mount(line: &[u8]) -> Option<Mount> {
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

/// Returns the root of the host's v2 hierarchy, wherever it is mounted. The root is the one cgroup without
/// `cgroup.type`.
pub(crate) fn host_v2() -> Option<PathBuf> {
    let points = read_mounts().into_iter().filter(|mount| mount.version == Version::V2).map(|mount| mount.point);
    let is_root = |point: &PathBuf| point.join("cgroup.controllers").is_file() && !point.join("cgroup.type").exists();
    points.into_iter().find(is_root)
}

/// Returns the mount points below `root`, as paths that begin with `root` as the caller spells it.
fn mounts_below(mounts: &[Mount], root: &Path) -> impl Iterator<Item = PathBuf> {
    let canonical = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    mounts.iter().filter_map(move |mount| {
        let rest = mount.point.strip_prefix(&canonical).ok().filter(|rest| !rest.as_os_str().is_empty())?;
        Some(root.join(rest))
    })
}

/// A tree that was found, and its controllers if it is a v1 tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Candidate {
    pub(super) tree: Tree,
    controllers: Vec<String>,
}

/// The v1 controllers that the exporter reads. The names of their files begin with the controller and a dot.
const V1_CONTROLLERS: [&str; 6] = ["memory", "cpuacct", "cpu", "pids", "blkio", "hugetlb"];
/// Directory names of other v1 trees, which may have containers.
const OTHER_V1_TREES: [&str; 9] =
    ["systemd", "devices", "freezer", "cpuset", "perf_event", "net_cls", "net_prio", "rdma", "misc"];
/// Maximum number of directories of a captured tree whose files are listed.
const MAX_SAMPLED: usize = 256;

/// Finds the cgroup trees: `root` itself, or those below `root`.
///
/// # Errors
/// `root` cannot be listed.
pub(super) fn find_trees(root: &Path) -> io::Result<Vec<Candidate>> {
    let mounts = read_mounts();
    let mut paths = list_directories(root)?;
    if is_v2(root) || is_v1(root) {
        paths = vec![root.to_owned()];
    } else {
        // Mounts directly below the root are in the list already, and come first.
        paths.extend(mounts_below(&mounts, root));
    }
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for path in paths {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let mount = mounts.iter().find(|mount| mount.device == metadata.dev());
        // A hierarchy is one tree, even if it or a part of it is mounted several times.
        let identity = (metadata.dev(), if mount.is_some() { 0 } else { metadata.ino() });
        if seen.contains(&identity) {
            continue;
        }
        if let Some(candidate) = classify(path, mount) {
            seen.push(identity);
            found.push(candidate);
        }
    }
    Ok(found)
}

/// Returns the tree of a v1 controller: preferably the one whose directory is named after the controller.
pub(super) fn with_v1_controller(candidates: &[Candidate], controller: &str) -> Option<Tree> {
    let has = |candidate: &&Candidate| candidate.controllers.iter().any(|name| name == controller);
    let is_named = |candidate: &&Candidate| candidate.tree.path.file_name().is_some_and(|name| name == controller);
    let found = candidates.iter().filter(has).find(is_named).or_else(|| candidates.iter().find(has))?;
    Some(found.tree.clone())
}

/// Lists the directories directly below `root`. Symbolic links, such as `cpu` to `cpu,cpuacct`, come last.
fn list_directories(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries: Vec<(bool, PathBuf)> = fs::read_dir(root)?
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_type().ok()?.is_symlink(), entry.path())))
        .filter(|(_, path)| path.is_dir())
        .collect();
    entries.sort_unstable();
    Ok(entries.into_iter().map(|(_, path)| path).collect())
}

/// Returns the candidate at `path`, which is on `mount` if that is known. Returns none if `path` is no cgroup tree.
fn classify(path: PathBuf, mount: Option<&Mount>) -> Option<Candidate> {
    if is_v2(&path) {
        return Some(Candidate { tree: Tree { path, version: Version::V2 }, controllers: Vec::new() });
    }
    let controllers = match mount {
        Some(mount) if mount.version == Version::V1 => mount.controllers.clone(),
        Some(_) => return None,
        None => controllers_by_content(&path)?,
    };
    Some(Candidate { tree: Tree { path, version: Version::V1 }, controllers })
}

/// Returns the controllers of a v1 tree that the list of mounts does not show. Returns none if the directory is no
/// tree, such as the empty mount point of a tree that is not mounted.
fn controllers_by_content(path: &Path) -> Option<Vec<String>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut controllers: Vec<String> =
        name.split(',').filter(|part| V1_CONTROLLERS.contains(part)).map(str::to_owned).collect();
    let is_named = !controllers.is_empty() || name.split(',').any(|part| OTHER_V1_TREES.contains(&part));
    let has_entries = || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    if is_v1(path) || (is_named && has_entries()) {
        add_by_files(path, &mut controllers);
        return Some(controllers);
    }
    None
}

/// Adds the controllers that have files in the first cgroups of the tree. The root does not have files of every
/// controller.
fn add_by_files(tree: &Path, controllers: &mut Vec<String>) {
    let mut pending = VecDeque::from([tree.to_owned()]);
    for _ in 0..MAX_SAMPLED {
        let Some(directory) = pending.pop_front() else { break };
        for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push_back(entry.path());
                continue;
            }
            let name = entry.file_name();
            let stem = name.as_bytes().split(|byte| *byte == b'.').next().unwrap_or_default();
            if let Some(controller) = V1_CONTROLLERS.into_iter().find(|controller| controller.as_bytes() == stem)
                && !controllers.iter().any(|known| known == controller)
            {
                controllers.push(controller.to_owned());
            }
        }
    }
}

/// Returns whether a directory is the root of a v2 tree, or a cgroup of v2.
fn is_v2(path: &Path) -> bool {
    path.join("cgroup.controllers").is_file()
}

/// Returns whether a directory is a cgroup of v1, by its files.
fn is_v1(path: &Path) -> bool {
    let has = |name: &str| path.join(name).is_file();
    has("tasks") && !is_v2(path) && ["release_agent", "cgroup.procs", "notify_on_release"].into_iter().any(has)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Version, mounts_below, parse_mountinfo};

    const MOUNTINFO: &[u8] = b"25 30 0:23 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n\
        28 25 0:24 / /sys/fs/cgroup/my\\040tree rw,nosuid shared:10 master:2 - cgroup cgroup rw,memory,cpu,cpuacct\n\
        29 25 0:25 /docker/a /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        30 25 0:26 / /sys/fs/cgroup/deeper/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
        odd line\n";

    #[test]
    fn cgroup_mounts_are_read_with_their_controllers() {
        let mounts = parse_mountinfo(MOUNTINFO);
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
        let mounts = parse_mountinfo(
            b"1 1 0:1 / /does/not/exist/a rw - cgroup2 none rw\n1 1 0:1 / /does/not rw - cgroup2 none rw\n",
        );
        let found: Vec<PathBuf> = mounts_below(&mounts, Path::new("/does/not/exist")).collect();
        assert_eq!(found, [Path::new("/does/not/exist/a")]);
    }
}
