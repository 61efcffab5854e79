//! What a scrape asks for and the answers it can get: the interface between the HTTP server and the scraper.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::config::{Config, Schema};
use crate::discover::IdFilter;
use crate::metrics::{Collector, CollectorSet, Family, FamilySet, Kind};
use crate::render::Format;

/// One scrape, as negotiated by HTTP.
#[derive(Clone, Debug)]
pub struct Request {
    /// The selected collectors, families and containers.
    pub selection: Selection,
    /// Exposition format.
    pub format: Format,
    /// Whether to compress the body.
    pub gzip: bool,
    /// Deadline for reading. Values that are not read by then are left out.
    pub deadline: Option<Instant>,
}

/// Why a scrape fails as a whole.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Error {
    /// The pass panicked; the next one starts with a new reader.
    #[error("the scrape failed inside the exporter (a bug: the log holds the message); the next scrape starts afresh")]
    Panicked,
    /// The program is shutting down.
    #[error("the exporter is shutting down")]
    ShuttingDown,
}

/// The interface of the scraper for the HTTP server. It is a trait so that tests of HTTP need no containers.
pub trait Scrape: Send + Sync + 'static {
    /// Returns an answer without values if the deadline leaves no time for reading, and `None` if it does.
    fn unread(&self, request: &Request) -> Option<Result<Bytes, Error>> {
        let _ = request;
        None
    }

    /// Returns the whole body in the requested format and encoding. Never waits for Docker in cgroup mode.
    fn scrape(&self, request: Request) -> impl Future<Output = Result<Bytes, Error>> + Send;

    /// Returns whether the first discovery is complete.
    ///
    /// # Errors
    /// It is not complete. The error is a sentence for the operator.
    fn ready(&self) -> Result<(), String>;

    /// Returns what the exporter found on this host, as `(term, description)` for the live page.
    fn findings(&self) -> Vec<(String, String)>;
}

/// The collectors, families and containers that a scrape selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Collectors to run: the enabled ones, narrowed by `collect[]`, `exclude[]` and `name[]`.
    pub collectors: CollectorSet,
    /// Families to expose.
    pub families: FamilySet,
    /// Containers to expose, by `id[]`.
    pub ids: IdFilter,
    /// Names of the exporter's own metrics to expose; `None` exposes all of them.
    pub self_metrics: Option<Arc<[String]>>,
}

/// Families that the configuration allows.
#[derive(Clone, Copy, Debug)]
pub struct Families {
    /// Families that are exposed without `name[]`.
    pub exposed: FamilySet,
    /// Families that `name[]` can select. They include cAdvisor's names even if only the predecessor's are exposed.
    pub named: FamilySet,
}

impl Families {
    /// Returns the families that a configuration allows.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let has_stats = config.schema != Schema::Cadvisor;
        let named = FamilySet::matching(|family| {
            let is_known = family.kind != Kind::Untyped || has_stats;
            is_known && config.collectors.has(family.collector) && config.metrics.selects(family.name)
        });
        let exposed = match config.schema {
            Schema::Cadvisor | Schema::Both => named,
            Schema::DockerStats => named.intersection(FamilySet::matching(|family| family.kind == Kind::Untyped)),
        };
        Self { exposed, named }
    }
}

impl Selection {
    /// Returns the selection of a request by `name[]` and `id[]`. Unknown names and ids select nothing.
    #[must_use]
    pub fn new(collectors: CollectorSet, families: Families, names: Vec<String>, ids: &[String]) -> Self {
        let of_collectors = FamilySet::of_collectors(collectors);
        let ids = IdFilter::new(ids.iter().map(String::as_str));
        if !names.is_empty() {
            // OpenMetrics names a counter's family without the suffix.
            let is_named = |family: &Family| {
                let stem = family.name.strip_suffix("_total").unwrap_or(family.name);
                names.iter().any(|name| name == family.name || name == stem)
            };
            let families = FamilySet::matching(is_named).intersection(families.named).intersection(of_collectors);
            let collectors = families.collectors();
            return Self { collectors, families, ids, self_metrics: Some(names.into()) };
        }
        let families = families.exposed.intersection(of_collectors);
        if ids.is_all() {
            return Self { collectors, families, ids, self_metrics: None };
        }
        // With `id[]`, families without an id are left out.
        let machine = FamilySet::of_collectors(CollectorSet::EMPTY.with(Collector::Machine));
        Self { collectors, families: families.difference(machine), ids, self_metrics: Some(Vec::new().into()) }
    }

    /// Returns the selection of everything that these collectors have.
    #[must_use]
    pub fn of_collectors(collectors: CollectorSet) -> Self {
        let families = FamilySet::of_collectors(collectors);
        Self { collectors, families, ids: IdFilter::default(), self_metrics: None }
    }

    /// Returns the union of both selections.
    pub(super) fn union(&self, other: &Self) -> Self {
        Self {
            collectors: self.collectors.union(other.collectors),
            families: self.families.union(other.families),
            ids: self.ids.union(&other.ids),
            self_metrics: None,
        }
    }

    /// Returns whether the values that were read for `other` include this selection.
    pub(super) fn is_part_of(&self, other: &Self) -> bool {
        self.collectors.union(other.collectors) == other.collectors
            && self.families.is_part_of(other.families)
            && self.ids.is_part_of(&other.ids)
    }

    /// Returns whether one of the exporter's own metrics is selected.
    pub(super) fn has_own(&self, name: &str) -> bool {
        self.self_metrics.as_ref().is_none_or(|names| names.iter().any(|known| known == name))
    }
}

#[cfg(test)]
mod tests {
    use super::{IdFilter, Selection};
    use crate::metrics::{Collector, CollectorSet, FamilySet};

    #[test]
    fn a_selection_is_served_by_one_that_has_all_of_it() {
        let cpu = Selection::of_collectors(CollectorSet::EMPTY.with(Collector::Cpu));
        let both = Selection::of_collectors(CollectorSet::EMPTY.with(Collector::Cpu).with(Collector::Tcp));
        assert!(cpu.is_part_of(&cpu) && cpu.is_part_of(&both) && !both.is_part_of(&cpu));
        let one_family = FamilySet::matching(|family| family.name == "container_cpu_user_seconds_total");
        let some = Selection { families: one_family, ..cpu.clone() };
        assert!(some.is_part_of(&cpu) && !cpu.is_part_of(&some));
        let (here, there) = (IdFilter::new(["/a"]), IdFilter::new(["/b"]));
        let of = |ids: &IdFilter| Selection { ids: ids.clone(), ..cpu.clone() };
        assert!(of(&here).is_part_of(&cpu) && !of(&here).is_part_of(&of(&there)));
        assert!(of(&here).is_part_of(&of(&here).union(&of(&there))));
        assert!(cpu.union(&of(&here)).ids.is_all());
    }
}
