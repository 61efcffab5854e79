//! Medians and percentiles of measured series, and cells of Markdown tables.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::target::Scrape;

/// Scrapes and rounds before the measurement, in which files are opened and buffers grow.
pub(super) const WARM_UP: usize = 3;
/// Interval between scrapes, as Prometheus has it.
pub(super) const PACE: Duration = Duration::from_secs(15);

/// A measured series in three numbers, all in the unit of the series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    pub(super) least: f64,
    pub(super) median: f64,
    /// The 99th percentile: of a hundred values, the second largest.
    pub(super) p99: f64,
}

impl Figures {
    pub(super) fn of(values: &[u64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let index = sorted.len().saturating_sub(1) * percent / 100;
            sorted.get(index).copied().map_or(f64::NAN, float)
        };
        Self { least: at(0), median: at(50), p99: at(99) }
    }
}

/// Scrapes of one kind, in nanoseconds.
#[derive(Debug)]
pub(super) struct Scrapes {
    pub(super) cpu: Figures,
    pub(super) wall: Figures,
    /// Duration of all collectors; 0 for compressed bodies.
    pub(super) collected: Figures,
    pub(super) bytes: usize,
    pub(super) samples: usize,
}

impl Scrapes {
    pub(super) fn of(scrapes: &[Scrape]) -> Self {
        let figures = |of: fn(&Scrape) -> u64| Figures::of(&scrapes.iter().map(of).collect::<Vec<_>>());
        let last = scrapes.last();
        Self {
            cpu: figures(|scrape| scrape.cpu_ns),
            wall: figures(|scrape| scrape.wall_ns),
            collected: figures(|scrape| scrape.collected_ns),
            bytes: last.map_or(0, |scrape| scrape.bytes),
            samples: last.map_or(0, |scrape| scrape.samples),
        }
    }
}

/// Returns the CPU time of this thread in nanoseconds.
pub(super) fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)).unwrap_or_default()
}

/// Returns the CPU time per second over one [`PACE`], in nanoseconds.
pub(super) fn per_second(before: u64, now: u64) -> u64 {
    now.saturating_sub(before) / PACE.as_secs()
}

/// Converts a measured number.
#[expect(clippy::cast_precision_loss, reason = "no figure of ours has 2^52 units")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

/// Formats nanoseconds of CPU time per second.
pub(super) fn share(idle: u64) -> String {
    format!("{:.4} % of a core", float(idle) / 1e7)
}

pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", float(bytes) / 1024.0 / 1024.0)
}

pub(super) fn megabytes(bytes: usize) -> String {
    format!("{:.2} MB", float(bytes as u64) / 1e6)
}

pub(super) fn milliseconds(nanoseconds: f64) -> String {
    format!("{:.2} ms", nanoseconds / 1e6)
}

/// Returns the title and the head of a table of numbers.
pub(super) fn head(title: &str, columns: &[&str]) -> String {
    let rule = columns.iter().map(|_| "---:").collect::<Vec<_>>().join("|");
    format!("**{title}**\n\n| {} |\n|{rule}|\n", columns.join(" | "))
}

/// Returns a line of a table.
pub(super) fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::Figures;

    #[test]
    fn the_middle_and_the_ends_of_a_series() {
        let values: Vec<u64> = (1..=101).rev().collect();
        assert_eq!(Figures::of(&values), Figures { least: 1.0, median: 51.0, p99: 100.0 });
        assert!(Figures::of(&[]).median.is_nan());
    }
}
