//! Containers that talk, over a network of both address families: TCP and UDP of a known size, and what was counted of it.
//!
//! What talks is a few lines of Perl, which every Debian has and the containers see: one write is one datagram, both sides
//! know when all has come, and nothing has to be waited for.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, ensure};
use exporter_tests::{Container, Engine, Exposition, wait};

use super::SOON;

/// What a connection carries.
pub(crate) const PAYLOAD: i128 = 4_000_000;
const PORT: u16 = 9000;
/// Where the host's programs and their libraries are.
const PROGRAMS: [&str; 3] = ["/usr", "/lib", "/lib64"];

#[derive(Clone, Copy, Debug)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// The head of the address family, in front of TCP's or UDP's.
    pub(crate) fn head(self) -> i128 {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// The file of `/proc/PID/net` that tells who listens.
    fn file(self, protocol: &str) -> String {
        match self {
            Self::V4 => protocol.to_owned(),
            Self::V6 => format!("{protocol}6"),
        }
    }
}

/// A bridge with addresses of both families, whose containers may talk whatever the host's packet filter says of others: an
/// engine that was here before may have left a policy that drops what is forwarded, bridges included. It goes with the
/// value, after the containers on it.
pub(crate) struct Network<'e> {
    engine: &'e Engine,
    name: String,
    /// Of the bridge, among the host's interfaces.
    bridge: String,
    /// The first half of its IPv6 addresses.
    prefix: String,
}

impl<'e> Network<'e> {
    pub(crate) fn make(engine: &'e Engine) -> Result<Self> {
        static MADE: AtomicU16 = AtomicU16::new(0);
        let (name, process) = (Engine::unique("totals"), std::process::id());
        let turn = MADE.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("fd5e:{:x}:{:x}:{turn:x}::", process >> 16, process & 0xffff);
        let (subnet, gateway) = (format!("--subnet={prefix}/64"), format!("--gateway={prefix}1"));
        let bridge = format!("dse{process}n{turn}");
        let called = format!("--opt=com.docker.network.bridge.name={bridge}");
        engine.docker(&["network", "create", "--ipv6", &subnet, &gateway, &called, &name])?;
        let network = Self { engine, name, bridge, prefix };
        network.filter("--insert")?;
        Ok(network)
    }

    /// Inserts or deletes the rules that let its containers talk to each other.
    fn filter(&self, what: &str) -> Result<()> {
        for program in ["iptables", "ip6tables"] {
            let rule = ["FORWARD", "--in-interface", &self.bridge, "--out-interface", &self.bridge, "--jump", "ACCEPT"];
            let output = Command::new(program).args(["--wait", what]).args(rule).output();
            let output = output.with_context(|| format!("{program} (package iptables) is needed"))?;
            ensure!(output.status.success(), "{program} {what}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// A container on it, as [`sleeping`] makes it.
    pub(crate) fn container(&self, what: &str) -> Result<Container<'e>> {
        sleeping(self.engine, what, &[&format!("--network={}", self.name)])
    }

    /// The host's own address on it.
    pub(crate) fn gateway(&self, family: Family) -> Result<IpAddr> {
        let format = "{{range .IPAM.Config}}{{.Gateway}} {{end}}";
        let said = match family {
            Family::V4 => self.engine.docker(&["network", "inspect", "--format", format, &self.name])?,
            Family::V6 => format!("{}1", self.prefix),
        };
        let mut addresses = said.split_whitespace().filter_map(|word| word.split('/').next()?.parse::<IpAddr>().ok());
        let fits = |address: &IpAddr| address.is_ipv4() == matches!(family, Family::V4);
        addresses.find(fits).with_context(|| format!("no gateway in {said:?}"))
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        self.filter("--delete").unwrap_or_default();
        self.engine.docker(&["network", "rm", &self.name]).map(drop).unwrap_or_default();
    }
}

/// A container that sleeps and sees the host's programs in their places.
pub(crate) fn sleeping<'e>(engine: &'e Engine, what: &str, options: &[&str]) -> Result<Container<'e>> {
    let there = PROGRAMS.iter().filter(|directory| Path::new(directory).exists());
    let volumes: Vec<String> = there.map(|directory| format!("--volume={directory}:{directory}:ro")).collect();
    let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
    Container::sleeping(engine, what, &[&volumes, options].concat())
}

fn address(container: &Container<'_>, family: Family) -> Result<IpAddr> {
    let field = match family {
        Family::V4 => "IPAddress",
        Family::V6 => "GlobalIPv6Address",
    };
    let said = container.inspect(&format!("{{{{range .NetworkSettings.Networks}}}}{{{{.{field}}}}}{{{{end}}}}"))?;
    said.parse().with_context(|| format!("{field} {said:?}"))
}

/// Waits until somebody in the network namespace of a process has the socket.
fn await_socket(pid: u32, file: &str) -> Result<()> {
    let path = format!("/proc/{pid}/net/{file}");
    wait::eventually(SOON, "somebody to listen", || {
        let text = std::fs::read_to_string(&path)?;
        let wanted = format!(":{PORT:04X}");
        let mut local = text.lines().filter_map(|line| line.split_whitespace().nth(1));
        ensure!(local.any(|local| local.ends_with(&wanted)), "{path}: {text}");
        Ok(())
    })
}

/// Counts of one container in one family.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) received: i128,
    pub(crate) received_packets: i128,
    pub(crate) sent: i128,
    pub(crate) sent_packets: i128,
}

impl Traffic {
    pub(crate) fn of(exposition: &Exposition, container: &Container<'_>, family: Family) -> Result<Self> {
        let labels = [("name", container.name.as_str()), ("family", family.label())];
        let count = |what: &str| {
            let name = format!("container_ebpf_network_{what}_total");
            if exposition.has(&name, &labels) { exposition.integer(&name, &labels) } else { Ok(0) }
        };
        Ok(Self {
            received: count("receive_bytes")?,
            received_packets: count("receive_packets")?,
            sent: count("transmit_bytes")?,
            sent_packets: count("transmit_packets")?,
        })
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            received: self.received - before.received,
            received_packets: self.received_packets - before.received_packets,
            sent: self.sent - before.sent,
            sent_packets: self.sent_packets - before.sent_packets,
        }
    }
}

/// The payload and at most so many heads; more only where segments were sent again.
pub(crate) fn carries(bytes: i128, packets: i128, family: Family, again: i128) -> Result<()> {
    let most = PAYLOAD + packets * (family.head() + 60) + again * 65_536;
    ensure!(bytes > PAYLOAD + family.head() && bytes <= most, "{bytes} bytes in {packets} packets, {again} sent again");
    Ok(())
}

/// Segments that TCP has sent again in the network namespace of a process: a stall of the machine can make it do so.
pub(crate) fn sent_again(pid: u32) -> Result<i128> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/snmp"))?;
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = rows.next().zip(rows.next()).with_context(|| text.clone())?;
    let index = names.split(' ').position(|name| name == "RetransSegs").with_context(|| text.clone())?;
    Ok(values.split(' ').nth(index).with_context(|| text.clone())?.parse()?)
}

/// What is to be carried, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Talk {
    pub(crate) protocol: &'static str,
    pub(crate) pieces: i128,
    pub(crate) bytes_each: i128,
}

pub(crate) const STREAM: Talk = Talk { protocol: "tcp", pieces: PAYLOAD / 40_000, bytes_each: 40_000 };
pub(crate) const DATAGRAMS: Talk = Talk { protocol: "udp", pieces: 40, bytes_each: 1000 };

impl Talk {
    fn words(self, what: &str, to: SocketAddr) -> Vec<String> {
        let head = ["/usr/bin/perl", "-e", include_str!("talk.pl"), what, self.protocol].map(str::to_owned);
        let numbers =
            [to.ip().to_string(), to.port().to_string(), self.pieces.to_string(), self.bytes_each.to_string()];
        head.into_iter().chain(numbers).collect()
    }

    /// All of it from a container; over a connection, until the other side has ended it.
    pub(crate) fn say(self, from: &Container<'_>, to: SocketAddr) -> Result<()> {
        let words = self.words("say", to);
        from.exec(&words.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
    }

    /// All of it from one container to another one.
    pub(crate) fn between(self, from: &Container<'_>, to: &Container<'_>, family: Family) -> Result<()> {
        let (address, pid) = (SocketAddr::new(address(to, family)?, PORT), to.pid()?);
        let words = self.words("hear", address);
        std::thread::scope(|scope| {
            let hearer = scope.spawn(|| to.exec(&words.iter().map(String::as_str).collect::<Vec<_>>()).map(drop));
            let said = await_socket(pid, &family.file(self.protocol)).and_then(|()| self.say(from, address));
            let heard = match said {
                Ok(()) => hearer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // Nobody else would end it.
                Err(_) => to.docker("kill", &[]).map(drop),
            };
            said.and(heard)
        })
    }

    /// Its datagrams, with their heads.
    pub(crate) fn on_the_wire(self, family: Family) -> i128 {
        self.pieces * (self.bytes_each + family.head() + 8)
    }
}
