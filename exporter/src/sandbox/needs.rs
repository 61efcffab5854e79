//! Actions that must stay possible while serving.

use std::path::{Path, PathBuf};

use crate::config::{Config, DockerEndpoint};
use crate::metrics::Collector;

/// Directories of kernel files, beside the roots that flags name. Not all of sysfs, which has debugfs, tracefs and
/// firmware in it.
const KERNEL: [&str; 6] = ["/proc", "/sys/devices", "/sys/class", "/sys/block", "/sys/dev", "/sys/kernel/mm"];

/// Actions that must stay possible while serving.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Directories and files to read, with everything below.
    pub(super) read: Vec<PathBuf>,
    /// Directories to read that are visible only with the right to trace the host's first process, from inside a
    /// container.
    pub(super) traced: Vec<PathBuf>,
    pub(super) procfs: PathBuf,
    /// The engines' sockets that have a path.
    pub(super) sockets: Vec<PathBuf>,
    /// The engines' ports.
    pub(super) ports: Vec<u16>,
    /// Whether an engine's host name has to be resolved for each connection.
    pub(super) resolver: bool,
    /// Whether descriptors of other processes are listed, which takes the right to trace them.
    pub(super) descriptors: bool,
    /// Whether tables of eBPF programs are read.
    pub(super) bpf: bool,
}

impl Needs {
    /// Returns the needs of a configuration; `bpf` if eBPF programs run.
    #[must_use]
    pub fn of(config: &Config, bpf: bool) -> Self {
        let mut read: Vec<PathBuf> = KERNEL.iter().map(PathBuf::from).collect();
        read.push(config.cgroup_root.clone());
        read.push(config.procfs_root.clone());
        // To identify the host's interfaces.
        let traced = ["1/root/sys/class", "1/root/sys/devices"].map(|path| config.procfs_root.join(path)).to_vec();
        read.extend(config.web.iter().flat_map(|web| web.directories()));
        let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
        for engine in &config.docker {
            match engine {
                DockerEndpoint::Unix(path) => sockets.push(path.clone()),
                DockerEndpoint::Tcp(tcp) => addresses.push(tcp),
                DockerEndpoint::Tls { address: tls, certificates } => {
                    addresses.push(tls);
                    read.push(certificates.clone());
                }
            }
        }
        let (hosts, ports): (Vec<_>, Vec<_>) =
            addresses.into_iter().filter_map(|address| address.rsplit_once(':')).unzip();
        let is_name = |host: &&str| host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_err();
        let resolver = hosts.iter().any(is_name);
        if resolver {
            read.extend(["/etc", "/run/systemd/resolve"].map(PathBuf::from));
        }
        Self {
            read,
            traced,
            procfs: config.procfs_root.clone(),
            sockets,
            ports: ports.into_iter().filter_map(|port| port.parse().ok()).collect(),
            resolver,
            descriptors: config.collectors.has(Collector::Process),
            bpf,
        }
    }

    /// Adds a file or directory to read: the path as given, and where its links lead.
    #[must_use]
    pub fn and_read(mut self, path: &Path) -> Self {
        self.read.push(path.to_owned());
        self
    }

    /// Returns the existing paths to read, with links resolved: a file that is renamed over another one later is read
    /// through its directory.
    pub(super) fn readable(&self) -> impl Iterator<Item = PathBuf> {
        self.read.iter().flat_map(|path| {
            let resolved = path.canonicalize().ok().filter(|resolved| resolved != path);
            [Some(path.clone()).filter(|path| path.exists()), resolved].into_iter().flatten()
        })
    }
}
