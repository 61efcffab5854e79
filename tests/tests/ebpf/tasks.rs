//! Threads by state, against what procfs shows of each thread of a container.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use exporter_tests::bare::BareContainers;
use exporter_tests::exporter::binary;
use exporter_tests::{Exporter, Exposition};

use super::SOON;

const STATE: &str = "container_tasks_state";
const LOAD: &str = "container_cpu_load_average_10s";
const STATES: [&str; 5] = ["iowaiting", "running", "sleeping", "stopped", "uninterruptible"];

/// A process that waits in `vfork` for one that never runs a program: no ordinary signal wakes it.
const VFORK: &str = r#"
use POSIX qw(uname);
my ($clone, $prctl) = (uname)[4] eq "x86_64" ? (56, 157) : (220, 167);
# The other one ends with this one.
syscall($clone, 0x4011, 0, 0, 0, 0) == 0 and syscall($prctl, 1, 9);
sleep 1000;
"#;

type States = BTreeMap<String, i128>;

/// What the letters of procfs are to us. It does not tell who waits for I/O: here nobody does for long.
fn by_procfs(directories: &[&Path]) -> Result<States> {
    let mut states: States = STATES.iter().map(|state| ((*state).to_owned(), 0)).collect();
    for directory in directories {
        for pid in fs::read_to_string(directory.join("cgroup.procs"))?.lines() {
            for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
                let text = fs::read_to_string(thread?.path().join("status"))?;
                let line = text.lines().find_map(|line| line.strip_prefix("State:")).context("no state")?;
                let state = match line.trim().chars().next() {
                    Some('R') => "running",
                    Some('S' | 'I') => "sleeping",
                    Some('T' | 't') => "stopped",
                    Some('D') => "uninterruptible",
                    _ => continue,
                };
                *states.entry(state.to_owned()).or_default() += 1;
            }
        }
    }
    Ok(states)
}

fn exposed(exposition: &Exposition, id: &str) -> Result<States> {
    let of = |state: &str| of_state(exposition, id, state);
    STATES.iter().map(|state| Ok(((*state).to_owned(), of(state)?))).collect()
}

/// The threads in a state; rare states are left out where nobody is in them.
fn of_state(exposition: &Exposition, id: &str, state: &str) -> Result<i128> {
    let labels = [("id", id), ("state", state)];
    if ["running", "sleeping"].contains(&state) || exposition.has(STATE, &labels) {
        return exposition.integer(STATE, &labels);
    }
    Ok(0)
}

fn states(numbers: [i128; 5]) -> States {
    STATES.iter().map(|state| (*state).to_owned()).zip(numbers).collect()
}

/// Starts a container with so many sleeping, running, stopped and uninterruptible processes, a program of several threads, and one
/// process in a cgroup below. Returns the directories in the tree of v2.
fn populate(bare: &mut BareContainers) -> Vec<std::path::PathBuf> {
    let id = bare.ids[0].clone();
    let nested = bare.nest(&id, "below").unwrap();
    let sleeper: &[&str] = &["sleep", "1000"];
    let worker: &[&str] = &["sh", "-c", "while :; do :; done"];
    let started = [(&nested, sleeper), (&id, sleeper), (&id, sleeper), (&id, sleeper), (&id, worker), (&id, worker)];
    for (cgroup, command) in started {
        bare.start(cgroup, command).unwrap();
    }
    let unreachable = ["--ebpf=off", "--docker.url=unix:///none.sock", "--web.listen-address=127.0.0.1:0"];
    let program = binary().unwrap();
    let threads: Vec<&str> = [program.to_str().unwrap()].into_iter().chain(unreachable).collect();
    bare.start(&id, &threads).unwrap();
    bare.start(&id, &["perl", "-e", VFORK]).unwrap();
    for _ in 0..2 {
        let pid = bare.start(&id, &["sleep", "1000"]).unwrap().to_string();
        let stop = || Command::new("kill").args(["-STOP", &pid]).status().unwrap().success();
        assert!(stop(), "{pid} could not be stopped");
    }
    let tree = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    let tree = tree.into_iter().find(|tree| tree.join("cgroup.controllers").exists()).unwrap();
    let path = bare.path(&id);
    let directory = tree.join(path.trim_start_matches('/'));
    vec![directory.join("below"), directory]
}

/// Waits until both sides agree on states with these numbers of running, stopped and uninterruptible threads.
fn agree(exporter: &Exporter, id: &str, directories: &[&Path], expected: [i128; 3]) -> Result<States> {
    exporter.scrape_until(SOON, "equal states", |exposition| {
        let (ours, procfs) = (exposed(exposition, id)?, by_procfs(directories)?);
        ensure!(ours == procfs, "{ours:?}, procfs: {procfs:?}");
        let known = ["running", "stopped", "uninterruptible"].map(|state| ours.get(state).copied().unwrap_or(0));
        ensure!(known == expected, "{ours:?}, expected: {expected:?}");
        Ok(ours)
    })
}

#[test]
fn threads_are_in_the_states_that_procfs_shows() {
    let mut bare = BareContainers::make(2).unwrap();
    let directories = populate(&mut bare);
    let directories: Vec<&Path> = directories.iter().map(std::path::PathBuf::as_path).collect();
    let (id, quiet) = (bare.path(&bare.ids[0]), bare.path(&bare.ids[1]));
    let exporter = Exporter::builder().start().unwrap();
    // Two loops run; two sleepers are stopped; one waits in vfork.
    let seen = agree(&exporter, &id, &directories, [2, 2, 1]).unwrap();
    // Three sleepers, that of the container itself, the one below, the child of vfork, and a program of several threads.
    assert!(seen["sleeping"] >= 6 + 3, "{seen:?}");
    let exposition = exporter.scrape().unwrap();
    assert_eq!(exposed(&exposition, &quiet).unwrap(), states([0, 0, 1, 0, 0]));
    let host = exposed(&exposition, "/").unwrap();
    let all: i128 = host.values().sum();
    assert!(all > seen.values().sum::<i128>() && host["running"] >= 2 && host["stopped"] >= 2, "{host:?}");
    // The first samples may meet the container's programs while they start. Ten seconds later those weigh a third.
    exporter
        .scrape_until(3 * SOON, "the load of two", |exposition| {
            let load = exposition.integer(LOAD, &[("id", &id)])?;
            ensure!((1500..=2500).contains(&load), "a load of {load}");
            Ok(())
        })
        .unwrap();
    let exposition = exporter.scrape().unwrap();
    assert_eq!(exposition.integer(LOAD, &[("id", &quiet)]).unwrap(), 0);
    exporter.stop().unwrap();
}

#[test]
fn without_programs_threads_are_read_from_procfs_when_asked_alone() {
    let mut bare = BareContainers::make(1).unwrap();
    let directories = populate(&mut bare);
    let directories: Vec<&Path> = directories.iter().map(std::path::PathBuf::as_path).collect();
    let id = bare.path(&bare.ids[0]);
    let silent = Exporter::builder().flag("--ebpf=off").start().unwrap();
    assert!(silent.scrape().unwrap().family(STATE).is_none(), "its price is paid only when asked");
    silent.stop().unwrap();

    let exporter = Exporter::builder().flag("--ebpf=off").flag("--collector.tasks").start().unwrap();
    exporter
        .scrape_until(SOON, "equal states", |exposition| {
            let procfs = by_procfs(&directories)?;
            for (state, expected) in procfs.iter().filter(|(state, _)| *state != "iowaiting") {
                let ours = of_state(exposition, &id, state)?;
                ensure!(ours == *expected, "{ours} {state}, procfs: {procfs:?}");
            }
            ensure!(procfs["stopped"] == 2 && procfs["uninterruptible"] == 1, "{procfs:?}");
            Ok(())
        })
        .unwrap();
    let exposition = exporter.scrape().unwrap();
    assert!(!exposition.has(STATE, &[("state", "iowaiting")]), "procfs does not tell");
    assert!(exposition.integer(LOAD, &[("id", &id)]).unwrap() > 0);
    exporter.stop().unwrap();
}

#[test]
fn a_container_whose_processes_have_ended_has_no_threads_in_any_state() {
    for flags in [&[][..], &["--ebpf=off", "--collector.tasks"]] {
        let mut bare = BareContainers::make(2).unwrap();
        let [ended, other] = [0, 1].map(|index: usize| bare.path(&bare.ids[index]));
        // An engine that does not answer: the cgroup stays a container.
        let exporter = flags.iter().fold(Exporter::builder(), |builder, flag| builder.flag(*flag)).start().unwrap();
        let has = |exposition: &Exposition, id: &str| exposition.has(STATE, &[("id", id), ("state", "sleeping")]);
        let both = |exposition: &Exposition| {
            ensure!(has(exposition, &ended) && has(exposition, &other), "not both");
            Ok(())
        };
        exporter.scrape_until(SOON, "the threads of both", both).unwrap();
        let id = bare.ids[0].clone();
        bare.end(&id).unwrap();
        exporter
            .scrape_until(SOON, "no thread of the one that has ended", |exposition| {
                ensure!(exposition.integer("container_threads", &[("id", &ended)])? == 0, "it has threads");
                ensure!(
                    !exposition.samples().any(|sample| sample.name == STATE && sample.label("id") == ended),
                    "a state"
                );
                ensure!(!exposition.has(LOAD, &[("id", &ended)]), "a load");
                Ok(())
            })
            .unwrap();
        assert!(has(&exporter.scrape().unwrap(), &other));
        exporter.stop().unwrap();
    }
}

#[test]
fn containers_that_come_and_go_have_the_counts_of_nobody_else() {
    let exporter = Exporter::builder().start().unwrap();
    // A process that has just been started runs for a moment.
    let check = |containers: &BareContainers, expected: &States| {
        let probe = |exposition: &Exposition| {
            for id in &containers.ids {
                let seen = exposed(exposition, &containers.path(id))?;
                ensure!(&seen == expected, "{id}: {seen:?}");
            }
            Ok(())
        };
        exporter.scrape_until(SOON, "the expected states", probe).unwrap();
    };
    let one = states([0, 0, 1, 0, 0]);
    let stays = BareContainers::make(1).unwrap();
    check(&stays, &one);
    for round in 0..3 {
        // Those that come take the slots of those that went.
        let mut others = BareContainers::make(20 + round).unwrap();
        check(&others, &one);
        for id in others.ids.clone() {
            others.start(&id, &["sleep", "1000"]).unwrap();
        }
        check(&others, &states([0, 0, 2, 0, 0]));
        check(&stays, &one);
    }
    exporter.stop().unwrap();
}
