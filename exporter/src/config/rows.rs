//! The rows of the table, each flag and variable once: all that is said of it, and what it does.
//!
//! To add one, add a row here, a function to `apply` and a field to [`super::Config`]; help, README and the table
//! tests follow.

use std::borrow::Cow;

use super::apply::{self, Wanted};
use super::flags::{Apply, Flag, Group};

/// What most rows are like.
const ROW: Flag = Flag {
    name: Cow::Borrowed(""),
    variables: &[],
    value: "",
    default: "",
    group: Group::Web,
    help: "",
    accepts: "",
    repeatable: false,
    default_is_value: false,
    apply: Apply::Switch(|_, _| {}),
};

/// A row that is on or off.
pub(super) const SWITCH: Flag = Flag { group: Group::Collectors, accepts: "true, false, or nothing for true", ..ROW };

/// A row whose default is a value like one that is given.
const VALUE: Flag = Flag { default_is_value: true, ..ROW };

const DIRECTORY: &str = "a directory that can be read";
const DURATION: &str = "seconds (120, 1.5) or a number with a unit (500ms, 5m, 1h30m), at most 365d";
const GLOBS: &str = "comma-separated globs (web-*, {a,b}, [0-9])";

/// The rows that are not collectors.
pub(super) const FIXED: &[Flag] = &[
    Flag {
        name: Cow::Borrowed("web.listen-address"),
        variables: &["WEB_LISTEN_ADDRESS"],
        value: "ADDRESS",
        default: ":8081",
        help: "where to listen: :PORT, HOST:PORT or [::1]:PORT; repeatable, comma-separated in the variable",
        accepts: ":PORT, HOST:PORT or [IPV6]:PORT with a port from 0 to 65535",
        repeatable: true,
        apply: Apply::Text(apply::listen),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("web.telemetry-path"),
        variables: &["WEB_TELEMETRY_PATH"],
        value: "PATH",
        default: "/metrics",
        help: "URL path of the metrics",
        accepts: "a path that begins with / and is not /, /healthz or /readyz",
        apply: Apply::Text(apply::telemetry_path),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("web.config.file"),
        variables: &["WEB_CONFIG_FILE"],
        value: "FILE",
        help: "TLS and basic authentication (not in this version: giving it is a mistake)",
        accepts: "nothing yet; leave it out and let a reverse proxy protect the metrics",
        apply: Apply::Text(apply::web_config_file),
        ..ROW
    },
    Flag {
        name: Cow::Borrowed("web.max-requests"),
        value: "NUMBER",
        default: "40",
        help: "scrapes served at a time; one more is answered with 503",
        accepts: "a whole number from 1 to 100000",
        apply: Apply::Text(apply::max_requests),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("source"),
        variables: &["SOURCE"],
        value: "SOURCE",
        default: "auto",
        group: Group::Source,
        help: "cgroup, docker-api, or auto: cgroup where a cgroup tree can be read, else the Docker API",
        accepts: "auto, cgroup or docker-api",
        apply: Apply::Text(apply::source),
        ..ROW
    },
    Flag {
        variables: &["USE_PSEUDO_FILES"],
        value: "SWITCH",
        group: Group::Source,
        help: "the predecessor's switch: true is --source=cgroup, false or empty is docker-api; --source wins",
        accepts: "TRUE, YES, ENABLED or 1 for cgroup; FALSE, NO, DISABLED, 0 or empty for docker-api",
        apply: Apply::Text(apply::use_pseudo_files),
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
        apply: Apply::Directory(|draft, path| draft.cgroup_root = path),
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
        apply: Apply::Directory(|draft, path| draft.procfs_root = path),
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
        apply: Apply::Text(apply::min_interval),
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
        apply: Apply::Text(apply::ebpf),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("read.snapshot"),
        value: "WHEN",
        default: "auto",
        group: Group::Source,
        help: "counters of all containers by an eBPF iterator and not file by file: on (or fail at start), off, auto",
        accepts: "auto, on or off",
        apply: Apply::Text(apply::snapshot),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("docker.url"),
        variables: &["DOCKER_CLIENT_URL", "DOCKER_HOST"],
        value: "URL",
        default: "unix:///var/run/docker.sock",
        group: Group::Docker,
        help: "the Docker engine, asked for names and states: unix://, tcp://, http:// or https://",
        accepts: "unix:///PATH, or tcp://, http:// or https:// with HOST:PORT",
        apply: Apply::Text(apply::docker_url),
        ..VALUE
    },
    Flag {
        variables: &["DOCKER_CERT_PATH"],
        value: "DIRECTORY",
        default: "~/.docker",
        group: Group::Docker,
        help: "ca.pem, cert.pem and key.pem for https://, and for tcp:// with DOCKER_TLS_VERIFY",
        accepts: "a directory with ca.pem, cert.pem and key.pem",
        apply: Apply::Path(|draft, path| draft.certificates = Some(path)),
        ..ROW
    },
    Flag {
        variables: &["DOCKER_TLS_VERIFY"],
        value: "ANYTHING",
        group: Group::Docker,
        help: "anything but empty makes tcp:// use TLS, as with Docker's own client",
        accepts: "anything",
        apply: Apply::Text(apply::tls_verify),
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
        apply: Apply::Text(apply::resync_interval),
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
        apply: Apply::Text(apply::labels),
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
        apply: Apply::Text(apply::include),
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
        apply: Apply::Text(apply::exclude),
        ..ROW
    },
    Flag {
        name: Cow::Borrowed("containers.linger"),
        value: "DURATION",
        default: "5m",
        group: Group::Exposition,
        help: "how long last_seen, state and exit code stay after a container's exit",
        accepts: DURATION,
        apply: Apply::Text(apply::linger),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("metrics.schema"),
        value: "SCHEMA",
        default: "cadvisor",
        group: Group::Exposition,
        help: "names of the metrics: cadvisor, docker-stats (the predecessor's), or both",
        accepts: "cadvisor, docker-stats or both",
        apply: Apply::Text(apply::schema),
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
        apply: Apply::Text(apply::log_level),
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
        apply: Apply::Text(apply::log_format),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("version"),
        group: Group::General,
        help: "print the version and exit",
        apply: Apply::Switch(|draft, on| draft.want(Wanted::Version, on)),
        ..SWITCH
    },
    Flag {
        name: Cow::Borrowed("help"),
        group: Group::General,
        help: "print this and exit",
        apply: Apply::Switch(|draft, on| draft.want(Wanted::Help, on)),
        ..SWITCH
    },
    Flag {
        name: Cow::Borrowed("collector.disable-defaults"),
        help: "run only the collectors that are switched on by name",
        apply: Apply::Switch(|draft, on| draft.disable_defaults = on),
        ..SWITCH
    },
];
