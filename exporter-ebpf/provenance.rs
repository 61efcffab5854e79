//! Digests of what the committed objects were built from. Included by the exporter's build script, which refuses objects
//! that the sources have moved on from, and by `cargo xtask ebpf`, which makes them.

use std::path::{Path, PathBuf};
use std::{fs, io};

use sha2::{Digest as _, Sha256};

/// Where, in the folder of the crate, the objects and their provenance are.
pub(crate) const PREBUILT: &str = "prebuilt";
/// The file that says what they were built from and with.
pub(crate) const PROVENANCE: &str = "prebuilt/PROVENANCE";

/// One digest over every source file of the programs, by name and content.
///
/// # Errors
/// A file or folder that cannot be read.
pub(crate) fn sources(folder: &Path) -> io::Result<String> {
    let mut files = vec![folder.join("Cargo.toml")];
    collect(&folder.join("src"), &mut files)?;
    files.sort();
    let mut digest = Sha256::new();
    for file in files {
        let name = file.strip_prefix(folder).unwrap_or(&file).to_string_lossy().into_owned();
        let text = fs::read(&file)?;
        digest.update(format!("{name} {}\n", text.len()));
        digest.update(text);
    }
    Ok(hex(&digest.finalize()))
}

/// The digest of one file.
///
/// # Errors
/// It cannot be read.
pub(crate) fn file(path: &Path) -> io::Result<String> {
    fs::read(path).map(|bytes| hex(&Sha256::digest(bytes)))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { collect(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
