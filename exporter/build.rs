//! Tells the program its own revision and compiler, for `docker_stats_exporter_build_info`, checks whether the
//! committed eBPF objects are those of the sources, and puts the live page together.

#[path = "../exporter-ebpf/provenance.rs"]
mod provenance;

#[path = "build_page.rs"]
mod page;

use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=BUILD_REVISION");
    println!("cargo::rerun-if-changed=../.git/HEAD");
    let revision = env::var("BUILD_REVISION").ok().filter(|revision| !revision.is_empty());
    let revision = revision.or_else(|| output("git", &["rev-parse", "--short=12", "HEAD"]));
    println!("cargo::rustc-env=BUILD_REVISION={}", revision.unwrap_or_else(|| "unknown".to_owned()));
    let compiler = env::var("RUSTC").ok().and_then(|rustc| output(&rustc, &["--version"]));
    let version = compiler.as_deref().and_then(|text| text.split(' ').nth(1)).unwrap_or("unknown");
    println!("cargo::rustc-env=BUILD_RUSTC={version}");
    check_objects(Path::new("../exporter-ebpf"));
    page::build(Path::new("page"))
}

/// The program does not compile with stale objects. The library does, or `cargo xtask ebpf`, which repairs it, would not.
fn check_objects(folder: &Path) {
    for part in ["Cargo.toml", "src", provenance::PREBUILT, "provenance.rs"] {
        println!("cargo::rerun-if-changed={}", folder.join(part).display());
    }
    println!("cargo::rustc-check-cfg=cfg(stale_objects)");
    match differences(folder) {
        Ok(found) if found.is_empty() => return,
        Ok(found) => println!("cargo::warning=exporter-ebpf/prebuilt: {}", found.join("; ")),
        Err(error) => println!("cargo::warning=exporter-ebpf/prebuilt cannot be compared: {error}"),
    }
    println!("cargo::rustc-cfg=stale_objects");
}

/// Every line of the provenance that is no longer true.
fn differences(folder: &Path) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(folder.join(provenance::PROVENANCE))?;
    let mut found = Vec::new();
    for (what, said) in text.lines().filter_map(|line| line.split_once(": ")) {
        let is = match (what, what.strip_prefix("object ")) {
            ("sources", _) => provenance::sources(folder)?,
            (_, Some(object)) => provenance::file(&folder.join(provenance::PREBUILT).join(object))?,
            _ => continue,
        };
        if is != said {
            found.push(format!("{what}: it was built from {said}, here is {is}"));
        }
    }
    Ok(found)
}

/// First line of a command that worked.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.lines().next()?.to_owned())
}
