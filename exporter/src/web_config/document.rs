//! Reads the sections of the file from its tree, and checks them without opening other files.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use super::Problems;
use super::rate_limit::{Rate, go_duration};
use super::users::{StoredHash, Users};
use super::yaml::{Node, Value};

/// The whole file.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) tls: TlsSection,
    pub(super) http2: bool,
    pub(super) headers: HeaderMap,
    pub(super) users: Users,
    pub(super) rate: Option<Rate>,
}

/// A text of the file with its line.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) line: u64,
    pub(super) value: String,
}

/// `tls_server_config`. An empty value of the file is none.
#[derive(Debug, Default)]
pub(super) struct TlsSection {
    /// Line of the section.
    pub(super) line: u64,
    pub(super) cert: Option<Text>,
    pub(super) cert_file: Option<Text>,
    pub(super) key: Option<Text>,
    pub(super) key_file: Option<Text>,
    pub(super) client_ca: Option<Text>,
    pub(super) client_ca_file: Option<Text>,
    pub(super) client_auth_type: Option<Text>,
    pub(super) client_allowed_sans: Option<Vec<String>>,
    pub(super) cipher_suites: Vec<Text>,
    pub(super) curve_preferences: Vec<Text>,
    pub(super) min_version: Option<Text>,
    pub(super) max_version: Option<Text>,
}

impl TlsSection {
    /// Returns whether a key switches TLS on. Versions, suites and curves alone do not.
    pub(super) fn is_enabled(&self) -> bool {
        let given = [
            &self.cert,
            &self.cert_file,
            &self.key,
            &self.key_file,
            &self.client_ca,
            &self.client_ca_file,
            &self.client_auth_type,
        ];
        given.iter().any(|value| value.is_some())
    }
}

const SECTIONS: &[&str] = &["tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"];

const TLS_KEYS: &[&str] = &[
    "cert",
    "key",
    "client_ca",
    "cert_file",
    "key_file",
    "client_auth_type",
    "client_ca_file",
    "cipher_suites",
    "curve_preferences",
    "min_version",
    "max_version",
    "prefer_server_cipher_suites",
    "client_allowed_sans",
];

/// The headers that can be set, with their accepted values; an empty list accepts any value.
const HEADERS: &[(&str, &[&str])] = &[
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

/// Reads the tree of a file.
pub(super) fn read(root: &Node, problems: &mut Problems) -> Document {
    let mut reader = Reader { problems };
    let mut document = Document {
        tls: TlsSection::default(),
        http2: true,
        headers: HeaderMap::new(),
        users: Users::default(),
        rate: None,
    };
    for (key, node) in reader.section(root, "", Some(SECTIONS)) {
        match key {
            "tls_server_config" => document.tls = reader.tls(node),
            "http_server_config" => reader.http(node, &mut document),
            "basic_auth_users" => document.users = reader.users(node),
            "rate_limit" => document.rate = reader.rate(node),
            _ => {}
        }
    }
    document
}

/// Reads nodes, and adds errors to `problems`.
struct Reader<'p> {
    problems: &'p mut Problems,
}

impl Reader<'_> {
    /// Returns the entries of a mapping. Keys that are unknown or given twice are reported and left out.
    fn section<'n>(&mut self, node: &'n Node, path: &str, known: Option<&[&str]>) -> Vec<(&'n str, &'n Node)> {
        let entries = match &node.value {
            Value::Null => return Vec::new(),
            Value::Map(entries) => entries,
            Value::Text(_) | Value::List(_) => {
                self.problems.add(node.line, path, "yaml: a mapping (key: value) is expected");
                return Vec::new();
            }
        };
        let mut taken: Vec<(&str, &Node)> = Vec::new();
        for (key, value) in entries {
            let name = joined(path, key);
            if known.is_some_and(|known| !known.contains(&key.as_str())) {
                let accepted = known.unwrap_or_default().join(", ");
                self.problems.add(value.line, name, format!("yaml: unknown key; accepted: {accepted}"));
            } else if taken.iter().any(|(other, _)| other == key) {
                self.problems.add(value.line, name, "yaml: the key is given twice");
            } else {
                taken.push((key, value));
            }
        }
        taken
    }

    /// Reads a text; none if it is empty.
    fn text(&mut self, node: &Node, path: &str) -> Option<Text> {
        match &node.value {
            Value::Text(text) => {
                Some(Text { line: node.line, value: text.clone() }).filter(|text| !text.value.is_empty())
            }
            Value::Null => None,
            Value::List(_) | Value::Map(_) => {
                self.problems.add(node.line, path, "yaml: one text is expected");
                None
            }
        }
    }

    fn texts(&mut self, node: &Node, path: &str) -> Vec<Text> {
        match &node.value {
            Value::Null => Vec::new(),
            Value::List(items) => items.iter().filter_map(|item| self.text(item, path)).collect(),
            Value::Text(_) | Value::Map(_) => {
                self.problems.add(node.line, path, "yaml: a list is expected");
                Vec::new()
            }
        }
    }

    /// Reads a switch, in any of the words of YAML 1.1.
    fn switch(&mut self, node: &Node, path: &str) -> Option<bool> {
        let word = self.text(node, path)?;
        let is = |words: &[&str]| words.iter().any(|known| word.value.eq_ignore_ascii_case(known));
        if is(&["true", "yes", "on", "y"]) {
            Some(true)
        } else if is(&["false", "no", "off", "n"]) {
            Some(false)
        } else {
            self.problems.add(word.line, path, format!("yaml: {:?} is not true or false", word.value));
            None
        }
    }

    fn tls(&mut self, section: &Node) -> TlsSection {
        let mut tls = TlsSection { line: section.line, ..TlsSection::default() };
        for (key, node) in self.section(section, "tls_server_config", Some(TLS_KEYS)) {
            let path = joined("tls_server_config", key);
            match key {
                "cert" => tls.cert = self.text(node, &path),
                "cert_file" => tls.cert_file = self.text(node, &path),
                "key" => tls.key = self.text(node, &path),
                "key_file" => tls.key_file = self.text(node, &path),
                "client_ca" => tls.client_ca = self.text(node, &path),
                "client_ca_file" => tls.client_ca_file = self.text(node, &path),
                "client_auth_type" => tls.client_auth_type = self.text(node, &path),
                "cipher_suites" => tls.cipher_suites = self.texts(node, &path),
                "curve_preferences" => tls.curve_preferences = self.texts(node, &path),
                "min_version" => tls.min_version = self.text(node, &path),
                "max_version" => tls.max_version = self.text(node, &path),
                "client_allowed_sans" if !matches!(node.value, Value::Null) => {
                    let names = self.texts(node, &path);
                    tls.client_allowed_sans = Some(names.into_iter().map(|name| name.value).collect());
                }
                // It has no effect, as in Go since 1.17: the server's order of suites is used.
                "prefer_server_cipher_suites" => {
                    self.switch(node, &path);
                }
                _ => {}
            }
        }
        tls
    }

    fn http(&mut self, section: &Node, document: &mut Document) {
        for (key, node) in self.section(section, "http_server_config", Some(&["http2", "headers"])) {
            if key == "http2" {
                document.http2 = self.switch(node, "http_server_config.http2").unwrap_or(true);
                continue;
            }
            for (name, node) in self.section(node, "http_server_config.headers", None) {
                self.header(name, node, &mut document.headers);
            }
        }
    }

    fn header(&mut self, name: &str, node: &Node, headers: &mut HeaderMap) {
        let path = joined("http_server_config.headers", name);
        let Some((known, values)) = HEADERS.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = HEADERS.iter().map(|(name, _)| *name).collect();
            let what = format!("HTTP header {name:?} can not be configured; accepted: {}", names.join(", "));
            return self.problems.add(node.line, path, what);
        };
        let value = self.text(node, &path).map(|text| text.value).unwrap_or_default();
        if !values.is_empty() && !values.contains(&value.as_str()) {
            let what = format!("invalid value for {name}: expected one of {values:?}, but got {value:?}");
            return self.problems.add(node.line, path, what);
        }
        match (HeaderName::from_bytes(known.as_bytes()), HeaderValue::from_str(&value)) {
            (Ok(name), Ok(value)) => drop(headers.insert(name, value)),
            _ => self.problems.add(node.line, path, "invalid value: it has characters that no header can have"),
        }
    }

    fn users(&mut self, section: &Node) -> Users {
        let mut users = Users::default();
        for (name, node) in self.section(section, "basic_auth_users", None) {
            let path = joined("basic_auth_users", name);
            let hash = self.text(node, &path).map(|text| text.value).unwrap_or_default();
            match StoredHash::parse(&hash) {
                Ok(hash) => users.add(name, hash),
                Err(what) => self.problems.add(node.line, path, what),
            }
        }
        users
    }

    fn rate(&mut self, section: &Node) -> Option<Rate> {
        let (mut interval, mut burst) = (None, 0);
        for (key, node) in self.section(section, "rate_limit", Some(&["interval", "burst"])) {
            let path = joined("rate_limit", key);
            let Some(text) = self.text(node, &path) else { continue };
            if key == "interval" {
                interval = go_duration(&text.value);
                if interval.is_none() {
                    let what = format!("yaml: {:?} is not a duration; accepted: 500ms, 1s, 1m30s", text.value);
                    self.problems.add(text.line, path, what);
                }
            } else if let Ok(number) = text.value.parse::<i64>() {
                burst = u32::try_from(number.max(0)).unwrap_or(u32::MAX);
            } else {
                self.problems.add(text.line, path, format!("yaml: {:?} is not a whole number", text.value));
            }
        }
        interval.filter(|interval| !interval.is_zero()).map(|interval| Rate { interval, burst })
    }
}

/// Returns the path of a key, which is escaped and cut to 64 characters.
fn joined(path: &str, key: &str) -> String {
    let key: String = key.chars().take(64).flat_map(char::escape_debug).collect();
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
