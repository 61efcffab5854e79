//! Queue of scrapes for the scraping thread.

use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::request::{Error, Request};
use super::selection::Selection;

/// A waiting scrape.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Result<Bytes, Error>>,
}

impl Job {
    pub(super) fn answer(self, answer: Result<Bytes, Error>) {
        // The client may have disconnected.
        drop(self.answer.send(answer));
    }
}

/// Waiting scrapes, in the order in which they came.
#[derive(Debug)]
pub(super) struct Queue {
    incoming: mpsc::Receiver<Job>,
    waiting: Vec<Job>,
}

impl Queue {
    pub(super) fn new(incoming: mpsc::Receiver<Job>) -> Self {
        Self { incoming, waiting: Vec::new() }
    }

    /// Blocks until a scrape waits. Returns false after all senders are gone.
    pub(super) fn wait(&mut self) -> bool {
        self.refresh();
        if self.waiting.is_empty() {
            self.waiting.extend(self.incoming.blocking_recv());
        }
        !self.waiting.is_empty()
    }

    /// Adds new scrapes, and drops those whose clients have disconnected.
    pub(super) fn refresh(&mut self) {
        while let Ok(job) = self.incoming.try_recv() {
            self.waiting.push(job);
        }
        self.waiting.retain(|job| !job.answer.is_closed());
    }

    /// Returns the waiting requests.
    pub(super) fn requests(&self) -> impl Iterator<Item = &Request> {
        self.waiting.iter().map(|job| &job.request)
    }

    /// Returns the union of all selections, none for an empty queue.
    pub(super) fn selection(&self) -> Option<Selection> {
        let mut requests = self.requests();
        let first = requests.next()?.selection.clone();
        Some(requests.fold(
            first,
            |all, request| {
                if request.selection.is_part_of(&all) { all } else { all.union(&request.selection) }
            },
        ))
    }

    /// Returns the latest deadline, none if a scrape has no deadline.
    pub(super) fn last_deadline(&self) -> Option<Instant> {
        self.requests()
            .map(|request| request.deadline)
            .try_fold(None, |last, one| one.map(|one| last.max(Some(one))))?
    }

    /// Returns the earliest deadline.
    pub(super) fn first_deadline(&self) -> Option<Instant> {
        self.requests().filter_map(|request| request.deadline).min()
    }

    /// Removes and returns the scrapes whose requests match.
    pub(super) fn take(&mut self, wanted: impl Fn(&Request) -> bool) -> Vec<Job> {
        let (taken, left) = self.waiting.drain(..).partition(|job| wanted(&job.request));
        self.waiting = left;
        taken
    }

    /// Puts scrapes back in front of the queue.
    pub(super) fn put_back(&mut self, mut jobs: Vec<Job>) {
        jobs.append(&mut self.waiting);
        self.waiting = jobs;
    }

    /// Drops all scrapes, so that their clients get an error.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::sync::{mpsc, oneshot};

    use super::{Job, Queue};
    use crate::metrics::CollectorSet;
    use crate::scrape::{Format, Request, Selection};

    fn queue(deadlines: &[Option<Instant>]) -> (Queue, Vec<oneshot::Receiver<Result<bytes::Bytes, super::Error>>>) {
        let (sender, receiver) = mpsc::channel(16);
        let waiting = deadlines.iter().map(|deadline| {
            let (answer, answered) = oneshot::channel();
            let (selection, format) = (Selection::of_collectors(CollectorSet::EMPTY), Format::Text);
            let request = Request { selection, format, gzip: false, deadline: *deadline };
            sender.try_send(Job { request, answer }).unwrap();
            answered
        });
        let waiting = waiting.collect();
        let mut queue = Queue::new(receiver);
        queue.refresh();
        (queue, waiting)
    }

    #[test]
    fn the_last_deadline_is_none_while_anybody_has_none() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        let (one, _waiting) = queue(&[Some(later), Some(now)]);
        assert_eq!((one.first_deadline(), one.last_deadline()), (Some(now), Some(later)));
        let (other, _waiting) = queue(&[Some(later), None, Some(now)]);
        assert_eq!((other.first_deadline(), other.last_deadline()), (Some(now), None));
    }

    #[test]
    fn a_client_that_left_waits_no_more() {
        let (mut queue, mut waiting) = queue(&[None, None]);
        drop(waiting.remove(0));
        queue.refresh();
        assert_eq!(queue.requests().count(), 1);
        assert!(queue.wait());
        drop(waiting);
        assert!(!queue.wait());
    }

    #[test]
    fn what_is_put_back_stays_in_front() {
        let now = Instant::now();
        let (mut queue, _waiting) = queue(&[Some(now), None]);
        let taken = queue.take(|request| request.deadline.is_some());
        assert_eq!((taken.len(), queue.requests().count()), (1, 1));
        queue.put_back(taken);
        assert_eq!(queue.requests().next().and_then(|request| request.deadline), Some(now));
    }
}
