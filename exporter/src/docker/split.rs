//! Cuts an answer that arrives in pieces into its JSON objects, so that a list of thousands of containers is never in
//! memory as a whole and one odd or huge object costs only itself.
//!
//! Serves both shapes that an engine streams: an array of objects (`/containers/json`) and objects one after the
//! other (`/events`). Does not parse the objects.

/// Capacity that is left for the next object.
const KEPT: usize = 64 << 10;

/// Takes bytes, gives objects.
#[derive(Debug)]
pub(super) struct Objects {
    limit: usize,
    object: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    too_large: u64,
    array: Array,
}

/// What was seen outside of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Array {
    Unseen,
    Open,
    Closed,
    Garbage,
}

impl Objects {
    /// Returns a splitter that counts and skips objects of more than `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            object: Vec::new(),
            depth: 0,
            in_string: false,
            escaped: false,
            too_large: 0,
            array: Array::Unseen,
        }
    }

    /// Takes the next bytes and hands every object that they complete to `take`.
    pub(super) fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) {
        for &byte in bytes {
            if self.depth == 0 {
                self.outside(byte);
            } else if self.object.len() <= self.limit {
                self.object.push(byte);
            }
            self.follow(byte);
            if self.depth == 0 && !self.object.is_empty() {
                if self.object.len() > self.limit {
                    self.too_large += 1;
                } else {
                    take(&self.object);
                }
                self.object.clear();
                self.object.shrink_to(KEPT);
            }
        }
    }

    /// Objects left out so far because of their size.
    pub(super) fn too_large(&self) -> u64 {
        self.too_large
    }

    /// Returns whether all the bytes so far are one whole array (or `null`, as an empty list is sometimes written).
    pub(super) fn is_whole_array(&self) -> bool {
        self.depth == 0 && self.array == Array::Closed
    }

    fn outside(&mut self, byte: u8) {
        self.array = match (self.array, byte) {
            (Array::Unseen, b'[') => Array::Open,
            (Array::Open, b']') | (Array::Unseen, b'n') => Array::Closed,
            (Array::Closed, b'u' | b'l') | (Array::Open, b',') => self.array,
            (array, b'{') => {
                self.object.push(byte);
                array
            }
            (array, byte) if byte.is_ascii_whitespace() => array,
            _ => Array::Garbage,
        };
    }

    /// Keeps track of nesting; brackets within strings do not count.
    fn follow(&mut self, byte: u8) {
        if self.depth == 0 && byte != b'{' {
            return;
        }
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            b'{' if !self.in_string => self.depth += 1,
            b'}' if !self.in_string => self.depth -= 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Objects;

    fn split(text: &str, pieces: usize, limit: usize) -> (Vec<String>, u64, bool) {
        let mut objects = Objects::new(limit);
        let mut found = Vec::new();
        for piece in text.as_bytes().chunks(pieces) {
            objects.feed(piece, |object| found.push(String::from_utf8_lossy(object).into_owned()));
        }
        (found, objects.too_large(), objects.is_whole_array())
    }

    #[test]
    fn an_array_is_cut_wherever_the_pieces_end() {
        let text = r#" [{"a":{"b":"}]{\"\\"}},{"é":[{}]} , {}]
"#;
        for pieces in 1..text.len() {
            let (found, _, whole) = split(text, pieces, 100);
            assert_eq!(found, [r#"{"a":{"b":"}]{\"\\"}}"#, r#"{"é":[{}]}"#, "{}"], "{pieces}");
            assert!(whole);
        }
    }

    #[test]
    fn lines_are_cut_too_with_or_without_line_ends() {
        for text in ["{\"a\":1}\n{\"b\":2}\n", "{\"a\":1}{\"b\":2}", "{\"a\":1}\r\n\r\n{\"b\":2}"] {
            assert_eq!(split(text, 3, 100).0, ["{\"a\":1}", "{\"b\":2}"]);
        }
    }

    #[test]
    fn a_huge_object_costs_only_itself() {
        let text = format!("[{{}},{{\"a\":\"{}\"}},{{\"b\":1}}]", "x".repeat(1000));
        assert_eq!(split(&text, 7, 100), (vec!["{}".to_owned(), "{\"b\":1}".to_owned()], 1, true));
    }

    #[test]
    fn what_is_no_whole_array_is_told() {
        for text in ["", "[", "[{}", "[{},{\"a\":", "<html>", "{}", "{\"message\":\"x\"}", "[]x", "404"] {
            assert!(!split(text, 100, 100).2, "{text}");
        }
        for text in ["[]", "null", " [\n]\n", "[{}]"] {
            assert!(split(text, 100, 100).2, "{text}");
        }
    }
}
