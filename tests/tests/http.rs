//! The HTTP side of the real binary: what it answers, and what misbehaving clients cost the others.

#[cfg(test)]
#[path = "http/answers.rs"]
mod answers;
#[cfg(test)]
#[path = "http/clients.rs"]
mod clients;
#[cfg(test)]
#[path = "http/command.rs"]
mod command;
#[cfg(test)]
#[path = "http/deadlines.rs"]
mod deadlines;
#[cfg(test)]
#[path = "http/ending.rs"]
mod ending;
#[cfg(test)]
#[path = "http/negotiation.rs"]
mod negotiation;
#[cfg(test)]
#[path = "http/notify.rs"]
mod notify;
#[cfg(test)]
#[path = "http/sockets.rs"]
mod sockets;

use anyhow::Result;
use exporter_tests::Exporter;
use exporter_tests::exporter::Builder;
use exporter_tests::fixture::Fixture;

/// A captured host: the same answer on every machine, with nothing of this one in it.
fn captured() -> Result<Builder> {
    let fixture = Fixture::open("debian12-v1-hybrid")?;
    Ok(Exporter::builder()
        .flag(format!("--path.cgroup={}", fixture.cgroup().display()))
        .flag(format!("--path.procfs={}", fixture.proc().display())))
}
