//! The cache of images, saved states and the files of runs. All checkouts share it.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;

use crate::sh::say;
use crate::workspace;

/// Age after which an unused image is removed, because its recipe has probably changed.
const FORGOTTEN: Duration = Duration::from_hours(14 * 24);

/// Name of the file that every use of an image touches.
const USED: &str = "used";

/// Returns the directory of the cache.
pub(super) fn root() -> anyhow::Result<PathBuf> {
    let root = workspace::cache()?.join("vm");
    fs::create_dir_all(&root).with_context(|| root.display().to_string())?;
    Ok(root)
}

/// Returns a name for something that is made from these parts.
pub(super) fn key(parts: &[&str]) -> String {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Locks the cache for a purpose, so that one process at a time builds. The lock ends with the value or the process.
pub(super) fn lock(what: &str) -> anyhow::Result<File> {
    let path = root()?.join(format!("{what}.lock"));
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    if file.try_lock().is_err() {
        say(&format!("waiting for another process that prepares {what}"));
        file.lock().with_context(|| path.display().to_string())?;
    }
    Ok(file)
}

/// Makes a directory completely or not at all: `fill` fills a temporary one, which is renamed at the end.
pub(super) fn whole(target: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if target.is_dir() {
        return Ok(());
    }
    let half = target.with_extension("half");
    // A killed process may have left the temporary directory. No other process uses it, since this one holds the lock.
    remove(&half)?;
    fs::create_dir_all(&half).with_context(|| half.display().to_string())?;
    fill(&half).inspect_err(|_| remove(&half).unwrap_or_default())?;
    fs::rename(&half, target).with_context(|| target.display().to_string())
}

/// Marks an image as used, and removes images that have not been used for long.
pub(super) fn used(image: &Path) -> anyhow::Result<()> {
    fs::write(image.join(USED), "").with_context(|| image.display().to_string())?;
    for entry in fs::read_dir(root()?)? {
        let path = entry?.path();
        let seen = fs::metadata(path.join(USED)).and_then(|facts| facts.modified());
        if seen.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > FORGOTTEN)) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// A directory for the files of one run, which is removed with the value. Directories of killed processes are removed, too.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Creates a directory for a purpose.
    pub(super) fn new(what: &str) -> anyhow::Result<Self> {
        let runs = root()?.join("runs");
        fs::create_dir_all(&runs)?;
        for entry in fs::read_dir(&runs)? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let pid = name.split('-').next().unwrap_or_default();
            if !Path::new("/proc").join(pid).exists() {
                remove(&path)?;
            }
        }
        let own = runs.join(format!("{}-{what}", std::process::id()));
        remove(&own)?;
        fs::create_dir(&own).with_context(|| own.display().to_string())?;
        Ok(Self(own))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The next run tries again.
        remove(&self.0).unwrap_or_default();
    }
}

/// Removes the whole cache.
pub(super) fn clean() -> anyhow::Result<()> {
    let root = root()?;
    remove(&root)?;
    say(&format!("removed {}", root.display()));
    Ok(())
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{key, whole};

    #[test]
    fn a_key_changes_with_every_part_and_with_where_parts_end() {
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
        assert_ne!(key(&["a", "b"]), key(&["a", "c"]));
        assert_ne!(key(&["ab", ""]), key(&["a", "b"]));
    }

    #[test]
    fn what_failed_half_way_is_not_there() {
        let target = std::env::temp_dir().join(format!("xtask-whole-{}", std::process::id()));
        let fail = |path: &std::path::Path| {
            fs::write(path.join("half"), "")?;
            anyhow::bail!("no more")
        };
        whole(&target, fail).unwrap_err();
        assert!(!target.exists() && !target.with_extension("half").exists());
        whole(&target, |path| Ok(fs::write(path.join("all"), "")?)).unwrap();
        assert!(target.join("all").exists() && !target.join("half").exists());
        fs::remove_dir_all(target).unwrap();
    }

    #[test]
    fn what_a_killed_process_has_left_half_done_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("image-0123");
        fs::create_dir_all(target.with_extension("half").join("root")).unwrap();
        fs::write(target.with_extension("half").join("root/old"), "").unwrap();
        whole(&target, |path| Ok(fs::write(path.join("new"), "")?)).unwrap();
        assert!(target.join("new").exists() && !target.join("root").exists());
        assert!(!target.with_extension("half").exists());
    }
}
