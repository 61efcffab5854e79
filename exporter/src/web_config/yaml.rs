//! Parses YAML into a tree of texts with their lines.
//!
//! Scalars keep their spelling. `document` decides their type, so that `1` can be the value of a header and `off` a switch.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::Problems;

/// A value in the file.
#[derive(Debug)]
pub(super) struct Node {
    /// Line, from 1.
    pub(super) line: u64,
    pub(super) value: Value,
}

/// The value of a node.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    /// A scalar in its spelling, without quotes.
    Text(String),
    List(Vec<Node>),
    /// Entries in their order, with duplicate keys.
    Map(Vec<(String, Node)>),
}

/// Parses a file. An empty file is a null.
pub(super) fn parse(source: &str, problems: &mut Problems) -> Option<Node> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
        null_as_string: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Option<Spanned<Raw>>>(source, options) {
        Ok(Some(root)) => Some(root.value.into_node(root.referenced, root.defined, source)),
        Ok(None) => Some(Node { line: 1, value: Value::Null }),
        Err(error) => {
            let line = error.location().map_or(0, |location| location.line());
            let text = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
            problems.add(line, "", format!("yaml: {text}"));
            None
        }
    }
}

/// A value with the type that the parser infers.
#[derive(Debug)]
enum Raw {
    Null,
    /// A boolean or a number. Its spelling is read from the source.
    Inferred,
    Text(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(String, Spanned<Self>)>),
}

impl Raw {
    fn into_node(self, location: Location, defined: Location, source: &str) -> Node {
        let node = |child: Spanned<Self>| child.value.into_node(child.referenced, child.defined, source);
        let value = match self {
            Self::Null => Value::Null,
            Self::Inferred => Value::Text(spelling(defined, source).unwrap_or_default().trim().to_owned()),
            Self::Text(text) => Value::Text(text),
            Self::List(items) => Value::List(items.into_iter().map(node).collect()),
            Self::Map(entries) => Value::Map(entries.into_iter().map(|(key, child)| (key, node(child))).collect()),
        };
        Node { line: location.line(), value }
    }
}

/// Returns the text of a location.
fn spelling(location: Location, source: &str) -> Option<&str> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let length = usize::try_from(span.byte_len()?).ok()?;
    source.get(start..start.checked_add(length)?)
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Inferred)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Inferred)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Inferred)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Inferred)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Inferred)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Inferred)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key()? {
            map.push((key, entries.next_value()?));
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".to_owned(),
            Value::Text(text) => format!("{text}@{}", node.line),
            Value::List(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(",")),
            Value::Map(entries) => {
                let entries: Vec<_> = entries.iter().map(|(key, node)| format!("{key}={}", text(node))).collect();
                format!("{{{}}}", entries.join(","))
            }
        }
    }

    #[test]
    fn scalars_keep_their_spelling_and_line() {
        for (yaml, expected) in [
            ("", "null"),
            ("# nothing\n", "null"),
            ("a: 1\nb: off\nc: '1'\nd: 1.50\ne: ~\nf:\n  - x\n", "{a=1@1,b=off@2,c=1@3,d=1.50@4,e=null,f=[x@7]}"),
            ("a: 1\na: 2\n", "{a=1@1,a=2@2}"),
            ("1: &x 0x10\ntrue: *x\n", "{1=0x10@1,true=0x10@2}"),
            ("a: &m {x: 1}\nb:\n  <<: *m\n  y: 2\n", "{a={x=1@1},b={y=2@4,x=1@3}}"),
            ("a: .inf\nb: 123456789012345678901234567890\n", "{a=.inf@1,b=123456789012345678901234567890@2}"),
        ] {
            let mut problems = Problems::default();
            let node = parse(yaml, &mut problems).unwrap_or_else(|| panic!("{yaml}: {problems}"));
            assert_eq!(text(&node), expected, "{yaml}");
        }
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let mut problems = Problems::default();
        assert!(parse("a: 1\nb: [\n", &mut problems).is_none());
        let said = problems.to_string();
        assert!(said.starts_with("line ") && said.contains("yaml: "), "{said}");
    }
}
