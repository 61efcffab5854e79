//! Which version of the Docker API is spoken with an engine.
//!
//! The client library asks `/v<its newest>/version`, which an older engine refuses as too new. We ask `/version`
//! without a prefix first, which every engine answers, and choose from what the engine says of itself.

use std::fmt;

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
pub(super) fn choose(newest: Option<&str>, oldest: Option<&str>) -> Option<Version> {
    let newest = Version::parse(newest?)?;
    let oldest = oldest.and_then(Version::parse).unwrap_or(newest).min(newest);
    Some(OURS.min(newest).max(oldest))
}

#[cfg(test)]
mod tests {
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
            assert_eq!(choose(Some(newest), Some(oldest)).unwrap().to_string(), expected, "{newest} {oldest}");
        }
        assert_eq!(choose(Some("1.41"), None).unwrap().to_string(), "1.41");
        assert_eq!((choose(None, Some("1.40")), choose(Some("new"), None)), (None, None));
    }

    #[test]
    fn the_plain_path_is_tried_first() {
        assert_eq!(prefixes(), ["", "/v1.44", "/v1.40"]);
    }
}
