//! Podman beside Docker: its containers are found by the kernel, and named by its Docker-compatible API.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::ensure;
use exporter_tests::{Engine, Exporter, wait};

use crate::{CPU, SOON, alone, run};

/// Podman's API on a socket, and a container of it. Both go with the value.
struct Podman {
    service: Child,
    directory: tempfile::TempDir,
    name: String,
    id: String,
}

impl Podman {
    /// Starts both. The container runs the image that the tests run with Docker.
    fn start(engine: &Engine) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image").display().to_string();
        engine.docker(&["save", "--output", &image, engine.image()]).unwrap();
        run("podman", &["load", "--quiet", "--input", &image]).unwrap();
        let url = format!("unix://{}", directory.path().join("podman.sock").display());
        let mut command = Command::new("podman");
        command.args(["system", "service", "--time=0", &url]).stdin(Stdio::null());
        let service = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let name = Engine::unique("podman");
        let mut podman = Self { service, directory, name: name.clone(), id: String::new() };
        let words = ["run", "--detach", "--network=none", "--memory=64m", "--name", &name, engine.image()];
        podman.id = run("podman", &[words.as_slice(), &["sleep", "1d"]].concat()).unwrap();
        wait::eventually(SOON, "Podman's socket", || {
            ensure!(podman.socket().exists(), "it is not there");
            Ok(())
        })
        .unwrap();
        podman
    }

    fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("podman.sock")
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        run("podman", &["rm", "--force", "--time=0", &self.name]).unwrap_or_default();
        self.service.kill().unwrap_or_default();
        self.service.wait().map(drop).unwrap_or_default();
    }
}

#[test]
fn podman_s_containers_are_named_by_its_socket() {
    let _alone = alone();
    let engine = Engine::shared().unwrap();
    let podman = Podman::start(engine);
    let scope = format!("/machine.slice/libpod-{}.scope", podman.id);
    assert!(Path::new(&format!("/sys/fs/cgroup{scope}")).is_dir(), "Podman makes its cgroups elsewhere");
    let mine = [("name", podman.name.as_str())];
    let url = format!("unix://{}", podman.socket().display());
    let exporter = Exporter::builder().docker_url(&url).start().unwrap();
    let exposition = exporter
        .scrape_until(SOON, "the name", |exposition| {
            exposition.one(CPU, &mine)?;
            Ok(exposition.clone())
        })
        .unwrap();
    let sample = exposition.one(CPU, &mine).unwrap();
    assert_eq!(sample.label("id"), scope);
    assert!(sample.label("image").contains("dse-tests/busybox"), "{sample:?}");
    assert!(exposition.has("container_state", &[mine[0], ("state", "running")]));
    assert_eq!(exposition.integer("container_spec_memory_limit_bytes", &mine).unwrap(), 64 << 20);
    assert_eq!(exposition.integer("container_processes", &mine).unwrap(), 1);
    exporter.stop().unwrap();

    // Docker knows nothing of it: then it has its values, and no name.
    let exporter = Exporter::with(engine).unwrap();
    let exposition = exporter.scrape().unwrap();
    let sample = exposition.one(CPU, &[("id", &scope)]).unwrap();
    assert!(sample.label("name").is_empty(), "{sample:?}");
    exporter.stop().unwrap();
}
