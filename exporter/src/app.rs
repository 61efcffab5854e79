//! Serves: wires the modules together and runs until a signal ends it. The only file that knows all modules.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::{Config, DockerEndpoint, FeatureMode, SourceMode};
use crate::docker::{Engines, Member, follow};
use crate::doctor;
use crate::ebpf::{Decision, Probes, Sizes};
use crate::memory;
use crate::metrics::{Collector, CollectorSet, SelfMetrics};
use crate::name::NamingPolicy;
use crate::notify::{self, ServiceManager};
use crate::sandbox::{Needs, Sandbox};
use crate::scrape::{Families, Parts, Prepared, Scraper, StartError};
use crate::serve::{BindError, Listener, Server, Settings, SystemdSockets, bind};
use crate::walker::Walker;

/// Threads of the runtime, which runs only HTTP and the engines' events. Collecting has a thread of its own.
const WORKER_THREADS: usize = 2;
/// Timeout for tasks that still run after the server has ended.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Returns whether the start failed because of an error in flags or environment that parsing could not detect.
#[must_use]
pub fn is_config_error(error: &anyhow::Error) -> bool {
    let no_tree = matches!(error.downcast_ref(), Some(StartError::Cgroups(_)));
    no_tree || error.downcast_ref::<BindError>().is_some_and(BindError::is_config_error)
}

/// Serves until SIGTERM or SIGINT.
///
/// Actions that need a privilege come before any other thread starts, because each thread has its own capabilities.
///
/// # Errors
/// The start failed.
pub fn run(mut config: Config) -> anyhow::Result<()> {
    let passed = config.systemd_socket.then(SystemdSockets::take).transpose().map_err(BindError::from)?;
    // The walker starts first, because it needs a privilege and none of the files that are opened here.
    let walker = start_walker(&config);
    let probes = start_probes(&mut config)?;
    let self_metrics =
        SelfMetrics::of_engines(config.docker.len()).context("our own metrics do not fit together (a bug)")?;
    let self_metrics = if config.hides_own_metrics { self_metrics.hidden() } else { self_metrics };
    let parts = Parts {
        engines: Engines::new(&config.docker, config.linger, &self_metrics),
        filter: Arc::new(config.filter.clone()),
        self_metrics,
        probes,
        walker,
    };
    let (engines, self_metrics) = (parts.engines.clone(), parts.self_metrics.clone());
    let needs = Needs::of(&config, parts.probes.is_some());
    let prepared = Scraper::prepare(&config, parts)?;
    if config.source != SourceMode::DockerApi {
        for line in doctor::shortcomings(&config) {
            warn!(
                what = line.what,
                found = line.found,
                hint = line.hint,
                "this host lacks a feature: some metrics will be missing"
            );
        }
    }
    // Listening comes last, so that no client connects to a program that cannot start.
    let listeners = match passed {
        Some(sockets) => Bound::Passed(sockets),
        None => Bound::Ours(bind(&config.listen)?),
    };
    let manager = ServiceManager::connect(std::env::var_os(notify::VARIABLE).as_deref());
    let sandbox = Sandbox::enter(config.sandbox, &needs)?;
    info!(%sandbox, "dropped privileges");
    for reason in sandbox.reasons() {
        info!(reason, "the sandbox is incomplete");
    }
    sandbox.publish(&self_metrics);
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let served = runtime.block_on(serve(config, prepared, listeners, &manager, engines, self_metrics));
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    served
}

/// Starts the disk walker, if disk usage is collected and the layers may be on this host.
fn start_walker(config: &Config) -> Option<Walker> {
    let is_elsewhere =
        config.source == SourceMode::DockerApi && config.docker.iter().any(|engine| engine.socket().is_none());
    if !config.collectors.has(Collector::Disk) || is_elsewhere {
        return None;
    }
    let sockets = config.docker.iter().filter_map(DockerEndpoint::socket);
    let started = Walker::start(&config.procfs_root, sockets);
    started
        .inspect_err(|error| warn!(%error, "cannot start the disk walker: container_fs_usage_bytes is left out"))
        .ok()
}

/// Starts the wanted eBPF programs that can run, and disables the collectors of the others.
fn start_probes(config: &mut Config) -> anyhow::Result<Option<Probes>> {
    let decision = Decision::of(config);
    let named = config.named_collectors;
    let has_files =
        |collector: &Collector| !collector.is_probed() || (collector.has_costly_files() && named.has(*collector));
    let files_only: CollectorSet = config.collectors.iter().filter(has_files).collect();
    config.collectors = files_only;
    let (wanted, hierarchy) = match decision {
        Decision::Start(wanted, hierarchy) => (wanted, hierarchy),
        Decision::Useless(why) if config.ebpf == FeatureMode::On => bail!("--ebpf=on: {why}"),
        Decision::Useless(why) => {
            info!(%why, "eBPF programs are not used");
            return Ok(None);
        }
        Decision::Off => return Ok(None),
    };
    let snapshots = config.snapshot != FeatureMode::Off;
    let probes = Probes::start(wanted, snapshots, &hierarchy, Sizes::default());
    let report = probes.report();
    let why: Vec<String> = report
        .unsupported()
        .iter()
        .map(|(programs, unsupported)| format!("{}: {unsupported}", programs.join(", ")))
        .collect();
    match (report.running().join(", "), why.join("; ")) {
        (_, why) if config.ebpf == FeatureMode::On && !why.is_empty() => bail!("--ebpf=on: cannot run {why}"),
        (running, why) if why.is_empty() => info!(%running, "started eBPF programs"),
        (running, why) => {
            info!(%running, not_running = %why, "started eBPF programs; metrics of those that cannot run are missing");
        }
    }
    config.collectors = files_only.union(report.collectors().intersection(wanted));
    Ok(Some(probes))
}

/// Listening sockets, before the runtime exists.
enum Bound {
    Ours(Vec<TcpListener>),
    Passed(SystemdSockets),
}

impl Bound {
    fn watched(self) -> io::Result<Vec<Listener>> {
        let tcp = |listener| tokio::net::TcpListener::from_std(listener).map(Listener::Tcp);
        match self {
            Self::Ours(listeners) => listeners.into_iter().map(tcp).collect(),
            Self::Passed(sockets) => sockets.listen(),
        }
    }
}

async fn serve(
    config: Config,
    prepared: Prepared,
    listeners: Bound,
    manager: &ServiceManager,
    engines: Engines,
    self_metrics: SelfMetrics,
) -> anyhow::Result<()> {
    let listeners = listeners.watched().context("the runtime cannot watch the listening sockets")?;
    let (stop, stopped) = watch::channel(false);
    let naming = NamingPolicy { labels: config.labels.clone(), filter: config.filter.clone() };
    let mut followers = Vec::new();
    for Member { engine, store } in engines.members().cloned() {
        let (naming, stopped) = (naming.clone(), is_set(stopped.clone()));
        followers.push(tokio::spawn(follow(engine, store, naming, config.resync_interval, stopped)));
    }
    let scraper = Arc::new(Scraper::start(&config, prepared, &Handle::current())?);
    memory::trim();
    if let Some(web) = &config.web {
        web.begin(move |is_good| self_metrics.set_web_config_reload(is_good));
    }
    let families = Families::of(&config);
    let settings = Settings {
        families,
        telemetry_path: config.telemetry_path,
        max_requests: config.max_requests,
        enabled: config.collectors,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        web: config.web,
    };
    let terminated = terminated()?;
    manager.ready();
    let stopping = async {
        terminated.await;
        manager.stopping();
    };
    Server::new(scraper, settings).run(listeners, stopping).await;
    stop.send_replace(true);
    for follower in followers {
        follower.await.context("an engine's follower failed (a bug)")?;
    }
    info!("stopped");
    Ok(())
}

async fn is_set(mut flag: watch::Receiver<bool>) {
    // A dropped sender has the same effect.
    drop(flag.wait_for(|set| *set).await);
}

/// Completes with the first SIGTERM or SIGINT.
fn terminated() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!(signal = "SIGTERM", "received a signal, finishing pending scrapes"),
            _ = interrupt.recv() => info!(signal = "SIGINT", "received a signal, finishing pending scrapes"),
        }
    })
}
