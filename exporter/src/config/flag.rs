//! What a row of the flag table is, and the configuration while rows write to it.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use super::docker_url::Url;
use super::error::{Error, Reason};
use super::top_flags::Top;
use super::types::{Config, EbpfMode, LogFormat, Schema, SourceMode};
use crate::discover::CgroupFilter;
use crate::metrics::{Collector, CollectorSet};
use crate::name::{ContainerFilter, LabelPolicy, MetricFilter};

/// One flag, or one variable that has no flag.
#[derive(Clone, Debug)]
pub struct Flag {
    /// Name without the dashes; empty where there is only a variable.
    pub name: Cow<'static, str>,
    /// Environment variables; the first one that is set counts.
    pub variables: &'static [&'static str],
    /// What its value is called; empty for a switch.
    pub value: &'static str,
    /// Value when nothing is given; empty where nothing then happens.
    pub default: &'static str,
    /// Its heading in `--help`.
    pub group: Group,
    /// One line on what it does, without a full stop.
    pub help: &'static str,
    /// What an error says is accepted.
    pub accepts: &'static str,
    /// Whether a flag may be given more than once, each adding to the others; else the last one counts.
    pub repeatable: bool,
    /// Whether the default is parsed as a value, or only shown.
    pub(super) default_is_value: bool,
    pub(super) apply: Apply,
}

/// What a row does with its value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Apply {
    /// Text without the white space around it.
    Text(fn(&mut Partial, &str) -> Result<(), Reason>),
    /// A directory, which must be readable if it was given.
    ContainerStore(fn(&mut Partial, PathBuf)),
    /// A path that is checked later.
    Path(fn(&mut Partial, PathBuf)),
    /// On or off.
    Switch(fn(&mut Partial, bool)),
    /// A collector on or off.
    Collector(Collector),
}

/// Headings of `--help`, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The HTTP server.
    Web,
    /// Source of the values.
    Source,
    /// The Docker engine.
    Docker,
    /// Which containers and labels are exposed, and under which names.
    Exposition,
    /// Log, help and version.
    General,
    /// The command `top`.
    Top,
    /// The collectors.
    Collectors,
}

impl Group {
    /// Every group, in order.
    pub const ALL: &[Self] =
        &[Self::Web, Self::Source, Self::Docker, Self::Exposition, Self::General, Self::Top, Self::Collectors];

    /// Returns the heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Web => "Web",
            Self::Source => "Where values come from",
            Self::Docker => "Docker",
            Self::Exposition => "What is exposed",
            Self::General => "General",
            Self::Top => "Of the command top",
            Self::Collectors => "Collectors",
        }
    }
}

impl Flag {
    /// Returns an error about this flag without a value.
    pub(super) fn error(&self, reason: Reason) -> Error {
        Error::new(self.subject(), reason, format!("accepted: {}", self.accepts))
    }

    /// Returns flag and variables as an error names them.
    pub(super) fn subject(&self) -> String {
        match (self.name.as_ref(), self.variables) {
            ("", variables) => variables.join(", "),
            (name, []) => format!("--{name}"),
            (name, variables) => format!("--{name} ({})", variables.join(", ")),
        }
    }

    /// Reports whether the flag takes no value.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        matches!(self.apply, Apply::Switch(_) | Apply::Collector(_))
    }

    /// Returns the collector that the flag switches.
    #[must_use]
    pub fn collector(&self) -> Option<Collector> {
        match self.apply {
            Apply::Collector(collector) => Some(collector),
            _ => None,
        }
    }
}

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
            ebpf: EbpfMode::Auto,
            snapshot: EbpfMode::Auto,
            sandbox: EbpfMode::Auto,
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
