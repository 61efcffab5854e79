//! Why an engine could not be asked, in words that name the cure.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bollard::errors::Error as Cause;

/// Why a request to an engine failed. `engine` is the address, `request` what was asked for.
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
    /// Nobody listens.
    #[error(
        "nobody listens at {engine} (connection refused): is Docker running? --docker.url or DOCKER_HOST names \
             another place"
    )]
    Refused {
        /// The engine.
        engine: String,
    },
    /// No answer in time.
    #[error("{engine} did not answer GET {request} within {after:?}: is the engine overloaded or hanging?")]
    Timeout {
        /// The engine.
        engine: String,
        /// What was asked for.
        request: String,
        /// The time that it was given.
        after: Duration,
    },
    /// An HTTP status that is no success.
    #[error(
        "{engine} answered GET {request} with status {code}: {message:?}; a socket proxy has to allow GET on \
         /version, /events, /containers/json and /containers/ID/json"
    )]
    Status {
        /// The engine.
        engine: String,
        /// What was asked for.
        request: String,
        /// The status.
        code: u16,
        /// The beginning of what the engine says about it.
        message: String,
    },
    /// The connection ended in the middle of an answer.
    #[error("{engine} broke off its answer to GET {request}: it was stopped, or is starting again")]
    Closed {
        /// The engine.
        engine: String,
        /// What was asked for.
        request: String,
    },
    /// What answers does not speak HTTP (or TLS).
    #[error(
        "GET {request} of {engine} failed: {reason}; is a Docker engine behind this address, with or without TLS as given?"
    )]
    Broken {
        /// The engine.
        engine: String,
        /// What was asked for.
        request: String,
        /// What was seen.
        reason: String,
    },
    /// The answer is not what the Docker API says.
    #[error(
        "{engine} answered GET {request} with something else than {expected}: is a Docker engine behind this address?"
    )]
    Shape {
        /// The engine.
        engine: String,
        /// What was asked for.
        request: String,
        /// What was expected.
        expected: &'static str,
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
    /// Tells the client library's errors apart.
    pub(super) fn from_cause(engine: &str, request: &str, cause: &Cause) -> Self {
        // A query says nothing to people, and that of `/events` is long.
        let request = request.split('?').next().unwrap_or(request);
        let (engine, request) = (engine.to_owned(), request.to_owned());
        if let Cause::DockerResponseServerError { status_code, message } = cause {
            let message = message.chars().take(200).collect();
            return Self::Status { engine, request, code: *status_code, message };
        }
        if matches!(cause, Cause::SocketNotFoundError(_)) {
            return Self::NoSocket { engine };
        }
        match io_kind(cause) {
            Some(io::ErrorKind::NotFound) => Self::NoSocket { engine },
            Some(io::ErrorKind::PermissionDenied) => Self::Denied { engine },
            Some(io::ErrorKind::ConnectionRefused) => Self::Refused { engine },
            Some(io::ErrorKind::UnexpectedEof) => Self::Closed { engine, request },
            _ => Self::Broken { engine, request, reason: innermost(cause) },
        }
    }

    /// The `code` label of `docker_requests_total`.
    pub(super) fn code(&self) -> String {
        match self {
            Self::Status { code, .. } => code.to_string(),
            Self::Timeout { .. } => "timeout".to_owned(),
            _ => "error".to_owned(),
        }
    }

    /// The HTTP status, where there was one.
    pub(super) fn status(&self) -> Option<u16> {
        if let Self::Status { code, .. } = self { Some(*code) } else { None }
    }
}

fn io_kind(cause: &Cause) -> Option<io::ErrorKind> {
    if let Cause::IOError { err } = cause {
        return Some(err.kind());
    }
    let mut source = cause.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        source = error.source();
    }
    None
}

/// The outer layers of the HTTP client only say "client error" and "connect".
fn innermost(cause: &Cause) -> String {
    let mut source: &dyn std::error::Error = cause;
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}
