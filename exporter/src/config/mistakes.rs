//! What was wrong with flags and environment, collected and said in one message.
//!
//! Each line names the flag and its variables, the value and where it came from, and what is accepted.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::flags::Flag;
use crate::name::GlobError;

/// Longer values are cut in messages: a mistake must fit a line.
const SHOWN_VALUE: usize = 120;

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag.
    CommandLine,
    /// This environment variable.
    Variable(&'static str),
    /// The table: nothing was given.
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

/// Why a value cannot be used. Reads on after the value: `"x" <reason>`.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// No flag of this name.
    #[error("is no flag of this program")]
    UnknownFlag,
    /// No command of this name.
    #[error("is no command of this program")]
    UnknownCommand,
    /// A command after a command.
    #[error("is one command too many")]
    SecondCommand,
    /// A flag that wants a value stands alone.
    #[error("needs a value")]
    NoValue,
    /// Text that is not UTF-8.
    #[error("is not valid UTF-8")]
    NotUtf8,
    /// None of the accepted words.
    #[error("is not one of the accepted words")]
    Word,
    /// Not a number, or out of range.
    #[error("is not such a number")]
    Number,
    /// Not a length of time.
    #[error("is not a length of time")]
    Duration,
    /// A length of time below zero.
    #[error("is negative")]
    Negative,
    /// A length of time below what makes sense.
    #[error("is too short")]
    TooShort,
    /// A length of time beyond what a clock can add.
    #[error("is too long")]
    TooLong,
    /// No port, or a port that is none.
    #[error("has no usable port after its last colon")]
    Port,
    /// No usable host.
    #[error("has no usable host")]
    Host,
    /// An IPv6 address whose end and port cannot be told apart.
    #[error("is ambiguous: an IPv6 address stands in brackets")]
    BareIpv6,
    /// A path that HTTP would not carry as it stands.
    #[error("is not a plain absolute URL path")]
    UrlPath,
    /// A path that has an owner.
    #[error("is taken: it is the exporter's own {0}")]
    ReservedPath(&'static str),
    /// A directory that is not there, not one, or not ours to read.
    #[error("cannot be read as a directory: {0}")]
    Directory(#[source] io::Error),
    /// A file that TLS needs.
    #[error("cannot be used for TLS: {} cannot be read: {source}", .file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Neither a directory of certificates nor a home that would hold the default one.
    #[error("is not set, and without HOME there is no default, while the Docker URL asks for TLS")]
    NoCertificates,
    /// Globs that cannot be compiled, each alone or all together.
    #[error("cannot be used: {}", joined(.0))]
    Glob(Vec<GlobError>),
    /// A URL whose scheme nobody here speaks.
    #[error("has no scheme that is understood")]
    Scheme,
    /// A URL with more in it than an address.
    #[error("holds more than an address (user, path or query)")]
    MoreThanAddress,
    /// A `unix://` URL that names nothing.
    #[error("names no socket")]
    NoSocket,
    /// It takes what another flag rules out.
    #[error("cannot be `on` with {0}")]
    RuledOut(&'static str),
    /// Known, and not there yet.
    #[error("asks for what this version cannot do: {0}")]
    NotInThisVersion(&'static str),
}

fn joined(errors: &[GlobError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// One mistake.
#[derive(Debug)]
pub struct Mistake {
    /// Flag and variables, or the word itself.
    subject: String,
    /// The value as it was given, escaped and cut, and where it came from.
    value: Option<(String, Origin)>,
    /// What is wrong with it.
    pub reason: Reason,
    /// What would have been right.
    hint: String,
}

impl Mistake {
    /// A value that a row of the table does not accept.
    pub(super) fn of_value(flag: &Flag, value: &OsStr, origin: Origin, reason: Reason) -> Self {
        Self { value: Some((shown(value), origin)), ..Self::of_flag(flag, reason) }
    }

    /// A row without any value.
    pub(super) fn of_flag(flag: &Flag, reason: Reason) -> Self {
        Self { subject: flag.subject(), value: None, reason, hint: format!("accepted: {}", flag.accepts) }
    }

    /// A word that belongs to no row.
    pub(super) fn of_word(word: &OsStr, reason: Reason, hint: String) -> Self {
        let subject = if word.is_empty() { "\"\"".to_owned() } else { shown(word) };
        Self { subject, value: None, reason, hint }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some((value, origin)) => write!(f, "{}: \"{value}\" {origin} {}", self.subject, self.reason)?,
            None => write!(f, "{} {}", self.subject, self.reason)?,
        }
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

/// Escaped, so that a value can neither break the line nor hide, and cut.
fn shown(value: &OsStr) -> String {
    let text = without_password(&value.to_string_lossy());
    let mut shown: String = text.chars().take(SHOWN_VALUE).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_VALUE).is_some() {
        shown.push('…');
    }
    shown
}

/// A URL may carry a user and a password, which no log should.
fn without_password(text: &str) -> String {
    match text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (_, host))) => format!("{scheme}://***@{host}"),
        None => text.to_owned(),
    }
}

/// Every mistake of one start; never empty.
#[derive(Debug)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        writeln!(f, "docker-stats-exporter: {} mistake{plural} in flags and environment; not started", self.0.len())?;
        self.0.iter().try_for_each(|mistake| writeln!(f, "  {mistake}"))?;
        write!(f, "`docker-stats-exporter --help` lists every flag and variable")
    }
}

impl std::error::Error for Mistakes {}
