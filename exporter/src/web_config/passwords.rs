//! Checks passwords: by the cache of those that were compared before, else on threads of their own.
//!
//! A client without a right password can neither evict a right one from the cache, nor delay a scrape, nor take memory without
//! bound.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::hashing::{Hashing, Job};
use super::password_cache::PasswordCache;
use super::users::{Credentials, Users};

/// How long a request waits for its password to be compared.
const PATIENCE: Duration = Duration::from_secs(10);

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// User and password are right.
    Pass,
    /// The request has no user and password, or wrong ones.
    Wrong,
    /// Too many passwords wait to be compared.
    Busy,
}

/// Compares passwords.
#[derive(Debug)]
pub(super) struct Passwords {
    cache: Arc<PasswordCache>,
    quick: Hashing,
    /// For hashes that take seconds, which would delay the others.
    slow: Hashing,
    draw: RandomState,
}

impl Passwords {
    /// Returns none where the kernel has no random numbers.
    pub(super) fn new() -> Option<Self> {
        let cache = Arc::new(PasswordCache::new()?);
        let hashing = |name| Hashing::new(name, Arc::clone(&cache));
        Some(Self { quick: hashing("passwords"), slow: hashing("slow-passwords"), draw: RandomState::new(), cache })
    }

    /// Checks the `Authorization` header of a request.
    pub(super) async fn check(&self, users: &Users, authorization: Option<&[u8]>, client: IpAddr) -> Verdict {
        let Some(Credentials { user, password }) = authorization.and_then(Credentials::parse) else {
            return Verdict::Wrong;
        };
        let Some((name, hash)) = users.find(&user, self.draw.hash_one(&user)) else { return Verdict::Wrong };
        let digest = self.cache.digest(&user, hash, &password);
        // Both lookups always happen, so that the time of the answer reveals nothing.
        let (is_right, is_wrong) = (self.cache.is_right(name.unwrap_or_default(), digest), self.cache.is_wrong(digest));
        match (name, is_right, is_wrong) {
            (Some(_), true, _) => return Verdict::Pass,
            (_, _, true) => return Verdict::Wrong,
            _ => {}
        }
        let hashing = if hash.is_slow() { &self.slow } else { &self.quick };
        let job = Job::new(digest, client, name.map(str::to_owned), hash.clone(), password);
        let Some(answer) = hashing.submit(job) else { return Verdict::Busy };
        match timeout(PATIENCE, answer).await {
            Ok(Ok(true)) => Verdict::Pass,
            Ok(Ok(false)) => Verdict::Wrong,
            // Dropped, or too late: the cache has the result for the next request.
            _ => Verdict::Busy,
        }
    }

    /// Removes the passwords of users that no longer exist from the cache.
    pub(super) fn retain(&self, users: &Users) {
        self.cache.retain(users);
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::web_config::users::StoredHash;

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

    /// CVE-2022-46146: parts that run into each other must not be another user's.
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
        // Each address is known for a wrong one.
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
}
