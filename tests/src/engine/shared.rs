//! The private engine that the test processes of one run share: whoever comes first starts it, and it ends a few
//! seconds after the last process that used it, however that process ended (the kernel frees its lock).

use std::fs::{File, OpenOptions, create_dir_all, remove_dir_all};
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context, Result};

use super::daemon::{self, Daemon, Until};
use super::ping;

/// Held, shared, for as long as this process lives.
static USING: OnceLock<File> = OnceLock::new();

/// Gives the `DOCKER_HOST` of the shared engine.
pub(super) fn find_or_start() -> Result<String> {
    let user = rustix::process::geteuid().as_raw();
    let base = std::env::temp_dir().join(format!("dse-tests-{user}"));
    create_dir_all(&base).with_context(|| base.display().to_string())?;

    // While another run's engine is being stopped, its keeper holds this lock: wait for it.
    let users = base.join("users.lock");
    let using = open(&users)?;
    using.lock_shared()?;
    USING.get_or_init(|| using);

    let starting = open(&base.join("start.lock"))?;
    starting.lock()?;
    let directory = base.join("engine");
    let host = daemon::host(&directory);
    if ping(&host).is_err() {
        if directory.exists() {
            remove_dir_all(&directory).with_context(|| {
                let path = directory.display();
                format!(
                    "{path} is left over from a run whose keeper was killed: unmount what is below it and remove it"
                )
            })?;
        }
        create_dir_all(&directory)?;
        // The keeper lives on by itself: it watches the lock, not this process.
        Daemon::start(&directory, Until::LockIsFree(users))?;
    }
    Ok(host)
}

fn open(path: &PathBuf) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| path.display().to_string())
}
