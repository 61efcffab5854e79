//! Decides which of the host's network interfaces are real: those whose traffic no other interface of the host carries as well.
//!
//! The kernel's description in `/sys/class/net` decides, if that of the host can be read. Hardware (virtio included) has a
//! `device`, and a bonding master has `bonding`. Bridges, their ports, TUN and TAP devices, VLANs and other interfaces that are
//! stacked on one of the host are not real. If the description is inconclusive, the name decides, as engines and hypervisors
//! choose it: an end of a veth pair may be the uplink of an LXC guest, or connect a container to its host.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, open, openat, statat};

use crate::read::host::is_live;

/// Prefixes of the names of interfaces that are not real.
const VIRTUAL: [&str; 33] = [
    "lo",
    "veth",
    "docker",
    "br-",
    "virbr",
    "vmbr",
    "fwbr",
    "fwln",
    "fwpr",
    "vnet",
    "ovs-",
    "cni",
    "flannel",
    "cali",
    "cilium",
    "lxc",
    "podman",
    "nerdctl",
    "kube",
    "tun",
    "tap",
    "wg",
    "tailscale",
    "dummy",
    "ifb",
    "vxlan",
    "geneve",
    "gre",
    "sit",
    "ip6tnl",
    "ip_vti",
    "ip6_vti",
    "macv",
];

/// Maximum number of interfaces cached between two calls of [`RealInterfaces::forget`]. Others are checked each time.
const REMEMBERED: usize = 4096;

/// Decides on the interfaces of one host.
#[derive(Debug)]
pub(crate) struct RealInterfaces {
    /// The host's `/sys/class/net`, held open because its path may become unreachable later. None if ours belongs to
    /// another network namespace, or to another host than a capture's.
    sysfs: Option<OwnedFd>,
    known: RefCell<HashMap<Vec<u8>, bool>>,
}

impl RealInterfaces {
    /// Returns the interfaces of the host that `procfs` shows.
    pub(crate) fn new(procfs: &Path) -> Self {
        let of_init = procfs.join("1/root/sys/class/net");
        let ours = || {
            let namespace = |path: &Path| fs::metadata(path).map(|metadata| metadata.ino()).ok();
            let host = namespace(&procfs.join("1/net/dev")).filter(|_| is_live(procfs))?;
            let is_of_host = namespace(Path::new("/proc/self/net/dev")) == Some(host);
            is_of_host.then(|| PathBuf::from("/sys/class/net"))
        };
        let sysfs = ours().or_else(|| Some(of_init).filter(|path| path.is_dir()));
        let held = sysfs.and_then(|path| open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok());
        Self { sysfs: held, known: RefCell::default() }
    }

    /// Returns whether an interface is real.
    pub(crate) fn is_real(&self, name: &[u8]) -> bool {
        let name = name.trim_ascii();
        // Most interfaces on a host of containers have this prefix from their engine, so they cost no look-up.
        if name.starts_with(b"veth") {
            return false;
        }
        let mut known = self.known.borrow_mut();
        if let Some(is_real) = known.get(name) {
            return *is_real;
        }
        let described = self.sysfs.as_ref().and_then(|sysfs| described(sysfs.as_fd(), OsStr::from_bytes(name)));
        let is_real = described.unwrap_or_else(|| has_real_name(name));
        if known.len() < REMEMBERED {
            known.insert(name.to_owned(), is_real);
        }
        is_real
    }

    /// Clears the cache, because a name may belong to another interface now.
    pub(crate) fn forget(&mut self) {
        self.known.get_mut().clear();
    }
}

/// Returns whether the kernel's description shows that the interface is real. None if it is inconclusive.
fn described(sysfs: BorrowedFd<'_>, name: &OsStr) -> Option<bool> {
    let directory = openat(sysfs, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let has = |name: &str| statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    if has("device") || has("bonding") {
        return Some(true);
    }
    if ["bridge", "brport", "tun_flags"].into_iter().any(has) {
        return Some(false);
    }
    // A VLAN, macvlan or ipvlan has a type, and a link to the interface below it if that is in this namespace.
    let read = |name: &str, flags| openat(&directory, name, flags | OFlags::CLOEXEC, Mode::empty()).ok();
    let has_type = || {
        let mut text = String::new();
        let uevent = read("uevent", OFlags::RDONLY).map(File::from);
        uevent.is_some_and(|mut uevent| uevent.read_to_string(&mut text).is_ok()) && text.contains("DEVTYPE=")
    };
    let mut entries = Dir::new(read(".", OFlags::RDONLY | OFlags::DIRECTORY)?).ok()?.filter_map(Result::ok);
    let is_stacked = entries.any(|entry| entry.file_name().to_bytes().starts_with(b"lower_")) && has_type();
    is_stacked.then_some(false)
}

/// Returns whether a name is that of a real interface, and not of a bridge (`br0`, `lxdbr0`), a VLAN (`eth0.100`) or one of
/// [`VIRTUAL`].
fn has_real_name(name: &[u8]) -> bool {
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let is_bridge = name.get(..name.len() - digits).is_some_and(|stem| stem.ends_with(b"br"));
    let is_virtual = VIRTUAL.iter().any(|prefix| name.starts_with(prefix.as_bytes()));
    !is_virtual && !is_bridge && !name.contains(&b'.')
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::{RealInterfaces, has_real_name};

    #[test]
    fn names_decide_where_the_kernel_does_not() {
        for name in ["eth0", "enp3s0", "wlan0", "bond0", "ens5", "brcm0", "ibr2x", "eno1", "team0"] {
            assert!(has_real_name(name.as_bytes()), "{name}");
        }
        for name in [
            "lo",
            "veth12ab",
            "docker0",
            "br-1234",
            "cni0",
            "br0",
            "br",
            "lxdbr0",
            "incusbr0",
            "vmbr1",
            "eth0.100",
            "wg0",
            "fwbr100i0",
            "fwln100i0",
            "fwpr100p0",
            "tap100i0",
            "vnet3",
            "tunl0",
            "ip6tnl0",
        ] {
            assert!(!has_real_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn the_kernel_s_description_comes_before_the_name() {
        let procfs = tempfile::tempdir().unwrap();
        let sysfs = procfs.path().join("1/root/sys/class/net");
        let interface = |name: &str, parts: &[&str]| {
            fs::create_dir_all(sysfs.join(name)).unwrap();
            for part in parts {
                fs::create_dir(sysfs.join(name).join(part)).unwrap();
            }
        };
        interface("green0", &["brport"]);
        symlink("../../../0000:03:00.0", sysfs.join("green0/device")).unwrap();
        interface("uplink", &["bonding", "lower_green0"]);
        interface("guests", &["bridge", "lower_uplink"]);
        interface("blue", &["brport"]);
        interface("vpn", &["tun_flags"]);
        interface("dmz", &["lower_uplink"]);
        fs::write(sysfs.join("dmz/uevent"), "DEVTYPE=vlan\nINTERFACE=dmz\n").unwrap();
        interface("team", &["lower_green0"]);
        fs::write(sysfs.join("team/uevent"), "INTERFACE=team\n").unwrap();
        interface("eth0", &[]);
        let real = RealInterfaces::new(procfs.path());
        let found: Vec<&str> = ["green0", "uplink", "guests", "blue", "vpn", "dmz", "team", "eth0", "vnet0", "gone"]
            .into_iter()
            .filter(|name| real.is_real(name.as_bytes()))
            .collect();
        assert_eq!(found, ["green0", "uplink", "team", "eth0", "gone"]);
    }

    #[test]
    fn a_capture_is_not_judged_by_this_hosts_interfaces() {
        let procfs = tempfile::tempdir().unwrap();
        assert!(RealInterfaces::new(procfs.path()).sysfs.is_none());
    }

    #[test]
    fn this_hosts_bridges_are_not_real() {
        let real = RealInterfaces::new(Path::new("/proc"));
        for entry in fs::read_dir("/sys/class/net").unwrap().filter_map(Result::ok) {
            let name = entry.file_name();
            if entry.path().join("bridge").exists() || name == "lo" {
                assert!(!real.is_real(name.as_encoded_bytes()), "{name:?}");
            } else if entry.path().join("device").exists() {
                assert!(real.is_real(name.as_encoded_bytes()), "{name:?}");
            }
        }
    }
}
