//! Compares the exposed containers and their names with a simple model, over random sequences of what engines, attackers
//! and the exporter may do. The directories, the discovery, the container store and the exposed set are real; the test
//! plays the engine.
//!
//! A failure prints its seed and its steps. `SEED=n` runs that sequence alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::cgroups::Known;
use super::exposed_set::{ExposedSet, LiveContainer};
use crate::discover::{Added, ContainerId, Discovery, IdFilter, Tree, Version, WALK_INTERVAL};
use crate::fuzz::tests::Random;
use crate::name::{ContainerFilter, ContainerInfo, ContainerStore, Moment, State};
use crate::read::{Limits, Sample};

const SEQUENCES: u64 = 1200;
const STEPS: usize = 25;
const THREADS: u64 = 4;
/// Number of containers of the followed engine. The last one is below the first (`--cgroup-parent`).
const OURS: usize = 5;
const BELOW_FIRST: usize = 4;
/// Number of ids of an engine inside a container.
const FOREIGN: usize = 3;

fn text(number: usize) -> String {
    format!("{:064x}", number + 0xabc0)
}

fn id(number: usize) -> ContainerId {
    ContainerId::parse(text(number).as_bytes()).unwrap()
}

/// The true state of one container of the followed engine.
#[derive(Clone, Default)]
struct Truth {
    exists: bool,
    runs: bool,
    names: usize,
}

struct World {
    root: TempDir,
    trees: Vec<Tree>,
    is_watched: bool,
    discovery: Discovery,
    running: BTreeMap<String, Added>,
    exposed_set: ExposedSet,
    directory: ContainerStore,
    truth: Vec<Truth>,
    answers: bool,
    now: Instant,
    random: Random,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let root = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).unwrap();
        let mut random = Random(seed);
        let version = if random.one_in(2) { Version::V1 } else { Version::V2 };
        let names: &[&str] = if version == Version::V1 { &["memory", "pids"] } else { &["unified"] };
        let trees: Vec<Tree> = names.iter().map(|name| Tree { path: root.path().join(name), version }).collect();
        for tree in &trees {
            fs::create_dir_all(tree.path.join("docker")).unwrap();
        }
        let is_watched = !random.one_in(4);
        let discovery = Discovery::new(&trees, &root.path().join("proc"), is_watched, true);
        Self {
            root,
            trees,
            is_watched,
            discovery,
            running: BTreeMap::new(),
            exposed_set: exposed_set(),
            directory: ContainerStore::new(Duration::ZERO),
            truth: vec![Truth::default(); OURS],
            answers: true,
            now: Instant::now(),
            random,
            log: Vec::new(),
        }
    }

    /// Returns the path at which the followed engine makes a container.
    fn made_at(number: usize) -> String {
        if number == BELOW_FIRST {
            format!("/docker/{}/{}", text(0), text(number))
        } else {
            format!("/docker/{}", text(number))
        }
    }

    fn exists(&self, path: &str) -> bool {
        self.trees[0].path.join(&path[1..]).is_dir()
    }

    fn make(&mut self, path: &str, has_process: bool, trees: std::ops::Range<usize>) {
        for tree in &self.trees[trees] {
            let directory = tree.path.join(&path[1..]);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("cgroup.procs"), if has_process { "7\n" } else { "" }).unwrap();
        }
    }

    fn remove(&mut self, path: &str) {
        for tree in &self.trees {
            // Children first, as a kernel wants it.
            let mut directories = Vec::new();
            list(&tree.path.join(&path[1..]), &mut directories);
            for directory in directories.iter().rev() {
                fs::remove_file(directory.join("cgroup.procs")).unwrap_or_default();
                fs::remove_dir(directory).unwrap();
            }
        }
    }

    /// The engine's word on a container reaches the container store.
    fn tell(&mut self, number: usize) {
        let truth = self.truth[number].clone();
        if !truth.exists {
            self.directory.remove(id(number), Moment::now());
            self.directory.prune(Instant::now());
            return;
        }
        let parent = if number == BELOW_FIRST { format!("/docker/{}", text(0)) } else { String::new() };
        self.directory.upsert(ContainerInfo {
            name: name(number, truth.names),
            state: if truth.runs { State::Running } else { State::Exited },
            pid: truth.runs.then(|| u32::try_from(1000 + number).unwrap()),
            cgroup_parent: parent,
            ..ContainerInfo::unknown(id(number))
        });
    }

    fn tell_or_lose(&mut self, number: usize) {
        if self.answers && !self.random.one_in(4) {
            self.tell(number);
        } else {
            self.log.push("  (event lost)".to_owned());
        }
    }

    fn step(&mut self) {
        let number = self.random.below(OURS);
        match self.random.below(12) {
            0..=2 => self.start(number),
            3 => self.stop(number),
            4 if self.truth[number].exists => {
                self.log.push(format!("rename {number}"));
                self.truth[number].names += 1;
                self.tell_or_lose(number);
            }
            5 if self.truth[number].exists && !self.truth[number].runs => {
                self.log.push(format!("remove {number}"));
                self.truth[number].exists = false;
                self.tell_or_lose(number);
            }
            6 | 7 => self.forge(number),
            8 => self.nest(number),
            9 => self.unmake(),
            10 => self.list_or_end(),
            _ => self.restart_or_wait(),
        }
    }

    fn start(&mut self, number: usize) {
        let path = Self::made_at(number);
        if self.truth[number].runs || (number == BELOW_FIRST && !self.truth[0].runs) {
            return;
        }
        self.log.push(format!("start {number}"));
        if !self.truth[number].exists {
            self.truth[number] = Truth { exists: true, runs: false, names: self.truth[number].names + 1 };
        }
        self.remove(&path);
        self.truth[number].runs = true;
        let process = self.root.path().join("proc").join((1000 + number).to_string());
        fs::create_dir_all(&process).unwrap();
        fs::write(process.join("cgroup"), format!("0::{path}\n")).unwrap();
        self.make(&path, true, 0..self.trees.len());
        self.tell_or_lose(number);
    }

    fn stop(&mut self, number: usize) {
        if !self.truth[number].runs {
            return;
        }
        self.log.push(format!("stop {number}"));
        if number == 0 && self.truth[BELOW_FIRST].runs {
            self.stop(BELOW_FIRST);
        }
        self.truth[number].runs = false;
        fs::remove_dir_all(self.root.path().join("proc").join((1000 + number).to_string())).unwrap();
        let path = Self::made_at(number);
        self.remove(&path);
        if self.random.one_in(4) && number != BELOW_FIRST {
            self.log.push("  (cgroup left behind)".to_owned());
            self.make(&path, false, 0..self.trees.len());
        }
        self.tell_or_lose(number);
    }

    /// A container makes a cgroup with another one's id, or its own, below its own; at times in one tree only.
    fn forge(&mut self, number: usize) {
        let by = self.random.below(BELOW_FIRST);
        let known = self.directory.names().containers.contains_key(&id(number));
        if !self.truth[by].runs || !known {
            return;
        }
        let between = ["docker/", "", "system.slice/docker/"][self.random.below(3)];
        let path = format!("/docker/{}/{between}{}", text(by), text(number));
        if path == Self::made_at(number) {
            return;
        }
        let trees = match self.random.below(3) {
            0 => self.trees.len() - 1..self.trees.len(),
            _ => 0..self.trees.len(),
        };
        self.log.push(format!("{by} forges {number} by {path} in {trees:?}"));
        let has_process = self.random.one_in(2);
        self.make(&path, has_process, trees);
    }

    /// An engine in a container makes one of its own.
    fn nest(&mut self, by: usize) {
        let foreign = OURS + self.random.below(FOREIGN);
        if self.truth[by].runs && by != BELOW_FIRST {
            let path = format!("/docker/{}/docker/{}", text(by), text(foreign));
            self.log.push(format!("{by} nests {foreign}"));
            self.make(&path, true, 0..self.trees.len());
        }
    }

    /// A container removes or renames something below its own cgroup.
    fn unmake(&mut self) {
        let by = self.random.below(BELOW_FIRST);
        let between = format!("/docker/{}/docker", text(by));
        if !self.exists(&between) {
            return;
        }
        self.log.push(format!("{by} unmakes what is in docker/"));
        if self.random.one_in(2) {
            self.remove(&between);
        } else if !self.exists(&format!("{between}er")) {
            for tree in &self.trees {
                let directory = tree.path.join(&between[1..]);
                fs::rename(&directory, directory.with_file_name("dockerer")).unwrap_or_default();
            }
        }
    }

    fn list_or_end(&mut self) {
        self.answers = !self.random.one_in(3);
        self.log.push(format!("engine answers: {}", self.answers));
        if self.answers {
            (0..OURS).for_each(|number| self.tell(number));
        }
    }

    fn restart_or_wait(&mut self) {
        if self.random.one_in(2) {
            self.log.push("a minute passes".to_owned());
            self.now += WALK_INTERVAL;
        } else {
            self.log.push("the exporter restarts".to_owned());
            let proc = self.root.path().join("proc");
            self.discovery = Discovery::new(&self.trees, &proc, self.is_watched, true);
            (self.exposed_set, self.running) = (exposed_set(), BTreeMap::new());
        }
    }

    /// A scrape: everything exposed, as path, name and whether it runs.
    fn scrape(&mut self) -> Vec<(String, String, bool)> {
        let names = self.directory.names();
        for added in self.running.values() {
            let processes = self.trees.iter().map(|tree| tree.path.join(&added.path[1..]).join("cgroup.procs"));
            if processes.into_iter().all(|file| fs::read(file).is_ok_and(|text| text.is_empty())) {
                self.discovery.suspect(added.id);
            }
        }
        let engine = Known { names: &names, answering: self.answers.into(), count: 1 };
        let changes = self.discovery.refresh(self.now, &engine);
        self.running.retain(|_, added| !changes.removed.contains(&added.id));
        for added in changes.added {
            assert!(self.running.insert(added.path.clone(), added).is_none(), "{:?}", self.log);
        }
        let (sample, limits) = (Sample::default(), Limits::default());
        let live = self.running.values().map(|added| LiveContainer {
            id: added.id,
            path: &added.path,
            named: added.named,
            sample: &sample,
            limits: &limits,
            generation: 1,
            oom_kills: None,
        });
        self.exposed_set.update(live.clone(), &names, Moment::now(), true);
        let exposed = self.exposed_set.exposed(live, &names, IdFilter::all());
        let rows = exposed.iter().map(|one| {
            let (path, name) = one.labels.of.unwrap().id_and_name();
            (path, name, one.sample.is_some())
        });
        rows.collect()
    }

    fn check(&mut self) -> Result<(), String> {
        let rows = self.scrape();
        let paths: BTreeSet<&str> = rows.iter().map(|(path, ..)| path.as_str()).collect();
        if paths.len() != rows.len() {
            return Err(format!("a path twice: {rows:#?}"));
        }
        for (path, named, runs) in rows.iter().filter(|(_, name, _)| !name.is_empty()) {
            let owner = (0..OURS).find(|number| named.starts_with(&format!("c{number}-")));
            let owner = owner.ok_or_else(|| format!("an invented name: {named}"))?;
            if *path != Self::made_at(owner) {
                return Err(format!("{named} at {path}, which its engine has not made; runs: {runs}"));
            }
        }
        let live = |path: &str| rows.iter().find(|(at, _, runs)| *runs && at == path);
        let names = self.directory.names();
        for (number, truth) in self.truth.iter().enumerate() {
            let path = Self::made_at(number);
            let record = names.containers.get(&id(number));
            match live(&path) {
                None if truth.runs => return Err(format!("{number} is lost: {rows:#?}")),
                Some((_, name, _))
                    if truth.runs && record.is_some_and(|record| record.state.is_alive() && record.name != *name) =>
                {
                    return Err(format!("{number} is called {name:?}"));
                }
                Some(_) if !truth.runs && !self.exists(&path) => return Err(format!("{number} has no cgroup")),
                Some(_) if !truth.runs && self.answers && record.is_none_or(|record| !record.state.is_alive()) => {
                    return Err(format!("{number} was left behind, and is exposed"));
                }
                _ => {}
            }
        }
        for foreign in OURS..OURS + FOREIGN {
            let found: Vec<_> = rows.iter().filter(|(path, ..)| path.ends_with(&text(foreign))).collect();
            let is_there =
                |path: &str| (0..OURS).any(|by| self.exists(&format!("/docker/{}/{path}/{}", text(by), text(foreign))));
            let there = ["docker", "dockerer"].into_iter().any(is_there);
            let shown = found.iter().filter(|(path, name, runs)| *runs && name.is_empty() && self.exists(path)).count();
            if shown != usize::from(there) {
                return Err(format!("foreign {foreign}: there {there}, shown {shown} times"));
            }
        }
        Ok(())
    }
}

fn exposed_set() -> ExposedSet {
    ExposedSet::new(Arc::new(ContainerFilter::default()), Duration::from_mins(5), false)
}

fn name(number: usize, turn: usize) -> String {
    format!("c{number}-{turn}")
}

/// A directory and those below it, parents first.
fn list(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    found.push(directory.to_owned());
    for entry in entries.filter_map(Result::ok).filter(|entry| entry.file_type().unwrap().is_dir()) {
        list(&entry.path(), found);
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        for _ in 0..=world.random.below(2) {
            world.step();
        }
        if let Err(problem) = world.check() {
            panic!("SEED={seed}: {problem}\n{:#?}\n{}", world.log, world.root.path().display());
        }
    }
}

#[test]
fn a_value_is_never_exposed_under_a_foreign_name_and_nothing_is_lost_or_doubled() {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        return run(seed);
    }
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || (thread..SEQUENCES).step_by(usize::try_from(THREADS).unwrap()).for_each(run));
        }
    });
}
