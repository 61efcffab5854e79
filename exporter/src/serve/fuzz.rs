//! Fuzz targets of what clients send.

use super::accept_header::{format, gzip, is_safe_with_native};
use super::query::{selection, wants_native};
use crate::metrics::{CollectorSet, FamilySet};
use crate::scrape::Families;

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
