//! Encoded label pairs that are kept: a container's for as long as its labels stay, and a row's own for the next samples of its family.

use super::head::Head;
use super::wire::encode_pairs;

/// Texts that a family's samples take turns with; with more of them each is encoded anew.
const TEXTS: usize = 16;

/// The encoded labels of a container, and after them what stands before the value of a counter that began with its run.
#[derive(Clone, Debug)]
pub(in crate::render) struct Encoded {
    bytes: Box<[u8]>,
    labels: usize,
    pub(super) started_ns: Option<u64>,
}

impl Encoded {
    /// Encodes a label set of a container whose run began then.
    pub(in crate::render) fn new(set: &str, started_ns: Option<u64>) -> Self {
        let mut bytes = Vec::with_capacity(set.len() + 2 * size_of::<Head>());
        encode_pairs(set, &mut bytes);
        let labels = bytes.len();
        if let Some(started) = started_ns {
            bytes.extend_from_slice(Head::counter(Some(started)).bytes());
        }
        Self { bytes: bytes.into_boxed_slice(), labels, started_ns }
    }

    #[inline]
    pub(super) fn labels(&self) -> &[u8] {
        self.bytes.get(..self.labels).unwrap_or_default()
    }

    #[inline]
    pub(super) fn with_start(&self) -> Option<&[u8]> {
        self.started_ns.is_some().then_some(&self.bytes)
    }
}

/// Label pairs by their text. The samples of a container stand together, so that the same few texts take turns.
#[derive(Debug, Default)]
pub(super) struct PairCache {
    entries: Vec<Pairs>,
    /// How many of them are of this family; the others are memory.
    used: usize,
    /// The one that was asked for last.
    last: usize,
}

/// Label pairs as text, and encoded.
#[derive(Debug, Default)]
struct Pairs {
    text: String,
    encoded: Vec<u8>,
}

impl PairCache {
    /// Forgets the texts of the family before.
    pub(super) fn begin_family(&mut self) {
        self.used = 0;
        self.last = 0;
    }

    /// The encoded form of a text.
    #[inline]
    pub(super) fn encoded(&mut self, text: &str) -> &[u8] {
        if text.is_empty() {
            return &[];
        }
        let is_at = |at: usize| self.entries.get(at).filter(|_| at < self.used).is_some_and(|pairs| pairs.text == text);
        let next = if self.last + 1 < self.used { self.last + 1 } else { 0 };
        self.last = if is_at(next) {
            next
        } else if let Some(found) = (0..self.used).find(|at| is_at(*at)) {
            found
        } else {
            self.encode(text)
        };
        self.entries.get(self.last).map_or(&[], |pairs| &pairs.encoded)
    }

    /// Encodes a text, in place of the one after the last where there is no room for more. Returns its place.
    fn encode(&mut self, text: &str) -> usize {
        let at = if self.used < TEXTS { self.used } else { (self.last + 1) % TEXTS };
        if self.entries.len() <= at {
            self.entries.resize_with(at + 1, Pairs::default);
        }
        self.used = self.used.max(at + 1);
        if let Some(pairs) = self.entries.get_mut(at) {
            text.clone_into(&mut pairs.text);
            pairs.encoded.clear();
            encode_pairs(text, &mut pairs.encoded);
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::{PairCache, TEXTS};
    use crate::render::protobuf::wire::encode_pairs;

    #[test]
    fn each_text_has_its_own_encoding_however_many_take_turns() {
        let mut cache = PairCache::default();
        for count in [1, 2, 3, TEXTS, TEXTS + 1, 3 * TEXTS] {
            cache.begin_family();
            for text in (0..3).flat_map(|_| 0..count).map(|number| format!("device=\"/dev/{number}\"")) {
                let mut expected = Vec::new();
                encode_pairs(&text, &mut expected);
                assert_eq!(cache.encoded(&text), expected, "{text} of {count}");
                assert_eq!(cache.encoded(""), b"");
            }
        }
        assert!(cache.entries.len() <= TEXTS);
    }
}
