//! The configuration while rows of the table write to it.

use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;

use super::docker_url::Url;
use super::types::{Config, FeatureMode, ListenAddress, LogFormat, Schema, SourceMode};
use crate::discover::CgroupFilter;
use crate::metrics::{Collector, CollectorSet};
use crate::name::{ContainerFilter, LabelPolicy, MetricFilter};
use crate::top::{ClientOptions, Options, Sort};

/// The configuration while rows write to it, and what `resolve` combines of several rows.
#[derive(Debug)]
pub(super) struct Partial {
    /// Placeholders until the defaults of the table are written.
    pub(super) config: Config,
    /// `--source`.
    pub(super) source: Option<SourceMode>,
    /// `USE_PSEUDO_FILES`, which `--source` overrules.
    pub(super) pseudo_files: Option<SourceMode>,
    pub(super) web_config: Option<PathBuf>,
    pub(super) docker_urls: Vec<Url>,
    pub(super) tls_verify: bool,
    pub(super) certificates: Option<PathBuf>,
    /// None where nothing was given; empty where no label is wanted.
    pub(super) labels: Option<Vec<String>>,
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    /// `--cgroups.include`.
    pub(super) cgroups: Vec<String>,
    /// `--metrics.include`.
    pub(super) include_metrics: Vec<String>,
    /// `--metrics.exclude`.
    pub(super) exclude_metrics: Vec<String>,
    pub(super) disable_defaults: bool,
    /// Collectors given by name, in the order of the command line.
    pub(super) collectors: Vec<(Collector, bool)>,
    pub(super) top: Top,
    /// A text to print instead of running.
    pub(super) print: Option<Print>,
}

/// Texts that are printed instead of running.
#[derive(Clone, Copy, Debug)]
pub(super) enum Print {
    Version,
    Help,
}

/// Values of the flags of `top`.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(super) struct Top {
    pub(super) url: Option<Uri>,
    pub(super) interval: Option<Duration>,
    pub(super) sort: Option<Sort>,
    pub(super) filter: String,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) all: bool,
    pub(super) once: bool,
    pub(super) json: bool,
    pub(super) no_color: bool,
    pub(super) ascii: bool,
    pub(super) local: bool,
}

impl Partial {
    pub(super) fn new() -> Self {
        let config = Config {
            listen: Vec::new(),
            telemetry_path: String::new(),
            systemd_socket: false,
            web: None,
            max_requests: 0,
            hides_own_metrics: false,
            source: SourceMode::Auto,
            cgroup_root: PathBuf::new(),
            procfs_root: PathBuf::new(),
            docker: Vec::new(),
            resync_interval: Duration::ZERO,
            min_interval: Duration::ZERO,
            labels: LabelPolicy::default(),
            filter: ContainerFilter::default(),
            cgroups: CgroupFilter::default(),
            linger: Duration::ZERO,
            schema: Schema::Cadvisor,
            metrics: MetricFilter::default(),
            collectors: CollectorSet::EMPTY,
            named_collectors: CollectorSet::EMPTY,
            ebpf: FeatureMode::Auto,
            snapshot: FeatureMode::Auto,
            sandbox: FeatureMode::Auto,
            log_level: tracing::Level::INFO,
            log_format: LogFormat::Logfmt,
        };
        Self {
            config,
            source: None,
            pseudo_files: None,
            web_config: None,
            docker_urls: Vec::new(),
            tls_verify: false,
            certificates: None,
            labels: None,
            include: Vec::new(),
            exclude: Vec::new(),
            cgroups: Vec::new(),
            include_metrics: Vec::new(),
            exclude_metrics: Vec::new(),
            disable_defaults: false,
            collectors: Vec::new(),
            top: Top::default(),
            print: None,
        }
    }
}

impl Top {
    /// Returns the options of `top`; the address is built from the server's flags where no URL is given.
    pub(super) fn options(self, config: &Config) -> Options {
        let path = &config.telemetry_path;
        let url = self.url.map_or_else(
            || {
                let address =
                    config.listen.first().map_or_else(|| "127.0.0.1:8081".to_owned(), ListenAddress::reachable);
                format!("http://{address}{path}")
            },
            |url| match url.path() {
                "" | "/" => format!("{}{path}", url.to_string().trim_end_matches('/')),
                _ => url.to_string(),
            },
        );
        Options {
            client: ClientOptions {
                url: url.parse().unwrap_or_default(),
                ca_file: self.ca_file,
                credentials: self.user.map(|user| (user, self.password.unwrap_or_default())),
            },
            interval: self.interval,
            sort: self.sort.unwrap_or(Sort::Cpu),
            filter: self.filter,
            all: self.all,
            once: self.once,
            json: self.json,
            no_color: self.no_color,
            ascii: self.ascii,
            local: self.local,
        }
    }
}
