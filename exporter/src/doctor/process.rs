//! Checks what this process may do on this host: open files, watch directories, listen, list layers, enter the sandbox
//! and run eBPF programs.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::thread;

use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use super::{Line, Verdict};
use crate::config::{Config, DockerEndpoint, FeatureMode, ListenAddress};
use crate::discover::Hierarchy;
use crate::ebpf::{Decision, Probes, Sizes, Unsupported};
use crate::metrics::{FAMILIES, FamilySet, SelfMetrics};
use crate::probe;
use crate::read::{can_snapshot, for_cgroups};
use crate::sandbox::{Needs, Sandbox};
use crate::walker::visible_roots;

/// Kernel files that are kept open per container with the default collectors, rounded up.
const FILES_PER_CONTAINER: u64 = 20;
/// Descriptors for other purposes, such as sockets and the log.
const OTHER_FILES: u64 = 128;

/// Checks whether the limit of open files lets every container's files stay open.
pub(super) fn open_files(containers: usize) -> Line {
    const WHAT: &str = "open files";
    // The exporter raises the soft limit to the hard limit at start.
    let Some(limit) = getrlimit(Resource::Nofile).maximum else { return Line::ok(WHAT, "unlimited") };
    let containers = u64::try_from(containers).unwrap_or(u64::MAX);
    let needed = containers.saturating_mul(FILES_PER_CONTAINER).saturating_add(OTHER_FILES);
    let found = format!("limit {limit}, about {needed} wanted for {containers} containers");
    if limit >= needed {
        return Line::ok(WHAT, found);
    }
    let hint = format!("docker run --ulimit nofile={needed} (systemd: LimitNOFILE=); without it scrapes are slower");
    Line::warn(WHAT, found, hint)
}

/// Checks whether inotify can report new containers at once.
pub(super) fn inotify(procfs: &Path) -> Line {
    const WHAT: &str = "inotify";
    let setting = |name: &str| {
        let text = fs::read(procfs.join("sys/fs/inotify").join(name)).unwrap_or_default();
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let found = match (setting("max_user_instances"), setting("max_user_watches")) {
        (instances, watches) if instances.is_empty() || watches.is_empty() => "can be used".to_owned(),
        (instances, watches) => format!("{instances} instances and {watches} watches per user"),
    };
    match inotify::init(inotify::CreateFlags::CLOEXEC) {
        Ok(_closed_at_once) => Line::ok(WHAT, found),
        Err(Errno::MFILE) => Line::warn(
            WHAT,
            format!("{found}, all instances in use"),
            "on the host: sysctl fs.inotify.max_user_instances=1024; without it new containers show a little later",
        ),
        Err(error) => Line::warn(WHAT, error.to_string(), "without it new containers show a little later"),
    }
}

/// Checks whether a listen address is free, by listening for a moment.
pub(super) fn listen_address(address: &ListenAddress) -> Line {
    let what = format!("listen address {address}");
    let error = match bind(address) {
        Ok(()) => return Line::ok(what, "free"),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse if probe::healthy(address, None).is_ok() => {
            Line::ok(what, "in use by a server whose /healthz answers: the exporter runs already")
        }
        io::ErrorKind::AddrInUse => {
            Line::fail(what, "in use", "end what holds it (`ss -ltnp`), or take another with --web.listen-address")
        }
        io::ErrorKind::PermissionDenied => {
            Line::fail(what, "permission denied", "docker run --cap-add=NET_BIND_SERVICE, or a port above 1023")
        }
        _ => Line::fail(what, error.to_string(), "--web.listen-address with an address of this host"),
    }
}

fn bind(address: &ListenAddress) -> io::Result<()> {
    match address {
        // A host without IPv6 listens on all IPv4 addresses.
        ListenAddress::Any(port) => match TcpListener::bind(("::", *port)) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => TcpListener::bind(("0.0.0.0", *port)),
            bound => bound,
        },
        ListenAddress::Host(host, port) => TcpListener::bind((host.as_str(), *port)),
    }
    .map(drop)
}

/// Checks whether the disk walker will see the layers of containers, and may list them.
pub(super) fn disk_usage(procfs: &Path, engines: &[DockerEndpoint]) -> Line {
    const WHAT: &str = "disk usage";
    let sockets: Vec<&Path> = engines.iter().filter_map(DockerEndpoint::socket).collect();
    let visible = visible_roots(procfs, &sockets);
    let may_list = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::DAC_READ_SEARCH));
    let roots: Vec<String> = visible.iter().map(|root| root.display().to_string()).collect();
    if roots.is_empty() {
        let found = "no engine's data root is visible here: no container_fs_usage_bytes of containers";
        return Line::warn(
            WHAT,
            found,
            "docker run -v /var/lib/docker:/var/lib/docker:ro (or where the engine has its data)",
        );
    }
    let found = format!("layers are looked for below {}", roots.join(", "));
    if may_list {
        return Line::ok(WHAT, found);
    }
    let hint =
        "docker run --cap-add=DAC_READ_SEARCH (AmbientCapabilities= of a service); the disk walker alone keeps it";
    Line::warn(WHAT, format!("{found}, and those of other users cannot be listed"), hint)
}

/// Checks the sandbox. A thread enters it and ends, because only the attempt shows what the kernel and the environment
/// allow.
pub(super) fn sandbox(config: &Config) -> Line {
    const WHAT: &str = "sandbox";
    const HINT: &str = "a newer kernel, or an engine whose seccomp profile lets Landlock and seccomp through";
    if config.sandbox == FeatureMode::Off {
        return Line::ok(WHAT, "switched off");
    }
    let (mode, needs) = (config.sandbox, Needs::of(config, config.ebpf != FeatureMode::Off));
    match thread::spawn(move || Sandbox::enter(mode, &needs)).join() {
        Ok(Ok(sandbox)) => {
            let found =
                sandbox.reasons().iter().fold(sandbox.to_string(), |found, reason| format!("{found}; {reason}"));
            if sandbox.is_supported() { Line::ok(WHAT, found) } else { Line::warn(WHAT, found, HINT) }
        }
        Ok(Err(error)) => Line::fail(WHAT, error.to_string(), HINT),
        Err(_panicked) => Line::warn(WHAT, "it could not be tried", "please report it"),
    }
}

/// Checks the eBPF programs by loading and attaching each for a moment, because only the attempt shows what the kernel
/// accepts. Returns a line for the programs that run, and one for each reason why others do not.
pub(super) fn ebpf(config: &Config) -> Vec<Line> {
    const WHAT: &str = "eBPF";
    // The exporter would not start with --ebpf=on.
    let verdict = if config.ebpf == FeatureMode::On { Verdict::Fail } else { Verdict::Warn };
    let (wanted, hierarchy) = match Decision::of(config) {
        Decision::Start(wanted, hierarchy) => (wanted, hierarchy),
        Decision::Useless(why) if config.ebpf == FeatureMode::On => {
            return vec![Line::fail(WHAT, why.missing, why.hint)];
        }
        Decision::Useless(why) => return vec![Line::ok(WHAT, format!("not used: {}", why.missing))],
        Decision::Off => return vec![Line::ok(WHAT, "switched off")],
    };
    let snapshots = config.snapshot != FeatureMode::Off;
    let mut probes = Probes::start(wanted, snapshots, &hierarchy, Sizes::default());
    let report = probes.report();
    let unsupported = report.unsupported().into_iter().map(|(programs, unsupported)| {
        let found = format!("{} cannot run: {}", programs.join(", "), unsupported.missing);
        Line::warn(WHAT, found, unsupported.hint.clone()).with(verdict)
    });
    let running = report.running();
    let ran = (!running.is_empty()).then(|| Line::ok(WHAT, format!("{} can run", running.join(", "))));
    let mut lines: Vec<Line> = ran.into_iter().chain(unsupported).collect();
    lines.extend(snapshots.then(|| snapshots_line(config, &hierarchy, &mut probes)));
    lines
}

/// Checks whether snapshots can replace reading files.
fn snapshots_line(config: &Config, hierarchy: &Hierarchy, probes: &mut Probes) -> Line {
    const WHAT: &str = "snapshots";
    let (plan, _) = for_cgroups(hierarchy, &[], FamilySet::of(FAMILIES, config.collectors));
    let taken = SelfMetrics::new()
        .map_err(|error| Unsupported::new(error.to_string(), "please report it"))
        .and_then(|own| can_snapshot(&plan, hierarchy, probes, own));
    match taken {
        Ok(()) => Line::ok(WHAT, "the kernel gives the counters of all containers at once"),
        Err(why) if config.snapshot == FeatureMode::On => Line::fail(WHAT, why.missing, why.hint),
        Err(why) => Line::warn(WHAT, format!("files are read one by one, which costs more: {}", why.missing), why.hint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_containers_than_files_is_a_warning_with_a_number() {
        assert_eq!(open_files(0).verdict, Verdict::Ok);
        let line = open_files(usize::MAX);
        assert_eq!(line.verdict, Verdict::Warn);
        assert!(line.hint.contains("--ulimit nofile="), "{line}");
    }

    #[test]
    fn inotify_can_be_had_here() {
        let line = inotify(Path::new("/proc"));
        assert_eq!(line.verdict, Verdict::Ok, "{line}");
        assert!(line.found.contains("watches per user"), "{line}");
    }

    #[test]
    fn a_procfs_without_the_settings_leaves_no_holes_in_the_sentence() {
        assert_eq!(inotify(Path::new("/does/not/exist")).found, "can be used");
    }

    fn on(listener: &TcpListener) -> ListenAddress {
        ListenAddress::Host("127.0.0.1".to_owned(), listener.local_addr().unwrap().port())
    }

    #[test]
    fn a_held_port_fails_and_a_free_one_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = on(&listener);
        let stranger = thread::spawn(move || drop(listener.accept()));
        assert_eq!(listen_address(&address).verdict, Verdict::Fail);
        stranger.join().unwrap();
        assert_eq!(listen_address(&address), Line::ok(format!("listen address {address}"), "free"));
    }

    #[test]
    fn a_name_that_is_not_this_host_fails() {
        // TEST-NET-1 is reserved for documentation.
        let line = listen_address(&ListenAddress::Host("192.0.2.1".to_owned(), 8081));
        assert_eq!(line.verdict, Verdict::Fail, "{line}");
        assert!(line.hint.contains("--web.listen-address"), "{line}");
    }

    #[test]
    fn what_is_missing_has_a_hint() {
        let procfs = Path::new("/proc");
        let line = disk_usage(procfs, &[DockerEndpoint::Tcp("127.0.0.1:1".to_owned())]);
        let is_there = !visible_roots(procfs, &[] as &[&Path]).is_empty();
        assert!(line.verdict == Verdict::Ok || !line.hint.is_empty(), "{line}");
        assert_eq!(line.found.contains("no engine's data root"), !is_there, "{line}");
    }
}
