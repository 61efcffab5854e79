//! Checks rules and dashboards for mistakes that Prometheus accepts silently: a metric that nobody exposes, a rate of a
//! gauge, a sum that loses the host, a ratio without a limit.

use std::collections::BTreeMap;

use docker_stats_exporter::metrics::{FAMILIES, Kind, SelfMetrics};

use super::promql::{Parts, Selector, scan};
use super::source::{Alert, Dashboard, Kind as PanelKind, Panel, Scope, Source};

/// Metrics that Prometheus itself adds.
const OF_PROMETHEUS: &[&str] = &["up", "scrape_duration_seconds", "scrape_samples_scraped", "ALERTS"];

/// Functions that take a counter.
const OF_COUNTERS: &[&str] = &["rate", "increase", "irate"];

/// Metrics that an expression may divide by, because they are never 0.
const NEVER_ZERO: &[&str] = &[
    "container_spec_cpu_quota",
    "container_spec_cpu_period",
    "machine_cpu_cores",
    "machine_memory_bytes",
    "process_max_fds",
];

/// Exceptions: the alert, the rule that it may break, and the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("ContainerOOMKilled", RAW_COUNTER, "sees a series that begins above 0, which no rate does"),
    ("ContainerServiceFailing", LOSES_HOST, "swarm moves tasks between hosts"),
];

const RAW_COUNTER: &str = "a counter without rate or increase";
const LOSES_HOST: &str = "an aggregation that loses job or instance";

/// The known metrics, and whether each is a counter.
type Known = BTreeMap<String, bool>;

/// Checks every expression and every template.
pub(super) fn check(source: &Source) -> anyhow::Result<Vec<String>> {
    let known = known(source)?;
    let mut findings = Vec::new();
    for rule in &source.rules.recording {
        let parts = scan(&rule.expr);
        findings.extend(named(&rule.record, rule_findings(&parts, &known)));
    }
    for alert in source.rules.all_alerts() {
        let parts = scan(&alert.expr(&source.rules));
        let all = rule_findings(&parts, &known).into_iter().chain(alert_findings(alert, &parts));
        let excepted =
            |what: &String| EXCEPTIONS.iter().any(|(who, rule, _)| *who == alert.name && what.contains(rule));
        findings.extend(named(&alert.name, all.filter(|what| !excepted(what)).collect()));
    }
    for dashboard in &source.dashboards {
        for panel in dashboard.panels() {
            let location = format!("{}, {:?}", dashboard.title, panel.title);
            findings.extend(named(&location, panel_findings(source, dashboard, panel, &known)));
        }
    }
    Ok(findings)
}

fn named(who: &str, findings: Vec<String>) -> impl Iterator<Item = String> {
    findings.into_iter().map(move |finding| format!("{who}: {finding}"))
}

fn known(source: &Source) -> anyhow::Result<Known> {
    let mut known = Known::new();
    for family in FAMILIES.iter().copied().flatten() {
        if family.kind == Kind::Histogram {
            known.extend(["_bucket", "_sum", "_count"].map(|suffix| (format!("{}{suffix}", family.name), true)));
        } else {
            known.insert(family.name.to_owned(), family.kind == Kind::Counter);
        }
    }
    known.extend(SelfMetrics::new()?.names().iter().map(|name| (name.clone(), name.ends_with("_total"))));
    known.extend(OF_PROMETHEUS.iter().map(|name| ((*name).to_owned(), false)));
    known.extend(source.rules.recording.iter().map(|rule| (rule.record.clone(), false)));
    Ok(known)
}

fn rule_findings(parts: &Parts, known: &Known) -> Vec<String> {
    let mut findings: Vec<String> = parts.selectors.iter().flat_map(|one| selector_findings(one, known)).collect();
    for aggregation in &parts.aggregations {
        let keeps = match &aggregation.clause {
            Some((word, labels)) => {
                ["job", "instance"].iter().all(|label| labels.iter().any(|one| one == label) == (word == "by"))
            }
            None => false,
        };
        if !keeps {
            findings.push(format!("{LOSES_HOST}: {}", aggregation.operator));
        }
    }
    let ranges = parts.selectors.iter().filter_map(|one| one.range.as_deref());
    // Four scrapes of 15 seconds each.
    let short = ranges.filter(|range| !range.ends_with('m') && !range.ends_with('h'));
    findings.extend(short.map(|range| format!("the range {range} is less than four scrapes")));
    findings
}

fn selector_findings(selector: &Selector, known: &Known) -> Vec<String> {
    let Selector { metric, within, range, is_bare_divisor, .. } = selector;
    let mut findings = Vec::new();
    let Some(is_counter) = known.get(metric) else { return vec![format!("nobody exposes {metric}")] };
    let innermost = within.first().map(String::as_str).unwrap_or_default();
    let is_rate = range.is_some() && OF_COUNTERS.contains(&innermost);
    if is_rate && !is_counter {
        findings.push(format!("{innermost} of {metric}, which is a gauge"));
    }
    if *is_counter && !is_rate {
        findings.push(format!("{RAW_COUNTER}: {metric}"));
    }
    if *is_bare_divisor && !NEVER_ZERO.contains(&metric.as_str()) {
        findings.push(format!("divides by {metric} without `> 0`: no limit is 0"));
    }
    findings
}

fn alert_findings(alert: &Alert, parts: &Parts) -> Vec<String> {
    let mut findings = Vec::new();
    let is_absent = parts.selectors.iter().any(|one| one.within.iter().any(|function| function == "absent"));
    if !parts.has_comparison && !is_absent {
        findings.push("compares with nothing, so it fires always".to_owned());
    }
    if is_absent && alert.r#for.is_none() {
        findings.push("absent() without `for`: one failed scrape fires it".to_owned());
    }
    if !alert.name.starts_with("Container") {
        findings.push("its name does not begin with Container".to_owned());
    }
    if !alert.description.ends_with('.') || !alert.because.ends_with('.') {
        findings.push("a description is a sentence".to_owned());
    }
    let names_host = alert.summary().contains("$labels.instance");
    if !names_host && !matches!(alert.scope, Scope::Service | Scope::None) {
        findings.push("the summary does not name the host".to_owned());
    }
    findings
}

fn panel_findings(source: &Source, dashboard: &Dashboard, panel: &Panel, known: &Known) -> Vec<String> {
    let mut findings = Vec::new();
    for query in &panel.queries {
        let expr = source.common.expand(&query.expr);
        let parts = scan(&expr);
        for selector in &parts.selectors {
            findings.extend(selector_findings(selector, known));
            for matcher in ["job=~\"$job\"", "instance=~\"$instance\""] {
                if !selector.matchers.contains(matcher) {
                    findings.push(format!("{} without {matcher}", selector.metric));
                }
            }
            let range = selector.range.as_deref();
            if range.is_some_and(|range| !["$__rate_interval", "$__range"].contains(&range)) {
                findings.push(format!("the range {range:?} does not follow the time range"));
            }
            let variables = selector.matchers.split('$').skip(1).filter_map(|rest| rest.split('"').next());
            let unknown = variables.filter(|name| !dashboard.variables.iter().any(|known| known == name));
            findings.extend(unknown.map(|name| format!("the dashboard has no variable {name}")));
        }
        let picks = parts.aggregations.iter().any(|one| one.operator == "topk");
        if picks && !panel.kind.is_instant() && !expr.contains("@ end()") {
            findings.push("topk picks anew at each step: use `@ end()`".to_owned());
        }
        if panel.kind != PanelKind::Stat && query.legend.is_empty() {
            findings.push("a query without a legend".to_owned());
        }
    }
    if panel.title.is_empty() || !panel.description.ends_with('.') || panel.unit.is_empty() {
        findings.push("a panel has a title, a unit, and a description that is a sentence".to_owned());
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{Known, rule_findings};
    use crate::deploy::promql::scan;

    fn findings(expr: &str) -> String {
        let known: Known =
            [("a_total", true), ("b", false), ("limit", false)].map(|(name, is)| (name.to_owned(), is)).into();
        rule_findings(&scan(expr), &known).join("; ")
    }

    #[test]
    fn each_mistake_is_found() {
        for (expr, finding) in [
            ("rate(c_total[5m]) > 0", "nobody exposes c_total"),
            ("rate(b[5m]) > 0", "rate of b, which is a gauge"),
            ("a_total > 0", "a counter without rate or increase: a_total"),
            ("sum(b) > 0", "loses job or instance: sum"),
            ("sum by (job) (b) > 0", "loses job or instance: sum"),
            ("sum without (instance) (b) > 0", "loses job or instance: sum"),
            ("b / limit > 0.9", "divides by limit"),
            ("rate(a_total[30s]) > 0", "less than four scrapes"),
        ] {
            assert!(findings(expr).contains(finding), "{expr}: {}", findings(expr));
        }
    }

    #[test]
    fn what_is_right_passes() {
        for expr in [
            "sum without (cpu) (rate(a_total[5m])) / (limit > 0) > 0.9",
            "count by (job, instance) (b) >= 3",
            "increase(a_total[10m]) > 0 and on (job, instance) b == 1",
        ] {
            assert_eq!(findings(expr), "", "{expr}");
        }
    }
}
