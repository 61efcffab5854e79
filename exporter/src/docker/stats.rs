//! The stats API: one reading of many containers, for hosts whose cgroup tree we cannot read.

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

/// Containers that are asked for at a time by default.
pub const DEFAULT_CONCURRENCY: usize = 32;

/// Docker 20.10 answers even a one-shot reading only with its next collection, up to a second later. So that a thousand containers still fit into a scrape, more are asked for at a time when there are many: as many
/// as make this number of rounds, but never more than [`MAX_CONCURRENCY`].
const ROUNDS: usize = 4;
const MAX_CONCURRENCY: usize = 256;

/// Reads the statistics of containers.
#[derive(Debug)]
pub struct Stats {
    engine: Engine,
    concurrency: usize,
    /// Whether it has been logged why there are none.
    logged: AtomicBool,
}

/// What one pass over the containers brought.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Docker's own JSON per container, integers exact, in the order of arrival.
    pub readings: Vec<(ContainerId, Value)>,
    /// Containers that do not run, by the engine's answer: they have no values.
    ended: Vec<ContainerId>,
    /// Containers whose reading failed or took too long. One that had ended meanwhile is not among them.
    pub failed: usize,
    /// Containers that were not read any more because the time was up.
    pub cut: usize,
}

impl Sweep {
    /// Returns whether every container that still exists was read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed == 0 && self.cut == 0
    }
}

enum Outcome {
    Read(Value),
    Ended,
    Failed(Error),
    Cut,
}

impl Stats {
    /// Reads through `engine`, `concurrency` containers at a time; more where that would take more than four rounds.
    #[must_use]
    pub fn new(engine: Engine, concurrency: usize) -> Self {
        engine.host().want();
        Self { engine, concurrency: concurrency.max(1), logged: AtomicBool::new(false) }
    }

    /// Returns whether the engine creates cgroups as systemd units; false if unknown.
    #[must_use]
    pub fn uses_systemd(&self) -> bool {
        self.engine.host().uses_systemd()
    }

    /// Begins to read each container once, until `deadline` at the latest. A slow container occupies one place among many;
    /// while the engine is down (nobody is connected, see [`super::follow()`]) everything fails at once.
    #[must_use]
    pub fn begin(&self, ids: Vec<ContainerId>, deadline: Instant) -> Sweeping {
        let Some(session) = self.engine.session() else {
            let sweep = Sweep { failed: ids.len(), ..Sweep::default() };
            return Sweeping { outcomes: stream::empty().boxed(), pending: 0, has_read: false, why: None, sweep };
        };
        let concurrency = self.concurrency.max(ids.len().div_ceil(ROUNDS).min(MAX_CONCURRENCY));
        let pending = ids.len();
        let calls = ids.into_iter().map(move |id| {
            let session = Arc::clone(&session);
            async move { (id, read(&session, id, deadline).await) }
        });
        let outcomes = stream::iter(calls).buffer_unordered(concurrency).boxed();
        Sweeping { outcomes, pending, has_read: false, why: None, sweep: Sweep::default() }
    }

    /// Ends a pass. What is not known by now is cut.
    #[must_use]
    pub fn end(&self, sweeping: Sweeping) -> Sweep {
        let Sweeping { pending, has_read, why, mut sweep, .. } = sweeping;
        sweep.cut += pending;
        self.engine.doubts().raise(sweep.ended.iter().map(|id| (*id, Seen::Ended)));
        self.log(why.filter(|_| !has_read));
        sweep
    }

    /// Reads each container once, until `deadline` at the latest.
    #[cfg(test)]
    async fn sweep(&self, ids: &[ContainerId], deadline: Instant) -> Sweep {
        let mut sweeping = self.begin(ids.to_vec(), deadline);
        sweeping.advance(deadline + std::time::Duration::from_mins(1)).await;
        self.end(sweeping)
    }

    /// Says once why there is no reading of any container, until there is one again.
    fn log(&self, why: Option<Error>) {
        let logged = self.logged.swap(why.is_some(), Ordering::Relaxed);
        if let Some(error) = why.filter(|_| !logged) {
            tracing::warn!(%error, "cannot read the engine's statistics: containers have no values; retrying at each scrape");
        }
    }
}

/// A pass over the containers that is under way. It goes on while it is advanced.
pub struct Sweeping {
    outcomes: BoxStream<'static, (ContainerId, Outcome)>,
    /// Containers whose outcome is not known yet.
    pending: usize,
    has_read: bool,
    /// Why the first one failed.
    why: Option<Error>,
    sweep: Sweep,
}

impl fmt::Debug for Sweeping {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pending, sweep, .. } = self;
        formatter.debug_struct("Sweeping").field("pending", pending).field("sweep", sweep).finish_non_exhaustive()
    }
}

impl Sweeping {
    /// Goes on until this moment. Returns whether all outcomes are known.
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
                    self.why.get_or_insert(error);
                }
                Outcome::Cut => self.sweep.cut += 1,
            }
        }
        false
    }

    /// Takes what has been read since the last time.
    pub fn readings(&mut self) -> Vec<(ContainerId, Value)> {
        std::mem::take(&mut self.sweep.readings)
    }
}

async fn read(session: &Session, id: ContainerId, deadline: Instant) -> Outcome {
    if Instant::now() >= deadline {
        return Outcome::Cut;
    }
    match timeout_at(deadline.into(), session.stats(id)).await {
        Ok(Ok(value)) if is_of_a_run(&value) => Outcome::Read(value),
        Ok(Ok(_)) => Outcome::Ended,
        // Gone, or not running any more.
        Ok(Err(error)) if matches!(error.status(), Some(404 | 409)) => Outcome::Ended,
        Ok(Err(error)) => Outcome::Failed(error),
        Err(_) => {
            session.count_timeout("stats");
            Outcome::Cut
        }
    }
}

/// Returns whether an answer has values. For a container that does not run, Docker answers 200 with every counter 0 and
/// the zero time of Go as the time of reading. A container that runs has a process, and has used CPU time or memory.
fn is_of_a_run(stats: &Value) -> bool {
    let counts = |pointer: &&str| stats.pointer(pointer).and_then(Value::as_u64).is_some_and(|value| value > 0);
    !text(stats, "/read").starts_with("0001-01-01")
        && ["/cpu_stats/cpu_usage/total_usage", "/memory_stats/usage", "/pids_stats/current"].iter().any(counts)
}

#[cfg(test)]
mod tests;
