//! Whether a password is right: what was compared before is remembered, the rest is compared on threads of its own.
//!
//! Nothing that somebody without a password sends can evict a right one, make a scrape wait, or grow without bound.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::hmac;
use ring::rand::SystemRandom;
use tokio::time::timeout;

use super::hashing::{Hashing, Job};
use super::users::{Credentials, StoredHash, Users};

/// How long a request waits for its password to be compared.
const PATIENCE: Duration = Duration::from_secs(10);
/// Wrong passwords that are remembered.
const WRONG: usize = 1024;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass.
    Pass,
    /// It has no user and password, or wrong ones.
    Wrong,
    /// Too many passwords are waiting to be compared.
    Busy,
}

/// Compares passwords.
#[derive(Debug)]
pub(super) struct Passwords {
    known: Arc<Known>,
    quick: Hashing,
    /// For hashes that take seconds: they would be in the way of the others.
    slow: Hashing,
    draw: RandomState,
}

/// What was compared before. Holds no passwords, only keyed digests of them.
#[derive(Debug)]
pub(super) struct Known {
    key: hmac::Key,
    /// The last right password of each user.
    right: Mutex<HashMap<String, u128>>,
    /// Wrong ones, each in the place that its digest says.
    wrong: Mutex<Box<[u128]>>,
}

impl Passwords {
    /// Returns none where the kernel has no random numbers.
    pub(super) fn new() -> Option<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
        let wrong = Mutex::new(vec![0; WRONG].into_boxed_slice());
        let known = Arc::new(Known { key, right: Mutex::default(), wrong });
        let hashing = |name| Hashing::new(name, Arc::clone(&known));
        Some(Self { quick: hashing("passwords"), slow: hashing("slow-passwords"), draw: RandomState::new(), known })
    }

    /// Decides by the `Authorization` header of a request.
    pub(super) async fn check(&self, users: &Users, authorization: Option<&[u8]>, client: IpAddr) -> Verdict {
        let Some(Credentials { user, password }) = authorization.and_then(Credentials::parse) else {
            return Verdict::Wrong;
        };
        let Some((name, hash)) = users.find(&user, self.draw.hash_one(&user)) else { return Verdict::Wrong };
        let digest = self.known.digest(&user, hash, &password);
        // Both are always looked up, so that the time tells nothing.
        let (is_right, is_wrong) = (self.known.is_right(name.unwrap_or_default(), digest), self.known.is_wrong(digest));
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
            // Dropped, or too late: the result will be known the next time.
            _ => Verdict::Busy,
        }
    }

    /// Forgets the passwords of users that are no longer there.
    pub(super) fn retain(&self, users: &Users) {
        lock(&self.known.right).retain(|name, _| users.knows(name));
    }
}

impl Known {
    /// A digest of user, stored hash and password, whose lengths keep them apart.
    fn digest(&self, user: &[u8], hash: &StoredHash, password: &[u8]) -> u128 {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user, hash.text().as_bytes(), password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        tag.as_ref().first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes))
    }

    fn is_right(&self, name: &str, digest: u128) -> bool {
        lock(&self.right).get(name) == Some(&digest)
    }

    fn is_wrong(&self, digest: u128) -> bool {
        lock(&self.wrong).get(slot(digest)) == Some(&digest)
    }

    /// Remembers what was compared. An unknown user has no name, and is wrong with any password.
    pub(super) fn record(&self, name: Option<&str>, digest: u128, is_right: bool) {
        if let Some(name) = name.filter(|_| is_right) {
            lock(&self.right).insert(name.to_owned(), digest);
        } else if let Some(slot) = lock(&self.wrong).get_mut(slot(digest)) {
            *slot = digest;
        }
    }
}

fn slot(digest: u128) -> usize {
    usize::try_from(digest % WRONG as u128).unwrap_or(0)
}

/// No code panics while it holds one of these locks.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
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
