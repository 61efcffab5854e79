//! Fuzz targets of `--web.config.file` and of the certificates that clients show.

use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::client_certificates::names;
use super::problem::Problems;
use super::{document, yaml};

/// Checks that a file is either accepted or has an error that names a line of the file.
pub(crate) fn file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut problems = Problems::default();
    let root = yaml::parse(&text, &mut problems);
    assert_eq!(root.is_none(), !problems.0.is_empty(), "{problems}");
    if let Some(root) = root {
        _ = document::read(&root, &mut problems);
    }
    let lines = text.split(['\n', '\r']).count() as u64 + 1;
    assert!(problems.0.iter().all(|problem| problem.line() <= lines), "{problems}");
}

/// Checks that a certificate has no more names than it has bytes, and that PEM of any kind is read to its end.
pub(crate) fn certificate(bytes: &[u8]) {
    assert!(names(&CertificateDer::from(bytes.to_vec())).len() <= bytes.len());
    assert!(CertificateDer::pem_slice_iter(bytes).take(bytes.len() + 1).count() <= bytes.len());
    _ = PrivateKeyDer::from_pem_slice(bytes);
}
