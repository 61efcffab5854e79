//! What a service manager of `Type=notify` is sent, with the sandbox on.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use exporter_tests::exporter::{binary, free_address};
use exporter_tests::http;

/// Longer than any start takes.
const PATIENCE: Duration = Duration::from_mins(1);

fn received(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 64];
    let length = socket.recv(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[test]
fn the_service_manager_learns_when_scrapes_are_served_and_when_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = free_address().unwrap();
    let mut server = Command::new(binary().unwrap())
        .args(["--ebpf=off", "--docker.url=unix:///nonexistent.sock", &format!("--web.listen-address={address}")])
        .env("NOTIFY_SOCKET", &path)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(received(&socket), "READY=1");
    // Once it says so, the first request is answered.
    assert_eq!(http::get(address, "/healthz", &[]).unwrap().status, 200);
    Command::new("kill").args(["-TERM", &server.id().to_string()]).status().unwrap();
    assert_eq!(received(&socket), "STOPPING=1");
    assert!(server.wait().unwrap().success());
}
