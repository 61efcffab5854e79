//! Makes the plan from the metric table: which files are read on this host, which keys of each, and into which slots.
//!
//! Series without a source on this host are left out. Later stages do not distinguish cgroup versions.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::discover::{Hierarchy, Version};
use crate::metrics::{
    Collector, Column, Controller, Dimension, DiskFact, Family, FamilySet, File, HostFact, Probed, Series, Source, help,
};
use crate::read::plan::PlannedValue;
use crate::read::plan::{Format, Plan, Row, Value};

/// Returns the plan and its rows for a host whose kernel files can be read.
#[must_use]
pub fn for_cgroups(hierarchy: &Hierarchy, page_sizes: &[String], families: FamilySet) -> (Plan, Vec<Row>) {
    Builder { hierarchy: Some(hierarchy), page_sizes, plan: Plan::default(), family: 0 }.build(families)
}

/// Returns the plan and its rows for an engine's stats API.
#[must_use]
pub fn for_api(families: FamilySet) -> (Plan, Vec<Row>) {
    Builder { hierarchy: None, page_sizes: &[], plan: Plan::default(), family: 0 }.build(families)
}

struct Builder<'a> {
    hierarchy: Option<&'a Hierarchy>,
    page_sizes: &'a [String],
    plan: Plan,
    /// Number of the family whose rows are added.
    family: u16,
}

impl Builder<'_> {
    fn build(mut self, families: FamilySet) -> (Plan, Vec<Row>) {
        let mut rows = Vec::new();
        for family in families.families() {
            self.family = family.number();
            if family.given.is_some() {
                self.plan.needs.limits.insert(self.family);
            }
            for series in family.series {
                self.add(family, series, &mut rows);
            }
        }
        // Rows of one name are one family in the exposition, whichever collectors they belong to.
        let mut first = HashMap::new();
        rows.iter().zip(0..).for_each(|(row, index)| _ = first.entry(row.family.name).or_insert(index));
        rows.sort_by_key(|row| first.get(row.family.name).copied().unwrap_or(usize::MAX));
        for family in rows.chunk_by_mut(|row, next| row.family.name == next.family.name) {
            let sources = family.iter().map(|row| (row.series, row.column));
            let Some(text) = family.first().map(|row| help(row.family, sources)) else { continue };
            let text: Arc<str> = text.into();
            for row in family {
                row.help = Arc::clone(&text);
            }
        }
        (self.plan, rows)
    }

    fn add(&mut self, family: &'static Family, series: &'static Series, rows: &mut Vec<Row>) {
        for column in self.columns() {
            let (source, exponent) = match column {
                Column::V2 => (&series.v2, series.exponents.v2),
                Column::V1 => (&series.v1, series.exponents.v1),
                Column::Api => (&series.api, series.exponents.api),
            };
            if let Source::HugePages(suffix, key) = *source {
                self.add_huge_pages(family, series, column, suffix, key, rows);
                return;
            }
            if let Some(value) = self.resolve(source, column, family.collector) {
                self.add_host_interfaces(series, &value);
                self.add_fill(series, &value);
                self.add_needs(&value);
                let labels = Cow::Borrowed(series.labels);
                let column = Some(column);
                rows.push(Row {
                    family,
                    number: self.family,
                    series,
                    labels,
                    value,
                    exponent,
                    column,
                    help: Arc::default(),
                });
                return;
            }
        }
        if !matches!(series.host, HostFact::None | HostFact::Cgroup) {
            // Only the host has a value, from `/proc`.
            let (labels, value) = (Cow::Borrowed(series.labels), Value::FirstOf(Vec::new()));
            let row = Row {
                family,
                number: self.family,
                series,
                labels,
                value,
                exponent: 0,
                column: None,
                help: Arc::default(),
            };
            rows.push(row);
        }
    }

    /// Records what the family needs from elsewhere than files.
    fn add_needs(&mut self, value: &Value) {
        let needs = &mut self.plan.needs;
        match value {
            Value::Limit(_) => needs.limits.insert(self.family),
            Value::Column(Dimension::Device, _) => needs.devices.insert(self.family),
            _ => {}
        }
    }

    /// Adds the host's interfaces, which come from a file even if an engine reports those of containers, in the same columns.
    fn add_host_interfaces(&mut self, series: &Series, value: &Value) {
        if let (HostFact::Interface(number), Value::Column(Dimension::Interface, column)) = (series.host, value) {
            add(&mut self.plan.interfaces, (number, *column));
        }
    }

    /// Adds the count of a program for devices that files may lack, in the same column.
    fn add_fill(&mut self, series: &Series, value: &Value) {
        if let (Some(Probed::Block(count, operation)), Value::Column(Dimension::Device, column), Some(_)) =
            (series.filled, value, self.hierarchy)
        {
            add(&mut self.plan.fills, (count, operation, *column));
        }
    }

    /// Returns the columns of the metric table that apply, in order. On a hybrid host both do, v1 first, because its controllers are
    /// mounted.
    fn columns(&self) -> Vec<Column> {
        match self.hierarchy.map(Hierarchy::kind) {
            None => vec![Column::Api],
            Some(crate::discover::Kind::V2) => vec![Column::V2],
            Some(_) => vec![Column::V1, Column::V2],
        }
    }

    fn add_huge_pages(
        &mut self,
        family: &'static Family,
        series: &'static Series,
        column: Column,
        suffix: &str,
        key: Option<&'static str>,
        rows: &mut Vec<Row>,
    ) {
        let Some(tree) = self.tree(Controller::Hugetlb, column) else { return };
        for size in self.page_sizes {
            let format = if key.is_some() { Format::Flat } else { Format::Single };
            let wanted = PlannedValue {
                tree: tree.clone(),
                name: Cow::Owned(format!("hugetlb.{size}.{suffix}")),
                fallback: None,
                format,
                key,
                divisor: 1,
                family: self.family,
            };
            let slot = self.plan.request(&wanted, family.collector);
            let labels = Cow::Owned(format!("pagesize=\"{size}\""));
            let value = Value::Slot(slot);
            let column = Some(column);
            let help = Arc::default();
            rows.push(Row { family, number: self.family, series, labels, value, exponent: 0, column, help });
        }
    }

    fn resolve(&mut self, source: &Source, column: Column, collector: Collector) -> Option<Value> {
        match *source {
            Source::Absent | Source::HugePages(..) => None,
            Source::Single(file) => self.file(file, Format::Single, None, column, collector),
            Source::Flat(file, key) => self.file(file, Format::Flat, Some(key), column, collector),
            Source::Psi(file, line) => self.file(file, Format::Psi, Some(line), column, collector),
            Source::Nested(file, key) => self.file(file, Format::Nested, Some(key), column, collector),
            Source::Operation(files, key) => self.operation(files, key, column, collector),
            Source::Node(file, key, divisor) => {
                self.divided(file, Format::Nodes, Some(key), divisor, column, collector)
            }
            Source::PerCpu(file) => self.file(file, Format::List(Dimension::Cpu), None, column, collector),
            Source::PerCore(file) => self.file(file, Format::List(Dimension::Core), None, column, collector),
            Source::Processes => {
                let slot = self.plan.process_count.unwrap_or_else(|| self.plan.slot());
                self.plan.process_count = Some(slot);
                self.plan.needs.processes.insert(self.family);
                Some(Value::Slot(slot))
            }
            Source::Interface(number) => {
                let column = find(&self.plan.interfaces, |(known, _)| *known == number)
                    .map_or_else(|| self.plan.column(Dimension::Interface), |(_, column)| column);
                add(&mut self.plan.interfaces, (number, column));
                Some(Value::Column(Dimension::Interface, column))
            }
            Source::Limit(limit) => Some(Value::Limit(limit)),
            Source::Engine(fact) => Some(Value::Engine(fact)),
            Source::OomKills(kernel) => match self.resolve(kernel, column, collector) {
                Some(Value::Slot(slot)) => Some(Value::OomKills(Some(slot))),
                // The engine reports them by events only.
                _ => self.hierarchy.is_none().then_some(Value::OomKills(None)),
            },
            Source::Probe(what) => Some(self.probe(what)),
            Source::Machine(fact) => Some(Value::Machine(fact)),
            Source::Sockets(file, count) => {
                let slot = self.plan.slot();
                self.plan.sockets.push((file, count, slot));
                Some(Value::Slot(slot))
            }
            Source::Process(fact) => {
                let slot = self.plan.slot();
                self.plan.processes.push((fact, slot));
                Some(Value::Slot(slot))
            }
            Source::Disk(fact) => Some(self.disk(fact)),
            Source::Json(pointer) => Some(Value::Slot(self.json(pointer))),
            Source::JsonDevice(list, operation) => {
                let column = self.plan.column(Dimension::Device);
                self.plan.json_devices.push((list, operation, column));
                Some(Value::Column(Dimension::Device, column))
            }
            Source::JsonInterface(field) => {
                let column = self.plan.column(Dimension::Interface);
                self.plan.json_interfaces.push((field, column));
                Some(Value::Column(Dimension::Interface, column))
            }
            Source::JsonPerCpu(pointer) => Some(self.json_list(pointer, Dimension::Cpu)),
            Source::JsonPerCore(pointer) => Some(self.json_list(pointer, Dimension::Core)),
            Source::Difference(minuend, subtrahend) => {
                let minuend = self.resolve(minuend, column, collector)?;
                let subtrahend = self.resolve(subtrahend, column, collector)?;
                Some(Value::Difference(Box::new((minuend, subtrahend))))
            }
            Source::FirstOf(sources) => {
                let values: Vec<Value> =
                    sources.iter().filter_map(|source| self.resolve(source, column, collector)).collect();
                (!values.is_empty()).then_some(Value::FirstOf(values))
            }
            Source::Sum(sources) => {
                let values: Vec<Value> =
                    sources.iter().filter_map(|source| self.resolve(source, column, collector)).collect();
                (!values.is_empty()).then_some(Value::Sum(values))
            }
        }
    }

    fn probe(&mut self, what: Probed) -> Value {
        if let Some(bounds) = what.bounds() {
            let index = u16::try_from(self.plan.histograms.len()).unwrap_or(u16::MAX);
            self.plan.histograms.push((what, index));
            return Value::Histogram(index, bounds);
        }
        if let Probed::Block(count, operation) = what {
            let column = self.plan.column(Dimension::Device);
            self.plan.blocks.push((count, operation, column));
            return Value::Column(Dimension::Device, column);
        }
        let slot = self.plan.slot();
        self.plan.probes.push((what, slot));
        Value::Slot(slot)
    }

    fn disk(&mut self, fact: DiskFact) -> Value {
        let column = self.plan.column(Dimension::Device);
        self.plan.disks.push((fact, column));
        self.plan.needs.disks.insert(self.family);
        Value::Column(Dimension::Device, column)
    }

    fn json(&mut self, pointer: &'static str) -> u16 {
        if let Some((_, slot)) = find(&self.plan.json, |(known, _)| *known == pointer) {
            return slot;
        }
        let slot = self.plan.slot();
        self.plan.json.push((pointer, slot));
        slot
    }

    fn json_list(&mut self, pointer: &'static str, dimension: Dimension) -> Value {
        let column = self.plan.column(dimension);
        self.plan.json_lists.push((pointer, dimension, column));
        Value::Column(dimension, column)
    }

    fn file(
        &mut self,
        file: File,
        format: Format,
        key: Option<&'static str>,
        column: Column,
        collector: Collector,
    ) -> Option<Value> {
        self.divided(file, format, key, 1, column, collector)
    }

    /// Requests a value that one of several files has, in one column.
    fn operation(&mut self, files: &[File], key: &'static str, column: Column, collector: Collector) -> Option<Value> {
        let (first, others) = files.split_first()?;
        let value = self.file(*first, Format::Operations, Some(key), column, collector)?;
        if let (Value::Column(_, target), Some(tree)) = (&value, self.tree(first.controller, column)) {
            for file in others {
                let wanted = PlannedValue {
                    tree: tree.clone(),
                    name: Cow::Borrowed(file.name),
                    fallback: file.fallback,
                    format: Format::Operations,
                    key: Some(key),
                    divisor: 1,
                    family: self.family,
                };
                self.plan.request_alternative(&wanted, *target, collector);
            }
        }
        Some(value)
    }

    fn divided(
        &mut self,
        file: File,
        format: Format,
        key: Option<&'static str>,
        divisor: u64,
        column: Column,
        collector: Collector,
    ) -> Option<Value> {
        let wanted = PlannedValue {
            tree: self.tree(file.controller, column)?,
            name: Cow::Borrowed(file.name),
            fallback: file.fallback,
            format,
            key,
            divisor,
            family: self.family,
        };
        let target = self.plan.request(&wanted, collector);
        Some(match format.dimension() {
            Some(dimension) => Value::Column(dimension, target),
            None => Value::Slot(target),
        })
    }

    /// Returns the tree of a controller if its cgroup version is that of the column.
    fn tree(&self, controller: Controller, column: Column) -> Option<PathBuf> {
        let tree = self.hierarchy?.tree(controller)?;
        let same = matches!((column, tree.version), (Column::V2, Version::V2) | (Column::V1, Version::V1));
        // Only v2 has core files, so that on a hybrid host the column of v1 means them as well.
        (same || controller == Controller::Core).then(|| tree.path.clone())
    }
}

fn find<T: Copy>(items: &[T], matches: impl Fn(&T) -> bool) -> Option<T> {
    items.iter().copied().find(|item| matches(item))
}

fn add<T: PartialEq>(items: &mut Vec<T>, item: T) {
    if !items.contains(&item) {
        items.push(item);
    }
}
