//! Accepts connections from a listening socket until the server stops. No error of `accept` ends the loop.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::sync::watch;

use super::connection;
use super::connections::Connections;
use super::route::Routes;
use super::socket::Listener;
use crate::scrape::Scrape;

/// First pause after an `accept` that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Maximum pause after repeated failures.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// State that all connections share.
#[derive(Debug)]
pub(super) struct Acceptor<S> {
    pub(super) connections: Arc<Connections>,
    pub(super) routes: Arc<Routes<S>>,
    /// Becomes true when connections have to finish.
    pub(super) stopping: watch::Receiver<bool>,
}

impl<S: Scrape> Acceptor<S> {
    /// Accepts connections until the returned future is dropped.
    pub(super) async fn run(self: Arc<Self>, listener: Listener) {
        if let Some(address) = listener.describe() {
            tracing::info!(%address, "listening");
        }
        let mut failures = Failures::default();
        loop {
            match listener.accept().await {
                Ok((socket, client)) => {
                    failures.pauses = 0;
                    let slot = self.connections.enter().await;
                    let (routes, stopping) = (Arc::clone(&self.routes), self.stopping.clone());
                    tokio::spawn(connection::serve(socket, client, slot, routes, stopping));
                }
                Err(error) if is_of_one_client(&error) => {}
                // The kernel needs a free descriptor even if no client waits.
                Err(error) if is_out_of_descriptors(&error) && !has_waiting_client(&listener) => {
                    tokio::time::sleep(FIRST_PAUSE).await;
                }
                Err(error) => self.recover(&error, &mut failures).await,
            }
        }
    }

    /// Frees a descriptor if there is none left. Otherwise waits, as `accept` would fail again at once.
    async fn recover(&self, error: &io::Error, failures: &mut Failures) {
        if failures.is_new(error) {
            tracing::warn!(%error, hint = hint(error), "cannot accept connections; trying again");
        }
        let freed = self.connections.freed();
        let pause = tokio::time::sleep(failures.pause());
        if is_out_of_descriptors(error) && self.connections.cut_longest_idle() {
            tokio::select! {
                () = freed => {}
                () = pause => {}
            }
        } else {
            pause.await;
        }
    }
}

/// The last error of `accept`. A success does not clear it: on a host that is short of descriptors, errors and successes
/// alternate, and the log reports that once.
#[derive(Debug, Default)]
struct Failures {
    /// Error number of the system.
    cause: Option<i32>,
    /// Number of pauses since the last success.
    pauses: u32,
}

impl Failures {
    /// Records an error. Returns whether its cause differs from the one before, and has to be logged.
    fn is_new(&mut self, error: &io::Error) -> bool {
        let cause = Some(error.raw_os_error().unwrap_or(0));
        std::mem::replace(&mut self.cause, cause) != cause
    }

    /// Returns the next pause. It doubles each time, up to a second.
    fn pause(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(10)).min(MAX_PAUSE);
        self.pauses = self.pauses.saturating_add(1);
        pause
    }
}

/// Returns whether an error concerns one client only, which went away before its connection was accepted.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Returns whether a client waits to be accepted.
fn has_waiting_client(listener: &Listener) -> bool {
    let mut sockets = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut sockets, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

fn hint(error: &io::Error) -> &'static str {
    if is_out_of_descriptors(error) {
        "raise the limit of open files (`docker run --ulimit nofile=65536`, LimitNOFILE= in a systemd unit)"
    } else {
        "see what the system says; memory and the firewall are the usual causes"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second_and_a_cause_is_told_once() {
        let mut failures = Failures::default();
        let pauses: Vec<_> = (0..64).map(|_| failures.pause().as_millis()).collect();
        assert_eq!(pauses[..4], [20, 40, 80, 160]);
        assert_eq!(pauses[63], 1000);

        let full = io::Error::from(Errno::MFILE);
        assert!(failures.is_new(&full));
        assert!(!failures.is_new(&full));
        assert!(failures.is_new(&io::Error::from(Errno::NOMEM)));
        assert!(hint(&full).contains("--ulimit nofile"));
    }
}
