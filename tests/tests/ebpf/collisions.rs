//! A table that is far too small: who finds no slot is counted all the same, and nobody inherits another's counts.

use std::path::Path;
use std::time::Instant;

use docker_stats_exporter::discover::{ContainerId, Hierarchy};
use docker_stats_exporter::ebpf::{ContainerRef, Probes, Sizes};
use docker_stats_exporter::metrics::{Collector, CollectorSet, IpFamily, Probed, TrafficCount};
use exporter_tests::bare::BareContainers;

use super::ping_from;

const SENT: Probed = Probed::Traffic(TrafficCount::SentBytes, IpFamily::V4);
const CONTAINERS: usize = 24;
const WANTED: CollectorSet = CollectorSet::EMPTY.with(Collector::EbpfNetwork);

/// Containers in one of their lives, and what their pings say that they have sent.
struct Generation {
    bare: BareContainers,
    number: u64,
    packets: u64,
}

impl Generation {
    fn make(number: u64) -> Self {
        Self { bare: BareContainers::make(CONTAINERS).unwrap(), number, packets: 0 }
    }

    /// Each sends another number of packets of 100 bytes than its neighbour, and all of them more than before.
    fn ping(&mut self, probes: &mut Probes) {
        let paths: Vec<String> = self.bare.ids.iter().map(|id| self.bare.path(id)).collect();
        let ids: Vec<ContainerId> = self.bare.ids.iter().map(|id| ContainerId::parse(id.as_bytes()).unwrap()).collect();
        let holders =
            || ids.iter().zip(&paths).map(|(id, path)| ContainerRef { id: *id, generation: self.number, path });
        probes.read(WANTED, holders(), Instant::now(), drop);
        let before: Vec<u64> = ids.iter().map(|id| probes.value(*id, SENT).unwrap_or(0)).collect();
        assert!(self.packets > 0 || before.iter().all(|count| *count == 0), "inherited: {before:?}");
        let pinged: Vec<i128> = self
            .bare
            .ids
            .iter()
            .zip(1..)
            .map(|(id, packets): (_, u64)| ping_from(&self.bare, id, packets + self.number).unwrap())
            .collect();
        probes.read(WANTED, holders(), Instant::now(), drop);
        for ((id, before), pinged) in ids.iter().zip(before).zip(pinged) {
            let sent = probes.value(*id, SENT).unwrap_or(0) - before;
            assert_eq!(i128::from(sent), pinged * 100, "generation {}, {pinged} packets", self.number);
            self.packets += sent / 100;
        }
    }
}

#[test]
fn cgroups_that_collide_are_all_counted_and_none_inherits() {
    let hierarchy = Hierarchy::detect(Path::new("/sys/fs/cgroup")).unwrap();
    // Four slots per CPU for two dozen cgroups, and whatever else runs here.
    let mut probes = Probes::start(WANTED, false, &hierarchy, Sizes { network_set_bits: 1 });
    assert!(probes.report().unsupported().is_empty(), "{:?}", probes.report());
    for number in 1..=5 {
        let mut generation = Generation::make(number);
        generation.ping(&mut probes);
        generation.ping(&mut probes);
        assert!(generation.packets > 300);
    }
}
