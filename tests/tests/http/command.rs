//! The command line: errors are reported all at once before anything listens; the other subcommands.

use exporter_tests::Exporter;
use exporter_tests::exporter::{Builder, free_address};

use super::captured;

fn run(builder: Builder) -> (Option<i32>, String, String) {
    let output = builder.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn every_error_is_named_at_once() {
    let (code, _, said) = run(Exporter::builder()
        .flag("--web.listen-address=nowhere:99999")
        .flag("--no-such-flag")
        .flag("--path.cgroup=/no/such/tree")
        .flag("--log.level=loud")
        .env("SOURCE", "magic")
        .env("DOCKER_CLIENT_URL", "ftp://x")
        .env("REFRESH_INTERVAL", "soon"));
    assert_eq!(code, Some(2), "{said}");
    for error in [
        "web.listen-address",
        "99999",
        "no-such-flag",
        "/no/such/tree",
        "loud",
        "SOURCE",
        "magic",
        "DOCKER_CLIENT_URL",
        "ftp://x",
        "REFRESH_INTERVAL",
        "soon",
    ] {
        assert!(said.contains(error), "{error} is not named: {said}");
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let (code, help, _) = run(Exporter::builder().flag("--help"));
    assert_eq!(code, Some(0));
    for word in ["--web.listen-address", "USE_PSEUDO_FILES", "doctor", "healthcheck", "--collector."] {
        assert!(help.contains(word), "{word} is not in --help");
    }
    let (code, version, _) = run(Exporter::builder().flag("--version"));
    assert!(code == Some(0) && version.starts_with("docker-stats-exporter "), "{version}");
}

#[test]
fn healthcheck_asks_the_running_server() {
    let exporter = captured().unwrap().start().unwrap();
    let check =
        |address: String| run(Exporter::builder().flag("healthcheck").flag(format!("--web.listen-address={address}")));
    let (code, _, said) = check(exporter.address.to_string());
    assert_eq!(code, Some(0), "{said}");
    exporter.stop().unwrap();
    let (code, _, said) = check(free_address().unwrap().to_string());
    assert_eq!(code, Some(1), "{said}");
}

/// In process and mount namespaces of their own, as in the server's container. The server is process 1, a child of
/// process 1, or one that runs with fewer privileges and is configured by its environment.
#[test]
fn healthcheck_in_the_server_s_container_finds_its_address() {
    let port = || free_address().unwrap().port();
    let program = exporter_tests::exporter::binary().unwrap();
    let flags = "--docker.url=unix:///no/such.sock --ebpf=off --log.level=error";
    for (address, server) in [
        (format!("127.0.0.1:{}", port()), "exec \"$0\" --web.listen-address=$1 $2"),
        (format!(":{}", port()), "exec \"$0\" --web.listen-address $1 --web.listen-address 127.0.0.1:0 $2"),
        (format!("[::]:{}", port()), "\"$0\" --web.listen-address=$1 $2; true"),
        (format!("localhost:{}", port()), "WEB_LISTEN_ADDRESS=$1 exec \"$0\" $2"),
    ] {
        // Process 1 ends the namespace, and with it everything in it.
        let script = format!(
            "mount -t proc proc /proc; (i=0; until \"$0\" healthcheck 2>&1 || [ $i -gt 100 ]; do i=$((i+1)); sleep 0.1; done; \
             kill -TERM 1; kill -TERM -1) & {server}"
        );
        let mut command = std::process::Command::new("unshare");
        command.args(["--pid", "--mount", "--fork", "sh", "-c", &script]).arg(&program).args([&address, flags]);
        let output = command.env_remove("WEB_LISTEN_ADDRESS").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.lines().any(|line| line == "ok"), "{address} {server}: {said}");
    }
}

#[test]
fn doctor_says_what_works() {
    let (code, out, said) = run(Exporter::builder().flag("doctor").flag("--docker.url=unix:///no/such/docker.sock"));
    assert_eq!(code, Some(0), "{out}{said}");
    assert!(out.contains("/sys/fs/cgroup"), "{out}");
    assert!(out.contains("/no/such/docker.sock"), "what does not work is not named: {out}");
}

#[test]
fn a_port_in_use_is_told() {
    let exporter = captured().unwrap().start().unwrap();
    let (code, _, said) = run(Exporter::builder().flag(format!("--web.listen-address={}", exporter.address)));
    assert_ne!(code, Some(0));
    assert!(said.contains(&exporter.address.port().to_string()), "{said}");
    exporter.stop().unwrap();
}
