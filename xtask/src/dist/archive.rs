//! Tar archives whose bytes depend on their content alone: one owner, one time, the order in which files were added.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use libdeflater::{CompressionLvl, Compressor};
use tempfile::TempDir;

/// A tar archive that is being made, by GNU tar from copies of the files.
#[derive(Debug)]
pub(super) struct Archive {
    files: TempDir,
    names: Vec<String>,
    time: u64,
}

impl Archive {
    /// An empty archive; `time` is the modification time of all that is in it, in seconds since 1970.
    pub(super) fn new(time: u64) -> anyhow::Result<Self> {
        Ok(Self { files: tempfile::tempdir()?, names: Vec::new(), time })
    }

    /// Adds a file under a relative name.
    pub(super) fn add(&mut self, file: &Path, name: &str, mode: u32) -> anyhow::Result<()> {
        let content = fs::read(file).with_context(|| file.display().to_string())?;
        self.add_bytes(&content, name, mode)
    }

    /// Adds a file that has no other copy.
    pub(super) fn add_bytes(&mut self, content: &[u8], name: &str, mode: u32) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let copy = self.files.path().join(name);
        if let Some(directory) = copy.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&copy, content).with_context(|| copy.display().to_string())?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode))?;
        self.names.push(name.to_owned());
        Ok(())
    }

    /// The archive's bytes.
    pub(super) fn finish(self) -> anyhow::Result<Vec<u8>> {
        let answer = Command::new("tar")
            .args(["--create", "--format=ustar", "--owner=0", "--group=0", "--numeric-owner", "--file=-"])
            .arg(format!("--mtime=@{}", self.time))
            .arg("--directory")
            .arg(self.files.path())
            .arg("--")
            .args(&self.names)
            .output()
            .context("tar")?;
        ensure!(answer.status.success(), "tar: {}", String::from_utf8_lossy(&answer.stderr));
        Ok(answer.stdout)
    }
}

/// Compresses as well as gzip can. The header holds neither time nor name.
pub(super) fn gzip(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut compressor = Compressor::new(CompressionLvl::best());
    let mut compressed = vec![0; compressor.gzip_compress_bound(bytes.len())];
    let size = compressor.gzip_compress(bytes, &mut compressed).context("gzip")?;
    compressed.truncate(size);
    Ok(compressed)
}

#[cfg(test)]
mod tests {
    use super::{Archive, gzip};

    fn sample() -> Vec<u8> {
        let mut archive = Archive::new(1_700_000_000).unwrap();
        archive.add_bytes(b"program", "a/program", 0o755).unwrap();
        archive.add_bytes(b"text", "a/text", 0o644).unwrap();
        archive.finish().unwrap()
    }

    #[test]
    fn an_archive_has_the_same_bytes_whenever_it_is_made() {
        let first = sample();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(first, sample());
        assert_eq!(gzip(&first).unwrap(), gzip(&sample()).unwrap());
    }

    #[test]
    fn tar_lists_what_was_added_with_mode_owner_and_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tar.gz");
        std::fs::write(&path, gzip(&sample()).unwrap()).unwrap();
        let tar = std::process::Command::new("tar")
            .args(["--list", "--verbose", "--utc", "--file"])
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&tar.stdout).into_owned();
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].starts_with("-rwxr-xr-x 0/0") && lines[0].ends_with("2023-11-14 22:13 a/program"), "{said}");
        assert!(lines[1].starts_with("-rw-r--r-- 0/0") && lines[1].ends_with("a/text"), "{said}");
    }
}
