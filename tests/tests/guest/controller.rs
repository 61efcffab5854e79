//! A controller that a cgroup's parent does not hand down.

use std::fs;
use std::path::Path;

use anyhow::ensure;
use exporter_tests::{Container, Engine, Exporter};

use crate::{CPU, SOON, alone, named};

const SLICE: &str = "dsenomemory.slice";
const MEMORY: &str = "container_memory_usage_bytes";

fn hand_down(word: &str) {
    fs::write(Path::new("/sys/fs/cgroup").join(SLICE).join("cgroup.subtree_control"), word).unwrap();
}

#[test]
fn without_the_memory_controller_all_else_is_served() {
    let _alone = alone();
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "nomemory", &[&format!("--cgroup-parent={SLICE}")]).unwrap();
    let other = Container::sleeping(engine, "withmemory", &[]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let mine = [("name", container.name.as_str())];
    let with = named(&exporter, &container).unwrap();
    assert!(with.has(MEMORY, &mine));
    let left = |names: std::collections::BTreeSet<&str>| -> Vec<String> {
        let memory = |name: &str| name.starts_with("container_memory_") || name.starts_with("container_spec_memory_");
        let others = |name: &&str| !memory(name) && *name != "container_oom_events_total";
        names.into_iter().filter(others).map(str::to_owned).collect()
    };

    hand_down("-memory");
    assert!(!container.file("memory", "memory.current").unwrap().exists(), "the controller is still there");
    let fresh = Exporter::with(engine).unwrap();
    named(&fresh, &container).unwrap();
    for exporter in [&exporter, &fresh] {
        let without = named(exporter, &other).unwrap();
        assert!(!without.has(MEMORY, &mine), "memory of a container that none is counted of");
        assert!(without.has(CPU, &mine));
        assert_eq!(
            left(with.prompt_names_with(&mine)),
            left(without.prompt_names_with(&mine)),
            "it takes other values along"
        );
        assert!(without.has(MEMORY, &[("name", &other.name)]), "another container is no worse off");
    }

    hand_down("+memory");
    // An update is what makes limits and missing files be read before they are due.
    container.docker("update", &["--memory=64m", "--memory-swap=128m"]).unwrap();
    for exporter in [&exporter, &fresh] {
        exporter
            .scrape_until(SOON, "the memory of a container that has the controller again", |exposition| {
                let ours = exposition.integer(MEMORY, &mine)?;
                ensure!(ours >= 0, "{ours}");
                Ok(())
            })
            .unwrap();
    }
    exporter.stop().unwrap();
    fresh.stop().unwrap();
}
