//! What an exposition is made of.

use super::labels::LabelSets;
use crate::metrics::FamilySet;
use crate::name::ContainerInfo;
use crate::read::{HostFacts, Labels, Limits, Machine, Row, Sample};

/// A container as it is exposed.
#[derive(Clone, Copy, Debug)]
pub struct Exposed<'a> {
    /// Its label sets.
    pub sets: &'a LabelSets,
    /// Its values, while it runs.
    pub sample: Option<&'a Sample>,
    /// Its limits, while it runs.
    pub limits: Option<&'a Limits>,
    /// What the engine says of the container.
    pub info: Option<&'a ContainerInfo>,
    /// OOM kills over all its runs, where they are known and the container runs or is about to.
    pub oom_kills: Option<u64>,
    /// When it was last seen, in milliseconds since the epoch.
    pub last_seen_ms: Option<u64>,
    /// Since when its OOM kills are counted, in nanoseconds since the epoch.
    pub oom_since_ns: Option<u64>,
}

/// Everything that an exposition is made of.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The rows of every schema that is exposed.
    pub rows: &'a [Row],
    /// The containers.
    pub containers: &'a [Exposed<'a>],
    /// The host's values from the root cgroup, where the host is asked for.
    pub host: Option<&'a Sample>,
    /// The host's values from `/proc`.
    pub facts: &'a HostFacts,
    /// The machine's facts.
    pub machine: &'a Machine,
    /// Version of the engine; empty where none is known.
    pub engine_version: &'a str,
    /// The texts that samples refer to.
    pub labels: &'a Labels,
    /// Whether a collector failed.
    pub failed: bool,
    /// The families that were asked for.
    pub families: FamilySet,
    /// When eBPF programs began to count, in nanoseconds since the epoch.
    pub probed_since_ns: Option<u64>,
}
