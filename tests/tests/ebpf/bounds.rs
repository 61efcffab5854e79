//! A container that makes cgroups without end takes no more of the shared tables than its bound, and nothing is lost.

use std::fs;
use std::path::Path;
use std::time::Instant;

use docker_stats_exporter::discover::{ContainerId, Hierarchy};
use docker_stats_exporter::ebpf::{ContainerRef, Probes, Sizes};
use docker_stats_exporter::metrics::{Collector, CollectorSet, IpFamily, Probed, SelfMetrics, TrafficCount};
use exporter_tests::bare::BareContainers;

use super::ping_from;

const BYTES: Probed = Probed::Traffic(TrafficCount::SentBytes, IpFamily::V4);
const PACKETS: Probed = Probed::Traffic(TrafficCount::SentPackets, IpFamily::V4);
const WANTED: CollectorSet = CollectorSet::EMPTY.with(Collector::EbpfNetwork);

/// Cgroups that the attacker makes, each of which sends one packet.
const CGROUPS: u64 = 20_000;
/// IP and UDP headers, and 100 bytes.
const PACKET: u64 = 128;

/// Makes cgroups below the one that it is in, one after the other, and sends a packet from a socket of each.
const CHURN: &str = r#"
use Socket;
my ($base, $count) = @ARGV;
my $to = sockaddr_in(9, inet_aton("127.0.0.1"));
sub enter { open(my $procs, ">", "$_[0]/cgroup.procs") or die "$_[0]: $!"; print $procs $$; close($procs) or die $! }
for my $number (1 .. $count) {
    my $nested = "$base/nested$number";
    mkdir $nested or die "$nested: $!";
    enter($nested);
    socket(my $socket, PF_INET, SOCK_DGRAM, getprotobyname("udp")) or die $!;
    send($socket, "x" x 100, 0, $to) or die $!;
    close($socket);
    enter($base);
    rmdir $nested or die "$nested: $!";
}
"#;

#[test]
fn who_makes_cgroups_without_end_leaves_room_for_others_and_loses_nothing() {
    let hierarchy = Hierarchy::detect(Path::new("/sys/fs/cgroup")).unwrap();
    let mut probes = Probes::start(WANTED, false, &hierarchy, Sizes::default());
    assert!(probes.report().unsupported().is_empty(), "{:?}", probes.report());
    let bare = BareContainers::make(2).unwrap();
    let paths: Vec<String> = bare.ids.iter().map(|id| bare.path(id)).collect();
    let ids: Vec<ContainerId> = bare.ids.iter().map(|id| ContainerId::parse(id.as_bytes()).unwrap()).collect();
    let holders = || ids.iter().zip(&paths).map(|(id, path)| ContainerRef { id: *id, generation: 1, path });
    let mut read = || probes.read(WANTED, holders(), Instant::now(), drop);
    read();
    let trees = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    let tree = trees.into_iter().find(|tree| fs::exists(format!("{tree}/cgroup.controllers")).unwrap()).unwrap();
    let churn = |count: u64| {
        let folder = format!("{tree}{}", paths[0]);
        bare.run(&bare.ids[0], &["perl", "-e", CHURN, &folder, &count.to_string()]).unwrap();
    };
    // The victim speaks before, during and after, and is new to the tables each time that its CPU is another one.
    let mut pinged = ping_from(&bare, &bare.ids[1], 10).unwrap();
    for _ in 0..4 {
        churn(CGROUPS / 4);
        pinged += ping_from(&bare, &bare.ids[1], 50).unwrap();
        read();
    }

    let sent = |probes: &Probes, container, what| probes.value(container, what).unwrap_or(0);
    assert_eq!(sent(&probes, ids[0], PACKETS), CGROUPS);
    assert_eq!(sent(&probes, ids[0], BYTES), CGROUPS * PACKET);
    assert_eq!(i128::from(sent(&probes, ids[1], BYTES)), pinged * 100);
    let self_metrics = SelfMetrics::new().unwrap();
    probes.publish(&self_metrics);
    assert_eq!(self_metrics.ebpf_refused.with_label_values(&["network"]).get(), 0);
    let entries = self_metrics.ebpf_map_entries.with_label_values(&["network"]).get();
    assert!(entries < 2_500, "{entries} entries");
}
