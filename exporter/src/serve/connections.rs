//! Keeps the open connections, and selects the one to close when there are too many.
//!
//! A scraper must always get in. At the limit a new connection replaces the one that has been without a request longest,
//! whether it is idle or sends a header slowly. Answers that clients do not read are limited in number and in bytes.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::activity::{Connection, Exchange, Held};
use super::limits::Limits;

/// All open connections of a server.
#[derive(Debug)]
pub(super) struct Connections {
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    next: AtomicU64,
    /// Notified when a connection ends.
    freed: Notify,
    pub(super) limits: Limits,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Self {
        Self { open: Mutex::default(), next: AtomicU64::new(0), freed: Notify::new(), limits }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        // No code panics while it holds this lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when a connection ends after this call.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// Returns a slot for a new connection. If there is none, closes the connection that has been idle longest, and waits
    /// until one ends.
    pub(super) async fn enter(self: &Arc<Self>) -> ConnectionSlot {
        loop {
            let freed = self.freed();
            if let Some(slot) = self.try_enter() {
                return slot;
            }
            self.cut_longest_idle();
            freed.await;
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<ConnectionSlot> {
        let mut open = self.open();
        if open.len() >= self.limits.connections {
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection::new(self.limits));
        open.insert(id, Arc::clone(&connection));
        Some(ConnectionSlot { id, connection, connections: Arc::clone(self) })
    }

    /// Closes the connection that has been idle longest. Returns false if every connection has a pending answer.
    pub(super) fn cut_longest_idle(&self) -> bool {
        let open = self.open();
        let quiet = open.values().filter_map(|connection| connection.quiet_since().map(|since| (since, connection)));
        quiet.min_by_key(|(since, _)| *since).is_some_and(|(_, connection)| connection.cut())
    }

    /// Registers an answer that is being sent. The oldest answers are cut if there are too many, or if they hold too many
    /// bytes. A body that several answers share counts once.
    pub(super) fn sending(&self, exchange: &mut Exchange, body: &Bytes) {
        let mut others = self.senders();
        exchange.sending(body);
        others.sort_unstable_by_key(|(since, ..)| Reverse(*since));
        let (mut counted, mut bytes) = (HashSet::from([Held::of(body)]), 0_usize);
        for (senders, (_, held, other)) in (2_usize..).zip(others) {
            if counted.insert(held) {
                bytes = bytes.saturating_add(held.length);
            }
            if senders > self.limits.senders || bytes > self.limits.sending_bytes {
                other.cut();
            }
        }
    }

    /// Returns every answer that is being sent: its start, its body and its connection.
    fn senders(&self) -> Vec<(Instant, Held, Arc<Connection>)> {
        let open = self.open();
        let answers = open.values().flat_map(|connection| {
            connection.sending_since().into_iter().map(move |(since, held)| (since, held, Arc::clone(connection)))
        });
        answers.collect()
    }

    /// Cuts every connection. Returns how many there were.
    pub(super) fn cut_all(&self) -> usize {
        self.open().values().filter(|connection| connection.cut()).count()
    }

    /// Completes when no connection is open.
    pub(super) async fn all_closed(&self) {
        loop {
            let freed = self.freed();
            if self.open().is_empty() {
                return;
            }
            freed.await;
        }
    }
}

/// The place of one connection among the open ones. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    id: u64,
    pub(super) connection: Arc<Connection>,
    pub(super) connections: Arc<Connections>,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.open().remove(&self.id);
        self.connections.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn connections(change: impl FnOnce(&mut Limits)) -> Arc<Connections> {
        let mut limits = Limits::for_requests(40);
        change(&mut limits);
        Arc::new(Connections::new(limits))
    }

    fn is_cut(slot: &ConnectionSlot) -> bool {
        slot.connection.is_cut()
    }

    async fn enter(connections: &Arc<Connections>) -> ConnectionSlot {
        tokio::time::sleep(Duration::from_millis(1)).await;
        connections.enter().await
    }

    #[tokio::test]
    async fn at_the_cap_the_longest_idle_connection_goes_and_busy_ones_stay() {
        let connections = connections(|limits| limits.connections = 3);
        let (busy, idle, fresh) = (enter(&connections).await, enter(&connections).await, enter(&connections).await);
        let _exchange = busy.connection.handling();
        assert!(connections.try_enter().is_none());
        assert!(connections.cut_longest_idle());
        assert!(is_cut(&idle) && !is_cut(&busy) && !is_cut(&fresh));
        idle.connection.overdue().await;
        drop(idle);
        assert!(connections.try_enter().is_some());
    }

    #[tokio::test]
    async fn when_all_are_busy_a_new_connection_waits_for_one_to_end() {
        let connections = connections(|limits| limits.connections = 1);
        let busy = enter(&connections).await;
        let _exchange = busy.connection.handling();
        assert!(!connections.cut_longest_idle());
        let waiting = tokio::time::timeout(Duration::from_millis(50), connections.enter());
        assert!(waiting.await.is_err());
        drop(busy);
        connections.enter().await;
    }

    #[tokio::test]
    async fn above_the_number_of_senders_the_oldest_is_cut() {
        let connections = connections(|limits| limits.senders = 2);
        let body = Bytes::from_static(b"shared");
        let (mut slots, mut exchanges) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let slot = enter(&connections).await;
            let mut exchange = slot.connection.handling();
            connections.sending(&mut exchange, &body);
            exchanges.push(exchange);
            slots.push(slot);
        }
        assert_eq!(slots.iter().map(is_cut).collect::<Vec<_>>(), [true, false, false]);
        assert!(slots[0].connection.is_to_be_reset());
    }

    #[tokio::test]
    async fn bodies_on_their_way_are_bounded_in_bytes_and_shared_ones_count_once() {
        let connections = connections(|limits| limits.sending_bytes = 25);
        let (first, second, third) = (vec![1_u8; 10], vec![2_u8; 20], vec![3_u8; 1000]);
        let bodies = [first, second, third].map(Bytes::from);
        let (mut slots, mut exchanges) = (Vec::new(), Vec::new());
        for body in [&bodies[0], &bodies[1], &bodies[1], &bodies[2]] {
            let slot = enter(&connections).await;
            let mut exchange = slot.connection.handling();
            connections.sending(&mut exchange, body);
            exchanges.push(exchange);
            slots.push(slot);
        }
        assert_eq!(slots.iter().map(is_cut).collect::<Vec<_>>(), [true, false, false, false]);
    }
}
