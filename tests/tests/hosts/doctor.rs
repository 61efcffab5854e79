//! `doctor`'s report on each kind of host. `BLESS=1` writes the golden files in place of comparing.

use std::fs;
use std::path::Path;

use exporter_tests::Exporter;
use exporter_tests::exporter::Builder;
use exporter_tests::fake_engine::FakeEngine;
use exporter_tests::fixture::{Fixture, root};

use super::shapes;

/// Runs `doctor` with an engine that answers. What differs from machine to machine is replaced.
fn report(builder: Builder, tree: &Path, engine: &FakeEngine) -> String {
    let output = builder
        .flag("doctor")
        .flag("--web.listen-address=127.0.0.1:0")
        .flag(format!("--docker.url={}", engine.url()))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let text = text.replace(&engine.url(), "unix:///run/docker.sock").replace(&*tree.to_string_lossy(), "");
    // What the sandbox can hold is a matter of this kernel, not of the captured host.
    let lines = text.lines().filter(|line| !line.contains("    sandbox: "));
    let lines = lines.map(|line| match line.split_once("open files: limit ") {
        // The limit is this process's.
        Some((_, rest)) => format!("ok    open files: limit N{}", &rest[rest.find(',').unwrap()..]),
        None => line.to_owned(),
    });
    let mut lines: Vec<String> = lines.collect();
    lines.push(format!("exit code {}\n", output.status.code().unwrap()));
    lines.join("\n")
}

/// The difference to the golden file, if there is one.
fn compare(name: &str, now: &str) -> Option<String> {
    let path = root().join("golden/hosts").join(format!("{name}.doctor"));
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, now).unwrap();
        return None;
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    (golden != now).then(|| format!("{} is\n{golden}\nand doctor says now\n{now}", path.display()))
}

#[test]
fn each_host_gives_its_golden_report() {
    let mut different = Vec::new();
    for shape in shapes::ALL {
        let host = shape();
        let engine = FakeEngine::start().unwrap();
        different.extend(compare(host.name, &report(host.builder(), host.path(), &engine)));
    }
    for fixture in Fixture::all().unwrap() {
        let engine = FakeEngine::captured(&fixture.docker()).unwrap();
        let builder = Exporter::builder()
            .flag(format!("--path.cgroup={}", fixture.cgroup().display()))
            .flag(format!("--path.procfs={}", fixture.proc().display()));
        let directory = root().join("fixtures").join(&fixture.name);
        different.extend(compare(&fixture.name, &report(builder, &directory, &engine)));
    }
    assert!(different.is_empty(), "where now is right: cargo xtask bless\n{}", different.join("\n"));
}
