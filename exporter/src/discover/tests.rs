//! Containers that come and go under a watched tree.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use super::{ContainerId, Discovery, Tree, Version, WALK_INTERVAL};

const ID: &str = "1f76d86fe81cab2d4cb40d8e3b49dd6ef508eb7fa80baf1e29566a42c1c923d5";

fn id() -> ContainerId {
    ContainerId::parse(ID.as_bytes()).unwrap()
}

fn discovery(root: &tempfile::TempDir, live: bool) -> Discovery {
    Discovery::new(&[Tree { path: root.path().to_owned(), version: Version::V2 }], live)
}

#[test]
fn a_container_under_a_new_parent_is_found_by_events_alone() {
    let root = tempfile::tempdir().unwrap();
    let mut discovery = discovery(&root, true);
    let start = Instant::now();
    assert!(discovery.refresh(start).added.is_empty());
    fs::create_dir_all(root.path().join("custom.slice").join(format!("docker-{ID}.scope"))).unwrap();
    let changes = discovery.refresh(start);
    assert_eq!(changes.added, [(id(), format!("/custom.slice/docker-{ID}.scope"))]);
    fs::remove_dir(root.path().join("custom.slice").join(format!("docker-{ID}.scope"))).unwrap();
    assert_eq!(discovery.refresh(start).removed, [id()]);
    assert!(discovery.is_empty());
}

#[test]
fn a_container_is_found_in_any_tree_and_once() {
    let roots = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let trees = roots.each_ref().map(|root| Tree { path: root.path().to_owned(), version: Version::V1 });
    let mut discovery = Discovery::new(&trees, true);
    let start = Instant::now();
    discovery.refresh(start);
    let other = ID.replace('1', "2");
    for (root, id) in [(0, ID), (1, ID), (1, &other)] {
        fs::create_dir_all(roots[root].path().join("docker").join(id)).unwrap();
    }
    let added: Vec<String> = discovery.refresh(start).added.into_iter().map(|(_, path)| path).collect();
    assert_eq!(added, [format!("/docker/{ID}"), format!("/docker/{other}")]);
    assert!(discovery.refresh(start + WALK_INTERVAL).added.is_empty());
    fs::remove_dir(roots[0].path().join("docker").join(ID)).unwrap();
    fs::remove_dir(roots[1].path().join("docker").join(ID)).unwrap();
    assert_eq!((discovery.refresh(start).removed, discovery.len()), (vec![id()], 1));
    assert_eq!(super::find_all(&trees).len(), 1);
}

#[test]
fn a_container_that_comes_and_goes_between_two_scrapes_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut discovery = discovery(&root, true);
    let start = Instant::now();
    discovery.refresh(start);
    let path = root.path().join(ID);
    for _ in 0..3 {
        fs::create_dir(&path).unwrap();
        fs::remove_dir(&path).unwrap();
    }
    assert!(discovery.refresh(start).added.is_empty());
    assert!(discovery.is_empty());
}

#[test]
fn a_restarted_container_is_removed_and_added() {
    let root = tempfile::tempdir().unwrap();
    let mut discovery = discovery(&root, true);
    let start = Instant::now();
    let path = root.path().join(ID);
    fs::create_dir(&path).unwrap();
    discovery.refresh(start);
    fs::remove_dir(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let changes = discovery.refresh(start);
    assert_eq!((changes.removed, changes.added.len()), (vec![id()], 1));
}

#[test]
fn what_events_miss_the_next_walk_heals() {
    let root = tempfile::tempdir().unwrap();
    let outer: PathBuf = root.path().join("docker").join(ID);
    fs::create_dir_all(&outer).unwrap();
    let mut discovery = discovery(&root, true);
    let start = Instant::now();
    discovery.refresh(start);
    let nested = outer.join("docker").join(ID.replace('1', "2"));
    fs::create_dir_all(nested).unwrap();
    assert_eq!(discovery.refresh(start).added.len(), 0, "a container's own directory is not watched");
    assert_eq!(discovery.refresh(start + WALK_INTERVAL).added.len(), 1);
}

#[test]
fn a_capture_is_walked_every_time() {
    let root = tempfile::tempdir().unwrap();
    let mut discovery = discovery(&root, false);
    let start = Instant::now();
    discovery.refresh(start);
    fs::create_dir(root.path().join(ID)).unwrap();
    assert_eq!(discovery.refresh(start).added.len(), 1);
    fs::remove_dir(root.path().join(ID)).unwrap();
    assert_eq!(discovery.refresh(start).removed, [id()]);
}

/// An id for each number.
fn numbered(number: u32) -> String {
    format!("{number:064x}")
}

#[test]
fn a_burst_of_starts_and_ends_is_followed_without_a_walk() {
    let root = tempfile::tempdir().unwrap();
    let parent = root.path().join("docker");
    fs::create_dir(&parent).unwrap();
    fs::create_dir(parent.join(ID)).unwrap();
    let mut discovery = discovery(&root, true);
    let start = Instant::now();
    assert_eq!(discovery.refresh(start).added.len(), 1);
    // Only a walk would find it again, as nothing is told of it any more.
    discovery.forget(id());
    let (mut added, mut removed) = (0, 0);
    // Fifteen seconds of 200 starts and 100 ends each, a scrape after every second; and then one scrape for as many at once.
    for (second, scrapes) in
        (0..15_u32).zip([true].into_iter().cycle()).chain((15..30).map(|second| (second, second == 29)))
    {
        for number in 200 * second..200 * (second + 1) {
            fs::create_dir(parent.join(numbered(number))).unwrap();
        }
        for number in 200 * second..200 * second + 100 {
            fs::remove_dir(parent.join(numbered(number))).unwrap();
        }
        if scrapes {
            let changes = discovery.refresh(start);
            (added, removed) = (added + changes.added.len(), removed + changes.removed.len());
        }
    }
    assert_eq!((added, discovery.len()), (3000, 3000));
    assert!(removed <= 3000, "{removed}");
    assert_eq!(discovery.walked, Some(start));
    assert!(!discovery.containers.contains_key(&id()), "a walk has found what nothing was told of");
}

#[test]
fn more_than_the_kernel_queues_is_one_walk_and_nothing_is_missing() {
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let Some(number) = queue.trim().parse::<u32>().ok().filter(|queue| *queue <= 20_000) else { return };
    let root = tempfile::tempdir().unwrap();
    let mut discovery = discovery(&root, true);
    let start = Instant::now();
    discovery.refresh(start);
    // Two events each.
    for one in 0..number / 2 + 10 {
        fs::create_dir(root.path().join(numbered(one))).unwrap();
        fs::remove_dir(root.path().join(numbered(one))).unwrap();
    }
    fs::create_dir(root.path().join(ID)).unwrap();
    assert_eq!(discovery.refresh(start).added, [(id(), format!("/{ID}"))]);
    assert!(discovery.refresh(start).added.is_empty());
}
