//! Checks passwords against stored hashes.
//!
//! A cache answers for passwords that were compared before. All others are compared by threads of their own, which serve
//! clients in turn. A client without a right password can neither evict a right one from the cache, nor delay a scrape, nor
//! take unlimited memory.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::oneshot::{Receiver, Sender, channel};
use tokio::time::timeout;

use super::lock;
use super::users::{Credentials, StoredHash, Users};

/// Maximum time that a request waits for its password to be compared.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Number of wrong passwords that are cached.
const MAX_WRONG: usize = 1024;
/// Maximum number of waiting jobs.
const MAX_JOBS: usize = 32;
/// Maximum number of waiting jobs of one client.
const MAX_JOBS_PER_CLIENT: usize = 2;
/// Maximum number of requests that wait for one job, above the limit of connections.
const MAX_WAITERS: usize = 8192;
/// Maximum time that a job waits to begin.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Number of slots for addresses whose last password was wrong.
const MAX_SUSPECTS: usize = 4096;
/// Niceness of the threads, so that scrapes come first.
const NICENESS: i32 = 10;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// User and password are right.
    Pass,
    /// The request has no user and password, or wrong ones.
    Wrong,
    /// Too many passwords wait to be compared.
    Busy,
}

/// Checks passwords.
#[derive(Debug)]
pub(super) struct Passwords {
    cache: Arc<Cache>,
    quick: HashThread,
    /// Compares hashes that take seconds, which would delay the others.
    slow: HashThread,
    /// Selects the hash that an unknown user's password is compared with.
    name_hasher: RandomState,
}

impl Passwords {
    /// Returns none if the kernel gives no random numbers.
    pub(super) fn new() -> Option<Self> {
        let cache = Arc::new(Cache::new()?);
        let thread = |name| HashThread::new(name, Arc::clone(&cache));
        let (quick, slow) = (thread("passwords"), thread("slow-passwords"));
        Some(Self { cache, quick, slow, name_hasher: RandomState::new() })
    }

    /// Checks the `Authorization` header of a request.
    pub(super) async fn check(&self, users: &Users, authorization: Option<&[u8]>, client: IpAddr) -> Verdict {
        let Some(Credentials { user, password }) = authorization.and_then(Credentials::parse) else {
            return Verdict::Wrong;
        };
        let Some((name, hash)) = users.find(&user, self.name_hasher.hash_one(&user)) else { return Verdict::Wrong };
        let digest = self.cache.digest(&user, hash, &password);
        // Both lookups always happen, so that the time of the answer does not depend on the first one.
        let (is_right, is_wrong) = (self.cache.is_right(name.unwrap_or_default(), digest), self.cache.is_wrong(digest));
        match (name, is_right, is_wrong) {
            (Some(_), true, _) => return Verdict::Pass,
            (_, _, true) => return Verdict::Wrong,
            _ => {}
        }
        let thread = if hash.is_slow() { &self.slow } else { &self.quick };
        let job = Job::new(digest, client, name.map(str::to_owned), hash.clone(), password);
        let Some(answer) = thread.submit(job) else { return Verdict::Busy };
        match timeout(TIMEOUT, answer).await {
            Ok(Ok(true)) => Verdict::Pass,
            Ok(Ok(false)) => Verdict::Wrong,
            // The job was dropped, or takes too long. The cache may have its result for a later request.
            _ => Verdict::Busy,
        }
    }

    /// Removes the passwords of users that no longer exist from the cache.
    pub(super) fn retain(&self, users: &Users) {
        self.cache.retain(users);
    }
}

/// A bounded cache of passwords that were compared before. It has keyed digests and not the passwords.
#[derive(Debug)]
struct Cache {
    key: hmac::Key,
    /// The digest of the last right password of each user.
    right: Mutex<HashMap<String, u128>>,
    /// The digests of wrong passwords, each in the slot that the digest selects.
    wrong: Mutex<Box<[u128]>>,
}

impl Cache {
    /// Returns none if the kernel gives no random numbers.
    fn new() -> Option<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
        Some(Self { key, right: Mutex::default(), wrong: Mutex::new(vec![0; MAX_WRONG].into_boxed_slice()) })
    }

    /// Returns a digest of user, stored hash and password. It includes their lengths, so that the parts cannot run into each
    /// other (CVE-2022-46146).
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

    /// Stores a result. An unknown user has no name, and any password of it is wrong.
    fn record(&self, name: Option<&str>, digest: u128, is_right: bool) {
        if let Some(name) = name.filter(|_| is_right) {
            lock(&self.right).insert(name.to_owned(), digest);
        } else if let Some(slot) = lock(&self.wrong).get_mut(slot(digest)) {
            *slot = digest;
        }
    }

    /// Removes the passwords of users that no longer exist.
    fn retain(&self, users: &Users) {
        lock(&self.right).retain(|name, _| users.contains(name));
    }
}

fn slot(digest: u128) -> usize {
    usize::try_from(digest % MAX_WRONG as u128).unwrap_or(0)
}

/// One password to compare.
struct Job {
    digest: u128,
    client: IpAddr,
    user: Option<String>,
    hash: StoredHash,
    password: Vec<u8>,
    /// When the job was queued.
    since: Instant,
    /// The requests that wait for the result.
    waiters: Vec<Sender<bool>>,
}

impl Job {
    /// Returns a job without waiting requests. `user` is none for an unknown user.
    fn new(digest: u128, client: IpAddr, user: Option<String>, hash: StoredHash, password: Vec<u8>) -> Self {
        Self { digest, client, user, hash, password, since: Instant::now(), waiters: Vec::new() }
    }
}

/// A thread that compares passwords with hashes, and its queue. The thread starts with the first job.
///
/// Clients whose last password was wrong are served last. A client has at most two waiting jobs. A full queue refuses a new
/// job, unless it can replace that of a client whose last password was wrong.
#[derive(Debug)]
struct HashThread {
    name: &'static str,
    cache: Arc<Cache>,
    shared: Arc<Shared>,
    /// Whether the thread has started; unset before the first job.
    is_started: OnceLock<bool>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Notified when the queue has a new job.
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Digest of the running job, and the requests that joined it.
    current: Option<(u128, Vec<Sender<bool>>)>,
    last_client: Option<IpAddr>,
    suspects: Suspects,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passwords", self.jobs.len())
    }
}

impl HashThread {
    fn new(name: &'static str, cache: Arc<Cache>) -> Self {
        Self { name, cache, shared: Arc::default(), is_started: OnceLock::new() }
    }

    /// Queues a job, or joins an equal one. Returns none if the queue is full.
    fn submit(&self, job: Job) -> Option<Receiver<bool>> {
        if !*self.is_started.get_or_init(|| self.start()) {
            return None;
        }
        let receiver = lock(&self.shared.queue).submit(job)?;
        self.shared.filled.notify_one();
        Some(receiver)
    }

    fn start(&self) -> bool {
        let (shared, cache) = (Arc::clone(&self.shared), Arc::clone(&self.cache));
        let thread = thread::Builder::new().name(self.name.to_owned());
        let started = thread.spawn(move || work(&shared, &cache));
        if let Err(error) = &started {
            tracing::error!(%error, "cannot start the password thread: requests with new passwords are refused");
        }
        started.is_ok()
    }
}

/// Compares the passwords of the queue, as long as the process runs.
fn work(shared: &Shared, cache: &Cache) {
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "cannot lower the priority of the password thread");
    }
    loop {
        let mut queue = lock(&shared.queue);
        let job = loop {
            match queue.take(Instant::now()) {
                Some(job) => break job,
                None => queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(queue);
        let is_right = job.hash.is_of(&job.password) && job.user.is_some();
        cache.record(job.user.as_deref(), job.digest, is_right);
        let late = lock(&shared.queue).finish(job.client, is_right);
        for waiter in job.waiters.into_iter().chain(late) {
            // The client may have disconnected.
            waiter.send(is_right).unwrap_or_default();
        }
    }
}

impl Queue {
    fn submit(&mut self, mut job: Job) -> Option<Receiver<bool>> {
        let (sender, receiver) = channel();
        let same = self.jobs.iter_mut().find(|other| other.digest == job.digest).map(|other| &mut other.waiters);
        let current = self.current.as_mut().filter(|(digest, _)| *digest == job.digest).map(|(_, waiters)| waiters);
        if let Some(waiters) = current.or(same) {
            return (waiters.len() < MAX_WAITERS).then(|| {
                waiters.push(sender);
                receiver
            });
        }
        if self.jobs.iter().filter(|other| other.client == job.client).count() >= MAX_JOBS_PER_CLIENT {
            return None;
        }
        if self.jobs.len() >= MAX_JOBS {
            let suspects = &self.suspects;
            let is_preferred = !suspects.has(job.client);
            let last = self.jobs.iter().rposition(|other| suspects.has(other.client)).filter(|_| is_preferred)?;
            self.jobs.remove(last);
        }
        job.waiters.push(sender);
        self.jobs.push_back(job);
        Some(receiver)
    }

    /// Returns the next job. Clients whose last password was wrong come last, and no client is served twice in a row while
    /// another one of its rank waits.
    fn take(&mut self, now: Instant) -> Option<Job> {
        self.jobs.retain(|job| now.saturating_duration_since(job.since) < MAX_WAIT);
        let rank = |job: &Job| (self.suspects.has(job.client), self.last_client == Some(job.client));
        let (next, _) = self.jobs.iter().enumerate().min_by_key(|(index, job)| (rank(job), *index))?;
        let job = self.jobs.remove(next)?;
        self.current = Some((job.digest, Vec::new()));
        self.last_client = Some(job.client);
        Some(job)
    }

    /// Records the result of the running job. Returns the requests that joined it.
    fn finish(&mut self, client: IpAddr, is_right: bool) -> Vec<Sender<bool>> {
        self.suspects.record(client, is_right);
        self.current.take().map(|(_, waiters)| waiters).unwrap_or_default()
    }
}

/// The clients whose last password was wrong: keyed hashes of their addresses, each in the slot that it selects.
#[derive(Default)]
struct Suspects {
    slots: Vec<u64>,
    state: RandomState,
}

impl Suspects {
    fn digest(&self, client: IpAddr) -> (usize, u64) {
        // Digests are odd, as 0 is an empty slot.
        let digest = self.state.hash_one(client) | 1;
        (usize::try_from(digest >> 1).unwrap_or(0) % MAX_SUSPECTS, digest)
    }

    fn has(&self, client: IpAddr) -> bool {
        let (slot, digest) = self.digest(client);
        self.slots.get(slot) == Some(&digest)
    }

    fn record(&mut self, client: IpAddr, is_right: bool) {
        self.slots.resize(MAX_SUSPECTS, 0);
        let (slot, digest) = self.digest(client);
        if let Some(slot) = self.slots.get_mut(slot) {
            match (is_right, *slot == digest) {
                (false, _) => *slot = digest,
                (true, true) => *slot = 0,
                (true, false) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
