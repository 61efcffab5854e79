//! Why a program cannot run on this host, with a hint.
//!
//! If the kernel refuses `bpf(2)` to this process, the reason is found by evidence from `/proc`, and by a call that the
//! kernel itself answers in a known way.

use std::{fmt, fs, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::CapabilitySet;

use super::sys::invalid_command;

/// Why a program cannot run on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// What the host lacks, or what the kernel refused.
    pub missing: String,
    /// What the user can do.
    pub hint: String,
}

impl Unsupported {
    /// Returns the reason with these texts.
    pub(crate) fn new(missing: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { missing: missing.into(), hint: hint.into() }
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.missing, self.hint)
    }
}

/// The host's user namespace. Its number (`PROC_USER_INIT_INO`) is the same on every kernel since 3.8.
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";
/// The mapping of user ids in the host's user namespace.
const IDENTITY: [&str; 3] = ["0", "0", "4294967295"];

const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_BPF: u64 = 1 << 39;

/// The restrictions of this process that may keep it from using eBPF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Confinement {
    /// The mapping of user ids if the process is not in the host's user namespace.
    pub(super) user_namespace: Option<String>,
    /// Effective capabilities, one bit each, by the numbers of the kernel.
    pub(super) capabilities: u64,
    /// Whether a seccomp filter applies.
    seccomp: bool,
    /// The label that a security module has given the process, unless the process is unconfined.
    security_label: Option<String>,
    /// The limit of locked memory in bytes, if the kernel charges maps to it and it is not unlimited.
    memlock: Option<u64>,
}

impl Confinement {
    /// Reads the restrictions of this process. Those that cannot be read count as absent.
    pub(super) fn gather() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let status = read("status");
        let namespace = fs::read_link("/proc/self/ns/user").ok();
        let namespace = namespace.as_ref().and_then(|link| link.to_str());
        Self {
            user_namespace: user_namespace(namespace, &read("uid_map")),
            capabilities: capabilities(&status),
            seccomp: has_seccomp(&status),
            security_label: security_label(&read("attr/current")),
            memlock: charges_memlock().then(|| getrlimit(Resource::Memlock).current).flatten(),
        }
    }

    /// Returns no restrictions but these capabilities.
    #[cfg(test)]
    pub(super) fn with(capabilities: u64) -> Self {
        Self { capabilities, ..Self::default() }
    }

    /// Checks that programs can be loaded in this user namespace.
    ///
    /// # Errors
    /// The process is not in the host's user namespace.
    pub(super) fn allow_namespace(&self) -> Result<(), Unsupported> {
        let Some(mapping) = &self.user_namespace else { return Ok(()) };
        Err(Unsupported::new(
            format!("we run in a user namespace ({mapping}), whose capabilities the kernel does not accept for eBPF"),
            "run the exporter in the host's user namespace: on the host, with --userns=host (not rootless), \
             or in a privileged LXC guest",
        ))
    }

    /// Returns the reason for an error of `what`; none if no restriction explains the error. `reaches_kernel` returns
    /// whether `bpf(2)` reaches the kernel at all.
    fn explain_error(
        &self,
        what: Attempt,
        error: &io::Error,
        reaches_kernel: impl FnOnce() -> bool,
    ) -> Option<Unsupported> {
        match error.raw_os_error()? {
            libc::ENOMEM => Some(Unsupported::new(
                format!("{what}: {error}"),
                "more memory: the kernel counts maps and programs to the container's limit",
            )),
            libc::EPERM | libc::EACCES | libc::ENOSYS => self.explain_denial(what, error, reaches_kernel),
            _ => None,
        }
    }

    fn explain_denial(
        &self,
        what: Attempt,
        error: &io::Error,
        reaches_kernel: impl FnOnce() -> bool,
    ) -> Option<Unsupported> {
        if let Err(unsupported) = self.allow_namespace() {
            return Some(unsupported);
        }
        let may_load = self.capabilities & (CAP_BPF | CAP_SYS_ADMIN) != 0;
        if may_load && !reaches_kernel() {
            if self.seccomp {
                return Some(Unsupported::new(
                    format!("{what}: {error}: a seccomp profile denies bpf(), whatever the capabilities"),
                    "a profile that allows bpf(), or --security-opt seccomp=unconfined (Docker's own profile allows it with \
                     CAP_SYS_ADMIN, and since Docker 23.0 with CAP_BPF; systemd: SystemCallFilter=bpf)",
                ));
            }
            return Some(match &self.security_label {
                Some(label) => Unsupported::new(
                    format!("{what}: {error}: a security module denies bpf() to {label:?}"),
                    "a policy that allows it, or --security-opt label=disable (SELinux), apparmor=unconfined (AppArmor)",
                ),
                None => Unsupported::new(
                    format!("{what}: {error}: something denies bpf() before the kernel looks at it"),
                    "a security module or sandbox (gVisor, SELinux, AppArmor) that allows it",
                ),
            });
        }
        match (what, self.memlock) {
            (Attempt::Map, Some(bytes)) => Some(Unsupported::new(
                format!("{what}: {error}: before Linux 5.11 maps count to RLIMIT_MEMLOCK, which is {bytes} bytes"),
                "--ulimit memlock=-1 (systemd: LimitMEMLOCK=infinity)",
            )),
            _ => None,
        }
    }
}

/// A refused operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Creating a map.
    Map,
    /// Loading or attaching a program.
    Program,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Map => "the kernel refused a map",
            Self::Program => "the kernel refused a program",
        })
    }
}

/// Returns the reason for an error; none if no restriction of this process explains it.
pub(super) fn explain_error(what: Attempt, error: &io::Error) -> Option<Unsupported> {
    Confinement::gather().explain_error(what, error, bpf_reaches_kernel)
}

/// Raises the limit of locked memory to unlimited, else to the hard limit, if the kernel charges maps to it.
pub(super) fn lift_memlock() {
    if !charges_memlock() {
        return;
    }
    let Rlimit { maximum, .. } = getrlimit(Resource::Memlock);
    if setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).is_err() {
        // Unlimited takes CAP_SYS_RESOURCE. A soft limit up to the hard one is never refused.
        _ = setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum });
    }
}

/// Returns whether `bpf(2)` reaches the kernel. The kernel answers an unknown command with `EINVAL`; a filter refuses
/// it like any other command.
fn bpf_reaches_kernel() -> bool {
    invalid_command().raw_os_error() == Some(libc::EINVAL)
}

/// Returns whether this thread may use programs that are loaded already. Before Linux 5.19 this takes a capability.
pub(crate) fn may_use_loaded() -> bool {
    invalid_command().raw_os_error() != Some(libc::EPERM)
}

/// Returns whether this thread has the capabilities to load a program.
pub(super) fn may_load() -> bool {
    let held = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    held.intersects(CapabilitySet::BPF | CapabilitySet::SYS_ADMIN)
}

/// Returns whether the kernel charges maps to the limit of locked memory, as before Linux 5.11.
fn charges_memlock() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    version(&release).is_some_and(|version| version < (5, 11))
}

/// Returns the major and minor number of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Returns the mapping of user ids if a process is not in the host's user namespace. `link` names its namespace; if
/// that cannot be read, the mapping decides.
fn user_namespace(link: Option<&str>, uid_map: &str) -> Option<String> {
    let lines: Vec<Vec<&str>> = uid_map.lines().map(|line| line.split_whitespace().collect()).collect();
    let is_initial = match link {
        Some(link) => link == INITIAL_USER_NAMESPACE,
        None => lines.is_empty() || lines == [IDENTITY],
    };
    let first = lines.first().map(|line| line.join(" ")).filter(|line| !line.is_empty());
    (!is_initial).then(|| format!("/proc/self/uid_map: {}", first.unwrap_or_else(|| "nothing mapped".to_owned())))
}

/// Returns the effective capabilities in `/proc/self/status`; none if the line is missing.
fn capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0)
}

/// Returns whether `/proc/self/status` shows a seccomp filter (2) or strict mode (1).
fn has_seccomp(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    line.is_some_and(|mode| mode.trim() != "0")
}

/// Returns the label in `/proc/self/attr/current`, unless it is that of an unconfined process.
fn security_label(text: &str) -> Option<String> {
    let label = text.trim_end_matches(['\0', '\n']).trim();
    let is_confined = !label.is_empty() && !label.starts_with("unconfined") && !label.contains(":unconfined_t");
    is_confined.then(|| label.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{
        Attempt, CAP_BPF, CAP_SYS_ADMIN, Confinement, bpf_reaches_kernel, capabilities, has_seccomp, security_label,
        user_namespace, version,
    };

    const HOST: Option<&str> = Some("user:[4026531837]");

    fn free() -> Confinement {
        Confinement::with(CAP_BPF)
    }

    fn explained(confinement: &Confinement, what: Attempt, errno: i32, reaches_kernel: bool) -> Option<String> {
        let error = io::Error::from_raw_os_error(errno);
        confinement.explain_error(what, &error, || reaches_kernel).map(|unsupported| unsupported.to_string())
    }

    #[test]
    fn a_user_namespace_is_named_whatever_else_confines() {
        let remapped = user_namespace(Some("user:[4026532771]"), "         0     100000      65536\n");
        let confined = Confinement { user_namespace: remapped, seccomp: true, memlock: Some(65_536), ..free() };
        let text = explained(&confined, Attempt::Map, libc::EPERM, false).unwrap();
        assert!(text.contains("user namespace (/proc/self/uid_map: 0 100000 65536)") && text.contains("--userns=host"));
        assert!(!text.to_lowercase().contains("memlock") && !text.contains("seccomp"), "{text}");
    }

    #[test]
    fn a_seccomp_profile_is_named_where_no_call_reaches_the_kernel() {
        let filtered = Confinement { seccomp: true, ..free() };
        for errno in [libc::EPERM, libc::ENOSYS] {
            let text = explained(&filtered, Attempt::Map, errno, false).unwrap();
            assert!(text.contains("seccomp") && !text.to_lowercase().contains("memlock"), "{text}");
        }
        // The profile lets calls pass: it is not what refuses this one.
        assert_eq!(explained(&filtered, Attempt::Program, libc::EPERM, true), None);
        let old = Confinement { capabilities: CAP_SYS_ADMIN, seccomp: true, ..free() };
        assert!(explained(&old, Attempt::Program, libc::EPERM, false).unwrap().contains("seccomp"));
        let labelled = Confinement { security_label: Some("system_u:system_r:container_t:s0".to_owned()), ..free() };
        let text = explained(&labelled, Attempt::Map, libc::EACCES, false).unwrap();
        assert!(text.contains("container_t") && text.contains("label=disable"), "{text}");
    }

    #[test]
    fn memory_is_named_only_where_it_lacks() {
        assert!(explained(&free(), Attempt::Map, libc::ENOMEM, true).unwrap().contains("more memory"));
        let old = Confinement { memlock: Some(65_536), ..free() };
        let text = explained(&old, Attempt::Map, libc::EPERM, true).unwrap();
        assert!(text.contains("65536 bytes") && text.contains("--ulimit memlock=-1"), "{text}");
        assert_eq!(explained(&old, Attempt::Program, libc::EPERM, true), None);
        assert_eq!(explained(&free(), Attempt::Map, libc::EPERM, true), None);
        assert_eq!(explained(&free(), Attempt::Map, libc::EINVAL, true), None);
    }

    #[test]
    fn the_host_s_user_namespace_is_told_from_others() {
        let identity = "         0          0 4294967295\n";
        assert_eq!(user_namespace(HOST, identity), None);
        assert_eq!(user_namespace(None, identity), None);
        assert_eq!(user_namespace(None, ""), None);
        // Root in a namespace of its own may map every id onto itself.
        assert!(user_namespace(Some("user:[4026532771]"), identity).is_some());
        assert!(user_namespace(None, "0 1000 1\n1 100000 65536\n").unwrap().ends_with("0 1000 1"));
    }

    #[test]
    fn the_kernel_s_texts_are_parsed() {
        let status = "Name:\tx\nCapEff:\t000001ffffffffff\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!((capabilities(status), has_seccomp(status)), (0x1ff_ffff_ffff, true));
        assert_eq!((capabilities("Name:\tx\n"), has_seccomp("Seccomp:\t0\n")), (0, false));
        assert_eq!(version("4.18.0-553.el8_10.x86_64"), Some((4, 18)));
        assert_eq!((version("6.18-rc1"), version("odd")), (Some((6, 18)), None));
        assert_eq!(security_label("docker-default (enforce)\n").as_deref(), Some("docker-default (enforce)"));
        for unconfined in ["", "unconfined\n", "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\0"] {
            assert_eq!(security_label(unconfined), None);
        }
    }

    #[test]
    fn a_command_that_does_not_exist_reaches_this_kernel() {
        // Tests of programs run here, so nothing stands between.
        assert!(bpf_reaches_kernel() || capabilities(&std::fs::read_to_string("/proc/self/status").unwrap()) == 0);
    }
}
