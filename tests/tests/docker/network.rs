//! Bytes over the bridge, and whose interfaces are whose.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exporter_tests::{Container, Engine, Exporter, wait};

use super::{bracketed, named};

const RECEIVED: &str = "container_network_receive_bytes_total";
const PAYLOAD: usize = 3_000_000;

/// What the kernel says that the interface of a process' namespace has received.
fn received_by(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev"))?;
    let row = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).with_context(|| text.clone())?;
    Ok(row.split_whitespace().next().with_context(|| text.clone())?.parse()?)
}

#[test]
fn bytes_over_the_bridge_are_counted() {
    let engine = Engine::shared().unwrap();
    let sink = ["nc", "-l", "-p", "9000"];
    let container = Container::run(engine, "network", &["--network=bridge"], &sink).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let mine = [("name", container.name.as_str()), ("interface", "eth0")];
    named(&exporter, &container).unwrap();
    let pid = container.pid().unwrap();
    let address = container.inspect("{{.NetworkSettings.IPAddress}}").unwrap();
    let address = if address.is_empty() {
        container.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}").unwrap()
    } else {
        address
    };
    let mut stream = wait::eventually(Duration::from_secs(5), "the container to listen", || {
        Ok(TcpStream::connect((address.as_str(), 9000))?)
    })
    .unwrap();
    stream.write_all(&vec![b'x'; PAYLOAD]).unwrap();
    // What is sent is read before it can be counted: the logs hold it in the end.
    exporter
        .scrape_until(Duration::from_secs(10), "the payload", |exposition| {
            let received = exposition.value(RECEIVED, &mine)?;
            ensure!(received > 3_000_000.0, "{received} bytes");
            // Headers come on top, and what a busy machine makes TCP send again: the kernel tells how much that is.
            let (least, scraped) = (received_by(pid)?, exporter.scrape()?);
            bracketed(least, scraped.value(RECEIVED, &mine)?, received_by(pid)?)
        })
        .unwrap();
    let exposition = exporter.scrape().unwrap();
    assert!(exposition.value("container_network_receive_packets_total", &mine).unwrap() > 30.0);
    assert!(exposition.value("container_network_transmit_bytes_total", &mine).unwrap() > 100.0);
    assert!(!exposition.has(RECEIVED, &[mine[0], ("interface", "lo")]), "lo is nobody's traffic");
    stream.shutdown(Shutdown::Both).unwrap();
    exporter.stop().unwrap();
}

#[test]
fn a_host_network_container_does_not_claim_the_host_s_interfaces() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "host", &["--network=host"]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let exposition = named(&exporter, &container).unwrap();
    let claimed: BTreeSet<&str> = exposition
        .names_with(&[("name", &container.name)])
        .into_iter()
        .filter(|name| name.starts_with("container_network_"))
        .collect();
    assert!(claimed.is_empty(), "{claimed:?}");
    assert!(exposition.has(RECEIVED, &[("id", "/")]), "the host has its own");
    let info = exposition.one("container_info", &[("name", &container.name)]).unwrap();
    assert!(info.labels.values().any(|value| value == "host"), "{info:?}");
    exporter.stop().unwrap();
}

#[test]
fn a_shared_namespace_is_reported_once_under_its_owner() {
    let engine = Engine::shared().unwrap();
    let owner = Container::sleeping(engine, "owner", &["--network=bridge"]).unwrap();
    let network = format!("--network=container:{}", owner.name);
    let guest = Container::sleeping(engine, "guest", &[&network]).unwrap();
    for exporter in [Exporter::with(engine).unwrap(), Exporter::builder().start().unwrap()] {
        // With the engine's word, and from the kernel's alone.
        exporter
            .scrape_until(Duration::from_secs(5), "the owner's interface", |exposition| {
                let of = |container: &Container<'_>| {
                    exposition.container(&container.id).filter(|sample| sample.name == RECEIVED).count()
                };
                ensure!(of(&owner) == 1 && of(&guest) == 0, "owner {}, guest {}", of(&owner), of(&guest));
                Ok(())
            })
            .unwrap();
        exporter.stop().unwrap();
    }
}
