//! The errors in flags and environment, in one message.
//!
//! Each line names the flag and its variables, the value and its origin, and the accepted values.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::name::GlobError;
use crate::web_config::Problem;

/// Number of characters after which values are truncated in messages.
const MAX_SHOWN: usize = 120;

/// Origin of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag on the command line.
    CommandLine,
    /// This environment variable.
    Variable(&'static str),
    /// The default of the table.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("on the command line"),
            Self::Variable(name) => write!(f, "in {name}"),
            Self::Default => f.write_str("by default"),
        }
    }
}

/// Why a value is invalid. The message continues the sentence `"VALUE" …`.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// No flag has this name.
    #[error("is no flag of this program")]
    UnknownFlag,
    /// No command has this name.
    #[error("is no command of this program")]
    UnknownCommand,
    /// A second command.
    #[error("is one command too many")]
    SecondCommand,
    /// A flag without its value.
    #[error("needs a value")]
    NoValue,
    /// Text that is not UTF-8.
    #[error("is not valid UTF-8")]
    NotUtf8,
    /// Not one of the accepted words.
    #[error("is not one of the accepted words")]
    Word,
    /// Not a number, or out of range.
    #[error("is not an accepted number")]
    Number,
    /// Not a duration.
    #[error("is not a duration")]
    Duration,
    /// A negative duration.
    #[error("is negative")]
    Negative,
    /// A duration below the minimum.
    #[error("is too short")]
    TooShort,
    /// A duration above the maximum.
    #[error("is too long")]
    TooLong,
    /// No port, or an invalid one.
    #[error("has no usable port after its last colon")]
    Port,
    /// No valid host.
    #[error("has no usable host")]
    Host,
    /// An IPv6 address without brackets, which cannot be separated from its port.
    #[error("is ambiguous: an IPv6 address stands in brackets")]
    BareIpv6,
    /// A path that would need escaping.
    #[error("is not a plain absolute URL path")]
    UrlPath,
    /// A path of another page.
    #[error("is the path of the exporter's own {0}")]
    ReservedPath(&'static str),
    /// Not a readable directory.
    #[error("cannot be read as a directory: {0}")]
    Directory(#[source] io::Error),
    /// A certificate file that cannot be read.
    #[error("cannot be used for TLS: {} cannot be read: {source}", .file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// Neither a directory of certificates nor a home directory.
    #[error("is not set, and without HOME there is no default, while the Docker URL asks for TLS")]
    NoCertificates,
    /// Globs that cannot be compiled.
    #[error("cannot be used: {}", joined(.0))]
    Glob(Vec<GlobError>),
    /// A URL with an unknown scheme.
    #[error("has no known scheme")]
    Scheme,
    /// A URL with more than an address.
    #[error("holds more than an address (user, path or query)")]
    MoreThanAddress,
    /// More engines than the limit.
    #[error("is one engine too many: {0} are followed")]
    Engines(usize),
    /// A `unix://` URL without a path.
    #[error("names no socket")]
    NoSocket,
    /// A file that cannot be read.
    #[error("cannot be read: {0}")]
    File(#[source] io::Error),
    /// A flag of another command.
    #[error("is a flag of the command top")]
    OnlyTop,
    /// A flag that contradicts another one.
    #[error("cannot be `on` with {0}")]
    RuledOut(&'static str),
    /// An error in the file of `--web.config.file`.
    #[error("cannot be used: {0}")]
    WebConfig(Problem),
}

fn joined(errors: &[GlobError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// One error in flags or environment.
#[derive(Debug)]
pub struct Error {
    /// Flag and variables, or the word itself.
    subject: String,
    /// The given value, escaped and truncated, and its origin.
    value: Option<(String, Origin)>,
    /// Why the value is invalid.
    pub reason: Reason,
    /// The accepted values.
    hint: String,
}

impl Error {
    /// Returns an error of a flag or a word that has no value.
    pub(super) fn new(subject: String, reason: Reason, hint: String) -> Self {
        Self { subject, value: None, reason, hint }
    }

    /// Adds the value and its origin.
    pub(super) fn with_value(self, value: &OsStr, origin: Origin) -> Self {
        Self { value: Some((shown(value), origin)), ..self }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some((value, origin)) => write!(f, "{}: \"{value}\" {origin} {}", self.subject, self.reason)?,
            None => write!(f, "{} {}", self.subject, self.reason)?,
        }
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

/// Returns a value for a message: escaped, truncated and without a password.
pub(super) fn shown(value: &OsStr) -> String {
    let text = without_password(&value.to_string_lossy());
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// Replaces user and password in a URL, because messages are logged.
fn without_password(text: &str) -> String {
    match text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (_, host))) => format!("{scheme}://***@{host}"),
        None => text.to_owned(),
    }
}

/// The errors of one start, at least one.
#[derive(Debug)]
pub struct Errors(pub Vec<Error>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        writeln!(f, "docker-stats-exporter: {} error{plural} in flags and environment; not started", self.0.len())?;
        self.0.iter().try_for_each(|error| writeln!(f, "  {error}"))?;
        write!(f, "`docker-stats-exporter --help` lists every flag and variable")
    }
}

impl std::error::Error for Errors {}
