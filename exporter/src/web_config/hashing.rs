//! The thread that compares passwords with hashes, and the order in which it serves clients.
//!
//! Clients whose last password was wrong come last, no client has more than two waiting jobs, and above 32 jobs new
//! ones are refused, or replace one of a client that was wrong.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot::{Receiver, Sender, channel};

use super::password_cache::{PasswordCache, lock};
use super::users::StoredHash;

/// Maximum number of waiting jobs.
const MAX_JOBS: usize = 32;
/// Maximum number of waiting jobs of one address.
const MAX_JOBS_PER_CLIENT: usize = 2;
/// Maximum number of requests that wait for one job. The limit of connections is below it.
const MAX_WAITERS: usize = 8192;
/// Maximum time that a job waits to begin.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Number of slots for addresses whose last password was wrong.
const MAX_SUSPECTS: usize = 4096;
/// Niceness of the thread, below scrapes.
const NICENESS: i32 = 10;

/// One password to compare.
pub(super) struct Job {
    digest: u128,
    client: IpAddr,
    user: Option<String>,
    hash: StoredHash,
    password: Vec<u8>,
    since: Instant,
    waiters: Vec<Sender<bool>>,
}

impl Job {
    /// `user` is none for one that does not exist.
    pub(super) fn new(digest: u128, client: IpAddr, user: Option<String>, hash: StoredHash, password: Vec<u8>) -> Self {
        Self { digest, client, user, hash, password, since: Instant::now(), waiters: Vec::new() }
    }
}

/// A queue and its thread, which starts with the first job.
#[derive(Debug)]
pub(super) struct Hashing {
    name: &'static str,
    cache: Arc<PasswordCache>,
    shared: Arc<Shared>,
    is_started: OnceLock<bool>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
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

impl Hashing {
    pub(super) fn new(name: &'static str, cache: Arc<PasswordCache>) -> Self {
        Self { name, cache, shared: Arc::default(), is_started: OnceLock::new() }
    }

    /// Queues a job, or joins an equal one. Returns none if the queue is full.
    pub(super) fn submit(&self, job: Job) -> Option<Receiver<bool>> {
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

/// Runs as long as the process.
fn work(shared: &Shared, cache: &PasswordCache) {
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

    /// Returns the next job: clients that were not wrong lately come first, and the same client is not served twice if
    /// another waits.
    fn take(&mut self, now: Instant) -> Option<Job> {
        self.jobs.retain(|job| now.saturating_duration_since(job.since) < MAX_WAIT);
        let rank = |job: &Job| (self.suspects.has(job.client), self.last_client == Some(job.client));
        let (next, _) = self.jobs.iter().enumerate().min_by_key(|(index, job)| (rank(job), *index))?;
        let job = self.jobs.remove(next)?;
        self.current = Some((job.digest, Vec::new()));
        self.last_client = Some(job.client);
        Some(job)
    }

    fn finish(&mut self, client: IpAddr, is_right: bool) -> Vec<Sender<bool>> {
        self.suspects.record(client, is_right);
        self.current.take().map(|(_, waiters)| waiters).unwrap_or_default()
    }
}

/// Addresses whose last password was wrong, one per slot.
#[derive(Default)]
struct Suspects {
    slots: Vec<u64>,
    state: RandomState,
}

impl Suspects {
    fn digest(&self, client: IpAddr) -> (usize, u64) {
        // 0 is an empty slot.
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
mod tests {
    use std::collections::HashSet;

    use super::*;

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
        // Two addresses of one slot would forget each other.
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
}
