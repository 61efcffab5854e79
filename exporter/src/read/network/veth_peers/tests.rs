//! When veth peers replace the file of a container, on a made-up host; and sockets in another namespace.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{MIN_CONTAINERS, State, VethPeers};
use crate::metrics::SelfMetrics;
use crate::read::network::interfaces::{BUSY_AGE, Difference, IDLE_AGE, Interfaces, PeerMap, ifindices};
use crate::read::network::link_table::LinkTable;
use crate::read::network::namespaces::{HostNetns, LinkError};
use crate::read::network::netlink::message::Pair;
use crate::read::network::netlink::{Link, LinkEvent, Netlink};
use crate::read::process::NetnsId;

const PID: u32 = 30;
const NSID: i32 = 4;

/// Returns the text of a `net/dev` in which `received` and `sent` are bytes, packets and drops.
fn net_dev(name: &str, received: [u64; 3], sent: [u64; 3]) -> String {
    let [bytes, packets, drops] = received;
    let [sent_bytes, sent_packets, sent_drops] = sent;
    format!(
        "header\nheader\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n{name}: {bytes} {packets} 0 {drops} 0 0 0 0 \
         {sent_bytes} {sent_packets} 0 {sent_drops} 0 0 0 0\n"
    )
}

fn veth(index: u32, nsid: i32) -> Link {
    Link { index, pair: Some(Pair { nsid, peer: 2 }) }
}

/// A container whose `eth0` is paired with link 5, and the host's links.
struct Served {
    table: LinkTable,
    interfaces: Interfaces,
    start: Instant,
}

impl Served {
    /// The container has received 100 bytes in 1 packet and sent 200 bytes in 2 packets, with 3 and 4 drops.
    fn new() -> Self {
        let mut table = LinkTable::default();
        table.begin();
        table.replace(&[veth(5, NSID), veth(6, NSID + 1)]);
        table.count(5, [2, 1, 200, 100, 0, 0, 0, 0]);
        let mut interfaces = Interfaces::default();
        interfaces.take(Some(owner()), net_dev("eth0", [100, 1, 3], [200, 2, 4]).as_bytes());
        interfaces.rows_mut()[0].end = table.reaching(NSID).next().map(|(_, end)| end);
        let start = Instant::now();
        let mapping = PeerMap::VethPeers { nsid: NSID };
        interfaces.settle(mapping, &table, start, 0);
        Self { table, interfaces, start }
    }

    fn dump(&mut self, counters: [u64; 8]) {
        self.table.begin();
        self.table.count(5, counters);
    }

    fn is_served_after(&self, age: Duration) -> bool {
        self.interfaces.is_served(PID, &self.table, self.start + age)
    }
}

fn owner() -> (u32, NetnsId) {
    (PID, crate::read::process::host_namespace("/proc".as_ref(), true).unwrap())
}

#[test]
fn the_host_s_end_gives_bytes_and_packets_changed_over_and_the_file_drops() {
    let served = Served::new();
    assert!(served.is_served_after(Duration::ZERO));
    let row = &served.interfaces.rows()[0];
    let link = [12, 11, 1200, 1100, 77, 77, 77, 77];
    let columns: Vec<u64> = (0..16).map(|column| row.column(column, &link).unwrap()).collect();
    assert_eq!(columns, [1100, 11, 0, 3, 0, 0, 0, 0, 1200, 12, 0, 4, 0, 0, 0, 0]);
    assert_eq!(&*row.name, b"eth0", "lo is left out");
}

#[test]
fn an_idle_container_is_left_alone_and_a_busy_one_is_looked_at_sooner() {
    let mut served = Served::new();
    assert!(served.is_served_after(BUSY_AGE) && !served.is_served_after(IDLE_AGE));
    served.dump([3, 1, 300, 100, 0, 0, 0, 0]);
    assert!(served.is_served_after(BUSY_AGE / 2) && !served.is_served_after(BUSY_AGE));
}

#[test]
fn a_mishap_at_the_host_s_end_is_a_reason_to_look_at_the_file_at_once() {
    for index in 4..8 {
        let mut served = Served::new();
        let mut counters = [2, 1, 200, 100, 0, 0, 0, 0];
        counters[index] = 1;
        served.dump(counters);
        assert!(!served.is_served_after(Duration::ZERO), "{index}");
    }
}

#[test]
fn any_event_of_the_namespace_s_links_has_the_file_read() {
    let notices = [
        LinkEvent::Changed(veth(5, NSID)),
        LinkEvent::Gone { index: 5, to: None },
        LinkEvent::Gone { index: 9, to: Some(NSID) },
        LinkEvent::Changed(veth(7, NSID)),
    ];
    for notice in notices {
        let mut served = Served::new();
        served.table.apply(notice);
        assert!(!served.is_served_after(Duration::ZERO), "{notice:?}");
        assert!(served.interfaces.needs_mapping(&served.table, served.start), "{notice:?}");
    }
    let mut served = Served::new();
    served.table.apply(LinkEvent::Changed(veth(6, NSID + 1)));
    assert!(served.is_served_after(Duration::ZERO), "another one's news");
}

#[test]
fn a_link_that_was_not_dumped_and_another_process_send_us_to_the_file() {
    let mut served = Served::new();
    assert!(!served.interfaces.is_served(PID + 1, &served.table, served.start));
    served.table.begin();
    assert!(!served.is_served_after(Duration::ZERO));
}

#[test]
fn another_interface_name_or_process_makes_all_that_was_known_void() {
    let mut served = Served::new();
    served.interfaces.take(Some(owner()), net_dev("eth1", [100, 1, 0], [200, 2, 0]).as_bytes());
    assert_eq!(served.interfaces.mapping(), PeerMap::Unknown);
    let mut served = Served::new();
    served.interfaces.take(None, net_dev("eth0", [100, 1, 0], [200, 2, 0]).as_bytes());
    assert_eq!(served.interfaces.mapping(), PeerMap::Unknown);
    let mut served = Served::new();
    served.interfaces.take(Some(owner()), b"header\nheader\n");
    assert!(served.interfaces.rows().is_empty() && !served.is_served_after(Duration::ZERO));
}

#[test]
fn a_column_that_does_not_lie_between_two_readings_is_a_difference() {
    let mut served = Served::new();
    served.interfaces.take(Some(owner()), net_dev("eth0", [120, 2, 3], [260, 4, 4]).as_bytes());
    for (counters, difference) in [
        ([3, 2, 230, 110, 0, 0, 0, 0], None),
        ([3, 2, 230, 99, 0, 0, 0, 0], Some((0, 100, 99, 120))),
        ([5, 2, 230, 110, 0, 0, 0, 0], Some((9, 2, 5, 4))),
    ] {
        served.dump(counters);
        let expected = difference.map(|(column, before, link, after)| Difference {
            interface: "eth0".to_owned(),
            column,
            before,
            link,
            after,
        });
        assert_eq!(served.interfaces.difference(&served.table), expected);
    }
}

#[test]
fn interfaces_are_distinguished_from_groups() {
    let igmp = b"Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n1\tlo        :     1      V3\n\t\t\t\t010000E0     \
                 1 0:00000000\t\t0\n12\tlongest-name-15:     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n";
    let found: Vec<(u32, &[u8])> = ifindices(igmp).collect();
    assert_eq!(found, [(1, &b"lo"[..]), (12, b"longest-name-15")]);
}

#[test]
fn a_capture_and_a_host_of_few_containers_have_no_sockets() {
    let self_metrics = SelfMetrics::new().unwrap();
    let mut capture = VethPeers::new("/proc".as_ref(), false, self_metrics.clone());
    capture.begin(1000, Instant::now());
    assert!(matches!(capture.state, State::Off));
    let mut few = VethPeers::new("/proc".as_ref(), true, self_metrics);
    few.begin(MIN_CONTAINERS - 1, Instant::now());
    assert!(matches!(few.state, State::Closed { until: None, .. }));
}

#[test]
fn a_procfs_that_is_not_the_host_s_is_refused_and_counted_once_in_a_while() {
    let procfs = tempfile::tempdir().unwrap();
    assert!(matches!(HostNetns::open(procfs.path()), Err(LinkError::NotHost { .. })));
    let self_metrics = SelfMetrics::new().unwrap();
    let mut links = VethPeers::new(procfs.path(), true, self_metrics.clone());
    let now = Instant::now();
    for seconds in [0, 1, 2] {
        links.begin(1000, now + Duration::from_secs(seconds));
    }
    assert_eq!(self_metrics.read_errors.with_label_values(&["rtnetlink", "foreign"]).get(), 1);
    links.end(false);
    assert_eq!(self_metrics.read_path.with_label_values(&["network", "links"]).get(), 0);
}

#[test]
fn sockets_can_be_made_in_another_namespace() {
    let mut child = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", "echo ready; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    if std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).is_ok() {
        let namespace = File::open(format!("/proc/{}/ns/net", child.id())).unwrap();
        // Entering takes a capability over the namespace that a plain user has only in the user namespace itself.
        match Netlink::open(Some(namespace)) {
            Ok(mut netlink) => {
                let mut links = Vec::new();
                netlink.counters(|index, _| links.push(index)).unwrap();
                assert!(links.contains(&1) && links.len() < 20, "lo, and what tunnels the kernel has: {links:?}");
            }
            Err(error) => assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::PERM.raw_os_error())),
        }
    }
    drop(child.stdin.take());
    child.wait().unwrap();
}
