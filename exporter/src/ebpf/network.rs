//! Reads the counts of the network programs, and frees the entries of ended cgroups.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::atomic::AtomicU64;

use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType};
use aya::{Ebpf, include_bytes_aligned};
use exporter_ebpf::network::{Counters, FAMILIES, Family, Key, Slot, shard};
use exporter_ebpf::slots::Layout;

use super::Program;
use super::cpus::{self, Late};
use super::error::Unsupported;
use super::loader::{Loader, program_of, refused};
use super::owners::CgroupOwners;
use super::slots::{Table, TableSpec, names, word};

const OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../exporter-ebpf/prebuilt/network.o"));

/// Capacity of the overflow map, in cgroups times families. It takes memory only for entries in use.
const OVERFLOW: u32 = 16_384;

/// The network programs, attached, and their maps.
pub(super) struct Network {
    /// Keeps programs and links alive.
    pub(super) object: Ebpf,
    layout: Layout,
    table: Table<Key, Counters>,
    /// Counts as of the last [`Network::read`].
    totals: HashMap<Key, Counters>,
}

/// Sizes of the programs' tables.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Binary logarithm of the number of sets of two slots, per CPU and address family, 1 to 16. A slot is 64 bytes;
    /// cgroups without one are counted in a hash map, which costs more.
    pub network_set_bits: u32,
}

impl Default for Sizes {
    /// 256 KiB per CPU and family. Of a thousand cgroups three in a hundred have no slot.
    fn default() -> Self {
        Self { network_set_bits: 11 }
    }
}

impl Network {
    /// Loads and attaches the programs at the root of the v2 tree.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn start(loader: &mut Loader, sizes: Sizes) -> Result<Self, Unsupported> {
        let root = loader.facts.cgroup2.clone().unwrap_or_default();
        let root = File::open(&root).map_err(|error| {
            Unsupported::new(format!("cannot open {}: {error}", root.display()), "give us /sys/fs/cgroup")
        })?;
        let online = cpus::online()?;
        let shape = TableSpec {
            names: names!("NETWORK"),
            layout: Layout { shards: cpus::count(&online) * FAMILIES, set_bits: sizes.network_set_bits },
            words: size_of::<Slot>() / size_of::<u64>(),
            cgroup: 0,
            overflow: OVERFLOW,
        };
        loader.set("NETWORK_SHARDS", cpus::shards(&online, Late::Shares));
        shape.prepare(loader);
        let mut object = loader.load(OBJECT)?;
        attach(&mut object, Program::NetworkReceive, &root, CgroupSkbAttachType::Ingress)?;
        attach(&mut object, Program::NetworkTransmit, &root, CgroupSkbAttachType::Egress)?;
        let table = Table::take(&mut object, &shape)?;
        Ok(Self { object, layout: shape.layout, table, totals: HashMap::new() })
    }

    /// Sums up the counts of every cgroup: one read of each slot, and of the overflow map.
    pub(super) fn read(&mut self) {
        self.table.free_retired();
        self.totals.clear();
        let per_shard = self.layout.slots_per_shard() as usize;
        let families = Family::ALL.map(|family| (shard(0, family) as usize, family));
        for (index, cgroup, slot) in self.table.held() {
            let shard = index / per_shard % FAMILIES as usize;
            let Some((_, family)) = families.iter().find(|(of, _)| *of == shard) else { continue };
            add(self.totals.entry(Key::new(cgroup, *family)).or_default(), &counters(slot));
        }
        for (key, counters) in self.table.overflowed() {
            add(self.totals.entry(key).or_default(), &counters);
        }
    }

    /// Returns the counts of a cgroup in one family, as of the last [`Network::read`]; none without a packet.
    pub(super) fn counted(&self, cgroup: u64, family: Family) -> Option<&Counters> {
        self.totals.get(&Key::new(cgroup, family))
    }

    /// Returns the cgroups with counts, as of the last [`Network::read`].
    pub(super) fn cgroups(&self) -> impl Iterator<Item = u64> + Clone {
        self.totals.keys().map(|key| key.cgroup)
    }

    /// Returns the number of entries in use: cgroups times families.
    pub(super) fn entries(&self) -> usize {
        self.totals.len()
    }

    /// Returns the number of packets that were not counted for lack of an entry.
    pub(super) fn refused(&self) -> u64 {
        self.table.refused()
    }

    /// Frees the entries of ended cgroups.
    pub(super) fn retire(&mut self, ended: &HashSet<u64>, owners: &CgroupOwners) {
        self.table.retire(ended, owners, |key| key.cgroup);
    }

    /// Publishes the containers to the program.
    pub(super) fn publish(&mut self, owners: &CgroupOwners) {
        self.table.quotas().publish(owners.published());
    }

    /// Returns the container's cgroup that owns a nested cgroup with entries.
    pub(super) fn owner(&self, cgroup: u64) -> Option<u64> {
        self.table.owner(cgroup)
    }
}

fn attach(object: &mut Ebpf, program: Program, root: &File, kind: CgroupSkbAttachType) -> Result<(), Unsupported> {
    let loaded: &mut CgroupSkb = program_of(object, program.name())?;
    loaded
        .load()
        // Several programs may be attached to the hook: others stay.
        .and_then(|()| loaded.attach(root, kind, CgroupAttachMode::Single))
        .map(drop)
        .map_err(|error| refused(program.name(), &error))
}

fn counters(slot: &[AtomicU64]) -> Counters {
    Counters {
        receive_bytes: word(slot, 1),
        receive_packets: word(slot, 2),
        transmit_bytes: word(slot, 3),
        transmit_packets: word(slot, 4),
    }
}

/// Adds counts.
pub(super) fn add(total: &mut Counters, more: &Counters) {
    total.receive_bytes += more.receive_bytes;
    total.receive_packets += more.receive_packets;
    total.transmit_bytes += more.transmit_bytes;
    total.transmit_packets += more.transmit_packets;
}
