//! Parses the text of files into samples.

use crate::metrics::Dimension;
use crate::read::files::format::{self, Single};
use crate::read::plan::{Format, Plan, PlannedFile};
use crate::read::sample::devices::Devices;
use crate::read::sample::{Labels, Sample};

/// Parses `net/dev` into the interface table. Interfaces that `wanted` refuses are left out.
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

/// Fills the row of one interface, by the columns of `net/dev`.
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

/// Parses one file into a sample. Returns the number of malformed values.
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
        // The list has all possible CPUs.
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
