//! `deploy/fleet` on three hosts: an agent on two of them pushes to a Prometheus and a `VictoriaMetrics` on the third.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use exporter_tests::exporter::binary;
use exporter_tests::site::{Host, Site};
use exporter_tests::wait;

use super::{SOON, answers, deploy, labels, read};

const RECEIVER: &str = "http://localhost:9090";
const VICTORIA: &str = "http://localhost:8428";

/// A program on a host; it ends with the value.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

fn start(host: &Host, name: &str, words: &[&str]) -> Result<Service> {
    let log = File::create(host.path(name).with_extension("log"))?;
    // nsenter forks into the host's processes: what it started shall end with it, and begins at the root.
    let directory = host.path("").display().to_string();
    let begin = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", "cd \"$0\" && exec \"$@\"", &directory];
    let mut command = host.command(&[&begin, words].concat());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Ok(Service(command.spawn()?))
}

/// `agent.yml` as the tool that installs it would write it: the host's name, the receiver's address, and a second receiver.
fn agent(host: &Host, receiver: &Host) -> Result<Service> {
    let text = read("fleet/agent.yml")?;
    let url = "- url: http://receiver.example.org:9090/api/v1/write\n";
    ensure!(text.contains(url) && text.contains("web-1.example.org"), "agent.yml has changed");
    let both =
        format!("- url: http://{0}:8428/api/v1/write\n  - url: http://{0}:9090/api/v1/write\n", receiver.address);
    let text = text.replace("web-1.example.org", &host.name).replace(url, &both).replace("15s", "2s");
    fs::write(host.path("agent.yml"), text)?;
    // The package has Prometheus 2; from 3 on the flag is --agent.
    start(
        host,
        "agent",
        &["prometheus", "--enable-feature=agent", "--config.file=agent.yml", "--storage.agent.path=agent"],
    )
}

#[test]
fn agents_push_to_both_receivers_and_a_silent_one_is_told() {
    let site = Site::start(&["web-1", "web-2", "receiver"]).unwrap();
    let [one, two, receiver] = site.hosts() else { panic!("three hosts were started") };
    // As committed, but for places of files and how long it takes: a test cannot wait for ten minutes.
    let rules = deploy().canonicalize().unwrap();
    let silent = read("fleet/silent-agents.yml").unwrap();
    let silent: Vec<&str> = silent.lines().filter(|line| !line.trim_start().starts_with("for:")).collect();
    fs::write(receiver.path("silent-agents.yml"), silent.join("\n")).unwrap();
    let configuration = read("fleet/receiver.yml").unwrap().replace("../", &format!("{}/", rules.display()));
    fs::write(receiver.path("receiver.yml"), configuration.replace("15s", "2s")).unwrap();
    let prometheus = [
        "prometheus",
        "--web.enable-remote-write-receiver",
        "--config.file=receiver.yml",
        "--storage.tsdb.path=receiver",
        "--query.lookback-delta=20s",
    ];
    let _receiver = start(receiver, "receiver", &prometheus).unwrap();
    let _victoria = start(receiver, "victoria", &["victoria-metrics", "-storageDataPath=victoria"]).unwrap();

    let program = binary().unwrap().display().to_string();
    let mut services = Vec::new();
    let mut agents = Vec::new();
    for host in [one, two] {
        host.run(&[&format!("--name=of-{}", host.name)], &["sleep", "1d"]).unwrap();
        services.push(start(host, "exporter", &[&program]).unwrap());
        agents.push(agent(host, receiver).unwrap());
    }
    for server in [RECEIVER, VICTORIA] {
        for host in [one, two] {
            // Each host's own containers, under its name and its site.
            let query = format!("container_last_seen{{instance=\"{0}\",site=\"berlin\",name=\"of-{0}\"}}", host.name);
            answers(receiver, server, &query).unwrap();
        }
        let foreign = receiver.query(server, "container_last_seen{instance=\"web-1\",name=\"of-web-2\"}").unwrap();
        assert!(foreign.is_empty(), "{server}: {foreign:?}");
    }
    answers(receiver, RECEIVER, "container:container_cpu_usage_seconds:rate5m{instance=\"web-2\"}").unwrap();
    assert!(receiver.query(RECEIVER, "ALERTS{alertname=\"ContainerAgentSilent\"}").unwrap().is_empty());

    drop(agents.pop());
    let fires = "ALERTS{alertname=\"ContainerAgentSilent\",alertstate=\"firing\"}";
    let firing = answers(receiver, RECEIVER, fires).unwrap();
    assert_eq!(labels(&firing, "instance"), ["web-2"]);
    answers(receiver, RECEIVER, "container_last_seen{instance=\"web-1\",name=\"of-web-1\"}").unwrap();
    agents.push(agent(two, receiver).unwrap());
    wait::eventually(SOON, "the alert to resolve", || {
        let firing = receiver.query(RECEIVER, fires)?;
        ensure!(firing.is_empty(), "{firing:?}");
        Ok(())
    })
    .unwrap();
    drop((services, agents));
}

#[test]
fn vmalert_takes_the_rule_files() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["prometheus/rules/recording.yml", "prometheus/rules/alerts.yml", "fleet/silent-agents.yml"] {
        // The vmalert of Debian 12 does not know this key, nor does it have to: the others do.
        let text = read(name).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("keep_firing_for:")).collect();
        let path = directory.path().join("rules.yml");
        fs::write(&path, lines.join("\n")).unwrap();
        let mut command = Command::new("vmalert");
        let output = command.args(["-dryRun", &format!("-rule={}", path.display())]).output();
        let output = output.context("apt-get install victoria-metrics").unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
