//! Decides what is logged of an outage: its first cause at once, each other cause once it lasts.

use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use super::Error;

type Kind = (Discriminant<Error>, Option<u16>);

/// A period without an answer of the engine.
#[derive(Debug)]
pub(super) struct Outage {
    began: Instant,
    last: Option<Kind>,
    logged: Vec<Kind>,
}

impl Outage {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), last: None, logged: Vec::new() }
    }

    /// Returns whether to log this cause: the first one, or one that occurred twice in a row and was not logged yet.
    pub(super) fn is_first(&mut self, error: &Error) -> bool {
        let kind = (discriminant(error), error.status());
        let lasts = self.logged.is_empty() || self.last == Some(kind);
        self.last = Some(kind);
        let is_new = lasts && !self.logged.contains(&kind);
        if is_new {
            self.logged.push(kind);
        }
        is_new
    }

    /// Returns whether a cause has been logged already.
    pub(super) fn is_known(&self) -> bool {
        !self.logged.is_empty()
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Topics that have been logged and are not logged again.
#[derive(Debug, Default)]
pub(super) struct Logged(Vec<&'static str>);

impl Logged {
    /// Returns whether this is the first time for `topic`.
    pub(super) fn first(&mut self, topic: &'static str) -> bool {
        let first = !self.0.contains(&topic);
        if first {
            self.0.push(topic);
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, Outage};

    #[test]
    fn the_first_cause_and_each_lasting_one_are_logged_once() {
        let (engine, request) = ("unix:///run/docker.sock".to_owned(), "/version".to_owned());
        let closed = Error::Closed { engine: engine.clone(), request: request.clone() };
        let refused = Error::Refused { engine: engine.clone() };
        let status =
            |code| Error::Status { engine: engine.clone(), request: request.clone(), code, message: String::new() };
        let mut outage = Outage::new();
        let causes =
            [&closed, &refused, &closed, &refused, &refused, &refused, &status(502), &status(503), &status(503)];
        let logged = causes.map(|cause| outage.is_first(cause));
        assert_eq!(logged, [true, false, false, false, true, false, false, false, true]);
    }
}
