//! Fills samples: from the text of files, from the engine's stats answers, and with values of filesystems.

use std::path::Path;

use serde_json::Value as Json;

use crate::metrics::{Dimension, DiskFact};
use crate::read::diskstats::Devices;
use crate::read::files::format::{self, Device, Single};
use crate::read::host::interfaces;
use crate::read::network::real_interfaces::RealInterfaces;
use crate::read::plan::{Format, Plan, PlannedFile};
use crate::read::sample::{Labels, Sample};

/// Parses a file and fills its values into a sample. Returns the number of malformed values.
pub(crate) fn parse(
    file: &PlannedFile,
    text: &[u8],
    sample: &mut Sample,
    labels: &mut Labels,
    devices: &mut Devices,
) -> u64 {
    let target = |index: usize| file.targets.get(index).copied().unwrap_or(u16::MAX);
    let keys = &file.keys;
    match file.format {
        Format::Single => match format::single(text) {
            Single::Value(value) => {
                sample.set(target(0), value);
                0
            }
            Single::Max => 0,
            Single::Malformed => 1,
        },
        Format::Flat => format::flat(text, keys, |index, value| sample.set(target(index), value)),
        Format::Psi => format::psi(text, keys, |index, value| sample.set(target(index), value)),
        Format::Nested => format::nested(text, keys, |device, index, value| {
            let key = devices.label(device, labels.of_mut(Dimension::Device));
            sample.table_mut(Dimension::Device).set(key, target(index), value);
        }),
        Format::Operations => format::operations(text, keys, |device, index, value| {
            let key = devices.label(device, labels.of_mut(Dimension::Device));
            sample.table_mut(Dimension::Device).raise(key, target(index), value);
        }),
        Format::Nodes => format::nodes(text, keys, |node, index, value| {
            let key = labels.of_mut(Dimension::Node).label(node.to_string().as_bytes());
            sample.table_mut(Dimension::Node).set(key, target(index), value / file.divisor.max(1));
        }),
        // The list has all possible CPUs, online or not.
        Format::List(dimension) => format::list(text, |index, value| {
            if value == 0 && !devices.is_online(index) {
                return;
            }
            let label = if dimension == Dimension::Cpu { format!("cpu{index:02}") } else { index.to_string() };
            let key = labels.of_mut(dimension).label(label.as_bytes());
            sample.table_mut(dimension).set(key, target(0), value);
        }),
    }
}

/// Parses `net/dev` and fills the table of interfaces, without those that `wanted` refuses. Returns the number of malformed lines.
pub(crate) fn fill_interfaces(
    text: &[u8],
    plan: &Plan,
    sample: &mut Sample,
    labels: &mut Labels,
    wanted: impl Fn(&[u8]) -> bool,
) -> u64 {
    format::interfaces(text, wanted, |name, counters| {
        fill_interface(name, plan, sample, labels, |number| counters.get(number).copied());
    })
}

/// Fills the row of one interface. `counter` returns the value of a column of `net/dev`.
pub(crate) fn fill_interface(
    name: &[u8],
    plan: &Plan,
    sample: &mut Sample,
    labels: &mut Labels,
    counter: impl Fn(usize) -> Option<u64>,
) {
    let key = labels.of_mut(Dimension::Interface).label(name);
    for (number, column) in &plan.interfaces {
        if let Some(value) = counter(*number) {
            sample.table_mut(Dimension::Interface).set(key, *column, value);
        }
    }
}

/// Fills the row of a filesystem, or of a container's layer on it. It is labelled by its device number, or by `source` if the
/// number has no name. Without any value there is no row.
pub(crate) fn fill_filesystem(
    (device, source): (Option<Device>, Option<&str>),
    value: impl Fn(DiskFact) -> Option<u64>,
    plan: &Plan,
    devices: &mut Devices,
    labels: &mut Labels,
    sample: &mut Sample,
) {
    let mut key = None;
    for (fact, column) in &plan.disks {
        if let Some(value) = value(*fact) {
            let label = || devices.filesystem_label(device, source, labels.of_mut(Dimension::Device));
            sample.table_mut(Dimension::Device).set(*key.get_or_insert_with(label), *column, value);
        }
    }
}

/// Fills a sample from one answer of `/containers/ID/stats`. A value that the answer lacks is absent.
pub fn fill_from_stats(plan: &Plan, stats: &Json, sample: &mut Sample, labels: &mut Labels, devices: &mut Devices) {
    sample.clear();
    for (pointer, slot) in &plan.json {
        if let Some(value) = stats.pointer(pointer).and_then(Json::as_u64) {
            sample.set(*slot, value);
        }
    }
    for (list, operation, column) in &plan.json_devices {
        for (number, value) in entries(stats, list, operation) {
            let key = devices.label(number, labels.of_mut(Dimension::Device));
            sample.table_mut(Dimension::Device).set(key, *column, value);
        }
    }
    for (pointer, dimension, column) in &plan.json_lists {
        let numbers = stats.pointer(pointer).and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_u64);
        let online = stats.pointer("/cpu_stats/online_cpus").and_then(Json::as_u64).unwrap_or(u64::MAX);
        for (index, value) in numbers.enumerate() {
            // The engine lists all possible CPUs, online or not.
            if value == 0 && index as u64 >= online {
                continue;
            }
            let label = if *dimension == Dimension::Cpu { format!("cpu{index:02}") } else { index.to_string() };
            let key = labels.of_mut(*dimension).label(label.as_bytes());
            sample.table_mut(*dimension).set(key, *column, value);
        }
    }
    fill_networks(plan, stats, sample, labels);
}

/// Fills the host's sample with its interfaces, which no engine reports.
pub fn fill_host(plan: &Plan, procfs: &Path, sample: &mut Sample, labels: &mut Labels) {
    sample.clear();
    if let Some(text) = interfaces(procfs) {
        let real = RealInterfaces::new(procfs);
        fill_interfaces(&text, plan, sample, labels, |name| real.is_real(name));
    }
}

fn fill_networks(plan: &Plan, stats: &Json, sample: &mut Sample, labels: &mut Labels) {
    let networks = stats.get("networks").and_then(Json::as_object).into_iter().flatten();
    for (interface, counters) in networks {
        let key = labels.of_mut(Dimension::Interface).label(interface.as_bytes());
        for (field, column) in &plan.json_interfaces {
            if let Some(value) = counters.get(field).and_then(Json::as_u64) {
                sample.table_mut(Dimension::Interface).set(key, *column, value);
            }
        }
    }
}

/// Returns the entries of a `blkio_stats` list with this operation. Engines write it with a capital letter on v1 only.
fn entries<'a>(stats: &'a Json, list: &str, operation: &'a str) -> impl Iterator<Item = (Device, u64)> + 'a {
    let number = |entry: &Json, key: &str| entry.get(key).and_then(Json::as_u64);
    stats.pointer(list).and_then(Json::as_array).into_iter().flatten().filter_map(move |entry| {
        if !entry.get("op")?.as_str()?.eq_ignore_ascii_case(operation) {
            return None;
        }
        let major = number(entry, "major")?.try_into().ok()?;
        let minor = number(entry, "minor")?.try_into().ok()?;
        Some((Device { major, minor }, number(entry, "value")?))
    })
}
