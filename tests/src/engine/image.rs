//! The test image: `FROM scratch`, a static busybox and links to it. Built by the engine's own builder, so that neither
//! a registry nor buildx is needed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{command, run};

/// Name and tag.
pub(crate) const NAME: &str = "dse-tests/busybox:2";

const BUSYBOX: &str = "/bin/busybox";

/// Commands that tests use.
const APPLETS: &[&str] = &[
    "cat", "date", "dd", "echo", "false", "head", "mkdir", "nc", "rm", "seq", "sh", "sleep", "sync", "test", "timeout",
    "touch", "true", "wget", "yes",
];

/// Builds the image where the engine at this `DOCKER_HOST` does not have it yet.
pub(crate) fn build(host: &str) -> Result<()> {
    if run(command(host).args(["image", "inspect", NAME])).is_ok() {
        return Ok(());
    }
    ensure!(
        Path::new(BUSYBOX).exists(),
        "there is no {BUSYBOX} to put into the test image: apt-get install busybox-static"
    );
    let context = tempfile::tempdir()?;
    let bin = context.path().join("root/bin");
    fs::create_dir_all(&bin)?;
    fs::create_dir_all(context.path().join("root/tmp"))?;
    fs::copy(BUSYBOX, bin.join("busybox"))?;
    for applet in APPLETS {
        symlink("busybox", bin.join(applet))?;
    }
    fs::write(
        context.path().join("Dockerfile"),
        "FROM scratch\nCOPY root /\nENV PATH=/bin\nCMD [\"sleep\", \"1d\"]\n",
    )?;
    let mut build = command(host);
    build.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", NAME]).arg(context.path());
    run(&mut build).context("building the test image")?;
    let works = run(command(host).args(["run", "--rm", "--network=none", NAME, "true"]));
    works.with_context(|| {
        format!("the test image does not run; {BUSYBOX} must be static: apt-get install busybox-static")
    })?;
    Ok(())
}
