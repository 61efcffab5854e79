//! Checks dashboards for mistakes that Grafana accepts silently but shows wrongly.

use std::collections::BTreeSet;

use serde_json::Value;

use super::dashboards::{self, COLUMNS};
use super::source::Source;

/// Panel types of Grafana's core that the dashboards use.
const TYPES: &[&str] = &["row", "stat", "timeseries", "table", "bargauge", "heatmap"];

/// Checks the JSON of every dashboard.
pub(super) fn check(source: &Source) -> anyhow::Result<Vec<String>> {
    let mut findings = Vec::new();
    let mut uids = BTreeSet::new();
    for dashboard in &source.dashboards {
        let json = dashboards::json(source, dashboard)?;
        let mut found = dashboard_findings(&json);
        if !uids.insert(&dashboard.uid) {
            found.push("another dashboard has this uid".to_owned());
        }
        findings.extend(found.into_iter().map(|finding| format!("{}: {finding}", dashboard.title)));
    }
    Ok(findings)
}

fn dashboard_findings(json: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    let mut need = |holds: bool, what: &str| {
        if !holds {
            findings.push(what.to_owned());
        }
    };
    let uid = json["uid"].as_str().unwrap_or_default();
    need(!uid.is_empty() && uid.len() <= 40, "a uid has 1 to 40 characters");
    need(
        json["schemaVersion"].as_u64().is_some_and(|version| version >= 36),
        "schemaVersion is missing or of Grafana 8",
    );
    need(json["editable"] == false, "a provisioned dashboard is not editable");
    let variables = json.pointer("/templating/list").and_then(Value::as_array).cloned().unwrap_or_default();
    let first = |key: &str| variables.first().and_then(|variable| variable.get(key)?.as_str());
    let is_source = first("name") == Some("datasource") && first("type") == Some("datasource");
    need(is_source, "the first variable is not the data source");
    for variable in variables.iter().skip(1) {
        need(variable["refresh"] == 2, "a variable does not follow the time range");
        let is_all = variable["includeAll"] == true;
        need(!is_all || variable["allValue"] == ".*", "All of a variable leaves out series without the label");
        need(asks_the_variable(variable), "a variable asks a fixed data source");
    }
    let rows = json["panels"].as_array().cloned().unwrap_or_default();
    let panels: Vec<&Value> = rows.iter().flat_map(|row| [row].into_iter().chain(inside(row))).collect();
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    need(ids.len() == panels.len(), "two panels have one id, or none");
    // Panels of a collapsed row take no place until it is opened.
    findings.extend(overlaps(&rows.iter().collect::<Vec<_>>()));
    findings.extend(rows.iter().flat_map(|row| overlaps(&inside(row).collect::<Vec<_>>())));
    findings.extend(panels.iter().flat_map(|panel| panel_findings(panel)));
    findings
}

/// Returns whether the data source is the one that the reader chooses.
fn asks_the_variable(value: &Value) -> bool {
    value.pointer("/datasource/uid").is_some_and(|uid| uid == "${datasource}")
}

fn inside(row: &Value) -> impl Iterator<Item = &Value> {
    row["panels"].as_array().into_iter().flatten()
}

fn panel_findings(panel: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    let title = panel["title"].as_str().unwrap_or_default();
    let mut need = |holds: bool, what: &str| {
        if !holds {
            findings.push(format!("{title:?}: {what}"));
        }
    };
    let kind = panel["type"].as_str().unwrap_or_default();
    need(TYPES.contains(&kind), "a panel of a type that is not Grafana's own");
    let targets = panel["targets"].as_array().cloned().unwrap_or_default();
    if kind == "row" {
        need(panel["collapsed"].is_boolean(), "a row is collapsed or not");
    } else {
        need(!targets.is_empty(), "a panel without a query");
        need(asks_the_variable(panel), "a panel asks a fixed data source");
    }
    let references: BTreeSet<&str> = targets.iter().filter_map(|target| target["refId"].as_str()).collect();
    need(references.len() == targets.len(), "two queries have one refId, or none");
    for target in &targets {
        need(asks_the_variable(target), "a query asks a fixed data source");
        need(target["instant"].as_bool() != target["range"].as_bool(), "a query is either instant or over a range");
        let expr = target["expr"].as_str().unwrap_or_default();
        need(!expr.contains('<') || !expr.contains(">}"), "a selector was not written out");
    }
    findings
}

/// Finds panels that overlap and panels that leave the grid.
fn overlaps(panels: &[&Value]) -> Vec<String> {
    let number = |panel: &Value, key: &str| {
        panel.get("gridPos").and_then(|position| position.get(key)?.as_u64()).unwrap_or(u64::MAX / 2)
    };
    let apart = |one: &Value, other: &Value, from: &str, size: &str| {
        number(one, from) + number(one, size) <= number(other, from)
            || number(other, from) + number(other, size) <= number(one, from)
    };
    let mut findings = Vec::new();
    for (index, one) in panels.iter().enumerate() {
        if number(one, "x") + number(one, "w") > u64::from(COLUMNS) || number(one, "h") == 0 {
            findings.push(format!("{} leaves the grid", one["title"]));
        }
        for other in panels.iter().skip(index + 1) {
            if !apart(one, other, "x", "w") && !apart(one, other, "y", "h") {
                findings.push(format!("{} lies over {}", one["title"], other["title"]));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{dashboard_findings, overlaps};

    #[test]
    fn panels_over_each_other_and_out_of_the_grid_are_found() {
        let panel = |title: &str, x: u32, w: u32| json!({"title": title, "gridPos": {"x": x, "y": 0, "w": w, "h": 8}});
        let (left, right, over) = (panel("left", 0, 12), panel("right", 12, 12), panel("over", 6, 12));
        assert!(overlaps(&[&left, &right]).is_empty());
        assert_eq!(overlaps(&[&left, &over]), ["\"left\" lies over \"over\""]);
        assert_eq!(overlaps(&[&panel("wide", 20, 8)]), ["\"wide\" leaves the grid"]);
    }

    #[test]
    fn a_dashboard_of_someone_else_s_data_source_is_found() {
        let target = json!({"refId": "A", "expr": "up", "instant": true, "range": false, "datasource": {"uid": "abc"}});
        let panel = json!({"id": 1, "type": "graph", "title": "t", "targets": [target],
                           "gridPos": {"x": 0, "y": 0, "w": 1, "h": 1}});
        let findings =
            dashboard_findings(&json!({"uid": "u", "schemaVersion": 39, "editable": true, "panels": [panel]}));
        let text = findings.join("; ");
        for finding in ["not editable", "first variable", "not Grafana's own", "fixed data source"] {
            assert!(text.contains(finding), "{finding}: {text}");
        }
    }
}
