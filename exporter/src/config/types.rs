//! The configuration as plain data.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::discover::CgroupFilter;
use crate::metrics::CollectorSet;
use crate::name::{ContainerFilter, LabelPolicy, MetricFilter};
use crate::top::Options as TopOptions;
use crate::web_config::WebConfig;

/// The command to run, with its options.
#[derive(Debug)]
pub enum Command {
    /// Serves metrics.
    Serve(Box<Config>),
    /// Checks this host.
    Doctor(Box<Config>),
    /// Asks a server for its health.
    Healthcheck {
        /// The server's first address.
        address: ListenAddress,
        /// Whether a flag names the address. Otherwise the address of a server that runs on this host takes precedence.
        is_given: bool,
        /// `--web.config.file`. It is not read here, since it may be invalid while the server keeps an earlier content.
        web_config: Option<PathBuf>,
    },
    /// Shows the containers of a running exporter, or of one that this process starts with the configuration.
    Top(Box<Config>, Box<TopOptions>),
    /// Prints this text and exits with 0.
    Help(String),
    /// Prints this text and exits with 0.
    Version(String),
}

/// The validated configuration of the server.
#[derive(Debug)]
pub struct Config {
    /// Addresses to listen on.
    pub listen: Vec<ListenAddress>,
    /// URL path of the exposition; starts with `/`.
    pub telemetry_path: String,
    /// Whether to listen on the sockets that systemd passes instead of `listen`.
    pub systemd_socket: bool,
    /// TLS, passwords and headers, from `--web.config.file`.
    pub web: Option<Arc<WebConfig>>,
    /// Greatest number of scrapes served at a time; 0 means no limit.
    pub max_requests: usize,
    /// Whether `process_*` and the exporter's own metrics are left out.
    pub hides_own_metrics: bool,
    /// Source of the values.
    pub source: SourceMode,
    /// Root of the cgroup tree.
    pub cgroup_root: PathBuf,
    /// Root of procfs.
    pub procfs_root: PathBuf,
    /// The engines: at least one, each by another socket or address.
    pub docker: Vec<DockerEndpoint>,
    /// Time between two full lists of the engine's containers.
    pub resync_interval: Duration,
    /// Scrapes within this interval share one collection.
    pub min_interval: Duration,
    /// Selects the container labels that become metric labels.
    pub labels: LabelPolicy,
    /// Selects the exposed containers.
    pub filter: ContainerFilter,
    /// Selects the cgroups that are exposed without being containers.
    pub cgroups: CgroupFilter,
    /// How long the state of a stopped container is exposed.
    pub linger: Duration,
    /// Which metric names are exposed.
    pub schema: Schema,
    /// Selects the exposed metrics.
    pub metrics: MetricFilter,
    /// The enabled collectors.
    pub collectors: CollectorSet,
    /// The collectors that are enabled by name.
    pub named_collectors: CollectorSet,
    /// Whether eBPF programs are loaded.
    pub ebpf: FeatureMode,
    /// Whether snapshots are taken by an eBPF iterator.
    pub snapshot: FeatureMode,
    /// Whether privileges are dropped after the start.
    pub sandbox: FeatureMode,
    /// Least severe level that is logged.
    pub log_level: tracing::Level,
    /// Format of a log line.
    pub log_format: LogFormat,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `:PORT`: every address of this host, IPv6 and IPv4.
    Any(u16),
    /// A host name or address, and a port; an IPv6 address is stored without its brackets.
    Host(String, u16),
}

/// `--source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceMode {
    /// Kernel files if a cgroup tree can be read, otherwise the Docker stats API.
    Auto,
    /// Kernel files.
    Cgroup,
    /// The Docker stats API.
    DockerApi,
}

/// Address of a Docker engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerEndpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// Plain HTTP to `HOST:PORT`; an IPv6 address keeps its brackets.
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

/// `--ebpf`, `--read.snapshot` and `--sandbox`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureMode {
    /// The feature is used if kernel and capabilities allow.
    Auto,
    /// The feature is used, or the program fails at start.
    On,
    /// The feature is never used.
    Off,
}

/// `--log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value`.
    Logfmt,
    /// One JSON object per line.
    Json,
}

impl ListenAddress {
    /// Returns an address for connecting to the listener: the loopback address if it listens on every address.
    #[must_use]
    pub fn reachable(&self) -> String {
        match self {
            Self::Any(port) => format!("127.0.0.1:{port}"),
            Self::Host(host, port) if host == "0.0.0.0" => format!("127.0.0.1:{port}"),
            Self::Host(host, port) if host == "::" => format!("[::1]:{port}"),
            address @ Self::Host(..) => address.to_string(),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(port) => write!(f, ":{port}"),
            Self::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl DockerEndpoint {
    /// Returns the path of a Unix socket.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Tcp(_) | Self::Tls { .. } => None,
        }
    }
}

impl fmt::Display for DockerEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Tls { address, .. } => write!(f, "https://{address}"),
        }
    }
}
