//! Finds address and web configuration of the server that runs beside a health check, by its command line and environment.
//!
//! Docker's HEALTHCHECK runs in the server's container, but is not given the flags of the server (`command:` in a
//! compose file).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::{Command, Config, ListenAddress};

/// A server, as far as a health check needs to know it.
#[derive(Debug, PartialEq, Eq)]
pub struct Running {
    /// Where it listens.
    pub address: ListenAddress,
    /// Its `--web.config.file`.
    pub web_config: Option<PathBuf>,
}

/// Returns this program's server that shares our mounts: process 1, or else the only other one.
#[must_use]
pub fn server() -> Option<Running> {
    let procfs = Path::new("/proc");
    let mut found: Vec<Running> = Vec::new();
    if let Some(server) = server_of(&procfs.join("1")) {
        return Some(server);
    }
    for entry in fs::read_dir(procfs).ok()?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if pid.is_some_and(|pid| pid != std::process::id()) {
            found.extend(server_of(&entry.path()));
        }
    }
    found.dedup();
    // Of several servers, none is more ours than the others.
    if found.len() == 1 { found.pop() } else { None }
}

/// Returns what a process serves, if it is a server of this program.
fn server_of(process: &Path) -> Option<Running> {
    if !(is_this_program(process) && shares_our_namespaces(process)) {
        return None;
    }
    let arguments = words(process.join("cmdline"))?.into_iter().skip(1);
    // A process that has more privileges than we have does not show its environment. Docker gives us the same.
    let environment = words(process.join("environ")).filter(|words| !words.is_empty());
    let variable = |name: &str| match &environment {
        Some(words) => words.iter().find_map(|word| value_of(word, name)),
        None => std::env::var_os(name),
    };
    // As if it were asked for its health: the files that it was started with may be faulty by now. Who has a command of its
    // own is no server, and two are an error.
    match Config::from(arguments.chain(["healthcheck".into()]), variable) {
        Ok(Command::Healthcheck { address, web_config, .. }) => {
            let web_config = web_config.map(|path| process.join("cwd").join(path));
            Some(Running { address, web_config })
        }
        _ => None,
    }
}

/// Compares the executable files; where the other one may not be read, their names.
fn is_this_program(process: &Path) -> bool {
    let file = |path: PathBuf| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    if let (Ok(theirs), Ok(ours)) = (file(process.join("exe")), file(PathBuf::from("/proc/self/exe"))) {
        return theirs == ours;
    }
    let name = |process: &Path| {
        let first = words(process.join("cmdline"))?.into_iter().next()?;
        Path::new(&first).file_name().map(OsString::from)
    };
    name(process).is_some_and(|theirs| Some(theirs) == name(Path::new("/proc/self")))
}

/// Returns whether a process has our mounts and our network. A server hides its links to namespaces; its list of mounts
/// has numbers of its own in each namespace, and so have the files of its network.
fn shares_our_namespaces(process: &Path) -> bool {
    let mounts = |process: &Path| fs::read(process.join("mountinfo")).ok();
    let network = |process: &Path| fs::metadata(process.join("net/dev")).map(|file| file.ino()).ok();
    let ours = Path::new("/proc/self");
    // Process 1 may not show its own: then the name of the program is enough.
    mounts(process).map_or(process.ends_with("1"), |theirs| Some(theirs) == mounts(ours))
        && network(process).is_some_and(|theirs| Some(theirs) == network(ours))
}

/// Returns the words of a file that ends each with a null byte.
fn words(file: PathBuf) -> Option<Vec<OsString>> {
    let bytes = fs::read(file).ok()?;
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    Some(bytes.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect())
}

fn value_of(word: &OsString, name: &str) -> Option<OsString> {
    let value = word.as_encoded_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    Some(OsString::from_vec(value.to_vec()))
}
