//! Prometheus 3, which the tests of the exposition formats run beside the distribution's: from a newer suite of Debian, unpacked into
//! the cache and not installed. Sets nothing up where this machine's own is as new.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::sh::say;
use crate::vm::host;
use crate::workspace;

/// The first suite of Debian that has it.
const SUITE: &str = "forky";

/// Whether the tests find one.
pub(super) fn is_there() -> anyhow::Result<bool> {
    Ok(std::env::var_os("PROMETHEUS_3").is_some() || workspace::prometheus_3()?.is_file() || is_new("prometheus"))
}

/// Unpacks it, as root.
pub(super) fn install() -> anyhow::Result<()> {
    let program = workspace::prometheus_3()?;
    let directory = program.parent().context("a file has a directory")?;
    say(&format!("no Prometheus 3 here: unpacking that of Debian {SUITE} into {}", directory.display()));
    fs::create_dir_all(directory)?;
    let scratch = directory.join(format!("unpacked-{}", std::process::id()));
    fs::create_dir(&scratch)?;
    // A frozen mirror may serve a Release file of a testing suite that has expired.
    let settings = ["Acquire::Check-Valid-Until \"false\""];
    let extract = |mirror| host::extract(SUITE, None, "prometheus", mirror, &settings, &scratch);
    let unpacked = host::mirror().and_then(extract).and_then(|()| {
        let new = scratch.join("usr/bin/prometheus");
        ensure!(is_new(&new), "{} does not run here, or is no Prometheus 3", new.display());
        fs::rename(&new, &program).with_context(|| program.display().to_string())
    });
    fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    unpacked.context("PROMETHEUS_3=PROGRAM names one that was installed by other means")
}

/// Whether a program is Prometheus 3 or newer.
fn is_new(program: impl AsRef<Path>) -> bool {
    let answer = Command::new(program.as_ref()).arg("--version").output();
    answer.is_ok_and(|answer| major(&String::from_utf8_lossy(&answer.stdout)).is_some_and(|major| major >= 3))
}

/// The first number of the version that `prometheus --version` says.
fn major(said: &str) -> Option<u32> {
    said.strip_prefix("prometheus, version ")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn the_version_of_prometheus_is_read() {
        assert_eq!(major("prometheus, version 3.5.3+ds1 (branch: debian/sid)\n  build user: x\n"), Some(3));
        assert_eq!(major("prometheus, version 2.42.0+ds (branch: debian/sid)"), Some(2));
        assert_eq!(major("usage: prometheus"), None);
    }
}
