//! Landlock: limits this process to reading below the needed roots and connecting to the engines' ports. Processes,
//! signal targets and abstract sockets outside the domain become unreachable.
//!
//! A rule covers everything below a directory, including files that are created later. A path that does not exist gets
//! no rule and stays unreachable.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, LandlockStatus, NetPort, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
    Scope,
};

use super::Needs;

/// The newest tested version of the Landlock ABI.
const TESTED: ABI = ABI::V6;
/// The port of DNS, whose long answers come over TCP.
const DNS_PORT: u16 = 53;

/// Opens the roots to read while the process still has the privileges that some of them take.
pub(super) fn roots(needs: &Needs) -> Vec<Root> {
    needs.readable().chain(needs.traced.iter().cloned()).filter_map(|path| Root::open(&path)).collect()
}

/// A directory below which files are read, or a file.
pub(super) struct Root {
    path: PathFd,
    is_directory: bool,
}

impl Root {
    /// Opens a root. Returns `None` if it does not exist or cannot be opened.
    fn open(path: &Path) -> Option<Self> {
        Some(Self { path: PathFd::new(path).ok()?, is_directory: path.is_dir() })
    }
}

/// Enters a domain. Returns the kinds of access that it handles, or why it cannot be entered.
pub(super) fn enter(needs: &Needs, roots: Vec<Root>) -> Result<String, String> {
    let status = restrict(needs, roots).map_err(|error| error.to_string())?;
    match (&status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Err("it is built into this kernel and not switched on: lsm=landlock,… on its command line".to_owned())
        }
        (RulesetStatus::NotEnforced, _) => Err("this kernel does not have it: Linux 5.13 or newer".to_owned()),
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok(handled(effective_abi)),
        (..) => Ok(handled(ABI::V1)),
    }
}

fn handled(kernel: ABI) -> String {
    let tcp = if kernel >= ABI::V4 { ", tcp" } else { "" };
    let scope = if kernel >= ABI::V6 { ", scope" } else { "" };
    format!("{kernel} (files{tcp}{scope})")
}

/// Creates a ruleset that denies every tested kind of access that this kernel knows.
pub(super) fn handle_all() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(TESTED))?
        .handle_access(AccessNet::from_all(TESTED))?
        .scope(Scope::from_all(TESTED))?
        .create()
}

fn restrict(needs: &Needs, roots: Vec<Root>) -> Result<RestrictionStatus, RulesetError> {
    let rules = roots.into_iter().map(|Root { path, is_directory }| {
        let below = if is_directory { AccessFs::ReadFile | AccessFs::ReadDir } else { AccessFs::ReadFile.into() };
        Ok::<_, RulesetError>(PathBeneath::new(path, below))
    });
    let ruleset = handle_all()?.add_rules(rules)?;
    let ports = needs.ports.iter().copied().chain(needs.resolver.then_some(DNS_PORT));
    let ports = ports.map(|port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::ConnectTcp)));
    ruleset.add_rules(ports)?.restrict_self()
}
