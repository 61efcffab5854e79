//! A bounded cache of passwords that were compared before: keyed digests, never the passwords.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ring::hmac;
use ring::rand::SystemRandom;

use super::users::{StoredHash, Users};

/// Wrong passwords that are cached.
const MAX_WRONG: usize = 1024;

/// Keyed digests of the passwords that were compared before.
#[derive(Debug)]
pub(super) struct PasswordCache {
    key: hmac::Key,
    /// The last right password of each user.
    right: Mutex<HashMap<String, u128>>,
    /// Wrong passwords, each in the slot that its digest selects.
    wrong: Mutex<Box<[u128]>>,
}

impl PasswordCache {
    /// Returns none where the kernel has no random numbers.
    pub(super) fn new() -> Option<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
        Some(Self { key, right: Mutex::default(), wrong: Mutex::new(vec![0; MAX_WRONG].into_boxed_slice()) })
    }

    /// Returns a digest of user, stored hash and password. Their lengths go in, so that no two combinations are alike.
    pub(super) fn digest(&self, user: &[u8], hash: &StoredHash, password: &[u8]) -> u128 {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user, hash.text().as_bytes(), password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        tag.as_ref().first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes))
    }

    pub(super) fn is_right(&self, name: &str, digest: u128) -> bool {
        lock(&self.right).get(name) == Some(&digest)
    }

    pub(super) fn is_wrong(&self, digest: u128) -> bool {
        lock(&self.wrong).get(slot(digest)) == Some(&digest)
    }

    /// Stores a result. An unknown user has no name, and is wrong with any password.
    pub(super) fn record(&self, name: Option<&str>, digest: u128, is_right: bool) {
        if let Some(name) = name.filter(|_| is_right) {
            lock(&self.right).insert(name.to_owned(), digest);
        } else if let Some(slot) = lock(&self.wrong).get_mut(slot(digest)) {
            *slot = digest;
        }
    }

    /// Removes the passwords of users that no longer exist.
    pub(super) fn retain(&self, users: &Users) {
        lock(&self.right).retain(|name, _| users.knows(name));
    }
}

fn slot(digest: u128) -> usize {
    usize::try_from(digest % MAX_WRONG as u128).unwrap_or(0)
}

/// Locks a mutex. No code panics while it holds one of these locks.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
