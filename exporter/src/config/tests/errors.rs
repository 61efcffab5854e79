//! Tests of invalid flags and variables, and of their error messages.

use std::os::unix::ffi::OsStringExt as _;

use super::*;

/// `(flag or variable, bad value, what must be said)`.
const BAD_VALUES: &[(&str, &str, &str)] = &[
    ("--web.listen-address", "8081", "no usable port"),
    ("--web.listen-address", ":", "no usable port"),
    ("--web.listen-address", ":65536", "no usable port"),
    ("--web.listen-address", ":+80", "no usable port"),
    ("--web.listen-address", ":http", "no usable port"),
    ("--web.listen-address", "::1:8081", "in brackets"),
    ("--web.listen-address", "[::x]:8081", "no usable host"),
    ("--web.listen-address", "http://host:80", "in brackets"),
    ("--web.listen-address", "a b:80", "no usable host"),
    ("--web.listen-address", ",", "needs a value"),
    ("WEB_LISTEN_ADDRESS", ":1,:x", "no usable port"),
    ("--web.telemetry-path", "metrics", "plain absolute URL path"),
    ("--web.telemetry-path", "/a//b", "plain absolute URL path"),
    ("--web.telemetry-path", "/a?b", "plain absolute URL path"),
    ("--web.telemetry-path", "/<b>", "plain absolute URL path"),
    ("--web.telemetry-path", "/", "landing page"),
    ("--web.telemetry-path", "/healthz", "health endpoint"),
    ("WEB_TELEMETRY_PATH", "/readyz", "health endpoint"),
    ("--web.config.file", "/no/such/web.yml", "no such file"),
    ("WEB_CONFIG_FILE", "web.yml", "no such file"),
    ("--web.max-requests", "-1", "not an accepted number"),
    ("--web.max-requests", "many", "not an accepted number"),
    ("--web.max-requests", "100001", "not an accepted number"),
    ("--source", "files", "accepted words"),
    ("SOURCE", "api", "accepted words"),
    ("USE_PSEUDO_FILES", "maybe", "TRUE, YES, ENABLED or 1"),
    ("--path.cgroup", "/nonexistent", "No such file"),
    ("CGROUP_DIRECTORY", "/dev/null", "Not a directory"),
    ("PROC_DIRECTORY", "/nonexistent", "No such file"),
    ("--docker.url", "/var/run/docker.sock", "no known scheme"),
    ("--docker.url", "npipe:////./pipe/docker_engine", "no known scheme"),
    ("DOCKER_HOST", "ssh://host", "no known scheme"),
    ("DOCKER_CLIENT_URL", "unix://", "no socket"),
    ("--docker.url", "tcp://", "no usable host"),
    ("--docker.url", "tcp://host:0", "no usable port"),
    ("--docker.url", "tcp://host:", "no usable port"),
    ("--docker.url", "tcp://host:99999", "no usable port"),
    ("--docker.url", "tcp://::1", "in brackets"),
    ("--docker.url", "http://host:1/v1.41", "more than an address"),
    ("DOCKER_CLIENT_URL", "unix:///a.sock,tcp://", "no usable host"),
    ("--docker.resync-interval", "0", "too short"),
    ("CONTAINER_REFRESH_INTERVAL", "999ms", "too short"),
    ("--scrape.min-interval", "-1", "negative"),
    ("REFRESH_INTERVAL", "often", "not a duration"),
    ("REFRESH_INTERVAL", "nan", "not a duration"),
    ("REFRESH_INTERVAL", "1e3", "not a duration"),
    ("REFRESH_INTERVAL", "1.2.3", "not a duration"),
    ("REFRESH_INTERVAL", ".", "not a duration"),
    ("--cgroups.include", "/system.slice/[", "is not a glob"),
    ("--cgroups.include", "system.slice", "a path begins with /"),
    ("--containers.linger", "366d", "too long"),
    ("--containers.linger", "99999999999999999999999999", "too long"),
    ("--containers.linger", "99999999999999999999999999h", "too long"),
    ("--containers.linger", "", "not a duration"),
    ("--containers.labels", "ok,[", "\"[\" is not a glob"),
    ("CONTAINER_LABELS", "{a", "\"{a\" is not a glob"),
    ("--containers.include", "label:tier=[", "is not a glob"),
    ("--containers.exclude", "[z-a]", "is not a glob"),
    ("--metrics.schema", "prometheus", "accepted words"),
    ("--metrics.include", "container_[", "is not a glob"),
    ("--metrics.exclude", "{a", "is not a glob"),
    ("--collector.cpu", "maybe", "accepted words"),
    ("--ebpf", "always", "accepted words"),
    ("--read.snapshot", "never", "accepted words"),
    ("--sandbox", "perhaps", "accepted words"),
    ("LOG_LEVEL", "loud", "accepted words"),
    ("--log.format", "xml", "accepted words"),
    ("--url", "localhost:8081", "no known scheme"),
    ("TOP_URL", "ftp://host", "no known scheme"),
    ("--interval", "0.5", "too short"),
    ("--sort", "size", "accepted words"),
    ("--password-file", "/nonexistent", "cannot be read"),
];

/// The command that takes a flag.
fn command_of(name: &str) -> &'static [&'static str] {
    let top = |flag: &&Flag| flag.group == Group::Top && name.strip_prefix("--") == Some(&flag.name);
    if FLAGS.iter().any(|flag| top(&flag)) { &["top"] } else { &[] }
}

#[test]
fn every_bad_value_is_named_with_its_flag_its_variable_and_what_is_accepted() {
    for &(name, value, said) in BAD_VALUES {
        let line = match name.strip_prefix("--") {
            Some(_) => error_line(&[command_of(name), &[&format!("{name}={value}")]].concat(), &[]),
            None => error_line(&[], &[(name, value)]),
        };
        assert!(line.contains(said), "{name}={value}: {line}");
        assert!(line.contains(name) && line.contains("accepted: "), "{name}={value}: {line}");
        assert!(line.contains(value) || value.contains(','), "{name}={value}: {line}");
    }
}

#[test]
fn every_row_that_takes_a_value_has_a_bad_one_above() {
    for flag in FLAGS.iter().filter(|flag| !flag.is_switch()) {
        let any_text =
            ["DOCKER_TLS_VERIFY", "TOP_USER", "TOP_PASSWORD"].iter().any(|name| flag.variables.contains(name));
        // Certificates are tested below.
        if any_text || flag.variables.contains(&"DOCKER_CERT_PATH") || ["filter", "ca-file"].contains(&&*flag.name) {
            continue;
        }
        let tested = |name: &str| name.strip_prefix("--") == Some(&flag.name) || flag.variables.contains(&name);
        assert!(BAD_VALUES.iter().any(|(name, ..)| tested(name)), "{}", flag.subject());
    }
}

#[test]
fn every_flag_that_needs_a_value_says_so() {
    for flag in FLAGS.iter().filter(|flag| !flag.is_switch() && !flag.name.is_empty()) {
        let name = format!("--{}", flag.name);
        let command = command_of(&name);
        for rest in [&[&*name][..], &[&*name, "--log.format=json"]] {
            assert!(error_line(&[command, rest].concat(), &[]).contains("needs a value"), "{name}");
        }
    }
}

#[test]
fn what_is_unknown_is_named_with_what_may_be_meant() {
    for (word, said) in [
        (
            "--web.listen-adress=:1",
            "--web.listen-adress is no flag of this program; did you mean --web.listen-address?",
        ),
        ("-log.level", "-log.level is no flag of this program; did you mean --log.level?"),
        ("--no-log.level", "did you mean --log.level?"),
        ("--no-collector.cgu", "did you mean --no-collector.cpu?"),
        ("--housekeeping_interval=30s", "--housekeeping_interval is no flag of this program"),
        ("-x", "-x is no flag of this program"),
        ("", "\"\" is no command of this program; accepted: doctor, healthcheck, top, or none to serve"),
        ("serve", "serve is no command of this program; accepted: doctor, healthcheck, top, or none to serve"),
    ] {
        let line = error_line(&[word], &[]);
        assert!(line.ends_with(said), "{word}: {line}");
    }
    // The value of an unknown flag is not blamed for being no command.
    assert_eq!(error_line(&["--listen_port", "8080"], &[]), "--listen_port is no flag of this program");
    assert!(error_line(&["doctor", "healthcheck"], &[]).contains("one command too many"));
    assert_eq!(
        error_line(&["--json"], &[]),
        "--json is a flag of the command top; accepted: docker-stats-exporter top"
    );
}

#[test]
fn a_value_can_neither_break_the_line_nor_fill_the_screen() {
    let line = error_line(&["--source", &format!("a\n\u{1b}[31m\"{}", "x".repeat(10_000))], &[]);
    assert!(line.contains(r#""a\n\u{1b}[31m\"xxx"#), "{line}");
    assert!(!line.contains('\n') && line.len() < 400, "{line}");
}

#[test]
fn a_password_in_a_url_is_not_repeated() {
    let line = error_line(&["--docker.url=http://me:secret@host"], &[]);
    assert!(line.contains("\"http://***@host\"") && line.contains("more than an address"), "{line}");
    assert!(!line.contains("secret"), "{line}");
}

#[test]
fn text_that_is_not_utf_8_is_refused_where_text_is_wanted() {
    let value = |name: &str| (name == "LOG_LEVEL").then(|| OsString::from_vec(b"inf\xf8".to_vec()));
    let Err(errors) = Config::from([], value) else { panic!("accepted") };
    assert!(errors.to_string().contains("not valid UTF-8"), "{errors}");
}

#[test]
fn tls_without_its_files_is_named_by_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let line = error_line(&["--docker.url=https://host"], &[("DOCKER_CERT_PATH", path)]);
    assert!(line.starts_with("DOCKER_CERT_PATH: ") && line.contains("ca.pem cannot be read"), "{line}");
    let line = error_line(&[], &[("DOCKER_HOST", "tcp://host"), ("DOCKER_TLS_VERIFY", "1"), ("HOME", path)]);
    assert!(error_line(&["--docker.url=https://host"], &[]).contains("without HOME there is no default"));
    assert!(line.contains(".docker\" by default cannot be used for TLS"), "{line}");
}

#[test]
fn snapshots_cannot_be_demanded_where_programs_are_ruled_out() {
    let line = error_line(&["--read.snapshot=on", "--ebpf=off"], &[]);
    assert!(line.contains("read.snapshot") && line.contains("--ebpf=off"), "{line}");
    assert!(parse(&["--read.snapshot=on"], &[]).is_ok() && parse(&["--ebpf=off"], &[]).is_ok());
}

#[test]
fn all_errors_are_said_at_once() {
    let args = [
        "--web.listen-adress=:1",
        "serve",
        "--web.max-requests=-1",
        "--path.cgroup=/nonexistent",
        "--containers.linger=-5",
        "--metrics.schema",
        "--log.level=loud",
        "--log.level=louder",
        "--collector.cpu=perhaps",
    ];
    let env = [
        ("DOCKER_HOST", "ssh://host"),
        ("CONTAINER_LABELS", "com.docker.*,["),
        ("REFRESH_INTERVAL", "often"),
        ("USE_PSEUDO_FILES", "maybe"),
        ("WEB_CONFIG_FILE", "web.yml"),
    ];
    let Err(errors) = parse(&args, &env) else { panic!("accepted") };
    assert_eq!(errors.0.len(), 14);
    golden("errors.txt", &format!("{errors}\n"));
}
