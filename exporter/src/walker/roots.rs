//! The engines' data roots, the directories that hold the layers. They are found and opened at start, since the confined
//! walker reaches nothing else later.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FsWord, Mode, OFlags, fstatfs, fstatvfs, openat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket, sockopt};

use super::protocol::Failure;
use super::walk::failure;

/// The default data roots of Docker, containerd and Podman.
const DEFAULT_ROOTS: [&str; 3] = ["/var/lib/docker", "/var/lib/containerd", "/var/lib/containers/storage"];
/// Where the host's filesystem may be mounted: at `/`, at `/rootfs` as cAdvisor's instructions mount it, or behind the
/// host's init process, which takes `CAP_SYS_PTRACE`.
const PREFIXES: [&str; 3] = ["", "/rootfs", "/proc/1/root"];
/// Greatest number of data roots.
const MAX_ROOTS: usize = 16;
/// `f_type` of the filesystems with project quotas (`include/uapi/linux/magic.h`).
const XFS: FsWord = 0x5846_5342;
const EXT4: FsWord = 0xef53;
/// Timeout of an engine's answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Greatest length of an engine's answer in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// Directories of which an engine's data root has one, beside its store of layers.
const ENGINE_DIRECTORIES: [&str; 3] = ["containers", "overlay-containers", "image"];

/// Returns the host's paths of the data roots: the engines' own answers, the default ones, and those of mounted overlays.
pub(super) fn data_roots(procfs: &Path, engines: &[impl AsRef<Path>]) -> Vec<PathBuf> {
    let mounts = ["1/mountinfo", "self/mountinfo"].iter().find_map(|name| std::fs::read(procfs.join(name)).ok());
    let mut roots: Vec<PathBuf> = engines.iter().filter_map(|socket| ask(socket.as_ref())).collect();
    // The process that listens at the socket could name any directory.
    roots.retain(|root| holds_one_of(root, &ENGINE_DIRECTORIES));
    roots.extend(DEFAULT_ROOTS.iter().map(PathBuf::from));
    roots.extend(of_mounts(&mounts.unwrap_or_default()));
    roots.retain(|root| is_narrow(root));
    let mut seen = std::collections::HashSet::new();
    roots.retain(|root| seen.insert(root.clone()));
    roots.truncate(MAX_ROOTS);
    roots
}

/// Returns whether a path is absolute, free of `..` and at least two levels deep, unlike `/` or `/var`.
fn is_narrow(root: &Path) -> bool {
    root.is_absolute()
        && root.components().filter(|step| matches!(step, Component::Normal(_))).count() >= 2
        && !root.components().any(|step| step == Component::ParentDir)
}

/// Returns `DockerRootDir` of an engine's `GET /info`.
fn ask(path: &Path) -> Option<PathBuf> {
    let deadline = Instant::now() + TIMEOUT;
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).ok()?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(TIMEOUT)).ok()?;
    connect(&socket, &SocketAddrUnix::new(path).ok()?).ok()?;
    let mut stream = UnixStream::from(socket);
    stream.write_all(b"GET /info HTTP/1.0\r\nHost: docker\r\n\r\n").ok()?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while answer.len() < MAX_ANSWER {
        let left = deadline.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left).filter(|left| !left.is_zero())).ok()?;
        match stream.read(&mut buffer).ok().filter(|_| !left.is_zero())? {
            0 => break,
            length => answer.extend(buffer.get(..length)?),
        }
    }
    root_of(&answer)
}

fn root_of(answer: &[u8]) -> Option<PathBuf> {
    let text = std::str::from_utf8(answer).ok()?;
    let (_, rest) = text.split_once("\"DockerRootDir\":\"")?;
    let (root, _) = rest.split_once('"')?;
    (!root.contains('\\')).then(|| root.into())
}

/// Returns whether a directory of the host has one of these subdirectories. Denied access counts as yes, so that the walk
/// later reports the reason.
fn holds_one_of(root: &Path, names: &[&str]) -> bool {
    visible_paths(root).any(|seen| {
        let has = |name: &&str| match seen.join(name).metadata() {
            Ok(metadata) => metadata.is_dir(),
            Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
        };
        seen.is_dir() && names.iter().any(has)
    })
}

/// Returns where a path of the host may be visible in this process.
fn visible_paths(path: &Path) -> impl Iterator<Item = PathBuf> {
    PREFIXES.iter().map(move |prefix| {
        let mut seen = OsString::from(prefix);
        seen.push(path);
        seen.into()
    })
}

/// Returns the data roots of the writable layers in mounted overlays: `ROOT/overlay2/LAYER/diff` or
/// `ROOT/snapshots/NUMBER/fs`.
fn of_mounts(mountinfo: &[u8]) -> Vec<PathBuf> {
    let options = mountinfo.split(|byte| matches!(byte, b',' | b' ' | b'\n'));
    let layers = options.filter_map(|option| option.strip_prefix(b"upperdir="));
    let roots = layers.filter_map(|layer| {
        let layer = PathBuf::from(OsString::from_vec(layer.to_vec()));
        let root = layer.ancestors().nth(3)?;
        let is_root = match layer.file_name()?.as_bytes() {
            b"diff" => holds_one_of(root, &ENGINE_DIRECTORIES),
            b"fs" => holds_one_of(root, &["snapshots"]),
            _ => false,
        };
        is_root.then(|| root.to_owned())
    });
    let mut roots: Vec<PathBuf> = roots.collect();
    roots.sort_unstable();
    roots.dedup();
    roots
}

/// Returns the data roots that are visible to this process, by their paths on the host.
#[must_use]
pub fn visible_roots(procfs: &Path, engines: &[impl AsRef<Path>]) -> Vec<PathBuf> {
    let mut visible: Vec<PathBuf> =
        Roots::open(&data_roots(procfs, engines)).0.into_iter().map(|root| root.path).collect();
    visible.dedup();
    visible
}

/// The visible data roots, held open.
#[derive(Debug)]
pub(super) struct Roots(Vec<Root>);

#[derive(Debug)]
struct Root {
    /// Path on the host.
    path: PathBuf,
    directory: OwnedFd,
}

/// An open directory that is to be measured.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) directory: OwnedFd,
    /// Bytes in use according to the project quota, if the engine has set one.
    pub(super) quota_usage: Option<u64>,
}

impl Roots {
    /// Opens each path under every prefix where it exists.
    pub(super) fn open(names: &[PathBuf]) -> Self {
        let mut roots: Vec<Root> = Vec::new();
        for path in names {
            for seen in visible_paths(path) {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                if let Ok(directory) = openat(CWD, seen, flags, Mode::empty()) {
                    roots.push(Root { path: path.clone(), directory });
                }
            }
        }
        Self(roots)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|root| root.directory.as_fd())
    }

    /// Opens a directory below one of the data roots without following symbolic links.
    ///
    /// # Errors
    /// The directory is below no visible data root, or may not be listed.
    pub(super) fn find(&self, path: &Path) -> Result<Found, Failure> {
        let mut worst = Failure::NotVisible;
        for root in &self.0 {
            let Ok(below) = path.strip_prefix(&root.path) else { continue };
            match root.find(below) {
                Ok(found) => return Ok(found),
                Err(Failure::NotVisible) => {}
                Err(failure) => worst = failure,
            }
        }
        Err(worst)
    }
}

impl Root {
    fn find(&self, below: &Path) -> Result<Found, Failure> {
        let steps: Vec<_> = below.components().collect();
        let (last, above) = steps.split_last().ok_or(Failure::NotVisible)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |directory: BorrowedFd<'_>, step: &Component<'_>, how| {
            openat(directory, step.as_os_str(), flags | how, Mode::empty()).map_err(failure)
        };
        let mut parent: Option<OwnedFd> = None;
        for step in above {
            parent = Some(open(parent.as_ref().map_or(self.directory.as_fd(), AsFd::as_fd), step, OFlags::PATH)?);
        }
        let directory = open(parent.as_ref().map_or(self.directory.as_fd(), AsFd::as_fd), last, OFlags::RDONLY)?;
        let quota_usage = self.quota_usage(&directory);
        Ok(Found { directory, quota_usage })
    }

    /// Returns the bytes in use by the directory's project quota. XFS and ext4 report the limit of a project as the size
    /// of the filesystem to `statfs` at the project's directory, so a quota exists if that size is below the data root's.
    /// (A query of the quota itself takes `CAP_SYS_ADMIN`.)
    fn quota_usage(&self, directory: &OwnedFd) -> Option<u64> {
        // The size of other filesystems, such as a ZFS dataset, changes with the free space.
        if !matches!(fstatfs(directory).ok()?.f_type, XFS | EXT4) {
            return None;
        }
        let (whole, part) = (fstatvfs(&self.directory).ok()?, fstatvfs(directory).ok()?);
        let has_quota = whole.f_fsid == part.f_fsid && part.f_blocks < whole.f_blocks;
        has_quota.then(|| part.f_blocks.saturating_sub(part.f_bfree).saturating_mul(part.f_frsize))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_data_root_is_narrow_and_known_by_its_layers() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("data");
        std::fs::create_dir_all(root.join("containers")).unwrap();
        let mounts = format!(
            "1 2 0:5 / {0}/overlay2/ab/merged rw - overlay overlay rw,lowerdir=/l,upperdir={0}/overlay2/ab/diff,workdir=/w\n\
             1 2 0:5 / /other rw - overlay overlay rw,upperdir=/x/y/diff\n",
            root.display()
        );
        assert_eq!(of_mounts(mounts.as_bytes()), std::slice::from_ref(&root));
        let answer =
            format!("HTTP/1.0 200 OK\r\n\r\n{{\"ID\":\"x\",\"DockerRootDir\":\"{}\",\"A\":1}}", root.display());
        assert_eq!(root_of(answer.as_bytes()).as_deref(), Some(&*root));
        // A user's directory is not accepted as a data root.
        let socket = directory.path().join("engine");
        let engine = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let named = |root: &Path| {
            let answer = format!("HTTP/1.0 200 OK\r\n\r\n{{\"DockerRootDir\":\"{}\"}}", root.display());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut stream, _) = engine.accept().unwrap();
                    assert!(stream.read(&mut [0; 256]).unwrap() > 0);
                    stream.write_all(answer.as_bytes()).unwrap();
                });
                data_roots("/nonexistent".as_ref(), &[&socket]).contains(&root.to_owned())
            })
        };
        assert!(named(&root) && !named(&root.join("containers")));
        for wide in ["/", "/var", "relative/a/b", "/a/../b/c"] {
            assert!(!is_narrow(wide.as_ref()), "{wide}");
        }
        assert_eq!(data_roots("/nonexistent".as_ref(), &["/nonexistent/socket"]).len(), DEFAULT_ROOTS.len());
    }

    #[test]
    fn nothing_but_what_is_below_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("data");
        std::fs::create_dir_all(root.join("overlay2/ab/diff")).unwrap();
        std::fs::write(root.join("overlay2/file"), "x").unwrap();
        symlink("/etc", root.join("overlay2/link")).unwrap();
        symlink("overlay2", root.join("inner")).unwrap();
        let roots = Roots::open(&[root.clone(), directory.path().join("absent")]);
        assert_eq!(roots.len(), 1);
        assert!(roots.find(&root.join("overlay2/ab/diff")).is_ok());
        for path in ["overlay2/link", "overlay2/link/ssl", "inner/ab", "overlay2/file", "gone", ""] {
            assert_eq!(roots.find(&root.join(path)).map(drop), Err(Failure::NotVisible), "{path}");
        }
        assert_eq!(roots.find("/etc/ssl".as_ref()).map(drop), Err(Failure::NotVisible));
    }
}
