//! The built program: what it prints where, and how it ends.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests may fail a test; clippy.toml covers only the tests themselves"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;

/// The program in an empty environment: only what a test gives.
fn exporter(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_docker-stats-exporter"));
    command.args(args).env_clear().envs(env.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_and_version_go_to_stdout_and_end_well() {
    for (flag, said) in [("--help", "--web.listen-address"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let output = exporter(&[flag], &[]);
        assert_eq!(output.status.code(), Some(0), "{flag}");
        assert!(text(&output.stdout).contains(said), "{flag}");
        assert!(output.stderr.is_empty(), "{flag}");
    }
}

#[test]
fn errors_go_to_stderr_all_at_once_and_end_with_2() {
    // The address is free: were anything started, it would go on serving and never end.
    let output = exporter(&["--web.listen-address=127.0.0.1:0", "--nonsense"], &[("LOG_LEVEL", "loud")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let message = text(&output.stderr);
    assert!(message.contains("2 errors") && message.contains("--nonsense"), "{message}");
    assert!(message.contains("--log.level (LOG_LEVEL): \"loud\" in LOG_LEVEL"), "{message}");
}

#[test]
fn an_error_in_the_environment_alone_ends_with_2_whatever_the_command() {
    for command in [&[][..], &["doctor"], &["healthcheck"]] {
        assert_eq!(exporter(command, &[("DOCKER_HOST", "ssh://host")]).status.code(), Some(2), "{command:?}");
    }
}

#[test]
fn the_doctor_fails_where_there_is_neither_a_tree_nor_an_engine() {
    let empty = tempfile::tempdir().unwrap();
    let root = empty.path().to_str().unwrap();
    let socket = format!("unix://{root}/docker.sock");
    let args = ["doctor", "--web.listen-address=127.0.0.1:0", "--path.cgroup", root, "--docker.url", &socket];
    let output = exporter(&args, &[]);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(report.contains("FAIL  cgroup tree: ") && report.contains("FAIL  Docker: "), "{report}");
    assert!(report.contains(" -> "), "{report}");
}

#[test]
fn the_health_check_ends_as_the_server_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        for status in ["200 OK", "503 Service Unavailable"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /healthz HTTP/1."));
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    });
    let check = || exporter(&["healthcheck"], &[("WEB_LISTEN_ADDRESS", &address)]);
    assert_eq!(check().status.code(), Some(0));
    let unwell = check();
    assert_eq!(unwell.status.code(), Some(1));
    assert!(text(&unwell.stderr).contains("503"), "{}", text(&unwell.stderr));
    server.join().unwrap();
    // Nobody listens any more.
    assert_eq!(check().status.code(), Some(1));
}
