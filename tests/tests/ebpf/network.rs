//! Traffic under its owner, whatever its network, to the byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exporter_tests::bare::BareContainers;
use exporter_tests::{Container, Engine, Exporter, Exposition};

use super::talk::sent_again;
use super::{SOON, named, ping_from, serve_bytes, transmitted};

const RECEIVED: &str = "container_ebpf_network_receive_bytes_total";
const RECEIVED_PACKETS: &str = "container_ebpf_network_receive_packets_total";
const SENT: &str = "container_ebpf_network_transmit_bytes_total";
const SENT_PACKETS: &str = "container_ebpf_network_transmit_packets_total";

/// A counter that may not be there yet.
fn count(exposition: &Exposition, name: &str, container: &str, family: &str) -> Result<i128> {
    let labels = [("name", container), ("family", family)];
    if exposition.has(name, &labels) { exposition.integer(name, &labels) } else { Ok(0) }
}

#[test]
fn what_a_host_network_container_loads_is_its_own() {
    const SIZE: usize = 100_000_000;
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "loads", &["--network=host"]).unwrap();
    let idle = Container::sleeping(engine, "idle", &["--network=host"]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    named(&exporter, &container).unwrap();
    let size = i128::try_from(SIZE).unwrap();
    for (family, address) in [("ipv4", IpAddr::V4(Ipv4Addr::LOCALHOST)), ("ipv6", IpAddr::V6(Ipv6Addr::LOCALHOST))] {
        let server = serve_bytes(address, SIZE).unwrap();
        let before = sent_again(std::process::id()).unwrap();
        container.exec(&["wget", "-q", "-O", "/dev/null", &format!("http://{server}/")]).unwrap();
        // What a full socket refused comes again, which is traffic, too: a segment of loopback is 64 KiB at most.
        let again = sent_again(std::process::id()).unwrap() - before;
        exporter
            .scrape_until(SOON, "the download", |exposition| {
                let received = count(exposition, RECEIVED, &container.name, family)?;
                // Each packet has a head.
                let packets = count(exposition, RECEIVED_PACKETS, &container.name, family)?;
                ensure!(
                    received >= size && received <= size + 100 * packets + 65_536 * again,
                    "{received} bytes in {packets} packets over {family}, {again} sent again"
                );
                let sent = count(exposition, SENT, &container.name, family)?;
                ensure!(sent > 100 && sent < size / 10, "{sent} bytes sent over {family}");
                ensure!(!exposition.has(RECEIVED, &[("name", &idle.name)]), "the idle one has traffic");
                Ok(())
            })
            .unwrap();
    }
    exporter.stop().unwrap();
}

#[test]
fn datagrams_are_counted_to_the_byte() {
    let bare = BareContainers::make(1).unwrap();
    let id = bare.ids.first().unwrap();
    let exporter = Exporter::builder().start().unwrap();
    let path = bare.path(id);
    // The heads of IP and UDP.
    for (family, address, head) in [("ipv4", "127.0.0.1", 20 + 8), ("ipv6", "::1", 40 + 8)] {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let port = socket.local_addr().unwrap().port();
        // A shell that can do it, in one process and with one datagram for each word.
        let send = format!("for i in {{1..40}}; do printf %01000d $i; done >/dev/udp/{address}/{port}");
        bare.run(id, &["bash", "-c", &send]).unwrap();
        let mut room = vec![0; 1 << 16];
        // They are there already, or about to be.
        let sizes: Vec<usize> = std::iter::from_fn(|| socket.recv(&mut room).ok()).take(40).collect();
        assert_eq!(sizes, [1000; 40]);
        let exposition = exporter.scrape().unwrap();
        let reported = |name: &str| exposition.integer(name, &[("id", &path), ("family", family)]).unwrap();
        assert_eq!((reported(SENT_PACKETS), reported(SENT)), (40, 40 * (1000 + head)), "{family}");
    }
    exporter.stop().unwrap();
}

#[test]
fn packets_of_known_number_and_size_are_counted_to_the_byte() {
    // Data and the head of ICMP.
    const ICMP: i128 = 1000 + 8;
    let engine = Engine::shared().unwrap();
    let bridged = Container::sleeping(engine, "bridged", &["--network=bridge"]).unwrap();
    let hosted = Container::sleeping(engine, "hosted", &["--network=host"]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let before = named(&exporter, &hosted).unwrap();
    named(&exporter, &bridged).unwrap();
    let gateway = bridged.inspect("{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}").unwrap();
    let ping = |container: &Container<'_>, program: &str, address: &str| {
        transmitted(&container.exec(&["busybox", program, "-q", "-A", "-c", "300", "-s", "1000", address]).unwrap())
    };
    let (over_ipv4, over_ipv6) = (ping(&bridged, "ping", &gateway), ping(&hosted, "ping6", "::1"));
    assert!(over_ipv4 >= 300 && over_ipv6 >= 300);
    for (container, family, head, pinged) in [(&bridged, "ipv4", 20, over_ipv4), (&hosted, "ipv6", 40, over_ipv6)] {
        exporter
            .scrape_until(SOON, "the packets", |exposition| {
                let since = |name| -> Result<i128> {
                    Ok(count(exposition, name, &container.name, family)?
                        - count(&before, name, &container.name, family)?)
                };
                let (bytes, packets) = (since(SENT)?, since(SENT_PACKETS)?);
                ensure!(packets == pinged, "{packets} of {pinged} packets sent over {family}");
                ensure!(bytes == packets * (ICMP + head), "{bytes} bytes sent over {family}");
                Ok(())
            })
            .unwrap();
    }
    exporter.stop().unwrap();
}

#[test]
fn a_bridged_container_s_traffic_agrees_with_its_interface() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "agrees", &["--network=bridge"]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    named(&exporter, &container).unwrap();
    let gateway = container.inspect("{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}").unwrap();
    let server = serve_bytes(gateway.parse().unwrap(), 5_000_000).unwrap();
    container.exec(&["wget", "-q", "-O", "/dev/null", &format!("http://{server}/")]).unwrap();
    let mine = [("name", container.name.as_str()), ("interface", "eth0")];
    exporter
        .scrape_until(SOON, "both roads to agree", |exposition| {
            let interface = |what| exposition.integer(&format!("container_network_receive_{what}_total"), &mine);
            // An interface counts the 14 bytes of Ethernet of each buffer, and packets that are nobody's: ARP, and
            // IPv6's search for neighbours.
            let interface = interface("bytes")? - 14 * interface("packets")?;
            let probed = count(exposition, RECEIVED, &container.name, "ipv4")?;
            ensure!(probed > 5_000_000, "{probed} bytes");
            ensure!((0..=4_000).contains(&(interface - probed)), "interface {interface}, probe {probed}");
            Ok(())
        })
        .unwrap();
    exporter.stop().unwrap();
}

#[test]
fn segments_that_are_sent_again_are_counted() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "retransmits", &["--network=bridge"]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    assert!(
        !named(&exporter, &container).unwrap().has("container_tcp_retransmits_total", &[("name", &container.name)])
    );
    let gateway = container.inspect("{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}").unwrap();
    let server = serve_bytes(gateway.parse().unwrap(), 1).unwrap();
    // The answers to its first segment are dropped on their way in, inside its own namespace.
    let pid = container.pid().unwrap().to_string();
    let status = std::process::Command::new("nsenter")
        .args(["--target", &pid, "--net", "iptables", "-A", "INPUT", "-p", "tcp", "-j", "DROP"])
        .status()
        .context("nsenter (package util-linux) and iptables are needed")
        .unwrap();
    assert!(status.success(), "{status}");
    let asked = ["timeout", "5", "wget", "-q", "-O", "/dev/null", &format!("http://{server}/")].map(str::to_owned);
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    assert!(container.exec(&asked).is_err(), "the answer should not have come through");
    // Nobody else is in its namespace, and whoever asked has ended: the kernel's own count of it is final.
    let kernel = sent_again(container.pid().unwrap()).unwrap();
    assert!(kernel >= 1, "nothing was sent again");
    exporter
        .scrape_until(SOON, "the retransmits", |exposition| {
            let ours = exposition.integer("container_tcp_retransmits_total", &[("name", &container.name)])?;
            ensure!(ours == kernel, "{ours} segments, {kernel} by the kernel");
            Ok(())
        })
        .unwrap();
    exporter.stop().unwrap();
}

#[test]
fn what_is_below_a_container_s_cgroup_is_the_container_s() {
    let bare = BareContainers::make(1).unwrap();
    let id = bare.ids.first().unwrap();
    let nested = bare.nest(id, "init").unwrap();
    let exporter = Exporter::builder().start().unwrap();
    let sent = |exposition: &Exposition| {
        exposition.container(id).find(|sample| sample.name == SENT).map(|sample| sample.text.clone())
    };
    assert_eq!(sent(&exporter.scrape().unwrap()), None);
    let expected = (ping_from(&bare, &nested, 50).unwrap() * 100).to_string();
    exporter
        // Who an unknown cgroup belongs to is looked up at most every ten seconds.
        .scrape_until(SOON * 3, "the nested cgroup's packets", |exposition| {
            let sent = sent(exposition);
            ensure!(sent.as_ref() == Some(&expected), "{sent:?} of {expected} bytes");
            Ok(())
        })
        .unwrap();
    exporter.stop().unwrap();
}
