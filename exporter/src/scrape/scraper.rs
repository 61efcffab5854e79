//! The handle on the scraping thread, and the choice of the source of values.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;
use tracing::{info, warn};

use super::api::Api;
use super::cgroups::{Cgroups, Setup};
use super::exposed_set::ExposedSet;
use super::queue::{Job, Overhead, Queue, Unread};
use super::request::{Error, Families, Request, Scrape};
use super::source::{Findings, Source, Standby};
use super::worker::Worker;
use crate::config::{Config, DockerEndpoint, FeatureMode, Schema, SourceMode};
use crate::discover;
use crate::docker::{DEFAULT_CONCURRENCY, Engines, Member, Stats};
use crate::ebpf::{Probes, Unsupported};
use crate::metrics::SelfMetrics;
use crate::name::ContainerFilter;
use crate::read::{HostFacts, Machine};
use crate::render::BufferPool;
use crate::walker::Walker;

/// Capacity of the queue, which is above the HTTP server's limit.
const QUEUE: usize = 1024;
/// How long after its deadline a scrape may still get values.
const MAX_DELAY: Duration = Duration::from_millis(400);
/// How long readiness waits for the engine's first list, so that the first scrapes have names.
const FIRST_LIST: Duration = Duration::from_secs(2);

/// The objects that a scraper is built from.
#[derive(Debug)]
pub struct Parts {
    /// The engines, which give names, versions and stats.
    pub engines: Engines,
    /// Selects the exposed containers.
    pub filter: Arc<ContainerFilter>,
    /// The exporter's own metrics.
    pub self_metrics: SelfMetrics,
    /// The eBPF programs, if any run.
    pub probes: Option<Probes>,
    /// The disk walker, if it could be started.
    pub walker: Option<Walker>,
}

/// Why the scraper cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `--source=cgroup` was given, and there is no tree.
    #[error("--source=cgroup: {0}")]
    Cgroups(#[source] discover::Error),
    /// `--read.snapshot=on` was given, and snapshots cannot be taken.
    #[error("--read.snapshot=on: {0}")]
    Snapshots(Unsupported),
    /// The thread cannot be started.
    #[error("cannot start the scraping thread: {0}")]
    Thread(#[source] io::Error),
}

/// A handle on the scraping thread. The thread ends when the handle is dropped.
#[derive(Debug)]
pub struct Scraper {
    jobs: mpsc::Sender<Job>,
    overhead: Overhead,
    unread: Arc<Unread>,
    findings: Arc<Mutex<Findings>>,
    is_ready: Arc<AtomicBool>,
}

/// A scraper that is ready to start. It holds everything open that takes a privilege of this process.
#[derive(Debug)]
pub struct Prepared {
    chosen: Chosen,
    found: Findings,
    /// Replaces the API once containers appear in the cgroup tree.
    standby: Option<Setup>,
    machine: Machine,
    facts: HostFacts,
    /// Time when the eBPF programs started to count, in nanoseconds since the epoch.
    probed_since_ns: Option<u64>,
    parts: Parts,
}

/// The source of values.
#[derive(Debug)]
enum Chosen {
    Cgroups(Box<Cgroups>),
    /// The engines' stats API; procfs and the disk walker if the engines run on this host.
    Api(Option<PathBuf>, Option<Walker>),
}

impl Scraper {
    /// Chooses the source of values. In cgroup mode the first discovery is done when this returns.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn prepare(config: &Config, mut parts: Parts) -> Result<Prepared, StartError> {
        let probed_since_ns = parts.probes.as_ref().map(Probes::since_ns);
        let (chosen, found, standby) = choose(config, &mut parts)?;
        let procfs = host_procfs(config, &chosen);
        let machine = procfs.as_deref().map(|procfs| Machine::read(procfs, &parts.self_metrics)).unwrap_or_default();
        Ok(Prepared { chosen, found, standby, machine, facts: HostFacts::new(procfs), probed_since_ns, parts })
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(config: &Config, prepared: Prepared, runtime: &Handle) -> Result<Self, StartError> {
        let Prepared { chosen, found, standby, machine, facts, probed_since_ns, parts } = prepared;
        let source = match chosen {
            Chosen::Cgroups(cgroups) => Source::Cgroups(cgroups),
            Chosen::Api(procfs, walker) => {
                let stats = |member: &Member| Stats::new(member.engine.clone(), DEFAULT_CONCURRENCY);
                let stats = parts.engines.members().map(stats).collect();
                let families = Families::of(config).named;
                Source::Api(Box::new(Api::new(
                    stats,
                    runtime.clone(),
                    procfs.as_deref(),
                    walker,
                    families,
                    parts.self_metrics.clone(),
                )))
            }
        };
        let findings = Arc::new(Mutex::new(found));
        let overhead = Overhead::default();
        let unread = Arc::new(Unread {
            collectors: source.collectors(),
            self_metrics: parts.self_metrics.clone(),
            pool: BufferPool::default(),
        });
        let worker = Worker {
            overhead: overhead.clone(),
            unread: Arc::clone(&unread),
            source,
            exposed_set: ExposedSet::new(parts.filter, config.linger, config.schema != Schema::Cadvisor),
            engines: parts.engines.clone(),
            machine,
            facts,
            probed_since_ns,
            self_metrics: parts.self_metrics,
            min_interval: config.min_interval,
            metrics: config.metrics.clone(),
            pool: BufferPool::default(),
            last: None,
            trimmed_for: 0,
            standby: standby.map(|setup| Standby { setup, findings: Arc::clone(&findings) }),
        };
        let (jobs, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("scrape".to_owned());
        thread.spawn(move || worker.run(Queue::new(queue))).map_err(StartError::Thread)?;
        let is_ready = Arc::new(AtomicBool::new(false));
        runtime.spawn(announce(Arc::clone(&is_ready), parts.engines));
        Ok(Self { jobs, overhead, unread, findings, is_ready })
    }
}

/// Returns when to answer without values if the thread has not answered. The deadline for reading leaves a tenth of the
/// client's timeout for rendering and sending; this is the end of that tenth, but at most `MAX_DELAY` later.
fn last_moment(deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(Instant::now());
    deadline + (left / 11).min(MAX_DELAY)
}

/// Sets `is_ready` once the engines have listed their containers, or after `FIRST_LIST`.
async fn announce(is_ready: Arc<AtomicBool>, engines: Engines) {
    let listed = async {
        while !engines.are_settled() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(FIRST_LIST, listed).await.is_err() {
        warn!("the engine has not listed its containers yet; they are exposed without names until it does");
    }
    is_ready.store(true, Ordering::Relaxed);
}

/// The source, the findings, and the settings of the kernel files to change to once containers appear.
type Choice = (Chosen, Findings, Option<Setup>);

fn choose(config: &Config, parts: &mut Parts) -> Result<Choice, StartError> {
    let setup = Setup {
        root: config.cgroup_root.clone(),
        procfs: config.procfs_root.clone(),
        families: Families::of(config).named,
        self_metrics: parts.self_metrics.clone(),
        engines: parts.engines.clone(),
        others: config.cgroups.clone(),
        walker: parts.walker.take(),
    };
    let why = match config.source {
        SourceMode::DockerApi => "as --source or USE_PSEUDO_FILES says".to_owned(),
        SourceMode::Cgroup => {
            let cgroups = Cgroups::start(setup.clone(), parts.probes.take(), None).map_err(StartError::Cgroups)?;
            return with_snapshots(cgroups, config.snapshot);
        }
        SourceMode::Auto => match Cgroups::start(setup.clone(), parts.probes.take(), None) {
            Ok(cgroups) if !cgroups.is_blind() => return with_snapshots(cgroups, config.snapshot),
            Ok(_) => format!(
                "{} is the tree of our own container alone; mount the host's: -v /sys/fs/cgroup:/sys/fs/cgroup:ro",
                config.cgroup_root.display()
            ),
            Err(error) => error.to_string(),
        },
    };
    if config.source == SourceMode::DockerApi {
        info!("reading the engine's stats API");
    } else {
        warn!(%why, "reading the engine's stats API, which costs far more than kernel files");
    }
    let procfs = are_local(&config.docker).then(|| config.procfs_root.clone());
    let walker = setup.walker.clone();
    let found = vec![("source".to_owned(), format!("the engine's stats API ({why})"))];
    let standby = (config.source == SourceMode::Auto && are_local(&config.docker)).then_some(setup);
    Ok((Chosen::Api(procfs, walker), found, standby))
}

/// Returns the procfs for the host's values, if the containers run on this host. An engine behind a network address may
/// run on another host.
fn host_procfs(config: &Config, chosen: &Chosen) -> Option<PathBuf> {
    let same_host = matches!(chosen, Chosen::Cgroups(_)) || are_local(&config.docker);
    same_host.then(|| config.procfs_root.clone())
}

fn are_local(engines: &[DockerEndpoint]) -> bool {
    engines.iter().all(|engine| matches!(engine, DockerEndpoint::Unix(_)))
}

/// Chooses kernel files as the source, with snapshots if this host allows them.
fn with_snapshots(mut cgroups: Cgroups, mode: FeatureMode) -> Result<Choice, StartError> {
    cgroups.reader().prepare();
    match cgroups.start_snapshots() {
        Ok(()) => {}
        Err(unsupported) if mode == FeatureMode::On => return Err(StartError::Snapshots(unsupported)),
        Err(_) if mode == FeatureMode::Off => {}
        Err(unsupported) => {
            info!(why = %unsupported, "snapshots are not available: reading files, which costs more and gives the same values");
        }
    }
    cgroups.log_start();
    let found = cgroups.findings();
    Ok((Chosen::Cgroups(Box::new(cgroups)), found, None))
}

impl Scrape for Scraper {
    fn unread(&self, request: &Request) -> Option<Result<Bytes, Error>> {
        (!self.overhead.allows(request, Instant::now())).then(|| self.unread.body(request))
    }

    async fn scrape(&self, request: Request) -> Result<Bytes, Error> {
        let (answer, answered) = oneshot::channel();
        let late = request.clone();
        let answer = async {
            self.jobs.send(Job { request, answer }).await.map_err(|_closed| Error::ShuttingDown)?;
            answered.await.unwrap_or(Err(Error::Panicked))
        };
        match late.deadline.map(last_moment) {
            None => answer.await,
            Some(last) => timeout_at(last.into(), answer).await.unwrap_or_else(|_late| self.unread.body(&late)),
        }
    }

    fn ready(&self) -> Result<(), String> {
        let is_ready = self.is_ready.load(Ordering::Relaxed);
        is_ready.then_some(()).ok_or_else(|| "the first discovery is not done yet; try again in a second".to_owned())
    }

    fn findings(&self) -> Vec<(String, String)> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
