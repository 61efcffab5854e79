//! Decides which cgroup is which container. This is the rule:
//!
//! - A cgroup is a container if an engine created it. A name with 64 hex digits is only a claim: whoever may write to a cgroup
//!   can create cgroups of any name below it.
//! - A cgroup below a container belongs to that container, whatever its name, unless an engine created it. If our engine does
//!   not know the id in its name (Docker in Docker), it is a container under its real path, without a name. If our engine
//!   knows the id, it is that container only if the engine was asked to create it there (`--cgroup-parent`), or if it has the
//!   process that the engine reports and the engine does not know the containers around it: then the engine itself runs in
//!   one of them.
//! - Of several cgroups with one id, one is the container. In this order of preference: the one below the `--cgroup-parent`
//!   that the engine reports; the one with the process that the engine reports; one that is not below a container; the
//!   outermost; the one seen first.
//! - A cgroup that is not below a container and has no process was left behind if an engine answers that does not know the id,
//!   or reports that the container does not run. It is no container.
//!
//! The decision rests on reports of the engine and of the kernel alone, and not on anything that a container can write. This
//! file does no I/O except through the closures of the caller.

use std::path::Path;

use super::ContainerId;

/// The reports of the engines on which the identity of containers depends.
pub trait Engine {
    /// Returns whether the engine of this container answers and has listed all its containers. If no engine knows the id,
    /// returns whether all engines do.
    fn answers(&self, id: ContainerId) -> bool;
    /// Returns the engines that answer, one bit each.
    fn answering(&self) -> u64;
    /// Returns a number that changes whenever the report on any container may have changed.
    fn generation(&self) -> u64;
    /// Returns the report on a container; none for an unknown id.
    fn container(&self, id: ContainerId) -> Option<EngineRecord<'_>>;
}

/// The report of an engine on one container.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineRecord<'a> {
    /// Whether the container has live processes.
    pub runs: bool,
    /// Whether the container was removed.
    pub removed: bool,
    /// Its first process, in the pid namespace of the engine; none before the container was inspected.
    pub pid: Option<u32>,
    /// `--cgroup-parent` as given; empty for the engine's default.
    pub cgroup_parent: &'a str,
}

impl EngineRecord<'_> {
    /// Returns whether the report comes from an inspection. The list has neither process nor parent.
    fn is_inspected(&self) -> bool {
        self.pid.is_some() || !self.cgroup_parent.is_empty()
    }
}

/// An engine without reports.
#[derive(Clone, Copy, Debug)]
pub struct NoEngine;

impl Engine for NoEngine {
    fn answers(&self, _: ContainerId) -> bool {
        false
    }

    fn answering(&self) -> u64 {
        0
    }

    fn generation(&self) -> u64 {
        0
    }

    fn container(&self, _: ContainerId) -> Option<EngineRecord<'_>> {
        None
    }
}

/// A cgroup whose name contains the id of a container.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    /// Path from the root of the tree, with a leading slash.
    pub(super) path: &'a str,
    /// Order of observation.
    pub(super) order: u64,
}

/// A claim that is accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Accepted {
    /// Index of the cgroup among the claims.
    pub(super) index: usize,
    /// Whether the engine's report for this id describes this cgroup.
    pub(super) named: bool,
}

/// Decides which of the `claims` on `id` to accept; none if all are forged or left behind.
///
/// `process` returns the text of `/proc/PID/cgroup`; `is_empty` returns whether the cgroup of the claim with this index has no
/// process. Both are called only if the decision depends on them.
pub(super) fn decide<'a>(
    id: ContainerId,
    claims: impl Iterator<Item = Claim<'a>>,
    engine: &dyn Engine,
    process: impl Fn(u32) -> Option<String>,
    mut is_empty: impl FnMut(usize) -> bool,
) -> Option<Accepted> {
    let record = engine.container(id);
    let has_process = |path: &str| {
        record.and_then(|record| record.pid).and_then(&process).is_some_and(|text| is_at_or_below(&text, path))
    };
    let may_be_left_behind = engine.answers(id) && record.is_none_or(|record| record.removed || !record.runs);
    let mut eligible: Vec<(Accepted, Claim<'a>, bool)> = claims
        .enumerate()
        .filter_map(|(index, claim)| {
            let nested = is_nested(claim.path);
            let named =
                if nested { accept_nested(id, claim.path, record.as_ref(), engine, has_process)? } else { true };
            Some((Accepted { index, named }, claim, nested))
        })
        .collect();
    if eligible.len() > 1 {
        let parent = record.as_ref().map_or("", |record| record.cgroup_parent);
        eligible.sort_by_cached_key(|(_, claim, nested)| {
            let depth = claim.path.bytes().filter(|byte| *byte == b'/').count();
            (!is_below_parent(claim.path, parent), *nested || !has_process(claim.path), *nested, depth, claim.order)
        });
    }
    eligible
        .into_iter()
        .find(|(accepted, ..)| !may_be_left_behind || !is_empty(accepted.index))
        .map(|(accepted, ..)| accepted)
}

/// Decides on a cgroup below a container. Returns none to reject it, else whether the engine's report describes this cgroup.
fn accept_nested(
    id: ContainerId,
    path: &str,
    record: Option<&EngineRecord<'_>>,
    engine: &dyn Engine,
    has_process: impl Fn(&str) -> bool,
) -> Option<bool> {
    if enclosing(path).any(|outer| outer == id) {
        return None;
    }
    let Some(record) = record else { return Some(false) };
    if is_below_parent(path, record.cgroup_parent) && !record.removed {
        // A container that does not run by the report has been restarted meanwhile, or the cgroup is forged.
        return Some(record.runs);
    }
    if record.removed || !record.runs {
        return None;
    }
    if !record.is_inspected() {
        return Some(false);
    }
    let engine_is_outside = enclosing(path).any(|outer| engine.container(outer).is_some());
    // Named only if it has the process that the engine reports: the name of the cgroup is only a claim.
    (!engine_is_outside).then(|| engine.answers(id) && has_process(path))
}

/// Returns whether the cgroup is below the cgroup of a container.
pub(super) fn is_nested(path: &str) -> bool {
    enclosing(path).next().is_some()
}

/// Returns the ids of the containers that a cgroup is below, the innermost first.
fn enclosing(path: &str) -> impl Iterator<Item = ContainerId> + '_ {
    Path::new(path).ancestors().skip(1).filter_map(ContainerId::from_cgroup_path)
}

/// Returns the path of the outermost container that a cgroup is in; the path itself if it is in none.
pub(super) fn outermost(path: &str) -> &str {
    let containers = Path::new(path).ancestors().filter(|above| ContainerId::from_cgroup_path(above).is_some());
    containers.last().and_then(Path::to_str).unwrap_or(path)
}

/// Returns whether the parent of the cgroup is the `given` value of `--cgroup-parent`: a path, or the name of a slice.
fn is_below_parent(path: &str, given: &str) -> bool {
    let Some(parent) = Path::new(path).parent() else { return false };
    let is_slice = Path::new(given).extension().is_some_and(|extension| extension == "slice");
    if is_slice && !given.contains('/') {
        return parent.file_name().is_some_and(|name| name == given) && !is_nested(path);
    }
    !given.is_empty() && parent.components().eq(Path::new("/").join(given.trim_start_matches('/')).components())
}

/// Returns whether the text of `/proc/PID/cgroup` shows the process in the cgroup at `path` or below it, in any tree.
///
/// Paths outside of our own cgroup namespace begin with `/..`. Of these only the end can be compared.
fn is_at_or_below(text: &str, path: &str) -> bool {
    text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|of_process| {
        let known_part = of_process.trim_start_matches("/..");
        let starts =
            |path: &str| known_part.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if known_part.len() == of_process.len() {
            return starts(path);
        }
        path.match_indices('/').any(|(at, _)| path.get(at..).is_some_and(starts))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{Accepted, Claim, ContainerId, Engine, EngineRecord, decide, is_at_or_below, is_below_parent};

    #[derive(Default)]
    struct Fake(HashMap<ContainerId, EngineRecord<'static>>, bool);

    impl Engine for Fake {
        fn answers(&self, _: ContainerId) -> bool {
            self.1
        }
        fn answering(&self) -> u64 {
            self.1.into()
        }
        fn generation(&self) -> u64 {
            0
        }
        fn container(&self, id: ContainerId) -> Option<EngineRecord<'_>> {
            self.0.get(&id).copied()
        }
    }

    fn text(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    fn id(digit: char) -> ContainerId {
        ContainerId::parse(text(digit).as_bytes()).unwrap()
    }

    /// Letters stand for ids.
    fn expand(path: &str) -> String {
        path.split('/')
            .map(|part| if matches!(part, "a" | "b" | "c") { part.repeat(64) } else { part.to_owned() })
            .collect::<Vec<_>>()
            .join("/")
    }

    fn accepted(engine: &Fake, of: char, paths: &[&str]) -> Option<(usize, bool)> {
        accepted_with(engine, of, paths, "", &[])
    }

    fn accepted_with(engine: &Fake, of: char, paths: &[&str], process: &str, empty: &[usize]) -> Option<(usize, bool)> {
        let paths: Vec<String> = paths.iter().map(|path| expand(path)).collect();
        let claims = paths.iter().zip(0..).map(|(path, order)| Claim { path, order });
        let process = expand(process);
        let is_empty = |index| empty.contains(&index);
        decide(id(of), claims, engine, |_| Some(format!("0::{process}\n")), is_empty)
            .map(|Accepted { index, named }| (index, named))
    }

    fn running(pid: u32) -> EngineRecord<'static> {
        EngineRecord { runs: true, pid: Some(pid), ..EngineRecord::default() }
    }

    #[test]
    fn without_an_engine_the_outermost_and_then_the_first_is_the_container() {
        let none = Fake::default();
        assert_eq!(accepted(&none, 'a', &["/docker/b/docker/a", "/docker/a"]), Some((1, true)));
        assert_eq!(accepted(&none, 'a', &["/x/y/a", "/docker/a", "/other/a"]), Some((1, true)));
        assert_eq!(accepted(&none, 'a', &["/docker/a", "/docker/a/docker/a"]), Some((0, true)));
        assert_eq!(accepted(&none, 'c', &["/docker/b/docker/c"]), Some((0, false)));
    }

    #[test]
    fn a_forged_cgroup_is_never_a_container_of_the_engine() {
        let stopped = EngineRecord { pid: None, runs: false, ..EngineRecord::default() };
        let removed = EngineRecord { removed: true, ..EngineRecord::default() };
        let silent = |record| Fake([(id('a'), record), (id('b'), running(2))].into(), false);
        for engine in [stopped, removed, running(1)].map(silent) {
            assert_eq!(accepted(&engine, 'a', &["/docker/b/docker/a"]), None);
            assert_eq!(accepted(&engine, 'a', &["/docker/b/a", "/docker/a"]), Some((1, true)));
        }
        // A process of the attacker that got the number of the ended container's.
        let engine = silent(running(1));
        assert_eq!(accepted_with(&engine, 'a', &["/docker/b/docker/a"], "/docker/b/docker/a", &[]), None);
    }

    #[test]
    fn a_container_is_never_found_below_itself() {
        let engine = Fake([(id('b'), running(2))].into(), true);
        assert_eq!(accepted(&engine, 'b', &["/docker/b/docker/b"]), None);
        assert_eq!(accepted(&engine, 'b', &["/docker/b/init.scope/docker/b", "/docker/b"]), Some((1, true)));
    }

    #[test]
    fn what_the_engine_made_below_a_container_is_named() {
        let record = EngineRecord {
            cgroup_parent: "/docker/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
            ..running(1)
        };
        let engine = Fake([(id('a'), record), (id('b'), running(2))].into(), true);
        assert_eq!(accepted(&engine, 'a', &["/docker/b/a"]), Some((0, true)));
        assert_eq!(accepted(&engine, 'a', &["/docker/b/docker/a"]), None, "another place below it");
        assert_eq!(
            accepted(&engine, 'a', &["/docker/a", "/docker/b/a"]),
            Some((1, true)),
            "the parent that the engine names decides"
        );
        let stopped = EngineRecord { runs: false, pid: None, ..record };
        let engine = Fake([(id('a'), stopped), (id('b'), running(2))].into(), true);
        assert_eq!(accepted(&engine, 'a', &["/docker/b/a"]), Some((0, false)), "not named while it is said not to run");
        let listed = EngineRecord { runs: true, ..EngineRecord::default() };
        let engine = Fake([(id('a'), listed), (id('b'), running(2))].into(), true);
        assert_eq!(accepted(&engine, 'a', &["/docker/b/a"]), Some((0, false)), "not named before it is inspected");
    }

    #[test]
    fn an_engine_in_a_container_names_what_is_around_it() {
        let inner = Fake([(id('a'), running(1))].into(), true);
        let nested = ["/docker/b/docker/a"];
        assert_eq!(accepted_with(&inner, 'a', &nested, nested[0], &[]), Some((0, true)));
        assert_eq!(accepted_with(&inner, 'a', &nested, "/docker/c", &[]), Some((0, false)), "no evidence, no name");
        let silent = Fake(inner.0, false);
        assert_eq!(accepted_with(&silent, 'a', &nested, nested[0], &[]), Some((0, false)), "its word may be old");
    }

    #[test]
    fn of_two_outer_cgroups_the_one_with_the_process_is_the_container() {
        let engine = Fake([(id('a'), running(1))].into(), true);
        let paths = ["/old/a", "/docker/a"];
        assert_eq!(accepted_with(&engine, 'a', &paths, "/docker/a/init.scope", &[]), Some((1, true)));
        assert_eq!(accepted_with(&engine, 'a', &paths, "/elsewhere", &[]), Some((0, true)));
    }

    #[test]
    fn an_empty_cgroup_that_the_answering_engine_does_not_run_was_left_behind() {
        let answering = Fake(HashMap::new(), true);
        assert_eq!(accepted_with(&answering, 'a', &["/docker/a"], "", &[0]), None);
        assert_eq!(accepted_with(&answering, 'a', &["/docker/a"], "", &[]), Some((0, true)));
        assert_eq!(accepted_with(&answering, 'a', &["/docker/a", "/other/x/a"], "", &[0]), Some((1, true)));
        assert_eq!(accepted_with(&answering, 'a', &["/docker/b/docker/a"], "", &[0]), None, "a container made it");
        assert_eq!(
            accepted_with(&answering, 'a', &["/docker/b/docker/a"], "", &[]),
            Some((0, false)),
            "another engine's"
        );
        let silent = Fake::default();
        assert_eq!(accepted_with(&silent, 'a', &["/docker/a"], "", &[0]), Some((0, true)));
        let stopped = Fake([(id('a'), EngineRecord::default())].into(), true);
        assert_eq!(accepted_with(&stopped, 'a', &["/docker/a"], "", &[0]), None);
        let runs = Fake([(id('a'), running(1))].into(), true);
        assert_eq!(accepted_with(&runs, 'a', &["/docker/a"], "", &[0]), Some((0, true)));
    }

    #[test]
    fn a_parent_is_a_path_or_a_slice() {
        let path = expand("/custom/x/a");
        assert!(is_below_parent(&path, "/custom/x") && is_below_parent(&path, "custom/x/"));
        assert!(!is_below_parent(&path, "/custom") && !is_below_parent(&path, "x") && !is_below_parent(&path, ""));
        let scope = format!("/a.slice/a-b.slice/docker-{}.scope", text('a'));
        assert!(is_below_parent(&scope, "a-b.slice") && !is_below_parent(&scope, "a.slice"));
    }

    #[test]
    fn a_process_is_found_by_whole_names_and_through_a_cgroup_namespace() {
        let path = expand("/docker/a");
        let at = |line: &str| is_at_or_below(&expand(line), &path);
        assert!(at("7:memory:/docker/a") && at("0::/docker/a/init.scope"));
        assert!(!at("0::/docker/ab") && !at("0::/docker/b/docker/a") && !at("0::/") && !at(""));
        assert!(at("0::/../a") && at("0::/../a/init.scope") && at("0::/../../docker/a"));
        assert!(!at("0::/../b/docker/a") && !at("0::/../../docker/b"));
    }
}
