//! Huge pages, per page size (`pagesize="2MB"`).

use super::Source::{Absent, HugePages};
use super::{Collector, Family, Series};

pub(super) const FAMILIES: &[Family] = &[
    Family::gauge(
        Collector::Hugetlb,
        "container_hugetlb_usage_bytes",
        "Huge pages in use, in bytes.",
        &[Series::new(HugePages("current", None), HugePages("usage_in_bytes", None), Absent)],
    )
    .bytes(),
    Family::gauge(
        Collector::Hugetlb,
        "container_hugetlb_max_usage_bytes",
        "Most huge pages in use so far, in bytes. Cgroup v1 only.",
        &[Series::new(Absent, HugePages("max_usage_in_bytes", None), Absent)],
    )
    .bytes(),
    Family::counter(
        Collector::Hugetlb,
        "container_hugetlb_failcnt",
        "Times that a huge page was refused because of the limit.",
        &[Series::new(HugePages("events", Some("max")), HugePages("failcnt", None), Absent)],
    ),
];
