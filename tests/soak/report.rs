//! What was counted, and the table at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::say;

/// So many of each kind of finding are printed; all are counted.
const PRINTED: usize = 10;
/// How much more memory than once it was warm an exporter may have at the end, in percent.
const GROWTH: u64 = 110;
/// Descriptors come with containers and clients, of which there are more at one moment than at another.
const DESCRIPTORS: u64 = 200;
/// What a shorter time says of growth depends on how fast the machine is.
const LONG: Duration = Duration::from_mins(15);

/// What a process holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    resident_kib: u64,
    descriptors: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(Self {
            resident_kib: resident.trim().trim_end_matches(" kB").parse().with_context(|| resident.to_owned())?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
        })
    }
}

#[derive(Default)]
struct State {
    scrapes: Vec<Duration>,
    failed: usize,
    foreign: usize,
    falls: usize,
    checked: usize,
    operations: usize,
    refused: usize,
    restarts: BTreeMap<&'static str, usize>,
    warm: Usage,
    end: Usage,
    time: Duration,
    elapsed: Duration,
}

/// The counts.
#[derive(Default)]
pub(crate) struct Report(Mutex<State>);

impl Report {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn scraped(&self, time: Duration) {
        self.state().scrapes.push(time);
    }

    pub(crate) fn failed(&self, what: &str) {
        count(&mut self.state().failed, "failed", what);
    }

    pub(crate) fn foreign(&self, what: &str) {
        count(&mut self.state().foreign, "foreign", what);
    }

    pub(crate) fn fell(&self, what: &str) {
        count(&mut self.state().falls, "fall", what);
    }

    pub(crate) fn checked(&self, counters: usize) {
        self.state().checked += counters;
    }

    /// One of the operations on containers, and whether it was done: an engine that is killed refuses some.
    pub(crate) fn operated(&self, outcome: Result<()>) {
        let mut state = self.state();
        state.operations += 1;
        if let Err(error) = outcome {
            count(&mut state.refused, "refused", &format!("{error:#}"));
        }
    }

    pub(crate) fn restarted(&self, what: &'static str) {
        *self.state().restarts.entry(what).or_default() += 1;
    }

    /// A part of the soak that ended before its time has failed.
    pub(crate) fn note(&self, what: &str, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.failed(&format!("{what}: {error:#}"));
        }
    }

    pub(crate) fn warm(&self, usage: Usage) {
        self.state().warm = usage;
    }

    pub(crate) fn end(&self, usage: Usage) {
        self.state().end = usage;
    }

    pub(crate) fn finish(&self, time: Duration, elapsed: Duration) {
        let mut state = self.state();
        (state.time, state.elapsed) = (time, elapsed);
        state.scrapes.sort_unstable();
    }

    pub(crate) fn is_good(&self) -> bool {
        let state = self.state();
        let failures = state.failed + state.foreign + state.falls;
        failures == 0 && !state.scrapes.is_empty() && state.checked > 0 && state.grows_little()
    }

    /// In Markdown, as `docs/OVERHEAD.md` shows it.
    pub(crate) fn table(&self) -> String {
        let state = self.state();
        let milliseconds = |part: usize| {
            let last = state.scrapes.len().saturating_sub(1);
            let time = state.scrapes.get(last * part / 100).copied().unwrap_or_default();
            format!("{:.1} ms", time.as_secs_f64() * 1e3)
        };
        let restarts = |what| state.restarts.get(what).copied().unwrap_or(0);
        let (warm, end) = (state.warm, state.end);
        let percent = (end.resident_kib * 100).checked_div(warm.resident_kib).unwrap_or_default();
        let rows = [
            ("time", format!("{} s", state.elapsed.as_secs())),
            ("scrapes, failed", format!("{}, {}", state.scrapes.len(), state.failed)),
            ("scrape p50, p99, max", format!("{}, {}, {}", milliseconds(50), milliseconds(99), milliseconds(100))),
            ("counters checked, falls", format!("{}, {}", state.checked, state.falls)),
            ("foreign values", state.foreign.to_string()),
            ("operations on containers, refused", format!("{}, {}", state.operations, state.refused)),
            ("restarts of the exporter, of the engine", format!("{}, {}", restarts("exporter"), restarts("engine"))),
            (
                "resident, warm and at the end",
                format!("{} KiB, {} KiB ({percent} %)", warm.resident_kib, end.resident_kib),
            ),
            ("descriptors, warm and at the end", format!("{}, {}", warm.descriptors, end.descriptors)),
        ];
        let mut table = "| soak | |\n|---|---|\n".to_owned();
        for (what, figure) in rows {
            // A string takes all that it is given.
            writeln!(table, "| {what} | {figure} |").unwrap_or_default();
        }
        table
    }
}

impl State {
    fn grows_little(&self) -> bool {
        let (warm, end) = (self.warm, self.end);
        self.time < LONG
            || (end.resident_kib * 100 <= warm.resident_kib * GROWTH
                && end.descriptors * 100 <= warm.descriptors * DESCRIPTORS)
    }
}

fn count(counter: &mut usize, kind: &str, what: &str) {
    *counter += 1;
    if *counter <= PRINTED {
        say(&format!("{kind}: {what:.600}"));
    }
}
