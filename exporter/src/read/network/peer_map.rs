//! The links of the host, what each is paired with, and its counters as of the last dump.
//!
//! It is fed by dumps and notices, and asks nobody. What it says of a pair may be late: a veth end that is down leaves its
//! namespace without a word to the other. So whoever takes a pair from here asks the kernel once more.

use std::collections::HashMap;

use crate::read::network::netlink::{Counters, Link, Notice};

/// Everything known of the host's links.
#[derive(Debug, Default)]
pub(in crate::read) struct Table {
    /// By number.
    rows: Vec<Row>,
    /// Counts everything that was told.
    news: u64,
    /// When a namespace last had news of a link that reaches into it.
    namespaces: HashMap<i32, u64>,
    /// When notices were last lost: news for every namespace.
    lost: u64,
    pass: u64,
    /// The row after the one that was counted last: a dump has the order of the rows.
    next: usize,
}

#[derive(Debug)]
struct Row {
    link: Link,
    /// When it came to be what it is.
    since: u64,
    /// The pass in which its counters were dumped.
    pass: u64,
    counters: Counters,
}

/// A link that stays the same one: a number that is used again makes another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::read) struct End {
    index: u32,
    /// Where its row was.
    hint: u32,
    since: u64,
}

impl Table {
    /// Number of links.
    pub(in crate::read) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Begins a pass: counters of earlier ones are not given any more.
    pub(in crate::read) fn begin(&mut self) {
        self.pass += 1;
        self.next = 0;
    }

    /// Takes in what a dump says of all links: what is not among them is gone. Every namespace has news.
    pub(in crate::read) fn replace(&mut self, links: &[Link]) {
        for link in links {
            self.put(*link);
        }
        let mut known: Vec<u32> = links.iter().map(|link| link.index).collect();
        known.sort_unstable();
        self.rows.retain(|row| known.binary_search(&row.link.index).is_ok());
        self.news += 1;
        self.lost = self.news;
    }

    /// Takes in a notice.
    pub(in crate::read) fn tell(&mut self, notice: Notice) {
        match notice {
            Notice::Changed(link) => self.put(link),
            Notice::Gone { index, to } => {
                if let Ok(place) = self.place(index) {
                    let row = self.rows.remove(place);
                    self.news_of(row.link.pair.map(|pair| pair.namespace));
                }
                self.news_of(to);
            }
        }
    }

    fn put(&mut self, link: Link) {
        let namespace = |link: Link| link.pair.map(|pair| pair.namespace);
        self.news_of(namespace(link));
        let since = self.news;
        match self.place(link.index) {
            Ok(place) => {
                if let Some(row) = self.rows.get_mut(place).filter(|row| row.link != link) {
                    let before = row.link;
                    (row.link, row.since) = (link, since);
                    self.news_of(namespace(before));
                }
            }
            Err(place) => self.rows.insert(place, Row { link, since, pass: 0, counters: Counters::default() }),
        }
    }

    fn news_of(&mut self, namespace: Option<i32>) {
        self.news += 1;
        if let Some(namespace) = namespace {
            self.namespaces.insert(namespace, self.news);
        }
    }

    /// Takes in the counters of a link. One that nothing was told of yet is passed over.
    pub(in crate::read) fn count(&mut self, index: u32, counters: Counters) {
        let Some(place) = self.place_near(index, self.next) else { return };
        self.next = place + 1;
        if let Some(row) = self.rows.get_mut(place) {
            (row.pass, row.counters) = (self.pass, counters);
        }
    }

    /// The counters of a link in this pass; none where it is another one by now, or was not in the dump.
    pub(in crate::read) fn counters(&self, end: End) -> Option<&Counters> {
        let row = self.rows.get(self.place_near(end.index, usize::try_from(end.hint).ok()?)?)?;
        (row.since == end.since && row.pass == self.pass).then_some(&row.counters)
    }

    /// Links that reach into a namespace, with what they are.
    pub(in crate::read) fn reaching(&self, namespace: i32) -> impl Iterator<Item = (Link, End)> {
        let rows = self.rows.iter().zip(0..);
        let rows = rows.filter(move |(row, _)| row.link.pair.is_some_and(|pair| pair.namespace == namespace));
        rows.map(|(row, hint)| (row.link, End { index: row.link.index, hint, since: row.since }))
    }

    /// The time of the last news, to ask [`Table::has_news`] with later.
    pub(in crate::read) fn now(&self) -> u64 {
        self.news
    }

    /// Whether there was news of a namespace after some time.
    pub(in crate::read) fn has_news(&self, namespace: i32, since: u64) -> bool {
        // Most often there was none of any.
        self.news > since && self.lost.max(self.namespaces.get(&namespace).copied().unwrap_or(0)) > since
    }

    /// The same, looked for where it may be first.
    fn place_near(&self, index: u32, hint: usize) -> Option<usize> {
        let is_there = self.rows.get(hint).is_some_and(|row| row.link.index == index);
        if is_there { Some(hint) } else { self.place(index).ok() }
    }

    fn place(&self, index: u32) -> Result<usize, usize> {
        self.rows.binary_search_by_key(&index, |row| row.link.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::network::netlink::Pair;

    fn veth(index: u32, namespace: i32, peer: u32) -> Link {
        Link { index, pair: Some(Pair { namespace, peer }) }
    }

    fn only(table: &Table, namespace: i32) -> End {
        let mut ends = table.reaching(namespace);
        let (_, end) = ends.next().unwrap();
        assert!(ends.next().is_none());
        end
    }

    #[test]
    fn a_number_that_is_used_again_is_another_link() {
        let mut table = Table::default();
        table.begin();
        table.replace(&[veth(5, 1, 9)]);
        let end = only(&table, 1);
        table.count(5, [1; 8]);
        assert_eq!(table.counters(end), Some(&[1; 8]));
        table.tell(Notice::Gone { index: 5, to: None });
        table.tell(Notice::Changed(veth(5, 1, 9)));
        table.count(5, [2; 8]);
        assert_eq!(table.counters(end), None);
        assert_eq!(table.counters(only(&table, 1)), Some(&[2; 8]));
    }

    #[test]
    fn a_pair_that_moves_is_another_link_and_news_for_both_namespaces() {
        let mut table = Table::default();
        table.begin();
        table.replace(&[veth(5, 1, 9), veth(6, 3, 9)]);
        let (moved, kept, then) = (only(&table, 1), only(&table, 3), table.now());
        table.tell(Notice::Changed(veth(5, 2, 9)));
        table.count(5, [1; 8]);
        table.count(6, [1; 8]);
        assert!(table.counters(moved).is_none() && table.counters(kept).is_some());
        assert_eq!([1, 2, 3].map(|namespace| table.has_news(namespace, then)), [true, true, false]);
        assert!(!table.has_news(1, table.now()));
    }

    #[test]
    fn a_change_that_moves_nothing_is_news_and_the_same_link() {
        let mut table = Table::default();
        table.begin();
        table.replace(&[veth(5, 1, 9)]);
        let (end, then) = (only(&table, 1), table.now());
        table.tell(Notice::Changed(veth(5, 1, 9)));
        table.count(5, [1; 8]);
        assert!(table.counters(end).is_some() && table.has_news(1, then));
    }

    #[test]
    fn a_link_that_moves_into_a_namespace_is_news_for_it_whatever_it_is() {
        let mut table = Table::default();
        table.replace(&[Link { index: 9, pair: None }]);
        let then = table.now();
        table.tell(Notice::Gone { index: 9, to: Some(2) });
        assert!(table.has_news(2, then) && !table.has_news(1, then) && table.len() == 0);
    }

    #[test]
    fn counters_of_an_earlier_pass_are_not_given() {
        let mut table = Table::default();
        table.begin();
        table.replace(&[veth(5, 1, 9)]);
        table.count(5, [1; 8]);
        table.begin();
        assert_eq!(table.counters(only(&table, 1)), None);
    }

    #[test]
    fn after_lost_notices_there_is_news_for_all_and_what_is_not_there_is_gone() {
        let mut table = Table::default();
        table.begin();
        table.replace(&[veth(5, 1, 9), veth(6, 2, 9)]);
        let (end, then) = (only(&table, 1), table.now());
        table.replace(&[veth(5, 1, 9), Link { index: 8, pair: None }]);
        table.count(5, [1; 8]);
        assert_eq!((table.len(), table.reaching(2).count()), (2, 0));
        assert!(table.counters(end).is_some() && table.has_news(1, then) && table.has_news(77, then));
    }
}
