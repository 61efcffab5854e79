//! Decides whether programs can run, by the configuration and by facts of this host, without loading any.

use std::fs::{File, read_to_string};
use std::path::PathBuf;

use super::Program;
use super::unsupported::{Confinement, Unsupported};
use crate::config::{Config, FeatureMode, SourceMode};
use crate::discover::{Hierarchy, Version, host_v2};
use crate::metrics::{CollectorSet, Controller};

/// Whether to load programs at all, for the server and for `doctor`. The [`super::Report`] says what single programs
/// lack.
#[derive(Debug)]
pub enum Decision {
    /// No collector needs programs.
    Off,
    /// Programs are wanted, but their counts cannot be assigned to containers here.
    Useless(Unsupported),
    /// Start the programs of these collectors on this host.
    Start(CollectorSet, Box<Hierarchy>),
}

impl Decision {
    /// Decides by the configuration and the cgroup trees of this host.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let wanted: CollectorSet = config.collectors.iter().filter(|collector| collector.is_probed()).collect();
        if config.ebpf == FeatureMode::Off || (wanted.is_empty() && config.snapshot == FeatureMode::Off) {
            return Self::Off;
        }
        let useless = |missing: String, hint: &str| Self::Useless(Unsupported::new(missing, hint));
        if config.source == SourceMode::DockerApi {
            return useless(
                "values come from the Docker API, as asked for".to_owned(),
                "with --source=auto they run where the files are read",
            );
        }
        let root = config.cgroup_root.display();
        match Hierarchy::detect(&config.cgroup_root) {
            Err(error) => useless(format!("no cgroup tree can be read ({error})"), "give us the host's /sys/fs/cgroup"),
            Ok(found) if found.is_blind() => useless(
                format!("{root} is our own container's cgroup and not the host's tree"),
                "give us the host's (-v /sys/fs/cgroup:/sys/fs/cgroup:ro)",
            ),
            Ok(found) if !found.is_live() => useless(
                format!("{root} is a copy of a cgroup tree and not the kernel's own"),
                "--path.cgroup=/sys/fs/cgroup",
            ),
            Ok(found) => Self::Start(wanted, Box::new(found)),
        }
    }
}

/// The kernel's description of its types (BTF).
pub(super) const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Facts of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Whether the kernel has BTF.
    pub(super) btf: bool,
    /// Capabilities and other restrictions of this process.
    pub(super) confinement: Confinement,
    /// The kernel's lockdown: `none`, `integrity` or `confidentiality`; None if it is not shown.
    pub(super) lockdown: Option<String>,
    /// Root of the mounted v2 tree.
    pub(super) cgroup2: Option<PathBuf>,
    /// Root of the mounted tree with the block controller: `blkio` of v1, or the v2 tree.
    pub(super) io: Option<PathBuf>,
}

const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

pub(super) const LOCKED_DOWN: &str = "the kernel is locked down for confidentiality";
pub(super) const LOCKDOWN_HINT: &str = "boot with lockdown=integrity or without lockdown";

impl Facts {
    /// Gathers the facts of this host.
    pub(super) fn gather(hierarchy: &Hierarchy) -> Self {
        let tree = |controller| hierarchy.tree(controller).filter(|tree| tree.is_live());
        let v2 = tree(Controller::Core).filter(|tree| tree.version == Version::V2).map(|tree| tree.path.clone());
        Self {
            // Opened, because the file may exist and not be readable.
            btf: File::open(BTF).is_ok(),
            confinement: Confinement::gather(),
            lockdown: read_to_string("/sys/kernel/security/lockdown").ok().and_then(|text| lockdown(&text)),
            // A host with v1 trees may have the v2 tree at any place.
            cgroup2: v2.or_else(host_v2),
            io: tree(Controller::Io).map(|tree| tree.path.clone()),
        }
    }

    /// Checks that a program can run on this host.
    ///
    /// # Errors
    /// What the host lacks.
    pub(super) fn allow(&self, program: Program) -> Result<(), Unsupported> {
        let needs = program.needs();
        if needs.tracing {
            self.allow_tracing()?;
        } else {
            self.allow_capabilities(false)?;
        }
        if needs.cgroup2 && self.cgroup2.is_none() {
            return Err(Unsupported::new(
                "no cgroup v2 tree is mounted",
                "mount one on the host (mount -t cgroup2 none /sys/fs/cgroup/unified) and give us /sys/fs/cgroup",
            ));
        }
        if program == Program::BlockComplete && self.io.is_none() {
            return Err(Unsupported::new(
                "no cgroup tree with the block controller is mounted",
                "mount one on the host (mount -t cgroup -o blkio none /sys/fs/cgroup/blkio) and give us /sys/fs/cgroup",
            ));
        }
        Ok(())
    }

    /// Checks that programs can read objects of the kernel on this host.
    ///
    /// # Errors
    /// What the host lacks.
    pub(super) fn allow_tracing(&self) -> Result<(), Unsupported> {
        self.allow_capabilities(true)?;
        if !self.btf {
            return Err(Unsupported::new(
                format!("the kernel does not describe its types in {BTF}"),
                "a kernel with CONFIG_DEBUG_INFO_BTF=y; in a container, /sys mounted as Docker does",
            ));
        }
        if self.lockdown.as_deref() == Some("confidentiality") {
            return Err(Unsupported::new(LOCKED_DOWN, LOCKDOWN_HINT));
        }
        Ok(())
    }

    /// Checks the capabilities: for reading objects of the kernel if `tracing`, else for programs at sockets of
    /// cgroups.
    fn allow_capabilities(&self, tracing: bool) -> Result<(), Unsupported> {
        self.confinement.allow_namespace()?;
        let has = |capability| self.confinement.capabilities & capability != 0;
        if has(CAP_SYS_ADMIN) {
            return Ok(());
        }
        let wanted = if tracing {
            [(CAP_BPF, "BPF"), (CAP_PERFMON, "PERFMON")]
        } else {
            [(CAP_BPF, "BPF"), (CAP_NET_ADMIN, "NET_ADMIN")]
        };
        let missing: Vec<&str> =
            wanted.into_iter().filter(|(capability, _)| !has(*capability)).map(|(_, name)| name).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = missing.iter().map(|name| format!("CAP_{name}")).collect();
        let flags: Vec<String> = missing.iter().map(|name| format!("--cap-add={name}")).collect();
        Err(Unsupported::new(
            format!("{} missing", names.join(" and ")),
            format!("{} (SYS_ADMIN where the engine knows neither), or --privileged", flags.join(" ")),
        ))
    }
}

/// Returns the word in brackets of `none [integrity] confidentiality`.
fn lockdown(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::{CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_ADMIN, Confinement, Decision, Facts, Program, lockdown};
    use crate::config::{Command, Config};

    fn facts() -> Facts {
        Facts {
            btf: true,
            confinement: Confinement::with(CAP_BPF | CAP_PERFMON | CAP_NET_ADMIN),
            lockdown: Some("none".to_owned()),
            cgroup2: Some(PathBuf::from("/sys/fs/cgroup")),
            io: Some(PathBuf::from("/sys/fs/cgroup")),
        }
    }

    #[test]
    fn everything_runs_with_the_three_capabilities_or_the_old_one() {
        let old = Facts { confinement: Confinement::with(CAP_SYS_ADMIN), ..facts() };
        for program in Program::ALL {
            assert_eq!((facts().allow(*program), old.allow(*program)), (Ok(()), Ok(())), "{program:?}");
        }
    }

    #[test]
    fn each_lack_is_told_with_its_hint_and_costs_only_who_needs_it() {
        let cases = [
            (
                Facts { confinement: Confinement::with(0), ..facts() },
                Program::NetworkReceive,
                "CAP_BPF and CAP_NET_ADMIN missing",
                "--cap-add=BPF",
            ),
            (
                Facts { confinement: Confinement::with(CAP_BPF), ..facts() },
                Program::TcpRetransmit,
                "CAP_PERFMON missing",
                "--cap-add=PERFMON",
            ),
            (
                Facts { btf: false, ..facts() },
                Program::TcpRetransmit,
                "/sys/kernel/btf/vmlinux",
                "CONFIG_DEBUG_INFO_BTF",
            ),
            (Facts { cgroup2: None, ..facts() }, Program::NetworkTransmit, "no cgroup v2 tree", "mount -t cgroup2"),
            (
                Facts { lockdown: Some("confidentiality".to_owned()), ..facts() },
                Program::TcpRetransmit,
                "locked down",
                "lockdown=integrity",
            ),
            (Facts { io: None, ..facts() }, Program::BlockComplete, "block controller", "mount -t cgroup -o blkio"),
        ];
        for (facts, program, missing, hint) in cases {
            let unsupported = facts.allow(program).unwrap_err();
            assert!(unsupported.missing.contains(missing) && unsupported.hint.contains(hint), "{unsupported}");
        }
        assert_eq!(Facts { btf: false, ..facts() }.allow(Program::NetworkReceive), Ok(()));
        assert_eq!(Facts { lockdown: Some("integrity".to_owned()), ..facts() }.allow(Program::TcpRetransmit), Ok(()));
    }

    #[test]
    fn the_kernel_s_texts_are_understood() {
        assert_eq!(lockdown("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(lockdown(""), None);
    }

    fn config(args: &[&str]) -> Config {
        match Config::from(args.iter().map(Into::into), |_| None) {
            Ok(Command::Serve(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    fn missing(config: &Config) -> String {
        match Decision::of(config) {
            Decision::Useless(unsupported) => unsupported.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_started_without_the_kernel_s_own_tree() {
        let capture = tempfile::tempdir().unwrap();
        let root = format!("--path.cgroup={}", capture.path().display());
        assert!(missing(&config(&[&root])).contains("no cgroup tree"));
        fs::write(capture.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        for mode in ["--ebpf=auto", "--ebpf=on"] {
            assert!(missing(&config(&[&root, mode])).contains("is a copy"));
        }
        assert!(missing(&config(&[&root, "--source=docker-api"])).contains("Docker API"));
    }

    #[test]
    fn what_nobody_wants_is_off_wherever_it_is() {
        let nothing = [
            "--ebpf=on",
            "--read.snapshot=off",
            "--no-collector.tasks",
            "--no-collector.ebpf_network",
            "--no-collector.ebpf_blkio",
        ];
        for args in [&["--ebpf=off"][..], &nothing] {
            assert!(matches!(Decision::of(&config(args)), Decision::Off), "{args:?}");
        }
    }
}
