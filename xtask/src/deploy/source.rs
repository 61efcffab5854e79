//! The files of `deploy/source` as types. The comments in those files describe the fields.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Everything in `deploy/source`.
pub(super) struct Source {
    pub(super) rules: Rules,
    pub(super) tests: BTreeMap<String, Vec<Case>>,
    pub(super) common: Common,
    pub(super) dashboards: Vec<Dashboard>,
}

impl Source {
    pub(super) fn load(directory: &Path) -> anyhow::Result<Self> {
        let dashboards = directory.join("dashboards");
        Ok(Self {
            rules: load(&directory.join("rules.yaml"))?,
            tests: load(&directory.join("alert_tests.yaml"))?,
            common: load(&dashboards.join("common.yaml"))?,
            dashboards: ["fleet", "host", "container", "exporter"]
                .map(|name| load(&dashboards.join(name).with_extension("yaml")))
                .into_iter()
                .collect::<anyhow::Result<_>>()?,
        })
    }
}

fn load<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    pub(super) exporter: String,
    pub(super) runbooks: String,
    pub(super) recording: Vec<Recording>,
    pub(super) alerts: Vec<Group>,
}

impl Rules {
    /// The alerts of all groups.
    pub(super) fn all_alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.iter().flat_map(|group| &group.alerts)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recording {
    pub(super) record: String,
    pub(super) expr: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    pub(super) group: String,
    pub(super) alerts: Vec<Alert>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Alert {
    #[serde(rename = "alert")]
    pub(super) name: String,
    #[serde(default)]
    pub(super) scope: Scope,
    pub(super) severity: Severity,
    pub(super) threshold: Option<f64>,
    pub(super) r#for: Option<String>,
    pub(super) keep_firing_for: Option<String>,
    expr: String,
    summary: String,
    pub(super) description: String,
    /// Why this expression and not another.
    pub(super) because: String,
}

impl Alert {
    pub(super) fn expr(&self, rules: &Rules) -> String {
        let expr = self.expr.trim_end().replace("<exporter>", &rules.exporter);
        self.threshold.map_or(expr.clone(), |threshold| expr.replace("<threshold>", &threshold.to_string()))
    }

    /// Returns the summary with its subject.
    pub(super) fn summary(&self) -> String {
        format!("{}: {}", self.scope.subject(), self.summary)
    }

    /// Returns the summary without its subject.
    pub(super) fn meaning(&self) -> &str {
        &self.summary
    }

    pub(super) fn runbook(&self, rules: &Rules) -> String {
        format!("{}{}.md", rules.runbooks, self.name)
    }
}

/// The subject of an alert, which fires once for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    #[default]
    Container,
    /// The host's own series, with `id="/"`.
    Host,
    /// A filesystem of a host.
    Device,
    /// A service of a swarm, on whatever hosts.
    Service,
    /// The exporter of a host.
    Instance,
    Collector,
    File,
    Map,
    None,
}

impl Scope {
    fn subject(self) -> &'static str {
        match self {
            Self::Container => "Container {{ or $labels.name $labels.id }} on {{ $labels.instance }}",
            Self::Host | Self::Instance => "Host {{ $labels.instance }}",
            Self::Device => "Filesystem {{ $labels.device }} of {{ $labels.instance }}",
            Self::Service => "Swarm service {{ $labels.container_label_com_docker_swarm_service_name }}",
            Self::Collector => "Collector {{ $labels.collector }} on {{ $labels.instance }}",
            Self::File => "File {{ $labels.file }} ({{ $labels.reason }}) on {{ $labels.instance }}",
            Self::Map => "eBPF table {{ $labels.map }} on {{ $labels.instance }}",
            Self::None => "All hosts",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    Critical,
    Warning,
    Info,
}

impl Severity {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// Series with their samples in promtool's notation; none takes a series away.
pub(super) type Samples = BTreeMap<String, Option<String>>;

/// A case of a test of an alert.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) given: Samples,
    #[serde(default)]
    pub(super) optional: Vec<String>,
    pub(super) before: Option<u32>,
    pub(super) fires: Vec<u32>,
    pub(super) value: Option<String>,
    pub(super) resolved: Option<u32>,
    #[serde(default)]
    pub(super) under: Samples,
    #[serde(default)]
    pub(super) silent: BTreeMap<String, Samples>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Common {
    pub(super) selectors: BTreeMap<String, String>,
    pub(super) variables: BTreeMap<String, Variable>,
}

impl Common {
    /// An expression with its selectors written out.
    pub(super) fn expand(&self, expr: &str) -> String {
        let replace = |expr: String, (name, selector): (&String, &String)| expr.replace(&format!("<{name}>"), selector);
        self.selectors.iter().fold(expr.to_owned(), replace)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variable {
    pub(super) label: String,
    pub(super) query: String,
    pub(super) description: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dashboard {
    pub(super) uid: String,
    pub(super) file: String,
    pub(super) title: String,
    pub(super) description: String,
    pub(super) variables: Vec<String>,
    pub(super) rows: Vec<Row>,
}

impl Dashboard {
    pub(super) fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|row| &row.panels)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) title: String,
    #[serde(default)]
    pub(super) collapsed: bool,
    pub(super) panels: Vec<Panel>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) kind: Kind,
    pub(super) width: u32,
    #[serde(default = "usual_height")]
    pub(super) height: u32,
    pub(super) unit: String,
    #[serde(default)]
    pub(super) stack: bool,
    pub(super) description: String,
    /// The dashboard that a series or a row of the table opens.
    pub(super) open: Option<String>,
    pub(super) queries: Vec<Query>,
}

const fn usual_height() -> u32 {
    8
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Stat,
    Timeseries,
    Table,
    Bars,
    Heatmap,
}

impl Kind {
    /// Whether its queries are asked for one moment only.
    pub(super) fn is_instant(self) -> bool {
        matches!(self, Self::Stat | Self::Table | Self::Bars)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    pub(super) expr: String,
    /// The legend; in a table the title of the column.
    #[serde(default)]
    pub(super) legend: String,
    /// Of a column, where it is not the panel's.
    pub(super) unit: Option<String>,
    /// Drawn as a dashed line over what is stacked.
    #[serde(default)]
    pub(super) line: bool,
    /// Why it may have no answer on a host that works.
    pub(super) empty: Option<String>,
}
