//! The eBPF programs in the real kernel, with real traffic whose size is known.

#[cfg(test)]
#[path = "ebpf/blkio.rs"]
mod blkio;
#[cfg(test)]
#[path = "ebpf/bounds.rs"]
mod bounds;
#[cfg(test)]
#[path = "ebpf/collisions.rs"]
mod collisions;
#[cfg(test)]
#[path = "ebpf/confined.rs"]
mod confined;
#[cfg(test)]
#[path = "ebpf/disk.rs"]
mod disk;
#[cfg(test)]
#[path = "ebpf/fio.rs"]
mod fio;
#[cfg(test)]
#[path = "ebpf/histogram.rs"]
mod histogram;
#[cfg(test)]
#[path = "ebpf/lifecycle.rs"]
mod lifecycle;
#[cfg(test)]
#[path = "ebpf/network.rs"]
mod network;
#[cfg(test)]
#[path = "ebpf/sched.rs"]
mod sched;
#[cfg(test)]
#[path = "ebpf/snapshot.rs"]
mod snapshot;
#[cfg(test)]
#[path = "ebpf/talk.rs"]
mod talk;
#[cfg(test)]
#[path = "ebpf/tasks.rs"]
mod tasks;
#[cfg(test)]
#[path = "ebpf/throttled.rs"]
mod throttled;
#[cfg(test)]
#[path = "ebpf/totals.rs"]
mod totals;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use exporter_tests::bare::BareContainers;
use exporter_tests::{Container, Exporter, Exposition};

/// A value may be counted a moment after the command that caused it has ended.
const SOON: Duration = Duration::from_secs(10);

/// How often something is tried whose count must be exact once, and never too much. A kernel may be told to run no
/// tracing programs while certain processes are on a CPU, and what completes just then is nobody's: seen in sandboxes.
const ROUNDS: usize = 12;

/// The names of the programs that a process holds, as the kernel's own tool tells them.
fn program_names(pid: u32) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed while we look.
        let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        let Some(number) = text.lines().find_map(|line| line.strip_prefix("prog_id:")) else { continue };
        let output = Command::new("bpftool").args(["prog", "show", "id", number.trim()]).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let name = said.split_once("name ").and_then(|(_, rest)| rest.split_whitespace().next());
        names.push(name.with_context(|| format!("bpftool says {said:?}"))?.to_owned());
    }
    Ok(names)
}

/// Scrapes until the probes' collector serves the container under its name.
fn named(exporter: &Exporter, container: &Container<'_>) -> Result<Exposition> {
    exporter.scrape_until(SOON, &format!("the name of {}", container.name), |exposition| {
        exposition.one("container_cpu_usage_seconds_total", &[("name", &container.name)])?;
        Ok(exposition.clone())
    })
}

/// Serves so many bytes to everyone who asks, until the test's process ends.
fn serve_bytes(address: IpAddr, size: usize) -> Result<SocketAddr> {
    let listener = TcpListener::bind((address, 0))?;
    let local = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            // The request is short, and its content does not matter.
            if stream.read(&mut request).is_ok() {
                let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {size}\r\n\r\n");
                let body = vec![b'x'; size];
                // The other side may have gone away.
                drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)));
            }
        }
    });
    Ok(local)
}

/// Sends packets of 100 bytes to this host from inside a container without an engine, and gives how many it were. Whether
/// a busy machine answers them in time does not matter.
fn ping_from(bare: &BareContainers, id: &str, packets: u64) -> Result<i128> {
    let command = format!("busybox ping -q -A -c {packets} -s 72 127.0.0.1 || true");
    Ok(transmitted(&bare.run(id, &["sh", "-c", &command])?))
}

/// How many packets `ping` says that it has sent, each time it was run: at times it is one more than it was told to.
fn transmitted(said: &str) -> i128 {
    let numbers =
        said.lines().filter_map(|line| line.split_once(" packets transmitted")?.0.trim().parse::<i128>().ok());
    numbers.sum()
}
