//! Buffered writes. Somebody else writes the pages back, later and from a thread of the kernel; on cgroup v2 the kernel still
//! knows who has made them dirty. On v1 it does not, so that this is asked of a host with v2 alone.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use exporter_tests::{Container, Engine, Exporter, Exposition};

use crate::{SOON, alone, named, run};

const MIB: i128 = 1024 * 1024;
const WRITTEN: &str = "container_blkio_bytes_total";

/// Bytes that devices have written, by container name.
fn written(exposition: &Exposition) -> Result<BTreeMap<String, i128>> {
    let mut bytes = BTreeMap::new();
    for sample in exposition.select(WRITTEN, &[("operation", "write")]) {
        let more: i128 = sample.text.parse().with_context(|| sample.text.clone())?;
        *bytes.entry(sample.label("name").to_owned()).or_default() += more;
    }
    Ok(bytes)
}

#[test]
fn pages_that_another_one_writes_back_are_counted_for_who_made_them_dirty() {
    let _alone = alone();
    let engine = Engine::shared().unwrap();
    let writer = Container::sleeping(engine, "dirties", &[]).unwrap();
    let other = Container::sleeping(engine, "syncs", &[]).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    named(&exporter, &writer).unwrap();
    let begin = named(&exporter, &other).unwrap();
    let loaded = begin.integer("docker_stats_exporter_ebpf_program_loaded", &[("program", "block_complete")]);
    assert_eq!(loaded.unwrap(), 1, "it said {}", exporter.stderr());
    for (turn, file) in ["/by-the-host", "/by-another-container"].into_iter().enumerate() {
        // What the containers' starts have left dirty is not of interest.
        run("sync", &[]).unwrap();
        let before = written(&exporter.scrape().unwrap()).unwrap();
        // It ends with pages in memory: nothing here waits for a disk.
        let to = format!("of={file}");
        writer.exec(&["dd", "if=/dev/zero", &to, "bs=1M", "count=24"]).unwrap();
        if turn == 0 {
            run("sync", &[]).unwrap();
        } else {
            other.exec(&["sync"]).unwrap();
        }
        let of = |all: &BTreeMap<String, i128>, name: &str| all.get(name).copied().unwrap_or(0);
        let after = exporter
            .scrape_until(SOON, "the pages to be counted for who made them", |exposition| {
                let now = written(exposition)?;
                let bytes = of(&now, &writer.name) - of(&before, &writer.name);
                ensure!(bytes >= 24 * MIB, "{bytes} bytes of 24 MiB in {now:?}; before {before:?}");
                Ok(now)
            })
            .unwrap();
        let bytes = of(&after, &writer.name) - of(&before, &writer.name);
        assert!(bytes < 32 * MIB, "{bytes} bytes where 24 MiB and what describes them were written");
        for (name, now) in after.iter().filter(|(name, _)| **name != writer.name) {
            let bytes = now - of(&before, name);
            assert!(bytes < 2 * MIB, "{bytes} bytes for {name:?}, which wrote nothing ({file})");
        }
    }
    exporter.stop().unwrap();
}
