//! Sockets that systemd passes, and what `--web.disable-exporter-metrics` and `--web.max-requests=0` leave.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use exporter_tests::exporter::{binary, free_address};
use exporter_tests::http;
use exporter_tests::wait::eventually;

use super::captured;

/// Does what systemd does: listens, and becomes the program with the sockets as descriptors 3 and 4.
const SYSTEMD: &str = "\
import os, socket, sys
port, path, pid = int(sys.argv[1]), sys.argv[2], sys.argv[3]
tcp = socket.create_server(('127.0.0.1', port))
unix = socket.socket(socket.AF_UNIX)
unix.bind(path)
unix.listen()
os.dup2(os.dup(tcp.fileno()), 30); os.dup2(os.dup(unix.fileno()), 31)
os.dup2(30, 3); os.dup2(31, 4)
os.environ.update(LISTEN_FDS='2', LISTEN_PID=pid or str(os.getpid()))
os.execv(sys.argv[4], sys.argv[4:])
";

fn activated(port: u16, path: &str, pid: &str) -> Child {
    let flags = ["--web.systemd-socket", "--ebpf=off", "--docker.url=unix:///nonexistent.sock"];
    let mut python = Command::new("python3");
    python.args(["-c", SYSTEMD, &port.to_string(), path, pid]).arg(binary().unwrap()).args(flags);
    python.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn sockets_of_systemd_are_served_tcp_and_unix() {
    let directory = tempfile::tempdir().unwrap();
    let (address, path) = (free_address().unwrap(), directory.path().join("socket"));
    let mut server = activated(address.port(), path.to_str().unwrap(), "");
    let answer = eventually(Duration::from_secs(20), "the server", || http::get(address, "/healthz", &[]));
    let mut unix = UnixStream::connect(&path).unwrap();
    unix.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let mut said = String::new();
    unix.read_to_string(&mut said).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(answer.unwrap().status, 200);
    assert!(said.starts_with("HTTP/1.0 200 OK") && said.ends_with("ok\n"), "{said}");
}

#[test]
fn sockets_of_another_process_are_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let server = activated(free_address().unwrap().port(), path.to_str().unwrap(), "1");
    let output = server.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--web.systemd-socket") && said.contains("LISTEN_PID"), "{said}");
}

#[test]
fn without_exporter_metrics_only_those_of_containers_are_left() {
    let exporter = captured().unwrap().flag("--web.disable-exporter-metrics").flag("--web.max-requests=0");
    let exporter = exporter.start().unwrap();
    let text = exporter.get("/metrics", &[]).unwrap().text().unwrap();
    assert!(text.contains("container_cpu_usage_seconds_total{"), "{text}");
    let own: Vec<&str> =
        text.lines().filter(|line| line.contains("docker_stats_exporter_") || line.contains("process_")).collect();
    let own: Vec<&&str> = own.iter().filter(|line| !line.contains("container_")).collect();
    assert!(own.is_empty(), "{own:?}");
    exporter.scrape().unwrap();
    exporter.stop().unwrap();
}
