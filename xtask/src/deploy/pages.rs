//! Generates the pages about alerts and dashboards. Runbooks are written by hand; this file checks that each alert has one
//! with all sections.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::source::{Alert, Rules, Source};
use crate::workspace::File;

const ALERTS: &str = "\
# Alerts

Generated from `deploy/source/rules.yaml` by `cargo xtask deploy`; do not edit by hand.

`deploy/prometheus/rules/recording.yml` and `alerts.yml` go into `rule_files` of Prometheus (2.42 or newer) or of a receiver of its agents.
The scrape job is called `docker-stats-exporter` or `cadvisor`; one of another name is added to the selector of `up` and
`scrape_duration_seconds` in `alerts.yml`.

| severity | meaning |
|---|---|
| critical | act now: pages |
| warning | act in working hours: a ticket |
| info | context: send it only together with another alert of the same host |

Every alert has been made to fire in `promtool test rules`, and to be silent just under its threshold, without a limit, and without the
metrics that it asks for. Where `name` is unknown, texts have the id.

";

const AFTERWARDS: &str = "
## In Alertmanager

Group by `instance, name, id`. A host whose exporter is down has no other alerts to report, so `ContainerExporterDown` inhibits those of its
`instance`; `info` goes only with another alert of the same host. `deploy/alertmanager/alertmanager.yml` is an example.

## A named service that must run

No alert comes with the rules for a container that is gone: most containers are meant to go. For one that must run, name it:

```yaml
- alert: ContainerMissing
  expr: absent(container_last_seen{instance=\"host1:8081\",name=\"web\"}) or time() - container_last_seen{instance=\"host1:8081\",name=\"web\"} > 60
  for: 5m
  keep_firing_for: 10m
  labels: {severity: critical}
```
";

const DASHBOARDS: &str = "\
# Dashboards

Generated from `deploy/source/dashboards` by `cargo xtask deploy`; do not edit by hand.

`deploy/grafana/dashboards/*.json` are for Grafana 10 and newer, by import or by provisioning. They need the recording rules of
[ALERTS.md](ALERTS.md) and a Prometheus data source whose scrape interval is set, as `$__rate_interval` is computed from it. A table or a legend of one
dashboard opens the next: fleet, host, container.

";

/// `docs/ALERTS.md`.
pub(super) fn alerts(rules: &Rules) -> String {
    let mut text = ALERTS.to_owned();
    for group in &rules.alerts {
        text.extend([format!(
            "## {}\n\n| alert | severity | for | threshold | meaning | why so |\n|---|---|---|---|---|---|\n",
            group.group
        )]);
        text.extend(group.alerts.iter().map(row));
        text.push('\n');
    }
    text += "## Recording rules\n\nDashboards and alerts read these in place of the raw counters.\n\n| name | expression |\n|---|---|\n";
    for rule in &rules.recording {
        writeln!(text, "| `{}` | `{}` |", rule.record, rule.expr.trim_end()).unwrap_or_default();
    }
    text + AFTERWARDS
}

fn row(alert: &Alert) -> String {
    let Alert { name, because, .. } = alert;
    let threshold = alert.threshold.map_or("–".to_owned(), |threshold| threshold.to_string());
    let meaning = alert.meaning();
    let duration = alert.r#for.as_deref().unwrap_or("–");
    format!(
        "| [{name}](runbooks/{name}.md) | {} | {duration} | {threshold} | {meaning} | {because} |\n",
        alert.severity.word()
    )
}

/// `docs/DASHBOARDS.md`.
pub(super) fn dashboards(source: &Source) -> String {
    let mut text = DASHBOARDS.to_owned();
    for dashboard in &source.dashboards {
        text.extend([format!(
            "## {}\n\n{}\n\n| row | panel | what it shows |\n|---|---|---|\n",
            dashboard.title, dashboard.description
        )]);
        for row in &dashboard.rows {
            for panel in &row.panels {
                text.extend([format!("| {} | {} | {} |\n", row.title, panel.title, panel.description)]);
            }
        }
        text += "\nPanels that are empty on a host that works:\n\n";
        for panel in dashboard.panels() {
            let reasons: BTreeSet<&str> = panel.queries.iter().filter_map(|query| query.empty.as_deref()).collect();
            text.extend(reasons.iter().map(|reason| format!("- {}: {reason}.\n", panel.title)));
        }
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

const SECTIONS: [&str; 6] =
    ["## Meaning", "## Impact", "## First commands", "## Causes", "## Fix", "## When to silence"];

/// Alerts without a runbook, runbooks without an alert, runbooks that lack a section, and those that the book leaves out.
pub(super) fn check(rules: &Rules, files: &[File]) -> Vec<String> {
    let alerts: BTreeSet<&str> = rules.all_alerts().map(|alert| alert.name.as_str()).collect();
    let runbooks: BTreeMap<&str, &str> = files.iter().filter_map(runbook).collect();
    let text = |path: &str| files.iter().find(|file| file.path == path)?.text.as_deref();
    let mut findings = Vec::new();
    for alert in &alerts {
        let Some(page) = runbooks.get(alert) else {
            findings.push(format!("{alert}: docs/runbooks/{alert}.md is missing"));
            continue;
        };
        let missing = SECTIONS.iter().filter(|section| !page.lines().any(|line| line == **section));
        findings.extend(missing.map(|section| format!("docs/runbooks/{alert}.md: the section `{section}` is missing")));
        if !page.starts_with(&format!("# {alert}\n")) {
            findings.push(format!("docs/runbooks/{alert}.md: it does not begin with the alert's name"));
        }
    }
    // Rules that are written by hand have runbooks, too.
    let in_deploy =
        files.iter().filter(|file| file.path.starts_with("deploy/")).filter_map(|file| file.text.as_deref());
    let others: BTreeSet<&str> =
        in_deploy.flat_map(str::lines).filter_map(|line| line.split_once("alert: ").map(|(_, name)| name)).collect();
    for name in runbooks.keys() {
        if !alerts.contains(name) && !others.contains(name) {
            findings.push(format!("docs/runbooks/{name}.md: there is no such alert"));
        }
        if text("docs/SUMMARY.md").is_some_and(|book| !book.contains(&format!("(runbooks/{name}.md)"))) {
            findings.push(format!("docs/SUMMARY.md: runbooks/{name}.md is not in the book"));
        }
    }
    findings
}

/// The name and the text of a runbook.
fn runbook(file: &File) -> Option<(&str, &str)> {
    Some((file.path.strip_prefix("docs/runbooks/")?.strip_suffix(".md")?, file.text.as_deref()?))
}

#[cfg(test)]
mod tests {
    use super::{SECTIONS, check};
    use crate::deploy::source::Rules;
    use crate::workspace::File;

    #[test]
    fn alerts_and_runbooks_are_there_for_each_other() {
        let rules = "{exporter: j, runbooks: r, recording: [], alerts: [{group: g, alerts: [
            {alert: ContainerA, severity: info, expr: e, summary: s, description: d, because: b},
            {alert: ContainerB, severity: info, expr: e, summary: s, description: d, because: b}]}]}";
        let rules: Rules = serde_saphyr::from_str(rules).unwrap();
        let file = |path: &str, text: &str| File { path: path.to_owned(), text: Some(text.to_owned()) };
        let page = |name: &str| format!("# {name}\n\n{}\n", SECTIONS.join("\n"));
        let mut files = vec![
            file("docs/runbooks/ContainerA.md", &page("ContainerA").replace("## Fix", "## Remedy")),
            file("docs/runbooks/ContainerOld.md", &page("ContainerOld")),
            file("docs/runbooks/ContainerByHand.md", "By hand."),
            file("deploy/fleet/rules.yml", "      - alert: ContainerByHand\n"),
            file("docs/SUMMARY.md", "(runbooks/ContainerA.md) (runbooks/ContainerOld.md)"),
        ];
        let findings = check(&rules, &files).join("\n");
        for finding in [
            "ContainerB.md is missing",
            "`## Fix` is missing",
            "ContainerOld.md: there is no such alert",
            "ContainerByHand.md is not in the book",
        ] {
            assert!(findings.contains(finding), "{finding}: {findings}");
        }
        files.splice(
            ..,
            [
                file("docs/runbooks/ContainerA.md", &page("ContainerA")),
                file("docs/runbooks/ContainerB.md", &page("ContainerB")),
            ],
        );
        assert!(check(&rules, &files).is_empty());
    }
}
