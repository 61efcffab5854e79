//! A container that makes cgroups or devices without end takes no more of the shared tables than its bound.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use docker_stats_exporter::discover::{ContainerId, Hierarchy};
use docker_stats_exporter::ebpf::{BlockUse, ContainerRef, Probes, Sizes};
use docker_stats_exporter::metrics::{
    BlockOperation, Collector, CollectorSet, IpFamily, Probed, SelfMetrics, TrafficCount,
};
use exporter_tests::bare::BareContainers;

use super::disk::{Loop, alone_with_devices};
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

/// Devices that a container uses, more than it has entries for.
const DEVICES: usize = 420;

/// Reads from and writes to each of the devices that it is given.
const USE_EACH: &str = r#"
for my $device (@ARGV) {
    system("busybox dd if=$device of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null") == 0 or die "$device: read";
    system("busybox dd if=/dev/zero of=$device bs=4k count=1 oflag=direct conv=notrunc 2>/dev/null") == 0 or die "$device: write";
}
"#;

#[test]
fn who_makes_devices_without_end_leaves_room_for_others() {
    let _alone = alone_with_devices();
    let wanted = CollectorSet::EMPTY.with(Collector::EbpfBlkio);
    let hierarchy = Hierarchy::detect(Path::new("/sys/fs/cgroup")).unwrap();
    let mut probes = Probes::start(wanted, false, &hierarchy, Sizes::default());
    assert!(probes.report().unsupported().is_empty(), "{:?}", probes.report());
    let bare = BareContainers::make(2).unwrap();
    let paths: Vec<String> = bare.ids.iter().map(|id| bare.path(id)).collect();
    let ids: Vec<ContainerId> = bare.ids.iter().map(|id| ContainerId::parse(id.as_bytes()).unwrap()).collect();
    let holders = || ids.iter().zip(&paths).map(|(id, path)| ContainerRef { id: *id, generation: 1, path });
    probes.read(wanted, holders(), Instant::now(), drop);
    let disks = Disks::make(DEVICES);
    let mut command = vec!["perl", "-e", USE_EACH];
    command.extend(disks.made.iter().map(|disk| disk.device.as_str()));
    bare.run(&bare.ids[0], &command).unwrap();
    // Who comes later finds room.
    let read = format!("busybox dd if={} of=/dev/null bs=4k count=1 iflag=direct", disks.made[0].device);
    bare.run(&bare.ids[1], &read.split(' ').collect::<Vec<_>>()).unwrap();
    probes.read(wanted, holders(), Instant::now(), drop);

    let mut uses = Vec::new();
    probes.counters(0, ids[0]).block_uses(&mut uses);
    // Twice as many were made. The disk that their files lie on is among those counted.
    assert!((700..=768).contains(&uses.len()), "{} devices and operations", uses.len());
    let own = SelfMetrics::new().unwrap();
    probes.publish(&own);
    assert!(own.ebpf_refused.with_label_values(&["block"]).get() >= 40, "what was dropped is counted");
    probes.counters(1, ids[1]).block_uses(&mut uses);
    let (minor, read) = (disks.made[0].number().unwrap(), BlockOperation::Read);
    let of_disk = |one: &&BlockUse| format!("{}:{}", one.major, one.minor) == minor && one.operation == read;
    let seen = uses.iter().find(of_disk).map(|one| (one.operations, one.bytes));
    assert_eq!(seen, Some((1, 4096)), "{uses:?}");
}

/// Many devices, whose numbers are given back, too: a kernel keeps those of loop devices.
struct Disks {
    made: Vec<Loop>,
    before: HashSet<OsString>,
}

impl Disks {
    fn make(count: usize) -> Self {
        let mut disks = Self { made: Vec::new(), before: names() };
        disks.made.extend((0..count).map(|_| Loop::make(4 << 10).unwrap()));
        disks
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        self.made.clear();
        let remove = r#"open(my $all, "+<", "/dev/loop-control") or die; ioctl($all, 0x4c81, $_ + 0) for @ARGV"#;
        let new = names().into_iter().filter(|name| !self.before.contains(name));
        let numbers = new.filter_map(|name| name.to_str()?.strip_prefix("loop").map(str::to_owned));
        Command::new("perl").args(["-e", remove]).args(numbers).status().map(drop).unwrap_or_default();
    }
}

/// Names of all block devices.
fn names() -> HashSet<OsString> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().filter_map(Result::ok);
    devices.map(|device| device.file_name()).collect()
}
