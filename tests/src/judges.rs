//! Independent judges: promtool (text) and Python's `prometheus_client` (both formats). Every exposition that a test
//! obtains through the exporter guard is shown to them, so that no parser of ours vouches for a renderer of ours.
//! Python's `fastjsonschema` judges JSON.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};

use crate::exposition::{Exposition, Format};

/// What promtool may say, as (beginning of the metric name, part of the complaint). All of it is said of names that
/// cAdvisor chose and that dashboards rely on; nothing of our own may be added.
const ALLOWED: &[(&str, &str)] = &[
    // Counters without `_total`.
    ("container_memory_failcnt", "counter metrics should have \"_total\" suffix"),
    ("container_hugetlb_failcnt", "counter metrics should have \"_total\" suffix"),
    // Gauges with `_total`.
    ("container_fs_inodes_total", "non-counter metrics should not have \"_total\" suffix"),
    ("container_network_", "non-counter metrics should not have \"_total\" suffix"),
    // Labels in camel case.
    ("cadvisor_version_info", "label names should be written in 'snake_case' not 'camelCase'"),
];

/// The predecessor's names (`--metrics.schema=docker-stats`) follow the kernel's file names, not Prometheus' habits.
const PREDECESSOR: &str = "docker_stats_";

/// Shows an exposition to every judge that knows its format. `JUDGES=none` is for machines without judges (a guest),
/// whose captures are judged elsewhere.
///
/// # Errors
/// What a judge complains of, or how to install a judge that is missing.
pub fn judge(exposition: &Exposition, format: Format) -> Result<()> {
    if std::env::var("JUDGES").is_ok_and(|word| word == "none") {
        return Ok(());
    }
    if format == Format::Text {
        promtool(&exposition.text)?;
    }
    python(&exposition.text, format, exposition.samples().count())
}

/// A program for Python that validates JSON on stdin against the schema in its argument. Keys that the schema lacks are an error, too.
const VALIDATE: &str = "
import fastjsonschema, json, sys
schema = json.loads(sys.argv[1])
for part in [schema, schema['properties']['host'], schema['definitions']['row']]:
    part['additionalProperties'] = False
validate = fastjsonschema.compile(schema)
for line in sys.stdin:
    validate(json.loads(line))
";

/// Validates lines of `top --json` against the published schema.
///
/// # Errors
/// What the lines have that the schema does not allow, or how to install the judge.
pub fn judge_json(lines: &[u8]) -> Result<()> {
    let schema = include_str!("../../docs/top.schema.json");
    let mut child = Command::new(interpreter())
        .args(["-c", VALIDATE, schema])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("python3 does not start")?;
    let written = child.stdin.take().context("no stdin")?.write_all(lines);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "fastjsonschema: {}", String::from_utf8_lossy(&output.stderr));
    written.context("fastjsonschema did not read it all")
}

fn interpreter() -> String {
    std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

fn promtool(text: &str) -> Result<()> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("promtool does not start; it is in the Debian package `prometheus`: apt-get install prometheus")?;
    let mut stdin = child.stdin.take().context("promtool has no stdin")?;
    let written = stdin.write_all(text.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> = said.lines().filter(|line| !is_allowed(line)).collect();
    ensure!(complaints.is_empty(), "promtool check metrics: {}", complaints.join("\n"));
    // 0: clean; 3: lint, all of it allowed.
    ensure!(matches!(output.status.code(), Some(0 | 3)), "promtool ended with {}: {said}", output.status);
    written.context("promtool did not read it all")
}

fn is_allowed(line: &str) -> bool {
    let own = line.starts_with("docker_stats_exporter_");
    (line.starts_with(PREDECESSOR) && !own)
        || ALLOWED.iter().any(|(name, complaint)| line.starts_with(name) && line.contains(complaint))
}

/// The Python process, started once and fed until this process ends (its stdin then closes).
static PYTHON: Mutex<Option<Python>> = Mutex::new(None);

struct Python {
    _child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

fn python(text: &str, format: Format, samples: usize) -> Result<()> {
    let mut guard = PYTHON.lock().unwrap_or_else(PoisonError::into_inner);
    let mut python = match guard.take() {
        Some(python) => python,
        None => Python::start()?,
    };
    let verdict = python.ask(text, format)?;
    *guard = Some(python);
    match verdict.split_once(' ') {
        Some(("ok", count)) => {
            ensure!(count.parse() == Ok(samples), "prometheus_client saw {count} samples, our parser {samples}");
            Ok(())
        }
        _ => bail!("prometheus_client ({format:?}): {verdict}"),
    }
}

impl Python {
    fn start() -> Result<Self> {
        let interpreter = interpreter();
        let mut child = Command::new(&interpreter)
            .args(["-c", include_str!("judges.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{interpreter} does not start: install python3 or name one in PYTHON"))?;
        let stdin = child.stdin.take().context("no stdin")?;
        let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        if line.trim() != "ready" {
            let output = child.wait_with_output()?;
            bail!(
                "{interpreter} has no usable prometheus_client: {interpreter} -m pip install prometheus_client\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(Self { _child: child, stdin, stdout })
    }

    fn ask(&mut self, text: &str, format: Format) -> Result<String> {
        let kind = if format == Format::Text { "text" } else { "openmetrics" };
        writeln!(self.stdin, "{kind} {}", text.len())?;
        self.stdin.write_all(text.as_bytes())?;
        self.stdin.flush()?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str, format: Format) -> Result<()> {
        judge(&Exposition { text: text.to_owned(), families: Exposition::parse(text, format)?.families }, format)
    }

    #[test]
    fn a_clean_exposition_passes() {
        verdict("# HELP a_total A.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n", Format::Text).unwrap();
        verdict("# HELP a A.\n# TYPE a counter\na_total{b=\"c\"} 1\n# EOF\n", Format::OpenMetrics).unwrap();
    }

    #[test]
    fn a_lint_is_an_error_unless_cadvisor_made_the_name() {
        let error = verdict("# HELP a A.\n# TYPE a counter\na 1\n", Format::Text).unwrap_err();
        assert!(error.to_string().contains("_total"), "{error}");
        verdict(
            "# HELP container_memory_failcnt A.\n# TYPE container_memory_failcnt counter\ncontainer_memory_failcnt 1\n",
            Format::Text,
        )
        .unwrap();
    }

    #[test]
    fn each_judge_is_asked() {
        let error = promtool("# HELP a A.\n# TYPE a gauge\na 1\na 1\na{ 1\n").unwrap_err();
        assert!(error.to_string().contains("promtool"), "{error}");
        let error = python("# TYPE a counter\na 1\n# EOF\n", Format::OpenMetrics, 1).unwrap_err();
        assert!(error.to_string().contains("prometheus_client"), "{error}");
    }
}
