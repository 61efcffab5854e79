//! Processes, threads, and the limit on them.

use anyhow::ensure;
use exporter_tests::{Container, Engine, Exporter};

use super::{SOON, named};

#[test]
fn processes_are_counted_up_to_their_limit() {
    let engine = Engine::shared().unwrap();
    let command = ["sh", "-c", "sleep 1d & sleep 1d & sleep 1d & wait"];
    let container = Container::run(engine, "pids", &["--pids-limit=8"], &command).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    named(&exporter, &container).unwrap();
    let mine = [("name", container.name.as_str())];
    // The shell starts them one by one.
    let exposition = exporter
        .scrape_until(SOON, "all four processes", |exposition| {
            for name in ["container_processes", "container_threads"] {
                let ours = exposition.integer(name, &mine)?;
                ensure!(ours == 4, "{name} is {ours}");
            }
            Ok(exposition.clone())
        })
        .unwrap();
    assert_eq!(exposition.integer("container_threads_max", &mine).unwrap(), 8);
    assert_eq!(exposition.integer("container_pids_max_events_total", &mine).unwrap(), 0);
    let bomb = ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done"];
    container.exec(&bomb).unwrap_err();
    let exposition = exporter.scrape().unwrap();
    assert!(exposition.integer("container_pids_max_events_total", &mine).unwrap() > 0);
    exporter.stop().unwrap();
}
