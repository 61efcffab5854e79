//! Containers that come and go under a watched tree.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::{BELOW_CONTAINER, ContainerId, Discovery, NoEngine, Tree, WALK_INTERVAL, find_all};
use crate::discover::{Added, Version};

const ID: &str = "1f76d86fe81cab2d4cb40d8e3b49dd6ef508eb7fa80baf1e29566a42c1c923d5";
const OTHER: &str = "2f76d86fe81cab2d4cb40d8e3b49dd6ef508eb7fa80baf1e29566a42c1c923d5";

fn id() -> ContainerId {
    ContainerId::parse(ID.as_bytes()).unwrap()
}

struct Host {
    root: tempfile::TempDir,
    discovery: Discovery,
    now: Instant,
}

impl Host {
    fn new(live: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let trees = [Tree { path: root.path().to_owned(), version: Version::V2 }];
        let discovery = Discovery::new(&trees, Path::new("/proc"), live, true);
        Self { root, discovery, now: Instant::now() }
    }

    fn make(&self, path: &str) {
        fs::create_dir_all(self.root.path().join(path)).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_dir(self.root.path().join(path)).unwrap();
    }

    /// Paths of the containers that a refresh adds, and their ids that it removes.
    fn refresh(&mut self) -> (Vec<String>, Vec<ContainerId>) {
        let changes = self.discovery.refresh(self.now, &NoEngine);
        let mut added: Vec<String> = changes.added.into_iter().map(|added| added.path).collect();
        added.sort_unstable();
        (added, changes.removed)
    }

    fn added(&mut self) -> Vec<String> {
        self.refresh().0
    }
}

#[test]
fn a_container_under_a_new_parent_is_found_by_events_alone() {
    let mut host = Host::new(true);
    assert!(host.added().is_empty());
    let path = format!("custom.slice/docker-{ID}.scope");
    host.make(&path);
    let changes = host.discovery.refresh(host.now, &NoEngine);
    assert_eq!(changes.added, [Added { id: id(), path: format!("/{path}"), named: true }]);
    host.remove(&path);
    assert_eq!(host.refresh().1, [id()]);
    assert!(host.discovery.is_empty());
}

#[test]
fn a_container_is_found_in_any_tree_and_once() {
    let roots = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let trees = roots.each_ref().map(|root| Tree { path: root.path().to_owned(), version: Version::V1 });
    let mut discovery = Discovery::new(&trees, Path::new("/proc"), true, true);
    let start = Instant::now();
    discovery.refresh(start, &NoEngine);
    for (root, id) in [(0, ID), (1, ID), (1, OTHER)] {
        fs::create_dir_all(roots[root].path().join("docker").join(id)).unwrap();
    }
    let mut added: Vec<_> = discovery.refresh(start, &NoEngine).added.into_iter().map(|added| added.path).collect();
    added.sort_unstable();
    assert_eq!(added, [format!("/docker/{ID}"), format!("/docker/{OTHER}")]);
    assert!(discovery.refresh(start + WALK_INTERVAL, &NoEngine).added.is_empty());
    // What is made below it is found in the first tree that has it.
    fs::create_dir_all(roots[1].path().join("docker").join(OTHER).join(numbered(1))).unwrap();
    assert_eq!(discovery.refresh(start + WALK_INTERVAL, &NoEngine).added.len(), 1);
    for root in &roots {
        fs::remove_dir(root.path().join("docker").join(ID)).unwrap();
    }
    assert_eq!((discovery.refresh(start, &NoEngine).removed, discovery.len()), (vec![id()], 2));
    assert_eq!(find_all(&trees).len(), 2);
}

#[test]
fn a_container_that_one_tree_has_lost_is_read_by_the_others() {
    let roots = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let trees = roots.each_ref().map(|root| Tree { path: root.path().to_owned(), version: Version::V1 });
    let mut discovery = Discovery::new(&trees, Path::new("/proc"), true, true);
    let start = Instant::now();
    for root in &roots {
        fs::create_dir(root.path().join(ID)).unwrap();
    }
    discovery.refresh(start, &NoEngine);
    fs::remove_dir(roots[0].path().join(ID)).unwrap();
    let changes = discovery.refresh(start, &NoEngine);
    assert_eq!((changes.removed, changes.added.len()), (vec![id()], 1), "its files are opened anew");
}

#[test]
fn a_container_that_comes_and_goes_between_two_scrapes_leaves_nothing() {
    let mut host = Host::new(true);
    host.refresh();
    for _ in 0..3 {
        host.make(ID);
        host.remove(ID);
    }
    assert!(host.added().is_empty());
    assert!(host.discovery.is_empty());
}

#[test]
fn a_restarted_container_is_removed_and_added() {
    for live in [true, false] {
        let mut host = Host::new(live);
        host.make(ID);
        host.refresh();
        // Made before the other one goes, so that the number of the directory differs as the kernel's do.
        host.make("spare");
        fs::rename(host.root.path().join(ID), host.root.path().join("gone")).unwrap();
        fs::rename(host.root.path().join("spare"), host.root.path().join(ID)).unwrap();
        let (added, removed) = host.refresh();
        assert_eq!((removed, added.len()), (vec![id()], 1), "live: {live}");
    }
}

#[test]
fn a_renamed_cgroup_has_its_new_path_and_is_watched_there() {
    let mut host = Host::new(true);
    host.make(&format!("before/{ID}"));
    host.refresh();
    fs::rename(host.root.path().join("before"), host.root.path().join("after")).unwrap();
    assert_eq!(host.refresh(), (vec![format!("/after/{ID}")], vec![id()]));
    host.make(&format!("after/{OTHER}"));
    host.make(&format!("after/{ID}/docker/{}", numbered(1)));
    assert_eq!(host.added().len(), 2);
}

#[test]
fn the_first_cgroup_below_a_container_is_found_by_events() {
    let mut host = Host::new(true);
    host.make(&format!("docker/{ID}"));
    host.refresh();
    let nested = format!("/docker/{ID}/docker/{OTHER}");
    host.make(nested.trim_start_matches('/'));
    assert_eq!(host.added(), std::slice::from_ref(&nested));
    // One more beside it, one below it, and so on.
    let mut deeper = nested;
    for number in 0..5 {
        let beside = format!("/docker/{ID}/docker/{}", numbered(number));
        deeper = format!("{deeper}/docker/{}", numbered(100 + number));
        host.make(beside.trim_start_matches('/'));
        host.make(deeper.trim_start_matches('/'));
        assert_eq!(host.added(), [beside.clone(), deeper.clone()]);
    }
    host.remove(deeper.trim_start_matches('/'));
    assert_eq!(host.refresh().1.len(), 1);
    assert_eq!(host.discovery.walked, Some(host.now));
}

#[test]
fn below_a_container_that_cannot_be_watched_every_refresh_looks() {
    let mut host = Host::new(true);
    host.discovery.watch.as_mut().unwrap().limit_on_containers(0);
    host.make(&format!("docker/{ID}"));
    host.refresh();
    host.make(&format!("docker/{ID}/docker/{OTHER}"));
    assert_eq!(host.added().len(), 1);
    host.make(&format!("docker/{ID}/docker/{}", numbered(1)));
    assert_eq!(host.added().len(), 1);
}

#[test]
fn a_copy_of_an_id_below_a_container_changes_nothing() {
    for live in [true, false] {
        let mut host = Host::new(live);
        host.make(&format!("docker/{ID}"));
        host.make(&format!("docker/{OTHER}"));
        host.refresh();
        let copies = [
            format!("docker/{OTHER}/docker/{ID}"),
            format!("docker/{OTHER}/docker/{OTHER}"),
            format!("docker/{OTHER}/{ID}"),
        ];
        for copy in &copies {
            host.make(copy);
        }
        assert_eq!(host.refresh(), (vec![], vec![]), "live: {live}");
        assert_eq!(host.discovery.refused(), (3, 0));
        host.remove(&copies[0]);
        assert_eq!(host.refresh(), (vec![], vec![]), "live: {live}");
        // The right one goes: without an engine the other may be one of Docker in Docker, and comes in its place at
        // once.
        host.remove(&format!("docker/{ID}"));
        let (added, removed) = host.refresh();
        assert_eq!((added, removed), (vec![format!("/{}", copies[2])], vec![id()]), "live: {live}");
        host.make(&format!("docker/{ID}"));
        assert_eq!(host.added(), [format!("/docker/{ID}")], "live: {live}");
    }
}

#[test]
fn a_container_that_the_reader_lost_and_that_is_there_comes_again() {
    let mut host = Host::new(true);
    host.make(ID);
    host.refresh();
    host.discovery.forget(id());
    assert_eq!(host.added(), [format!("/{ID}")]);
    host.discovery.forget(id());
    host.remove(ID);
    assert_eq!(host.refresh(), (vec![], vec![]));
}

#[test]
fn processes_in_a_child_of_the_scope_are_shown_there() {
    let mut host = Host::new(true);
    let scope = format!("machine.slice/libpod-{ID}.scope");
    host.make(&scope);
    assert_eq!(host.added(), [format!("/{scope}")]);
    host.make(&format!("{scope}/container"));
    fs::write(host.root.path().join(&scope).join("cgroup.procs"), "").unwrap();
    assert_eq!(host.refresh(), (vec![format!("/{scope}/container")], vec![id()]));
    host.make(&format!("{scope}/container/init.scope"));
    assert_eq!(host.refresh(), (vec![], vec![]));
    host.remove(&format!("{scope}/container/init.scope"));
    host.remove(&format!("{scope}/container"));
    assert_eq!(host.refresh(), (vec![format!("/{scope}")], vec![id()]));
}

#[test]
fn a_capture_is_walked_every_time() {
    let mut host = Host::new(false);
    host.refresh();
    host.make(ID);
    assert_eq!(host.added().len(), 1);
    host.remove(ID);
    assert_eq!(host.refresh().1, [id()]);
}

/// An id for each number.
fn numbered(number: u32) -> String {
    format!("{number:064x}")
}

#[test]
fn a_container_with_cgroups_without_end_costs_the_others_nothing() {
    let mut host = Host::new(true);
    let hostile = format!("docker/{ID}");
    for number in 0..2 * u32::try_from(BELOW_CONTAINER.directories).unwrap() {
        host.make(&format!("{hostile}/{number}"));
    }
    host.make(&format!("{hostile}{}", "/d".repeat(1000)));
    host.make(&format!("docker/{OTHER}"));
    let changes = host.discovery.refresh(host.now, &NoEngine);
    assert_eq!((changes.added.len(), changes.missed), (2, vec!["too_many"]));
    // It makes more and more, and is not read again before the next walk.
    host.make(&format!("{hostile}/more"));
    host.make(&format!("docker/{OTHER}/docker/{}", numbered(1)));
    let changes = host.discovery.refresh(host.now, &NoEngine);
    assert_eq!((changes.added.len(), changes.missed), (1, vec![]));
    let later = host.now + WALK_INTERVAL;
    assert_eq!(host.discovery.refresh(later, &NoEngine).missed, ["too_many"]);
    assert_eq!(host.discovery.len(), 3);
}

#[test]
fn a_burst_of_starts_and_ends_is_followed_without_a_walk() {
    let mut host = Host::new(true);
    host.make("docker");
    host.refresh();
    let (mut added, mut removed) = (0, 0);
    // Fifteen seconds of 200 starts and 100 ends each, a scrape after every second; and then one scrape for as many at
    // once.
    for (second, scrapes) in
        (0..15_u32).zip([true].into_iter().cycle()).chain((15..30).map(|second| (second, second == 29)))
    {
        for number in 200 * second..200 * (second + 1) {
            host.make(&format!("docker/{}", numbered(number)));
        }
        for number in 200 * second..200 * second + 100 {
            host.remove(&format!("docker/{}", numbered(number)));
        }
        if scrapes {
            let changes = host.refresh();
            (added, removed) = (added + changes.0.len(), removed + changes.1.len());
        }
    }
    assert_eq!((added, host.discovery.len()), (3000, 3000));
    assert!(removed <= 3000, "{removed}");
    assert_eq!(host.discovery.walks, 1);
}

#[test]
fn more_than_the_kernel_queues_is_one_walk_and_nothing_is_missing() {
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let Some(number) = queue.trim().parse::<u32>().ok().filter(|queue| *queue <= 20_000) else { return };
    let mut host = Host::new(true);
    host.refresh();
    // Two events each.
    for one in 0..number / 2 + 10 {
        host.make(&numbered(one));
        host.remove(&numbered(one));
    }
    host.make(ID);
    assert_eq!(host.added(), [format!("/{ID}")]);
    assert_eq!(host.discovery.walks, 2);
    assert!(host.added().is_empty());
}

#[test]
fn cgroups_that_are_named_are_followed_and_nothing_inside_a_container_is_one() {
    for live in [true, false] {
        let mut host = Host::new(live);
        host.discovery = std::mem::replace(&mut host.discovery, Discovery::new(&[], Path::new("/"), false, true))
            .with_others(super::CgroupFilter::new(&["/**"]).unwrap());
        let changes = |host: &mut Host| {
            host.added();
            let mut changes = host.discovery.take_other_changes();
            changes.added.sort_unstable();
            (changes.added, changes.removed)
        };
        host.make(&format!("system.slice/docker-{ID}.scope/init.scope/inner"));
        assert_eq!(changes(&mut host), (vec!["/system.slice".to_owned()], Vec::new()), "{live}");
        host.make(&format!("system.slice/docker-{ID}.scope/system.slice/ssh.service"));
        host.make("system.slice/ssh.service/below");
        let service = ["/system.slice/ssh.service", "/system.slice/ssh.service/below"].map(str::to_owned);
        assert_eq!(changes(&mut host), (service.to_vec(), Vec::new()), "{live}");
        host.remove("system.slice/ssh.service/below");
        assert_eq!(changes(&mut host), (Vec::new(), service[1..].to_vec()), "{live}");
        host.discovery.forget_other(&service[0]);
        assert_eq!(changes(&mut host).1, service[..1], "{live}");
    }
}
