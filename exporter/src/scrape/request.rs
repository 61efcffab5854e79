//! Requests of the HTTP server to the scraper, and its answers.

use std::future::Future;
use std::time::Instant;

use bytes::Bytes;

use super::selection::Selection;
use crate::render::Format;

/// One scrape, as negotiated by HTTP.
#[derive(Clone, Debug)]
pub struct Request {
    /// Collectors, families and containers.
    pub selection: Selection,
    /// Exposition format.
    pub format: Format,
    /// Whether to compress the body.
    pub gzip: bool,
    /// Values that are not read by then are left out.
    pub deadline: Option<Instant>,
}

/// Why a scrape fails as a whole.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Error {
    /// The pass panicked; the next one starts with a new reader.
    #[error("the scrape failed inside the exporter (a bug: the log holds the message); the next scrape starts afresh")]
    Panicked,
    /// The program is shutting down.
    #[error("the exporter is shutting down")]
    ShuttingDown,
}

/// The scraper as the HTTP server uses it. A trait, so that HTTP is tested without containers.
pub trait Scrape: Send + Sync + 'static {
    /// Answers at once a scrape whose deadline leaves no time for reading; none if there is time.
    fn unread(&self, request: &Request) -> Option<Result<Bytes, Error>> {
        let _ = request;
        None
    }

    /// Answers with the whole body, in the asked-for format and encoding. Never waits for Docker in cgroup mode.
    fn scrape(&self, request: Request) -> impl Future<Output = Result<Bytes, Error>> + Send;

    /// Returns whether the first discovery is complete.
    ///
    /// # Errors
    /// The reason, as a sentence for the operator.
    fn ready(&self) -> Result<(), String>;

    /// Returns what the exporter found on this host, as `(term, description)` for the live page.
    fn findings(&self) -> Vec<(String, String)>;
}
