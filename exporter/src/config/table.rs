//! The table of flags and variables. A new flag takes a row here and a field of [`super::Config`]; parsing, `--help`, the
//! README and the tests of the table follow.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use super::error::Reason;
use super::flag::{Apply, Flag, Group, Partial, Print, ROW, SWITCH};
use super::types::{FeatureMode, LogFormat, Schema, SourceMode};
use super::{docker_url, top_flags, values};
use crate::metrics::Collector;

/// Every flag and variable, in the order of `--help`.
pub static FLAGS: LazyLock<Vec<Flag>> = LazyLock::new(|| {
    let collectors = Collector::ALL.iter().map(|&collector| collector_row(collector));
    FIXED.iter().chain(top_flags::ROWS).cloned().chain(collectors).collect()
});

fn collector_row(collector: Collector) -> Flag {
    Flag {
        name: Cow::Owned(format!("collector.{collector}")),
        default: if collector.default_on() { "on" } else { "off" },
        help: collector.about(),
        apply: Apply::Collector(collector),
        ..SWITCH
    }
}

/// A row whose default is parsed like a given value.
const VALUE: Flag = Flag { default_is_value: true, ..ROW };

const DIRECTORY: &str = "a directory that can be read";
const DURATION: &str = "seconds (120, 1.5) or a number with a unit (500ms, 5m, 1h30m), at most 365d";
const GLOBS: &str = "comma-separated globs (web-*, {a,b}, [0-9])";

/// The rows that are not collectors.
const FIXED: &[Flag] = &[
    Flag {
        name: Cow::Borrowed("web.listen-address"),
        variables: &["WEB_LISTEN_ADDRESS"],
        value: "ADDRESS",
        default: ":8081",
        help: "where to listen: :PORT, HOST:PORT or [::1]:PORT; repeatable, comma-separated in the variable",
        accepts: ":PORT, HOST:PORT or [IPV6]:PORT with a port from 0 to 65535",
        repeatable: true,
        apply: Apply::Text(listen),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("web.systemd-socket"),
        group: Group::Web,
        help: "listen on the sockets that systemd passes (a .socket unit) and not on --web.listen-address",
        apply: Apply::Switch(|partial, on| partial.config.systemd_socket = on),
        ..SWITCH
    },
    Flag {
        name: Cow::Borrowed("web.telemetry-path"),
        variables: &["WEB_TELEMETRY_PATH"],
        value: "PATH",
        default: "/metrics",
        help: "URL path of the metrics",
        accepts: "a path that begins with / and is not /, /healthz or /readyz",
        apply: Apply::Text(|partial, text| set(&mut partial.config.telemetry_path, values::telemetry_path(text))),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("web.config.file"),
        variables: &["WEB_CONFIG_FILE"],
        value: "FILE",
        help: "TLS, client certificates, passwords, headers and a rate limit, as in all Prometheus exporters (docs/TLS.md)",
        accepts: "a YAML file in the format of Prometheus' exporter-toolkit",
        apply: Apply::Path(|partial, path| partial.web_config = Some(path)),
        ..ROW
    },
    Flag {
        name: Cow::Borrowed("web.max-requests"),
        value: "NUMBER",
        default: "40",
        help: "scrapes served at a time; one more waits for half a second and is then answered with 503; 0 means no limit",
        accepts: "a whole number from 0 to 100000",
        apply: Apply::Text(|partial, text| set(&mut partial.config.max_requests, values::max_requests(text))),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("web.disable-exporter-metrics"),
        group: Group::Web,
        help: "leave out process_* and the exporter's own metrics (docker_stats_exporter_*)",
        apply: Apply::Switch(|partial, on| partial.config.hides_own_metrics = on),
        ..SWITCH
    },
    Flag {
        name: Cow::Borrowed("source"),
        variables: &["SOURCE"],
        value: "SOURCE",
        default: "auto",
        group: Group::Source,
        help: "cgroup, docker-api, or auto: cgroup where a cgroup tree can be read, else the Docker API",
        accepts: "auto, cgroup or docker-api",
        apply: Apply::Text(|partial, text| set(&mut partial.source, values::word(text, SOURCES).map(Some))),
        ..ROW
    },
    Flag {
        variables: &["USE_PSEUDO_FILES"],
        value: "SWITCH",
        group: Group::Source,
        help: "the predecessor's switch: true is --source=cgroup, false or empty is docker-api; --source wins",
        accepts: "TRUE, YES, ENABLED or 1 for cgroup; FALSE, NO, DISABLED, 0 or empty for docker-api",
        apply: Apply::Text(|partial, text| set(&mut partial.pseudo_files, values::word(text, PSEUDO_FILES).map(Some))),
        ..ROW
    },
    Flag {
        name: Cow::Borrowed("path.cgroup"),
        variables: &["CGROUP_DIRECTORY"],
        value: "DIRECTORY",
        default: "/sys/fs/cgroup",
        group: Group::Source,
        help: "root of the host's cgroup tree, or of a captured one",
        accepts: DIRECTORY,
        apply: Apply::Directory(|partial, path| partial.config.cgroup_root = path),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("path.procfs"),
        variables: &["PROC_DIRECTORY"],
        value: "DIRECTORY",
        default: "/proc",
        group: Group::Source,
        help: "the host's procfs, or a captured one",
        accepts: DIRECTORY,
        apply: Apply::Directory(|partial, path| partial.config.procfs_root = path),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("scrape.min-interval"),
        variables: &["REFRESH_INTERVAL"],
        value: "DURATION",
        default: "0",
        group: Group::Source,
        help: "scrapes closer together than this share one collection",
        accepts: DURATION,
        apply: Apply::Text(|partial, text| set(&mut partial.config.min_interval, values::duration(text))),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("ebpf"),
        variables: &["EBPF"],
        value: "WHEN",
        default: "auto",
        group: Group::Source,
        help: "on (fail at start where it cannot run), off, or auto: where kernel and capabilities allow",
        accepts: "auto, on or off",
        apply: Apply::Text(|partial, text| set(&mut partial.config.ebpf, values::word(text, FEATURE_MODES))),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("read.snapshot"),
        value: "WHEN",
        default: "auto",
        group: Group::Source,
        help: "counters of all containers by an eBPF iterator and not file by file: on (or fail at start), off, auto",
        accepts: "auto, on or off",
        apply: Apply::Text(|partial, text| set(&mut partial.config.snapshot, values::word(text, FEATURE_MODES))),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("docker.url"),
        variables: &["DOCKER_CLIENT_URL", "DOCKER_HOST"],
        value: "URL",
        default: "unix:///var/run/docker.sock",
        group: Group::Docker,
        help: "engine that is asked for names and states: unix://, tcp://, http:// or https://; repeatable",
        accepts: "unix:///PATH, or tcp://, http:// or https:// with HOST:PORT; comma-separated in the variable",
        repeatable: true,
        apply: Apply::Text(docker_urls),
        ..VALUE
    },
    Flag {
        variables: &["DOCKER_CERT_PATH"],
        value: "DIRECTORY",
        default: "~/.docker",
        group: Group::Docker,
        help: "ca.pem, cert.pem and key.pem for https://, and for tcp:// with DOCKER_TLS_VERIFY",
        accepts: "a directory with ca.pem, cert.pem and key.pem",
        apply: Apply::Path(|partial, path| partial.certificates = Some(path)),
        ..ROW
    },
    Flag {
        variables: &["DOCKER_TLS_VERIFY"],
        value: "ANYTHING",
        group: Group::Docker,
        help: "anything but empty makes tcp:// use TLS, as with Docker's own client",
        accepts: "anything",
        apply: Apply::Text(|partial, _| set(&mut partial.tls_verify, Ok(true))),
        ..ROW
    },
    Flag {
        name: Cow::Borrowed("docker.resync-interval"),
        variables: &["CONTAINER_REFRESH_INTERVAL"],
        value: "DURATION",
        default: "120",
        group: Group::Docker,
        help: "time between two full lists of the containers; events keep names fresh between them",
        accepts: "seconds (120, 1.5) or a number with a unit (5m, 1h30m), from 1s to 365d",
        apply: Apply::Text(resync_interval),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("containers.labels"),
        variables: &["CONTAINER_LABELS"],
        value: "GLOBS",
        default: "compose and swarm labels",
        group: Group::Exposition,
        help: "comma-separated globs of container labels that become container_label_*; an empty value means none",
        accepts: GLOBS,
        repeatable: true,
        apply: Apply::Text(|partial, text| extend(partial.labels.get_or_insert_default(), values::label_globs(text))),
        ..ROW
    },
    Flag {
        name: Cow::Borrowed("containers.include"),
        value: "GLOBS",
        default: "all",
        group: Group::Exposition,
        help: "expose only containers whose name, image or label (label:KEY=VALUE) matches; repeatable",
        accepts: GLOBS,
        repeatable: true,
        apply: Apply::Text(|partial, text| extend(&mut partial.include, values::container_globs(text))),
        ..ROW
    },
    Flag {
        name: Cow::Borrowed("containers.exclude"),
        value: "GLOBS",
        default: "none",
        group: Group::Exposition,
        help: "leave out containers whose name, image or label (label:KEY=VALUE) matches; repeatable",
        accepts: GLOBS,
        repeatable: true,
        apply: Apply::Text(|partial, text| extend(&mut partial.exclude, values::container_globs(text))),
        ..ROW
    },
    Flag {
        name: Cow::Borrowed("cgroups.include"),
        value: "GLOBS",
        default: "none",
        group: Group::Exposition,
        help: "cgroups that are no containers and get rows, by path (/system.slice/*, ** for all levels); repeatable",
        accepts: "comma-separated globs of paths (/system.slice/*.service, /user.slice)",
        repeatable: true,
        apply: Apply::Text(|partial, text| extend(&mut partial.cgroups, values::cgroup_globs(text))),
        ..ROW
    },
    Flag {
        name: Cow::Borrowed("containers.linger"),
        value: "DURATION",
        default: "5m",
        group: Group::Exposition,
        help: "how long last_seen, state and exit code stay after a container's exit",
        accepts: DURATION,
        apply: Apply::Text(|partial, text| set(&mut partial.config.linger, values::duration(text))),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("metrics.schema"),
        value: "SCHEMA",
        default: "cadvisor",
        group: Group::Exposition,
        help: "names of the metrics: cadvisor, docker-stats (the predecessor's), or both",
        accepts: "cadvisor, docker-stats or both",
        apply: Apply::Text(|partial, text| set(&mut partial.config.schema, values::word(text, SCHEMAS))),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("metrics.include"),
        value: "GLOBS",
        default: "all",
        group: Group::Exposition,
        help: "expose only metrics whose name matches; files that no remaining metric needs are not read; repeatable",
        accepts: GLOBS,
        repeatable: true,
        apply: Apply::Text(|partial, text| extend(&mut partial.include_metrics, values::metric_globs(text))),
        ..ROW
    },
    Flag {
        name: Cow::Borrowed("metrics.exclude"),
        value: "GLOBS",
        default: "none",
        group: Group::Exposition,
        help: "leave out metrics whose name matches; repeatable",
        accepts: GLOBS,
        repeatable: true,
        apply: Apply::Text(|partial, text| extend(&mut partial.exclude_metrics, values::metric_globs(text))),
        ..ROW
    },
    Flag {
        name: Cow::Borrowed("sandbox"),
        variables: &["SANDBOX"],
        value: "WHEN",
        default: "auto",
        group: Group::General,
        help: "give up all capabilities, files and calls that serving has no use for: on (or fail at start), off, auto",
        accepts: "auto, on or off",
        apply: Apply::Text(|partial, text| set(&mut partial.config.sandbox, values::word(text, FEATURE_MODES))),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("log.level"),
        variables: &["LOG_LEVEL"],
        value: "LEVEL",
        default: "info",
        group: Group::General,
        help: "least severe level that is logged on stderr: trace, debug, info, warn or error",
        accepts: "trace, debug, info, warn or error",
        apply: Apply::Text(|partial, text| set(&mut partial.config.log_level, values::word(text, LOG_LEVELS))),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("log.format"),
        variables: &["LOG_FORMAT"],
        value: "FORMAT",
        default: "logfmt",
        group: Group::General,
        help: "shape of a log line: logfmt or json",
        accepts: "logfmt or json",
        apply: Apply::Text(|partial, text| set(&mut partial.config.log_format, values::word(text, LOG_FORMATS))),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("version"),
        group: Group::General,
        help: "print the version and exit",
        apply: Apply::Switch(|partial, on| print(partial, Print::Version, on)),
        ..SWITCH
    },
    Flag {
        name: Cow::Borrowed("help"),
        group: Group::General,
        help: "print this and exit",
        apply: Apply::Switch(|partial, on| print(partial, Print::Help, on)),
        ..SWITCH
    },
    Flag {
        name: Cow::Borrowed("collector.disable-defaults"),
        help: "run only the collectors that are switched on by name",
        apply: Apply::Switch(|partial, on| partial.disable_defaults = on),
        ..SWITCH
    },
];

const SOURCES: &[(&str, SourceMode)] =
    &[("auto", SourceMode::Auto), ("cgroup", SourceMode::Cgroup), ("docker-api", SourceMode::DockerApi)];

/// The values that the predecessor accepts.
const PSEUDO_FILES: &[(&str, SourceMode)] = &[
    ("true", SourceMode::Cgroup),
    ("yes", SourceMode::Cgroup),
    ("enabled", SourceMode::Cgroup),
    ("1", SourceMode::Cgroup),
    ("false", SourceMode::DockerApi),
    ("no", SourceMode::DockerApi),
    ("disabled", SourceMode::DockerApi),
    ("0", SourceMode::DockerApi),
    ("", SourceMode::DockerApi),
];

const FEATURE_MODES: &[(&str, FeatureMode)] =
    &[("auto", FeatureMode::Auto), ("on", FeatureMode::On), ("off", FeatureMode::Off)];

const SCHEMAS: &[(&str, Schema)] =
    &[("cadvisor", Schema::Cadvisor), ("docker-stats", Schema::DockerStats), ("both", Schema::Both)];

const LOG_LEVELS: &[(&str, tracing::Level)] = &[
    ("trace", tracing::Level::TRACE),
    ("debug", tracing::Level::DEBUG),
    ("info", tracing::Level::INFO),
    ("warn", tracing::Level::WARN),
    // The predecessor, a Python program, uses this name.
    ("warning", tracing::Level::WARN),
    ("error", tracing::Level::ERROR),
];

const LOG_FORMATS: &[(&str, LogFormat)] = &[("logfmt", LogFormat::Logfmt), ("json", LogFormat::Json)];

fn set<T>(field: &mut T, parsed: Result<T, Reason>) -> Result<(), Reason> {
    *field = parsed?;
    Ok(())
}

fn extend(field: &mut Vec<String>, parsed: Result<Vec<String>, Reason>) -> Result<(), Reason> {
    field.extend(parsed?);
    Ok(())
}

fn print(partial: &mut Partial, text: Print, on: bool) {
    if on {
        partial.print = Some(text);
    }
}

fn listen(partial: &mut Partial, text: &str) -> Result<(), Reason> {
    for address in values::listen_addresses(text)? {
        // A second listener on the same address would fail.
        if !partial.config.listen.contains(&address) {
            partial.config.listen.push(address);
        }
    }
    Ok(())
}

fn docker_urls(partial: &mut Partial, text: &str) -> Result<(), Reason> {
    for url in docker_url::parse_list(text)? {
        partial.docker_urls.push(url);
    }
    if partial.docker_urls.len() > docker_url::MAX_ENGINES {
        Err(Reason::Engines(docker_url::MAX_ENGINES))
    } else {
        Ok(())
    }
}

/// Requires at least a second, because lists without a pause would load the engine.
fn resync_interval(partial: &mut Partial, text: &str) -> Result<(), Reason> {
    match values::duration(text)? {
        interval if interval < Duration::from_secs(1) => Err(Reason::TooShort),
        interval => set(&mut partial.config.resync_interval, Ok(interval)),
    }
}
