//! The programs that count packets of sockets, and TCP segments sent again, by cgroup.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::atomic::AtomicU64;

use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType};
use aya::{Ebpf, include_bytes_aligned};
use exporter_ebpf::network::{Counters, FAMILIES, Family, Key, Slot, shard};
use exporter_ebpf::slots::Layout;
use exporter_ebpf::tcp::Offsets;

use super::Program;
use super::cpus::{self, Late};
use super::loader::{Loader, program_of, refused};
use super::owners::CgroupOwners;
use super::tables::{Entries, Quotas, Table, TableSpec, ancestors, quota_names, table_names, word};
use super::unsupported::Unsupported;

const NETWORK_OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../exporter-ebpf/prebuilt/network.o"));

/// Capacity of the overflow map, in cgroups times families. It takes memory only for entries in use.
const OVERFLOW: u32 = 16_384;

/// The attached programs that count packets, and their table.
pub(super) struct Network {
    /// Keeps programs and links alive.
    pub(super) object: Ebpf,
    layout: Layout,
    table: Table<Key, Counters>,
    /// Counts as of the last [`Network::read`].
    totals: HashMap<Key, Counters>,
}

/// Sizes of the tables of programs.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Binary logarithm of the number of sets of two slots per CPU and address family, 1 to 16. A slot has 64 bytes.
    /// Cgroups without a slot are counted in a hash map, which takes more time and memory.
    pub network_set_bits: u32,
}

impl Default for Sizes {
    /// Returns 11: 256 KiB per CPU and family. Of a thousand cgroups, thirty have no slot.
    fn default() -> Self {
        Self { network_set_bits: 11 }
    }
}

impl Network {
    /// Loads the programs and attaches them to the root of the v2 tree.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn start(loader: &mut Loader, sizes: Sizes) -> Result<Self, Unsupported> {
        let root = loader.facts.cgroup2.clone().unwrap_or_default();
        let root = File::open(&root).map_err(|error| {
            Unsupported::new(format!("cannot open {}: {error}", root.display()), "give us /sys/fs/cgroup")
        })?;
        let online = cpus::online()?;
        let spec = TableSpec {
            names: table_names!("NETWORK"),
            layout: Layout { shards: cpus::count(&online) * FAMILIES, set_bits: sizes.network_set_bits },
            slot_words: size_of::<Slot>() / size_of::<u64>(),
            cgroup_word: 0,
            overflow_entries: OVERFLOW,
        };
        loader.set_constant("NETWORK_SHARDS", cpus::shards(&online, Late::Shares));
        spec.prepare(loader);
        let mut object = loader.load(NETWORK_OBJECT)?;
        attach(&mut object, Program::NetworkReceive, &root, CgroupSkbAttachType::Ingress)?;
        attach(&mut object, Program::NetworkTransmit, &root, CgroupSkbAttachType::Egress)?;
        let table = Table::take(&mut object, &spec)?;
        Ok(Self { object, layout: spec.layout, table, totals: HashMap::new() })
    }

    /// Reads the counts of every cgroup: each slot once, and the overflow map.
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

    /// Publishes the containers to the programs.
    pub(super) fn publish(&mut self, owners: &CgroupOwners) {
        self.table.quotas().publish(owners.published());
    }

    /// Returns the container's cgroup that owns a nested cgroup with entries.
    pub(super) fn owner(&self, cgroup: u64) -> Option<u64> {
        self.table.owner(cgroup)
    }
}

/// Loads a program and attaches it to a hook of a cgroup.
fn attach(object: &mut Ebpf, program: Program, root: &File, kind: CgroupSkbAttachType) -> Result<(), Unsupported> {
    let loaded: &mut CgroupSkb = program_of(object, program.name())?;
    loaded
        .load()
        // Links let several programs be attached to a hook, whatever the mode: programs of others stay.
        .and_then(|()| loaded.attach(root, kind, CgroupAttachMode::Single))
        .map(drop)
        .map_err(|error| refused(program.name(), &error))
}

/// Returns the counts in a slot.
fn counters(slot: &[AtomicU64]) -> Counters {
    Counters {
        receive_bytes: word(slot, 1),
        receive_packets: word(slot, 2),
        transmit_bytes: word(slot, 3),
        transmit_packets: word(slot, 4),
    }
}

/// Adds counts to a total.
pub(super) fn add(total: &mut Counters, more: &Counters) {
    total.receive_bytes += more.receive_bytes;
    total.receive_packets += more.receive_packets;
    total.transmit_bytes += more.transmit_bytes;
    total.transmit_packets += more.transmit_packets;
}

const TCP_OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../exporter-ebpf/prebuilt/tcp.o"));

/// Capacity of the map of retransmits, in cgroups.
const TCP_CGROUPS: u32 = 16_384;

/// The attached program that counts TCP segments sent again, and its maps.
pub(super) struct Tcp {
    /// Keeps program and link alive.
    pub(super) object: Ebpf,
    retransmits: Entries<u64, u64>,
    quotas: Quotas,
    /// Counts as of the last [`Tcp::read`].
    totals: HashMap<u64, u64>,
}

impl Tcp {
    /// Loads and attaches the program.
    ///
    /// # Errors
    /// What the kernel refused or lacks.
    pub(super) fn start(loader: &mut Loader) -> Result<Self, Unsupported> {
        let offsets = Offsets {
            sock_cgroup: loader.offset("sock", "sk_cgrp_data.cgroup")?,
            id_offsets: loader.cgroup_id_offsets()?,
        };
        loader.set_constant("TCP_OFFSETS", offsets);
        loader.set_constant("TCP_ANCESTORS", ancestors(loader)?);
        loader.set_map_size("RETRANSMITS", TCP_CGROUPS);
        let mut object = loader.load(TCP_OBJECT)?;
        loader.attach_tracepoint(&mut object, Program::TcpRetransmit, "tcp_retransmit_skb")?;
        let retransmits = Entries::take(&mut object, "RETRANSMITS", "TCP_COUNTS")?;
        let quotas = Quotas::take(&mut object, &quota_names!("TCP"))?;
        Ok(Self { object, retransmits, quotas, totals: HashMap::new() })
    }

    /// Reads the counts of all cgroups. Few have any.
    pub(super) fn read(&mut self) {
        self.totals.clear();
        self.totals.extend(self.retransmits.iter());
    }

    /// Returns the number of segments that a cgroup has sent again, as of the last [`Tcp::read`]; none if it has sent
    /// none again.
    pub(super) fn counted(&self, cgroup: u64) -> Option<u64> {
        self.totals.get(&cgroup).copied()
    }

    /// Returns the cgroups with counts, as of the last [`Tcp::read`].
    pub(super) fn cgroups(&self) -> impl Iterator<Item = u64> + Clone {
        self.totals.keys().copied()
    }

    /// Returns the number of entries in use.
    pub(super) fn entries(&self) -> usize {
        self.totals.len()
    }

    /// Returns the number of segments that were not counted for lack of an entry.
    pub(super) fn refused(&self) -> u64 {
        self.retransmits.refused()
    }

    /// Frees the entries of ended cgroups.
    pub(super) fn retire(&mut self, ended: &HashSet<u64>, owners: &CgroupOwners) {
        self.retransmits.remove(|cgroup| ended.contains(cgroup));
        let unowned = self.retransmits.iter().filter(|(cgroup, _)| !owners.belongs_to_container(*cgroup)).count();
        self.quotas.forget_ended(ended, unowned);
    }

    /// Publishes the containers to the program.
    pub(super) fn publish(&mut self, owners: &CgroupOwners) {
        self.quotas.publish(owners.published());
    }

    /// Returns the container's cgroup that owns a nested cgroup with entries.
    pub(super) fn owner(&self, cgroup: u64) -> Option<u64> {
        self.quotas.owner(cgroup)
    }
}
