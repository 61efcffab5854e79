//! Tests of the container store: snapshots, lingering, generations, interest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{ContainerStore, Interest, MAX_CONTAINERS, Stored};
use crate::discover::ContainerId;
use crate::name::{ContainerInfo, Moment, State};

fn id(number: usize) -> ContainerId {
    ContainerId::parse(format!("{number:064x}").as_bytes()).unwrap()
}

fn running(number: usize) -> ContainerInfo {
    ContainerInfo {
        name: format!("c{number}"),
        state: State::Running,
        pid: Some(7),
        ..ContainerInfo::unknown(id(number))
    }
}

fn store() -> ContainerStore {
    ContainerStore::new(Duration::from_nanos(100))
}

fn moment(start: Instant, nanoseconds: u64) -> Moment {
    Moment { wall_ns: 5, at: start + Duration::from_nanos(nanoseconds) }
}

#[test]
fn only_a_real_change_makes_a_new_generation() {
    let store = store();
    assert_eq!(store.upsert(running(1)), Stored::Changed);
    let first = store.names();
    assert_eq!(store.upsert(running(1)), Stored::Same);
    assert!(!store.change(id(1), |info| info.state = State::Running));
    assert!(!store.change(id(2), |info| info.state = State::Paused), "an unknown container stays unknown");
    assert!(Arc::ptr_eq(&first, &store.names()), "nothing was copied");

    assert!(store.change(id(1), |info| info.name = "renamed".to_owned()));
    assert!(store.names().generation > first.generation);
    assert_eq!(first.containers[&id(1)].name, "c1", "a snapshot never changes");
    assert_eq!(store.names().containers[&id(1)].name, "renamed");
}

#[test]
fn a_removed_container_lingers_and_is_then_forgotten() {
    let (store, start) = (store(), Instant::now());
    store.upsert(running(1));
    store.upsert(ContainerInfo { state: State::Removing, exit_code: Some(3), ..running(2) });
    store.upsert(ContainerInfo { state: State::Exited, ..running(3) });
    assert!(store.remove(id(1), moment(start, 1_000)));
    assert!(store.remove(id(2), moment(start, 1_050)));
    assert!(!store.remove(id(2), moment(start, 2_000)), "the first word on the removal stays");

    let names = store.names();
    assert_eq!((names.containers[&id(1)].state, names.containers[&id(1)].pid), (State::Removing, None));
    assert_eq!((names.containers[&id(2)].state, names.containers[&id(2)].exit_code), (State::Exited, Some(3)));

    assert_eq!(store.prune(moment(start, 1_099).at), []);
    assert_eq!(store.prune(moment(start, 1_100).at), [id(1)]);
    assert_eq!(store.prune(moment(start, 9_999).at), [id(2)]);
    assert_eq!(store.names().containers.len(), 1, "what still exists stays for good");
}

#[test]
fn the_number_of_containers_is_bounded_and_the_gone_make_room() {
    let (store, start) = (store(), Instant::now());
    for number in 0..MAX_CONTAINERS {
        store.upsert(running(number));
    }
    assert_eq!(store.upsert(running(MAX_CONTAINERS)), Stored::Full);
    assert_eq!(store.upsert(ContainerInfo { pid: None, ..running(5) }), Stored::Changed, "known ones still change");
    store.remove(id(8), moment(start, 20));
    store.remove(id(9), moment(start, 10));
    assert_eq!(store.upsert(running(MAX_CONTAINERS)), Stored::Changed);
    let names = store.names();
    assert_eq!(names.containers.len(), MAX_CONTAINERS);
    assert!(names.containers.contains_key(&id(8)) && !names.containers.contains_key(&id(9)));
}

#[test]
fn updates_are_told_once() {
    let store = store();
    store.mark_updated(id(1));
    store.mark_updated(id(1));
    assert_eq!(store.take_updated(), [id(1)]);
    assert_eq!(store.take_updated(), []);
}

#[test]
fn interest_lasts_from_scrape_to_scrape_and_ends_without() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut interest = Interest::new(start);
    assert!(interest.lasts(at(29)) && !interest.lasts(at(30)));
    interest.scraped(at(60));
    assert!(interest.lasts(at(179)) && !interest.lasts(at(180)), "a minute between scrapes, twice");
    // A second scraper directly after the first shortens nothing.
    interest.scraped(at(61));
    assert!(interest.lasts(at(179)));
    interest.scraped(at(86_400));
    assert!(interest.lasts(at(86_400 + 299)) && !interest.lasts(at(86_400 + 300)));
}
