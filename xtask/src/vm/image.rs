//! The guest's image: kernel, initrd and disks. `guest/build.sh` builds it once per recipe.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, bail};

use super::options::{KERNEL, Options};
use super::{cache, can_build};
use crate::debian;
use crate::sh::say;

const BUILD: &str = include_str!("guest/build.sh");

/// Files of the image beside the packages.
const GUEST: &[(&str, &str)] = &[
    ("agent.sh", include_str!("guest/agent.sh")),
    ("agent.service", include_str!("guest/agent.service")),
    ("init.sh", include_str!("guest/init.sh")),
];

/// Number of lines of a log or a console in an error. A kernel panic takes half of them.
const SHOWN: usize = 60;

/// A built image.
#[derive(Debug)]
pub(super) struct Image(PathBuf);

impl Image {
    /// Returns the path of a file of the image.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Returns the image of the suite, and builds it if the cache has none of this recipe.
pub(super) fn prepare(options: &Options) -> anyhow::Result<Image> {
    let packages = options.suite.packages();
    let mut parts = vec![options.suite.name, &packages, KERNEL, BUILD];
    parts.extend(GUEST.iter().map(|(_, text)| *text));
    let path = cache::root()?.join(format!("{}-{}", options.suite.name, cache::key(&parts)));
    cache::whole(&path, |directory| build(options, directory))?;
    cache::used(&path)?;
    Ok(Image(path))
}

fn build(options: &Options, directory: &Path) -> anyhow::Result<()> {
    can_build()?;
    let mirror = options.mirror()?.unwrap_or_default();
    let (name, what) = (options.suite.name, options.suite.what);
    say(&format!("building the image of {name} ({what}): a minute or two, once"));
    let start = Instant::now();
    let guest = directory.join("guest");
    fs::create_dir(&guest)?;
    for (name, text) in GUEST {
        fs::write(guest.join(name), text)?;
    }
    let log = directory.join("log");
    let file = fs::File::create(&log)?;
    let status = debian::contained("sh")
        .args(["-c", BUILD, "build.sh"])
        .current_dir(directory)
        .env("SUITE", name)
        .env("MIRROR", &mirror)
        .env("PACKAGES", options.suite.packages())
        .env("KERNEL", KERNEL)
        .env("GUEST", &guest)
        .env("APT_OPTIONS", debian::apt_options()?)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .context("sh")?;
    if !status.success() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        bail!("the image of {name} could not be built ({status}):\n{}", tail(&text));
    }
    fs::remove_file(log)?;
    say(&format!("built in {:.0} s", start.elapsed().as_secs_f64()));
    Ok(())
}

/// Returns the last lines of a text, indented.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return "    nothing\n".to_owned();
    }
    lines.iter().skip(lines.len().saturating_sub(SHOWN)).flat_map(|line| ["    ", line, "\n"]).collect()
}
