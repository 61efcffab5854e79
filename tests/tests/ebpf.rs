//! The eBPF programs in the real kernel, with real traffic whose size is known.

#[cfg(test)]
#[path = "ebpf/collisions.rs"]
mod collisions;
#[cfg(test)]
#[path = "ebpf/lifecycle.rs"]
mod lifecycle;
#[cfg(test)]
#[path = "ebpf/network.rs"]
mod network;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::Result;
use exporter_tests::{Container, Exporter, Exposition};

/// A value may be counted a moment after the command that caused it has ended.
const SOON: Duration = Duration::from_secs(10);

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

/// How many packets `ping` says that it has sent: at times it is one more than it was told to.
fn transmitted(said: &str) -> i128 {
    let line = said.lines().find_map(|line| line.split_once(" packets transmitted"));
    line.and_then(|(number, _)| number.trim().parse().ok()).unwrap_or_default()
}
