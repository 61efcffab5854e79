//! Why a request to an engine has failed, with a hint at what helps.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use tokio_rustls::rustls;

use crate::config::DockerEndpoint;

/// Cause of a missing or incomplete answer.
#[derive(Debug)]
pub(super) enum Cause {
    /// The connection could not be established.
    Connect(io::Error),
    /// The connection was closed, or the answer is not HTTP.
    Http(hyper::Error),
}

/// Why a request to an engine has failed. `engine` is the address of the engine, `request` the path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Unix socket does not exist.
    #[error(
        "{engine} does not exist: is Docker running, and is its socket mounted into this container \
         (-v /var/run/docker.sock:/var/run/docker.sock:ro)? --docker.url or DOCKER_HOST names another place"
    )]
    NoSocket {
        /// The engine.
        engine: String,
    },
    /// The Unix socket may not be opened.
    #[error(
        "{engine} may not be opened (permission denied): run as root, or as a member of the group that owns the \
         socket (--group-add with the number that `stat -c %g` prints for it)"
    )]
    Denied {
        /// The engine.
        engine: String,
    },
    /// Nothing listens at the address.
    #[error(
        "nobody listens at {engine} (connection refused): is Docker running? --docker.url or DOCKER_HOST names \
             another place"
    )]
    Refused {
        /// The engine.
        engine: String,
    },
    /// Nothing listens at a Unix socket whose file was removed after it had been mounted.
    #[error(
        "nobody listens at {engine} (connection refused): the mount is stale, as the engine has made a new socket since. \
         Restart this container; to be spared that, mount the directory instead of the file \
         (-v /var/run:/var/run:ro instead of -v /var/run/docker.sock:/var/run/docker.sock)"
    )]
    Stale {
        /// The engine.
        engine: String,
    },
    /// No answer in time.
    #[error("{engine} did not answer GET {request} within {after:?}: is the engine overloaded or hanging?")]
    Timeout {
        /// The engine.
        engine: String,
        /// The request.
        request: String,
        /// The timeout.
        after: Duration,
    },
    /// An unsuccessful HTTP status.
    #[error(
        "{engine} answered GET {request} with status {code}: {message:?}; a socket proxy has to allow GET on \
         /version, /events, /containers/json and /containers/ID/json"
    )]
    Status {
        /// The engine.
        engine: String,
        /// The request.
        request: String,
        /// The status.
        code: u16,
        /// The beginning of the engine's explanation.
        message: String,
    },
    /// The answer exceeds the limit.
    #[error("{engine} answered GET {request} with more than {limit} MiB: is a Docker engine behind this address?")]
    TooLarge {
        /// The engine.
        engine: String,
        /// The request.
        request: String,
        /// The limit.
        limit: usize,
    },
    /// The connection ended in the middle of an answer.
    #[error("{engine} broke off its answer to GET {request}: it was stopped, or is starting again")]
    Closed {
        /// The engine.
        engine: String,
        /// The request.
        request: String,
    },
    /// The peer does not speak HTTP (or TLS).
    #[error(
        "GET {request} of {engine} failed: {reason}; is a Docker engine behind this address, with or without TLS as given?"
    )]
    Broken {
        /// The engine.
        engine: String,
        /// The request.
        request: String,
        /// The error.
        reason: String,
    },
    /// The answer does not have the form of the Docker API.
    #[error(
        "{engine} answered GET {request} with something else than {expected}: is a Docker engine behind this address?"
    )]
    Shape {
        /// The engine.
        engine: String,
        /// The request.
        request: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The engine does not accept our certificate.
    #[error(
        "{engine} refused this client: {reason}; cert.pem and key.pem in DOCKER_CERT_PATH have to be signed by the CA \
         that the engine trusts (dockerd --tlscacert)"
    )]
    ClientRefused {
        /// The engine.
        engine: String,
        /// The TLS alert.
        reason: String,
    },
    /// The engine's certificate is not accepted.
    #[error(
        "the certificate of {engine} is not accepted: {reason}; ca.pem in DOCKER_CERT_PATH has to be the CA that signed it, \
         for this host name"
    )]
    Untrusted {
        /// The engine.
        engine: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// A TLS file cannot be used.
    #[error("{file} cannot be used: {reason}; DOCKER_CERT_PATH names the directory of ca.pem, cert.pem and key.pem")]
    Certificate {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// Returns the error for a cause.
    pub(super) fn from_cause(endpoint: &DockerEndpoint, request: &str, cause: &Cause) -> Self {
        let request = without_query(request);
        let engine = address(endpoint);
        match tls_error(cause) {
            Some(error @ rustls::Error::AlertReceived(_)) => {
                return Self::ClientRefused { engine, reason: error.to_string() };
            }
            Some(error @ rustls::Error::InvalidCertificate(_)) => {
                return Self::Untrusted { engine, reason: error.to_string() };
            }
            _ => {}
        }
        let kind = io_kind(cause);
        match kind {
            Some(io::ErrorKind::NotFound) => Self::NoSocket { engine },
            Some(io::ErrorKind::PermissionDenied) => Self::Denied { engine },
            Some(io::ErrorKind::ConnectionRefused) => match endpoint {
                DockerEndpoint::Unix(path) if is_unlinked(path) => Self::Stale { engine },
                _ => Self::Refused { engine },
            },
            _ if was_closed(cause, kind) => Self::Closed { engine, request },
            _ => Self::Broken { engine, request, reason: innermost(cause) },
        }
    }

    /// Returns the `code` label of `docker_requests_total`.
    pub(super) fn code(&self) -> String {
        match self {
            Self::Status { code, .. } => code.to_string(),
            Self::Timeout { .. } => "timeout".to_owned(),
            _ => "error".to_owned(),
        }
    }

    /// Returns whether no connection could be established.
    pub(super) fn is_unconnected(&self) -> bool {
        let no_listener =
            matches!(self, Self::NoSocket { .. } | Self::Denied { .. } | Self::Refused { .. } | Self::Stale { .. });
        let tls = matches!(self, Self::Certificate { .. } | Self::ClientRefused { .. } | Self::Untrusted { .. });
        no_listener || tls
    }

    /// Returns whether the peer cannot be reached or does not speak HTTP.
    pub(super) fn is_unreachable(&self) -> bool {
        self.is_unconnected() || matches!(self, Self::Closed { .. } | Self::Broken { .. })
    }

    /// Returns whether the engine, or a proxy before it, refuses this request.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.status(), Some(401 | 403 | 404 | 405 | 501))
    }

    /// Returns the HTTP status, if there was an answer.
    pub(super) fn status(&self) -> Option<u16> {
        if let Self::Status { code, .. } = self { Some(*code) } else { None }
    }
}

/// Returns a request without its query, which is long for `/events` and does not help a reader.
pub(super) fn without_query(request: &str) -> String {
    request.split('?').next().unwrap_or(request).to_owned()
}

/// Returns the address of an engine as a user would write it.
pub(super) fn address(endpoint: &DockerEndpoint) -> String {
    match endpoint {
        DockerEndpoint::Unix(path) => format!("unix://{}", path.display()),
        DockerEndpoint::Tcp(address) => format!("tcp://{address}"),
        DockerEndpoint::Tls { address, .. } => format!("https://{address}"),
    }
}

/// Returns whether the file of a socket has been removed from its file system. A mount of that file does not show the
/// socket that the engine has created since.
#[must_use]
pub fn is_unlinked(socket: &Path) -> bool {
    std::fs::metadata(socket).is_ok_and(|socket| socket.nlink() == 0)
}

/// Returns whether the engine has closed the connection in the middle of an answer.
fn was_closed(cause: &Cause, kind: Option<io::ErrorKind>) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    let ended = matches!(cause, Cause::Http(error) if error.is_incomplete_message() || error.is_closed() || error.is_canceled());
    ended || matches!(kind, Some(BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof))
}

/// Returns the kind of the first I/O error of a cause.
fn io_kind(cause: &Cause) -> Option<io::ErrorKind> {
    io_error(cause).map(io::Error::kind)
}

/// Returns the error of rustls, which `io::Error` wraps without naming it as its `source`.
fn tls_error(cause: &Cause) -> Option<&rustls::Error> {
    io_error(cause)?.get_ref()?.downcast_ref()
}

/// Returns the first I/O error of a cause.
fn io_error(cause: &Cause) -> Option<&io::Error> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = match cause {
        Cause::Connect(error) => return Some(error),
        Cause::Http(error) => Some(error),
    };
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error);
        }
        source = error.source();
    }
    None
}

/// Returns the text of the innermost error. Those around it only say that something has failed.
fn innermost(cause: &Cause) -> String {
    let mut source: &dyn std::error::Error = match cause {
        Cause::Connect(error) => error,
        Cause::Http(error) => error,
    };
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}
