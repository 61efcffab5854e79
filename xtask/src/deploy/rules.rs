//! The rule files of Prometheus.

use std::fmt::Write as _;

use super::source::{Alert, Rules};

const HEADER: &str = "\
# Generated from deploy/source/rules.yaml by `cargo xtask deploy`; do not edit by hand.
";

/// `recording.yml`.
pub(super) fn recording(rules: &Rules) -> String {
    let mut text = format!("{HEADER}groups:\n  - name: container-recording\n    rules:\n");
    for rule in &rules.recording {
        push(&mut text, &format!("- record: {}", rule.record));
        push(&mut text, &format!("  expr: {}", quoted(rule.expr.trim_end())));
    }
    text
}

/// `alerts.yml`.
pub(super) fn alerts(rules: &Rules) -> String {
    let mut text = format!("{HEADER}groups:\n");
    for group in &rules.alerts {
        text.extend([format!("  - name: {}\n    rules:\n", group.group)]);
        group.alerts.iter().for_each(|alert| push_alert(&mut text, alert, rules));
    }
    text
}

fn push_alert(text: &mut String, alert: &Alert, rules: &Rules) {
    push(text, &format!("- alert: {}", alert.name));
    push(text, "  expr: |");
    alert.expr(rules).lines().for_each(|line| push(text, &format!("    {line}")));
    for (key, value) in [("for", &alert.r#for), ("keep_firing_for", &alert.keep_firing_for)] {
        if let Some(value) = value {
            push(text, &format!("  {key}: {value}"));
        }
    }
    push(text, &format!("  labels: {{severity: {}}}", alert.severity.word()));
    push(text, "  annotations:");
    for (key, value) in [
        ("summary", alert.summary()),
        ("description", alert.description.clone()),
        ("runbook_url", alert.runbook(rules)),
    ] {
        push(text, &format!("    {key}: {}", quoted(&value)));
    }
}

/// One line of a rule.
fn push(text: &mut String, line: &str) {
    writeln!(text, "      {line}").unwrap_or_default();
}

/// A string in single quotes, in which YAML knows nothing special but the quote itself.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
