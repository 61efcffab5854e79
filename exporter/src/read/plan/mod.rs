//! The plan: what is read on this host, and where each exposed series finds its value. `planner` makes it once at start.

pub(super) mod planner;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::metrics::{
    BlockCount, BlockOperation, Bounds, Collector, CollectorSet, Column, Dimension, DiskFact, EngineFact, Family,
    FamilySet, Limit, MachineFact, Probed, ProcessFact, Series, SocketCount,
};

/// What is read of each container, and where the values go.
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
    /// Columns of `/proc/PID/net/dev`: index of the column, and column of the interface table.
    pub interfaces: Vec<(usize, u16)>,
    /// Socket tables: file below `/proc/PID/net`, what is counted, and slot.
    pub sockets: Vec<(&'static str, SocketCount, u16)>,
    /// Sums over processes: what is summed up, and slot.
    pub processes: Vec<(ProcessFact, u16)>,
    /// Sizes of layers and filesystems, and their columns of the device table.
    pub disks: Vec<(DiskFact, u16)>,
    /// Counts of eBPF programs, and their slots.
    pub probes: Vec<(Probed, u16)>,
    /// Histograms of eBPF programs, and their indices in a sample.
    pub histograms: Vec<(Probed, u16)>,
    /// Block I/O as an eBPF program counts it, and its columns of the device table.
    pub blocks: Vec<(BlockCount, BlockOperation, u16)>,
    /// Columns of the device table that files fill, and that the eBPF program fills for devices that the files lack.
    pub fills: Vec<(BlockCount, BlockOperation, u16)>,
    /// Slot of the number of processes.
    pub process_count: Option<u16>,
    /// Families that need values from elsewhere than planned files.
    pub needs: Needs,
    /// Number of slots.
    pub slots: usize,
    /// Number of columns per dimension.
    pub columns: [usize; Dimension::ALL.len()],
}

/// The families that need values from elsewhere than planned files.
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
    /// Root of its tree.
    pub tree: PathBuf,
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its name on kernels that do not have the first one.
    pub fallback: Option<&'static str>,
    /// The form of its text.
    pub format: Format,
    /// The keys that are read; a form without keys has one that is empty.
    pub keys: Vec<&'static str>,
    /// The target of each key: a slot, or a column of the form's table.
    pub targets: Vec<u16>,
    /// Divisor of every value.
    pub divisor: u64,
    /// The collectors that need it.
    pub collectors: CollectorSet,
    /// The families that need it.
    pub families: FamilySet,
    /// Whether it is an alternative to another file, with the same targets. On most hosts its counts are 0.
    pub is_alternative: bool,
}

/// The form of a file's text.
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
    /// A line of numbers, one per CPU, for the table of this dimension.
    List(Dimension),
}

/// One exposed series: the row, and where its value is found.
#[derive(Debug)]
pub struct Row {
    /// The family.
    pub family: &'static Family,
    /// The number of the family in a [`FamilySet`].
    pub number: u16,
    /// The series.
    pub series: &'static Series,
    /// Labels beside those of the container.
    pub labels: Cow<'static, str>,
    /// Where the value is.
    pub value: Value,
    /// Decimal digits of the value after the point.
    pub exponent: u8,
    /// The column of the metric table that the value comes from; none if only the host has a value.
    pub column: Option<Column>,
    /// The family's help with its unit and the sources of all rows of its name.
    pub help: Arc<str>,
}

/// Where the value of a row is found after a pass.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// In a slot.
    Slot(u16),
    /// In a column of a table: one series per row.
    Column(Dimension, u16),
    /// A histogram with these bounds.
    Histogram(u16, &'static Bounds),
    /// A limit.
    Limit(Limit),
    /// A fact that the engine reports.
    Engine(EngineFact),
    /// Kills for lack of memory over all runs of a container; the slot has the count of this run.
    OomKills(Option<u16>),
    /// A fact of the machine.
    Machine(MachineFact),
    /// The first value minus the second, but not below 0.
    Difference(Box<(Value, Value)>),
    /// The first value that is present.
    FirstOf(Vec<Value>),
    /// The sum of those values that are present; none if all are absent.
    Sum(Vec<Value>),
}

impl Format {
    /// Returns the dimension of the table that this form fills; none if it fills slots.
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

/// A value in a file that a row needs.
pub(super) struct PlannedValue {
    pub(super) tree: PathBuf,
    pub(super) name: Cow<'static, str>,
    pub(super) fallback: Option<&'static str>,
    pub(super) format: Format,
    pub(super) key: Option<&'static str>,
    pub(super) divisor: u64,
    /// Number of the family that needs it.
    pub(super) family: u16,
}

impl PlannedValue {
    /// Returns whether the value is in this file.
    fn is_in(&self, file: &PlannedFile) -> bool {
        file.tree == self.tree && file.name == self.name && file.format == self.format && file.divisor == self.divisor
    }

    /// Returns the planned file of the value, without any key.
    fn to_file(&self) -> PlannedFile {
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
    /// Returns the planned file of a value, and adds it to the plan if it is new.
    fn file(&mut self, wanted: &PlannedValue, collector: Collector) -> Option<&mut PlannedFile> {
        let known = self.files.iter().position(|file| wanted.is_in(file));
        let index = known.unwrap_or_else(|| {
            self.files.push(wanted.to_file());
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

    /// Returns the target of a value. A value that is requested twice has one target.
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

    /// Returns a new slot.
    pub(super) fn slot(&mut self) -> u16 {
        next(&mut self.slots)
    }

    /// Returns a new column of a dimension.
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
