//! Notifies the service manager that the exporter is ready, and that it stops (`sd_notify(3)`, `Type=notify`).
//!
//! Libraries connect the socket at each message, which the sandbox forbids. This code connects it once, before.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable with the socket's address: a path, or `@` and an abstract name.
pub const VARIABLE: &str = "NOTIFY_SOCKET";

/// The service manager's socket, if there is one.
#[derive(Debug)]
pub struct ServiceManager(Option<UnixDatagram>);

impl ServiceManager {
    /// Connects to the socket with this address. Without an address, or if the connection fails, nothing will be sent.
    #[must_use]
    pub fn connect(address: Option<&OsStr>) -> Self {
        let address = address.filter(|address| !address.is_empty());
        let Some(connected) = address.map(open) else { return Self(None) };
        let failed =
            |error: &io::Error| tracing::warn!(?address, %error, "{VARIABLE}: the service manager cannot be reached");
        Self(connected.inspect_err(failed).ok())
    }

    /// Reports that scrapes are served from now on.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// Reports that no new scrapes are served.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, state: &str) {
        let Some(socket) = &self.0 else { return };
        if let Err(error) = socket.send(state.as_bytes()) {
            tracing::warn!(state, %error, "the service manager cannot be notified");
        }
    }
}

fn open(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not read must not block this process.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn states_reach_a_path_and_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("docker-stats-exporter-test-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (address, socket) in [(path.into_os_string(), by_path), (format!("@{name}").into(), by_name)] {
            let manager = ServiceManager::connect(Some(&address));
            manager.ready();
            manager.stopping();
            assert_eq!(received(&socket), "READY=1");
            assert_eq!(received(&socket), "STOPPING=1");
        }
    }

    #[test]
    fn without_a_manager_nothing_is_sent_and_a_manager_that_is_gone_is_no_failure() {
        ServiceManager::connect(None).ready();
        ServiceManager::connect(Some(OsStr::new(""))).ready();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        ServiceManager::connect(Some(path.as_os_str())).ready();
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager::connect(Some(path.as_os_str()));
        drop(socket);
        manager.ready();
    }
}
