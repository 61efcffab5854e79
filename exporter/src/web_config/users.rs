//! The users of `basic_auth_users` with their stored hashes, and the credentials of a request.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Highest cost of a hash that takes less than seconds to compare.
const QUICK_COST: u32 = 14;

/// A stored bcrypt hash.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct StoredHash {
    text: String,
    cost: u32,
}

impl std::fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bcrypt hash of cost {}", self.cost)
    }
}

impl StoredHash {
    /// Parses a hash, and checks its length, version, cost and alphabet.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() < 59 {
            return Err(
                "hashedSecret too short to be a bcrypted password (`htpasswd -nBC 10 USER` makes one)".to_owned()
            );
        }
        let parts: Vec<&str> = text.split('$').collect();
        let ["", version, cost, body] = parts.as_slice() else {
            return Err("is not a bcrypt hash: $2y$COST$SALT-AND-HASH is expected".to_owned());
        };
        if !["2a", "2b", "2x", "2y"].contains(version) {
            return Err(format!("is of the unknown bcrypt version {version:?}; accepted: 2a, 2b, 2x, 2y"));
        }
        let cost = match cost.parse() {
            Ok(number @ 4..=31) if cost.len() == 2 => number,
            _ => return Err(format!("has the bcrypt cost {cost:?}, which is outside of 04 to 31")),
        };
        let is_plain = body.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/');
        if body.len() != 53 || !is_plain {
            return Err("is not a bcrypt hash: 53 characters of its alphabet are expected behind the cost".to_owned());
        }
        Ok(Self { text: text.to_owned(), cost })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether a comparison takes seconds.
    pub(super) fn is_slow(&self) -> bool {
        self.cost > QUICK_COST
    }

    /// Returns whether this is the hash of a password. Takes milliseconds to minutes, depending on the cost.
    pub(super) fn is_of(&self, password: &[u8]) -> bool {
        bcrypt::verify(password, &self.text).unwrap_or(false)
    }
}

/// All users.
#[derive(Debug, Default)]
pub(super) struct Users {
    by_name: HashMap<String, StoredHash>,
    /// Names of the users with quick hashes. A password of an unknown user is compared with one of these hashes.
    stand_ins: Vec<String>,
}

impl Users {
    pub(super) fn add(&mut self, name: &str, hash: StoredHash) {
        if !hash.is_slow() {
            self.stand_ins.push(name.to_owned());
        }
        self.by_name.insert(name.to_owned(), hash);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Returns the users whose hashes take seconds to compare.
    pub(super) fn slow(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.by_name.iter().filter(|(_, hash)| hash.is_slow()).map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// Returns the name and the hash of a user. For an unknown user returns no name, and the hash of a known user that
    /// `name_hash`, a keyed hash of the unknown name, selects. So the time of the answer does not show whether a user exists.
    pub(super) fn find(&self, user: &[u8], name_hash: u64) -> Option<(Option<&str>, &StoredHash)> {
        let known = std::str::from_utf8(user).ok().and_then(|name| self.by_name.get_key_value(name));
        if let Some((name, hash)) = known {
            return Some((Some(name), hash));
        }
        let count = u64::try_from(self.stand_ins.len()).ok()?;
        let index = usize::try_from(name_hash.checked_rem(count).unwrap_or(0)).ok()?;
        let hash = self.stand_ins.get(index).and_then(|name| self.by_name.get(name));
        hash.or_else(|| self.by_name.values().next()).map(|hash| (None, hash))
    }
}

/// User and password of a request.
pub(super) struct Credentials {
    pub(super) user: Vec<u8>,
    pub(super) password: Vec<u8>,
}

impl Credentials {
    /// Parses the value of an `Authorization` header.
    pub(super) fn parse(header: &[u8]) -> Option<Self> {
        let (scheme, encoded) = header.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let mut user = STANDARD.decode(encoded).ok()?;
        let colon = user.iter().position(|byte| *byte == b':')?;
        let password = user.split_off(colon + 1);
        user.pop();
        Some(Self { user, password })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST_4: &str = "$2y$04$WUBWOvqVKBQDbY9KIKLvEOZpIWM/PJGgXWyrMAlnpVVdgZfgWGDrO";

    #[test]
    fn a_stored_hash_is_checked_when_it_is_read() {
        assert!(StoredHash::parse(COST_4).is_ok());
        assert!(StoredHash::parse(&COST_4.replace("2y", "2b")).is_ok());
        for (text, expected) in [
            ("doe".to_owned(), "hashedSecret too short to be a bcrypted password"),
            (COST_4.replace("2y", "3y"), "unknown bcrypt version"),
            (COST_4.replace("$04$", "$32$"), "outside of 04 to 31"),
            (COST_4.replace('W', "?"), "53 characters"),
            (format!("{COST_4}x"), "53 characters"),
            (COST_4.replace('$', "%"), "not a bcrypt hash"),
        ] {
            let error = StoredHash::parse(&text).expect_err(&text);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn credentials_are_split_at_the_first_colon() {
        let parse = |text: &str| {
            let header = format!("bAsIc {}", STANDARD.encode(text));
            Credentials::parse(header.as_bytes()).map(|given| (given.user, given.password))
        };
        assert_eq!(parse("a:b:c"), Some((b"a".to_vec(), b"b:c".to_vec())));
        assert_eq!(parse(":"), Some((Vec::new(), Vec::new())));
        assert_eq!(parse("ab"), None);
        for header in ["", "Basic", "Basic !", "Bearer abc", "Basic YTpi=", "Digest a:b"] {
            assert!(Credentials::parse(header.as_bytes()).is_none(), "{header}");
        }
    }

    #[test]
    fn an_unknown_user_is_compared_with_a_quick_hash_of_somebody() {
        let mut users = Users::default();
        assert!(users.find(b"x", 1).is_none());
        users.add("slow", StoredHash::parse(&COST_4.replace("$04$", "$18$")).unwrap());
        assert!(users.find(b"x", 1).is_some_and(|(name, hash)| name.is_none() && hash.is_slow()));
        users.add("quick", StoredHash::parse(COST_4).unwrap());
        for draw in 0..9 {
            assert!(users.find(b"\xff", draw).is_some_and(|(name, hash)| name.is_none() && !hash.is_slow()));
        }
        assert!(users.find(b"slow", 0).is_some_and(|(name, hash)| name == Some("slow") && hash.is_slow()));
        assert_eq!(users.slow(), ["slow"]);
    }
}
