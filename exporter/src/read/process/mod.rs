//! A process of a container, through which its network namespace is read; and counts of open files and sockets of processes.

mod listing;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, openat};

use crate::metrics::ProcessFact;
use crate::read::files::format::{lines, number, words};
use crate::read::files::open_files::FdPermit;

/// A process, held by its open directory in procfs. After its end nothing can be read through the directory, even if the process
/// number is used again.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its number in the pid namespace of procfs.
    pub pid: u32,
    directory: Arc<File>,
    path: PathBuf,
    /// The permit to keep the directory open from pass to pass.
    pub permit: Option<FdPermit>,
    /// Number of visits until it is checked again whether the process is in the host's network namespace; none if it was in
    /// another one at the last check.
    pub host_netns_visits: Option<u64>,
}

/// Identity of a network namespace.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct NetnsId(u64);

impl Process {
    /// Opens process `pid` if it is in the container at this cgroup path, and not in a container within that.
    ///
    /// In a capture (not `live`) a process without a `cgroup` file is accepted.
    ///
    /// # Errors
    /// The system's error, or `NotFound` if the process is in another cgroup.
    pub(crate) fn open(procfs: &Path, pid: u32, container: &str, live: bool) -> io::Result<Self> {
        let path = procfs.join(pid.to_string());
        let process =
            Self { pid, directory: Arc::new(File::open(&path)?), path, permit: None, host_netns_visits: None };
        match process.open_file("cgroup") {
            Ok(mut file) => {
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                if !is_in(&text, container) {
                    return Err(io::ErrorKind::NotFound.into());
                }
            }
            Err(error) if live => return Err(error),
            Err(_) => {}
        }
        Ok(process)
    }

    /// Opens a file in the directory of the process.
    ///
    /// # Errors
    /// The system's error: `ESRCH` or `ENOENT` after the end of the process.
    pub(crate) fn open_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(openat(&self.directory, name, flags, Mode::empty())?.into())
    }

    /// Returns the open directory.
    pub(crate) fn directory(&self) -> &Arc<File> {
        &self.directory
    }

    /// Returns the network namespace that an open `net/dev` shows.
    ///
    /// The kernel has one `/proc/PID/net` tree per namespace, so that the inode of a file in it identifies the namespace. Reading
    /// it does not need the right to trace the process, as `/proc/PID/ns/net` does. In a capture that link identifies it.
    pub(crate) fn namespace(&self, net_dev: &File, live: bool) -> Option<NetnsId> {
        namespace(&self.path, net_dev, live)
    }
}

/// Returns whether the text of `/proc/PID/cgroup` belongs to a process of the container at this path.
///
/// Paths are compared by the container ids in them, from the outermost to the innermost, because they begin differently in a cgroup
/// namespace of the exporter's own. A process in a nested container, or in a cgroup that is named like one, belongs to that.
fn is_in(cgroups: &str, container: &str) -> bool {
    let paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    ids(container).next().is_some() && paths.into_iter().any(|path| ids(path).eq(ids(container)))
}

/// Returns the container ids in a cgroup path: runs of 64 hex digits.
fn ids(path: &str) -> impl Iterator<Item = &str> {
    path.split(|character: char| !character.is_ascii_hexdigit()).filter(|run| run.len() == 64)
}

/// Returns the network namespace of process 1, which is the host's.
#[must_use]
pub(crate) fn host_namespace(procfs: &Path, live: bool) -> Option<NetnsId> {
    let init = procfs.join("1");
    let net_dev = File::open(init.join("net/dev")).ok()?;
    namespace(&init, &net_dev, live)
}

fn namespace(process: &Path, net_dev: &File, live: bool) -> Option<NetnsId> {
    if live {
        return net_dev.metadata().ok().map(|metadata| NetnsId(metadata.ino()));
    }
    let link = fs::read_link(process.join("ns/net")).ok()?;
    let text = link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?;
    number(text.as_bytes()).map(NetnsId)
}

/// Sums up a fact over processes. A process that has ended counts 0. Returns none if there is no limit, if no process is found, or if
/// one of them is in a pid namespace that procfs does not show (its number is 0).
///
/// # Errors
/// The error of the first process that cannot be read, because a sum without it would be wrong. Reading sockets of other users'
/// processes needs `CAP_SYS_PTRACE`, and `CAP_DAC_READ_SEARCH` without root.
pub(crate) fn count_processes(procfs: &Path, pids: &[u32], fact: ProcessFact, live: bool) -> io::Result<Option<u64>> {
    let Some(first) = pids.first().filter(|_| !pids.contains(&0)) else { return Ok(None) };
    let counts: fn(&Path) -> io::Result<bool> = match fact {
        ProcessFact::FileDescriptors => |_| Ok(true),
        ProcessFact::Sockets => is_socket,
        ProcessFact::OpenFilesLimit => {
            return Ok(unless_gone(fs::read(procfs.join(first.to_string()).join("limits")))?
                .as_deref()
                .and_then(open_files));
        }
    };
    pids.iter().try_fold(None, |sum: Option<u64>, pid| {
        let directory = procfs.join(pid.to_string()).join("fd");
        let size = if live && fact == ProcessFact::FileDescriptors { size(&directory)? } else { None };
        let counted = if size.is_some() { size } else { descriptors(directory, counts)? };
        Ok(counted.map(|counted| counted + sum.unwrap_or(0)).or(sum))
    })
}

/// Returns the size of an `fd` directory, which is the number of descriptors since Linux 6.2, and needs no privilege to read. None
/// on earlier kernels, where it is 0.
fn size(directory: &Path) -> io::Result<Option<u64>> {
    Ok(unless_gone(fs::metadata(directory))?.map(|directory| directory.len()).filter(|size| *size > 0))
}

/// Counts the descriptors in an `fd` directory that `counts` accepts. None if the process has ended.
fn descriptors(directory: PathBuf, counts: fn(&Path) -> io::Result<bool>) -> io::Result<Option<u64>> {
    let Some(entries) = unless_gone(fs::read_dir(directory))? else { return Ok(None) };
    let mut count = 0;
    for entry in entries.filter_map(Result::ok) {
        count += u64::from(counts(&entry.path())?);
    }
    Ok(Some(count))
}

/// Returns whether a descriptor is a socket. One that was closed in the meantime is not, and in a capture neither is a plain file.
fn is_socket(descriptor: &Path) -> io::Result<bool> {
    match unless_gone(fs::read_link(descriptor)) {
        Ok(target) => Ok(target.is_some_and(|target| target.to_string_lossy().starts_with("socket:"))),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(false),
        Err(error) => Err(error),
    }
}

/// Turns the error of a process that has ended into none.
fn unless_gone<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the soft limit in the text of `/proc/PID/limits`; none for `unlimited`.
fn open_files(limits: &[u8]) -> Option<u64> {
    let line = lines(limits).find_map(|line| line.strip_prefix(b"Max open files"))?;
    number(words(line).next()?)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::{Process, ProcessFact, count_processes};

    #[test]
    fn a_process_of_another_cgroup_is_refused() {
        let path = format!("/docker/{}", "0123456789abcdef".repeat(4));
        let error = Process::open("/proc".as_ref(), std::process::id(), &path, true).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }

    #[test]
    fn a_process_belongs_to_the_innermost_container_in_its_path() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let text = |path: &str| format!("12:pids:/user.slice\n0::{path}\n");
        for (path, container, expected) in [
            (format!("/docker/{a}"), format!("/docker/{a}"), true),
            (format!("/docker/{a}/init.scope"), format!("/docker/{a}"), true),
            (format!("/../{a}"), format!("/docker/{a}"), true),
            (format!("/docker/{a}/docker/{b}"), format!("/docker/{a}/docker/{b}"), true),
            (format!("/docker/{a}/docker/{b}"), format!("/docker/{a}"), false),
            (format!("/docker/{b}/docker/{a}"), format!("/docker/{a}"), false),
            (format!("/system.slice/docker-{a}.scope"), format!("/system.slice/docker-{a}.scope"), true),
            (format!("/docker/{a}0"), format!("/docker/{a}"), false),
            ("/".to_owned(), format!("/docker/{a}"), false),
            ("/".to_owned(), "/".to_owned(), false),
        ] {
            assert_eq!(super::is_in(&text(&path), &container), expected, "{path} {container}");
        }
    }

    #[test]
    fn a_dead_process_reads_nothing_whoever_gets_its_number() {
        let mut child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
        let path = std::path::PathBuf::from("/proc").join(child.id().to_string());
        let process = Process {
            pid: child.id(),
            directory: std::sync::Arc::new(std::fs::File::open(&path).unwrap()),
            path,
            permit: None,
            host_netns_visits: None,
        };
        assert!(process.open_file("net/dev").is_ok());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(process.open_file("net/dev").is_err());
    }

    #[test]
    fn a_live_process_has_as_many_descriptors_as_are_listed() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let pids = [child.id()];
        // Those of our own that are not for it are gone once it runs its program.
        let listed = || std::fs::read_dir(format!("/proc/{}/fd", pids[0])).unwrap().count() as u64;
        while std::fs::read(format!("/proc/{}/cmdline", pids[0])).unwrap() != b"sleep\x0060\0" {
            std::thread::yield_now();
        }
        let count = |live| count_processes("/proc".as_ref(), &pids, ProcessFact::FileDescriptors, live).unwrap();
        assert!(listed() >= 3);
        assert_eq!([count(true), count(false)], [Some(listed()); 2]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(count(true), None);
    }

    #[test]
    fn descriptors_are_counted_and_an_ended_process_counts_for_nothing() {
        let procfs = tempfile::tempdir().unwrap();
        let process = procfs.path().join("7");
        std::fs::create_dir_all(process.join("fd")).unwrap();
        for (number, target) in [("0", "/dev/null"), ("1", "socket:[12]"), ("2", "socket:[13]")] {
            std::os::unix::fs::symlink(target, process.join("fd").join(number)).unwrap();
        }
        std::fs::write(process.join("limits"), "Limit  Soft Limit\nMax open files  1024  4096  files\n").unwrap();
        let count = |fact| count_processes(procfs.path(), &[7, 8], fact, false).unwrap();
        assert_eq!(count(ProcessFact::FileDescriptors), Some(3));
        assert_eq!(count(ProcessFact::Sockets), Some(2));
        assert_eq!(count(ProcessFact::OpenFilesLimit), Some(1024));
        let count_of =
            |pids: &[u32]| count_processes(procfs.path(), pids, ProcessFact::FileDescriptors, false).unwrap();
        assert_eq!([count_of(&[7, 0]), count_of(&[0]), count_of(&[8])], [None; 3], "not measured is no 0");
        std::fs::write(process.join("limits"), "Max open files  unlimited  unlimited  files\n").unwrap();
        assert_eq!(count(ProcessFact::OpenFilesLimit), None);
    }

    #[test]
    fn a_process_that_cannot_be_looked_into_is_no_zero() {
        let procfs = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(procfs.path().join("7")).unwrap();
        std::fs::write(procfs.path().join("7/fd"), "no directory").unwrap();
        assert!(count_processes(procfs.path(), &[7], ProcessFact::FileDescriptors, false).is_err());
    }
}
