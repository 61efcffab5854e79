//! The rule files of Prometheus, and their checks by `promtool check rules` and `promtool test rules` with the cases of
//! `alert_tests.yaml`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::source::{Alert, Case, Rules, Samples, Scope, Source};
use crate::sh;
use crate::workspace;

const HEADER: &str = "\
# Generated from deploy/source/rules.yaml by `cargo xtask deploy`; do not edit by hand.
";

/// Returns the text of `recording.yml`.
pub(super) fn recording(rules: &Rules) -> String {
    let mut text = format!("{HEADER}groups:\n  - name: container-recording\n    rules:\n");
    for rule in &rules.recording {
        push(&mut text, &format!("- record: {}", rule.record));
        push(&mut text, &format!("  expr: {}", quoted(rule.expr.trim_end())));
    }
    text
}

/// Returns the text of `alerts.yml`.
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

/// Appends a line of a rule.
fn push(text: &mut String, line: &str) {
    writeln!(text, "      {line}").unwrap_or_default();
}

/// Returns a string in single quotes, in which YAML escapes only the quote itself.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

type Labels = BTreeMap<String, String>;

/// Number of samples that a plain number stands for.
const LONG: u32 = 120;
/// Number of minutes after the first minute of `fires` at which an alert must still be silent, because a condition that began
/// late fires after its `for`.
const LATER: u32 = 10;

/// Checks the rule files, and runs the tests of every alert.
pub(super) fn check(source: &Source) -> anyhow::Result<()> {
    let rules = workspace::root().join("deploy/prometheus/rules");
    let files = ["recording.yml", "alerts.yml"].map(|name| rules.join(name).display().to_string());
    sh::run(&format!("promtool check rules {}", files.join(" ")))?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("tests.json");
    // promtool reads YAML, which includes JSON.
    fs::write(&path, serde_json::to_string_pretty(&input(source, &files)?)?)?;
    sh::run(&format!("promtool test rules {}", path.display()))
}

fn input(source: &Source, files: &[String]) -> anyhow::Result<Value> {
    let mut tests = Vec::new();
    for alert in source.rules.all_alerts() {
        let cases = source.tests.get(&alert.name).with_context(|| format!("{} has no test", alert.name))?;
        for case in cases {
            tests.extend(runs(alert, case, &source.rules).with_context(|| alert.name.clone())?);
        }
    }
    let unknown = source.tests.keys().find(|name| source.rules.all_alerts().all(|alert| alert.name != **name));
    ensure!(unknown.is_none(), "a test of an alert that is none: {unknown:?}");
    Ok(json!({"rule_files": files, "evaluation_interval": "1m", "tests": tests}))
}

/// Returns the runs of a case: as given, just under the threshold, for each reason to be silent, and without each family.
fn runs(alert: &Alert, case: &Case, rules: &Rules) -> anyhow::Result<Vec<Value>> {
    let fires = *case.fires.first().context("`fires` has no minute")?;
    let expected = expected(alert, case, rules)?;
    let checks = [case.before, case.resolved].into_iter().flatten().map(|minute| (minute, Value::Array(Vec::new())));
    let checks = checks.chain(case.fires.iter().map(|minute| (*minute, expected.clone()))).collect::<Vec<_>>();
    let run = |name: &str, samples: &Samples, checks: &[(u32, Value)]| test(alert, name, samples, checks);
    let silent = [fires, fires + LATER].map(|minute| (minute, Value::Array(Vec::new())));

    let mut runs = vec![run("as given", &case.given, &checks)];
    if !case.under.is_empty() {
        runs.push(run("just under the threshold", &replaced(&case.given, &case.under), &silent));
    }
    for (reason, samples) in &case.silent {
        runs.push(run(reason, &replaced(&case.given, samples), &silent));
    }
    let families: std::collections::BTreeSet<&str> = case.given.keys().map(|key| family(key)).collect();
    for absent in families {
        let rest = case.given.iter().filter(|(key, _)| family(key) != absent);
        let rest: Samples = rest.map(|(key, samples)| (key.clone(), samples.clone())).collect();
        let is_optional = case.optional.iter().any(|name| name == absent);
        let checks = if is_optional { vec![(fires, expected.clone())] } else { silent.to_vec() };
        runs.push(run(&format!("without {absent}"), &rest, &checks));
    }
    Ok(runs)
}

fn replaced(given: &Samples, with: &Samples) -> Samples {
    let mut samples = given.clone();
    samples.extend(with.iter().map(|(key, value)| (key.clone(), value.clone())));
    samples
}

fn family(key: &str) -> &str {
    key.split('{').next().unwrap_or(key)
}

fn test(alert: &Alert, name: &str, samples: &Samples, checks: &[(u32, Value)]) -> Value {
    let series: Vec<Value> = subjects(alert.scope)
        .iter()
        .flat_map(|subject| samples.iter().map(move |(key, values)| (subject, key, values)))
        .filter_map(|(subject, key, values)| {
            let values = values.as_ref()?;
            let values = if values.parse::<f64>().is_ok() { format!("{values}+0x{LONG}") } else { values.clone() };
            Some(json!({"series": series(key, subject), "values": values}))
        })
        .collect();
    let checks: Vec<Value> = checks
        .iter()
        .map(|(minute, expected)| {
            json!({"eval_time": format!("{minute}m"), "alertname": alert.name, "exp_alerts": expected})
        })
        .collect();
    let name = format!("{}: {name}", alert.name);
    json!({"name": name, "interval": "1m", "input_series": series, "alert_rule_test": checks})
}

/// A series with the labels of its subject; its own labels win.
fn series(key: &str, subject: &Labels) -> String {
    let own = key.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
    let mut labels = subject.clone();
    for label in own.split(',').filter(|label| !label.is_empty()) {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        labels.insert(name.to_owned(), value.trim_matches('"').to_owned());
    }
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    format!("{}{{{}}}", family(key), labels.join(","))
}

/// One alert for each subject.
fn expected(alert: &Alert, case: &Case, rules: &Rules) -> anyhow::Result<Value> {
    let mut alerts = Vec::new();
    for subject in subjects(alert.scope) {
        let value = case.value.as_deref();
        let annotations = json!({
            "summary": rendered(&alert.summary(), &subject, value)?,
            "description": rendered(&alert.description, &subject, value)?,
            "runbook_url": alert.runbook(rules),
        });
        let mut labels = subject;
        labels.insert("severity".to_owned(), alert.severity.word().to_owned());
        alerts.push(json!({"exp_labels": labels, "exp_annotations": annotations}));
    }
    Ok(Value::Array(alerts))
}

/// A template as Prometheus fills it in: with these labels, and with the value as it should read.
fn rendered(template: &str, labels: &Labels, value: Option<&str>) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after.split_once("}}").with_context(|| format!("no end of a template: {template}"))?;
        text += before;
        let label = |name: &str| labels.get(name).map(String::as_str).filter(|label| !label.is_empty());
        let words: Vec<&str> = inside.split_whitespace().map(|word| word.trim_start_matches("$labels.")).collect();
        text += match words.as_slice() {
            ["or", first, second] => label(first).or_else(|| label(second)).unwrap_or_default(),
            [name] => label(name).with_context(|| format!("the subject has no label {name}"))?,
            words if words.contains(&"$value") => value.context("`value` is missing")?,
            _ => anyhow::bail!("the tests do not know the template {inside:?}"),
        };
        rest = after;
    }
    Ok(text + rest)
}

/// What an alert of this scope can be about: more than one, and of containers one that has no name.
fn subjects(scope: Scope) -> Vec<Labels> {
    const JOB: (&str, &str) = ("job", "docker-stats-exporter");
    const HOST_1: (&str, &str) = ("instance", "host1:8081");
    const HOST_2: (&str, &str) = ("instance", "host2:8081");
    const SERVICE: &str = "container_label_com_docker_swarm_service_name";
    let subjects: &[&[(&str, &str)]] = match scope {
        Scope::Container => &[
            &[JOB, HOST_1, ("id", "/docker/a"), ("name", "web"), ("image", "nginx")],
            &[JOB, HOST_1, ("id", "/docker/b"), ("name", "db"), ("image", "postgres")],
            &[JOB, HOST_2, ("id", "/docker/c")],
        ],
        Scope::Host => &[&[JOB, HOST_1, ("id", "/")], &[JOB, HOST_2, ("id", "/")]],
        Scope::Device => &[
            &[JOB, HOST_1, ("id", "/"), ("device", "/dev/sda1")],
            &[JOB, HOST_1, ("id", "/"), ("device", "/dev/sdb1")],
            &[JOB, HOST_2, ("id", "/"), ("device", "/dev/sda1")],
        ],
        Scope::Service => &[&[JOB, (SERVICE, "shop_web")], &[JOB, (SERVICE, "shop_db")]],
        Scope::Instance => &[&[JOB, HOST_1], &[JOB, HOST_2]],
        Scope::Collector => &[&[JOB, HOST_1, ("collector", "cpu")], &[JOB, HOST_1, ("collector", "memory")]],
        Scope::File => &[
            &[JOB, HOST_1, ("file", "memory.stat"), ("reason", "malformed")],
            &[JOB, HOST_2, ("file", "cpu.stat"), ("reason", "permission_denied")],
        ],
        Scope::Map => &[&[JOB, HOST_1, ("map", "TRAFFIC")], &[JOB, HOST_2, ("map", "BLOCK")]],
        Scope::None => &[&[]],
    };
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    subjects.iter().map(|labels| labels.iter().map(owned).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::{rendered, series, subjects};
    use crate::deploy::source::Scope;

    #[test]
    fn templates_are_filled_in_as_prometheus_does() {
        let [named, _, unnamed] = subjects(Scope::Container).try_into().unwrap();
        let template = "{{ or $labels.name $labels.id }} on {{ $labels.instance }}: {{ $value | humanizePercentage }}";
        assert_eq!(rendered(template, &named, Some("91%")).unwrap(), "web on host1:8081: 91%");
        assert_eq!(rendered(template, &unnamed, Some("91%")).unwrap(), "/docker/c on host2:8081: 91%");
        assert!(rendered(template, &named, None).is_err() && rendered("{{ $labels.node }}", &named, None).is_err());
    }

    #[test]
    fn a_series_s_own_labels_win() {
        let subject = [("id".to_owned(), "/".to_owned()), ("job".to_owned(), "x".to_owned())].into();
        assert_eq!(series("a{id=\"/docker/1\",le=\"0.25\"}", &subject), "a{id=\"/docker/1\",job=\"x\",le=\"0.25\"}");
        assert_eq!(series("a", &subject), "a{id=\"/\",job=\"x\"}");
    }
}
