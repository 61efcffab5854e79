//! Reads how many TCP segments were sent again.

use std::collections::{HashMap, HashSet};

use aya::{Ebpf, include_bytes_aligned};
use exporter_ebpf::tcp::Offsets;

use super::Program;
use super::entries::Entries;
use super::error::Unsupported;
use super::loader::Loader;
use super::owners::CgroupOwners;
use super::quotas::{Quotas, ancestors, quota_maps};

const OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../exporter-ebpf/prebuilt/tcp.o"));

/// Cgroups that the map takes.
const CGROUPS: u32 = 16_384;

/// The program, attached, and its map.
pub(super) struct Tcp {
    /// Keeps program and link alive.
    pub(super) object: Ebpf,
    retransmits: Entries<u64, u64>,
    quotas: Quotas,
    /// As of the last [`Tcp::read`].
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
        loader.set("TCP_OFFSETS", offsets);
        loader.set("TCP_ANCESTORS", ancestors(loader)?);
        loader.size("RETRANSMITS", CGROUPS);
        let mut object = loader.load(OBJECT)?;
        loader.trace(&mut object, Program::TcpRetransmit, "tcp_retransmit_skb")?;
        let retransmits = Entries::take(&mut object, "RETRANSMITS", "TCP_COUNTS")?;
        let quotas = Quotas::take(&mut object, &quota_maps!("TCP"))?;
        Ok(Self { object, retransmits, quotas, totals: HashMap::new() })
    }

    /// Takes the counts of all cgroups: few have any.
    pub(super) fn read(&mut self) {
        self.totals.clear();
        self.totals.extend(self.retransmits.iter());
    }

    /// Segments that a cgroup has sent again, as of the last [`Tcp::read`]; none where it never has.
    pub(super) fn counted(&self, cgroup: u64) -> Option<u64> {
        self.totals.get(&cgroup).copied()
    }

    /// Returns the cgroups that have counted something.
    pub(super) fn cgroups(&self) -> impl Iterator<Item = u64> + Clone {
        self.totals.keys().copied()
    }

    /// Entries in use.
    pub(super) fn entries(&self) -> usize {
        self.totals.len()
    }

    /// Segments that were not counted, as no entry was left.
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
