//! The stats API: readings of many containers, for hosts whose cgroup tree cannot be read.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde_json::Value;
use tokio::time::timeout_at;

use super::doubts::Seen;
use super::json::text;
use super::session::Session;
use super::{Engine, Error};
use crate::discover::ContainerId;

/// Default number of containers that are read at a time.
pub const DEFAULT_CONCURRENCY: usize = 32;

/// Number of rounds in which many containers are read. Docker 20.10 answers even a one-shot reading only with its next
/// collection, up to a second later. So that a thousand containers fit into a scrape, more of them are read at a time.
const ROUNDS: usize = 4;
/// Maximum number of containers that are read at a time.
const MAX_CONCURRENCY: usize = 256;

/// Reads the statistics of containers.
#[derive(Debug)]
pub struct Stats {
    engine: Engine,
    concurrency: usize,
    /// Whether the failure of all readings has been logged.
    is_failure_logged: AtomicBool,
}

/// Results of one pass over the containers.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Docker's own JSON of each container, in the order of arrival.
    pub readings: Vec<(ContainerId, Value)>,
    /// Containers without values, because they do not run by the engine's answer.
    ended: Vec<ContainerId>,
    /// Number of containers whose reading failed. Those that have ended meanwhile are not counted.
    pub failed: usize,
    /// Number of containers that were not read in time.
    pub cut: usize,
}

impl Sweep {
    /// Returns whether every container that still runs was read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed == 0 && self.cut == 0
    }
}

/// Outcome of one reading.
enum Outcome {
    Read(Value),
    /// The container does not run any more.
    Ended,
    Failed(Error),
    /// The deadline has passed.
    Cut,
}

impl Stats {
    /// Returns a reader of `engine` that reads `concurrency` containers at a time; more if that took more than four
    /// rounds.
    #[must_use]
    pub fn new(engine: Engine, concurrency: usize) -> Self {
        engine.host().want();
        Self { engine, concurrency: concurrency.max(1), is_failure_logged: AtomicBool::new(false) }
    }

    /// Returns whether the engine creates cgroups as systemd units; false if unknown.
    #[must_use]
    pub fn uses_systemd(&self) -> bool {
        self.engine.host().uses_systemd()
    }

    /// Begins a pass that reads each container once, until `deadline` at the latest. If the engine does not answer
    /// ([`super::follow()`] has no session with it), all readings fail at once.
    #[must_use]
    pub fn begin(&self, ids: Vec<ContainerId>, deadline: Instant) -> Sweeping {
        let Some(session) = self.engine.session() else {
            let sweep = Sweep { failed: ids.len(), ..Sweep::default() };
            return Sweeping {
                outcomes: stream::empty().boxed(),
                pending: 0,
                has_read: false,
                first_error: None,
                sweep,
            };
        };
        let concurrency = self.concurrency.max(ids.len().div_ceil(ROUNDS).min(MAX_CONCURRENCY));
        let pending = ids.len();
        let calls = ids.into_iter().map(move |id| {
            let session = Arc::clone(&session);
            async move { (id, read(&session, id, deadline).await) }
        });
        let outcomes = stream::iter(calls).buffer_unordered(concurrency).boxed();
        Sweeping { outcomes, pending, has_read: false, first_error: None, sweep: Sweep::default() }
    }

    /// Ends a pass and returns its results. Pending readings count as cut.
    #[must_use]
    pub fn end(&self, sweeping: Sweeping) -> Sweep {
        let Sweeping { pending, has_read, first_error, mut sweep, .. } = sweeping;
        sweep.cut += pending;
        self.engine.doubts().raise(sweep.ended.iter().map(|id| (*id, Seen::Ended)));
        self.log(first_error.filter(|_| !has_read));
        sweep
    }

    /// Reads each container once, until `deadline` at the latest.
    #[cfg(test)]
    async fn sweep(&self, ids: &[ContainerId], deadline: Instant) -> Sweep {
        let mut sweeping = self.begin(ids.to_vec(), deadline);
        sweeping.advance(deadline + std::time::Duration::from_mins(1)).await;
        self.end(sweeping)
    }

    /// Logs why no container could be read: once, until a reading succeeds.
    fn log(&self, error: Option<Error>) {
        let is_logged = self.is_failure_logged.swap(error.is_some(), Ordering::Relaxed);
        if let Some(error) = error.filter(|_| !is_logged) {
            tracing::warn!(%error, "cannot read the engine's statistics: containers have no values; retrying at each scrape");
        }
    }
}

/// A pass over the containers. It makes progress while [`Sweeping::advance`] runs.
pub struct Sweeping {
    outcomes: BoxStream<'static, (ContainerId, Outcome)>,
    /// Number of containers whose outcome is not known yet.
    pending: usize,
    /// Whether any reading has succeeded.
    has_read: bool,
    /// The error of the first failed reading.
    first_error: Option<Error>,
    sweep: Sweep,
}

impl fmt::Debug for Sweeping {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pending, sweep, .. } = self;
        formatter.debug_struct("Sweeping").field("pending", pending).field("sweep", sweep).finish_non_exhaustive()
    }
}

impl Sweeping {
    /// Continues the pass until this time. Returns whether all outcomes are known.
    pub async fn advance(&mut self, until: Instant) -> bool {
        while let Ok(next) = timeout_at(until.into(), self.outcomes.next()).await {
            let Some((id, outcome)) = next else { return true };
            self.pending -= 1;
            match outcome {
                Outcome::Read(value) => {
                    self.has_read = true;
                    self.sweep.readings.push((id, value));
                }
                Outcome::Ended => self.sweep.ended.push(id),
                Outcome::Failed(error) => {
                    tracing::debug!(container = %id, %error, "no statistics");
                    self.sweep.failed += 1;
                    self.first_error.get_or_insert(error);
                }
                Outcome::Cut => self.sweep.cut += 1,
            }
        }
        false
    }

    /// Takes the readings since the last call.
    pub fn readings(&mut self) -> Vec<(ContainerId, Value)> {
        std::mem::take(&mut self.sweep.readings)
    }
}

/// Reads one container.
async fn read(session: &Session, id: ContainerId, deadline: Instant) -> Outcome {
    if Instant::now() >= deadline {
        return Outcome::Cut;
    }
    match timeout_at(deadline.into(), session.stats(id)).await {
        Ok(Ok(value)) if is_running(&value) => Outcome::Read(value),
        Ok(Ok(_)) => Outcome::Ended,
        // The container is gone, or does not run any more.
        Ok(Err(error)) if matches!(error.status(), Some(404 | 409)) => Outcome::Ended,
        Ok(Err(error)) => Outcome::Failed(error),
        Err(_) => {
            session.count_timeout("stats");
            Outcome::Cut
        }
    }
}

/// Returns whether an answer is of a running container, which has a process, and has used CPU time or memory. For a
/// container that does not run, Docker answers 200 with every counter 0, and the zero time of Go as the time of
/// reading.
fn is_running(stats: &Value) -> bool {
    let counts = |pointer: &&str| stats.pointer(pointer).and_then(Value::as_u64).is_some_and(|value| value > 0);
    !text(stats, "/read").starts_with("0001-01-01")
        && ["/cpu_stats/cpu_usage/total_usage", "/memory_stats/usage", "/pids_stats/current"].iter().any(counts)
}

#[cfg(test)]
mod tests;
