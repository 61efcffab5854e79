//! Layers over several passes. The test plays the walker.

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use super::*;

/// Returns the requests that the walker has received: the ticket of each, and whether it is a first walk.
fn received(socket: &OwnedFd) -> Vec<(u64, bool)> {
    let (mut found, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok((_, length)) = recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
        let mut rest = &buffer[..length];
        while let Some((ticket, [is_first, 1, low, high, path @ ..])) = rest.split_first_chunk::<8>() {
            found.push((u64::from_le_bytes(*ticket), *is_first == 1));
            rest = &path[u16::from_le_bytes([*low, *high]).into()..];
        }
        assert!(rest.is_empty(), "requests of one path");
    }
    found
}

fn answer(socket: &OwnedFd, bytes: u64) {
    for (ticket, _) in received(socket) {
        let message = [&[1, 0][..], &ticket.to_le_bytes(), &bytes.to_le_bytes()].concat();
        send(socket, &message, SendFlags::empty()).unwrap();
    }
}

fn pair() -> (Walker, OwnedFd) {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    (Walker::of(ours, 0), theirs)
}

fn layers() -> (LayerSizes, OwnedFd) {
    let (walker, theirs) = pair();
    (LayerSizes::new(Some(walker), SelfMetrics::new().unwrap()), theirs)
}

fn disk(layer: &str, is_confirmed: bool) -> ContainerDisk {
    ContainerDisk::of_layer(layer.into(), is_confirmed)
}

/// Makes a pass over containers with these generations. Returns the sizes that are exposed.
fn pass(layers: &mut LayerSizes, containers: &[(u64, &ContainerDisk)], now: Instant) -> Vec<Option<u64>> {
    layers.receive(now);
    for (generation, disk) in containers {
        layers.refresh(*generation, disk, now).map(drop).unwrap_or_default();
    }
    layers.send();
    layers.finish(containers.iter().copied(), now);
    containers.iter().map(|(generation, disk)| layers.known(*generation, disk)).collect()
}

#[test]
fn a_restarted_container_has_its_figure_and_is_not_walked_as_a_new_one() {
    let (mut layers, walker) = layers();
    let (now, disk) = (Instant::now(), disk("/d/overlay2/ab/diff", true));
    assert_eq!(pass(&mut layers, &[(1, &disk)], now), [None]);
    answer(&walker, 77);
    for generation in 2..20 {
        assert_eq!(pass(&mut layers, &[(generation, &disk)], now), [Some(77)]);
    }
    assert_eq!(received(&walker), [], "nothing is due");
    pass(&mut layers, &[(20, &disk)], now + REFRESH);
    assert!(matches!(received(&walker)[..], [(_, false)]));
}

#[test]
fn an_ended_container_leaves_no_request_and_no_age() {
    let (mut layers, walker) = layers();
    let now = Instant::now();
    let one = disk("/d/overlay2/one/diff", true);
    pass(&mut layers, &[(1, &one)], now);
    answer(&walker, 5);
    pass(&mut layers, &[(1, &one)], now);
    let oldest = |layers: &LayerSizes| {
        let families = layers.self_metrics.gather();
        let family = families.iter().find(|family| family.name().ends_with("disk_oldest_measurement_seconds"))?;
        family.get_metric().first().map(|metric| metric.get_gauge().get_value().to_string())
    };
    assert_eq!(oldest(&layers).as_deref(), Some("0"));
    let later = now + Duration::from_hours(1);
    pass(&mut layers, &[(2, &disk("/d/overlay2/two/diff", true))], later);
    assert_eq!(oldest(&layers), None, "the first one has ended");
    for number in 3..60 {
        pass(&mut layers, &[(number, &disk(&format!("/d/overlay2/{number}/diff"), true))], later);
    }
    assert!(layers.pending.len() <= 10 && layers.layers.len() <= 10, "{} are asked for", layers.pending.len());
}

#[test]
fn a_pass_that_is_cut_asks_for_nothing_twice() {
    let (mut layers, walker) = layers();
    let (now, disk) = (Instant::now(), disk("/d/overlay2/ab/diff", true));
    for _ in 0..5 {
        assert_eq!(layers.refresh(1, &disk, now), Ok(()));
        assert_eq!(layers.known(1, &disk), None);
    }
    pass(&mut layers, &[(1, &disk)], now);
    assert_eq!(received(&walker).len(), 1);
}

#[test]
fn a_layer_that_two_containers_name_is_that_of_the_one_that_the_host_confirms() {
    let (mut layers, walker) = layers();
    let now = Instant::now();
    let (own, claimed) = (disk("/d/overlay2/ab/diff", true), disk("/d/overlay2/ab/diff", false));
    pass(&mut layers, &[(1, &claimed), (2, &own)], now);
    answer(&walker, 9);
    assert_eq!(pass(&mut layers, &[(1, &claimed), (2, &own)], now), [None, Some(9)]);
    assert_eq!(pass(&mut layers, &[(2, &own), (1, &claimed)], now), [Some(9), None]);
}

#[test]
fn a_layer_that_two_containers_name_and_the_host_does_not_is_nobody_s() {
    let (mut layers, walker) = layers();
    let (now, rootless) = (Instant::now(), disk("/h/overlay/cd/diff", false));
    pass(&mut layers, &[(3, &rootless)], now);
    answer(&walker, 4);
    assert_eq!(pass(&mut layers, &[(3, &rootless)], now), [Some(4)]);
    for _ in 0..2 {
        assert_eq!(pass(&mut layers, &[(3, &rootless), (4, &rootless)], now), [None, None]);
    }
    let counted = layers.self_metrics.read_errors.with_label_values(&["layer", "disputed"]).get();
    assert_eq!(counted, 1, "once while it lasts");
    assert_eq!(layers.refresh(3, &rootless, now), Err(NoSize::Disputed), "no mount is missing");
    assert_eq!(pass(&mut layers, &[(3, &rootless)], now), [Some(4)], "the other one has ended");
}

#[test]
fn a_container_that_a_scrape_does_not_select_still_claims_its_layer() {
    let (mut layers, walker) = layers();
    let (now, rootless) = (Instant::now(), disk("/h/overlay/cd/diff", false));
    pass(&mut layers, &[(3, &rootless), (4, &rootless)], now);
    answer(&walker, 4);
    for selected in [4, 4, 3, 3] {
        layers.receive(now);
        assert_eq!(layers.refresh(selected, &rootless, now), Err(NoSize::Disputed));
        layers.finish([(3, &rootless), (4, &rootless)].into_iter(), now);
        assert_eq!(layers.known(selected, &rootless), None);
    }
}

#[test]
fn paths_that_cannot_be_sent_are_answered_at_once_and_take_no_room() {
    let (mut layers, walker) = layers();
    let long = disk(&format!("/d/overlay2/{}/diff", "x".repeat(40_000)), true);
    assert_eq!(layers.refresh(1, &long, Instant::now()), Err(NoSize::NoPath));
    layers.send();
    assert!(layers.pending.is_empty() && received(&walker).is_empty());
}

#[test]
fn a_reader_that_follows_another_one_knows_the_worker() {
    let (walker, theirs) = pair();
    let self_metrics = SelfMetrics::new().unwrap();
    let began = [&[0, 0][..], &7_u64.to_le_bytes(), &0_u64.to_le_bytes()].concat();
    send(&theirs, &began, SendFlags::empty()).unwrap();
    LayerSizes::new(Some(walker.clone()), self_metrics.clone()).receive(Instant::now());
    let next = LayerSizes::new(Some(walker), self_metrics);
    assert_eq!(next.worker.map(|worker| worker.pid), Some(7));
}

#[test]
fn a_process_of_another_name_is_not_the_walker_s() {
    assert!(stat(std::process::id()).is_none());
}
