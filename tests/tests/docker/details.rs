//! The collectors that walk directories or ask for sizes, and are off by default: open files, and the writable layer.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exporter_tests::{Container, Engine, Exporter};

use super::{close, named};

const MIB: f64 = 1024.0 * 1024.0;

/// Open files of all processes of the container, and how many of them are sockets, as `/proc` tells them.
fn descriptors(container: &Container<'_>) -> Result<(i128, i128)> {
    let (mut all, mut sockets) = (0, 0);
    let pids = fs::read_to_string(container.file("pids", "cgroup.procs")?)?;
    for pid in pids.lines() {
        for entry in fs::read_dir(Path::new("/proc").join(pid).join("fd"))? {
            let target = fs::read_link(entry?.path())?;
            all += 1;
            sockets += i128::from(target.to_string_lossy().starts_with("socket:"));
        }
    }
    Ok((all, sockets))
}

#[test]
fn open_files_and_sockets_are_those_of_all_processes() {
    let engine = Engine::shared().unwrap();
    let command = ["sh", "-c", "nc -l -p 9000 & nc -l -p 9001 & exec sleep 1d"];
    let container = Container::run(engine, "files", &["--ulimit=nofile=1000:2000"], &command).unwrap();
    let exporter = Exporter::builder().docker(engine).flag("--collector.process").start().unwrap();
    let mine = [("name", container.name.as_str())];
    exporter
        .scrape_until(Duration::from_secs(10), "all open files", |exposition| {
            let (all, sockets) = descriptors(&container)?;
            ensure!(sockets == 2, "{sockets} sockets where two processes listen");
            ensure!(all >= 3 * 3 + 2, "{all} open files of three processes");
            let ours = (
                exposition.integer("container_file_descriptors", &mine)?,
                exposition.integer("container_sockets", &mine)?,
            );
            // From Linux 6.2 on the kernel's own count is read. It has the descriptor that a waiting accept() has reserved, too.
            let counted = (all..=all + 2).contains(&ours.0);
            ensure!(counted && ours.1 == sockets, "{ours:?}, by /proc {:?}", (all, sockets));
            let limit = [mine[0], ("ulimit", "max_open_files")];
            ensure!(exposition.integer("container_ulimits_soft", &limit)? == 1000, "another limit");
            Ok(())
        })
        .unwrap();
    exporter.stop().unwrap();
}

#[test]
fn the_writable_layer_and_its_filesystem_have_their_sizes() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "layer", &[]).unwrap();
    container.exec(&["dd", "if=/dev/zero", "of=/filled", "bs=1M", "count=5", "conv=fsync"]).unwrap();
    // The engine is asked at the start, and then not for minutes.
    let exporter = Exporter::builder().docker(engine).flag("--collector.disk").start().unwrap();
    named(&exporter, &container).unwrap();
    let mine = [("name", container.name.as_str())];
    let exposition = exporter
        .scrape_until(Duration::from_secs(20), "the layer's size", |exposition| {
            exposition.one("container_fs_usage_bytes", &mine)?;
            Ok(exposition.clone())
        })
        .unwrap();
    let reported = container.docker("inspect", &["--size", "--format", "{{.SizeRw}}"]).unwrap();
    let usage = exposition.value("container_fs_usage_bytes", &mine).unwrap();
    close("usage", usage, reported.parse().context(reported).unwrap(), 0.0, 0.1 * MIB).unwrap();
    close("usage", usage, 5.0 * MIB, 0.0, MIB).unwrap();

    let root = format!("/proc/{}/root", container.pid().unwrap());
    let figures = rustix::fs::statvfs(root.as_str()).unwrap();
    let integer = |name: &str| exposition.integer(name, &mine).unwrap();
    assert_eq!(integer("container_fs_limit_bytes"), i128::from(figures.f_blocks) * i128::from(figures.f_frsize));
    assert_eq!(integer("container_fs_inodes_total"), i128::from(figures.f_files));
    // Others make and remove files meanwhile.
    let apart = (integer("container_fs_inodes_free") - i128::from(figures.f_ffree)).abs();
    assert!(apart < 100_000, "{apart} inodes apart");
    let sample = exposition.one("container_fs_limit_bytes", &mine).unwrap();
    assert!(sample.label("device").starts_with("/dev/"), "{sample:?}");
    exporter.stop().unwrap();
}
