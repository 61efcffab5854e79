//! The data roots of the engines: below them the layers are. Found at start, as the walker reaches nothing else later.

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

/// Those that engines have by default: Docker, containerd, Podman.
const USUAL: [&str; 3] = ["/var/lib/docker", "/var/lib/containerd", "/var/lib/containers/storage"];
/// Where the host's files may be: here, where cAdvisor's mount has them, behind the host's first process (which takes
/// `CAP_SYS_PTRACE`).
const PREFIXES: [&str; 3] = ["", "/rootfs", "/proc/1/root"];
/// Data roots that are held at most, each of them where it was found.
const MAX_ROOTS: usize = 16;
/// Filesystems with project quotas, as `statfs` names them.
const XFS: FsWord = 0x5846_5342;
const EXT4: FsWord = 0xef53;
/// For an engine's answer.
const PATIENCE: Duration = Duration::from_secs(3);
const MAX_ANSWER: u64 = 1 << 20;

/// Returns the names of the data roots, as far as they can be found now: by the engines behind these sockets and by the host's mounts,
/// beside the usual ones.
pub(super) fn data_roots(procfs: &Path, engines: &[impl AsRef<Path>]) -> Vec<PathBuf> {
    let mounts = ["1/mountinfo", "self/mountinfo"].iter().find_map(|name| std::fs::read(procfs.join(name)).ok());
    let mut roots: Vec<PathBuf> = engines.iter().filter_map(|socket| ask(socket.as_ref())).collect();
    // Whoever listens there may name any directory.
    roots.retain(|root| holds_one_of(root, &LAYER_STORE));
    roots.extend(USUAL.iter().map(PathBuf::from));
    roots.extend(of_mounts(&mounts.unwrap_or_default()));
    roots.retain(|root| is_narrow(root));
    let mut seen = std::collections::HashSet::new();
    roots.retain(|root| seen.insert(root.clone()));
    roots.truncate(MAX_ROOTS);
    roots
}

/// Not all of the host, nor all that it has of one kind.
fn is_narrow(root: &Path) -> bool {
    root.is_absolute()
        && root.components().filter(|step| matches!(step, Component::Normal(_))).count() >= 2
        && !root.components().any(|step| step == Component::ParentDir)
}

/// `DockerRootDir` of `GET /info`.
fn ask(path: &Path) -> Option<PathBuf> {
    let end = Instant::now() + PATIENCE;
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).ok()?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE)).ok()?;
    connect(&socket, &SocketAddrUnix::new(path).ok()?).ok()?;
    let mut stream = UnixStream::from(socket);
    stream.write_all(b"GET /info HTTP/1.0\r\nHost: docker\r\n\r\n").ok()?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while (answer.len() as u64) < MAX_ANSWER {
        let left = end.saturating_duration_since(Instant::now());
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

/// What an engine has in its data root beside `overlay`, `overlay2` or another store of layers.
const LAYER_STORE: [&str; 3] = ["containers", "overlay-containers", "image"];

/// Returns whether a directory of the host has one of these directories, or may have one that cannot be seen: without
/// the right to see it nothing in it is listed, and that is the reason to be reported.
fn holds_one_of(root: &Path, marks: &[&str]) -> bool {
    PREFIXES.iter().any(|prefix| {
        let mut seen = PathBuf::from(prefix).into_os_string();
        seen.push(root);
        let seen = PathBuf::from(seen);
        let has = |mark: &&str| match seen.join(mark).metadata() {
            Ok(metadata) => metadata.is_dir(),
            Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
        };
        seen.is_dir() && marks.iter().any(has)
    })
}

/// By the writable layers of overlays that are mounted: `ROOT/overlay2/LAYER/diff`, or `ROOT/snapshots/NUMBER/fs`.
fn of_mounts(mountinfo: &[u8]) -> Vec<PathBuf> {
    let options = mountinfo.split(|byte| matches!(byte, b',' | b' ' | b'\n'));
    let layers = options.filter_map(|option| option.strip_prefix(b"upperdir="));
    let roots = layers.filter_map(|layer| {
        let layer = PathBuf::from(std::ffi::OsString::from_vec(layer.to_vec()));
        let root = layer.ancestors().nth(3)?;
        let is_root = match layer.file_name()?.as_bytes() {
            b"diff" => holds_one_of(root, &LAYER_STORE),
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

/// Returns those of the data roots that are seen here.
#[must_use]
pub fn visible_roots(procfs: &Path, engines: &[impl AsRef<Path>]) -> Vec<PathBuf> {
    let mut visible: Vec<PathBuf> =
        Roots::open(&data_roots(procfs, engines)).0.into_iter().map(|root| root.path).collect();
    visible.dedup();
    visible
}

/// The data roots that are seen, held open.
#[derive(Debug)]
pub(super) struct Roots(Vec<Root>);

#[derive(Debug)]
struct Root {
    /// As the host names it.
    path: PathBuf,
    directory: OwnedFd,
}

/// A directory to be summed up.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) directory: OwnedFd,
    /// What a project quota says is used, where the engine has set one.
    pub(super) quota_usage: Option<u64>,
}

impl Roots {
    /// Opens those that are there.
    pub(super) fn open(names: &[PathBuf]) -> Self {
        let mut roots: Vec<Root> = Vec::new();
        for path in names {
            for prefix in PREFIXES {
                let mut seen = PathBuf::from(prefix).into_os_string();
                seen.push(path);
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                if let Ok(directory) = openat(CWD, PathBuf::from(seen), flags, Mode::empty()) {
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

    /// Opens a directory below one of them, through no link.
    ///
    /// # Errors
    /// It is below none that is seen, or may not be listed.
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

    /// Only XFS and ext4 tell the limit of a project quota as the size of the filesystem, to whoever asks at a directory of the project: it
    /// has one where that size is another than at the data root. (Asking for the quota itself takes `CAP_SYS_ADMIN`.)
    fn quota_usage(&self, directory: &OwnedFd) -> Option<u64> {
        // The size of others, such as a ZFS pool, changes with what is free.
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
        // A directory of a user is none, whoever names it.
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
        assert_eq!(data_roots("/nonexistent".as_ref(), &["/nonexistent/socket"]).len(), USUAL.len());
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
