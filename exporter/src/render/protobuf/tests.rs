//! Bodies decoded by `prost`, which knows nothing of how they were written.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;

use super::super::tests::{body, info, plan};
use super::super::{BufferPool, Format, Output};
use super::wire::encode_pairs;
use super::{Buckets, CACHED_TEXTS, PairCache, SampleLabels, Set, Start};
use crate::metrics::{Kind, Unit};
use crate::read::{Histogram, Row, Sample};
use crate::render::number::Number;

/// The messages of `io/prometheus/client/metrics.proto`.
#[derive(Clone, PartialEq, Message)]
struct Family {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Pair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Plain>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Counter>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Plain>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Buckets7>,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Plain {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Counter {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    start: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Buckets7 {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(message, repeated, tag = "12")]
    spans: Vec<Span>,
    #[prost(sint64, repeated, packed = "true", tag = "13")]
    deltas: Vec<i64>,
    #[prost(message, optional, tag = "15")]
    start: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    bound: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

const PROTOBUF: Format = Format::Protobuf { native: false };

fn decoded(mut bytes: &[u8]) -> Vec<Family> {
    let mut families = Vec::new();
    while !bytes.is_empty() {
        families.push(Family::decode_length_delimited(&mut bytes).unwrap());
    }
    families
}

/// Name and labels as the text has them, but sorted, and the bits of the value.
type Samples = BTreeMap<(String, Vec<(String, String)>), u64>;

fn samples_of(families: &[Family]) -> Samples {
    let labels = |metric: &Metric| {
        let mut pairs: Vec<_> = metric.labels.iter().map(|pair| (pair.name.clone(), pair.value.clone())).collect();
        pairs.sort();
        pairs
    };
    let mut samples = Samples::new();
    for (family, metric) in families.iter().flat_map(|family| family.metrics.iter().map(move |metric| (family, metric)))
    {
        let value = match (family.kind, &metric.counter, &metric.gauge, &metric.untyped) {
            (0, Some(counter), None, None) => counter.value,
            (1, None, Some(plain), None) | (3, None, None, Some(plain)) => plain.value,
            _ => panic!("{} is {metric:?}", family.name),
        };
        assert_eq!(samples.insert((family.name.clone(), labels(metric)), value.to_bits()), None, "{metric:?}");
    }
    samples
}

/// The same of a text, read the simplest way: no value here has a quotation mark or a comma in it.
fn samples_of_text(text: &str) -> Samples {
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let pairs = labels.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
        let mut pairs: Vec<_> =
            pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect();
        pairs.sort();
        ((name.to_owned(), pairs), value.parse::<f64>().unwrap().to_bits())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

fn filled() -> (Sample, Vec<Row>) {
    let (plan, rows) = plan();
    let mut sample = Sample::new(plan.slots, plan.columns);
    for slot in 0..u16::try_from(plan.slots).unwrap() {
        // Of every magnitude: also integers that no double holds.
        sample.set(slot, 1 << (slot % 60) | u64::from(slot));
    }
    (sample, rows)
}

#[test]
fn the_samples_are_those_of_the_text() {
    let (sample, rows) = filled();
    let running = info(|info| {
        info.started_ns = Some(1_795_398_284_751_604_307);
        info.created_ns = Some(1_795_398_284_000_000_001);
        info.restarts = Some(3);
    });
    for info in [Some(&running), None] {
        let text = String::from_utf8(body(info, Some(&sample), &rows, Format::Text)).unwrap();
        let families = decoded(&body(info, Some(&sample), &rows, PROTOBUF));
        let (expected, found) = (samples_of_text(&text), samples_of(&families));
        assert!(expected.len() > 15, "{text}");
        assert_eq!(found, expected);
        for family in &families {
            let lines = format!("# HELP {} {}\n", family.name, family.help.replace('\\', "\\\\").replace('\n', "\\n"));
            assert!(text.contains(&lines), "{lines}");
            let stem = family.name.strip_suffix("_total").unwrap_or(&family.name);
            assert!(family.unit.is_empty() || stem.ends_with(&format!("_{}", family.unit)), "{family:?}");
        }
        assert!(families.iter().any(|family| family.unit == "seconds"));
    }
}

#[test]
fn counters_tell_since_when_they_count() {
    let (sample, rows) = filled();
    let running = info(|info| {
        info.started_ns = Some(1_795_398_284_751_604_307);
        info.created_ns = Some(1_795_398_000_000_000_000);
        info.restarts = Some(3);
    });
    let starts = |info: Option<&Arc<_>>| {
        let families = decoded(&body(info, Some(&sample), &rows, PROTOBUF));
        let counters = families.into_iter().flat_map(|family| {
            family.metrics.into_iter().filter_map(move |metric| Some((family.name.clone(), metric.counter?.start)))
        });
        counters.collect::<Vec<_>>()
    };
    let run = Some(Timestamp { seconds: 1_795_398_284, nanos: 751_000_000 });
    let created = Some(Timestamp { seconds: 1_795_398_000, nanos: 0 });
    let known = starts(Some(&running));
    assert!(known.len() > 5, "{known:?}");
    for (name, start) in known {
        let expected = match &*name {
            "container_restarts_total" => &created,
            "container_oom_events_total" => &None,
            _ => &run,
        };
        assert_eq!(start, *expected, "{name}");
    }
    assert!(starts(None).iter().all(|(_, start)| start.is_none()), "never invented");
}

#[test]
fn hostile_names_are_what_they_are() {
    let name = "a\"b\\c\nd,e=\"f\\\\\"";
    let hostile = info(|info| name.clone_into(&mut info.name));
    let families = decoded(&body(Some(&hostile), None, &plan().1, PROTOBUF));
    let names: Vec<_> = families.iter().flat_map(|family| &family.metrics).flat_map(|metric| &metric.labels).collect();
    assert!(names.iter().any(|pair| pair.name == "name" && pair.value == name), "{names:?}");
}

/// One histogram of block latencies.
fn histogram_of(counts: &[(usize, u64)], native: bool, start: Start) -> Buckets7 {
    let mut latencies = Histogram { sum_ns: 1_500_000_000, ..Histogram::default() };
    for (index, count) in counts {
        latencies.buckets[*index] = *count;
    }
    let mut out = Output::new(Format::Protobuf { native }, false, &BufferPool::default());
    out.begin_family("latency_seconds", "Help.", Kind::Histogram, Unit::Seconds);
    let sum = Number::Decimal { value: latencies.sum_ns, exponent: 9, unit: 0 };
    let buckets = Buckets { counts: &latencies.buckets, first_power: -16, sum };
    let labels = SampleLabels { row: "operation=\"read\"", dimension: "", set: Set::Other("id=\"/\"") };
    out.encoder.histogram(labels, buckets, native, start, &mut out.text);
    let families = decoded(&out.finish());
    let [Family { kind: 4, metrics, unit, .. }] = &*families else { panic!("{families:?}") };
    assert_eq!((metrics.len(), &**unit), (1, "seconds"));
    metrics[0].histogram.clone().unwrap()
}

/// The native buckets with something in them: the powers of two that they end at, and their counts.
fn native_buckets(histogram: &Buckets7) -> Vec<(i32, i64)> {
    let (mut index, mut count, mut found) = (0, 0, Vec::new());
    let mut deltas = histogram.deltas.iter();
    for span in &histogram.spans {
        index += span.offset;
        for _ in 0..span.length {
            count += deltas.next().unwrap();
            found.push((index, count));
            index += 1;
        }
    }
    assert_eq!(deltas.next(), None, "{histogram:?}");
    found
}

#[test]
fn classic_buckets_are_every_second_bound() {
    let histogram = histogram_of(&[(0, 3), (1, 1), (2, 4), (20, 5), (21, 1)], false, Start::At(1_000_000_007));
    assert_eq!((histogram.count, histogram.sum.to_bits()), (14, 1.5_f64.to_bits()));
    let bounds: Vec<u64> = histogram.buckets.iter().map(|bucket| bucket.bound.to_bits()).collect();
    assert_eq!(bounds, (-16..=4).step_by(2).map(|power| 2_f64.powi(power).to_bits()).collect::<Vec<_>>());
    let counts: Vec<u64> = histogram.buckets.iter().map(|bucket| bucket.count).collect();
    assert_eq!(counts, [3, 8, 8, 8, 8, 8, 8, 8, 8, 8, 13]);
    assert_eq!(histogram.start, Some(Timestamp { seconds: 1, nanos: 0 }));
    assert_eq!((histogram.zero_threshold.to_bits(), histogram.spans.len()), (0, 0), "no native part");
}

#[test]
fn native_buckets_hold_every_observation() {
    let tables: [&[(usize, u64)]; 6] = [
        &[],
        &[(0, 7)],
        &[(21, 7)],
        &[(1, 1), (2, 300), (3, 2)],
        &[(0, 3), (1, 1), (4, 4), (5, 1 << 40), (20, 5), (21, 1)],
        &[(0, 1), (2, 1), (4, 1), (6, 1)],
    ];
    for counts in tables {
        let histogram = histogram_of(counts, true, Start::Unknown);
        let expected: Vec<(i32, i64)> = counts
            .iter()
            .filter(|(index, _)| *index > 0)
            .map(|(index, count)| (i32::try_from(*index).unwrap() - 16, i64::try_from(*count).unwrap()))
            .collect();
        assert_eq!(native_buckets(&histogram), expected, "{counts:?}");
        assert_eq!((histogram.schema, histogram.zero_threshold.to_bits()), (0, 2_f64.powi(-16).to_bits()));
        let held = histogram.zero_count + expected.iter().map(|(_, count)| count.unsigned_abs()).sum::<u64>();
        assert_eq!(held, histogram.count, "{counts:?}");
        assert!(!histogram.spans.is_empty(), "a native histogram is recognised by its spans");
        assert_eq!(histogram.buckets.len(), 11, "the classic ones are there, too");
    }
}

#[test]
fn each_text_has_its_own_encoding_however_many_take_turns() {
    let mut cache = PairCache::default();
    for count in [1, 2, 3, CACHED_TEXTS, CACHED_TEXTS + 1, 3 * CACHED_TEXTS] {
        cache.begin_family();
        for text in (0..3).flat_map(|_| 0..count).map(|number| format!("device=\"/dev/{number}\"")) {
            let mut expected = Vec::new();
            encode_pairs(&text, &mut expected);
            assert_eq!(cache.encoded(&text), expected, "{text} of {count}");
            assert_eq!(cache.encoded(""), b"");
        }
    }
    assert!(cache.entries.len() <= CACHED_TEXTS);
}
