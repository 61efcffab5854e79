//! Flags and environment, validated into one typed value.
//!
//! [`FLAGS`] is the one table: parsing, `--help` and the README's table come from it. `main` calls [`Config::from`]
//! once and passes the value on; nothing else reads a flag or a variable. What this module does not do: open sockets,
//! log, or end the program.
//!
//! | file | what it does |
//! |---|---|
//! | `flags`, `rows` | the table |
//! | `lex` | the command line into occurrences of rows |
//! | `resolve` | flag before variable before default, each value handed to its row |
//! | `apply` | what a row does with its value |
//! | `values`, `listen`, `docker_url`, `globs` | text into one type each |
//! | `mistakes` | what was wrong, said in one message |
//! | `help` | `--help`, `--version` and the Markdown table |

mod apply;
mod docker_url;
mod flags;
mod globs;
mod help;
mod lex;
mod listen;
mod mistakes;
mod resolve;
mod rows;
mod values;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::metrics::CollectorSet;
pub use crate::name::ContainerFilter;
use crate::name::LabelPolicy;

pub use flags::{FLAGS, Flag, Group};
pub use help::markdown_table;
pub use mistakes::{Mistake, Mistakes, Origin, Reason};

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Serve metrics.
    Serve(Box<Config>),
    /// Check this host.
    Doctor(Box<Config>),
    /// Ask the server that listens here whether it is alive.
    Healthcheck(ListenAddress),
    /// Print this and end well.
    Help(String),
    /// Print this and end well.
    Version(String),
}

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
    /// Whether snapshots by an eBPF iterator are wanted.
    pub snapshot: EbpfMode,
    /// Least severe level that is logged.
    pub log_level: tracing::Level,
    /// Shape of a log line.
    pub log_format: LogFormat,
}

impl Config {
    /// Reads the command line (without the program's own name) and the environment (`env` answers for one variable).
    ///
    /// A flag beats its variables, an earlier variable of a row beats a later one, and what is overruled is not looked
    /// at. A variable that is set but empty counts as not set, but for `USE_PSEUDO_FILES`.
    ///
    /// # Errors
    /// Every mistake in everything that was given. `--help` and `--version` are answered in spite of them.
    pub fn from(
        args: impl IntoIterator<Item = OsString>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Command, Mistakes> {
        resolve::command(lex::lex(args), &env)
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `:PORT`: every address of this host, IPv6 and IPv4.
    Any(u16),
    /// A host name or address, and a port; an IPv6 address stands here without its brackets.
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

/// `--ebpf` and `--read.snapshot`.
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
