//! The program: parses flags and environment, and runs the command.
//!
//! Exit codes: 0 for success or healthy, 1 for failure or unhealthy, 2 for errors in flags or environment.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::thread;

use docker_stats_exporter::config::{Command, Config, FeatureMode, ListenAddress};
use docker_stats_exporter::probe::Running;
use docker_stats_exporter::{app, doctor, log, probe, top, walker};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == walker::SUBCOMMAND) {
        return walk(arguments);
    }
    match Config::from(std::env::args_os().skip(1), |name| std::env::var_os(name)) {
        Ok(Command::Serve(config)) => serve(*config),
        Ok(Command::Doctor(config)) => check(&config),
        Ok(Command::Healthcheck { address, is_given: true, web_config }) => ask(&Running { address, web_config }),
        Ok(Command::Healthcheck { address, is_given: false, web_config }) => {
            ask(&probe::server().unwrap_or(Running { address, web_config }))
        }
        Ok(Command::Top(config, options)) => show(*config, *options),
        Ok(Command::Help(text) | Command::Version(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(errors) => {
            complain(&errors.to_string());
            ExitCode::from(2)
        }
    }
}

fn serve(config: Config) -> ExitCode {
    if let Err(error) = log::init(config.log_level, config.log_format) {
        complain(&format!("docker-stats-exporter: the log cannot be set up: {error}"));
        return ExitCode::FAILURE;
    }
    match app::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "cannot serve");
            if app::is_config_error(&error) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Runs the disk walker, for the exporter that started this process.
fn walk(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match walker::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("docker-stats-exporter: {}: {error}", walker::SUBCOMMAND));
            ExitCode::FAILURE
        }
    }
}

fn check(config: &Config) -> ExitCode {
    let report = doctor::run(config);
    print(&report.to_string());
    if report.main_job_can_run() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ask(server: &Running) -> ExitCode {
    match probe::healthy(&server.address, server.web_config.as_deref()) {
        Ok(()) => {
            print("ok\n");
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("docker-stats-exporter: {}/healthz: {error}", server.address));
            ExitCode::FAILURE
        }
    }
}

/// Shows the containers in the terminal. If no exporter answers, one is started in this process on a free port.
fn show(mut config: Config, mut options: top::Options) -> ExitCode {
    if options.local {
        let port = match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()) {
            Ok(address) => address.port(),
            Err(error) => {
                complain(&format!("docker-stats-exporter: no port is free on 127.0.0.1: {error}"));
                return ExitCode::FAILURE;
            }
        };
        // This process also draws, so it needs its terminal.
        config.sandbox = FeatureMode::Off;
        config.listen = vec![ListenAddress::Host(Ipv4Addr::LOCALHOST.to_string(), port)];
        let url = format!("http://127.0.0.1:{port}{}", config.telemetry_path);
        options.client.url = url.parse().unwrap_or(options.client.url);
        thread::spawn(move || {
            if let Err(error) = app::run(config) {
                complain(&format!("docker-stats-exporter: cannot collect here: {error:#}"));
            }
        });
    }
    match top::run(&options) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&format!("docker-stats-exporter: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a text to stdout. A closed pipe (`| head`) is not an error.
fn print(text: &str) {
    drop(io::stdout().lock().write_all(text.as_bytes()));
}

/// Prints a line to stderr, which may be closed.
fn complain(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

#[cfg(stale_objects)]
compile_error!(
    "the objects in exporter-ebpf/prebuilt are not those of the sources beside them: run `cargo xtask ebpf`"
);
