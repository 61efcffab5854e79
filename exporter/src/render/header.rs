//! The lines that open a family in the text formats: `# HELP`, `# TYPE` and `# UNIT`.

use super::Format;
use crate::metrics::{Kind, Unit};

/// Appends the lines that open a family. `name` is the name of its samples.
pub(super) fn header(name: &str, help: &str, kind: Kind, unit: Unit, format: Format, out: &mut Vec<u8>) {
    match format {
        Format::Text | Format::Protobuf { .. } => {
            help_line(out, name, help, false);
            line(out, "TYPE", name, text_type(kind));
        }
        Format::OpenMetrics => {
            let (family, kind) = open_metrics(name, kind);
            line(out, "TYPE", family, kind);
            if let Some(unit) = unit.suffix().filter(|unit| has_suffix(family, unit)) {
                line(out, "UNIT", family, unit);
            }
            help_line(out, family, help, true);
        }
    }
}

fn line(out: &mut Vec<u8>, keyword: &str, name: &str, text: &str) {
    for part in ["# ", keyword, " ", name, " ", text, "\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn text_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
        Kind::Untyped => "untyped",
    }
}

/// Returns family name and type in OpenMetrics. A counter's family lacks the `_total` of its samples. cAdvisor has counters without
/// `_total` and gauges with it: these become `unknown`, which leaves the name as it is. A gauge whose name ends in `_info` becomes an info,
/// and its family lacks that word.
fn open_metrics(name: &str, kind: Kind) -> (&str, &'static str) {
    if kind == Kind::Gauge
        && let Some(family) = name.strip_suffix("_info")
    {
        return (family, "info");
    }
    match (kind, name.strip_suffix("_total")) {
        (Kind::Counter, Some(family)) => (family, "counter"),
        (Kind::Gauge, None) => (name, "gauge"),
        (Kind::Histogram, _) => (name, "histogram"),
        _ => (name, "unknown"),
    }
}

/// Returns whether a name ends in this unit.
pub(super) fn has_suffix(family: &str, unit: &str) -> bool {
    family.strip_suffix(unit).is_some_and(|stem| stem.ends_with('_'))
}

fn help_line(out: &mut Vec<u8>, name: &str, help: &str, quotes: bool) {
    for part in ["# HELP ", name, " "] {
        out.extend_from_slice(part.as_bytes());
    }
    for byte in help.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(br"\\"),
            b'\n' => out.extend_from_slice(br"\n"),
            b'"' if quotes => out.extend_from_slice(b"\\\""),
            byte => out.push(byte),
        }
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::header;
    use crate::metrics::{Kind, Unit};
    use crate::render::Format;

    fn lines(name: &str, kind: Kind, unit: Unit, format: Format) -> String {
        let mut out = Vec::new();
        header(name, "Say \"hi\".", kind, unit, format, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_names_the_samples() {
        let expected = "# HELP a_seconds_total Say \"hi\".\n# TYPE a_seconds_total counter\n";
        assert_eq!(lines("a_seconds_total", Kind::Counter, Unit::Seconds, Format::Text), expected);
    }

    #[test]
    fn open_metrics_names_the_family_and_its_unit() {
        let expected = "# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds Say \\\"hi\\\".\n";
        assert_eq!(lines("a_seconds_total", Kind::Counter, Unit::Seconds, Format::OpenMetrics), expected);
    }

    #[test]
    fn names_against_the_rules_are_unknown_in_open_metrics() {
        for (name, kind) in [("failcnt", Kind::Counter), ("tcp_usage_total", Kind::Gauge), ("x", Kind::Untyped)] {
            let first = format!("# TYPE {name} unknown\n");
            assert!(lines(name, kind, Unit::None, Format::OpenMetrics).starts_with(&first), "{name}");
        }
    }

    #[test]
    fn an_info_is_one_in_open_metrics_only() {
        assert!(lines("a_info", Kind::Gauge, Unit::None, Format::OpenMetrics).starts_with("# TYPE a info\n"));
        assert!(lines("a_info", Kind::Gauge, Unit::None, Format::Text).ends_with("# TYPE a_info gauge\n"));
    }

    #[test]
    fn a_unit_is_told_only_where_the_name_ends_in_it() {
        assert!(!lines("container_last_seen", Kind::Gauge, Unit::Seconds, Format::OpenMetrics).contains("UNIT"));
    }
}
