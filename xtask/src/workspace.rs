//! Paths of this workspace and of what belongs to it, and the list of its files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// Returns the directory with the workspace's `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_root.parent().unwrap_or(crate_root)
}

/// Returns the directory of what cargo builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |target| root().join(target))
}

/// Returns the cache, which all checkouts share: `$XDG_CACHE_HOME/docker-stats-exporter`, in `~/.cache` by default.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Ok(base.context("neither HOME nor XDG_CACHE_HOME is set")?.join("docker-stats-exporter"))
}

/// Returns cargo's own directory: `CARGO_HOME`, `~/.cargo` by default.
pub(crate) fn cargo_home() -> anyhow::Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    home.context("neither HOME nor CARGO_HOME is set")
}

/// Returns the virtual environment that `cargo xtask setup` makes if this machine's Python lacks packages.
pub(crate) fn python() -> anyhow::Result<PathBuf> {
    Ok(cache()?.join("python"))
}

/// Returns the program that `cargo xtask setup tests` unpacks if this machine has no Prometheus 3.
pub(crate) fn prometheus_3() -> anyhow::Result<PathBuf> {
    Ok(cache()?.join("prometheus-3/prometheus"))
}

/// Returns where `cargo xtask setup dist` unpacks the standard library of another architecture if rustup has none.
pub(crate) fn standard_library() -> anyhow::Result<PathBuf> {
    Ok(cache()?.join("rust-std"))
}

/// Returns where `cargo xtask setup dist` unpacks Docker Compose if this machine has none.
pub(crate) fn unpacked_compose() -> anyhow::Result<PathBuf> {
    Ok(cache()?.join("compose"))
}

/// Finds the program of Docker Compose 2: the plugin of the Docker client, or the unpacked program.
pub(crate) fn compose() -> anyhow::Result<PathBuf> {
    let plugin = |root: &str| PathBuf::from(root).join("docker/cli-plugins/docker-compose");
    let roots = ["/usr/libexec", "/usr/lib", "/usr/local/lib", "/usr/local/libexec"];
    let unpacked = unpacked_compose()?.join("usr/libexec/docker/cli-plugins/docker-compose");
    let found = roots.map(plugin).into_iter().chain([unpacked]).find(|program| program.is_file());
    found.context("Docker Compose 2 is missing: run `cargo xtask setup dist`")
}

/// Finds a tool in `PATH` or in the virtual environment of Python.
pub(crate) fn tool(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = std::env::split_paths(&path).chain([python()?.join("bin")]);
    let found = directories.find_map(|directory| Some(directory.join(name)).filter(|file| file.is_file()));
    found.with_context(|| format!("`{name}` is missing: run `cargo xtask setup dist`"))
}

/// Returns the commit that is checked out, or `unknown`.
pub(crate) fn revision() -> String {
    git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

/// Returns the time of everything that is built from this checkout, in seconds since 1970: `SOURCE_DATE_EPOCH`, or the
/// time of the commit.
pub(crate) fn commit_time() -> anyhow::Result<u64> {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let time = given.or_else(|| git(&["log", "-1", "--format=%ct"]));
    let time = time.context("git does not know the time of the commit: set SOURCE_DATE_EPOCH")?;
    time.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {time:?}, and seconds since 1970 are expected"))
}

/// Returns what git prints, or `None` if it fails or prints nothing. The checkout may belong to another user, hence
/// `safe.directory`.
pub(crate) fn git(arguments: &[&str]) -> Option<String> {
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
    /// Content; `None` if it is not UTF-8.
    pub(crate) text: Option<String>,
}

/// Returns every file that git tracks or would track, sorted by path. Without git, as in a source archive, returns every
/// file that is not build output.
pub(crate) fn files() -> anyhow::Result<Vec<File>> {
    let mut paths = match tracked() {
        Some(paths) => paths,
        None => walk(root())?,
    };
    paths.sort();
    paths.dedup();
    paths.into_iter().filter_map(|path| load(path).transpose()).collect()
}

/// Returns the files that git tracks or would track.
fn tracked() -> Option<Vec<String>> {
    let list = git(&["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
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

/// Reads a file. Returns `None` for a link, and for a file that is only in git's index.
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
