//! `cargo xtask soak`: holds the exporter under load for a given time and judges one scrape per second.
//!
//! | module | what it does |
//! |---|---|
//! | [`cgroups`] | containers without an engine that start, die, fork, nest and forge ids |
//! | [`containers`] | containers of an engine that is killed and restarted |
//! | [`proxy`] | stands between the exporter and the engine and cuts connections |
//! | [`clients`] | clients that are slow, idle or impatient |
//! | [`ledger`] | what is true: which container has which path, names and limits |
//! | [`judge`] | compares scrapes with the ledger, the kernel's files and the scrapes before |
//! | [`restarts`] | with `--restarts`, in place of all that: the counters of busy containers over restarts of the exporter |
//! | [`report`] | counts, and the table at the end |

mod cgroups;
mod cleanup;
mod clients;
mod containers;
mod judge;
mod ledger;
mod proxy;
mod report;
mod restarts;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use exporter_tests::{Engine, Exporter};

use judge::Judge;
use ledger::Ledger;
use report::{Report, Usage};

const USAGE: &str = "\
usage: cargo xtask soak [--time 30s|10m|1h | --restarts NUMBER]   (as root; default: --time 10m)";

/// Between two judged scrapes.
const INTERVAL: Duration = Duration::from_secs(1);
/// Resident memory at the end is compared with that at this age, or after a third of the time where that is less.
const WARM: Duration = Duration::from_mins(5);
/// The default of `--containers.linger`.
const LINGER: Duration = Duration::from_mins(5);
/// Judged scrapes of an exporter between its start and its end.
const SCRAPES_PER_LIFE: usize = 6;
/// What the end may take: an exporter's, the containers', the engine's.
const ENDS: Duration = Duration::from_mins(10);

/// What all threads share.
struct Soak {
    ledger: Ledger,
    report: Report,
    over: AtomicBool,
}

impl Soak {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Sleeps, but not beyond the end.
    fn rest(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.is_over() && Instant::now() < end {
            sleep(Duration::from_millis(50).min(end.saturating_duration_since(Instant::now())));
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.as_slice() {
        [flag, number] if flag == "--restarts" => survive(number),
        arguments => duration(arguments).and_then(run),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("soak: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn duration(arguments: &[String]) -> Result<Duration> {
    let text = match arguments {
        [] => "10m",
        [flag, time] if flag == "--time" => time,
        _ => bail!("{USAGE}"),
    };
    let digits = text.trim_end_matches(['s', 'm', 'h']);
    let number: u32 = digits.parse().with_context(|| format!("`{text}`\n{USAGE}"))?;
    let unit = match text.get(digits.len()..) {
        Some("" | "s") => Duration::from_secs(1),
        Some("m") => Duration::from_mins(1),
        Some("h") => Duration::from_hours(1),
        _ => bail!("`{text}`\n{USAGE}"),
    };
    Ok(unit * number)
}

/// Whether nothing failed.
fn run(time: Duration) -> Result<bool> {
    let _cleanup = cleanup::Cleanup::start()?;
    let mut engine = Engine::private()?;
    let proxy = proxy::Proxy::start(engine.socket().context("the engine has no socket")?)?;
    let soak = Soak { ledger: Ledger::default(), report: Report::default(), over: AtomicBool::new(false) };
    let how = How { url: proxy.url(), linger: LINGER.min(time / 6) };
    let exporter = how.start()?;
    let started = Instant::now();
    say(&format!("the exporter is held under load for {time:?}"));
    scope(|scope| {
        scope.spawn(|| cgroups::run(&soak));
        scope.spawn(|| soak.report.note("the engine's containers", containers::run(&soak, &mut engine)));
        scope.spawn(|| soak.report.note("an exporter that is restarted", restart(&soak, &how)));
        clients::spawn(scope, &soak, exporter.address);
        scope.spawn(|| end_what_hangs(&soak, time + ENDS));
        soak.report.note("the exporter", steady(&soak, &exporter, started, time));
        soak.over.store(true, Ordering::Relaxed);
    });
    soak.report.note("the exporter's end", exporter.stop().map(drop));
    drop(engine);
    soak.report.finish(time, started.elapsed());
    say(&soak.report.table());
    Ok(soak.report.is_good())
}

/// Whether no counter fell over so many restarts.
fn survive(number: &str) -> Result<bool> {
    let number = number.parse().with_context(|| format!("`{number}`\n{USAGE}"))?;
    let _cleanup = cleanup::Cleanup::start()?;
    let soak = Soak { ledger: Ledger::default(), report: Report::default(), over: AtomicBool::new(false) };
    soak.report.note("restarts", restarts::run(&soak, number));
    say(&soak.report.table());
    Ok(soak.report.is_good())
}

/// How exporters are started.
struct How {
    url: String,
    /// Containers that have ended are shown for so long: as many as there will ever be, once it is over for the first time.
    linger: Duration,
}

impl How {
    /// Starts one that refuses no scrape because others ask at the same moment.
    fn start(&self) -> Result<Exporter> {
        let builder = Exporter::builder().docker_url(&self.url).flag("--web.max-requests=1000");
        builder.flag(format!("--containers.linger={}s", self.linger.as_secs())).start()
    }
}

/// One exporter that lives as long as the soak: its memory and its descriptors are measured.
fn steady(soak: &Soak, exporter: &Exporter, started: Instant, time: Duration) -> Result<()> {
    let mut judge = Judge::default();
    let warm = WARM.min(time / 3);
    let mut is_warm = false;
    for turn in 1_u32.. {
        judge.scrape(soak, exporter, 0);
        if !is_warm && started.elapsed() >= warm {
            is_warm = true;
            soak.report.warm(Usage::of(exporter.pid())?);
        }
        if started.elapsed() >= time {
            break;
        }
        sleep((started + INTERVAL * turn).saturating_duration_since(Instant::now()));
    }
    soak.report.end(Usage::of(exporter.pid())?);
    Ok(())
}

/// Exporters one after the other, ended by a signal that they can handle and by one that they can't: counters continue.
fn restart(soak: &Soak, how: &How) -> Result<()> {
    let mut judge = Judge::default();
    for life in 1.. {
        let exporter = how.start()?;
        for _ in 0..SCRAPES_PER_LIFE {
            judge.scrape(soak, &exporter, life);
            soak.rest(INTERVAL);
        }
        restarts::end(exporter, life)?;
        soak.report.restarted("exporter");
        if soak.is_over() {
            break;
        }
    }
    Ok(())
}

/// Ends the process where threads do not end by themselves; the cleanup and the engine's keeper clean up.
fn end_what_hangs(soak: &Soak, limit: Duration) {
    let end = Instant::now() + limit;
    while !soak.is_over() {
        if Instant::now() > end {
            say("soak: it does not end by itself");
            std::process::exit(1);
        }
        sleep(Duration::from_millis(100));
    }
}

fn say(text: &str) {
    // Nobody may listen any more.
    writeln!(std::io::stdout(), "{text}").unwrap_or_default();
}
