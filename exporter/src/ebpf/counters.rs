//! The counts of one container. They are looked up once per pass and container, however many values are read.

use exporter_ebpf::latency::Histogram;
use exporter_ebpf::network::{Counters, Family};

use super::block::{Block, BlockUse, operation_of};
use super::network::{Network, Tcp, add};
use super::sched::Sched;
use super::tasks::Threads;
use crate::metrics::{IpFamily, Probed, TrafficCount};

/// The counts of one container, including those of the cgroups below its own.
pub struct ContainerCounters<'a> {
    traffic: [Option<Counters>; Family::ALL.len()],
    retransmits: Option<u64>,
    threads: Option<Threads>,
    /// Ids of its cgroups in the v2 tree.
    ids: &'a [u64],
    sched: Option<&'a Sched>,
    /// Ids of its cgroups in the tree with the block controller.
    block_ids: &'a [u64],
    /// None if the container has used no disk.
    block: Option<&'a Block>,
}

impl<'a> ContainerCounters<'a> {
    /// Returns the counts of these programs for these cgroups.
    pub(super) fn new(
        ids: &'a [u64],
        block_ids: &'a [u64],
        (network, tcp, block, sched): (Option<&Network>, Option<&Tcp>, Option<&'a Block>, Option<&'a Sched>),
    ) -> Self {
        let traffic = Family::ALL.map(|family| {
            let mut counted =
                network.into_iter().flat_map(|network| ids.iter().filter_map(|id| network.counted(*id, family)));
            let mut total = *counted.next()?;
            counted.for_each(|more| add(&mut total, more));
            Some(total)
        });
        let retransmits = tcp.and_then(|tcp| {
            let mut counted = ids.iter().filter_map(|id| tcp.counted(*id));
            counted.next().map(|first| counted.fold(first, |total, more| total + more))
        });
        let block = block.filter(|block| block_ids.iter().any(|id| !block.counted(*id).is_empty()));
        Self { traffic, retransmits, threads: None, ids, sched, block_ids, block }
    }

    /// Returns the same counts with the states of the container's threads.
    pub(super) fn with_threads(self, threads: Option<Threads>) -> Self {
        Self { threads, ..self }
    }

    /// Returns whether the container has used any disk.
    #[must_use]
    pub fn has_blocks(&self) -> bool {
        self.block.is_some()
    }

    /// Returns one value; none if nothing was counted.
    #[must_use]
    pub fn value(&self, what: Probed) -> Option<u64> {
        match what {
            Probed::Traffic(count, family) => {
                let index = Family::ALL.iter().position(|one| *one == family_of(family))?;
                let counted = self.traffic.get(index)?.as_ref()?;
                Some(match count {
                    TrafficCount::ReceivedBytes => counted.receive_bytes,
                    TrafficCount::ReceivedPackets => counted.receive_packets,
                    TrafficCount::SentBytes => counted.transmit_bytes,
                    TrafficCount::SentPackets => counted.transmit_packets,
                })
            }
            Probed::Retransmits => self.retransmits,
            Probed::Threads(state) => self.threads.map(|threads| threads.count(state)),
            Probed::Load => self.threads?.load,
            Probed::Block(..) | Probed::BlockLatency(_) | Probed::RunQueueLatency => None,
        }
    }

    /// Returns one histogram; none if nothing was observed.
    #[must_use]
    pub fn histogram(&self, what: Probed) -> Option<Histogram> {
        let mut total = Histogram::default();
        match what {
            Probed::BlockLatency(operation) => {
                let block = self.block?;
                let entries = self.block_ids.iter().flat_map(|id| block.counted(*id));
                let wanted = entries.filter(|(key, _)| operation_of(key.device_op.operation()) == operation);
                wanted.for_each(|(_, counters)| total.add(&counters.latency));
            }
            Probed::RunQueueLatency => {
                let sched = self.sched?;
                self.ids.iter().filter_map(|id| sched.counted(*id)).for_each(|more| total.add(more));
            }
            Probed::Traffic(..) | Probed::Retransmits | Probed::Block(..) | Probed::Threads(_) | Probed::Load => {}
        }
        (total.count() > 0).then_some(total)
    }

    /// Replaces the contents of `uses` by the container's block I/O by device and operation.
    pub fn block_uses(&self, uses: &mut Vec<BlockUse>) {
        uses.clear();
        if let Some(block) = self.block {
            self.block_ids.iter().for_each(|id| block.add_uses(*id, uses));
        }
    }
}

/// Returns the programs' name of an address family.
fn family_of(family: IpFamily) -> Family {
    match family {
        IpFamily::V4 => Family::Ipv4,
        IpFamily::V6 => Family::Ipv6,
    }
}
