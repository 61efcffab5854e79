//! Tests of right and wrong passwords, of floods, and of the order in which clients are served.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn users() -> Users {
    let mut users = Users::default();
    for (name, password) in [("alice", "a"), ("dave", "d")] {
        users.add(name, StoredHash::parse(&bcrypt::hash(password, 4).unwrap()).unwrap());
    }
    users
}

async fn check(passwords: &Passwords, users: &Users, given: &str, client: u8) -> Verdict {
    let header = format!("Basic {}", STANDARD.encode(given));
    passwords.check(users, Some(header.as_bytes()), IpAddr::from([127, 0, 0, client])).await
}

#[tokio::test]
async fn right_ones_pass_and_all_others_do_not() {
    let (passwords, users) = (Passwords::new().unwrap(), users());
    for _cold_and_known in 0..2 {
        assert_eq!(check(&passwords, &users, "alice:a", 1).await, Verdict::Pass);
        for given in ["alice:d", "alice:", "nobody:a", ":a", "Alice:a", "alice"] {
            assert_eq!(check(&passwords, &users, given, 1).await, Verdict::Wrong, "{given}");
        }
    }
    assert_eq!(passwords.check(&users, None, IpAddr::from([127, 0, 0, 1])).await, Verdict::Wrong);
}

/// A cache without the lengths of the parts could take one user's password for another's (CVE-2022-46146).
#[tokio::test]
async fn a_name_with_a_hash_in_it_poisons_nothing() {
    let (passwords, users) = (Passwords::new().unwrap(), users());
    let (_, hash) = users.find(b"alice", 0).unwrap();
    let hash = hash.text().to_owned();
    assert_eq!(check(&passwords, &users, &format!("alice{hash}:x"), 1).await, Verdict::Wrong);
    assert_eq!(check(&passwords, &users, &format!("alice:{hash}x"), 1).await, Verdict::Wrong);
}

#[tokio::test]
async fn a_flood_of_wrong_ones_evicts_no_right_one_and_a_new_client_still_gets_in() {
    let (passwords, users) = (Arc::new(Passwords::new().unwrap()), Arc::new(users()));
    assert_eq!(check(&passwords, &users, "alice:a", 1).await, Verdict::Pass);
    // The last password of each address is wrong.
    for client in 100..150 {
        assert_eq!(check(&passwords, &users, &format!("alice:first {client}"), client).await, Verdict::Wrong);
    }
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..2000_u32 {
        let (passwords, users) = (Arc::clone(&passwords), Arc::clone(&users));
        let client = 100 + u8::try_from(number % 50).unwrap();
        flood.spawn(async move { check(&passwords, &users, &format!("dave:{number}"), client).await });
    }
    tokio::task::yield_now().await;
    assert_eq!(check(&passwords, &users, "alice:a", 1).await, Verdict::Pass);
    assert_eq!(check(&passwords, &users, "dave:d", 2).await, Verdict::Pass);
    let verdicts = flood.join_all().await;
    assert!(verdicts.contains(&Verdict::Busy) && !verdicts.contains(&Verdict::Pass));
}

#[tokio::test]
async fn crowds_with_one_password_are_one_comparison() {
    let (passwords, users) = (Arc::new(Passwords::new().unwrap()), Arc::new(users()));
    let mut crowd = tokio::task::JoinSet::new();
    for number in 0..600 {
        let (passwords, users) = (Arc::clone(&passwords), Arc::clone(&users));
        let given = if number % 2 == 0 { "alice:a" } else { "alice:b" };
        crowd.spawn(async move { (given == "alice:a", check(&passwords, &users, given, 1).await) });
    }
    for (is_right, verdict) in crowd.join_all().await {
        assert_eq!(verdict, if is_right { Verdict::Pass } else { Verdict::Wrong });
    }
}

fn job(digest: u128, client: u8) -> Job {
    let hash = StoredHash::parse("$2y$04$WUBWOvqVKBQDbY9KIKLvEOZpIWM/PJGgXWyrMAlnpVVdgZfgWGDrO").unwrap();
    Job::new(digest, IpAddr::from([10, 0, 0, client]), None, hash, Vec::new())
}

fn order(queue: &mut Queue) -> Vec<u128> {
    let now = Instant::now();
    std::iter::from_fn(|| queue.take(now).map(|job| job.digest)).collect()
}

#[test]
fn clients_are_served_in_turn_and_none_has_more_than_two_waiting() {
    let mut queue = Queue::default();
    let taken: Vec<bool> =
        [(1, 1), (2, 1), (3, 1), (4, 2)].map(|(digest, client)| queue.submit(job(digest, client)).is_some()).into();
    assert_eq!(taken, [true, true, false, true]);
    assert_eq!(order(&mut queue), [1, 4, 2]);
}

#[test]
fn who_was_wrong_comes_last_and_gives_way_when_all_places_are_taken() {
    let mut queue = Queue::default();
    // Two addresses in one slot would replace each other.
    let mut slots = HashSet::new();
    let mut clients =
        (0..=u8::MAX).filter(|client| slots.insert(queue.suspects.digest(IpAddr::from([10, 0, 0, *client])).0));
    let wrong: Vec<u8> = clients.by_ref().take(33).collect();
    let honest = clients.next().unwrap();
    let (late, early) = wrong.split_last().unwrap();
    for &client in early {
        queue.finish(IpAddr::from([10, 0, 0, client]), false);
        assert!(queue.submit(job(client.into(), client)).is_some());
    }
    let waits = queue.submit(job(honest.into(), honest)).unwrap();
    queue.finish(IpAddr::from([10, 0, 0, *late]), false);
    assert!(queue.submit(job((*late).into(), *late)).is_none());
    let order = order(&mut queue);
    let last = u128::from(*early.last().unwrap());
    assert_eq!((order.len(), order[0], order.contains(&last)), (32, honest.into(), false));
    drop(waits);
}

#[test]
fn nobody_waits_longer_than_ten_seconds() {
    let mut queue = Queue::default();
    let mut waits = queue.submit(job(1, 1)).unwrap();
    assert!(queue.take(Instant::now() + MAX_WAIT).is_none());
    assert!(waits.try_recv().is_err_and(|error| error == tokio::sync::oneshot::error::TryRecvError::Closed));
}
