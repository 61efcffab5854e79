//! Tests of the sandbox. Each test enters it with a thread of its own.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command as Program;
use std::thread;

use libc::{c_int, c_long};
use rustix::net::{AddressFamily, Protocol, SocketType, socket};

use super::{Needs, Sandbox};
use crate::config::{Command, Config, DockerEndpoint, FeatureMode};

fn config() -> Config {
    match Config::from([], |_| None) {
        Ok(Command::Serve(config)) => *config,
        other => panic!("{other:?}"),
    }
}

/// Returns what `look` returns inside the sandbox.
fn inside<T: Send + 'static>(config: &Config, look: impl FnOnce(&Sandbox) -> T + Send + 'static) -> T {
    let needs = Needs::of(config, true);
    thread::spawn(move || look(&Sandbox::enter(FeatureMode::Auto, &needs).unwrap())).join().unwrap()
}

/// Makes a system call that std has no function for.
#[expect(unsafe_code, reason = "calls that are to be refused have no safe form")]
fn call(number: c_long, arguments: [c_long; 4]) -> io::Result<()> {
    let [a, b, c, d] = arguments;
    // SAFETY: each of these is refused; where it is not, its arguments are null pointers, closed descriptors or numbers.
    match unsafe { libc::syscall(number, a, b, c, d) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn flags(bits: c_int) -> c_long {
    bits.into()
}

#[test]
fn nothing_is_written_run_connected_traced_or_loaded() {
    type Attempt = (&'static str, fn() -> io::Result<()>);
    let attempts: Vec<Attempt> = vec![
        ("open for writing", || OpenOptions::new().write(true).open("/dev/null").map(drop)),
        ("open for both", || OpenOptions::new().read(true).write(true).open("/dev/null").map(drop)),
        ("create", || File::create("/tmp/made-inside").map(drop)),
        ("mkdir", || fs::create_dir("/tmp/made-inside")),
        ("unlink", || fs::remove_file("/tmp/not-there")),
        ("rename", || fs::rename("/tmp/not-there", "/tmp/made-inside")),
        ("truncate", || call(libc::SYS_truncate, [0; 4])),
        ("run a program", || Program::new("/bin/true").spawn().map(drop)),
        ("execve", || call(libc::SYS_execve, [0; 4])),
        ("clone a process", || call(libc::SYS_clone, [flags(libc::SIGCHLD), 0, 0, 0])),
        ("clone3", || call(libc::SYS_clone3, [0; 4])),
        ("memfd_create", || call(libc::SYS_memfd_create, [0; 4])),
        ("mmap for code", || {
            call(libc::SYS_mmap, [0, 4096, flags(libc::PROT_EXEC), flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)])
        }),
        ("mprotect for code", || call(libc::SYS_mprotect, [0, 0, flags(libc::PROT_EXEC), 0])),
        ("connect to a port", || TcpStream::connect("127.0.0.1:9").map(drop)),
        ("a datagram socket", || UdpSocket::bind("127.0.0.1:0").map(drop)),
        ("MPTCP", || call(libc::SYS_socket, [flags(libc::AF_INET), flags(libc::SOCK_STREAM), 262, 0])),
        ("a packet socket", || call(libc::SYS_socket, [flags(libc::AF_PACKET), flags(libc::SOCK_RAW), 0, 0])),
        ("netfilter's netlink", || call(libc::SYS_socket, [flags(libc::AF_NETLINK), flags(libc::SOCK_RAW), 12, 0])),
        ("listen", || call(libc::SYS_listen, [-1, 0, 0, 0])),
        ("connect by sending", || call(libc::SYS_sendto, [-1, 0, 0, flags(libc::MSG_FASTOPEN)])),
        ("load a program into the kernel", || call(libc::SYS_bpf, [5, 0, 0, 0])),
        ("make a table in the kernel", || call(libc::SYS_bpf, [0, 0, 0, 0])),
        ("perf_event_open", || call(libc::SYS_perf_event_open, [0; 4])),
        ("io_uring_setup", || call(libc::SYS_io_uring_setup, [0; 4])),
        ("ptrace", || call(libc::SYS_ptrace, [16, 1, 0, 0])),
        ("process_vm_readv", || call(libc::SYS_process_vm_readv, [1, 0, 0, 0])),
        ("pidfd_open", || call(libc::SYS_pidfd_open, [1, 0, 0, 0])),
        ("kill", || call(libc::SYS_kill, [1, 0, 0, 0])),
        ("tgkill of another process", || call(libc::SYS_tgkill, [1, 1, 0, 0])),
        ("mount", || call(libc::SYS_mount, [0; 4])),
        ("setns", || call(libc::SYS_setns, [-1, 0, 0, 0])),
        ("unshare", || call(libc::SYS_unshare, [flags(libc::CLONE_NEWUSER), 0, 0, 0])),
        ("setuid", || call(libc::SYS_setuid, [0; 4])),
        ("raise a limit", || call(libc::SYS_prlimit64, [0, 7, 4096, 0])),
        ("prctl", || call(libc::SYS_prctl, [flags(libc::PR_SET_DUMPABLE), 1, 0, 0])),
        ("ioctl", || call(libc::SYS_ioctl, [0, 0x5412, 0, 0])),
        ("the root of another process", || fs::read_dir("/proc/1/root").map(drop)),
        ("the environment of another process", || fs::read("/proc/1/environ").map(drop)),
        ("the program of another process", || fs::read_link("/proc/1/exe").map(drop)),
        ("a file that nobody needs", || File::open("/etc/passwd").map(drop)),
    ];
    let outcomes = inside(&config(), move |sandbox| {
        let outcomes: Vec<_> = attempts.iter().map(|(what, attempt)| (*what, attempt())).collect();
        (outcomes, sandbox.clone())
    });
    for (what, outcome) in outcomes.0 {
        let number = outcome.expect_err(what).raw_os_error();
        let is_refused = matches!(number, Some(libc::EPERM | libc::EACCES | libc::ENOSYS));
        // Without Landlock in this kernel, files and links are open to root as before.
        assert!(is_refused || outcomes.1.landlock.is_err(), "{what}: {number:?}");
    }
}

#[test]
fn what_serving_needs_goes_on() {
    let (kernel, threads, sockets, tables) = inside(&config(), |_| {
        let kernel = ["/proc/1/stat", "/proc/1/net/dev", "/proc/1/mountinfo", "/sys/devices/system/cpu/online"]
            .map(|path| fs::read(path).map(drop));
        let threads = thread::Builder::new().spawn(|| vec![7_u8; 1 << 20].len()).unwrap().join().unwrap();
        let sockets = UnixStream::pair().map(drop);
        // The kernel answers that the descriptor is invalid, so the call itself is allowed.
        let tables = call(libc::SYS_bpf, [15, 0, 0, 0]).unwrap_err().raw_os_error();
        (kernel, threads, sockets, tables)
    });
    assert!(kernel.iter().all(Result::is_ok), "{kernel:?}");
    assert!(threads == 1 << 20 && sockets.is_ok());
    assert_ne!(tables, Some(libc::EPERM));
}

#[test]
fn an_engine_with_a_port_is_connected_to_and_nothing_else() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let [engine, foreign] = [&listener, &other].map(|listener| listener.local_addr().unwrap());
    let config = Config { docker: vec![DockerEndpoint::Tcp(engine.to_string())], ..config() };
    let (engine, foreign, datagram, mptcp, text) = inside(&config, move |sandbox| {
        let mptcp = socket(AddressFamily::INET, SocketType::STREAM, Protocol::from_raw(262.try_into().unwrap()).into());
        let connect = |address| TcpStream::connect(address).map(drop);
        (
            connect(engine),
            connect(foreign),
            UdpSocket::bind("127.0.0.1:0").is_err(),
            mptcp.is_err(),
            sandbox.to_string(),
        )
    });
    engine.unwrap();
    assert!(datagram && mptcp);
    assert!(foreign.is_err() || !text.contains("tcp"), "{text}");
    let named = Config { docker: vec![DockerEndpoint::Tcp("engine.example:2375".to_owned())], ..config };
    let found = inside(&named, |_| UdpSocket::bind("127.0.0.1:0").map(drop));
    found.unwrap();
}

#[test]
fn no_capability_is_left_in_the_thread() {
    let (status, text) = inside(&config(), |sandbox| {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        (status, sandbox.to_string())
    });
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(value(set), "0000000000000000", "{set} {text}");
    }
    assert_eq!([value("NoNewPrivs:"), value("Seccomp:")], ["1", "2"], "{text}");
    assert!(text.starts_with("capabilities none"), "{text}");
}

#[test]
fn off_gives_nothing_up_and_says_so() {
    let needs = Needs::of(&config(), true);
    let off = Sandbox::enter(FeatureMode::Off, &needs).unwrap();
    assert!(File::open("/etc/passwd").is_ok());
    assert!(off.to_string().contains("--sandbox=off") && off.reasons().is_empty(), "{off}");
}

#[test]
fn files_are_read_through_the_links_that_lead_to_them() {
    let directory = tempfile::tempdir().unwrap();
    let (archive, live) = (directory.path().join("archive"), directory.path().join("live"));
    fs::create_dir(&archive).unwrap();
    std::os::unix::fs::symlink(&archive, &live).unwrap();
    fs::write(archive.join("key.pem"), "first").unwrap();
    let needs = Needs::of(&config(), false).and_read(&live);
    let (started, renewed) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let (started, is_started, renewed, is_renewed) = (started.0, started.1, renewed.0, renewed.1);
    let key = live.join("key.pem");
    let reader = thread::spawn(move || {
        Sandbox::enter(FeatureMode::Auto, &needs).unwrap();
        let read = || fs::read_to_string(&key).map_err(|error| error.to_string());
        let first = read();
        started.send(()).unwrap();
        is_renewed.recv().unwrap();
        (first, read())
    });
    is_started.recv().unwrap();
    fs::write(archive.join("new.pem"), "second").unwrap();
    fs::rename(archive.join("new.pem"), archive.join("key.pem")).unwrap();
    renewed.send(()).unwrap();
    let [first, second] = ["first", "second"].map(|text| Ok(text.to_owned()));
    assert_eq!(reader.join().unwrap(), (first, second));
}

#[test]
fn a_missing_path_is_left_out() {
    let needs = Needs::of(&config(), false).and_read(Path::new("/does/not/exist"));
    assert!(needs.readable().all(|path| path.exists()));
    assert!(thread::spawn(move || Sandbox::enter(FeatureMode::Auto, &needs)).join().unwrap().is_ok());
}
