//! Containers without an engine: cgroups that come and go, fork, and have cgroups below their own that are called as other
//! containers are.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use exporter_tests::bare::BareContainers;
use exporter_tests::random::Random;

use crate::Soak;
use crate::ledger::Known;

/// Between two operations: 20 per second.
const INTERVAL: Duration = Duration::from_millis(50);
/// So many containers at a time.
const FEWEST: usize = 10;
const MOST: usize = 40;
/// So many cgroups below those of others at a time.
const NESTED: usize = 60;
/// A limit of processes that a container without work never reaches.
const LIMIT: u64 = 1000;

const CPUSET: &str = "/sys/fs/cgroup/cpuset";

struct Bare {
    life: u64,
    containers: BareContainers,
}

/// Works until the soak is over.
pub(crate) fn run(soak: &Soak) {
    let mut random = Random::new(1);
    let (mut living, mut nested) = (Vec::new(), VecDeque::new());
    let started = Instant::now();
    for turn in 1_u32.. {
        if soak.is_over() {
            break;
        }
        soak.report.operated(operate(soak, &mut random, &mut living, &mut nested));
        sleep((started + INTERVAL * turn).saturating_duration_since(Instant::now()));
    }
    drop(nested);
    for bare in &living {
        soak.ledger.remove(bare.life);
    }
}

fn operate(
    soak: &Soak,
    random: &mut Random,
    living: &mut Vec<Bare>,
    nested: &mut VecDeque<(u64, Nested)>,
) -> Result<()> {
    match random.below(10) {
        _ if living.len() < FEWEST => living.push(start(soak)?),
        0..3 if living.len() < MOST => living.push(start(soak)?),
        0..5 => {
            let bare = living.swap_remove(random.below(living.len()));
            soak.ledger.remove(bare.life);
            // What is below goes first.
            nested.retain(|(life, _)| *life != bare.life);
        }
        5..7 => {
            let Some(bare) = random.pick(living) else { return Ok(()) };
            let id = bare.containers.ids.first().context("no id")?;
            bare.containers.run(id, &["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do (:) & done; wait"])?;
        }
        _ => {
            let all = soak.ledger.living();
            let (Some(holder), Some(other)) = (random.pick(&all), random.pick(&all)) else { return Ok(()) };
            let name = match random.below(5) {
                0 => other.id.clone(),
                1 => format!("docker/{}", other.id),
                2 => format!("docker/{}", holder.id),
                3 => format!("docker/{:064x}", soak.ledger.next()),
                _ => format!("system.slice/docker-{}.scope", other.id),
            };
            nested.extend(Nested::make(soak, holder, &name)?.map(|made| (holder.life, made)));
            if nested.len() > NESTED {
                nested.pop_front();
            }
        }
    }
    Ok(())
}

fn start(soak: &Soak) -> Result<Bare> {
    let containers = BareContainers::make(1)?;
    let id = containers.ids.first().context("no id")?.clone();
    let (life, path, kernel) = (soak.ledger.next(), containers.path(&id), containers.kernel(&id)?);
    let limit = LIMIT + life;
    fs::write(kernel.directory("pids")?.join("pids.max"), limit.to_string())?;
    soak.ledger.add(Known { life, id, path, kernel, limit });
    Ok(Bare { life, containers })
}

/// A cgroup below a container's, in every tree. It goes with the value.
struct Nested(Vec<PathBuf>);

impl Nested {
    /// None where it is there already, or the container has ended meanwhile.
    fn make(soak: &Soak, holder: &Known, name: &str) -> Result<Option<Self>> {
        soak.ledger.nest(&format!("{}/{name}", holder.path));
        let below = holder.path.trim_start_matches('/');
        // No process enters a new cgroup of `cpuset` before it has CPUs.
        let trees = holder.kernel.directories().filter(|tree| tree.ends_with(below) && !tree.starts_with(CPUSET));
        let mut trees: Vec<PathBuf> = trees.map(Path::to_owned).collect();
        trees.sort();
        trees.dedup();
        let mut made = Self(Vec::new());
        let mut last = Vec::new();
        for tree in trees {
            let mut directory = tree;
            // Not with its parents: the container's own must not be made again.
            for part in name.split('/') {
                directory.push(part);
                if fs::create_dir(&directory).is_ok() {
                    made.0.push(directory.clone());
                }
            }
            last.push(directory);
        }
        if last.iter().any(|directory| !directory.exists()) {
            return Ok(None);
        }
        // A process of its own, so that it has values that are not the container's.
        let enter = "for cgroup in \"$@\"; do echo $$ >\"$cgroup/cgroup.procs\" || exit 1; done; \
                     i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done";
        let mut command = Command::new("sh");
        command.args(["-c", enter, "sh"]).args(&last).stdin(Stdio::null()).stderr(Stdio::null());
        let status = command.status()?;
        ensure!(status.success() || !soak.ledger.lives(holder.life), "no process enters {}/{name}", holder.path);
        Ok(Some(made))
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        for directory in self.0.iter().rev() {
            // It may have gone with its container, or another one may be below.
            fs::remove_dir(directory).unwrap_or_default();
        }
    }
}
