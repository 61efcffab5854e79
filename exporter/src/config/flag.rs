//! A row of the flag table, and the unfinished configuration that rows write to.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;

use super::docker_url::Url;
use super::error::{Error, Reason};
use super::types::{Config, FeatureMode, ListenAddress, LogFormat, Schema, SourceMode};
use crate::discover::CgroupFilter;
use crate::metrics::{Collector, CollectorSet};
use crate::name::{ContainerFilter, LabelPolicy, MetricFilter};
use crate::top::{ClientOptions, Options, Sort};

/// One flag, or one variable that has no flag.
#[derive(Clone, Debug)]
pub struct Flag {
    /// Name without the dashes; empty where there is only a variable.
    pub name: Cow<'static, str>,
    /// Environment variables, of which the first one that is set counts.
    pub variables: &'static [&'static str],
    /// Placeholder of the value in `--help`; empty for a switch.
    pub value: &'static str,
    /// Value if none is given; empty if the row then has no effect.
    pub default: &'static str,
    /// Heading in `--help`.
    pub group: Group,
    /// Description in one line, without a full stop.
    pub help: &'static str,
    /// Accepted values, as an error describes them.
    pub accepts: &'static str,
    /// Whether the values of a repeated flag add up. Otherwise the last one counts.
    pub repeatable: bool,
    /// Whether the default is parsed like a given value. Otherwise it is only shown.
    pub(super) default_is_value: bool,
    pub(super) apply: Apply,
}

/// The fields that most rows share.
pub(super) const ROW: Flag = Flag {
    name: Cow::Borrowed(""),
    variables: &[],
    value: "",
    default: "",
    group: Group::Web,
    help: "",
    accepts: "",
    repeatable: false,
    default_is_value: false,
    apply: Apply::Switch(|_, _| {}),
};

/// A row that is on or off.
pub(super) const SWITCH: Flag = Flag { group: Group::Collectors, accepts: "true, false, or nothing for true", ..ROW };

/// The type of a row's value, and the function that writes the value to the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) enum Apply {
    /// Text, trimmed of white space.
    Text(fn(&mut Partial, &str) -> Result<(), Reason>),
    /// A directory, which must be readable unless it is the default.
    Directory(fn(&mut Partial, PathBuf)),
    /// A path that is checked later.
    Path(fn(&mut Partial, PathBuf)),
    /// A switch.
    Switch(fn(&mut Partial, bool)),
    /// The switch of a collector.
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
    /// Returns an error about this flag, without a value.
    pub(super) fn error(&self, reason: Reason) -> Error {
        Error::new(self.subject(), reason, format!("accepted: {}", self.accepts))
    }

    /// Returns the names of flag and variables, as errors show them.
    pub(super) fn subject(&self) -> String {
        match (self.name.as_ref(), self.variables) {
            ("", variables) => variables.join(", "),
            (name, []) => format!("--{name}"),
            (name, variables) => format!("--{name} ({})", variables.join(", ")),
        }
    }

    /// Returns whether the flag takes no value.
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

/// The unfinished configuration: fields that rows write directly, and values that `resolve` combines.
#[derive(Debug)]
pub(super) struct Partial {
    /// Fields that need no combination. They hold placeholders until the defaults of the table are written.
    pub(super) config: Config,
    /// `--source`.
    pub(super) source: Option<SourceMode>,
    /// `USE_PSEUDO_FILES`, which `--source` overrules.
    pub(super) pseudo_files: Option<SourceMode>,
    pub(super) web_config: Option<PathBuf>,
    pub(super) docker_urls: Vec<Url>,
    pub(super) tls_verify: bool,
    pub(super) certificates: Option<PathBuf>,
    /// `--containers.labels`; `None` if not given, empty if no label is wanted.
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
    /// Collectors that are switched by name, in the order of the command line.
    pub(super) collectors: Vec<(Collector, bool)>,
    pub(super) top: Top,
    /// The text to print instead of running.
    pub(super) print: Option<Print>,
}

/// A text that is printed instead of running.
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
    /// Returns the options of `top`. Without `--url` the address follows from the server's flags.
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
