//! Bytes written and read, past the page cache and through it, on known devices.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use exporter_tests::{Container, Engine, Exporter};

use super::{close, named};

const MIB: f64 = 1024.0 * 1024.0;

/// The whole disk below a directory, as a name in `/dev`.
fn disk_below(directory: &str) -> Result<String> {
    let (major, minor) = device_below(directory)?;
    let link = format!("/sys/dev/block/{major}:{minor}");
    disk(&link).with_context(|| {
        format!("{directory} is on no block device of its own: block I/O can be tested only where the engine's data-root is on a disk")
    })
}

fn device_below(directory: &str) -> Result<(u32, u32)> {
    let number = fs::metadata(directory).with_context(|| directory.to_owned())?.dev();
    Ok((rustix::fs::major(number), rustix::fs::minor(number)))
}

/// The whole disk that an entry of `/sys/dev/block` is or belongs to.
fn disk(link: &str) -> Result<String> {
    let device = fs::canonicalize(link).with_context(|| link.to_owned())?;
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

/// Directories on disks: the engine's own, and that of another disk where this host has one to spare.
fn directories(engine: &Engine) -> Vec<String> {
    let root = engine.docker(&["info", "--format", "{{.DockerRootDir}}"]).unwrap();
    let own = disk_below(&root).unwrap();
    let spare = ["/data", "/srv", "/var/tmp"].into_iter().map(str::to_owned);
    let spare = spare.filter(|directory| disk_below(directory).is_ok_and(|disk| disk != own)).take(1);
    std::iter::once(root.clone()).chain(spare).collect()
}

#[test]
fn every_device_has_the_kernel_s_figures() {
    let engine = Engine::shared().unwrap();
    let mut options = Vec::new();
    let mut work = Vec::new();
    for (index, directory) in directories(engine).iter().enumerate() {
        let disk = disk_below(directory).unwrap();
        options.push(format!("--device-write-bps={disk}:10gb"));
        options.push(format!("--device-read-bps={disk}:10gb"));
        if index > 0 {
            options.push(format!("--volume={directory}:/{index}"));
        }
        let file =
            format!("/{}/{}", if index > 0 { index.to_string() } else { "tmp".to_owned() }, Engine::unique("io"));
        // Past the cache, and through it: cgroup v1 sees only the former.
        work.push(format!(
            "dd if=/dev/zero of={file} bs=256k count=32 oflag=direct; dd if={file} of=/dev/null bs=256k iflag=direct; \
             dd if=/dev/zero of={file}.through bs=1M count=8 conv=fsync; rm {file} {file}.through"
        ));
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let container = Container::sleeping(engine, "devices", &options).unwrap();
    let exporter = Exporter::with(engine).unwrap();
    named(&exporter, &container).unwrap();
    container.exec(&["sh", "-c", &work.join("; ")]).unwrap();

    let kernel = container.kernel().unwrap();
    let before = kernel.devices().unwrap();
    let exposition = exporter.scrape().unwrap();
    let after = kernel.devices().unwrap();
    let mut used = 0;
    for (number, figures) in &before {
        // A partition's traffic is counted at its disk.
        let disk = disk(&format!("/sys/dev/block/{number}")).unwrap();
        let mine = [("name", container.name.as_str()), ("device", disk.as_str())];
        for (name, figure) in figures {
            let ours = exposition.integer(name, &mine).unwrap();
            let range = i128::from(*figure)..=i128::from(after[number][name]);
            assert!(range.contains(&ours), "{name} of {disk} is {ours}, the kernel's {range:?}");
        }
        let least = if kernel.is_v1("blkio") { 8 << 20 } else { 16 << 20 };
        used += usize::from(figures.get("container_fs_writes_bytes_total").is_some_and(|bytes| *bytes >= least));
    }
    assert_eq!(used, directories(engine).len(), "devices that were written to: {before:?}");
    exporter.stop().unwrap();
}
