//! A value in a file, as a row of the table asks for it, and the slot or column that the plan gives it.

use std::borrow::Cow;
use std::path::PathBuf;

use super::plan::{Format, Plan, PlannedFile};
use crate::metrics::{Collector, CollectorSet, Dimension};

/// A value in a file, as a row asks for it.
pub(super) struct Wanted {
    pub(super) tree: PathBuf,
    pub(super) name: Cow<'static, str>,
    pub(super) fallback: Option<&'static str>,
    pub(super) format: Format,
    pub(super) key: Option<&'static str>,
    pub(super) divisor: u64,
}

impl Wanted {
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
            is_alternative: false,
        }
    }
}

impl Plan {
    /// The planned file of a value.
    fn file(&mut self, wanted: &Wanted, collector: Collector) -> Option<&mut PlannedFile> {
        let known = self.files.iter().position(|file| wanted.is(file));
        let index = known.unwrap_or_else(|| {
            self.files.push(wanted.planned());
            self.files.len() - 1
        });
        let file = self.files.get_mut(index)?;
        file.collectors = file.collectors.with(collector);
        Some(file)
    }

    /// Has another file's value compete for a target.
    pub(super) fn want_alternative(&mut self, wanted: &Wanted, target: u16, collector: Collector) {
        if let (Some(file), Some(key)) = (self.file(wanted, collector), wanted.key) {
            file.is_alternative = true;
            file.keys.push(key);
            file.targets.push(target);
        }
    }

    /// A target for a value, the same one for the same value.
    pub(super) fn want(&mut self, wanted: &Wanted, collector: Collector) -> u16 {
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

    /// The next slot.
    pub(super) fn slot(&mut self) -> u16 {
        next(&mut self.slots)
    }

    /// The next column of a dimension.
    pub(super) fn column(&mut self, dimension: Dimension) -> u16 {
        next_column(&mut self.columns, dimension)
    }
}

fn next_column(columns: &mut [usize; Dimension::ALL.len()], dimension: Dimension) -> u16 {
    let place = Dimension::ALL.iter().position(|known| *known == dimension).unwrap_or(0);
    columns.get_mut(place).map_or(0, next)
}

fn next(count: &mut usize) -> u16 {
    let place = u16::try_from(*count).unwrap_or(u16::MAX);
    *count += 1;
    place
}
