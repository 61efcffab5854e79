//! `--restarts N`: counters over the restarts of the exporter, which reads them in another manner each time. Containers under CPU
//! limits fork without end, which is where the kernel's split of CPU time into user and system time moves most.

use std::fs;
use std::thread::scope;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use exporter_tests::bare::BareContainers;
use exporter_tests::kernel::Kernel;
use exporter_tests::{Exporter, wait};
use rustix::process::Signal;

use crate::Soak;
use crate::judge::Judge;
use crate::ledger::Known;

const CONTAINERS: usize = 20;
/// Microseconds of a CPU that each of them gets of each tenth of a second.
const QUOTA: u32 = 5_000;
const PERIOD: u32 = 100_000;
/// Judged scrapes of an exporter between its start and its end.
const SCRAPES: u32 = 3;
/// What each exporter is told, in turns: who reads a counter changes with it.
const READERS: [&[&str]; 3] = [&[], &["--read.snapshot=off"], &["--ebpf=off"]];
/// Processes that end at once, and such that spend time in the kernel, as long as a file is there.
const STORM: &str =
    "while [ -e \"$0\" ]; do for i in 1 2 3 4 5 6 7 8; do (:) & done; head -c 100000 /dev/zero >/dev/null; wait; done";
/// How long a limit takes to be felt.
const PATIENCE: Duration = Duration::from_mins(1);

/// Starts and ends so many exporters, every other one by a signal that it can't handle.
pub(crate) fn run(soak: &Soak, restarts: u32) -> Result<()> {
    let containers = BareContainers::make(CONTAINERS)?;
    let mut kernels = Vec::new();
    for id in &containers.ids {
        let kernel = containers.kernel(id)?;
        limit(&kernel)?;
        let (life, path) = (soak.ledger.next(), containers.path(id));
        soak.ledger.add(Known { life, id: id.clone(), path, kernel, limit: 0 });
        kernels.push(containers.kernel(id)?);
    }
    let storm = tempfile::NamedTempFile::new()?;
    let flag = storm.path().to_str().context("the name of a temporary file")?.to_owned();
    scope(|scope| {
        let storms: Vec<_> = containers
            .ids
            .iter()
            .map(|id| scope.spawn(|| containers.run(id, &["sh", "-c", STORM, &flag]).map(drop)))
            .collect();
        let outcome = kernels.iter().try_for_each(is_throttled).and_then(|()| live(soak, restarts));
        storm.close()?;
        for storm in storms {
            storm.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        outcome
    })
}

fn limit(kernel: &Kernel) -> Result<()> {
    let directory = kernel.directory("cpu")?;
    let settings = if kernel.is_v1("cpu") {
        vec![("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", QUOTA.to_string())]
    } else {
        vec![("cpu.max", format!("{QUOTA} {PERIOD}"))]
    };
    for (name, value) in settings {
        let file = directory.join(name);
        fs::write(&file, value).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// The storm has begun, and the limit is at work.
fn is_throttled(kernel: &Kernel) -> Result<()> {
    wait::eventually(PATIENCE, "a container to be throttled", || {
        ensure!(kernel.key("cpu", "cpu.stat", "nr_throttled")? > 0, "it was not yet");
        Ok(())
    })
}

fn live(soak: &Soak, restarts: u32) -> Result<()> {
    let mut judge = Judge::default();
    let started = Instant::now();
    for (life, reader) in (0..=restarts).zip(READERS.iter().cycle()) {
        let mut builder = Exporter::builder();
        for flag in *reader {
            builder = builder.flag(*flag);
        }
        let exporter = builder.start()?;
        for _ in 0..SCRAPES {
            judge.scrape(soak, &exporter, life);
        }
        if life == restarts {
            exporter.stop()?;
            break;
        }
        end(exporter, life)?;
        soak.report.restarted("exporter");
    }
    soak.report.finish(Duration::ZERO, started.elapsed());
    Ok(())
}

/// Ends every second exporter without warning.
pub(crate) fn end(exporter: Exporter, life: u32) -> Result<()> {
    if life.is_multiple_of(2) { exporter.signal(Signal::KILL) } else { exporter.stop().map(drop) }
}
