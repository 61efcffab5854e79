//! The Debian suites that guests are made of, and the packages in them.

use anyhow::Context;

/// A kind of host.
#[derive(Debug)]
pub(super) struct Suite {
    /// Debian's name.
    pub(super) name: &'static str,
    /// What is in it, for messages.
    pub(super) what: &'static str,
    /// The name of its captured host in `tests/fixtures`.
    pub(super) fixture: &'static str,
    /// Packages that only this suite has or needs.
    packages: &'static [&'static str],
}

const SUITES: &[Suite] = &[
    Suite {
        name: "bookworm",
        fixture: "debian12-v2-systemd",
        what: "Linux 6.1, systemd 252, Docker 20.10, Podman 4.3",
        // Without its parser this Docker starts no container.
        packages: &["apparmor"],
    },
    Suite {
        name: "trixie",
        fixture: "debian13-v2-systemd",
        what: "Linux 6.12, systemd 257, Docker 26.1, Podman 5.4",
        packages: &["docker-cli"],
    },
    Suite {
        name: "forky",
        fixture: "debian14-v2-systemd",
        what: "Linux 7, systemd 260 and later, Docker 28, Podman 5",
        packages: &["docker-cli"],
    },
];

/// In every guest: what a Docker host has, and what the tests call.
const PACKAGES: &[&str] = &[
    "bpftool",
    "busybox-static",
    "dbus",
    "docker.io",
    "iproute2",
    "iptables",
    "kmod",
    "podman",
    "procps",
    "rpm",
    "systemd",
    "systemd-sysv",
    "udev",
];

/// The one for clouds: small, with the drivers of a virtual machine.
pub(super) const KERNEL: &str = "linux-image-cloud-amd64";

/// The suite of this name.
pub(super) fn find(name: &str) -> anyhow::Result<&'static Suite> {
    SUITES.iter().find(|suite| suite.name == name).with_context(|| {
        let known: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
        format!("`{name}` is no suite that this command knows: {}", known.join(", "))
    })
}

impl Suite {
    /// Comma-separated, as mmdebstrap takes them.
    pub(super) fn packages(&self) -> String {
        PACKAGES.iter().chain(self.packages).copied().collect::<Vec<_>>().join(",")
    }
}
