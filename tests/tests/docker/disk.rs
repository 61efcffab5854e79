//! What containers have written, by the disk walker against `du`; and the walker itself: what it may do, and that it ends and comes back.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exporter_tests::wait::eventually;
use exporter_tests::{Container, Engine, Exporter, Exposition};
use rustix::process::{Pid, Signal, kill_process};

use super::named;

/// A figure comes with one of the next scrapes; one that was taken while files were written is a minute old before the next one.
const SOON: Duration = Duration::from_secs(90);

/// Where the engine keeps the writable layer, and where the log.
fn directories(container: &Container<'_>) -> Result<(PathBuf, PathBuf)> {
    let layer = container.inspect("{{.GraphDriver.Data.UpperDir}}")?;
    let log = container.inspect("{{.LogPath}}")?;
    let log = Path::new(&log).parent().context("no log")?.to_owned();
    ensure!(Path::new(&layer).is_dir() && log.is_dir(), "{layer} {}", log.display());
    Ok((layer.into(), log))
}

/// What `du` says of both.
fn du(container: &Container<'_>) -> Result<i128> {
    let (layer, log) = directories(container)?;
    let of = |path: &Path| -> Result<i128> {
        let output = Command::new("du").args(["-B1", "-s", "-x"]).arg(path).output()?;
        let text = String::from_utf8(output.stdout)?;
        text.split_whitespace().next().context("du says nothing")?.parse().context("du")
    };
    Ok(of(&layer)? + of(&log)?)
}

fn usage(exposition: &Exposition, container: &Container<'_>) -> Result<i128> {
    exposition.integer("container_fs_usage_bytes", &[("name", &container.name)])
}

fn equals_du(exporter: &Exporter, container: &Container<'_>) -> Result<Exposition> {
    exporter.scrape_until(SOON, "what du says", |exposition| {
        let (ours, theirs) = (usage(exposition, container)?, du(container)?);
        ensure!(ours == theirs, "ours {ours}, by du {theirs}");
        Ok(exposition.clone())
    })
}

/// A filesystem that is mounted until the value goes.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path)?;
        let status = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&path).status()?;
        ensure!(status.success(), "mount: {status}");
        Ok(Self(path))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().map(drop).unwrap_or_default();
    }
}

#[test]
fn what_a_container_has_written_is_what_du_says() {
    let engine = Engine::shared().unwrap();
    let words = "mkdir -p /d/e /m && busybox ln -s / /d/loop && dd if=/dev/zero of=/d/filled bs=1M count=5 conv=fsync \
                 && busybox ln /d/filled /d/e/linked && busybox truncate -s 1G /d/sparse \
                 && busybox seq 1000 && exec sleep 1d";
    let container = Container::run(engine, "layer", &[], &["sh", "-c", words]).unwrap();
    let (layer, log) = directories(&container).unwrap();
    eventually(SOON, "the last line of the log", || {
        let text = fs::read_to_string(log.join(format!("{}-json.log", container.id)))?;
        ensure!(text.contains("1000"), "{} bytes", text.len());
        Ok(())
    })
    .unwrap();
    let inside = Mounted::tmpfs(layer.join("m/inside")).unwrap();
    fs::write(inside.0.join("elsewhere"), vec![1; 20 << 20]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    named(&exporter, &container).unwrap();
    let exposition = equals_du(&exporter, &container).unwrap();
    let bytes = usage(&exposition, &container).unwrap();
    assert!(
        (5 << 20..6 << 20).contains(&bytes),
        "{bytes}: a link counts once, a hole and another filesystem not at all"
    );

    // The container goes on, and so does the figure.
    container.exec(&["dd", "if=/dev/zero", "of=/more", "bs=1M", "count=3", "conv=fsync"]).unwrap();
    let grown = equals_du(&exporter, &container).unwrap();
    assert!(usage(&grown, &container).unwrap() >= bytes + (3 << 20));

    let mine = [("name", container.name.as_str())];
    let root = format!("/proc/{}/root", container.pid().unwrap());
    let figures = rustix::fs::statvfs(root.as_str()).unwrap();
    let integer = |name: &str| grown.integer(name, &mine).unwrap();
    assert_eq!(integer("container_fs_limit_bytes"), i128::from(figures.f_blocks) * i128::from(figures.f_frsize));
    assert_eq!(integer("container_fs_inodes_total"), i128::from(figures.f_files));
    // Others make and remove files meanwhile.
    let apart = (integer("container_fs_inodes_free") - i128::from(figures.f_ffree)).abs();
    assert!(apart < 100_000, "{apart} inodes apart");
    let device = grown.one("container_fs_limit_bytes", &mine).unwrap().label("device").to_owned();
    assert!(device.starts_with("/dev/"), "{device}");
    let used = grown.one("container_fs_usage_bytes", &mine).unwrap();
    assert_eq!(used.label("device"), device);
    exporter.stop().unwrap();
}

#[test]
fn the_stats_api_has_the_disks_that_files_have() {
    let engine = Engine::shared().unwrap();
    let words = "dd if=/dev/zero of=/filled bs=1M count=2 conv=fsync && exec sleep 1d";
    let container = Container::run(engine, "api-disk", &[], &["sh", "-c", words]).unwrap();
    let api = Exporter::builder().docker(engine).flag("--source=docker-api").start().unwrap();
    let (files, api) = (Exporter::with(engine).unwrap(), api);
    let [of_files, of_api] = [&files, &api].map(|exporter| equals_du(exporter, &container).unwrap());
    assert!(usage(&of_api, &container).unwrap() >= 2 << 20);
    for of in [("name", container.name.as_str()), ("id", "/")] {
        for family in ["container_fs_limit_bytes", "container_fs_inodes_total"] {
            let samples = |exposition: &Exposition| -> BTreeSet<(String, String)> {
                let samples = exposition.select(family, &[of]).into_iter();
                samples.map(|sample| (sample.label("device").to_owned(), sample.text.clone())).collect()
            };
            assert_eq!(samples(&of_api), samples(&of_files), "{family} {of:?}");
            assert!(!samples(&of_api).is_empty(), "{family} {of:?}");
        }
    }
    let success = [("collector", "disk")];
    assert_eq!(of_api.integer("docker_stats_exporter_scrape_collector_success", &success).unwrap(), 1);
    files.stop().unwrap();
    api.stop().unwrap();
}

#[test]
fn each_device_of_the_host_is_there_once() {
    let exporter = Exporter::builder().start().unwrap();
    let exposition = exporter.scrape().unwrap();
    let samples = exposition.select("container_fs_limit_bytes", &[("id", "/")]);
    let devices: BTreeSet<&str> = samples.iter().map(|sample| sample.label("device")).collect();
    assert_eq!(devices.len(), samples.len());
    // What df says of the root, where it lies on a device.
    let output = Command::new("df").args(["-B1", "--output=source,size", "/"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (source, size) = text.lines().nth(1).unwrap().trim().split_once(' ').unwrap();
    let of_root = [("id", "/"), ("device", source)];
    assert_eq!(exposition.integer("container_fs_limit_bytes", &of_root).unwrap(), size.trim().parse::<i128>().unwrap());
    assert!(exposition.integer("container_fs_usage_bytes", &of_root).unwrap() > 0);
    let foreign = |device: &&str| device.starts_with("tmpfs") || device.starts_with("overlay") || device.is_empty();
    assert!(!devices.iter().any(foreign), "{devices:?}");
    exporter.stop().unwrap();
}

#[test]
fn a_new_container_of_20000_files_has_its_figure() {
    let engine = Engine::shared().unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let container = Container::create(engine, "files", &[], &["sleep", "1d"]).unwrap();
    let layer = PathBuf::from(container.inspect("{{.GraphDriver.Data.UpperDir}}").unwrap());
    for number in 0..20_000 {
        let directory = layer.join(format!("many/{}", number % 100));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(number.to_string()), b"xy").unwrap();
    }
    // Written back, so that no block is allocated later.
    rustix::fs::sync();
    container.docker("start", &[]).unwrap();
    equals_du(&exporter, &container).unwrap();
    exporter.stop().unwrap();
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let parent = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        line.trim().parse::<u32>().ok()
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|child| parent(&status(*child)) == Some(pid)).collect()
}

fn status(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

/// The guard and the worker of an exporter.
fn walkers(exporter: &Exporter) -> Result<[u32; 2]> {
    eventually(SOON, "the walker", || {
        let [guard] = children(exporter.pid())[..] else { anyhow::bail!("no guard") };
        let [worker] = children(guard)[..] else { anyhow::bail!("no worker") };
        Ok([guard, worker])
    })
}

/// Whether a process is there and no zombie.
fn lives(pid: u32) -> bool {
    status(pid).lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn the_walker_has_one_capability_and_is_confined() {
    let engine = Engine::shared().unwrap();
    let exporter = Exporter::with(engine).unwrap();
    for pid in walkers(&exporter).unwrap() {
        let status = status(pid);
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        let nothing = "0000000000000000";
        assert_eq!(value("CapEff:"), "0000000000000004", "CAP_DAC_READ_SEARCH alone: {status}");
        assert_eq!([value("CapPrm:"), value("CapBnd:")], ["0000000000000004", nothing]);
        assert_eq!([value("CapInh:"), value("CapAmb:")], [nothing; 2]);
        assert_eq!([value("NoNewPrivs:"), value("Seccomp:"), value("Threads:")], ["1", "2", "1"]);
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        assert!(descriptors < 40, "{descriptors}: none of the exporter's");
        assert_eq!(fs::read(format!("/proc/{pid}/environ")).unwrap_or_default(), b"");
        // SCHED_IDLE.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        assert_eq!(fields[38], "5", "{stat}");
    }
    let up = "docker_stats_exporter_disk_walker_up";
    let is_up = |exposition: &Exposition| {
        ensure!(exposition.integer(up, &[])? == 1, "it is down");
        Ok(())
    };
    exporter.scrape_until(SOON, up, is_up).unwrap();
    let log = exporter.stop().unwrap();
    assert!(log.contains("lists_all=true landlock=true seccomp=true"), "{log}");
}

#[test]
fn the_walker_ends_with_the_exporter_however_that_ends() {
    let engine = Engine::shared().unwrap();
    for signal in [Signal::KILL, Signal::TERM] {
        let mut exporter = Exporter::with(engine).unwrap();
        let walkers = walkers(&exporter).unwrap();
        exporter.signal(signal).unwrap();
        exporter.wait(SOON).unwrap();
        eventually(SOON, "the end of the walker", || {
            ensure!(!walkers.into_iter().any(lives), "{signal:?}: {walkers:?}");
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn a_killed_walker_comes_back_and_no_scrape_fails() {
    let engine = Engine::shared().unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let before = Container::sleeping(engine, "before", &[]).unwrap();
    equals_du(&exporter, &before).unwrap();
    let [guard, worker] = walkers(&exporter).unwrap();
    // First the worker, then the guard: the worker becomes the guard of the next one.
    kill(worker);
    let after = Container::sleeping(engine, "after", &[]).unwrap();
    equals_du(&exporter, &after).unwrap();
    let exposition = exporter.scrape().unwrap();
    assert!(usage(&exposition, &before).is_ok(), "what was known stays");
    assert_eq!(exposition.integer("docker_stats_exporter_disk_walker_restarts_total", &[]).unwrap(), 1);
    assert_eq!(exposition.integer("docker_stats_exporter_disk_walker_up", &[]).unwrap(), 1);

    let [_, second] = walkers(&exporter).unwrap();
    kill(guard);
    let last = Container::sleeping(engine, "last", &[]).unwrap();
    equals_du(&exporter, &last).unwrap();
    assert!(lives(second), "it is the guard now");
    exporter
        .scrape_until(SOON, "the first guard's entry to go", |_| {
            ensure!(status(guard).is_empty(), "{}", status(guard));
            Ok(())
        })
        .unwrap();
    let exposition = exporter.scrape().unwrap();
    let memory = exposition.integer("docker_stats_exporter_disk_walker_resident_memory_bytes", &[]).unwrap();
    assert!((1 << 20..64 << 20).contains(&memory), "{memory}");
    let third = children(second);
    let log = exporter.stop().unwrap();
    assert!(log.contains("restarted the disk walker"), "{log}");
    eventually(SOON, "the end of all", || {
        ensure!(!third.iter().chain(&[second]).any(|pid| lives(*pid)), "{second} {third:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_data_root_that_is_not_visible_costs_the_figure_and_is_said() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "hidden", &[]).unwrap();
    let data = engine.docker(&["info", "--format", "{{.DockerRootDir}}"]).unwrap();
    // Nor by the root of the first process, which takes CAP_SYS_PTRACE.
    let hide = format!("mount -t tmpfs none '{data}' && exec setpriv --bounding-set=-sys_ptrace \"$@\"");
    let builder = Exporter::builder().docker(engine).started_by(&["unshare", "--mount", "sh", "-c", &hide, "sh"]);
    let exporter = builder.start().unwrap();
    let reason = [("file", "layer"), ("reason", "not_visible")];
    let exposition = exporter
        .scrape_until(SOON, "the reason", |exposition| {
            exposition.integer("docker_stats_exporter_read_errors_total", &reason)?;
            Ok(exposition.clone())
        })
        .unwrap();
    assert!(usage(&exposition, &container).is_err());
    let success = [("collector", "disk")];
    let exposition = exporter.scrape().unwrap();
    assert_eq!(exposition.integer("docker_stats_exporter_scrape_collector_success", &success).unwrap(), 0);
    let log = exporter.stop().unwrap();
    assert_eq!(log.matches("-v /var/lib/docker:/var/lib/docker:ro").count(), 1, "{log}");
}

#[test]
fn no_collector_means_no_walker() {
    let exporter = Exporter::builder().flag("--no-collector.disk").start().unwrap();
    let exposition = exporter.scrape().unwrap();
    assert!(
        !exposition.samples().any(|sample| sample.name.contains("_fs_usage_") || sample.name.contains("disk_walker"))
    );
    assert!(children(exporter.pid()).is_empty());
    exporter.stop().unwrap();
}
