//! The stats API: one reading of many containers, for hosts whose cgroup tree we cannot read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::Value;
use tokio::time::timeout_at;

use super::doubts::Seen;
use super::json::text;
use super::session::Session;
use super::{Engine, Error};
use crate::discover::ContainerId;

/// Containers that are asked for at a time unless told otherwise.
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
    /// Whether every container that still exists was read.
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

    /// Whether the engine makes cgroups as units of systemd; false until it has said so.
    #[must_use]
    pub fn uses_systemd(&self) -> bool {
        self.engine.host().uses_systemd()
    }

    /// Reads each container once, until `deadline` at the latest. A slow container occupies one place among many;
    /// while the engine is down (nobody is connected, see [`super::follow`]) everything fails at once.
    pub async fn sweep(&self, ids: &[ContainerId], deadline: Instant) -> Sweep {
        let Some(session) = self.engine.session() else {
            return Sweep { failed: ids.len(), ..Sweep::default() };
        };
        let session = &session;
        let concurrency = self.concurrency.max(ids.len().div_ceil(ROUNDS).min(MAX_CONCURRENCY));
        let calls = ids.iter().map(|id| async move { (*id, read(session, *id, deadline).await) });
        let mut outcomes = stream::iter(calls).buffer_unordered(concurrency);
        let (mut sweep, mut why) = (Sweep::default(), None);
        while let Some((id, outcome)) = outcomes.next().await {
            match outcome {
                Outcome::Read(value) => sweep.readings.push((id, value)),
                Outcome::Ended => sweep.ended.push(id),
                Outcome::Failed(error) => {
                    tracing::debug!(container = %id, %error, "no statistics");
                    sweep.failed += 1;
                    why = why.or(Some(error));
                }
                Outcome::Cut => sweep.cut += 1,
            }
        }
        self.engine.doubts().raise(sweep.ended.iter().map(|id| (*id, Seen::Ended)));
        self.log(why.filter(|_| sweep.readings.is_empty()));
        sweep
    }

    /// Says once why there is no reading of any container, until there is one again.
    fn log(&self, why: Option<Error>) {
        let logged = self.logged.swap(why.is_some(), Ordering::Relaxed);
        if let Some(error) = why.filter(|_| !logged) {
            tracing::warn!(%error, "the engine gives no statistics: containers are shown without values; asking again at each scrape");
        }
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

/// Whether an answer has values. For a container that does not run, Docker answers 200 with every counter 0 and the
/// zero time of Go as the time of reading. A container that runs has a process, and has used CPU time or memory.
fn is_of_a_run(stats: &Value) -> bool {
    let counts = |pointer: &&str| stats.pointer(pointer).and_then(Value::as_u64).is_some_and(|value| value > 0);
    !text(stats, "/read").starts_with("0001-01-01")
        && ["/cpu_stats/cpu_usage/total_usage", "/memory_stats/usage", "/pids_stats/current"].iter().any(counts)
}

#[cfg(test)]
mod tests;
