//! Captured hosts: trees of plain files as `cargo xtask capture` makes them, one directory each under `fixtures/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A captured host.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// Directory name, which is also the golden file's.
    pub name: String,
    directory: PathBuf,
}

impl Fixture {
    /// All of them.
    ///
    /// # Errors
    /// There is none, or the directory cannot be read.
    pub fn all() -> Result<Vec<Self>> {
        let directory = root().join("fixtures");
        let mut names = Vec::new();
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        ensure!(!names.is_empty(), "{} holds no captured host: cargo xtask capture", directory.display());
        names.iter().map(|name| Self::open(name)).collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// It lacks one of the trees.
    pub fn open(name: &str) -> Result<Self> {
        let fixture = Self { name: name.to_owned(), directory: root().join("fixtures").join(name) };
        for part in [fixture.cgroup(), fixture.proc(), fixture.docker()] {
            ensure!(part.is_dir(), "{} is not there: cargo xtask capture makes it", part.display());
        }
        Ok(fixture)
    }

    /// For `--path.cgroup`.
    #[must_use]
    pub fn cgroup(&self) -> PathBuf {
        self.directory.join("sys/fs/cgroup")
    }

    /// For `--path.procfs`.
    #[must_use]
    pub fn proc(&self) -> PathBuf {
        self.directory.join("proc")
    }

    /// The engine's captured answers, for [`FakeEngine`](crate::fake_engine::FakeEngine).
    #[must_use]
    pub fn docker(&self) -> PathBuf {
        self.directory.join("docker")
    }

    /// The expected exposition, served with these flags; empty for the default.
    #[must_use]
    pub fn golden(&self, variant: &str) -> PathBuf {
        root().join("golden").join(format!("{}{variant}.prom", self.name))
    }

    /// A copy in a temporary directory, to be spoilt by a test.
    ///
    /// # Errors
    /// Copying failed.
    pub fn copy(&self) -> Result<(Self, tempfile::TempDir)> {
        let directory = tempfile::tempdir()?;
        copy_tree(&self.directory, directory.path())?;
        Ok((Self { name: self.name.clone(), directory: directory.path().to_owned() }, directory))
    }

    /// Every file of this name below the cgroup tree, sorted.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn cgroup_files(&self, name: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        walk(&self.cgroup(), &mut |path| {
            if path.file_name().is_some_and(|file| file == name) {
                found.push(path.to_owned());
            }
        })?;
        found.sort();
        Ok(found)
    }
}

/// The directory of this package.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn walk(directory: &Path, visit: &mut impl FnMut(&Path)) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), visit)?;
        } else {
            visit(&entry.path());
        }
    }
    Ok(())
}

/// Copies a tree; symbolic links stay links (`ns/net` points nowhere).
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
