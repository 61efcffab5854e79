//! Puts the live page together: the scripts and the style of `exporter/page` become one document.
//!
//! The Content-Security-Policy allows them by their hashes, which are those of the bytes that are served.

use std::path::Path;
use std::{env, fs, io};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The scripts in the order in which they stand in the document.
const SCRIPTS: [&str; 8] =
    ["arithmetic.js", "format.js", "charts.js", "options.js", "row.js", "table.js", "detail.js", "main.js"];

/// Writes `page.html` into the build's folder and tells the compiler its policy as `PAGE_POLICY`.
///
/// # Errors
///
/// If a source cannot be read, or the document cannot be written.
pub(crate) fn build(folder: &Path) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let style = fs::read_to_string(folder.join("style.css"))?;
    let mut script = String::new();
    for name in SCRIPTS {
        script.push_str(&fs::read_to_string(folder.join(name))?);
    }
    if script.contains("{{") || style.contains("{{") {
        return Err(io::Error::other("{{ is a mark of page.html, and stands in a script or in the style"));
    }
    let page = fs::read_to_string(folder.join("page.html"))?;
    let page = page.replace("{{style}}", &style).replace("{{script}}", &script);
    let target = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets no OUT_DIR"))?;
    fs::write(Path::new(&target).join("page.html"), page)?;
    println!(
        "cargo::rustc-env=PAGE_POLICY=default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; \
         require-trusted-types-for 'script'",
        hash(&script),
        hash(&style)
    );
    Ok(())
}

fn hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text.as_bytes()))
}
