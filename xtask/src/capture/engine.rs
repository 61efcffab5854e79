//! The engine's answers, reduced to keys that name a container, its state and its limits.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use docker_stats_exporter::discover::ContainerId;
use serde_json::{Map, Value};

use super::write;

/// What is kept of `/version`.
const VERSION: &[&str] = &["Version", "ApiVersion", "MinAPIVersion", "Os", "Arch"];

/// What is kept of `/info`.
const INFO: &[&str] = &["CgroupDriver", "CgroupVersion"];

/// What is kept of an entry of `/containers/json`.
const LIST: &[&str] =
    &["Id", "Names", "Image", "ImageID", "Created", "State", "Status", "Labels", "HostConfig/NetworkMode"];

/// What is kept of `/containers/ID/json`.
const INSPECT: &[&str] = &[
    "Id",
    "Name",
    "Created",
    "Image",
    "RestartCount",
    "State/Status",
    "State/Running",
    "State/Paused",
    "State/Restarting",
    "State/OOMKilled",
    "State/Dead",
    "State/Pid",
    "State/ExitCode",
    "State/StartedAt",
    "State/FinishedAt",
    "State/Health/Status",
    "State/Health/FailingStreak",
    "Config/Image",
    "Config/Labels",
    "HostConfig/NetworkMode",
    "HostConfig/PidMode",
    "HostConfig/Runtime",
    "HostConfig/RestartPolicy",
    "HostConfig/CgroupParent",
    "HostConfig/ReadonlyRootfs",
    "HostConfig/CpuShares",
    "HostConfig/CpuPeriod",
    "HostConfig/CpuQuota",
    "HostConfig/NanoCpus",
    "HostConfig/Memory",
    "HostConfig/MemorySwap",
    "HostConfig/MemoryReservation",
    "HostConfig/PidsLimit",
    "HostConfig/BlkioDeviceWriteBps",
];

/// Labels that tools of Docker's own set; others may say anything.
const LABEL_PREFIXES: &[&str] = &["com.docker.", "org.opencontainers."];

/// The answers by container.
#[derive(Default)]
pub(super) struct Answers {
    version: Value,
    info: Value,
    list: Vec<Value>,
    inspect: BTreeMap<String, Value>,
    stats: BTreeMap<String, Value>,
}

impl Answers {
    /// Asks for everything; of the containers only those with one of the names, where some are given.
    pub(super) fn ask(socket: &Path, names: &[String]) -> anyhow::Result<Self> {
        let get = |path: &str| {
            get(socket, path).with_context(|| {
                format!("{} {path}: is an engine running? (--docker none captures without names)", socket.display())
            })
        };
        let (version, info) = (pick(&get("/version")?, VERSION), pick(&get("/info")?, INFO));
        let mut answers = Self { version, info, ..Self::default() };
        let list = get("/containers/json?all=1")?;
        for entry in list.as_array().context("the list is no list")? {
            if !names.is_empty() && !name_of(entry).is_some_and(|name| names.contains(&name)) {
                continue;
            }
            let id = entry.get("Id").and_then(Value::as_str).context("a container without an id")?;
            let inspect = get(&format!("/containers/{id}/json"))?;
            let stats = get(&format!("/containers/{id}/stats?stream=false&one-shot=true"))?;
            answers.inspect.insert(id.to_owned(), pick(&inspect, INSPECT));
            // Figures alone: nothing to leave out.
            answers.stats.insert(id.to_owned(), stats);
            answers.list.push(pick(entry, LIST));
        }
        let missing =
            names.iter().filter(|name| !answers.list.iter().any(|entry| name_of(entry).as_ref() == Some(name)));
        let missing: Vec<&str> = missing.map(String::as_str).collect();
        ensure!(missing.is_empty(), "no container is called {}", missing.join(" nor "));
        Ok(answers)
    }

    /// Whether the engine told of this container.
    pub(super) fn has(&self, id: ContainerId) -> bool {
        self.inspect.contains_key(&id.to_string())
    }

    /// The engine's version; empty without an engine.
    pub(super) fn version(&self) -> &str {
        self.version.get("Version").and_then(Value::as_str).unwrap_or_default()
    }

    /// Inspect answers in the order of names.
    pub(super) fn containers(&self) -> Vec<&Value> {
        let mut containers: Vec<&Value> = self.inspect.values().collect();
        containers.sort_by_key(|container| container.get("Name").and_then(Value::as_str).unwrap_or_default());
        containers
    }

    /// Writes one file per answer.
    pub(super) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let file = |name: &str, value: &Value| {
            let text = format!("{value:#}\n");
            write(&directory.join(name), text.as_bytes())
        };
        file("version.json", &self.version)?;
        file("info.json", &self.info)?;
        file("list.json", &Value::Array(self.list.clone()))?;
        for (id, value) in &self.inspect {
            file(&format!("inspect-{id}.json"), value)?;
        }
        for (id, value) in &self.stats {
            file(&format!("stats-{id}.json"), value)?;
        }
        Ok(())
    }
}

fn name_of(entry: &Value) -> Option<String> {
    let name = entry.get("Names")?.as_array()?.first()?.as_str()?;
    Some(name.trim_start_matches('/').to_owned())
}

/// A copy with only these paths (`/` between keys), and only harmless labels.
fn pick(value: &Value, paths: &[&str]) -> Value {
    let mut kept = Value::Object(Map::new());
    for path in paths {
        let Some(found) = value.pointer(&format!("/{path}")) else { continue };
        let found = if path.ends_with("Labels") { labels(found) } else { found.clone() };
        insert(&mut kept, path, found);
    }
    kept
}

fn insert(target: &mut Value, path: &str, value: Value) {
    let Value::Object(map) = target else { return };
    match path.split_once('/') {
        None => drop(map.insert(path.to_owned(), value)),
        Some((key, rest)) => {
            let inner = map.entry(key).or_insert_with(|| Value::Object(Map::new()));
            insert(inner, rest, value);
        }
    }
}

fn labels(value: &Value) -> Value {
    let Value::Object(map) = value else { return value.clone() };
    let harmless = |key: &str| LABEL_PREFIXES.iter().any(|prefix| key.starts_with(prefix));
    Value::Object(
        map.iter().filter(|(key, _)| harmless(key)).map(|(key, value)| (key.clone(), value.clone())).collect(),
    )
}

/// `GET` in HTTP/1.0, so that the answer ends with the connection and has no chunks.
fn get(socket: &Path, path: &str) -> anyhow::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "{status}: {body}");
    Ok(serde_json::from_str(body)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{INSPECT, pick};

    #[test]
    fn what_is_not_named_is_left_out() {
        let inspect = json!({
            "Id": "1", "Path": "sh", "Args": ["--password=x"], "State": {"Pid": 7, "Error": "x"},
            "Config": {"Env": ["A=B"], "Hostname": "h", "Labels": {"com.docker.compose.project": "p", "secret": "s"}},
        });
        assert_eq!(
            pick(&inspect, INSPECT),
            json!({"Id": "1", "State": {"Pid": 7}, "Config": {"Labels": {"com.docker.compose.project": "p"}}})
        );
    }
}
