//! A collector that walks directories and is off by default: open files.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use exporter_tests::{Container, Engine, Exporter};

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
