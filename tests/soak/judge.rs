//! Judges scrapes: against the kernel's files, the ledger, and the scrapes before.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use exporter_tests::exposition::{Exposition, Format, Sample};
use exporter_tests::{Exporter, judges};

use crate::Soak;
use crate::ledger::{Known, Verdict};

const CPU: &str = "container_cpu_usage_seconds_total";
/// Every so many scrapes the judges of the formats get one, too.
const JUDGED: u32 = 15;
/// Counted by programs of the exporter, or by the exporter itself: they begin anew with it.
const BEGIN_ANEW: [&str; 5] = [
    "container_ebpf_",
    "container_blkio_",
    "container_tcp_retransmits",
    "container_runqueue_",
    "container_oom_events_total",
];
/// So do these where block I/O has a tree of cgroup v1, which counts only some.
const BEGIN_ANEW_ON_V1: &str = "container_fs_";
/// Labels that change with a rename.
const CHANGING: [&str; 2] = ["name", "image"];

/// A counter that was seen.
struct Seen {
    value: f64,
    text: String,
    /// Of the container, and of the exporter where the counter begins anew with it.
    lives: (u64, u32),
}

/// What one observer has seen so far.
#[derive(Default)]
pub(crate) struct Judge {
    turn: u32,
    /// CPU time by the kernel's files before the scrape before, by life.
    usages: HashMap<u64, f64>,
    counters: HashMap<String, Seen>,
}

/// A container that lived before a scrape and after it, with the kernel's figures of its CPU time.
struct Still {
    known: Arc<Known>,
    /// From before the scrape before: a scrape shares a collection that is under way, which may have begun before this one
    /// was asked for, but not before the last one was answered. None where the container is younger.
    least: Option<f64>,
    most: f64,
}

impl Judge {
    /// Scrapes once and judges; `life` is the exporter's.
    pub(crate) fn scrape(&mut self, soak: &Soak, exporter: &Exporter, life: u32) {
        self.turn += 1;
        let living = soak.ledger.living();
        let usages = living.iter().filter_map(|known| Some((known.life, known.kernel.cpu_seconds().ok()?))).collect();
        let before = std::mem::replace(&mut self.usages, usages);
        let started = Instant::now();
        let exposition = take(exporter, self.turn);
        soak.report.scraped(started.elapsed());
        match exposition {
            Ok(exposition) => {
                let still: Vec<Still> = living
                    .into_iter()
                    .filter_map(|known| {
                        let (least, most) = (before.get(&known.life).copied(), known.kernel.cpu_seconds().ok()?);
                        soak.ledger.lives(known.life).then_some(Still { known, least, most })
                    })
                    .collect();
                self.judge(soak, &exposition, &still, life);
            }
            Err(error) => soak.report.failed(&format!("a scrape of exporter {life}: {error:#}")),
        }
    }

    fn judge(&mut self, soak: &Soak, exposition: &Exposition, still: &[Still], life: u32) {
        let mut series: HashMap<&str, Vec<&Sample>> = HashMap::new();
        for sample in exposition.samples() {
            series.entry(sample.label("id")).or_default().push(sample);
        }
        for (path, samples) in series.iter().filter(|(path, _)| path.len() > 1) {
            for sample in samples {
                let verdict = soak.ledger.verdict(path, sample.label("name"));
                if verdict != Verdict::Right {
                    soak.report.foreign(&format!("{verdict:?}: {} of {:?}", sample.name, sample.labels));
                }
            }
        }
        for still in still {
            let path = still.known.path.as_str();
            let samples = series.get(path).map(Vec::as_slice).unwrap_or_default();
            if let Err(error) = still.compare(samples) {
                soak.report.foreign(&format!("exporter {life}, {path}: {error:#}"));
            }
        }
        let lives = still.iter().map(|Still { known, .. }| (known.path.as_str(), known.life)).collect();
        self.compare_counters(soak, exposition, &lives, life);
    }

    fn compare_counters(&mut self, soak: &Soak, exposition: &Exposition, lives: &HashMap<&str, u64>, life: u32) {
        let mut checked = 0;
        let is_v1 = Path::new("/sys/fs/cgroup/blkio").exists();
        for family in
            exposition.families.iter().filter(|family| matches!(family.kind.as_str(), "counter" | "histogram"))
        {
            for sample in &family.samples {
                let container = match sample.label("id") {
                    "/" => 0,
                    path => match lives.get(path) {
                        Some(container) => *container,
                        None => continue,
                    },
                };
                let begins_anew = BEGIN_ANEW.iter().any(|name| sample.name.starts_with(name))
                    || is_v1 && sample.name.starts_with(BEGIN_ANEW_ON_V1);
                let lives = (container, if begins_anew { life } else { 0 });
                let seen = Seen { value: sample.value, text: sample.text.clone(), lives };
                let Some(earlier) = self.counters.insert(key(sample), seen) else { continue };
                if earlier.lives != lives {
                    continue;
                }
                checked += 1;
                if sample.value < earlier.value {
                    let (name, labels) = (&sample.name, &sample.labels);
                    soak.report.fell(&format!("{name} from {} to {} of {labels:?}", earlier.text, sample.text));
                }
            }
        }
        soak.report.checked(checked);
        // What has ended is forgotten.
        self.counters.retain(|_, seen| seen.lives.0 == 0 || soak.ledger.lives(seen.lives.0));
    }
}

fn take(exporter: &Exporter, turn: u32) -> Result<Exposition> {
    let format = if turn.is_multiple_of(2) { Format::OpenMetrics } else { Format::Text };
    let exposition = exporter.scrape_unjudged("/metrics", format)?;
    if turn.is_multiple_of(JUDGED) {
        judges::judge(&exposition, format)?;
    }
    Ok(exposition)
}

impl Still {
    /// Whether the series of the container are there, once, and with its own values.
    fn compare(&self, samples: &[&Sample]) -> Result<()> {
        let of = |name: &str| samples.iter().copied().filter(|sample| sample.name == name).collect::<Vec<_>>();
        let usages = of(CPU);
        if usages.is_empty() && self.least.is_none() {
            return Ok(());
        }
        let [usage] = usages.as_slice() else { bail!("{} series {CPU}: {usages:?}", usages.len()) };
        let (least, most) = (self.least.unwrap_or(0.0), self.most);
        // The decimals are exact; the comparison's own f64 are not.
        let own = least - 1e-6..=most + 1e-6;
        ensure!(own.contains(&usage.value), "{CPU} is {}, by the kernel {least} to {most}", usage.text);
        for limit in of("container_threads_max") {
            let (limit, own): (u64, _) = (limit.text.parse().with_context(|| limit.text.clone())?, self.known.limit);
            // It is set a moment after the cgroup was made.
            ensure!(limit == own || limit == 0, "container_threads_max is {limit}, not {own}");
        }
        Ok(())
    }
}

fn key(sample: &Sample) -> String {
    let labels = sample.labels.iter().filter(|(name, _)| !CHANGING.contains(&name.as_str()));
    let labels = labels.filter(|(name, _)| !name.starts_with("container_label_"));
    labels.fold(sample.name.clone(), |key, (name, value)| key + "\0" + name + "\0" + value)
}
