//! `deploy/swarm` on three hosts: a global service with TLS, which Prometheus finds by the swarm's own list of nodes.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use exporter_tests::site::{Host, Site};
use exporter_tests::wait;
use rustix::process::{Resource, getrlimit};
use serde_json::Value;

use super::{SOON, deploy, exporter_image, image, labels, prometheus_image, read, targets};

/// Engines before Docker 23 do not know the names of these capabilities, which the file says.
const NEWER: &str = "cap_add: [BPF, PERFMON, NET_ADMIN, DAC_READ_SEARCH]";

/// A swarm of all hosts, managed by the first.
fn join(site: &Site) -> Result<()> {
    let (manager, workers) = site.hosts().split_first().context("no hosts")?;
    manager.docker(&["swarm", "init", "--advertise-addr", &manager.address])?;
    let token = manager.docker(&["swarm", "join-token", "--quiet", "worker"])?;
    let address = format!("{}:2377", manager.address);
    for worker in workers {
        worker.docker(&["swarm", "join", "--advertise-addr", &worker.address, "--token", &token, &address])?;
    }
    Ok(())
}

/// Open files that the file asks for.
const OPEN_FILES: &str = "nofile: 65536";

/// The directory of the stack, as one would copy it, with what this machine and engines of this age can give.
fn stack(manager: &Host) -> Result<String> {
    let directory = manager.path("deploy");
    let output = Command::new("cp").arg("--recursive").arg(deploy()).arg(&directory).output()?;
    ensure!(output.status.success(), "cp: {}", String::from_utf8_lossy(&output.stderr));
    let file = directory.join("swarm/stack.yaml");
    let mut text = fs::read_to_string(&file)?;
    ensure!(text.contains(NEWER) && text.contains(OPEN_FILES), "stack.yaml has changed");
    let version = manager.docker(&["version", "--format", "{{.Server.Version}}"])?;
    let major: u32 = version.split('.').next().unwrap_or_default().parse()?;
    if major < 23 {
        text = text.replace(NEWER, "cap_add: [DAC_READ_SEARCH]");
    }
    if let Some(most) = getrlimit(Resource::Nofile).maximum.filter(|most| *most < 65536) {
        text = text.replace(OPEN_FILES, &format!("nofile: {most}"));
    }
    fs::write(&file, text)?;
    Ok(file.display().to_string())
}

/// A certificate for the name that the file asks for, as a secret.
fn make_secrets(manager: &Host) -> Result<()> {
    let [key, certificate] = ["tls.key", "tls.crt"].map(|name| manager.path(name).display().to_string());
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=docker-stats-exporter"])
        .args(["-addext", "subjectAltName=DNS:docker-stats-exporter", "-keyout", &key, "-out", &certificate])
        .output()?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    manager.docker(&["secret", "create", "exporter_tls.crt", &certificate])?;
    manager.docker(&["secret", "create", "exporter_tls.key", &key])?;
    let web = deploy().join("swarm/web.yml").display().to_string();
    manager.docker(&["config", "create", "exporter_web.yml", &web]).map(drop)
}

/// Where Prometheus answers on its host, past the routing mesh, which not every kernel has.
fn prometheus(manager: &Host) -> Result<String> {
    let container = manager.docker(&["ps", "--quiet", "--filter", "name=monitoring_prometheus"])?;
    ensure!(!container.is_empty(), "no container of Prometheus: {}", tasks(manager));
    let networks = "{{json .NetworkSettings.Networks}}";
    let pid = manager.docker(&["inspect", "--format", "{{.State.Pid}}", &container])?;
    ensure!(pid != "0", "Prometheus does not run: {}", manager.docker(&["inspect", "--format", networks, &container])?);
    let gateway = manager.docker(&["network", "inspect", "docker_gwbridge", "--format", "{{json .Containers}}"])?;
    let containers: Value = serde_json::from_str(&gateway)?;
    let found = containers.as_object().context("no containers")?;
    let entry = found.iter().find(|(id, _)| id.starts_with(&container)).map(|(_, entry)| entry);
    let address = entry.and_then(|entry| entry["IPv4Address"].as_str()).with_context(|| gateway.clone())?;
    Ok(format!("http://{}:9090", address.split('/').next().unwrap_or_default()))
}

/// What the swarm says of its tasks.
fn tasks(manager: &Host) -> String {
    let format = "{{.Name}} {{.Node}} {{.CurrentState}} {{.Error}}";
    manager
        .docker(&["stack", "ps", "monitoring", "--no-trunc", "--format", format])
        .unwrap_or_else(|error| format!("{error:#}"))
}

#[test]
fn prometheus_finds_the_exporter_of_every_node_and_drops_a_drained_one() {
    let site = Site::start(&["node-1", "node-2", "node-3"]).unwrap();
    join(&site).unwrap();
    let manager = &site.hosts()[0];
    let text = read("swarm/stack.yaml").unwrap();
    let exporter = image(&text, "ghcr.io/").unwrap();
    for host in site.hosts() {
        exporter_image(host, exporter).unwrap();
    }
    prometheus_image(manager, image(&text, "prom/prometheus").unwrap()).unwrap();
    make_secrets(manager).unwrap();
    let file = stack(manager).unwrap();
    manager.docker(&["stack", "deploy", "--resolve-image=never", "--compose-file", &file, "monitoring"]).unwrap();

    let up = "up{job=\"docker-stats-exporter\"} == 1";
    let expect = |names: &[&str]| {
        wait::eventually(SOON, "the nodes", || {
            let server = prometheus(manager)?;
            let seen = manager.query(&server, up)?;
            let nodes = labels(&seen, "instance");
            ensure!(nodes == names, "{nodes:?}; {}; {}", targets(manager, &server).unwrap_or_default(), tasks(manager));
            Ok(seen)
        })
    };
    let seen = expect(&["node-1", "node-2", "node-3"]).unwrap();
    assert_eq!(labels(&seen, "node_role"), ["manager", "worker"]);
    let server = prometheus(manager).unwrap();
    for host in site.hosts() {
        // Each answers for itself: the engine beside it names its task of the service.
        let task = host.docker(&["ps", "--format", "{{.Names}}", "--filter", "name=monitoring_exporter"]).unwrap();
        let query = format!("container_last_seen{{instance=\"{}\",name=\"{task}\"}}", host.name);
        wait::eventually(SOON, "the task by name", || {
            ensure!(!manager.query(&server, &query)?.is_empty(), "{query}: nothing");
            Ok(())
        })
        .unwrap();
    }
    manager.docker(&["node", "update", "--availability", "drain", "node-3"]).unwrap();
    expect(&["node-1", "node-2"]).unwrap();
    manager.docker(&["stack", "rm", "monitoring"]).unwrap();
}
