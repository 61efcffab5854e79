//! The plain values of all containers in columns, one for each row of the metric table.
//!
//! A sample holds the values of one container together, and an exposition holds those of one family together. Reading the samples in the
//! order of the exposition misses the processor's cache for most values. So each sample is read once, as a whole, and the families are
//! written from columns, which stand in memory in the order in which they are written.

use super::Exposed;
use super::labels::LabelSet;
use crate::metrics::{FamilySet, Kind};
use crate::read::{Limits, Row, Sample, Value};

/// Number of containers per word of bits.
const BITS: usize = u64::BITS as usize;
/// Number of values per line of the processor's cache.
const LINE: usize = 8;

/// A row that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct WantedRow<'a> {
    pub(super) row: &'a Row,
    /// The column of its values; none if a container may have several of them, or if they are not plain.
    pub(super) column: Option<usize>,
}

/// The values and the labels of all containers. The memory is reused from scrape to scrape.
#[derive(Debug, Default)]
pub(super) struct Columns {
    /// The values of one column after the other.
    values: Vec<u64>,
    /// A bit for each value that is present.
    present: Vec<u64>,
    /// Distance between two columns in `values`.
    stride: usize,
    /// Number of words between two columns in `present`.
    words: usize,
    /// The labels of one container after the other.
    labels: String,
    /// Where the labels of each container end in `labels`.
    ends: Vec<usize>,
}

impl Columns {
    /// Fills the columns of all rows whose families are asked for. Returns these rows.
    pub(super) fn fill<'a>(
        &mut self,
        rows: &'a [Row],
        families: &FamilySet,
        containers: &[Exposed<'_>],
    ) -> Vec<WantedRow<'a>> {
        let mut wanted = Vec::with_capacity(rows.len());
        let mut plain: Vec<&Row> = Vec::with_capacity(rows.len());
        for row in rows.iter().filter(|row| families.has(row.number)) {
            let column = is_plain(&row.value).then_some(plain.len());
            plain.extend(column.map(|_| row));
            wanted.push(WantedRow { row, column });
        }
        // An odd number of cache lines, as columns at a distance of a power of two would compete for the same few places in the cache.
        self.stride = (containers.len().div_ceil(LINE) | 1) * LINE;
        self.words = containers.len().div_ceil(BITS);
        if self.values.len() < plain.len() * self.stride {
            self.values.resize(plain.len() * self.stride, 0);
        }
        self.present.clear();
        self.present.resize(plain.len() * self.words, 0);
        self.labels.clear();
        self.ends.clear();
        for (position, container) in containers.iter().enumerate() {
            self.labels.push_str(container.labels.text);
            self.ends.push(self.labels.len());
            let Some(sample) = container.sample else { continue };
            for (column, row) in plain.iter().enumerate() {
                if let Some(value) = value_in_column(row, container, sample) {
                    self.set(column, position, value);
                }
            }
        }
        wanted
    }

    fn set(&mut self, column: usize, position: usize, value: u64) {
        let word = self.present.get_mut(column * self.words + position / BITS);
        if let (Some(room), Some(word)) = (self.values.get_mut(column * self.stride + position), word) {
            *room = value;
            *word |= 1 << (position % BITS);
        }
    }

    /// Returns the value of the container at this place in the view.
    #[inline]
    pub(super) fn get(&self, column: usize, position: usize) -> Option<u64> {
        let word = self.present.get(column * self.words + position / BITS)?;
        let is_present = word & 1 << (position % BITS) != 0;
        self.values.get(column * self.stride + position).copied().filter(|_| is_present)
    }

    /// Returns the labels of the container at this place in the view.
    #[inline]
    pub(super) fn labels<'a>(&'a self, position: usize, container: &Exposed<'a>) -> LabelSet<'a> {
        let begin = position.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(position).copied().unwrap_or(begin);
        LabelSet { text: self.labels.get(begin..end).unwrap_or_default(), ..container.labels }
    }
}

/// Returns whether a container has at most one value of this kind, which its sample or its limits hold.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Slot(_) | Value::Limit(_) | Value::Difference(_) | Value::FirstOf(_) | Value::Sum(_) => true,
        Value::Column(..) | Value::Histogram(..) | Value::Engine(_) | Value::OomKills(_) | Value::Machine(_) => false,
    }
}

/// Returns whether the container has series in the row's schema.
pub(super) fn is_in_schema(row: &Row, container: &Exposed<'_>) -> bool {
    row.family.kind != Kind::Untyped || !container.labels.in_docker_stats().text.is_empty()
}

/// Returns whether the container has series of the row: in its schema, and with the limit that the family needs.
pub(super) fn is_given(row: &Row, container: &Exposed<'_>) -> bool {
    is_in_schema(row, container)
        && row.family.given.is_none_or(|limit| container.limits.is_some_and(|limits| limits.get(limit).is_some()))
}

/// Returns the plain value of a row for a container that has series of it.
fn value_in_column(row: &Row, container: &Exposed<'_>, sample: &Sample) -> Option<u64> {
    plain_value(row, sample, container.limits).filter(|_| is_given(row, container))
}

/// Computes the plain value of a row; none where a table has its values.
pub(super) fn plain_value(row: &Row, sample: &Sample, limits: Option<&Limits>) -> Option<u64> {
    let is_replaced = row.series.unless.is_some_and(|dimension| !sample.table(dimension).is_empty());
    evaluate(&row.value, sample, limits).filter(|_| !is_replaced)
}

/// Computes a value; none where a part of it is absent.
fn evaluate(value: &Value, sample: &Sample, limits: Option<&Limits>) -> Option<u64> {
    match value {
        Value::Slot(slot) => sample.get(*slot),
        Value::Limit(limit) => limits?.get(*limit),
        Value::Difference(pair) => {
            let (minuend, subtrahend) = &**pair;
            Some(evaluate(minuend, sample, limits)?.saturating_sub(evaluate(subtrahend, sample, limits)?))
        }
        Value::FirstOf(values) => values.iter().find_map(|value| evaluate(value, sample, limits)),
        Value::Sum(values) => {
            let present = values.iter().filter_map(|value| evaluate(value, sample, limits));
            present.reduce(u64::saturating_add)
        }
        Value::Column(..) | Value::Histogram(..) | Value::Engine(_) | Value::OomKills(_) | Value::Machine(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::super::{Exposed, LabelSets};
    use super::{BITS, Columns};
    use crate::metrics::FamilySet;
    use crate::read::{Row, Sample, Value};

    #[test]
    fn each_container_has_its_own_values_and_none_of_an_earlier_scrape() {
        let (plan, rows) = plan();
        let rows: Vec<Row> = rows.into_iter().filter(|row| matches!(row.value, Value::Slot(_))).take(3).collect();
        let slot = |row: &Row| if let Value::Slot(slot) = row.value { Some(slot) } else { None };
        let slots: Vec<u16> = rows.iter().filter_map(slot).collect();
        let mut columns = Columns::default();
        for (containers, first) in [(BITS + 6, 1000), (3, 2000), (2 * BITS + 1, 3000)] {
            let sets: Vec<LabelSets> =
                (0..containers).map(|position| LabelSets::new(None, &format!("/{position}"), None)).collect();
            let expected = |position: usize, column: usize| {
                (position % 3 != column).then(|| u64::try_from(first + 10 * position + column).unwrap())
            };
            let samples: Vec<Sample> = (0..containers)
                .map(|position| {
                    let mut sample = Sample::new(plan.slots, plan.columns);
                    for (column, slot) in slots.iter().enumerate() {
                        if let Some(value) = expected(position, column) {
                            sample.set(*slot, value);
                        }
                    }
                    sample
                })
                .collect();
            let exposed = |(sets, sample)| Exposed {
                labels: LabelSets::base(sets),
                sample: Some(sample),
                limits: None,
                info: None,
                oom_kills: None,
                last_seen_ms: None,
                oom_since_ns: None,
            };
            let exposed: Vec<Exposed<'_>> = sets.iter().zip(&samples).map(exposed).collect();
            let wanted = columns.fill(&rows, &FamilySet::ALL, &exposed);
            let wanted: Vec<Option<usize>> = wanted.iter().map(|wanted| wanted.column).collect();
            assert_eq!(wanted, [Some(0), Some(1), Some(2)]);
            for (position, container) in exposed.iter().enumerate() {
                assert_eq!(columns.labels(position, container).text, sets[position].text());
                for column in 0..slots.len() {
                    assert_eq!(columns.get(column, position), expected(position, column), "{position} {column}");
                }
            }
        }
    }
}
