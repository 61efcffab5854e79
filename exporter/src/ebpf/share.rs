//! What the programs have counted for one container: whose it is was looked up once, however many values are asked for.
//!
//! Made by `probes` for each container of a pass.

use exporter_ebpf::latency::Histogram;
use exporter_ebpf::network::{Counters, Family};

use super::block::{Block, BlockUse, operation_of};
use super::network::{Network, add};
use super::sched::Sched;
use super::tasks::Threads;
use super::tcp::Tcp;
use crate::metrics::{IpFamily, Probed, TrafficCount};

/// A container's share of what was counted, cgroups below its own included.
pub struct ContainerCounters<'a> {
    traffic: [Option<Counters>; Family::ALL.len()],
    retransmits: Option<u64>,
    threads: Option<Threads>,
    /// Its cgroups.
    ids: &'a [u64],
    sched: Option<&'a Sched>,
    /// Those of them that have used a disk; in the tree of that controller ids are others.
    block_ids: &'a [u64],
    block: Option<&'a Block>,
}

impl<'a> ContainerCounters<'a> {
    /// Returns the share of these cgroups in what these programs count.
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

    /// Returns the same with the states of its threads.
    pub(super) fn with_threads(self, threads: Option<Threads>) -> Self {
        Self { threads, ..self }
    }

    /// Returns whether it has used any disk.
    #[must_use]
    pub fn has_blocks(&self) -> bool {
        self.block.is_some()
    }

    /// One value; none where nothing was counted.
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

    /// One histogram; none where nothing was observed.
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

    /// Block I/O by device and operation, into `uses`.
    pub fn block_uses(&self, uses: &mut Vec<BlockUse>) {
        uses.clear();
        if let Some(block) = self.block {
            self.block_ids.iter().for_each(|id| block.add_uses(*id, uses));
        }
    }
}

fn family_of(family: IpFamily) -> Family {
    match family {
        IpFamily::V4 => Family::Ipv4,
        IpFamily::V6 => Family::Ipv6,
    }
}
