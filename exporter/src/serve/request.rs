//! Reads what a request for the metrics asks for: the selection in its query, format, encoding and deadline in its
//! headers.
//!
//! `?collect[]=NAME` and `?exclude[]=NAME` select among the enabled collectors, `?name[]=FAMILY` families, and
//! `?id[]=ID` cgroups. `?native=1` adds native histograms to the classic ones. Other parameters are ignored, as scrapers
//! may send their own.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, HeaderName, USER_AGENT};
use hyper::http::request::Parts;

use super::{Settings, accept_header};
use crate::metrics::{Collector, CollectorSet};
use crate::scrape::{Families, Format, Request, Selection};

/// Name of the header with the scrape timeout.
const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// Maximum time of the timeout that is reserved for rendering, sending and parsing. Of timeouts below five seconds it is a
/// tenth.
const MAX_RESERVE: Duration = Duration::from_millis(500);

/// Why a query is refused. The error text lists the enabled collectors.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("collect[] and exclude[] cannot go together in one request: use collect[] to name what you want, \
             or exclude[] to leave something out of {}", names(*.0))]
    Both(CollectorSet),
    #[error("{problem}; switched on here: {}", names(*.enabled))]
    NotOn { problem: String, enabled: CollectorSet },
}

/// Returns the scrape that a request asks for.
///
/// # Errors
/// The query names a collector that is unknown or switched off, or has both `collect[]` and `exclude[]`.
pub(super) fn scrape_request(request: &Parts, settings: &Settings) -> Result<Request, Error> {
    let headers = &request.headers;
    Ok(Request {
        selection: selection(request.uri.query(), settings.enabled, settings.families)?,
        format: format(request),
        gzip: accepts_gzip(headers),
        deadline: deadline(headers, Instant::now()),
    })
}

/// Returns whether a client takes gzip and does not prefer the plain answer.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    accept_header::gzip(lines(headers, &ACCEPT_ENCODING))
}

/// Returns the format that a request prefers. Protobuf has native histograms if the query asks for them, or if the client
/// reads the classic ones beside them.
fn format(request: &Parts) -> Format {
    match accept_header::format(lines(&request.headers, &ACCEPT)) {
        Format::Protobuf { .. } => {
            let mut agents = lines(&request.headers, &USER_AGENT);
            let native = wants_native(request.uri.query()) || agents.any(accept_header::is_safe_with_native);
            Format::Protobuf { native }
        }
        text => text,
    }
}

/// Returns the values of a header, without those that are not text.
pub(super) fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
}

/// Returns the selection of a query. Unknown families and ids select nothing.
fn selection(query: Option<&str>, enabled: CollectorSet, families: Families) -> Result<Selection, Error> {
    let collectors = collectors(query, enabled)?;
    let values = |wanted: &str| -> Vec<String> {
        let pairs = pairs(query).filter(|(name, _)| name == wanted);
        pairs.map(|(_, value)| value.into_owned()).collect()
    };
    Ok(Selection::new(collectors, families, values("name[]"), &values("id[]")))
}

/// Returns the collectors that a query selects.
fn collectors(query: Option<&str>, enabled: CollectorSet) -> Result<CollectorSet, Error> {
    let (mut collect, mut exclude) = (Vec::new(), Vec::new());
    for (name, value) in pairs(query) {
        match &*name {
            "collect[]" => collect.push(value),
            "exclude[]" => exclude.push(value),
            _ => {}
        }
    }
    match (collect.is_empty(), exclude.is_empty()) {
        (true, true) => Ok(enabled),
        (false, true) => known(&collect, enabled),
        (true, false) => Ok(known(&exclude, enabled)?.iter().fold(enabled, CollectorSet::without)),
        (false, false) => Err(Error::Both(enabled)),
    }
}

/// Returns whether a query asks for native histograms.
fn wants_native(query: Option<&str>) -> bool {
    pairs(query).any(|(name, value)| name == "native" && value == "1")
}

/// Returns the named collectors, or one error with every name that is unknown or switched off.
fn known(wanted: &[Cow<'_, str>], enabled: CollectorSet) -> Result<CollectorSet, Error> {
    let mut found = CollectorSet::EMPTY;
    let mut problems = Vec::new();
    for name in wanted {
        match Collector::from_name(name) {
            Some(collector) if enabled.has(collector) => found = found.with(collector),
            Some(off) => {
                problems.push(format!("collector {name:?} is switched off (--collector.{off} switches it on)"));
            }
            None => problems.push(format!("unknown collector {name:?}")),
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(Error::NotOn { problem: problems.join(", "), enabled }) }
}

fn names(collectors: CollectorSet) -> String {
    if collectors.is_empty() {
        return "none".to_owned();
    }
    collectors.iter().map(Collector::name).collect::<Vec<_>>().join(", ")
}

/// Returns the decoded names and values of a query.
fn pairs(query: Option<&str>) -> form_urlencoded::Parse<'_> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
}

/// Returns when reading must end so that the answer arrives in time. An invalid or repeated header means no deadline.
fn deadline(headers: &HeaderMap, now: Instant) -> Option<Instant> {
    let mut values = headers.get_all(TIMEOUT_HEADER).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let seconds: f64 = value.to_str().ok()?.trim().parse().ok()?;
    let timeout = Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero())?;
    now.checked_add(timeout.saturating_sub(MAX_RESERVE.min(timeout / 10)))
}

/// Fuzz targets of headers and queries.
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz {
    use super::{selection, wants_native};
    use crate::metrics::{CollectorSet, FamilySet};
    use crate::scrape::Families;
    use crate::serve::accept_header::{format, gzip, is_safe_with_native};

    /// Checks that a list in several header lines means the same as in one line.
    pub(crate) fn headers(bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let lines: Vec<&str> = text.lines().collect();
        let joined = lines.join(",");
        if !text.contains('"') {
            assert_eq!(format(lines.iter().copied()), format([joined.as_str()].into_iter()));
            assert_eq!(gzip(lines.iter().copied()), gzip([joined.as_str()].into_iter()));
        }
        _ = (format([&*text].into_iter()), gzip([&*text].into_iter()), is_safe_with_native(&text));
    }

    /// Checks that a query never selects what is not switched on.
    pub(crate) fn query(bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let enabled = CollectorSet::defaults();
        let exposed = FamilySet::of_collectors(enabled);
        let asked = selection(Some(&text), enabled, Families { exposed, named: exposed });
        _ = wants_native(Some(&text));
        if let Ok(asked) = asked {
            assert!(asked.collectors.iter().all(|collector| enabled.has(collector)), "{:?}", asked.collectors);
            assert_eq!(asked.families.intersection(exposed), asked.families);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::FamilySet;

    fn on() -> CollectorSet {
        [Collector::Cpu, Collector::Memory, Collector::Pids].into_iter().collect()
    }

    #[test]
    fn queries_select_among_the_collectors_that_are_on() {
        let table: [(&str, &[Collector]); 12] = [
            ("", &[Collector::Cpu, Collector::Memory, Collector::Pids]),
            ("&&", &[Collector::Cpu, Collector::Memory, Collector::Pids]),
            ("foo=bar&collect=tcp", &[Collector::Cpu, Collector::Memory, Collector::Pids]),
            ("collect[]=cpu", &[Collector::Cpu]),
            ("collect[]=cpu&collect[]=cpu", &[Collector::Cpu]),
            ("collect[]=pids&collect[]=cpu", &[Collector::Cpu, Collector::Pids]),
            ("collect%5B%5D=memory", &[Collector::Memory]),
            ("collect%5b%5d=m%65mory&x", &[Collector::Memory]),
            ("exclude[]=cpu", &[Collector::Memory, Collector::Pids]),
            ("exclude%5B%5D=cpu&exclude[]=pids", &[Collector::Memory]),
            ("exclude[]=cpu&exclude[]=pids&exclude[]=memory", &[]),
            ("a=1&collect[]=cpu&b", &[Collector::Cpu]),
        ];
        for (query, expected) in table {
            let expected = expected.iter().copied().collect();
            assert_eq!(collectors(Some(query), on()), Ok(expected), "{query}");
        }
        assert_eq!(collectors(None, on()), Ok(on()));
    }

    #[test]
    fn names_and_ids_narrow_what_is_asked_for() {
        let all = FamilySet::of_collectors(on());
        let stats = FamilySet::matching(|family| family.kind == crate::metrics::Kind::Untyped);
        let families = Families { exposed: all.intersection(stats), named: all };
        let of = |query: &str| selection(Some(query), on(), families).unwrap();
        let names = |query: &str| of(query).families.families().map(|family| family.name).collect::<Vec<_>>();
        let everything = of("");
        assert!(
            everything.ids.is_all() && everything.self_metrics.is_none() && everything.families == families.exposed
        );
        // The suffix that OpenMetrics takes off may be missing.
        assert_eq!(names("name[]=container_memory_rss"), ["container_memory_rss"]);
        assert_eq!(names("name%5B%5D=container_cpu_user_seconds"), ["container_cpu_user_seconds_total"]);
        let both = of("name[]=container_memory_rss&name[]=container_cpu_user_seconds_total&name[]=nonsense");
        assert_eq!(both.collectors.iter().collect::<Vec<_>>(), [Collector::Cpu, Collector::Memory]);
        // The family is unknown, switched off, or of a collector that is not asked for.
        for nothing in
            ["name[]=x", "name[]", "name[]=container_fs_reads_total", "collect[]=cpu&name[]=container_memory_rss"]
        {
            assert!(names(nothing).is_empty() && of(nothing).collectors.is_empty(), "{nothing}");
        }
        let of_one = of("id[]=/docker/a&id[]=%2Fdocker%2Fb");
        assert_eq!((of_one.ids.count(), of_one.self_metrics.map(|names| names.len())), (Some(2), Some(0)));
    }

    #[test]
    fn a_name_that_is_not_on_is_refused_with_those_that_are() {
        let table = [
            ("collect[]=nonsense", "unknown collector \"nonsense\"; switched on here: cpu, memory, pids"),
            ("collect[]=", "unknown collector \"\"; switched on here: cpu, memory, pids"),
            ("collect[]", "unknown collector \"\"; switched on here: cpu, memory, pids"),
            ("collect[]=Cpu", "unknown collector \"Cpu\"; switched on here: cpu, memory, pids"),
            ("exclude[]=a+b%0A", "unknown collector \"a b\\n\"; switched on here: cpu, memory, pids"),
            (
                "collect[]=tcp&collect[]=x&collect[]=cpu",
                "collector \"tcp\" is switched off (--collector.tcp switches it on), unknown collector \"x\"; \
                 switched on here: cpu, memory, pids",
            ),
        ];
        for (query, expected) in table {
            let error = collectors(Some(query), on()).expect_err(query);
            assert_eq!(error.to_string(), expected, "{query}");
        }
        let error = collectors(Some("collect[]=cpu"), CollectorSet::EMPTY).expect_err("nothing is on");
        assert!(error.to_string().ends_with("switched on here: none"), "{error}");
    }

    #[test]
    fn collect_and_exclude_together_are_refused() {
        assert_eq!(collectors(Some("collect[]=cpu&exclude[]=memory"), on()), Err(Error::Both(on())));
    }

    #[test]
    fn native_histograms_are_asked_for_by_one_word() {
        for (query, expected) in [
            ("native=1", true),
            ("collect[]=cpu&nativ%65=1", true),
            ("native=0", false),
            ("native", false),
            ("native=true", false),
            ("x=native=1", false),
        ] {
            assert_eq!(wants_native(Some(query)), expected, "{query}");
        }
        assert!(!wants_native(None));
    }

    #[test]
    fn broken_percent_encoding_stands_for_itself() {
        for (text, expected) in
            [("%", "%"), ("%5", "%5"), ("%zz", "%zz"), ("%5B%", "[%"), ("%FF", "\u{fffd}"), ("%%41", "%A")]
        {
            assert_eq!(pairs(Some(text)).next().unwrap().0, expected, "{text}");
        }
    }

    fn deadline(values: &[&str], now: Instant) -> Option<Instant> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TIMEOUT_HEADER, value.parse().unwrap());
        }
        super::deadline(&headers, now)
    }

    #[test]
    fn a_timeout_becomes_a_deadline_a_little_before_it() {
        let now = Instant::now();
        for (header, milliseconds) in
            [("10", 9_500), ("10.5", 10_000), ("1", 900), (" 0.1 ", 90), ("5e0", 4_500), ("60", 59_500)]
        {
            let expected = now + Duration::from_millis(milliseconds);
            assert_eq!(deadline(&[header], now), Some(expected), "{header}");
        }
    }

    #[test]
    fn a_timeout_that_makes_no_sense_is_ignored() {
        let now = Instant::now();
        for header in [
            "", "ten", "-1", "0", "-0.0", "NaN", "-nan", "inf", "-inf", "1e-300", "0x10", "1_0", "1e300", "1e19",
            "10s", "10,5",
        ] {
            assert_eq!(deadline(&[header], now), None, "{header}");
        }
        assert_eq!(deadline(&[], now), None);
        assert_eq!(deadline(&["10", "0.00001"], now), None);
    }
}
