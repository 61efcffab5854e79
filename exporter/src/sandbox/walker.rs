//! Confines the disk walker: it may list directories below the data roots, whoever owns them, and use its socket.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use landlock::{AccessFs, PathBeneath, RulesetCreatedAttr as _, RulesetError, RulesetStatus};
use libc::c_long;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, capabilities, set_no_new_privs};
use seccompiler::{Error, SeccompAction, TargetArch, apply_filter};

use super::landlock::handle_all;
use super::seccomp::{
    PRCTL_OPTIONS, all, errno, executable_memory, flag, has_bits, lacks_bits, none_of, program, whatever, writes,
};

/// The state of the walker's confinement.
#[derive(Clone, Copy, Debug)]
pub struct Confinement {
    /// Whether the walker may list directories of any user.
    pub lists_all: bool,
    /// Whether Landlock is in force.
    pub landlock: bool,
    /// Whether the seccomp filters are in force.
    pub seccomp: bool,
}

/// Confines this process and the processes that it forks later to listing what is below `directories`.
#[must_use]
pub fn confine_walker(directories: &[BorrowedFd<'_>]) -> Confinement {
    // A non-dumpable process hides its memory from other processes of the same user.
    _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    _ = set_no_new_privs(true);
    let kept = super::capabilities::keep(CapabilitySet::DAC_READ_SEARCH);
    let lists_all = match kept {
        Ok(kept) => kept.contains(CapabilitySet::DAC_READ_SEARCH),
        Err(_) => capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::DAC_READ_SEARCH)),
    };
    let landlock = restrict(directories).is_ok_and(|status| status != RulesetStatus::NotEnforced);
    let seccomp = filter().is_ok();
    Confinement { lists_all, landlock, seccomp }
}

fn restrict(directories: &[BorrowedFd<'_>]) -> Result<RulesetStatus, RulesetError> {
    let rules =
        directories.iter().map(|directory| Ok::<_, RulesetError>(PathBeneath::new(directory, AccessFs::ReadDir)));
    Ok(handle_all()?.add_rules(rules)?.restrict_self()?.ruleset)
}

/// Calls that the walker uses on every architecture.
const USED: &[c_long] = &[
    // Directories.
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_openat,
    libc::SYS_statx,
    // The socket pairs, and the message of a panic.
    libc::SYS_ppoll,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_socketpair,
    libc::SYS_write,
    libc::SYS_writev,
    // The worker.
    libc::SYS_clone,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_prctl,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_wait4,
    // Memory, signals, time.
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
];
#[cfg(target_arch = "x86_64")]
const USED_HERE: &[c_long] = &[libc::SYS_fork, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const USED_HERE: &[c_long] = &[];

/// Flags of `clone` that are refused: a worker shares no memory with the guard and stays in its namespaces.
const CLONE_FLAGS: [i32; 9] = [
    libc::CLONE_VM,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWTIME,
];

fn filter() -> Result<(), Error> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let used = USED.iter().chain(USED_HERE).chain(&[libc::SYS_seccomp]).copied().map(whatever).collect();
    let refuse = SeccompAction::Errno(errno(libc::EPERM));
    let unknown = if cfg!(debug_assertions) { SeccompAction::Trap } else { refuse.clone() };
    let mut refused = BTreeMap::from([whatever(libc::SYS_seccomp)]);
    let mut opens = writes(2)?;
    opens.push(all([lacks_bits(2, flag(libc::O_DIRECTORY))?])?);
    refused.insert(libc::SYS_openat, opens);
    let clones: Result<Vec<_>, Error> = CLONE_FLAGS.into_iter().map(|bits| all([has_bits(0, flag(bits))?])).collect();
    refused.insert(libc::SYS_clone, clones?);
    refused.insert(libc::SYS_prctl, none_of(0, &PRCTL_OPTIONS)?);
    refused.extend(executable_memory()?);
    // Only pairs of Unix sockets, which are connected to nothing else.
    refused.insert(libc::SYS_socketpair, none_of(0, &[flag(libc::AF_UNIX)])?);
    let refused = program(refused, SeccompAction::Allow, refuse, arch)?;
    let used = program(used, unknown, SeccompAction::Allow, arch)?;
    apply_filter(&used)?;
    // This one comes last, because it refuses `seccomp` and thus further filters.
    apply_filter(&refused)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd as _;
    use std::path::Path;

    use rustix::fs::{CWD, Mode, OFlags, RawDir, openat};
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn directories_below_are_listed_and_nothing_else_is_done() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("layer/below")).unwrap();
        fs::write(directory.path().join("layer/file"), "secret").unwrap();
        let root = directory.path().to_owned();
        let attempts = move || {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let held = openat(CWD, &root, flags, Mode::empty()).unwrap();
            let confinement = confine_walker(&[held.as_fd()]);
            let list = |path: &Path| -> Result<usize, Errno> {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let opened = openat(CWD, path, flags, Mode::empty())?;
                let (mut buffer, mut count) = ([MaybeUninit::uninit(); 2048], 0);
                let mut listing = RawDir::new(opened, &mut buffer);
                while let Some(entry) = listing.next() {
                    entry?;
                    count += 1;
                }
                Ok(count)
            };
            let open = |path: &Path, flags| openat(CWD, path, flags | OFlags::CLOEXEC, Mode::RUSR).map(drop);
            let file = root.join("layer/file");
            let refused = [
                list(Path::new("/etc")).map(drop),
                open(&file, OFlags::RDONLY),
                open(&file, OFlags::WRONLY),
                open(&root.join("new"), OFlags::CREATE | OFlags::WRONLY),
                open(&root.join("layer"), OFlags::RDONLY),
            ];
            (confinement, list(&root.join("layer")), refused)
        };
        // The confinement holds for one thread, which ends here.
        let (confinement, listed, refused) = std::thread::spawn(attempts).join().unwrap();
        assert!(confinement.landlock && confinement.seccomp, "{confinement:?}");
        assert_eq!(listed, Ok(4));
        assert_eq!(refused[0], Err(Errno::ACCESS));
        assert_eq!(refused[1..], [Err(Errno::PERM); 4]);
    }
}
