//! Flags and environment, validated into one typed value.

use std::path::PathBuf;
use std::time::Duration;

use crate::metrics::CollectorSet;
pub use crate::name::ContainerFilter;
use crate::name::LabelPolicy;

/// Everything that can be configured, checked.
#[derive(Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<ListenAddress>,
    /// Path of the exposition; starts with `/`.
    pub telemetry_path: String,
    /// Scrapes served at a time.
    pub max_requests: usize,
    /// Where values come from.
    pub source: SourceMode,
    /// Root of the cgroup tree.
    pub cgroup_root: PathBuf,
    /// Root of procfs.
    pub procfs_root: PathBuf,
    /// The Docker engine.
    pub docker: DockerEndpoint,
    /// Time between two full listings of the engine's containers.
    pub resync_interval: Duration,
    /// Scrapes closer together than this share one collection.
    pub min_interval: Duration,
    /// Which container labels become metric labels.
    pub labels: LabelPolicy,
    /// Which containers are exposed.
    pub filter: ContainerFilter,
    /// How long a stopped container's state stays.
    pub linger: Duration,
    /// Which names are exposed.
    pub schema: Schema,
    /// Collectors that are switched on.
    pub collectors: CollectorSet,
    /// Whether eBPF is wanted.
    pub ebpf: EbpfMode,
    /// Least severe level that is logged.
    pub log_level: tracing::Level,
    /// Shape of a log line.
    pub log_format: LogFormat,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `:PORT`: every address of this host, IPv6 and IPv4.
    Any(u16),
    /// A host name or address, and a port.
    Host(String, u16),
}

/// `--source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceMode {
    /// Kernel files where a cgroup tree can be read, else the Docker stats API.
    Auto,
    /// Kernel files.
    Cgroup,
    /// The Docker stats API.
    DockerApi,
}

/// How the Docker engine is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerEndpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// Plain HTTP to `HOST:PORT`.
    Tcp(String),
    /// HTTPS to `HOST:PORT` with `ca.pem`, `cert.pem` and `key.pem` in a directory.
    Tls {
        /// `HOST:PORT`.
        address: String,
        /// The directory.
        certificates: PathBuf,
    },
}

/// `--metrics.schema`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// cAdvisor's names.
    Cadvisor,
    /// The predecessor's `docker_stats_*` names.
    DockerStats,
    /// Both.
    Both,
}

/// `--ebpf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EbpfMode {
    /// Where kernel and capabilities allow.
    Auto,
    /// Or fail at start.
    On,
    /// Never.
    Off,
}

/// `--log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value`.
    Logfmt,
    /// One JSON object a line.
    Json,
}
