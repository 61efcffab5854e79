//! `cargo xtask capture`: copies the containers of this host into a fixture, a tree of plain files that the exporter can
//! serve anywhere (`--path.cgroup`, `--path.procfs`).
//!
//! A fixture is published, so everything is on a list: of cgroups the containers' own, of processes the containers' own,
//! of the engine's answers the keys named in [`engine`]. No command line, environment, host name, mount or address of
//! the host is read into it.

mod cgroups;
mod engine;
mod manifest;
mod processes;
mod redact;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::sh::say;
use crate::workspace;

const USAGE: &str = "\
usage: cargo xtask capture [--name HOST] [--output DIR] [--container NAME]... [--docker SOCKET | --docker none]

  --name HOST       directory of the fixture: what is special about this host (debian12-v1-hybrid)
  --output DIR      where that directory is made; default: tests/fixtures
  --container NAME  only this container; may be given several times; default: all
  --docker SOCKET   the engine's Unix socket; default: DOCKER_HOST, else /var/run/docker.sock";

/// What the command line asks for.
struct Request {
    output: PathBuf,
    name: String,
    only: Vec<String>,
    docker: Option<PathBuf>,
}

/// Captures, and says what.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let request = parse(arguments)?;
    let target = request.output.join(&request.name);
    ensure!(!target.exists(), "{} is there already: remove it or give another --name", target.display());
    capture(&request, &target).inspect_err(|_| {
        // Half a fixture would pass for a whole one.
        fs::remove_dir_all(&target).unwrap_or_default();
    })?;
    say(&format!("captured into {}; look it through, then: cargo xtask bless", target.display()));
    Ok(())
}

fn capture(request: &Request, target: &Path) -> anyhow::Result<()> {
    let engine = match &request.docker {
        Some(socket) => engine::Answers::ask(socket, &request.only)?,
        None => engine::Answers::default(),
    };
    let cgroups = cgroups::find(Path::new("/sys/fs/cgroup"))?;
    let cgroups = cgroups.only(|id| request.only.is_empty() || engine.has(id));
    ensure!(!cgroups.containers().is_empty(), "no running container: start some, or name others with --container");
    cgroups.copy(&target.join("sys/fs/cgroup"))?;
    processes::copy(&cgroups, &target.join("proc"))?;
    engine.write(&target.join("docker"))?;
    let manifest = manifest::text(&request.name, &cgroups, &engine);
    write(&target.join("FIXTURE.toml"), manifest.as_bytes())?;
    say(&format!("{} containers, {} cgroup", cgroups.containers().len(), cgroups.hierarchy()));
    Ok(())
}

fn parse(arguments: &[&str]) -> anyhow::Result<Request> {
    let mut request = Request {
        output: workspace::root().join("tests/fixtures"),
        name: String::new(),
        only: Vec::new(),
        docker: None,
    };
    let mut docker = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "/var/run/docker.sock".to_owned());
    let mut words = arguments.iter();
    while let Some(flag) = words.next() {
        let mut value = || words.next().with_context(|| format!("{flag} wants a value\n\n{USAGE}"));
        match *flag {
            "--name" => (*value()?).clone_into(&mut request.name),
            "--output" => request.output = PathBuf::from(value()?),
            "--container" => request.only.push((*value()?).to_owned()),
            "--docker" => (*value()?).clone_into(&mut docker),
            _ => bail!("`{flag}` is not known\n\n{USAGE}"),
        }
    }
    ensure!(!request.name.is_empty() && !request.name.contains('/'), "--name is missing\n\n{USAGE}");
    request.docker = (docker != "none").then(|| PathBuf::from(docker.strip_prefix("unix://").unwrap_or(&docker)));
    Ok(request)
}

/// Writes a file and the directories above it.
fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    fs::write(path, content).with_context(|| path.display().to_string())
}
