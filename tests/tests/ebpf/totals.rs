//! Known totals between real containers, and between containers and the host: TCP and UDP, IPv4 and IPv6.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exporter_tests::wait::eventually;
use exporter_tests::{Container, Engine, Exporter, Exposition};

use super::talk::{DATAGRAMS, Family, Network, PAYLOAD, STREAM, Traffic, carries, sent_again, sleeping};
use super::{SOON, named};

/// Receives as many datagrams as were sent: they are there already, or about to be.
fn receive_datagrams(socket: &UdpSocket) -> Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut room = vec![0; 1 << 16];
    for number in 0..DATAGRAMS.pieces {
        let size = socket.recv(&mut room).with_context(|| format!("datagram {number}"))?;
        ensure!(i128::try_from(size)? == DATAGRAMS.bytes_each, "{size} bytes");
    }
    Ok(())
}

/// Takes all of a payload, and ends the connection.
fn receive_payload(listener: &TcpListener) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.read_exact(&mut vec![0; usize::try_from(PAYLOAD)?])?;
    Ok(())
}

/// What hosts on an IPv6 link say to each other beside: who is there, and who wants to hear of which group.
const NEIGHBOURS: i128 = 4096;

/// Whether traffic is of these bytes and packets, but for what neighbours on an IPv6 link say.
fn is_just(bytes: i128, packets: i128, wanted: i128, pieces: i128, family: Family) -> bool {
    let talk = if matches!(family, Family::V6) { NEIGHBOURS } else { 0 };
    // None of their packets is smaller than 40 bytes.
    (wanted..=wanted + talk).contains(&bytes) && (pieces..=pieces + talk / 40).contains(&packets)
}

/// Whether nothing was said but that.
fn is_silent(bytes: i128, family: Family) -> bool {
    is_just(bytes, 0, 0, 0, family)
}

/// Listens where the address may have to be made sure of first, as an IPv6 address has to be.
fn listen<T>(bind: impl Fn() -> std::io::Result<T>) -> Result<T> {
    eventually(SOON, "the address to be there", || Ok(bind()?))
}

/// What `before` and now differ by, once it is as `check` wants it.
fn settled(
    exporter: &Exporter,
    what: &str,
    before: &Exposition,
    subjects: &[(&Container<'_>, Family)],
    check: impl Fn(&[Traffic]) -> Result<()>,
) {
    exporter
        .scrape_until(SOON, what, |exposition| {
            let traffic = subjects.iter().map(|(container, family)| {
                Ok(Traffic::of(exposition, container, *family)?.since(Traffic::of(before, container, *family)?))
            });
            let traffic = traffic.collect::<Result<Vec<_>>>()?;
            check(&traffic).with_context(|| format!("{traffic:?}"))
        })
        .unwrap();
}

#[test]
fn what_two_containers_say_to_each_other_is_counted_at_both() {
    let engine = Engine::shared().unwrap();
    let network = Network::make(engine).unwrap();
    let [one, other, third] = ["speaks", "hears", "idles"].map(|what| network.container(what).unwrap());
    let exporter = Exporter::with(engine).unwrap();
    for container in [&one, &other, &third] {
        named(&exporter, container).unwrap();
    }
    for family in Family::ALL {
        let before = exporter.scrape().unwrap();
        STREAM.between(&one, &other, family).unwrap();
        let again = sent_again(one.pid().unwrap()).unwrap();
        let subjects = [(&one, family), (&other, family), (&third, family)];
        settled(&exporter, "the payload of TCP", &before, &subjects, |traffic| {
            let [speaks, hears, idles] = traffic else { anyhow::bail!("three were asked for") };
            carries(speaks.sent, speaks.sent_packets, family, again)?;
            carries(hears.received, hears.received_packets, family, again)?;
            // What one sends the other one gets, but for what comes to a socket that is no longer anybody's.
            let apart = |sent: i128, received: i128| (sent - received).abs() <= 200 + NEIGHBOURS + again * 65_536;
            ensure!(apart(speaks.sent, hears.received) && apart(hears.sent, speaks.received), "they do not agree");
            ensure!(is_silent(idles.sent + idles.received, family), "the third one has taken no part");
            Ok(())
        });

        let before = exporter.scrape().unwrap();
        DATAGRAMS.between(&one, &other, family).unwrap();
        let bytes = DATAGRAMS.on_the_wire(family);
        settled(&exporter, "the datagrams", &before, &subjects, |traffic| {
            let [speaks, hears, idles] = traffic else { anyhow::bail!("three were asked for") };
            let is_all = |bytes_seen, packets| is_just(bytes_seen, packets, bytes, DATAGRAMS.pieces, family);
            ensure!(is_all(speaks.sent, speaks.sent_packets), "sent, of {bytes} bytes");
            ensure!(is_all(hears.received, hears.received_packets), "received, of {bytes} bytes");
            let answers = [speaks.received, hears.sent, idles.sent, idles.received];
            ensure!(answers.into_iter().all(|bytes| is_silent(bytes, family)), "nobody answers datagrams");
            Ok(())
        });
    }
    exporter.stop().unwrap();
}

#[test]
fn what_containers_say_to_the_host_is_counted() {
    let engine = Engine::shared().unwrap();
    let network = Network::make(engine).unwrap();
    let bridged = network.container("bridged").unwrap();
    let hosted = sleeping(engine, "hosted", &["--network=host"]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    named(&exporter, &bridged).unwrap();
    named(&exporter, &hosted).unwrap();
    let loopback = |family| match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    for (speaker, silent) in [(&bridged, &hosted), (&hosted, &bridged)] {
        for family in Family::ALL {
            let host = if std::ptr::eq(speaker, &raw const bridged) {
                network.gateway(family).unwrap()
            } else {
                loopback(family)
            };
            let pid = speaker.pid().unwrap();
            let subjects = [(speaker, family), (silent, family)];
            let before = exporter.scrape().unwrap();
            let retransmitted = sent_again(pid).unwrap();
            let listener = listen(|| TcpListener::bind((host, 0))).unwrap();
            let to = listener.local_addr().unwrap();
            let hears = std::thread::spawn(move || receive_payload(&listener));
            STREAM.say(speaker, to).unwrap();
            hears.join().unwrap().unwrap();
            // Of all that have this network: the host's may send segments again that are not ours.
            let again = sent_again(pid).unwrap() - retransmitted;
            settled(&exporter, "the payload of TCP", &before, &subjects, |traffic| {
                let [speaks, silent] = traffic else { anyhow::bail!("two were asked for") };
                carries(speaks.sent, speaks.sent_packets, family, again)?;
                ensure!(speaks.received > 0 && speaks.received <= speaks.received_packets * (family.head() + 60));
                ensure!(is_silent(silent.sent + silent.received, family), "the other one has taken no part");
                Ok(())
            });

            let socket = listen(|| UdpSocket::bind((host, 0))).unwrap();
            let before = exporter.scrape().unwrap();
            DATAGRAMS.say(speaker, socket.local_addr().unwrap()).unwrap();
            receive_datagrams(&socket).unwrap();
            let bytes = DATAGRAMS.on_the_wire(family);
            settled(&exporter, "the datagrams", &before, &subjects, |traffic| {
                let [speaks, silent] = traffic else { anyhow::bail!("two were asked for") };
                let is_all = is_just(speaks.sent, speaks.sent_packets, bytes, DATAGRAMS.pieces, family);
                ensure!(is_all, "sent, of {bytes} bytes");
                let answers = [speaks.received, silent.sent, silent.received];
                ensure!(answers.into_iter().all(|bytes| is_silent(bytes, family)), "nobody answers datagrams");
                Ok(())
            });
        }
    }
    exporter.stop().unwrap();
}
