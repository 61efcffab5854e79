//! Containers of an engine, which is killed and started again meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use exporter_tests::Engine;
use exporter_tests::kernel::Kernel;
use exporter_tests::random::Random;

use crate::Soak;
use crate::ledger::Known;

/// From one kill of the engine to the next.
const KILLS: Duration = Duration::from_secs(30);
/// How long the engine is away.
const AWAY: Duration = Duration::from_secs(2);
/// So many containers at a time.
const MOST: usize = 8;
/// Its containers have other limits of processes than those without an engine.
const LIMIT: u64 = 1_000_000;

/// What containers do.
const WORK: [&str; 3] = [
    "exec sleep 1d",
    "while :; do (true); (true); sleep 0.5; done",
    "while :; do dd if=/dev/zero of=/dev/shm/a bs=1M count=4 2>/dev/null; rm /dev/shm/a; sleep 0.5; done",
];
const NETWORKS: [&str; 3] = ["--network=none", "--network=none", "--network=bridge"];

struct Container {
    life: u64,
    id: String,
    name: String,
    limit: u64,
}

/// Works until the soak is over.
pub(crate) fn run(soak: &Soak, engine: &mut Engine) -> Result<()> {
    let mut random = Random::new(2);
    let mut containers: Vec<Container> = Vec::new();
    let mut kill = Instant::now() + KILLS / 2;
    while !soak.is_over() {
        if Instant::now() >= kill {
            engine.kill()?;
            soak.rest(AWAY);
            engine.start()?;
            soak.report.restarted("engine");
            kill = Instant::now() + KILLS;
        }
        soak.report.operated(operate(soak, engine, &mut random, &mut containers));
    }
    // They go with the engine.
    for container in &containers {
        soak.ledger.remove(container.life);
    }
    Ok(())
}

fn operate(soak: &Soak, engine: &Engine, random: &mut Random, containers: &mut Vec<Container>) -> Result<()> {
    if containers.len() < MOST / 2 {
        containers.push(start(soak, engine, random, Engine::unique("soak"))?);
        return Ok(());
    }
    let index = random.below(containers.len());
    match random.below(8) {
        0..2 if containers.len() < MOST => containers.push(start(soak, engine, random, Engine::unique("soak"))?),
        0..3 => {
            let container = containers.swap_remove(index);
            end(soak, engine, &container)?;
        }
        // Another one of the same name.
        3 => {
            let container = containers.swap_remove(index);
            end(soak, engine, &container)?;
            containers.push(start(soak, engine, random, container.name)?);
        }
        4 => {
            let Some(container) = containers.get_mut(index) else { return Ok(()) };
            let name = Engine::unique("soak");
            soak.ledger.name(&container.id, &name);
            engine.docker(&["rename", &container.id, &name])?;
            container.name = name;
        }
        5 => {
            let container = containers.swap_remove(index);
            soak.ledger.remove(container.life);
            engine.docker(&["restart", "--time=0", &container.id])?;
            let life = soak.ledger.next();
            add(soak, engine, life, &container.id, container.limit)?;
            containers.push(Container { life, ..container });
        }
        6 => {
            let Some(container) = containers.get(index) else { return Ok(()) };
            engine.docker(&["pause", &container.id])?;
            engine.docker(&["unpause", &container.id])?;
        }
        _ => {
            let Some(container) = containers.get(index) else { return Ok(()) };
            engine.docker(&["exec", &container.id, "sh", "-c", "for i in 1 2 3 4; do (true) & done; wait"])?;
        }
    }
    Ok(())
}

fn start(soak: &Soak, engine: &Engine, random: &mut Random, name: String) -> Result<Container> {
    let life = soak.ledger.next();
    let limit = LIMIT + life;
    let pids = format!("--pids-limit={limit}");
    let network = random.pick(&NETWORKS).context("networks")?;
    let work = random.pick(&WORK).context("work")?;
    soak.ledger.expect_name(&name);
    let options = ["run", "--detach", "--name", &name, &pids, "--memory=64m", network];
    let id = engine.docker(&[&options[..], &[engine.image(), "sh", "-c", work]].concat())?;
    let id = id.lines().last().unwrap_or_default().trim().to_owned();
    soak.ledger.name(&id, &name);
    add(soak, engine, life, &id, limit)?;
    Ok(Container { life, id, name, limit })
}

fn add(soak: &Soak, engine: &Engine, life: u64, id: &str, limit: u64) -> Result<()> {
    let pid = engine.docker(&["inspect", "--format", "{{.State.Pid}}", id])?.parse()?;
    let kernel = Kernel::of(pid)?;
    let path = kernel.path_of(id).with_context(|| format!("no cgroup of process {pid} is called {id}"))?;
    soak.ledger.add(Known { life, id: id.to_owned(), path, kernel, limit });
    Ok(())
}

fn end(soak: &Soak, engine: &Engine, container: &Container) -> Result<()> {
    soak.ledger.remove(container.life);
    engine.docker(&["rm", "--force", "--volumes", &container.id]).map(drop)
}
