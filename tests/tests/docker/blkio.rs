//! Bytes written past the page cache, to a known device.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use exporter_tests::{Container, Engine, Exporter};

use super::{close, named};

const MIB: f64 = 1024.0 * 1024.0;

/// The whole disk below a directory, as a name in `/dev`.
fn disk_below(directory: &str) -> Result<String> {
    let number = fs::metadata(directory).with_context(|| directory.to_owned())?.dev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let link = format!("/sys/dev/block/{major}:{minor}");
    let device = fs::canonicalize(&link).with_context(|| {
        format!("{directory} is on no block device of its own ({link}): block I/O can be tested only where the engine's data-root is on a disk")
    })?;
    let whole = if device.join("partition").exists() { device.parent().unwrap_or(&device) } else { &device };
    let name = whole.file_name().and_then(|name| name.to_str()).context("a device without a name")?;
    Ok(Path::new("/dev").join(name).display().to_string())
}

#[test]
fn bytes_written_past_the_cache_are_counted() {
    let engine = Engine::shared().unwrap();
    let root = engine.docker(&["info", "--format", "{{.DockerRootDir}}"]).unwrap();
    let device = disk_below(&root).unwrap();
    // cgroup v1 counts only on devices with a limit: this one is never reached.
    let limits = [format!("--device-write-bps={device}:10gb"), format!("--device-read-bps={device}:10gb")];
    let options: Vec<&str> = limits.iter().map(String::as_str).collect();
    let container = Container::sleeping(engine, "blkio", &options).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    named(&exporter, &container).unwrap();
    container
        .exec(&["dd", "if=/dev/zero", "of=/written", "bs=256k", "count=64", "oflag=direct", "conv=fsync"])
        .unwrap();
    container.exec(&["dd", "if=/written", "of=/dev/null", "bs=256k", "iflag=direct"]).unwrap();
    let exposition = exporter.scrape().unwrap();
    let mine = [("name", container.name.as_str()), ("device", device.as_str())];
    let value = |name: &str| exposition.value(name, &mine).unwrap();
    // The filesystem's own blocks come on top.
    close("written", value("container_fs_writes_bytes_total"), 16.0 * MIB, 0.0, MIB).unwrap();
    close("read", value("container_fs_reads_bytes_total"), 16.0 * MIB, 0.0, 3.0 * MIB).unwrap();
    assert!(value("container_fs_writes_total") >= 64.0);
    assert!(value("container_fs_reads_total") >= 64.0);
    exporter.stop().unwrap();
}
