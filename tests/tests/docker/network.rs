//! Bytes over the bridge, and whose interfaces are whose.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exporter_tests::{Container, Engine, Exporter, wait};

use super::{bracketed, named};

const RECEIVED: &str = "container_network_receive_bytes_total";
const LISTENING: &str = "container_network_tcp_usage_total";
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

/// A container whose first process waits until it is told a process to enter the network namespace of.
fn visitor<'e>(engine: &'e Engine, what: &str) -> Container<'e> {
    let script = "while [ ! -s /go ]; do sleep 0.05; done; exec busybox nsenter --net=/proc/$(cat /go)/ns/net sleep 1d";
    let options = ["--network=bridge", "--cap-add=SYS_ADMIN", "--cap-add=SYS_PTRACE", "--pid=host"];
    Container::run(engine, what, &options, &["sh", "-c", script]).unwrap()
}

fn enter(visitor: &Container<'_>, target: u32) {
    let network = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    visitor.exec(&["sh", "-c", &format!("echo {target} > /go")]).unwrap();
    let pid = visitor.pid().unwrap();
    wait::eventually(Duration::from_secs(20), "the visitor to enter", || {
        ensure!(network(pid) == network(target), "not yet");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_process_that_enters_another_container_s_network_does_not_take_its_interfaces() {
    let engine = Engine::shared().unwrap();
    // The visitor is the older one: its process has the lower number.
    let visitor = visitor(engine, "visitor");
    let owner = Container::sleeping(engine, "visited", &["--network=bridge"]).unwrap();
    let exporters = [Exporter::with(engine).unwrap(), Exporter::builder().start().unwrap()];
    let count = |exporter: &Exporter, container: &Container<'_>| -> Result<usize> {
        let exposition = exporter.scrape()?;
        Ok(exposition.container(&container.id).filter(|sample| sample.name == RECEIVED).count())
    };
    for exporter in &exporters {
        wait::eventually(Duration::from_secs(10), "both containers' interfaces", || {
            let both = (count(exporter, &visitor)?, count(exporter, &owner)?);
            ensure!(both == (1, 1), "{both:?}");
            Ok(())
        })
        .unwrap();
    }
    enter(&visitor, owner.pid().unwrap());
    for exporter in exporters {
        for _ in 0..5 {
            assert_eq!(count(&exporter, &owner).unwrap(), 1);
        }
        exporter.stop().unwrap();
    }
}

#[test]
fn a_process_that_enters_the_host_s_network_does_not_show_the_host_s_interfaces_and_sockets() {
    let engine = Engine::shared().unwrap();
    let visitor = visitor(engine, "tohost");
    let exporter = Exporter::builder().docker(engine).flag("--collector.tcp").start().unwrap();
    named(&exporter, &visitor).unwrap();
    // We are in it.
    enter(&visitor, std::process::id());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..5 {
        let exposition = exporter.scrape().unwrap();
        let host = exposition.one(LISTENING, &[("id", "/"), ("tcp_state", "listen")]).is_ok();
        assert!(!host, "the host's sockets are nobody's");
        for sample in exposition.container(&visitor.id) {
            // Its own interface may be shown until its file is read again.
            let is_own = sample.name != LISTENING && sample.label("interface") == "eth0" && sample.value < 1e6;
            assert!(!sample.name.starts_with("container_network_") || is_own, "{sample:?}");
        }
    }
    drop(listener);
    exporter.stop().unwrap();
}

#[test]
fn a_container_with_a_great_many_sockets_goes_without_their_count_alone() {
    const SOCKETS: &str = r#"
use Socket;
for my $process (0 .. 2) {
    pipe(my $ready, my $done) or die "pipe: $!";
    if (!fork) {
        my @held;
        for my $number (0 .. 7499) {
            socket(my $socket, PF_INET, SOCK_DGRAM, 0) or die "socket: $!";
            my $address = inet_aton("127.$process." . $number % 250 . ".1");
            bind($socket, pack_sockaddr_in(0, $address)) or die "bind: $!";
            push @held, $socket;
        }
        syswrite $done, "x";
        1 while sysread STDIN, my $ignored, 64;
        exit;
    }
    sysread $ready, my $byte, 1 or die "sockets of a process are missing";
}
syswrite STDOUT, "ready\n";
1 while wait > 0;
"#;
    let engine = Engine::shared().unwrap();
    let crowded = Container::sleeping(engine, "crowded", &["--network=bridge"]).unwrap();
    let other = Container::sleeping(engine, "quiet", &["--network=bridge"]).unwrap();
    let network = format!("--net=/proc/{}/ns/net", crowded.pid().unwrap());
    let mut holder = Command::new("nsenter")
        .args([&network, "sh", "-c", "ulimit -n $(ulimit -H -n); exec perl -e \"$0\"", SOCKETS])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    holder.stdout.take().unwrap().read_exact(&mut ready).unwrap();
    let exporter = Exporter::builder().docker(engine).flag("--collector.tcp").start().unwrap();
    named(&exporter, &other).unwrap();
    // A slow machine may need more than one scrape for the tables of all other containers.
    let listens = [("name", other.name.as_str()), ("tcp_state", "listen")];
    let exposition =
        exporter.scrape_until(Duration::from_mins(1), "the sockets of the quiet container", |exposition| {
            ensure!(exposition.has(LISTENING, &listens), "none yet");
            Ok(exposition.clone())
        });
    let exposition = exposition.unwrap();
    assert!(!exposition.has(LISTENING, &[("name", &crowded.name)]));
    assert!(exposition.has(RECEIVED, &[("name", &crowded.name)]));
    let success = "docker_stats_exporter_scrape_collector_success";
    assert!(exposition.value(success, &[("collector", "tcp")]).unwrap() < 1.0);
    assert!(exposition.value(success, &[("collector", "network")]).unwrap() > 0.0);
    let left_out = [("file", "net/tcp"), ("reason", "too_large")];
    assert!(exposition.value("docker_stats_exporter_read_errors_total", &left_out).unwrap() > 0.0);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    // It is counted again, if not at once.
    wait::eventually(Duration::from_mins(1), "the few sockets to be counted", || {
        exporter.scrape()?.one(LISTENING, &[("name", &crowded.name), ("tcp_state", "listen")]).map(drop)
    })
    .unwrap();
    exporter.stop().unwrap();
}
