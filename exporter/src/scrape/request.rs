//! What the HTTP side asks of the scraping side, and what it gets back.

use std::future::Future;
use std::time::Instant;

use bytes::Bytes;

use super::selection::Selection;
use crate::render::Format;

/// One scrape, as negotiated by HTTP.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is asked for.
    pub selection: Selection,
    /// Exposition format.
    pub format: Format,
    /// Whether the body is to be compressed.
    pub gzip: bool,
    /// What is not read by then is left out.
    pub deadline: Option<Instant>,
}

/// Why a scrape has no answer at all.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Error {
    /// The pass panicked; the next one starts afresh.
    #[error("the scrape failed inside the exporter (a bug: the log holds the message); the next scrape starts afresh")]
    Panicked,
    /// The program is ending.
    #[error("the exporter is shutting down")]
    ShuttingDown,
}

/// The scraping side as HTTP sees it. A trait so that HTTP is tested without containers.
pub trait Scrape: Send + Sync + 'static {
    /// The answer to a scrape that has no time for anything to be read, made at once; none where it has.
    fn unread(&self, request: &Request) -> Option<Result<Bytes, Error>> {
        let _ = request;
        None
    }

    /// Answers with the whole body, in the asked-for format and encoding. Never waits for Docker in cgroup mode.
    fn scrape(&self, request: Request) -> impl Future<Output = Result<Bytes, Error>> + Send;

    /// Ready once the first discovery is done; else the reason why not.
    ///
    /// # Errors
    /// The reason, as a sentence for an operator.
    fn ready(&self) -> Result<(), String>;

    /// What was found on this host, as `(term, description)` for the live page.
    fn findings(&self) -> Vec<(String, String)>;
}
