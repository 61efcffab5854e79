//! Which version of the Docker API is spoken with an engine.
//!
//! The client library asks `/v<its newest>/version`, which an older engine refuses as too new. We ask `/version`
//! without a prefix first, which every engine answers, and choose from what the engine says of itself.

use std::fmt;

use serde_json::Value;

use super::json::text;

/// A version of the Docker API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    major: u32,
    minor: u32,
}

/// What this program is written against: the oldest that Docker 29 accepts. Everything we read is there from 1.40 on.
const OURS: Version = Version { major: 1, minor: 44 };
const OLDEST: Version = Version { major: 1, minor: 40 };

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Prefixes under which to look for `/version`, in this order: a socket proxy may allow only some of them.
pub(super) fn prefixes() -> [String; 3] {
    [String::new(), prefix(OURS), prefix(OLDEST)]
}

/// `/v1.44`.
pub(super) fn prefix(version: Version) -> String {
    format!("/v{version}")
}

/// Ours, unless the engine only speaks older or only newer ones. None where the answer tells no API version.
pub(super) fn choose(answer: &Value) -> Option<Version> {
    let newest = Version::parse(text(answer, "/ApiVersion"))?;
    let oldest = Version::parse(text(answer, "/MinAPIVersion")).unwrap_or(newest).min(newest);
    Some(OURS.min(newest).max(oldest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{choose, prefixes};

    #[test]
    fn both_sides_understand_the_chosen_version() {
        for (newest, oldest, expected) in [
            ("1.40", "1.12", "1.40"),
            ("1.41", "1.12", "1.41"),
            ("1.44", "1.24", "1.44"),
            ("1.52", "1.44", "1.44"),
            ("1.60", "1.50", "1.50"),
            ("2.1", "2.0", "2.0"),
            ("1.41", "1.99", "1.41"),
        ] {
            let answer = json!({"ApiVersion": newest, "MinAPIVersion": oldest});
            assert_eq!(choose(&answer).unwrap().to_string(), expected, "{newest} {oldest}");
        }
        assert_eq!(choose(&json!({"ApiVersion": "1.41"})).unwrap().to_string(), "1.41");
        for answer in [json!({}), json!({"ApiVersion": 1.41}), json!({"ApiVersion": "new"}), json!([])] {
            assert!(choose(&answer).is_none(), "{answer}");
        }
    }

    #[test]
    fn the_plain_path_is_tried_first() {
        assert_eq!(prefixes(), ["", "/v1.44", "/v1.40"]);
    }
}
