//! The links of the host, with the peer of each and its counters as of the last dump.
//!
//! Dumps and events update the table. Its pairs may be outdated, because a veth end that is down leaves its namespace without
//! an event of the other end. So users of a pair ask the kernel for it once more.

use std::collections::HashMap;

use crate::read::network::netlink::{Counters, Link, LinkEvent};

/// The known links of the host.
#[derive(Debug, Default)]
pub(crate) struct LinkTable {
    /// Sorted by `ifindex`.
    rows: Vec<Row>,
    /// Number of events so far.
    events: u64,
    /// By `nsid`, the number of the last event of a link that reaches into the namespace.
    namespaces: HashMap<i32, u64>,
    /// Number of the event at which any namespace may have changed, because earlier events were lost.
    all_changed: u64,
    pass: u64,
    /// Index after the last counted row, where the next link of a dump is expected: a dump has the order of the rows.
    next: usize,
}

#[derive(Debug)]
struct Row {
    link: Link,
    /// Number of the event that has last changed the link.
    since: u64,
    /// The pass in which its counters were dumped.
    pass: u64,
    counters: Counters,
}

/// Identity of a link. Another link with the same `ifindex` has another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PeerEnd {
    index: u32,
    /// Index of the row when the link was found.
    hint: u32,
    since: u64,
}

impl LinkTable {
    /// Returns the number of links.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Begins a pass: counters of earlier passes become invalid.
    pub(crate) fn begin(&mut self) {
        self.pass += 1;
        self.next = 0;
    }

    /// Replaces all links by those of a dump. Every namespace may have changed.
    pub(crate) fn replace(&mut self, links: &[Link]) {
        for link in links {
            self.put(*link);
        }
        let mut known: Vec<u32> = links.iter().map(|link| link.index).collect();
        known.sort_unstable();
        self.rows.retain(|row| known.binary_search(&row.link.index).is_ok());
        self.events += 1;
        self.all_changed = self.events;
    }

    /// Applies an event.
    pub(crate) fn apply(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Changed(link) => self.put(link),
            LinkEvent::Gone { index, to } => {
                if let Ok(position) = self.position(index) {
                    let row = self.rows.remove(position);
                    self.record_event(row.link.pair.map(|pair| pair.nsid));
                }
                self.record_event(to);
            }
        }
    }

    fn put(&mut self, link: Link) {
        let nsid = |link: Link| link.pair.map(|pair| pair.nsid);
        self.record_event(nsid(link));
        let since = self.events;
        match self.position(link.index) {
            Ok(position) => {
                if let Some(row) = self.rows.get_mut(position).filter(|row| row.link != link) {
                    let before = row.link;
                    (row.link, row.since) = (link, since);
                    self.record_event(nsid(before));
                }
            }
            Err(position) => self.rows.insert(position, Row { link, since, pass: 0, counters: Counters::default() }),
        }
    }

    fn record_event(&mut self, nsid: Option<i32>) {
        self.events += 1;
        if let Some(nsid) = nsid {
            self.namespaces.insert(nsid, self.events);
        }
    }

    /// Stores the counters of a link. Skips an unknown link.
    pub(crate) fn count(&mut self, index: u32, counters: Counters) {
        let Some(position) = self.position_near(index, self.next) else { return };
        self.next = position + 1;
        if let Some(row) = self.rows.get_mut(position) {
            (row.pass, row.counters) = (self.pass, counters);
        }
    }

    /// Returns the counters of a link in this pass. None if another link has its `ifindex` now, or if the dump lacks it.
    pub(crate) fn counters(&self, end: PeerEnd) -> Option<&Counters> {
        let row = self.rows.get(self.position_near(end.index, usize::try_from(end.hint).ok()?)?)?;
        (row.since == end.since && row.pass == self.pass).then_some(&row.counters)
    }

    /// Returns the links that reach into a namespace, with their identities.
    pub(crate) fn reaching(&self, nsid: i32) -> impl Iterator<Item = (Link, PeerEnd)> {
        let rows = self.rows.iter().zip(0..);
        let rows = rows.filter(move |(row, _)| row.link.pair.is_some_and(|pair| pair.nsid == nsid));
        rows.map(|(row, hint)| (row.link, PeerEnd { index: row.link.index, hint, since: row.since }))
    }

    /// Returns the number of the last event, for [`LinkTable::has_event_since`].
    pub(crate) fn last_event(&self) -> u64 {
        self.events
    }

    /// Returns whether a namespace had an event after the one with number `since`.
    pub(crate) fn has_event_since(&self, nsid: i32, since: u64) -> bool {
        // Usually no namespace had any.
        self.events > since && self.all_changed.max(self.namespaces.get(&nsid).copied().unwrap_or(0)) > since
    }

    /// Returns the index of a link's row, trying `hint` first.
    fn position_near(&self, index: u32, hint: usize) -> Option<usize> {
        let is_there = self.rows.get(hint).is_some_and(|row| row.link.index == index);
        if is_there { Some(hint) } else { self.position(index).ok() }
    }

    fn position(&self, index: u32) -> Result<usize, usize> {
        self.rows.binary_search_by_key(&index, |row| row.link.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::network::netlink::message::Pair;

    fn veth(index: u32, nsid: i32, peer: u32) -> Link {
        Link { index, pair: Some(Pair { nsid, peer }) }
    }

    fn only(table: &LinkTable, nsid: i32) -> PeerEnd {
        let mut ends = table.reaching(nsid);
        let (_, end) = ends.next().unwrap();
        assert!(ends.next().is_none());
        end
    }

    #[test]
    fn a_number_that_is_used_again_is_another_link() {
        let mut table = LinkTable::default();
        table.begin();
        table.replace(&[veth(5, 1, 9)]);
        let end = only(&table, 1);
        table.count(5, [1; 8]);
        assert_eq!(table.counters(end), Some(&[1; 8]));
        table.apply(LinkEvent::Gone { index: 5, to: None });
        table.apply(LinkEvent::Changed(veth(5, 1, 9)));
        table.count(5, [2; 8]);
        assert_eq!(table.counters(end), None);
        assert_eq!(table.counters(only(&table, 1)), Some(&[2; 8]));
    }

    #[test]
    fn a_pair_that_moves_is_another_link_and_news_for_both_namespaces() {
        let mut table = LinkTable::default();
        table.begin();
        table.replace(&[veth(5, 1, 9), veth(6, 3, 9)]);
        let (moved, kept, then) = (only(&table, 1), only(&table, 3), table.last_event());
        table.apply(LinkEvent::Changed(veth(5, 2, 9)));
        table.count(5, [1; 8]);
        table.count(6, [1; 8]);
        assert!(table.counters(moved).is_none() && table.counters(kept).is_some());
        assert_eq!([1, 2, 3].map(|nsid| table.has_event_since(nsid, then)), [true, true, false]);
        assert!(!table.has_event_since(1, table.last_event()));
    }

    #[test]
    fn a_change_without_a_move_is_an_event_and_keeps_the_link() {
        let mut table = LinkTable::default();
        table.begin();
        table.replace(&[veth(5, 1, 9)]);
        let (end, then) = (only(&table, 1), table.last_event());
        table.apply(LinkEvent::Changed(veth(5, 1, 9)));
        table.count(5, [1; 8]);
        assert!(table.counters(end).is_some() && table.has_event_since(1, then));
    }

    #[test]
    fn a_link_that_moves_into_a_namespace_is_an_event_of_it_whatever_its_kind() {
        let mut table = LinkTable::default();
        table.replace(&[Link { index: 9, pair: None }]);
        let then = table.last_event();
        table.apply(LinkEvent::Gone { index: 9, to: Some(2) });
        assert!(table.has_event_since(2, then) && !table.has_event_since(1, then) && table.len() == 0);
    }

    #[test]
    fn counters_of_an_earlier_pass_are_not_given() {
        let mut table = LinkTable::default();
        table.begin();
        table.replace(&[veth(5, 1, 9)]);
        table.count(5, [1; 8]);
        table.begin();
        assert_eq!(table.counters(only(&table, 1)), None);
    }

    #[test]
    fn lost_events_mark_every_namespace_and_a_dump_removes_missing_links() {
        let mut table = LinkTable::default();
        table.begin();
        table.replace(&[veth(5, 1, 9), veth(6, 2, 9)]);
        let (end, then) = (only(&table, 1), table.last_event());
        table.replace(&[veth(5, 1, 9), Link { index: 8, pair: None }]);
        table.count(5, [1; 8]);
        assert_eq!((table.len(), table.reaching(2).count()), (2, 0));
        assert!(table.counters(end).is_some() && table.has_event_since(1, then) && table.has_event_since(77, then));
    }
}
