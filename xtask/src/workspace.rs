//! Where this workspace is, and which files belong to it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// The directory with the workspace's `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_root.parent().unwrap_or(crate_root)
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |target| root().join(target))
}

/// The cache between runs, outside every checkout: `$XDG_CACHE_HOME/docker-stats-exporter`, in `~/.cache` by default.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Ok(base.context("neither HOME nor XDG_CACHE_HOME is set")?.join("docker-stats-exporter"))
}

/// The directory of Python packages that `cargo xtask setup` makes where this machine's Python lacks them.
pub(crate) fn python() -> anyhow::Result<PathBuf> {
    Ok(cache()?.join("python"))
}

/// The program that `cargo xtask setup tests` unpacks where this machine has no Prometheus 3.
pub(crate) fn prometheus_3() -> anyhow::Result<PathBuf> {
    Ok(cache()?.join("prometheus-3/prometheus"))
}

/// Where `cargo xtask setup dist` unpacks the standard library of another architecture, where rustup has none.
pub(crate) fn standard_library() -> anyhow::Result<PathBuf> {
    Ok(cache()?.join("rust-std"))
}

/// Where `cargo xtask setup dist` unpacks Docker Compose, where this machine has none.
pub(crate) fn unpacked_compose() -> anyhow::Result<PathBuf> {
    Ok(cache()?.join("compose"))
}

/// The program of Docker Compose 2: where distributions and Docker put the plugin of the client, or what was unpacked.
pub(crate) fn compose() -> anyhow::Result<PathBuf> {
    let plugin = |root: &str| PathBuf::from(root).join("docker/cli-plugins/docker-compose");
    let roots = ["/usr/libexec", "/usr/lib", "/usr/local/lib", "/usr/local/libexec"];
    let unpacked = unpacked_compose()?.join("usr/libexec/docker/cli-plugins/docker-compose");
    let found = roots.map(plugin).into_iter().chain([unpacked]).find(|program| program.is_file());
    found.context("Docker Compose 2 is missing: run `cargo xtask setup dist`")
}

/// A tool from `PATH`, or from the directory of Python packages.
pub(crate) fn tool(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = std::env::split_paths(&path).chain([python()?.join("bin")]);
    let found = directories.find_map(|directory| Some(directory.join(name)).filter(|file| file.is_file()));
    found.with_context(|| format!("`{name}` is missing: run `cargo xtask setup dist`"))
}

/// The commit that is checked out, or `unknown`.
pub(crate) fn revision() -> String {
    git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

/// `SOURCE_DATE_EPOCH`, or when the commit was made that is checked out: the time of all that is built from it.
pub(crate) fn commit_time() -> anyhow::Result<u64> {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let time = given.or_else(|| git(&["log", "-1", "--format=%ct"]));
    let time = time.context("git does not know the time of the commit: set SOURCE_DATE_EPOCH")?;
    time.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {time:?}, and seconds since 1970 are expected"))
}

/// What git answers, if it does.
fn git(arguments: &[&str]) -> Option<String> {
    let answer =
        Command::new("git").args(["-c", "safe.directory=*"]).args(arguments).current_dir(root()).output().ok()?;
    let text = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    (answer.status.success() && !text.is_empty()).then_some(text)
}

/// A file of the project.
#[derive(Debug)]
pub(crate) struct File {
    /// Path from the workspace's root, with `/`.
    pub(crate) path: String,
    /// Its content; none where it is not UTF-8, which is to say, not ours to read.
    pub(crate) text: Option<String>,
}

/// Every file that git tracks or would track, in the order of their paths.
///
/// Where git does not answer (a source archive), every file that is not build output.
pub(crate) fn files() -> anyhow::Result<Vec<File>> {
    let mut paths = match tracked() {
        Some(paths) => paths,
        None => walk(root())?,
    };
    paths.sort();
    paths.dedup();
    paths.into_iter().filter_map(|path| load(path).transpose()).collect()
}

/// What git says. The checkout may belong to another user (CI mounts it so), hence `safe.directory`.
fn tracked() -> Option<Vec<String>> {
    let answer = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .ok()
        .filter(|answer| answer.status.success())?;
    let list = String::from_utf8_lossy(&answer.stdout).into_owned();
    Some(list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

fn walk(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && ![".git", "target"].iter().any(|name| entry.file_name() == *name) {
            paths.extend(walk(&entry.path())?);
        } else if kind.is_file() {
            paths.push(relative(&entry.path()));
        }
    }
    Ok(paths)
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}

/// None for what is gone from the disk but not from git's index, and for links.
fn load(path: String) -> anyhow::Result<Option<File>> {
    let full: PathBuf = root().join(&path);
    match fs::symlink_metadata(&full) {
        Ok(facts) if facts.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path),
    }
    let bytes = fs::read(&full).with_context(|| path.clone())?;
    Ok(Some(File { path, text: String::from_utf8(bytes).ok() }))
}
