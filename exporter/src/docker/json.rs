//! Reads an engine's JSON leniently: a field that is missing, null or of another type is none.
//!
//! The models of the client library are not used: they reject a whole list for one unknown state word, such as those of
//! Podman and newer engines.

use serde_json::Value;

use crate::name::{HealthStatus, Names, NetworkMode, State};

/// Maximum number of commas in an object, and so about that of values: parsed, they take many times their size.
const MAX_COMMAS: usize = 500_000;

/// Maximum length of a text that is stored whole, in bytes: `PATH_MAX`.
pub(super) const MAX_SHORT: usize = 4096;

/// Parses one object; bytes that are not UTF-8 become replacement characters. Returns none if it is invalid, nested
/// deeper than 128 levels, or has more values than the largest container.
pub(super) fn parse(bytes: &[u8]) -> Option<Value> {
    if bytes.split(|byte| *byte == b',').nth(MAX_COMMAS).is_some() {
        return None;
    }
    serde_json::from_str(&String::from_utf8_lossy(bytes)).ok()
}

/// Returns the text at `pointer`; empty if there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the text at `pointer`; empty if there is none or if it is longer than any path.
pub(super) fn short_text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    Some(text(value, pointer)).filter(|text| text.len() <= MAX_SHORT).unwrap_or_default()
}

/// Returns the whole number at `pointer`, also where it is written as text.
pub(super) fn integer(value: &Value, pointer: &str) -> Option<i64> {
    let found = value.pointer(pointer)?;
    found.as_i64().or_else(|| found.as_str()?.parse().ok())
}

/// Returns the number at `pointer` if it is above 0: engines write 0 or -1 for "not set".
pub(super) fn positive(value: &Value, pointer: &str) -> Option<u64> {
    integer(value, pointer).and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0)
}

/// Returns whether the field at `pointer` is true.
pub(super) fn flag(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

/// Returns the map of texts at `pointer`; entries of another type are skipped, null is the empty text.
pub(super) fn map<'a>(value: &'a Value, pointer: &str) -> Vec<(&'a str, &'a str)> {
    let entries = value.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    let texts = entries.filter_map(|(key, value)| match value {
        Value::String(text) => Some((key.as_str(), text.as_str())),
        Value::Null => Some((key.as_str(), "")),
        _ => None,
    });
    texts.collect()
}

/// Parses Docker's and Podman's words for a state.
pub(super) fn state(word: &str) -> Option<State> {
    Some(match word.to_ascii_lowercase().as_str() {
        "created" | "configured" | "initialized" => State::Created,
        "running" | "stopping" => State::Running,
        "paused" => State::Paused,
        "restarting" => State::Restarting,
        "removing" => State::Removing,
        "exited" | "stopped" => State::Exited,
        "dead" => State::Dead,
        _ => return None,
    })
}

/// Returns the word for a health verdict; none where there is no health check.
pub(super) fn health(word: &str) -> Option<HealthStatus> {
    Some(match word.trim() {
        "starting" => HealthStatus::Starting,
        "healthy" => HealthStatus::Healthy,
        "unhealthy" => HealthStatus::Unhealthy,
        _ => return None,
    })
}

/// `HostConfig.NetworkMode`. A peer is usually given by its id, else it is looked up among the known names.
pub(super) fn network_mode(text: &str, names: &Names) -> NetworkMode {
    if let Some(peer) = text.strip_prefix("container:") {
        let by_name = || {
            let known = names.containers.values();
            known.filter(|info| info.removed.is_none()).find(|info| info.name == peer).map(|info| info.id)
        };
        let id = crate::discover::ContainerId::parse(peer.as_bytes()).or_else(by_name);
        return id.map_or(NetworkMode::Unknown, NetworkMode::Container);
    }
    match text {
        "" => NetworkMode::Unknown,
        "host" => NetworkMode::Host,
        // Podman: the namespace of an unknown owner.
        path if path.starts_with("ns:") => NetworkMode::Unknown,
        network => NetworkMode::Named(network.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::{integer, map, network_mode, parse, positive, text};
    use crate::discover::ContainerId;
    use crate::name::{ContainerInfo, Names, NetworkMode};

    #[test]
    fn odd_types_are_absent() {
        let value = json!({"a": {"b": 5, "c": "7", "d": -1, "e": 0, "f": 1.5, "g": null, "h": [1]}});
        assert_eq!((integer(&value, "/a/b"), integer(&value, "/a/c")), (Some(5), Some(7)));
        for pointer in ["/a/d", "/a/e", "/a/f", "/a/g", "/a/h", "/a/x", "/x/y"] {
            assert_eq!(positive(&value, pointer), None, "{pointer}");
            assert_eq!(text(&value, pointer), "", "{pointer}");
        }
        let labels = json!({"l": {"z": "1", "n": null, "o": {}, "i": 3}});
        assert_eq!(map(&labels, "/l"), [("n", ""), ("z", "1")]);
        assert_eq!(map(&json!({"l": null}), "/l"), []);
    }

    #[test]
    fn invalid_utf_8_is_replaced() {
        assert_eq!(text(&parse(b"{\"a\":\"x\xffy\"}").unwrap(), "/a"), "x\u{fffd}y");
        assert_eq!(parse(b"{\"a\":}"), None);
    }

    #[test]
    fn a_shared_network_is_found_by_id_or_name() {
        let id = ContainerId::parse(&[b'a'; 64]).unwrap();
        let info = ContainerInfo { name: "owner".to_owned(), ..ContainerInfo::unknown(id) };
        let names = Names { containers: [(id, Arc::new(info))].into(), generation: 1, ..Names::default() };
        for peer in [format!("container:{id}"), "container:owner".to_owned()] {
            assert_eq!(network_mode(&peer, &names), NetworkMode::Container(id), "{peer}");
        }
        assert_eq!(network_mode("container:stranger", &names), NetworkMode::Unknown);
        assert_eq!(network_mode("host", &names), NetworkMode::Host);
        assert_eq!(network_mode("shop_default", &names), NetworkMode::Named("shop_default".to_owned()));
        assert_eq!(network_mode("ns:/proc/1/ns/net", &names), NetworkMode::Unknown);
    }
}
