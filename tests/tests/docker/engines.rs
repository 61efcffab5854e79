//! Several engines on one host: each names its own containers, and one that is down harms no other.

use std::os::unix::fs::symlink;
use std::time::Duration;

use anyhow::{Result, ensure};
use exporter_tests::podman::Podman;
use exporter_tests::{Container, Engine, Exporter, Exposition};

const UP: &str = "docker_stats_exporter_docker_up";
const CPU: &str = "container_cpu_usage_seconds_total";
const SOON: Duration = Duration::from_secs(10);

/// The container of this id has this name and no other, and the name is on no other id.
fn is_named(exposition: &Exposition, id: &str, name: &str) -> Result<()> {
    let sample = exposition.container(id).find(|sample| sample.name == CPU);
    let found = sample.map(|sample| sample.label("name").to_owned());
    ensure!(found.as_deref() == Some(name), "{id} is called {found:?}, not {name}");
    Ok(())
}

fn is_up(exposition: &Exposition, engine: &str, expected: i128) -> Result<()> {
    let up = exposition.integer(UP, &[("engine", engine)])?;
    ensure!(up == expected, "{engine}: {up}");
    Ok(())
}

#[test]
fn two_engines_each_name_their_own_and_one_that_is_down_harms_no_other() {
    let first = Engine::shared().unwrap();
    let mut second = Engine::private().unwrap();
    let mut ours = Container::sleeping(first, "first", &[]).unwrap();
    let theirs = Engine::unique("second");
    let run = |name: &str| {
        let words = ["run", "--detach", "--network=none", "--name", name, first.image(), "sleep", "1d"];
        second.docker(&words).unwrap()
    };
    // One name in both engines is two containers.
    let (id, same) = (run(&theirs), run(&ours.name));
    let urls = [first.host().to_owned(), second.host().to_owned()];
    let exporter = Exporter::builder().docker(first).flag(format!("--docker.url={}", urls[1])).start().unwrap();
    let named = |exposition: &Exposition, name: &str| {
        is_named(exposition, &ours.id, name)?;
        is_named(exposition, &id, &theirs)
    };
    exporter
        .scrape_until(SOON, "all names", |exposition| {
            named(exposition, &ours.name)?;
            is_named(exposition, &same, &ours.name)?;
            urls.iter().try_for_each(|url| is_up(exposition, url, 1))?;
            ensure!(exposition.select(UP, &[]).len() == 2, "not two engines");
            Ok(())
        })
        .unwrap();

    second.kill().unwrap();
    exporter.scrape_until(SOON, "the second one to be down", |exposition| is_up(exposition, &urls[1], 0)).unwrap();
    let later = Container::sleeping(first, "later", &[]).unwrap();
    let before = ours.name.clone();
    ours.rename().unwrap();
    exporter
        .scrape_until(SOON, "the first one's names to be fresh, the second one's to be kept", |exposition| {
            is_named(exposition, &later.id, &later.name)?;
            is_named(exposition, &ours.id, &ours.name)?;
            is_named(exposition, &id, &theirs)?;
            is_named(exposition, &same, &before)?;
            is_up(exposition, &urls[0], 1)
        })
        .unwrap();

    second.start().unwrap();
    second.docker(&["rename", &id, &format!("{theirs}-renamed")]).unwrap();
    exporter
        .scrape_until(Duration::from_mins(1), "the second one to be followed again", |exposition| {
            is_up(exposition, &urls[1], 1)?;
            is_named(exposition, &id, &format!("{theirs}-renamed"))?;
            is_named(exposition, &ours.id, &ours.name)
        })
        .unwrap();
    exporter.stop().unwrap();
}

#[test]
fn one_socket_given_twice_is_one_engine() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "twice", &[]).unwrap();
    let Some(socket) = engine.socket() else { panic!("{} is no socket: this test needs one", engine.host()) };
    let directory = tempfile::tempdir().unwrap();
    symlink(socket, directory.path().join("link.sock")).unwrap();
    let url = format!("--docker.url=unix://{}", directory.path().join("link.sock").display());
    let exporter = Exporter::builder().docker(engine).flag(url).start().unwrap();
    exporter
        .scrape_until(SOON, "the name", |exposition| {
            is_named(exposition, &container.id, &container.name)?;
            // One engine has no label.
            ensure!(
                exposition.one(UP, &[])?.labels.is_empty() && exposition.integer(UP, &[])? == 1,
                "down, or labelled"
            );
            Ok(())
        })
        .unwrap();
    exporter.stop().unwrap();
}

#[test]
fn two_engines_give_the_values_of_their_own_by_their_apis() {
    let first = Engine::shared().unwrap();
    let second = Engine::private().unwrap();
    let containers =
        [Container::sleeping(first, "api", &[]).unwrap(), Container::sleeping(&second, "api", &[]).unwrap()];
    let exporter = Exporter::builder().docker(first).flag(format!("--docker.url={}", second.host()));
    let exporter = exporter.flag("--source=docker-api").start().unwrap();
    exporter
        .scrape_until(SOON, "values of both", |exposition| {
            containers.iter().try_for_each(|container| {
                is_named(exposition, &container.id, &container.name)?;
                let mine = [("name", container.name.as_str())];
                ensure!(exposition.integer("container_memory_usage_bytes", &mine)? > 0, "no memory");
                Ok(())
            })
        })
        .unwrap();
    exporter.stop().unwrap();
}

#[test]
fn docker_and_podman_are_followed_side_by_side() {
    let docker = Engine::shared().unwrap();
    let mut podman = Podman::start(docker).unwrap();
    let name = Engine::unique("podman");
    let id = podman.sleeping(&name, docker).unwrap();
    let container = Container::sleeping(docker, "docker", &[]).unwrap();
    let exporter = Exporter::builder().docker(docker).flag(format!("--docker.url={}", podman.url())).start().unwrap();
    exporter
        .scrape_until(SOON, "both names", |exposition| {
            is_named(exposition, &container.id, &container.name)?;
            is_named(exposition, &id, &name)?;
            is_up(exposition, docker.host(), 1)?;
            is_up(exposition, &podman.url(), 1)?;
            ensure!(exposition.has("container_state", &[("name", &name), ("state", "running")]), "no state");
            Ok(())
        })
        .unwrap();
    podman.podman(&["rename", &id, &format!("{name}-renamed")]).unwrap();
    let renamed = |exposition: &Exposition| is_named(exposition, &id, &format!("{name}-renamed"));
    exporter.scrape_until(SOON, "Podman's event", renamed).unwrap();
    exporter.stop().unwrap();
}
