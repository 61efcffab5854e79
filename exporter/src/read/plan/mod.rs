//! The plan: what to read on this host, and where each exposed series finds its value. `planner` makes it once at start.

pub(super) mod planner;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::metrics::{
    BlockCount, BlockOperation, Bounds, Collector, CollectorSet, Column, Dimension, DiskFact, EngineFact, Family,
    FamilySet, Limit, MachineFact, Probed, ProcessFact, Series, SocketCount,
};

/// What to read, and which series to make of it.
#[derive(Debug, Default)]
pub struct Plan {
    /// Files of each container's cgroup.
    pub files: Vec<PlannedFile>,
    /// Numbers in the engine's stats answer: JSON pointer and slot.
    pub json: Vec<(&'static str, u16)>,
    /// Entries of the engine's `blkio_stats`: list, operation and column of the device table.
    pub json_devices: Vec<(&'static str, &'static str, u16)>,
    /// Members of the engine's `networks`: field and column of the interface table.
    pub json_interfaces: Vec<(&'static str, u16)>,
    /// Lists of the engine's stats answer: JSON pointer, dimension and column of their table.
    pub json_lists: Vec<(&'static str, Dimension, u16)>,
    /// Columns of `/proc/PID/net/dev` that are wanted: file column and column of the interface table.
    pub interfaces: Vec<(usize, u16)>,
    /// Socket tables: file below `/proc/PID/net`, what to count, slot.
    pub sockets: Vec<(&'static str, SocketCount, u16)>,
    /// Sums over the processes.
    pub processes: Vec<(ProcessFact, u16)>,
    /// Sizes of layers and filesystems: columns of the device table.
    pub disks: Vec<(DiskFact, u16)>,
    /// What eBPF programs count: slots.
    pub probes: Vec<(Probed, u16)>,
    /// Histograms that eBPF programs make: their indices in a sample.
    pub histograms: Vec<(Probed, u16)>,
    /// Block I/O that the eBPF program counts: columns of the device table.
    pub blocks: Vec<(BlockCount, BlockOperation, u16)>,
    /// Columns of the device table that files fill, and the eBPF program where they do not.
    pub fills: Vec<(BlockCount, BlockOperation, u16)>,
    /// Slot of the number of processes.
    pub process_count: Option<u16>,
    /// Families that need values beside the planned files.
    pub needs: Needs,
    /// Number of slots.
    pub slots: usize,
    /// Number of columns per dimension.
    pub columns: [usize; Dimension::ALL.len()],
}

/// The families that need what is read beside the planned files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// The list of a container's processes.
    pub processes: FamilySet,
    /// Its limits.
    pub limits: FamilySet,
    /// Names of devices.
    pub devices: FamilySet,
    /// Layers and filesystems.
    pub disks: FamilySet,
}

/// One file of each container's cgroup.
#[derive(Debug)]
pub struct PlannedFile {
    /// Root of the tree it is in.
    pub tree: PathBuf,
    /// Its name.
    pub name: Cow<'static, str>,
    /// The name to use where that one is absent.
    pub fallback: Option<&'static str>,
    /// How its text is parsed.
    pub format: Format,
    /// The keys to find in it (empty for forms without keys).
    pub keys: Vec<&'static str>,
    /// Where each key's value goes: a slot, or a column of the form's table. One entry for forms without keys.
    pub targets: Vec<u16>,
    /// Divisor of every value.
    pub divisor: u64,
    /// The collectors that need it.
    pub collectors: CollectorSet,
    /// The families that want it.
    pub families: FamilySet,
    /// An alternative to another file for the same targets. On most hosts its counts are 0.
    pub is_alternative: bool,
}

/// The text forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// One number.
    Single,
    /// `KEY VALUE` lines.
    Flat,
    /// Pressure lines.
    Psi,
    /// `io.stat`.
    Nested,
    /// `blkio.*` of v1.
    Operations,
    /// `memory.numa_stat`.
    Nodes,
    /// Numbers per CPU, for this dimension's table.
    List(Dimension),
}

/// One exposed series: the row, and where its value is found.
#[derive(Debug)]
pub struct Row {
    /// The family.
    pub family: &'static Family,
    /// The number that [`FamilySet`] knows it by.
    pub number: u16,
    /// The series.
    pub series: &'static Series,
    /// Labels beside those of the container.
    pub labels: Cow<'static, str>,
    /// Where the value is.
    pub value: Value,
    /// Decimal digits of the value after the point.
    pub exponent: u8,
    /// The column of the table that the value comes from; none where only the host has it.
    pub column: Option<Column>,
    /// The family's help with its unit and the sources of all rows of its name.
    pub help: Arc<str>,
}

/// Where a value is found once everything has been read.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// In a slot.
    Slot(u16),
    /// In a column of a table: one sample per row.
    Column(Dimension, u16),
    /// A histogram with these bounds.
    Histogram(u16, &'static Bounds),
    /// Among the limits.
    Limit(Limit),
    /// Among the engine's facts.
    Engine(EngineFact),
    /// Kills for lack of memory over all runs; the slot of this run's count.
    OomKills(Option<u16>),
    /// Among the machine's facts.
    Machine(MachineFact),
    /// First minus second, not below 0.
    Difference(Box<(Value, Value)>),
    /// The first that is there.
    FirstOf(Vec<Value>),
    /// The sum of those that are there; none where none is.
    Sum(Vec<Value>),
}

impl Format {
    /// Returns the table that this form fills; none where it fills slots.
    #[must_use]
    pub const fn dimension(self) -> Option<Dimension> {
        match self {
            Self::Single | Self::Flat | Self::Psi => None,
            Self::Nested | Self::Operations => Some(Dimension::Device),
            Self::Nodes => Some(Dimension::Node),
            Self::List(dimension) => Some(dimension),
        }
    }
}

/// A value in a file, as a row needs it.
pub(super) struct PlannedValue {
    pub(super) tree: PathBuf,
    pub(super) name: Cow<'static, str>,
    pub(super) fallback: Option<&'static str>,
    pub(super) format: Format,
    pub(super) key: Option<&'static str>,
    pub(super) divisor: u64,
    /// Number of the family that asks.
    pub(super) family: u16,
}

impl PlannedValue {
    fn is(&self, file: &PlannedFile) -> bool {
        file.tree == self.tree && file.name == self.name && file.format == self.format && file.divisor == self.divisor
    }

    fn planned(&self) -> PlannedFile {
        PlannedFile {
            tree: self.tree.clone(),
            name: self.name.clone(),
            fallback: self.fallback,
            format: self.format,
            keys: Vec::new(),
            targets: Vec::new(),
            divisor: self.divisor,
            collectors: CollectorSet::EMPTY,
            families: FamilySet::EMPTY,
            is_alternative: false,
        }
    }
}

impl Plan {
    /// Returns the planned file of a value.
    fn file(&mut self, wanted: &PlannedValue, collector: Collector) -> Option<&mut PlannedFile> {
        let known = self.files.iter().position(|file| wanted.is(file));
        let index = known.unwrap_or_else(|| {
            self.files.push(wanted.planned());
            self.files.len() - 1
        });
        let file = self.files.get_mut(index)?;
        file.collectors = file.collectors.with(collector);
        file.families.insert(wanted.family);
        Some(file)
    }

    /// Adds another file's value as an alternative for a target.
    pub(super) fn request_alternative(&mut self, wanted: &PlannedValue, target: u16, collector: Collector) {
        if let (Some(file), Some(key)) = (self.file(wanted, collector), wanted.key) {
            file.is_alternative = true;
            file.keys.push(key);
            file.targets.push(target);
        }
    }

    /// Returns the target of a value; the same value has the same target.
    pub(super) fn request(&mut self, wanted: &PlannedValue, collector: Collector) -> u16 {
        let (mut slots, mut columns) = (self.slots, self.columns);
        let Some(file) = self.file(wanted, collector) else { return 0 };
        let wanted_key = wanted.key.unwrap_or("");
        if let Some(index) = file.keys.iter().position(|key| *key == wanted_key) {
            return file.targets.get(index).copied().unwrap_or(0);
        }
        let target = match file.format.dimension() {
            Some(dimension) => next_column(&mut columns, dimension),
            None => next(&mut slots),
        };
        file.keys.push(wanted_key);
        file.targets.push(target);
        (self.slots, self.columns) = (slots, columns);
        target
    }

    /// Returns the next slot.
    pub(super) fn slot(&mut self) -> u16 {
        next(&mut self.slots)
    }

    /// Returns the next column of a dimension.
    pub(super) fn column(&mut self, dimension: Dimension) -> u16 {
        next_column(&mut self.columns, dimension)
    }
}

fn next_column(columns: &mut [usize; Dimension::ALL.len()], dimension: Dimension) -> u16 {
    let index = Dimension::ALL.iter().position(|known| *known == dimension).unwrap_or(0);
    columns.get_mut(index).map_or(0, next)
}

fn next(count: &mut usize) -> u16 {
    let index = u16::try_from(*count).unwrap_or(u16::MAX);
    *count += 1;
    index
}
