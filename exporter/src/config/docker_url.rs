//! Parses `--docker.url` in every form that Docker's clients and the predecessor accept, checks the TLS certificates, and
//! removes duplicate engines.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::Reason;
use super::types::DockerEndpoint;
use super::values::bare_host;

/// The files that Docker's clients keep in `DOCKER_CERT_PATH`.
const CERTIFICATES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];

/// Greatest number of engines. Each one costs an event stream; hosts have one rootful and few rootless engines.
pub(super) const MAX_ENGINES: usize = 16;

/// A Docker URL whose certificates are not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Url {
    /// `unix://`.
    Unix(PathBuf),
    /// `tcp://`, with TLS if `DOCKER_TLS_VERIFY` is set.
    Tcp { host: String, port: Option<u16> },
    /// `http://`.
    Http { host: String, port: Option<u16> },
    /// `https://`.
    Https { host: String, port: Option<u16> },
}

/// Parses comma-separated URLs. A comma that no scheme follows is part of a path.
pub(super) fn parse_list(text: &str) -> Result<Vec<Url>, Reason> {
    let mut items: Vec<String> = Vec::new();
    for part in text.split(',') {
        match items.last_mut().filter(|_| !part.contains("://")) {
            Some(last) => last.extend([",", part]),
            None => items.push(part.trim().to_owned()),
        }
    }
    items.iter().map(|item| parse(item)).collect()
}

/// Parses a URL.
pub(super) fn parse(text: &str) -> Result<Url, Reason> {
    let (scheme, rest) = text.split_once("://").ok_or(Reason::Scheme)?;
    match scheme.to_ascii_lowercase().as_str() {
        "unix" => socket(rest).map(Url::Unix),
        "tcp" => authority(rest).map(|(host, port)| Url::Tcp { host, port }),
        "http" => authority(rest).map(|(host, port)| Url::Http { host, port }),
        "https" => authority(rest).map(|(host, port)| Url::Https { host, port }),
        _ => Err(Reason::Scheme),
    }
}

/// Parses a socket path. The predecessor's form `unix://var/run/docker.sock` lacks the slash of an absolute path.
fn socket(rest: &str) -> Result<PathBuf, Reason> {
    match rest.trim_matches('/') {
        "" => Err(Reason::NoSocket),
        _ if rest.starts_with('/') => Ok(PathBuf::from(rest)),
        _ => Ok(PathBuf::from(format!("/{rest}"))),
    }
}

/// Parses `HOST` or `HOST:PORT`, with at most a slash behind it.
fn authority(rest: &str) -> Result<(String, Option<u16>), Reason> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '@', '?', '#']) {
        return Err(Reason::MoreThanAddress);
    }
    let bracket = rest.rfind(']').unwrap_or(0);
    let (host, port) =
        match rest.rfind(':').filter(|&colon| colon > bracket).and_then(|colon| rest.split_at_checked(colon)) {
            Some((host, port)) => (host, Some(usable_port(port)?)),
            None => (rest, None),
        };
    bare_host(host)?;
    Ok((host.to_owned(), port))
}

/// Parses the port behind a colon. Port 0 is invalid.
fn usable_port(text: &str) -> Result<u16, Reason> {
    let digits = text.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).filter(|&port| port != 0).ok_or(Reason::Port)
}

impl Url {
    /// Returns the endpoint. As in Docker's own client, `https://` uses TLS, `tcp://` uses TLS with `DOCKER_TLS_VERIFY`, and
    /// `http://` does not. The default port is 2375 for `tcp://` (2376 with TLS), 80 for `http://` and 443 for `https://`.
    ///
    /// # Errors
    /// A certificate cannot be read. The error includes the directory.
    pub(super) fn endpoint(
        self,
        tls_verify: bool,
        certificates: Option<PathBuf>,
    ) -> Result<DockerEndpoint, (OsString, Reason)> {
        match self {
            Self::Unix(path) => Ok(DockerEndpoint::Unix(path)),
            Self::Http { host, port } => Ok(DockerEndpoint::Tcp(address(&host, port, 80))),
            Self::Tcp { host, port } if !tls_verify => Ok(DockerEndpoint::Tcp(address(&host, port, 2375))),
            Self::Tcp { host, port } => tls(address(&host, port, 2376), certificates),
            Self::Https { host, port } => tls(address(&host, port, 443), certificates),
        }
    }
}

/// Removes endpoints that lead to the same socket or address as an earlier one.
pub(super) fn distinct(endpoints: Vec<DockerEndpoint>) -> Vec<DockerEndpoint> {
    let mut kept: Vec<(DockerEndpoint, Identity)> = Vec::new();
    for endpoint in endpoints {
        let identity = Identity::of(&endpoint);
        if !kept.iter().any(|(other, known)| *other == endpoint || *known == identity) {
            kept.push((endpoint, identity));
        }
    }
    kept.into_iter().map(|(endpoint, _)| endpoint).collect()
}

/// Identity of an engine.
#[derive(PartialEq, Eq)]
enum Identity {
    /// Device and inode of a socket.
    Inode(u64, u64),
    /// Path of a socket that does not exist yet, with the links in its directory resolved.
    Path(PathBuf),
    /// `HOST:PORT`.
    Address(String),
}

impl Identity {
    fn of(endpoint: &DockerEndpoint) -> Self {
        match endpoint {
            DockerEndpoint::Unix(path) => fs::metadata(path).map_or_else(
                |_none_yet| Self::Path(resolved(path)),
                |metadata| Self::Inode(metadata.dev(), metadata.ino()),
            ),
            DockerEndpoint::Tcp(address) | DockerEndpoint::Tls { address, .. } => Self::Address(address.clone()),
        }
    }
}

/// Returns the path with the links in its directory resolved.
fn resolved(path: &Path) -> PathBuf {
    let directory = path.parent().and_then(|directory| directory.canonicalize().ok());
    directory.zip(path.file_name()).map_or_else(|| path.to_owned(), |(directory, name)| directory.join(name))
}

fn address(host: &str, port: Option<u16>, default: u16) -> String {
    format!("{host}:{}", port.unwrap_or(default))
}

/// Returns the endpoint after checking that the certificates can be read.
fn tls(address: String, certificates: Option<PathBuf>) -> Result<DockerEndpoint, (OsString, Reason)> {
    let certificates = certificates.ok_or((OsString::new(), Reason::NoCertificates))?;
    for name in CERTIFICATES {
        let file = certificates.join(name);
        if let Err(source) = readable(&file) {
            return Err((certificates.into_os_string(), Reason::Certificate { file, source }));
        }
    }
    Ok(DockerEndpoint::Tls { address, certificates })
}

fn readable(file: &Path) -> io::Result<()> {
    File::open(file).map(drop)
}
