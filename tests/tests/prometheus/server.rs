//! A Prometheus of the Debian package, with a data directory of its own, scraping one exporter every two seconds.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use exporter_tests::exporter::free_address;
use exporter_tests::{http, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A version by its first two numbers.
pub(crate) type Version = (u32, u32);

/// A running server; it ends with the value.
pub(crate) struct Prometheus {
    address: SocketAddr,
    child: Child,
    directory: TempDir,
}

impl Prometheus {
    /// Starts it and waits until it has scraped once.
    pub(crate) fn start(target: SocketAddr) -> Result<Self> {
        Self::with("prometheus", "", target, &[("exporter", "")])
    }

    /// Starts a program with these features and jobs, each a name and what its configuration has beside the target, and waits until
    /// each has scraped once.
    pub(crate) fn with(program: &str, features: &str, target: SocketAddr, jobs: &[(&str, &str)]) -> Result<Self> {
        Self::with_rules(program, features, target, jobs, &[])
    }

    /// As [`Prometheus::with`], with the rules of these texts, which are evaluated every two seconds.
    pub(crate) fn with_rules(
        program: &str,
        features: &str,
        target: SocketAddr,
        jobs: &[(&str, &str)],
        rules: &[String],
    ) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        for (number, text) in rules.iter().enumerate() {
            fs::write(directory.path().join(format!("rules{number}.yml")), text)?;
        }
        let mut configuration =
            vec!["global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}".to_owned()];
        configuration.extend((!rules.is_empty()).then(|| "rule_files: ['rules*.yml']".to_owned()));
        configuration.push("scrape_configs:".to_owned());
        for (name, settings) in jobs {
            configuration.push(format!("- job_name: '{name}'\n  static_configs: [{{targets: ['{target}']}}]"));
            configuration.extend(settings.lines().map(|line| format!("  {line}")));
        }
        let configuration = configuration.join("\n");
        fs::write(directory.path().join("prometheus.yml"), configuration)?;
        let address = free_address()?;
        let child = Command::new(program)
            .current_dir(directory.path())
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"])
            .arg(format!("--web.listen-address={address}"))
            .args((!features.is_empty()).then(|| format!("--enable-feature={features}")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.path().join("log"))?)
            .spawn()
            .with_context(|| format!("{program} does not start: apt-get install prometheus"))?;
        let mut server = Self { address, child, directory };
        let ended = wait::eventually(Duration::from_secs(30), "Prometheus' first scrapes", || {
            if let Some(status) = server.child.try_wait()? {
                return Ok(Some(status));
            }
            let up = server.query("up == 1")?;
            ensure!(up.len() == jobs.len(), "{} of {} are up: {}", up.len(), jobs.len(), server.errors()?);
            Ok(None)
        });
        let log = || fs::read_to_string(server.directory.path().join("log")).unwrap_or_default();
        if let Some(status) = ended.with_context(log)? {
            bail!("{program} ended with {status}: {}", log());
        }
        Ok(server)
    }

    /// An instant query; its result vector.
    pub(crate) fn query(&self, query: &str) -> Result<Vec<Value>> {
        let answer = self.get(&format!("/api/v1/query?query={}", encode(query)))?;
        let result = answer.pointer("/data/result").and_then(Value::as_array);
        result.cloned().with_context(|| answer.to_string())
    }

    /// Every rule, as Prometheus tells of it.
    pub(crate) fn rules(&self) -> Result<Vec<Value>> {
        let answer = self.get("/api/v1/rules")?;
        let groups = answer.pointer("/data/groups").and_then(Value::as_array).with_context(|| answer.to_string())?;
        Ok(groups.iter().filter_map(|group| group["rules"].as_array()).flatten().cloned().collect())
    }

    /// One field of what Prometheus learned of a metric beside its samples, by the job's scrapes.
    pub(crate) fn metadata(&self, job: &str, metric: &str, field: &str) -> Result<String> {
        let target = encode(&format!("{{job=\"{job}\"}}"));
        let answer = self.get(&format!("/api/v1/targets/metadata?match_target={target}&metric={metric}"))?;
        let value = answer.pointer(&format!("/data/0/{field}")).and_then(Value::as_str);
        value.map(str::to_owned).with_context(|| answer.to_string())
    }

    /// The version that a program says it is.
    pub(crate) fn version(program: &str) -> Result<Version> {
        let output = Command::new(program).arg("--version").output();
        let output = output.with_context(|| format!("{program} does not start: cargo xtask setup tests"))?;
        // Older ones say it on stderr.
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let numbers = said.strip_prefix("prometheus, version ").map(|rest| rest.splitn(3, '.').map(str::parse));
        match numbers.into_iter().flatten().take(2).collect::<Vec<_>>()[..] {
            [Ok(major), Ok(minor)] => Ok((major, minor)),
            _ => bail!("{program} --version says {said}"),
        }
    }

    /// What Prometheus says of the last scrape of each job.
    pub(crate) fn errors(&self) -> Result<String> {
        let targets = self.get("/api/v1/targets")?;
        let targets = targets.pointer("/data/activeTargets").and_then(Value::as_array).cloned().unwrap_or_default();
        let errors = targets.iter().map(|target| format!("{} {}", target["scrapePool"], target["lastError"]));
        Ok(errors.collect::<Vec<_>>().join(", "))
    }

    fn get(&self, path: &str) -> Result<Value> {
        let answer = http::get(self.address, path, &[])?;
        Ok(serde_json::from_str(&answer.text()?)?)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

/// Percent-encodes everything but letters and digits.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
