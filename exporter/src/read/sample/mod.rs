//! The values of one container: plain ones by slot, histograms, and tables by device, interface, node or CPU.

pub(super) mod fill;

use std::collections::HashMap;

use crate::ebpf::Histogram;
use crate::metrics::{Dimension, escape_label};

/// Number of slots per word of bits.
const BITS: usize = u64::BITS as usize;
/// Maximum number of slots: more than the metric table needs for all families of both schemas.
pub(crate) const MAX_SLOTS: usize = 6 * BITS;

/// The values of one container. It is reused from scrape to scrape: clearing keeps the memory.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    slots: Vec<u64>,
    /// A bit for each slot that has a value, which takes half the memory of an `Option` for each slot. It stands beside the pointer to the
    /// slots, so that reading a value of one container after the other misses the processor's cache once less.
    filled: [u64; MAX_SLOTS / BITS],
    /// Empty for containers without histograms.
    histograms: Vec<Option<Histogram>>,
    tables: [Table; Dimension::ALL.len()],
    /// A bit for each table that may have rows. Most have none, and clearing skips them.
    used: u8,
}

/// Rows of values, each under a label that is known only after reading.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: usize,
    keys: Vec<LabelId>,
    values: Vec<Option<u64>>,
}

/// Id of a label pair such as `device="/dev/vda"` in a [`LabelPool`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LabelId(u32);

impl Sample {
    /// Returns an empty sample with this number of slots, and of columns per dimension.
    #[must_use]
    pub fn new(slots: usize, columns: [usize; Dimension::ALL.len()]) -> Self {
        let tables = columns.map(|columns| Table { columns, ..Table::default() });
        Self { slots: vec![0; slots], tables, ..Self::default() }
    }

    /// Forgets every value.
    pub fn clear(&mut self) {
        self.filled.fill(0);
        self.histograms.fill(None);
        for dimension in Dimension::ALL {
            if self.used & bit(dimension) != 0 {
                self.table_mut(dimension).clear();
            }
        }
        self.used = 0;
    }

    /// Sets a plain value.
    pub fn set(&mut self, slot: u16, value: u64) {
        let index = usize::from(slot);
        if let (Some(room), Some(filled)) = (self.slots.get_mut(index), self.filled.get_mut(index / BITS)) {
            *room = value;
            *filled |= 1 << (index % BITS);
        }
    }

    /// Returns a plain value.
    #[must_use]
    pub fn get(&self, slot: u16) -> Option<u64> {
        let index = usize::from(slot);
        let is_filled = self.filled.get(index / BITS)? & (1 << (index % BITS)) != 0;
        self.slots.get(index).copied().filter(|_| is_filled)
    }

    /// Sets a histogram.
    pub fn set_histogram(&mut self, index: u16, histogram: Histogram) {
        let index = usize::from(index);
        if self.histograms.len() <= index {
            self.histograms.resize(index + 1, None);
        }
        if let Some(room) = self.histograms.get_mut(index) {
            *room = Some(histogram);
        }
    }

    /// Returns a histogram.
    #[must_use]
    pub fn histogram(&self, index: u16) -> Option<&Histogram> {
        self.histograms.get(usize::from(index))?.as_ref()
    }

    /// Returns the table of a dimension.
    #[must_use]
    pub fn table(&self, dimension: Dimension) -> &Table {
        const NO_ROWS: &Table = &Table { columns: 0, keys: Vec::new(), values: Vec::new() };
        if self.used & bit(dimension) == 0 {
            return NO_ROWS;
        }
        let [device, interface, node, cpu, core] = &self.tables;
        pick(dimension, device, interface, node, cpu, core)
    }

    /// Returns the table of a dimension for writing.
    pub fn table_mut(&mut self, dimension: Dimension) -> &mut Table {
        self.used |= bit(dimension);
        let [device, interface, node, cpu, core] = &mut self.tables;
        pick(dimension, device, interface, node, cpu, core)
    }
}

fn bit(dimension: Dimension) -> u8 {
    1 << dimension as u8
}

impl Table {
    /// Sets the value of a row and column. A new key adds a row.
    pub fn set(&mut self, key: LabelId, column: u16, value: u64) {
        // There are few rows, and the next value of a file usually belongs to the last one.
        let row = self.keys.iter().rposition(|known| *known == key).unwrap_or_else(|| {
            self.keys.push(key);
            self.values.resize(self.keys.len() * self.columns, None);
            self.keys.len() - 1
        });
        if let Some(cell) = self.values.get_mut(row * self.columns + usize::from(column)) {
            *cell = Some(value);
        }
    }

    /// Sets the value of a row and column if it is larger than the one before.
    pub fn raise(&mut self, key: LabelId, column: u16, value: u64) {
        self.set(key, column, self.get(key, column).map_or(value, |before| before.max(value)));
    }

    /// Returns the value of a row and column.
    #[must_use]
    pub fn get(&self, key: LabelId, column: u16) -> Option<u64> {
        let row = self.keys.iter().position(|known| *known == key)?;
        self.values.get(row * self.columns + usize::from(column)).copied().flatten()
    }

    /// Forgets every row.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
    }

    /// Returns whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns the values of a column with the keys of their rows.
    pub fn column(&self, column: u16) -> impl Iterator<Item = (LabelId, u64)> {
        let values = self.values.iter().skip(usize::from(column)).step_by(self.columns.max(1));
        self.keys.iter().zip(values).filter_map(|(key, value)| Some((*key, (*value)?)))
    }
}

/// The label pairs of the rows of one dimension. Each is stored and escaped once.
#[derive(Debug)]
pub struct LabelPool {
    name: &'static str,
    ids: HashMap<Box<[u8]>, LabelId>,
    texts: Vec<String>,
}

/// Number of label pairs above which a pool is cleared, because interfaces in containers come and go without end.
const POOL_LIMIT: usize = 65_536;

impl LabelPool {
    fn new(name: &'static str) -> Self {
        Self { name, ids: HashMap::new(), texts: Vec::new() }
    }

    /// Returns the label pair of a value. Allocates only for a new value.
    pub fn label(&mut self, value: &[u8]) -> LabelId {
        if let Some(id) = self.ids.get(value) {
            return *id;
        }
        let id = LabelId(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        let mut text = format!("{}=\"", self.name);
        escape_label(&String::from_utf8_lossy(value), &mut text);
        text.push('"');
        self.texts.push(text);
        self.ids.insert(value.into(), id);
        id
    }

    /// Returns the text of a label pair as it is exposed.
    #[must_use]
    pub fn text(&self, id: LabelId) -> &str {
        usize::try_from(id.0).ok().and_then(|index| self.texts.get(index)).map_or("", String::as_str)
    }
}

/// The label pools of all dimensions.
#[derive(Debug)]
pub struct Labels {
    pools: [LabelPool; Dimension::ALL.len()],
}

impl Default for Labels {
    fn default() -> Self {
        Self { pools: Dimension::ALL.map(|dimension| LabelPool::new(dimension.label())) }
    }
}

impl Labels {
    /// Returns the pool of a dimension, for reading.
    #[must_use]
    pub fn of(&self, dimension: Dimension) -> &LabelPool {
        let [device, interface, node, cpu, core] = &self.pools;
        pick(dimension, device, interface, node, cpu, core)
    }

    /// Returns the pool of a dimension, for adding label pairs.
    pub fn of_mut(&mut self, dimension: Dimension) -> &mut LabelPool {
        let [device, interface, node, cpu, core] = &mut self.pools;
        pick(dimension, device, interface, node, cpu, core)
    }

    /// Clears all pools if one of them is too large. Returns whether it did, which makes all earlier ids invalid.
    pub fn trim(&mut self) -> bool {
        let full = self.pools.iter().any(|pool| pool.texts.len() > POOL_LIMIT);
        if full {
            *self = Self::default();
        }
        full
    }
}

fn pick<T>(dimension: Dimension, device: T, interface: T, node: T, cpu: T, core: T) -> T {
    match dimension {
        Dimension::Device => device,
        Dimension::Interface => interface,
        Dimension::Node => node,
        Dimension::Cpu => cpu,
        Dimension::Core => core,
    }
}
