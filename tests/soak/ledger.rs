//! What is true of the containers that the soak has made.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exporter_tests::kernel::Kernel;

/// A container in one of its lives. It is in the ledger only while nobody has begun to end it.
pub(crate) struct Known {
    /// The number of this life: no other life has it.
    pub(crate) life: u64,
    /// 64 hex digits.
    pub(crate) id: String,
    /// Its `id` label.
    pub(crate) path: String,
    pub(crate) kernel: Kernel,
    /// Its limit of processes, which no other life has.
    pub(crate) limit: u64,
}

#[derive(Default)]
struct State {
    living: BTreeMap<u64, Arc<Known>>,
    /// Every path that a container has had, by its 64 hex digits.
    paths: HashMap<String, BTreeSet<String>>,
    /// Every name that a container has had.
    names: HashMap<String, BTreeSet<String>>,
    /// Names of containers whose id is not known yet, or never will be because the engine died.
    pending: HashSet<String>,
    /// Paths of cgroups that were made below a container's.
    nested: HashSet<String>,
}

/// The ledger.
#[derive(Default)]
pub(crate) struct Ledger {
    lives: AtomicU64,
    state: Mutex<State>,
}

/// What a pair of an `id` and a `name` label is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    /// The name is another container's.
    ForeignName,
    /// The container has never been at this path.
    ForeignPath,
}

impl Ledger {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a new life.
    pub(crate) fn next(&self) -> u64 {
        self.lives.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Tells of a container that runs.
    pub(crate) fn add(&self, known: Known) {
        let mut state = self.state();
        state.paths.entry(known.id.clone()).or_default().insert(known.path.clone());
        state.living.insert(known.life, Arc::new(known));
    }

    /// To be called before a container's end begins.
    pub(crate) fn remove(&self, life: u64) {
        self.state().living.remove(&life);
    }

    pub(crate) fn living(&self) -> Vec<Arc<Known>> {
        self.state().living.values().cloned().collect()
    }

    pub(crate) fn lives(&self, life: u64) -> bool {
        self.state().living.contains_key(&life)
    }

    /// To be called before the engine is asked for a container of this name.
    pub(crate) fn expect_name(&self, name: &str) {
        self.state().pending.insert(name.to_owned());
    }

    /// To be called before a container gets a name, and as soon as the id of a named one is known.
    pub(crate) fn name(&self, id: &str, name: &str) {
        let mut state = self.state();
        state.pending.remove(name);
        state.names.entry(id.to_owned()).or_default().insert(name.to_owned());
    }

    /// To be called before a cgroup is made below a container's.
    pub(crate) fn nest(&self, path: &str) {
        self.state().nested.insert(path.to_owned());
    }

    /// Judges a series by its labels.
    pub(crate) fn verdict(&self, path: &str, name: &str) -> Verdict {
        let state = self.state();
        if state.nested.contains(path) {
            // The engine has made none of them.
            return if name.is_empty() { Verdict::Right } else { Verdict::ForeignName };
        }
        let id = id_of(path);
        let Some(paths) = state.paths.get(id) else {
            let ours = name.starts_with("dse-soak-") && !state.pending.contains(name);
            let known = !state.names.contains_key(id) && state.names.values().any(|names| names.contains(name));
            return if ours && known { Verdict::ForeignName } else { Verdict::Right };
        };
        let is_named = name.is_empty() || state.names.get(id).is_some_and(|names| names.contains(name));
        if !is_named {
            return Verdict::ForeignName;
        }
        // A stopped one whose path was never seen is shown where engines make their containers by default.
        let is_there = paths.contains(path) || path.strip_prefix("/docker/") == Some(id);
        if is_there { Verdict::Right } else { Verdict::ForeignPath }
    }
}

/// The id in the last part of a path: `docker-ID.scope`, or the id alone.
fn id_of(path: &str) -> &str {
    let last = path.rsplit('/').next().unwrap_or_default();
    last.trim_start_matches("docker-").trim_end_matches(".scope")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_belongs_to_its_own_container_alone() {
        let [one, other] = ["a", "b"].map(|digit| digit.repeat(64));
        let ledger = Ledger::default();
        let kernel = || Kernel::of(std::process::id()).unwrap();
        for (life, id) in [(1, &one), (2, &other)] {
            let (id, path) = (id.clone(), format!("/docker/{id}"));
            ledger.add(Known { life, id, path, kernel: kernel(), limit: life });
        }
        ledger.name(&one, "dse-soak-1");
        let forged = format!("/docker/{other}/docker/{one}");
        ledger.nest(&forged);
        let (at_one, at_other) = (format!("/docker/{one}"), format!("/docker/{other}"));
        assert_eq!(ledger.verdict(&at_one, "dse-soak-1"), Verdict::Right);
        assert_eq!(ledger.verdict(&at_one, ""), Verdict::Right);
        assert_eq!(ledger.verdict(&at_other, "dse-soak-1"), Verdict::ForeignName);
        assert_eq!(ledger.verdict(&forged, ""), Verdict::Right);
        assert_eq!(ledger.verdict(&forged, "dse-soak-1"), Verdict::ForeignName);
        assert_eq!(ledger.verdict(&format!("/docker/{other}/{one}"), ""), Verdict::ForeignPath);
        assert_eq!(ledger.verdict(&format!("/docker/{}", "c".repeat(64)), "dse-soak-1"), Verdict::ForeignName);
        ledger.expect_name("dse-soak-2");
        assert_eq!(ledger.verdict(&format!("/docker/{}", "c".repeat(64)), "dse-soak-2"), Verdict::Right);
    }
}
