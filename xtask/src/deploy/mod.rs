//! `cargo xtask deploy [--check]`: generates rules and dashboards from the sources in `deploy/source`.
//!
//! | module | what it does |
//! |---|---|
//! | [`source`] | the sources as types |
//! | [`rules`] | `deploy/prometheus/rules/*.yml`, and their tests by `promtool` |
//! | [`dashboards`] | `deploy/grafana/dashboards/*.json` |
//! | [`pages`] | `docs/ALERTS.md`, `docs/DASHBOARDS.md`; every alert has its runbook |
//! | [`lint`], [`promql`] | errors that Prometheus accepts silently |
//! | [`model`] | what Grafana needs of a dashboard |

mod dashboards;
mod lint;
mod model;
mod pages;
mod promql;
mod rules;
mod source;

use std::path::Path;

use anyhow::ensure;

use crate::docs;
use crate::sh::say;
use crate::workspace;
use source::Source;

const COMMAND: &str = "cargo xtask deploy";

/// Writes the generated files, or only compares them, and checks rules and dashboards.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let source = Source::load(&workspace::root().join("deploy/source"))?;
    for (path, text) in outputs(&source)? {
        docs::settle_by(COMMAND, check, &workspace::root().join(path), &text)?;
    }
    rules::check(&source)?;
    let mut findings = lint::check(&source)?;
    findings.extend(model::check(&source)?);
    findings.extend(pages::check(&source.rules, &workspace::files()?));
    for finding in &findings {
        say(finding);
    }
    ensure!(findings.is_empty(), "{} findings", findings.len());
    Ok(())
}

/// Returns every generated file: its path in the workspace, and its text.
fn outputs(source: &Source) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = vec![
        ("deploy/prometheus/rules/recording.yml".to_owned(), rules::recording(&source.rules)),
        ("deploy/prometheus/rules/alerts.yml".to_owned(), rules::alerts(&source.rules)),
        ("docs/ALERTS.md".to_owned(), pages::alerts(&source.rules)),
        ("docs/DASHBOARDS.md".to_owned(), pages::dashboards(source)),
    ];
    for dashboard in &source.dashboards {
        let path = Path::new("deploy/grafana/dashboards").join(&dashboard.file).with_extension("json");
        let json = serde_json::to_string_pretty(&dashboards::json(source, dashboard)?)?;
        files.push((path.display().to_string(), json + "\n"));
    }
    Ok(files)
}
