//! Checks the Docker engines: whether they answer, which API version they speak, and whether they list containers.

use std::io;

use super::{Line, Verdict};
use crate::config::DockerEndpoint;
use crate::docker::is_unlinked;
use crate::probe::{self, Target};

const WHAT: &str = "Docker";
const MOUNT: &str = "docker run -v /var/run/docker.sock:/var/run/docker.sock:ro, or --docker.url";

/// The oldest supported API version.
const OLDEST_API: (u32, u32) = (1, 40);

/// Returns a line for each engine, and whether any engine can be used. If one can, the others get at most a warning;
/// otherwise they get `verdict`.
pub(super) fn check_all(endpoints: &[DockerEndpoint], verdict: Verdict) -> (Vec<Line>, bool) {
    let checked: Vec<_> = endpoints.iter().map(|endpoint| check(endpoint, verdict)).collect();
    let answers = checked.iter().any(|(_, answers)| *answers);
    let softened = |(line, is_used): (Line, bool)| if answers && !is_used { line.with(Verdict::Warn) } else { line };
    (checked.into_iter().map(softened).collect(), answers)
}

/// Returns a line, and whether the engine can be used. An unusable engine gets `verdict`.
fn check(endpoint: &DockerEndpoint, verdict: Verdict) -> (Line, bool) {
    let line = match endpoint {
        DockerEndpoint::Unix(path) => check_api(&Target::Unix(path.clone()), endpoint),
        DockerEndpoint::Tcp(address) => check_api(&Target::Tcp(address.clone()), endpoint),
        DockerEndpoint::Tls { address, .. } => reachable(address),
    };
    match line {
        Ok(line) => (line, true),
        Err(line) => (line.with(verdict), false),
    }
}

fn check_api(target: &Target, endpoint: &DockerEndpoint) -> Result<Line, Line> {
    let list = "/containers/json?limit=1";
    // A proxy may refuse this request, whose answer is only informative.
    let Ok(version) = ask(target, endpoint, "/version") else {
        ask(target, endpoint, list)?;
        return Ok(Line::ok(WHAT, format!("engine at {endpoint} lists its containers (GET /version is not answered)")));
    };
    let (engine, api) = versions(&version).ok_or_else(|| {
        Line::warn(WHAT, format!("what answers at {endpoint} is no Docker engine"), "check --docker.url")
    })?;
    if number(&api).is_none_or(|api| api < OLDEST_API) {
        let found = format!("engine {engine} at {endpoint} speaks API {api}; 1.40 is the oldest that is understood");
        return Err(Line::warn(WHAT, found, "Docker 19.03 or later"));
    }
    ask(target, endpoint, list)?;
    Ok(Line::ok(WHAT, format!("engine {engine} with API {api} at {endpoint}")))
}

fn ask(target: &Target, endpoint: &DockerEndpoint, path: &str) -> Result<Vec<u8>, Line> {
    match probe::get(target.clone(), path) {
        Ok(answer) if answer.status == 200 => Ok(answer.body),
        Ok(answer) => {
            let found = format!("{endpoint} answers GET {path} with status {}", answer.status);
            let hint = "a socket proxy must allow GET /version, /events, /containers/json and /containers/ID/json";
            Err(Line::warn(WHAT, found, hint))
        }
        Err(error) => Err(unreachable(endpoint, &error)),
    }
}

fn unreachable(endpoint: &DockerEndpoint, error: &probe::Error) -> Line {
    let line = |found: String, hint: &str| {
        Line::warn(WHAT, format!("{endpoint}: {found}; names and states are missing"), hint)
    };
    let kind = match error {
        probe::Error::Io(error) => error.kind(),
        probe::Error::Timeout => {
            return line(error.to_string(), "the engine hangs: `docker ps` on the host, then restart it");
        }
        other => return line(other.to_string(), "check --docker.url"),
    };
    match (endpoint, kind) {
        // Docker creates a directory if the socket does not exist when `-v` is used.
        (DockerEndpoint::Unix(path), _) if path.is_dir() => line(
            "a directory".to_owned(),
            "start Docker, remove the directory on the host, and make this container anew",
        ),
        (_, io::ErrorKind::NotFound) => line("no such socket".to_owned(), MOUNT),
        (_, io::ErrorKind::PermissionDenied) => {
            line("permission denied".to_owned(), "run as root, or docker run --group-add with the group of the socket")
        }
        (DockerEndpoint::Unix(path), io::ErrorKind::ConnectionRefused) if is_unlinked(path) => line(
            "nobody listens, as the engine has made a new socket since this one was mounted".to_owned(),
            "restart this container, or mount the directory: -v /var/run:/var/run:ro",
        ),
        (_, io::ErrorKind::ConnectionRefused) => line("nobody listens".to_owned(), "start the Docker engine"),
        _ => line(error.to_string(), "check --docker.url"),
    }
}

/// Checks only whether the address accepts connections, because `probe` has no client certificates.
fn reachable(address: &str) -> Result<Line, Line> {
    let found = |what: String| format!("https://{address} {what}");
    match probe::connects(address) {
        Ok(()) => Ok(Line::ok(WHAT, found("accepts connections (TLS itself was not tried)".to_owned()))),
        Err(error) => {
            Err(Line::warn(WHAT, found(format!("cannot be reached: {error}")), "check --docker.url and the engine"))
        }
    }
}

/// Returns the versions of the engine and of its API in the answer of `GET /version`.
fn versions(body: &[u8]) -> Option<(String, String)> {
    let version: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = |key: &str| version.get(key)?.as_str().map(str::to_owned);
    Some((text("Version").unwrap_or_else(|| "unknown".to_owned()), text("ApiVersion")?))
}

fn number(api: &str) -> Option<(u32, u32)> {
    let (major, minor) = api.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
