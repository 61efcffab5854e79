//! Cgroups that a container makes below its own, under the ids of other containers: random sequences against real cgroups. `SEED=n`
//! chooses the sequence.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use exporter_tests::exposition::Format;
use exporter_tests::random::Random;
use exporter_tests::{Container, Engine, Exporter, Exposition};

use super::named;

const CPU: &str = "container_cpu_usage_seconds_total";
const STEPS: usize = 400;

/// What the attacker has made, deepest last. It goes with the value.
struct Forged {
    below: Vec<PathBuf>,
    made: Vec<PathBuf>,
}

impl Forged {
    fn make(&mut self, path: &str, tree: Option<usize>) {
        let trees: Vec<PathBuf> = match tree {
            Some(tree) => vec![self.below[tree % self.below.len()].clone()],
            None => self.below.clone(),
        };
        for tree in trees {
            let mut directory = tree;
            for part in path.split('/') {
                directory.push(part);
                if fs::create_dir(&directory).is_ok() {
                    self.made.push(directory.clone());
                }
            }
        }
    }

    fn remove_all(&mut self) {
        for directory in self.made.drain(..).rev() {
            fs::remove_dir(directory).unwrap_or_default();
        }
    }

    fn has(&self, id: &str) -> bool {
        self.made.iter().any(|directory| directory.ends_with(id))
    }
}

impl Drop for Forged {
    fn drop(&mut self) {
        self.remove_all();
    }
}

fn scrape(exporter: &Exporter) -> Exposition {
    exporter.scrape_unjudged("/metrics?collect[]=cpu&collect[]=state&collect[]=pids", Format::Text).unwrap()
}

/// The container has one series, at its own path; and nothing of its id is exposed from anywhere else.
fn is_itself(seen: &Exposition, container: &Container<'_>, path: &str) -> Result<()> {
    let sample = seen.one(CPU, &[("name", &container.name)])?;
    ensure!(sample.label("id") == path, "{} at {}", container.name, sample.label("id"));
    let elsewhere: Vec<_> = seen
        .container(&container.id)
        .filter(|sample| sample.label("id").ends_with(&container.id) && sample.label("id") != path)
        .collect();
    ensure!(elsewhere.is_empty(), "{elsewhere:?}");
    Ok(())
}

#[test]
fn what_a_container_forges_below_its_own_cgroup_changes_no_other_one() {
    let engine = Engine::shared().unwrap();
    let (owner, hostile) =
        (Container::sleeping(engine, "owner", &[]).unwrap(), Container::sleeping(engine, "hostile", &[]).unwrap());
    let stopped = Container::sleeping(engine, "stopped", &[]).unwrap();
    let foreign = format!("{:064x}", u64::from(std::process::id()) | 1 << 40);
    let below = hostile.kernel().unwrap().directories().map(std::path::Path::to_path_buf).collect();
    let mut forged = Forged { below, made: Vec::new() };
    let mut exporter = Exporter::with(engine).unwrap();
    let path = |container| {
        named(&exporter, container).unwrap().one(CPU, &[("name", &container.name)]).unwrap().label("id").to_owned()
    };
    let paths = [path(&owner), path(&hostile)];
    stopped.docker("kill", &[]).unwrap();
    exporter
        .scrape_until(super::SOON, "the end", |seen| {
            seen.one("container_exit_code", &[("name", &stopped.name)]).map(drop)
        })
        .unwrap();

    let sequence =
        std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(u64::from(std::process::id()));
    let mut random = Random::new(sequence);
    let mut log = vec![format!("SEED={sequence}")];
    for step in 1..=STEPS {
        let id = [&owner.id, &hostile.id, &stopped.id, &foreign][random.below(4)].clone();
        let between = ["docker/", "", "system.slice/docker/"][random.below(3)];
        match random.below(4) {
            0 => {
                log.push("all removed".to_owned());
                forged.remove_all();
            }
            kind => {
                let tree = (kind == 1).then(|| random.below(16));
                log.push(format!("{between}{id} in {tree:?}"));
                forged.make(&format!("{between}{id}"), tree);
            }
        }
        if step % 100 == 0 {
            log.push("restart".to_owned());
            exporter.stop().unwrap();
            exporter = Exporter::with(engine).unwrap();
            named(&exporter, &owner).unwrap();
            named(&exporter, &hostile).unwrap();
        }
        let seen = scrape(&exporter);
        let judged = [(&owner, &paths[0]), (&hostile, &paths[1])]
            .into_iter()
            .try_for_each(|(container, path)| is_itself(&seen, container, path))
            .and_then(|()| {
                ensure!(!seen.container(&stopped.id).any(|sample| sample.name == CPU), "a container that does not run");
                let shown =
                    seen.samples().filter(|sample| sample.name == CPU && sample.label("id").ends_with(&foreign));
                let shown: Vec<_> = shown.collect();
                ensure!(shown.iter().all(|sample| sample.label("name").is_empty()) && shown.len() <= 1, "{shown:?}");
                ensure!(forged.has(&foreign) || shown.is_empty(), "a container without a cgroup: {shown:?}");
                Ok(())
            });
        judged.unwrap_or_else(|error| panic!("step {step}: {error:#}\n{log:#?}"));
    }

    // The owner's own cgroup goes while a forged one is there, and comes again.
    forged.remove_all();
    forged.make(&format!("docker/{}", owner.id), None);
    owner.docker("kill", &[]).unwrap();
    let ended = scrape(&exporter);
    assert!(
        !ended.samples().any(|sample| sample.name == CPU && sample.label("name") == owner.name),
        "shown as another one"
    );
    owner.docker("start", &[]).unwrap();
    let again = scrape(&exporter);
    assert!(again.has(CPU, &[("id", &paths[0])]), "not in the next scrape");
    named(&exporter, &owner).unwrap();
    is_itself(&scrape(&exporter), &owner, &paths[0]).unwrap();
    exporter.stop().unwrap();
}
