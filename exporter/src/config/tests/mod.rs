//! Flags and environment as a user gives them. No test reads the real environment.

mod errors;
mod given;
mod table;

use std::ffi::OsString;
use std::path::Path;

use super::{Command, Config, Errors};

fn parse(args: &[&str], env: &[(&str, &str)]) -> Result<Command, Errors> {
    let find = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
    Config::from(args.iter().map(OsString::from), find)
}

/// The configuration of what must be right.
fn config(args: &[&str], env: &[(&str, &str)]) -> Config {
    match parse(args, env) {
        Ok(Command::Serve(config)) => *config,
        Ok(other) => panic!("{args:?} {env:?}: {other:?}"),
        Err(errors) => panic!("{args:?} {env:?}: {errors}"),
    }
}

/// The lines about what must be wrong.
fn error_lines(args: &[&str], env: &[(&str, &str)]) -> Vec<String> {
    match parse(args, env) {
        Ok(command) => panic!("{args:?} {env:?} was accepted: {command:?}"),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

/// The one line about what must be wrong.
fn error_line(args: &[&str], env: &[(&str, &str)]) -> String {
    let mut lines = error_lines(args, env);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.remove(0)
}

/// Compares with a file beside the tests; `BLESS=1 cargo test` writes it anew.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} differs; if that is meant: BLESS=1 cargo test -p docker-stats-exporter config");
}
