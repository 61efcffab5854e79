//! seccomp: installs three filters. The kernel applies the strictest action of all filters, and the last filter's action
//! among equally strict ones.
//!
//! The first filter allows only the calls in the tables. The second answers `ENOSYS` to newer calls, so that C libraries
//! fall back to older ones. The third refuses calls by name and by argument: opening files for writing, executable
//! memory, other kinds of sockets, loading programs into the kernel, starting processes.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use super::Needs;
use super::syscalls::{NOT_YET, REFUSED, REFUSED_HERE, USED, USED_HERE};

/// Rules by system call. An empty list matches any arguments.
pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// `enum bpf_cmd`: commands on existing tables and iterators.
const BPF_COMMANDS: [u64; 11] = [
    1,  // MAP_LOOKUP_ELEM
    2,  // MAP_UPDATE_ELEM
    3,  // MAP_DELETE_ELEM
    4,  // MAP_GET_NEXT_KEY
    10, // PROG_TEST_RUN
    15, // OBJ_GET_INFO_BY_FD
    21, // MAP_LOOKUP_AND_DELETE_ELEM
    24, // MAP_LOOKUP_BATCH
    26, // MAP_UPDATE_BATCH
    28, // LINK_CREATE
    33, // ITER_CREATE
];
/// `PR_SET_NAME`, `PR_GET_NAME`, `PR_GET_DUMPABLE`, `PR_CAPBSET_READ`, `PR_SET_VMA`, `PR_GET_AUXV`.
pub(super) const PRCTL_OPTIONS: [u64; 6] = [15, 16, 3, 23, 0x5356_4d41, 0x4155_5856];
/// `TCGETS`, `TIOCGWINSZ`, `FIONREAD`, `FIONBIO`, `FIOCLEX`.
const IOCTL_REQUESTS: [u64; 5] = [0x5401, 0x5413, 0x541b, 0x5421, 0x5451];
/// `MSG_FASTOPEN` connects without `connect`.
const FAST_OPEN: u64 = 0x2000_0000;
/// `SOCK_TYPE_MASK` (`include/linux/net.h`).
const SOCKET_TYPE: u64 = 0xf;

/// Filters the calls of this thread and of the threads that it starts later. Returns the number of allowed calls, or why
/// they are not filtered.
pub(super) fn enter(needs: &Needs) -> Result<usize, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_unknown| format!("not for {}", std::env::consts::ARCH))?;
    install(needs, arch).map_err(|error| error.to_string())
}

fn install(needs: &Needs, arch: TargetArch) -> Result<usize, Error> {
    let used: Vec<c_long> = USED.iter().chain(USED_HERE).copied().collect();
    let known = used.iter().chain(NOT_YET).chain(REFUSED).chain(REFUSED_HERE);
    let refused = refused(needs)?;
    let count = used.iter().filter(|call| refused.get(*call).is_none_or(|rules| !rules.is_empty())).count();
    let absent = SeccompAction::Errno(errno(libc::ENOSYS));
    let unknown = if cfg!(debug_assertions) { SeccompAction::Trap } else { absent.clone() };
    let programs = [
        program(known.copied().map(whatever).collect(), unknown, SeccompAction::Allow, arch)?,
        program(NOT_YET.iter().copied().map(whatever).collect(), SeccompAction::Allow, absent, arch)?,
        program(refused, SeccompAction::Allow, SeccompAction::Errno(errno(libc::EPERM)), arch)?,
    ];
    programs.iter().try_for_each(|program| apply_filter(program))?;
    Ok(count)
}

pub(super) fn errno(number: i32) -> u32 {
    number.unsigned_abs()
}

pub(super) fn program(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
    arch: TargetArch,
) -> Result<BpfProgram, Error> {
    Ok(SeccompFilter::new(rules, otherwise, matched, arch)?.try_into()?)
}

/// Returns the rule that matches a call with any arguments.
pub(super) fn whatever(call: c_long) -> (i64, Vec<SeccompRule>) {
    (call, Vec::new())
}

/// Returns the calls that are refused, either entirely or with certain arguments.
fn refused(needs: &Needs) -> Result<Rules, Error> {
    let mut rules: Rules = REFUSED.iter().chain(REFUSED_HERE).copied().map(whatever).collect();
    if !needs.resolver {
        // All listening and netlink sockets are bound already.
        rules.insert(libc::SYS_bind, Vec::new());
    }
    rules.extend(executable_memory()?);
    let mut refuse = |call: c_long, when: Vec<SeccompRule>| {
        rules.insert(call, when);
    };
    refuse(libc::SYS_openat, writes(2)?);
    #[cfg(target_arch = "x86_64")]
    refuse(libc::SYS_open, writes(1)?);
    refuse(libc::SYS_clone, vec![all([lacks_bits(0, flag(libc::CLONE_THREAD))?])?]);
    for (call, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        refuse(call, vec![all([has_bits(flags, FAST_OPEN)?])?]);
    }
    refuse(libc::SYS_bpf, none_of(0, &BPF_COMMANDS)?);
    refuse(libc::SYS_prctl, none_of(0, &PRCTL_OPTIONS)?);
    refuse(libc::SYS_ioctl, none_of(1, &IOCTL_REQUESTS)?);
    refuse(libc::SYS_tgkill, none_of(0, &[u64::from(std::process::id())])?);
    // prlimit may read limits but not set them.
    refuse(libc::SYS_prlimit64, vec![all([SeccompCondition::new(2, Length::Qword, Op::Ne, 0)?])?]);
    refuse(libc::SYS_socket, sockets(needs)?);
    Ok(rules)
}

/// Returns the rules that match requests for executable memory.
pub(super) fn executable_memory() -> Result<Rules, Error> {
    let executable = || has_bits(2, flag(libc::PROT_EXEC)).and_then(|has| Ok(vec![all([has])?]));
    Ok(BTreeMap::from([(libc::SYS_mmap, executable()?), (libc::SYS_mprotect, executable()?)]))
}

/// Returns the rules that match opening a file to write, create or truncate it. `argument` is the index of the flags.
/// `O_TMPFILE` is covered because it requires write access.
pub(super) fn writes(argument: u8) -> Result<Vec<SeccompRule>, Error> {
    let mode = |mode: i32| masked(argument, flag(libc::O_ACCMODE), flag(mode));
    let modes = [libc::O_WRONLY, libc::O_RDWR, libc::O_ACCMODE].map(mode);
    let makes = [libc::O_CREAT, libc::O_TRUNC].map(|bits| has_bits(argument, flag(bits)));
    modes.into_iter().chain(makes).map(|condition| all([condition?])).collect()
}

/// Returns the rules that match all sockets but those for the engines, name servers, `NETLINK_ROUTE` and Unix sockets.
fn sockets(needs: &Needs) -> Result<Vec<SeccompRule>, Error> {
    let [unix, inet, inet6, netlink] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK].map(flag);
    let mut families = vec![unix, netlink];
    if !needs.ports.is_empty() {
        families.extend([inet, inet6]);
    }
    let mut rules = none_of(0, &families)?;
    rules.push(all([equals(0, netlink)?, differs(2, 0)?])?);
    let (tcp, udp) = (flag(libc::IPPROTO_TCP), flag(libc::IPPROTO_UDP));
    for family in [inet, inet6] {
        // MPTCP is refused because Landlock does not check its ports.
        rules.push(all([equals(0, family)?, differs(2, 0)?, differs(2, tcp)?, differs(2, udp)?])?);
        for kind in 1..=SOCKET_TYPE {
            let is_needed = kind == flag(libc::SOCK_STREAM) || needs.resolver && kind == flag(libc::SOCK_DGRAM);
            if !is_needed {
                rules.push(all([equals(0, family)?, masked(1, SOCKET_TYPE, kind)?])?);
            }
        }
    }
    Ok(rules)
}

pub(super) fn flag(bits: i32) -> u64 {
    u64::from(bits.unsigned_abs())
}

/// Returns the rule that matches if all conditions hold.
pub(super) fn all<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, Error> {
    Ok(SeccompRule::new(conditions.into())?)
}

/// Returns the rule that matches all values of an argument but these.
pub(super) fn none_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, Error> {
    let conditions: Result<Vec<_>, Error> = values.iter().map(|value| differs(argument, *value)).collect();
    Ok(vec![SeccompRule::new(conditions?)?])
}

fn equals(argument: u8, value: u64) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(argument, Length::Dword, Op::Eq, value)?)
}

fn differs(argument: u8, value: u64) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(argument, Length::Dword, Op::Ne, value)?)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(argument, Length::Dword, Op::MaskedEq(mask), value)?)
}

pub(super) fn has_bits(argument: u8, bits: u64) -> Result<SeccompCondition, Error> {
    masked(argument, bits, bits)
}

pub(super) fn lacks_bits(argument: u8, bits: u64) -> Result<SeccompCondition, Error> {
    masked(argument, bits, 0)
}
