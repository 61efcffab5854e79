//! `FIXTURE.toml`: which host this was, and how each container was configured.

use std::fmt::Write as _;

use serde_json::Value;

use super::cgroups::Cgroups;
use super::engine::Answers;
use super::redact;

/// What is said of a container where it differs from the default, as a flag of `docker run`.
const OPTIONS: &[(&str, &str)] = &[
    ("/HostConfig/NetworkMode", "network"),
    ("/HostConfig/PidMode", "pid"),
    ("/HostConfig/CgroupParent", "cgroup-parent"),
    ("/HostConfig/RestartPolicy/Name", "restart"),
    ("/HostConfig/ReadonlyRootfs", "read-only"),
    ("/HostConfig/CpuShares", "cpu-shares"),
    ("/HostConfig/CpuQuota", "cpu-quota"),
    ("/HostConfig/CpuPeriod", "cpu-period"),
    ("/HostConfig/NanoCpus", "nano-cpus"),
    ("/HostConfig/Memory", "memory"),
    ("/HostConfig/MemorySwap", "memory-swap"),
    ("/HostConfig/MemoryReservation", "memory-reservation"),
    ("/HostConfig/PidsLimit", "pids-limit"),
    ("/HostConfig/BlkioDeviceWriteBps", "device-write-bps"),
];

/// The manifest's text.
pub(super) fn text(name: &str, cgroups: &Cgroups, engine: &Answers) -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = redact::release(&release);
    let driver = if cgroups.is_systemd() { "systemd" } else { "cgroupfs" };
    let mut text = String::from("# Made by `cargo xtask capture`; see ../README.md.\n");
    let facts = [
        ("name", name),
        ("kernel", kernel.trim()),
        ("hierarchy", cgroups.hierarchy()),
        ("driver", driver),
        ("engine", engine.version()),
    ];
    for (key, value) in facts {
        line(&mut text, key, &format!("{value:?}"));
    }
    for container in engine.containers() {
        text.push_str("\n[[container]]\n");
        describe(&mut text, container);
    }
    text
}

fn describe(text: &mut String, container: &Value) {
    for (key, pointer) in [("name", "/Name"), ("id", "/Id"), ("state", "/State/Status")] {
        let value = container.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        line(text, key, &format!("{:?}", value.trim_start_matches('/')));
    }
    for (pointer, option) in OPTIONS {
        if let Some(value) = container.pointer(pointer).filter(|value| is_set(value)) {
            let plain = value.is_number() || value.is_boolean();
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned).replace('"', "'");
            line(text, option, &if plain { value } else { format!("{value:?}") });
        }
    }
}

/// Whether an option was given: Docker's defaults are empty, 0, false or one of these words.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !matches!(text.as_str(), "" | "default" | "bridge" | "no"),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn line(text: &mut String, key: &str, value: &str) {
    // Writing into a String cannot fail.
    writeln!(text, "{key} = {value}").unwrap_or_default();
}
