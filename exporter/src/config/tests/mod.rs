//! Tests of flags and environment as a user gives them, and of properties that every row of the table must have. No test
//! reads the real environment.

mod errors;
mod given;

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;

use super::{Command, Config, Errors, FLAGS, Flag, Group, markdown_table};
use crate::metrics::{Collector, CollectorSet};

fn parse(args: &[&str], env: &[(&str, &str)]) -> Result<Command, Errors> {
    let find = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
    Config::from(args.iter().map(OsString::from), find)
}

/// Returns the configuration of arguments that must be valid.
fn config(args: &[&str], env: &[(&str, &str)]) -> Config {
    match parse(args, env) {
        Ok(Command::Serve(config)) => *config,
        Ok(other) => panic!("{args:?} {env:?}: {other:?}"),
        Err(errors) => panic!("{args:?} {env:?}: {errors}"),
    }
}

/// Returns the errors in arguments that must be invalid, one per line.
fn error_lines(args: &[&str], env: &[(&str, &str)]) -> Vec<String> {
    match parse(args, env) {
        Ok(command) => panic!("{args:?} {env:?} was accepted: {command:?}"),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

/// Returns the only error in arguments that must be invalid.
fn error_line(args: &[&str], env: &[(&str, &str)]) -> String {
    let mut lines = error_lines(args, env);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.remove(0)
}

/// Compares a text with a file beside the tests. `BLESS=1 cargo test` rewrites the file.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} differs; if that is meant: BLESS=1 cargo test -p docker-stats-exporter config");
}

fn row(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

#[test]
fn every_flag_of_the_contract_is_there_with_its_variables_and_default() {
    for (name, variables, default) in [
        ("web.listen-address", &["WEB_LISTEN_ADDRESS"][..], ":8081"),
        ("web.telemetry-path", &["WEB_TELEMETRY_PATH"], "/metrics"),
        ("web.config.file", &["WEB_CONFIG_FILE"], ""),
        ("web.max-requests", &[], "40"),
        ("web.systemd-socket", &[], ""),
        ("web.disable-exporter-metrics", &[], ""),
        ("source", &["SOURCE"], "auto"),
        ("path.cgroup", &["CGROUP_DIRECTORY"], "/sys/fs/cgroup"),
        ("path.procfs", &["PROC_DIRECTORY"], "/proc"),
        ("docker.url", &["DOCKER_CLIENT_URL", "DOCKER_HOST"], "unix:///var/run/docker.sock"),
        ("docker.resync-interval", &["CONTAINER_REFRESH_INTERVAL"], "120"),
        ("scrape.min-interval", &["REFRESH_INTERVAL"], "0"),
        ("containers.labels", &["CONTAINER_LABELS"], "compose and swarm labels"),
        ("containers.include", &[], "all"),
        ("containers.exclude", &[], "none"),
        ("cgroups.include", &[], "none"),
        ("containers.linger", &[], "5m"),
        ("metrics.schema", &[], "cadvisor"),
        ("metrics.include", &[], "all"),
        ("metrics.exclude", &[], "none"),
        ("collector.disable-defaults", &[], ""),
        ("ebpf", &["EBPF"], "auto"),
        ("log.level", &["LOG_LEVEL"], "info"),
        ("log.format", &["LOG_FORMAT"], "logfmt"),
        ("version", &[], ""),
        ("help", &[], ""),
    ] {
        let row = row(name).unwrap_or_else(|| panic!("no row {name}"));
        assert_eq!((row.variables, row.default), (variables, default), "{name}");
    }
    for variable in ["USE_PSEUDO_FILES", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"] {
        assert!(FLAGS.iter().any(|flag| flag.name.is_empty() && flag.variables == [variable]), "{variable}");
    }
}

#[test]
fn every_collector_has_a_row_that_says_its_default() {
    for &collector in Collector::ALL {
        let row = row(&format!("collector.{collector}")).unwrap_or_else(|| panic!("no row for {collector}"));
        assert_eq!(row.collector(), Some(collector));
        assert_eq!(row.default == "on", collector.default_on(), "{collector}");
    }
}

#[test]
fn names_and_variables_are_unique_and_plain() {
    let mut seen = HashSet::new();
    for flag in FLAGS.iter() {
        assert!(flag.name.is_empty() != flag.variables.is_empty() || !flag.name.is_empty(), "{flag:?}");
        assert!(flag.name.bytes().all(|byte| byte.is_ascii_lowercase() || b".-_".contains(&byte)), "{}", flag.name);
        // `--no-color` is the common name of this flag.
        let negated = flag.name.starts_with("no-") && flag.name != "no-color";
        assert!(!negated, "{} reads as a negation", flag.name);
        for variable in flag.variables {
            assert!(variable.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{variable}");
            assert!(seen.insert((*variable).to_owned()), "{variable} twice");
        }
        assert!(flag.name.is_empty() || seen.insert(flag.name.to_string()), "{} twice", flag.name);
    }
}

#[test]
fn every_row_says_what_it_is_for_and_what_it_accepts() {
    for flag in FLAGS.iter() {
        let name = flag.subject();
        assert!(!flag.help.is_empty() && !flag.help.ends_with('.') && !flag.help.contains('\n'), "{name}");
        assert!(flag.help.len() <= 110, "{name}: {}", flag.help.len());
        assert!(!flag.accepts.is_empty(), "{name}");
        assert_eq!(flag.is_switch(), flag.value.is_empty(), "{name}");
        assert!(Group::ALL.contains(&flag.group), "{name}");
    }
}

#[test]
fn every_value_can_be_given_in_both_spellings_and_by_variable() {
    for flag in FLAGS.iter().filter(|flag| flag.default_is_value) {
        let (name, default) = (&flag.name, flag.default);
        if default.starts_with("/sys") {
            continue; // A host without cgroups can run these tests too.
        }
        config(&[&format!("--{name}={default}")], &[]);
        config(&[&format!("--{name}"), default], &[]);
        for variable in flag.variables {
            config(&[], &[(variable, default)]);
        }
    }
}

#[test]
fn nothing_given_is_the_table_s_defaults() {
    let config = config(&[], &[]);
    assert_eq!(config.collectors, CollectorSet::defaults());
    assert_eq!(format!("{:?}", config.listen), "[Any(8081)]");
    assert_eq!((config.telemetry_path.as_str(), config.max_requests), ("/metrics", 40));
    assert_eq!(config.cgroup_root.to_str(), Some("/sys/fs/cgroup"));
    assert_eq!(config.docker[0].to_string(), "unix:///var/run/docker.sock");
    assert_eq!((config.resync_interval.as_secs(), config.linger.as_secs()), (120, 300));
    assert!(config.min_interval.is_zero());
}

#[test]
fn help_is_as_it_was_reviewed() {
    let Ok(Command::Help(text)) = parse(&["--help"], &[]) else { panic!("no help") };
    assert!(text.lines().all(|line| line.chars().count() <= 120), "a line is too long");
    golden("help.txt", &text);
}

#[test]
fn the_readme_s_table_has_every_row() {
    let table = markdown_table();
    assert_eq!(table.lines().count(), FLAGS.len() + 2);
    for line in table.lines() {
        assert_eq!(line.replace("\\|", "").matches('|').count(), 5, "{line}");
    }
    assert!(table.contains("| `--collector.cpu`, `--no-collector.cpu` |  | on | CPU time"), "{table}");
    assert!(table.contains("|  | `USE_PSEUDO_FILES` |"), "{table}");
}
