//! The exporter as a container, started with the lines that the README gives, word by word.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use exporter_tests::exposition::{Exposition, Format};
use exporter_tests::{Container, Engine, Exporter, exporter, http, wait};

use crate::{CPU, SOON, alone, named, run};

const README: &str = include_str!("../../../README.md");
const DOCKERFILE: &str = include_str!("../../../Dockerfile");
const NAME: &str = "docker-stats-exporter";

/// For families that take a privilege which not every line gives.
const PRIVILEGED: &[&str] = &["container_ebpf_", "container_blkio_latency_", "container_tasks_", "container_cpu_load_"];

/// The README's command lines that start the exporter.
fn lines() -> Vec<String> {
    let blocks = README.split("\n```").filter(|block| block.trim_start().starts_with("docker run -d "));
    blocks.map(|block| block.trim().replace("\\\n", " ")).collect()
}

/// The image, as the Dockerfile makes it around a binary that is built already.
fn build(engine: &Engine) {
    let context = tempfile::tempdir().unwrap();
    std::fs::write(context.path().join("Dockerfile"), DOCKERFILE).unwrap();
    std::fs::copy(exporter::binary().unwrap(), context.path().join(NAME)).unwrap();
    let mut command = engine.command();
    command.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--target=local", "--tag", NAME]);
    let output = command.arg(context.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A running one, removed with the value.
struct Running {
    address: SocketAddr,
}

impl Running {
    fn start(line: &str) -> Self {
        let running = Self { address: SocketAddr::from(([127, 0, 0, 1], 8081)) };
        run("sh", &["-c", line]).unwrap();
        running
    }

    fn scrape(&self) -> Result<Exposition> {
        let response = http::get(self.address, "/metrics", &[])?;
        ensure!(response.status == 200, "status {}", response.status);
        Exposition::parse(&response.text()?, Format::Text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        run("docker", &["rm", "--force", NAME]).unwrap_or_default();
    }
}

/// Names of a container's series, but for those that take a privilege.
fn families(exposition: &Exposition, container: &Container<'_>) -> Vec<String> {
    let names = exposition.prompt_names_with(&[("name", &container.name)]);
    let unprivileged = |name: &&str| !PRIVILEGED.iter().any(|beginning| name.starts_with(beginning));
    names.into_iter().filter(unprivileged).map(str::to_owned).collect()
}

/// What only one of the two has.
fn difference<'a>(one: &'a [String], other: &'a [String]) -> Vec<&'a String> {
    let of_one = one.iter().filter(|name| !other.contains(name));
    of_one.chain(other.iter().filter(|name| !one.contains(name))).collect()
}

fn check(line: &str, container: &Container<'_>, expected: &[String]) {
    let running = Running::start(line);
    let kernel = container.kernel().unwrap();
    let mut before = 0.0;
    let exposition = wait::eventually(SOON, "the container's name, from the exporter in a container", || {
        before = kernel.cpu_seconds()?;
        let exposition = running.scrape()?;
        exposition.one(CPU, &[("name", &container.name)])?;
        // It finds itself, too.
        exposition.one(CPU, &[("name", NAME)])?;
        let families = families(&exposition, container);
        ensure!(families == expected, "not the same families: {:?}", difference(&families, expected));
        Ok(exposition)
    })
    .with_context(|| line.to_owned())
    .unwrap();
    let ours = exposition.value(CPU, &[("name", &container.name)]).unwrap();
    assert!(ours >= before - 1e-6 && ours <= kernel.cpu_seconds().unwrap() + 1e-6, "{ours} s of CPU, {before} before");
    assert_eq!(run("docker", &["inspect", "--format", "{{.HostConfig.CgroupnsMode}}", NAME]).unwrap(), "private");
    let program = Path::new("/").join(NAME).display().to_string();
    run("docker", &["exec", NAME, &program, "healthcheck"]).unwrap();
    run("docker", &["exec", NAME, &program, "doctor"]).unwrap();
    run("docker", &["stop", NAME]).unwrap();
    assert_eq!(run("docker", &["inspect", "--format", "{{.State.ExitCode}}", NAME]).unwrap(), "0", "after SIGTERM");
}

#[test]
fn the_readme_s_lines_serve_what_the_program_serves_outside() {
    let _alone = alone();
    let engine = Engine::shared().unwrap();
    build(engine);
    let options = ["--network=bridge", "--memory=64m", "--cpus=0.5", "--pids-limit=50"];
    let container = Container::sleeping(engine, "subject", &options).unwrap();
    let outside = Exporter::with(engine).unwrap();
    named(&outside, &container).unwrap();
    let expected = outside
        .scrape_until(SOON, "all that the engine reports", |exposition| {
            let families = families(exposition, &container);
            ensure!(families.iter().any(|name| name == "container_start_time_seconds"), "not inspected yet");
            Ok(families)
        })
        .unwrap();
    outside.stop().unwrap();
    assert!(expected.iter().any(|name| name.starts_with("container_network_")), "{expected:?}");
    let lines = lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in &lines {
        check(line, &container, &expected);
    }
    // The host's /proc as a mount, in place of the host's process ids.
    let mounted = lines[1].replace("--pid=host", "-v /proc:/host/proc:ro -e PROC_DIRECTORY=/host/proc");
    assert_ne!(mounted, lines[1]);
    check(&mounted, &container, &expected);
}
