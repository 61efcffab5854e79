//! The values of `statvfs`, the path by which a filesystem is measured, and FUSE filesystems whose server stops answering.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::process::{Child, Command, Stdio};

use super::*;

/// Mounts a FUSE filesystem and makes it the root of the process. It answers until the process reads `hang`, and again after `answer`.
const SERVER: &str = r"
import ctypes, os, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
path = sys.argv[1]
fuse = os.open('/dev/fuse', os.O_RDWR)
options = 'fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other' % fuse
if libc.mount(b'test', path.encode(), b'fuse', 0, options.encode()):
    sys.exit('mount: ' + os.strerror(ctypes.get_errno()))
answering = threading.Event()
answering.set()
def serve():
    while True:
        request = os.read(fuse, 1 << 18)
        _, operation, unique = struct.unpack_from('<IIQ', request)
        answering.wait()
        error, answer = 0, b''
        if operation in (2, 36, 42):
            continue
        elif operation == 26:
            answer = struct.pack('<IIIIHHIIHHI28x', 7, 31, 0, 0, 12, 10, 1 << 16, 1, 16, 0, 0)
        elif operation == 3:
            answer = struct.pack('<QII6Q10I', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, 4096, 0)
        elif operation == 17:
            answer = struct.pack('<5Q4I24x', 1000, 500, 500, 70, 60, 4096, 255, 4096, 0)
        else:
            error = -38
        os.write(fuse, struct.pack('<IiQ', 16 + len(answer), error, unique) + answer)
threading.Thread(target=serve, daemon=True).start()
os.chroot(path)
print('ready', flush=True)
for line in sys.stdin:
    answering.clear() if line == 'hang\n' else answering.set()
    print('done', flush=True)
os._exit(0)
";

/// A process whose root is a FUSE filesystem.
struct Fuse {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
    _mount: tempfile::TempDir,
}

impl Fuse {
    fn start() -> Self {
        let mount = tempfile::tempdir().unwrap();
        let mut process = Command::new("unshare")
            .args(["--mount", "--propagation=private", "python3", "-c", SERVER])
            .arg(mount.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        let mut fuse = Self { process, said, _mount: mount };
        fuse.heard("ready\n");
        fuse
    }

    fn heard(&mut self, expected: &str) {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert_eq!(line, expected);
    }

    fn tell(&mut self, what: &str) {
        self.process.stdin.as_mut().unwrap().write_all(what.as_bytes()).unwrap();
        self.heard("done\n");
    }

    fn root(&self) -> Root {
        root(self.process.id())
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        self.process.kill().unwrap_or_default();
        self.process.wait().unwrap();
    }
}

fn root(pid: u32) -> Root {
    Root { process: Some(Arc::new(File::open(format!("/proc/{pid}")).unwrap())), layer: None, device: None }
}

fn own() -> Root {
    root(std::process::id())
}

/// Makes a pass over roots with these generations. Returns the number of inodes or the error of each; `WouldBlock` for a request
/// that was refused.
fn pass(threads: &StatfsThreads, roots: Vec<(u64, Root)>) -> Vec<Result<u64, ErrorKind>> {
    threads.begin();
    let mut came: Vec<Result<u64, ErrorKind>> = roots.iter().map(|_| Err(ErrorKind::NotFound)).collect();
    for (index, (generation, root)) in roots.into_iter().enumerate() {
        if !threads.request(Request { index, generation, target: Target::Root(root) }, false) {
            came[index] = Err(ErrorKind::WouldBlock);
        }
    }
    threads.answers(|index, answer| {
        assert_eq!(came[index], Err(ErrorKind::NotFound), "answered twice");
        came[index] = answer.map(|stats| stats.inodes.unwrap()).map_err(|error| error.kind());
    });
    came
}

#[test]
fn a_filesystem_that_hangs_costs_its_own_size_alone_until_it_answers() {
    let own_files = statvfs("/").unwrap().f_files;
    let mut fuse = Fuse::start();
    let threads = StatfsThreads::default();
    assert_eq!(pass(&threads, vec![(1, fuse.root()), (2, own())]), [Ok(70), Ok(own_files)]);
    fuse.tell("hang\n");
    assert_eq!(pass(&threads, vec![(1, fuse.root()), (2, own())]), [Err(ErrorKind::TimedOut), Ok(own_files)]);
    // It is not measured again, and the scrape does not wait for it.
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(pass(&threads, vec![(1, fuse.root()), (2, own())]), [Err(ErrorKind::WouldBlock), Ok(own_files)]);
    }
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    fuse.tell("answer\n");
    let limit = Instant::now() + Duration::from_mins(1);
    while pass(&threads, vec![(1, fuse.root()), (2, own())]) != [Ok(70), Ok(own_files)] {
        assert!(Instant::now() < limit, "it has not recovered");
    }
}

#[test]
fn many_that_hang_take_a_bounded_number_of_threads_and_of_time() {
    let mut all: Vec<Fuse> = (0..MAX_THREADS + 3).map(|_| Fuse::start()).collect();
    for fuse in &mut all {
        fuse.tell("hang\n");
    }
    let threads = StatfsThreads::default();
    for _ in 0..10 {
        let started = Instant::now();
        let mut roots: Vec<(u64, Root)> =
            (10..).zip(&all).map(|(generation, fuse)| (generation, fuse.root())).collect();
        roots.push((1, own()));
        let came = pass(&threads, roots);
        assert!(came.iter().rev().skip(1).all(Result::is_err), "{came:?}");
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        assert!(threads.0.state().threads <= MAX_THREADS);
    }
    assert_eq!(threads.0.state().running.len(), MAX_THREADS);
    for fuse in &mut all {
        fuse.tell("answer\n");
    }
    let limit = Instant::now() + Duration::from_mins(1);
    while pass(&threads, vec![(1, own())])[0].is_err() || threads.0.state().threads > 1 {
        assert!(Instant::now() < limit, "the threads have not come back");
    }
}

#[test]
fn a_process_that_has_changed_its_root_speaks_for_no_other_container() {
    let size = |path: &str| FsStats::new(&statvfs(path).unwrap()).bytes;
    assert_ne!(size("/"), size("/proc"));
    let root = |device| Root {
        // Of another filesystem than the layer.
        process: Some(Arc::new(File::open("/proc/self").unwrap())),
        layer: Some("/proc".into()),
        device,
    };
    let shared = root(Some(Device { major: 8, minor: 1 })).measure().unwrap();
    assert_eq!(shared.bytes, size("/proc"), "by the layer");
    assert_eq!(root(None).measure().unwrap().bytes, size("/"), "its own alone");
}

#[test]
fn figures_are_bytes_and_inodes_and_no_inodes_are_none() {
    let mut statistics = statvfs("/").unwrap();
    (statistics.f_blocks, statistics.f_bfree, statistics.f_frsize) = (10, 4, 4096);
    (statistics.f_files, statistics.f_ffree) = (7, 3);
    let values = |statistics: &StatVfs| {
        let facts = [DiskFact::Usage, DiskFact::Limit, DiskFact::Inodes, DiskFact::InodesFree];
        facts.map(|fact| FsStats::new(statistics).get(fact))
    };
    assert_eq!(values(&statistics), [Some(24_576), Some(40_960), Some(7), Some(3)]);
    statistics.f_files = 0;
    assert_eq!(values(&statistics), [Some(24_576), Some(40_960), None, None]);
}
