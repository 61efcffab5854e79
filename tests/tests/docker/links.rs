//! Many containers on bridges, whose counters come from one dump of the host's links: the same values as their files, in
//! each scrape, whatever happens to the links between two of them.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exporter_tests::{Container, Engine, Exporter, Exposition, wait};

/// Columns of `net/dev`, by the metric that shows them.
const COLUMNS: [(usize, &str); 8] = [
    (0, "container_network_receive_bytes_total"),
    (1, "container_network_receive_packets_total"),
    (2, "container_network_receive_errors_total"),
    (3, "container_network_receive_packets_dropped_total"),
    (8, "container_network_transmit_bytes_total"),
    (9, "container_network_transmit_packets_total"),
    (10, "container_network_transmit_errors_total"),
    (11, "container_network_transmit_packets_dropped_total"),
];
/// So many that links are used at all.
const CONTAINERS: usize = 9;

/// A value may be counted a moment after the command that caused it has ended.
const SOON: Duration = Duration::from_secs(10);

type Interfaces = BTreeMap<String, Vec<u64>>;

/// What the kernel says inside of a container.
fn interfaces(pid: u32) -> Result<Interfaces> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev"))?;
    let lines = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    let counters = |values: &str| values.split_whitespace().map(|value| value.parse().unwrap()).collect();
    Ok(lines
        .map(|(name, values)| (name.trim().to_owned(), counters(values)))
        .filter(|(name, _)| name != "lo")
        .collect())
}

fn ours(exposition: &Exposition, id: &str) -> BTreeMap<(String, &'static str), u64> {
    let mut found = BTreeMap::new();
    for (_, name) in COLUMNS {
        for sample in exposition.container(id).filter(|sample| sample.name == name) {
            let value = sample.text.parse().unwrap();
            found.insert((sample.label("interface").to_owned(), name), value);
        }
    }
    found
}

/// A population of containers, and one exporter that has seen them.
struct Host<'e> {
    containers: Vec<Container<'e>>,
    exporter: Exporter,
}

impl<'e> Host<'e> {
    fn new(engine: &'e Engine) -> Result<Self> {
        let names = (0..CONTAINERS).map(|_| Container::sleeping(engine, "links", &["--network=bridge"]));
        let host = Self { containers: names.collect::<Result<_>>()?, exporter: Exporter::with(engine)? };
        host.until_served(CONTAINERS)?;
        Ok(host)
    }

    /// One scrape, in which every column of every interface lies between two readings of the file.
    fn scrape(&self) -> Result<Exposition> {
        let pids = self.containers.iter().map(Container::pid).collect::<Result<Vec<_>>>()?;
        let read = || pids.iter().map(|pid| interfaces(*pid)).collect::<Result<Vec<_>>>();
        let before = read()?;
        let exposition = self.exporter.scrape()?;
        let after = read()?;
        for ((container, before), after) in self.containers.iter().zip(before).zip(after) {
            let ours = ours(&exposition, &container.id);
            ensure!(ours.len() == after.len() * COLUMNS.len(), "{}: {after:?} as {ours:?}", container.name);
            for ((interface, name), value) in ours {
                let column = COLUMNS.iter().find(|(_, known)| *known == name).context("column")?.0;
                let of = |file: &Interfaces| file.get(&interface).and_then(|row| row.get(column)).copied();
                let (before, after) = (of(&before).unwrap_or(0), of(&after).context(interface.clone())?);
                ensure!(
                    (before..=after).contains(&value),
                    "{} {interface} {name}: {before}, ours {value}, {after}",
                    container.name
                );
            }
        }
        Ok(exposition)
    }

    /// Scrapes, each as true as the others, until links serve so many.
    fn until_served(&self, count: usize) -> Result<()> {
        wait::eventually(Duration::from_secs(10), "links to serve", || {
            let served = served(&self.scrape()?)?;
            // In turns, one is read both ways.
            ensure!(served + 1 >= count, "links serve {served} of {count}");
            Ok(())
        })
    }

    /// A program of the host in the network namespace of a container.
    fn inside(&self, index: usize, command: &[&str]) -> Result<()> {
        let network = format!("--net=/proc/{}/ns/net", self.containers[index].pid()?);
        run("nsenter", &[&[network.as_str()], command].concat())
    }

    fn ip(&self, index: usize, arguments: &[&str]) -> Result<()> {
        self.inside(index, &[&["ip"], arguments].concat())
    }

    /// Under another name, as every kernel allows it.
    fn rename(&self, index: usize, name: &str, other: &str) -> Result<()> {
        self.ip(index, &["link", "set", name, "down"])?;
        self.ip(index, &["link", "set", name, "name", other])?;
        self.ip(index, &["link", "set", other, "up"])
    }

    fn address(&self, index: usize) -> Result<String> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let all = self.containers[index].inspect(format)?;
        all.split_whitespace().next().map(str::to_owned).context("no address")
    }

    /// Datagrams to a container, from the host.
    fn send(&self, index: usize, count: usize, length: usize) -> Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        let address = self.address(index)?;
        (0..count).try_for_each(|_| socket.send_to(&vec![0; length], (address.as_str(), 9)).map(drop))?;
        Ok(())
    }
}

fn served(exposition: &Exposition) -> Result<usize> {
    let labels = [("collector", "network"), ("path", "veth_peers")];
    Ok(usize::try_from(exposition.integer("docker_stats_exporter_read_path", &labels)?)?)
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("{program} is needed"))?;
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// One population for everything: to start it takes longer than all the rest.
#[test]
fn nine_containers_have_the_values_of_their_files_whatever_happens_to_their_links() {
    let mut host = Host::new(Engine::shared().unwrap()).unwrap();
    some_send_and_drop(&host);
    networks_come_and_go(&host);
    several_share_a_network(&mut host);
    links_are_renamed_moved_and_made_anew(&mut host);
    assert!(!host.exporter.stop().unwrap().contains("counts otherwise"));
}

fn some_send_and_drop(host: &Host<'_>) {
    // Nobody listens: each datagram is answered, so that both directions have traffic, of different size.
    host.send(0, 20, 900).unwrap();
    host.send(1, 3, 10).unwrap();
    // The first ones wait until the container's address has been found.
    let exposition = wait::eventually(SOON, "the datagrams", || {
        let exposition = host.scrape()?;
        let mine = [("name", host.containers[0].name.as_str()), ("interface", "eth0")];
        let received = exposition.integer(COLUMNS[0].1, &mine)?;
        ensure!(received > 18_000, "{received} bytes received");
        Ok(exposition)
    })
    .unwrap();
    // What has traffic is read by its file every two minutes, which a busy machine may take from one scrape to the next:
    // not always, then, with traffic before each of them.
    wait::eventually(Duration::from_mins(3), "links to serve those with traffic", || {
        host.send(0, 1, 900)?;
        host.send(1, 1, 10)?;
        let served = served(&host.scrape()?)?;
        ensure!(served >= CONTAINERS - 2, "traffic alone is no reason to read files: links serve {served}");
        Ok(())
    })
    .unwrap();
    let mine = [("name", host.containers[0].name.as_str()), ("interface", "eth0")];
    let value = |exposition: &Exposition, name: &str| exposition.integer(name, &mine).unwrap();
    assert!(value(&exposition, COLUMNS[0].1) > value(&exposition, COLUMNS[4].1), "not the other way round");
    // The container's end takes no datagrams of this size: it drops them, and so says the next scrape.
    host.ip(0, &["link", "set", "eth0", "mtu", "600"]).unwrap();
    host.until_served(CONTAINERS).unwrap();
    // The host cannot know that its neighbour has become small.
    host.send(0, 5, 1200).unwrap();
    let dropped = wait::eventually(SOON, "what is dropped", || {
        let dropped = host.scrape()?.integer(COLUMNS[3].1, &mine)?;
        ensure!(dropped >= 5, "{dropped}");
        Ok(dropped)
    })
    .unwrap();
    host.until_served(CONTAINERS).unwrap();
    assert_eq!(value(&host.scrape().unwrap(), COLUMNS[3].1), dropped);
}

fn networks_come_and_go(host: &Host<'_>) {
    let engine = Engine::shared().unwrap();
    let network = Engine::unique("links-network");
    engine.docker(&["network", "create", &network]).unwrap();
    let id = host.containers[0].id.clone();
    let outcome = (|| {
        engine.docker(&["network", "connect", &network, &id])?;
        let exposition = host.scrape()?;
        ensure!(ours(&exposition, &id).len() == 2 * COLUMNS.len(), "both interfaces");
        host.send(0, 10, 500)?;
        host.until_served(CONTAINERS)?;
        engine.docker(&["network", "disconnect", &network, &id])?;
        host.scrape()?;
        host.until_served(CONTAINERS)
    })();
    engine.docker(&["network", "rm", &network]).unwrap();
    outcome.unwrap();
}

/// It is shown once, with and without the engine's word.
fn several_share_a_network(host: &mut Host<'_>) {
    let engine = Engine::shared().unwrap();
    let network = format!("--network=container:{}", host.containers[0].name);
    let guest = Container::sleeping(engine, "links-guest", &[&network]).unwrap();
    for exporter in [Exporter::builder().start().unwrap(), Exporter::with(engine).unwrap()] {
        host.exporter = exporter;
        host.until_served(CONTAINERS).unwrap();
        for _ in 0..4 {
            assert_eq!(ours(&host.scrape().unwrap(), &guest.id).len(), 0);
        }
    }
}

/// Nothing of one container goes to another.
fn links_are_renamed_moved_and_made_anew(host: &mut Host<'_>) {
    for index in 0..3 {
        host.send(index, 10 * (index + 1), 100).unwrap();
    }
    // Another name for the same link.
    host.rename(0, "eth0", "other0").unwrap();
    host.scrape().unwrap();
    host.until_served(CONTAINERS).unwrap();
    // The link of one container becomes that of another, which has two then.
    host.rename(1, "eth0", "moved0").unwrap();
    host.until_served(CONTAINERS).unwrap();
    let target = host.containers[2].pid().unwrap().to_string();
    host.ip(1, &["link", "set", "moved0", "netns", &target]).unwrap();
    host.scrape().unwrap();
    host.ip(2, &["link", "set", "moved0", "up"]).unwrap();
    host.scrape().unwrap();
    host.until_served(CONTAINERS).unwrap();
    // A pair with no end at the host: there is only the file for those who have one.
    let ends = ["a", "b"].map(|end| format!("dse{}{end}", std::process::id()));
    let [one, other] = [5, 6].map(|index: usize| host.containers[index].pid().unwrap().to_string());
    run("ip", &["link", "add", &ends[0], "type", "veth", "peer", "name", &ends[1]]).unwrap();
    run("ip", &["link", "set", &ends[0], "netns", &one]).unwrap();
    host.scrape().unwrap();
    run("ip", &["link", "set", &ends[1], "netns", &other]).unwrap();
    host.scrape().unwrap();
    for (index, end, address) in [(5, &ends[0], "192.0.2.1/30"), (6, &ends[1], "192.0.2.2/30")] {
        host.ip(index, &["link", "set", end, "up"]).unwrap();
        host.ip(index, &["address", "add", address, "dev", end]).unwrap();
    }
    host.scrape().unwrap();
    host.inside(5, &["bash", "-c", "for i in 1 2 3; do echo hello > /dev/udp/192.0.2.2/9; done"]).unwrap();
    host.scrape().unwrap();
    host.ip(5, &["link", "del", &ends[0]]).unwrap();
    host.scrape().unwrap();
    host.until_served(CONTAINERS - 1).unwrap();
    // A container that starts again, and one that is new.
    host.containers[3].docker("restart", &["--time=0"]).unwrap();
    host.scrape().unwrap();
    let engine = Engine::shared().unwrap();
    host.containers.push(Container::sleeping(engine, "links", &["--network=bridge"]).unwrap());
    host.scrape().unwrap();
    drop(host.containers.remove(4));
    host.scrape().unwrap();
    host.until_served(CONTAINERS - 1).unwrap();
}
