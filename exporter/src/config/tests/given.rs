//! Tests of valid flags and variables: spellings, precedence, the predecessor's variables.

use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use super::*;
use crate::config::{DockerEndpoint, FeatureMode, ListenAddress, LogFormat, Schema, SourceMode};
use crate::metrics::{Collector, CollectorSet};
use crate::name::Dropped;

#[test]
fn a_flag_beats_its_variable_and_the_first_variable_the_second() {
    let docker = |args: &[&str], env: &[(&str, &str)]| config(args, env).docker[0].to_string();
    let env = [("DOCKER_HOST", "unix:///host"), ("DOCKER_CLIENT_URL", "unix:///client")];
    assert_eq!(docker(&["--docker.url=unix:///flag"], &env), "unix:///flag");
    assert_eq!(docker(&[], &env), "unix:///client");
    assert_eq!(docker(&[], &env[..1]), "unix:///host");
    assert_eq!(docker(&[], &[env[0], ("DOCKER_CLIENT_URL", "")]), "unix:///host");
}

#[test]
fn what_is_overruled_is_not_looked_at() {
    assert_eq!(config(&["--web.max-requests=3"], &[]).max_requests, 3);
    assert_eq!(config(&["--log.format", "json"], &[("LOG_FORMAT", "xml")]).log_format, LogFormat::Json);
}

#[test]
fn the_last_of_a_flag_counts_and_repeatable_ones_add_up() {
    assert_eq!(config(&["--web.max-requests=3", "--web.max-requests=4"], &[]).max_requests, 4);
    let listen =
        config(&["--web.listen-address=:1", "--web.listen-address", "[::1]:2", "--web.listen-address=:1"], &[]).listen;
    assert_eq!(listen, [ListenAddress::Any(1), ListenAddress::Host("::1".to_owned(), 2)]);
}

#[test]
fn listen_addresses_of_every_form() {
    let env = [("WEB_LISTEN_ADDRESS", ":1, localhost:2,[::1]:3,[fe80::1%eth0]:4,10.0.0.1:0,")];
    let shown: Vec<String> = config(&[], &env).listen.iter().map(ToString::to_string).collect();
    assert_eq!(shown, [":1", "localhost:2", "[::1]:3", "[fe80::1%eth0]:4", "10.0.0.1:0"]);
}

#[test]
fn an_empty_variable_is_not_set() {
    let names = FLAGS.iter().flat_map(|flag| flag.variables);
    let env: Vec<(&str, &str)> = names.filter(|name| **name != "USE_PSEUDO_FILES").map(|name| (*name, "")).collect();
    assert_eq!(format!("{:?}", config(&[], &env)), format!("{:?}", config(&[], &[])));
}

#[test]
fn the_predecessor_s_switch_chooses_the_source_unless_source_does() {
    for (text, source) in [
        ("TRUE", SourceMode::Cgroup),
        ("yes", SourceMode::Cgroup),
        ("Enabled", SourceMode::Cgroup),
        ("1", SourceMode::Cgroup),
        ("false", SourceMode::DockerApi),
        ("No", SourceMode::DockerApi),
        ("DISABLED", SourceMode::DockerApi),
        ("0", SourceMode::DockerApi),
        ("", SourceMode::DockerApi),
    ] {
        let env = [("USE_PSEUDO_FILES", text)];
        assert_eq!(config(&[], &env).source, source, "{text:?}");
        assert_eq!(config(&["--source=auto"], &env).source, SourceMode::Auto, "{text:?}");
        assert_eq!(config(&[], &[env[0], ("SOURCE", "cgroup")]).source, SourceMode::Cgroup, "{text:?}");
    }
}

#[test]
fn the_predecessor_s_other_variables_mean_what_they_meant() {
    let directory = env!("CARGO_MANIFEST_DIR");
    let config = config(
        &[],
        &[
            ("CGROUP_DIRECTORY", directory),
            ("PROC_DIRECTORY", directory),
            ("DOCKER_CLIENT_URL", "unix://var/run/docker.sock"),
            ("CONTAINER_REFRESH_INTERVAL", "30"),
            ("REFRESH_INTERVAL", "60"),
        ],
    );
    assert_eq!((config.cgroup_root.to_str(), config.procfs_root.to_str()), (Some(directory), Some(directory)));
    assert_eq!(config.docker, [DockerEndpoint::Unix("/var/run/docker.sock".into())]);
    assert_eq!((config.resync_interval.as_secs(), config.min_interval.as_secs()), (30, 60));
}

#[test]
fn docker_urls_of_every_form() {
    for (url, endpoint) in [
        ("unix:///run/docker.sock", "unix:///run/docker.sock"),
        ("unix://run/docker.sock", "unix:///run/docker.sock"),
        ("tcp://10.0.0.1:2375", "http://10.0.0.1:2375"),
        ("tcp://proxy", "http://proxy:2375"),
        ("TCP://[::1]:1/", "http://[::1]:1"),
        ("http://proxy", "http://proxy:80"),
        ("http://proxy:2375/", "http://proxy:2375"),
    ] {
        assert_eq!(config(&["--docker.url", url], &[]).docker[0].to_string(), endpoint, "{url}");
    }
    // Plain HTTP stays plain, and an empty DOCKER_TLS_VERIFY is none, as with Docker's own client.
    let env = [("DOCKER_TLS_VERIFY", "1")];
    assert_eq!(config(&["--docker.url=http://proxy:1"], &env).docker, [DockerEndpoint::Tcp("proxy:1".to_owned())]);
    assert_eq!(
        config(&["--docker.url=tcp://proxy:1"], &[("DOCKER_TLS_VERIFY", "")]).docker[0].to_string(),
        "http://proxy:1"
    );
}

#[test]
fn several_engines_are_followed_and_one_that_is_given_twice_once() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let url = |name: &str| format!("unix://{}", at(name).display());
    std::os::unix::net::UnixListener::bind(at("docker.sock")).unwrap();
    std::os::unix::fs::symlink("docker.sock", at("link.sock")).unwrap();
    std::os::unix::fs::symlink(".", at("again")).unwrap();
    let urls = [url("docker.sock"), url("link.sock"), url("later.sock"), url("again/later.sock"), url("other.sock")];
    let shown = |urls: &[&str], env: &[(&str, &str)]| {
        let flags: Vec<String> = urls.iter().map(|url| format!("--docker.url={url}")).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        config(&flags, env).docker.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let expected = [url("docker.sock"), url("later.sock"), url("other.sock")];
    assert_eq!(shown(&urls.iter().map(String::as_str).collect::<Vec<_>>(), &[]), expected);
    let variable = urls.join(", ");
    assert_eq!(shown(&[], &[("DOCKER_CLIENT_URL", &variable)]), expected);
    assert_eq!(shown(&["tcp://a:1", "http://a:1", "tcp://b:1"], &[]), ["http://a:1", "http://b:1"]);
    assert_eq!(shown(&["unix:///with,comma"], &[]), ["unix:///with,comma"]);
}

#[test]
fn tls_takes_its_certificates_from_the_variable_or_from_home() {
    let home = tempfile::tempdir().unwrap();
    let certificates = home.path().join(".docker");
    std::fs::create_dir(&certificates).unwrap();
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        std::fs::write(certificates.join(name), "").unwrap();
    }
    let by_home = ("HOME", home.path().to_str().unwrap());
    let by_variable = ("DOCKER_CERT_PATH", certificates.to_str().unwrap());
    let tls = |address: &str| DockerEndpoint::Tls { address: address.to_owned(), certificates: certificates.clone() };
    assert_eq!(config(&["--docker.url=https://engine"], &[by_home]).docker, [tls("engine:443")]);
    assert_eq!(config(&["--docker.url=https://engine:7"], &[by_variable]).docker, [tls("engine:7")]);
    let verify = ("DOCKER_TLS_VERIFY", "0");
    assert_eq!(config(&["--docker.url=tcp://engine"], &[by_variable, verify]).docker, [tls("engine:2376")]);
}

#[test]
fn durations_of_every_form() {
    for (text, length) in [
        ("0", Duration::ZERO),
        ("120", Duration::from_mins(2)),
        ("1.5", Duration::from_millis(1500)),
        ("500ms", Duration::from_millis(500)),
        ("5m", Duration::from_mins(5)),
        ("1h30m", Duration::from_mins(90)),
        ("365d", Duration::from_hours(365 * 24)),
    ] {
        assert_eq!(config(&[], &[("REFRESH_INTERVAL", text)]).min_interval, length, "{text}");
    }
}

#[test]
fn collectors_are_switched_by_name_in_any_order() {
    let on = |args: &[&str]| config(args, &[]).collectors;
    let defaults = CollectorSet::defaults();
    assert_eq!(on(&["--collector.numa"]), defaults.with(Collector::Numa));
    assert_eq!(on(&["--no-collector.cpu"]), defaults.without(Collector::Cpu));
    assert_eq!(on(&["--collector.cpu=false"]), defaults.without(Collector::Cpu));
    assert_eq!(on(&["--no-collector.numa=false"]), defaults.with(Collector::Numa));
    assert_eq!(on(&["--no-collector.cpu", "--collector.cpu"]), defaults);
    let only_tcp = CollectorSet::EMPTY.with(Collector::Tcp);
    assert_eq!(on(&["--collector.tcp", "--collector.disable-defaults"]), only_tcp);
    assert_eq!(on(&["--collector.disable-defaults=true", "--collector.tcp=TRUE"]), only_tcp);
    assert_eq!(on(&["--collector.disable-defaults=false"]), defaults);
    assert!(on(&["--collector.ebpf_network"]).has(Collector::EbpfNetwork));
}

#[test]
fn labels_are_compose_s_and_swarm_s_or_those_that_are_named() {
    let raw = [("com.docker.compose.service", "web"), ("team", "a")];
    let exposed = |args: &[&str], env: &[(&str, &str)]| -> Vec<String> {
        let labels = config(args, env).labels.apply(&raw, &mut Dropped::default());
        labels.into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(exposed(&[], &[]), ["container_label_com_docker_compose_service"]);
    assert_eq!(exposed(&[], &[("CONTAINER_LABELS", "te*,x")]), ["container_label_team"]);
    assert_eq!(exposed(&["--containers.labels=te{am,st}", "--containers.labels=com.*"], &[]).len(), 2);
    assert!(exposed(&["--containers.labels="], &[("CONTAINER_LABELS", "*")]).is_empty());
}

#[test]
fn containers_are_chosen_by_repeated_and_listed_globs() {
    let filter = config(
        &["--containers.include=web-*,db", "--containers.include=label:tier=front", "--containers.exclude=*-test"],
        &[],
    )
    .filter;
    for (name, labels, chosen) in [
        ("web-1", &[][..], true),
        ("db", &[], true),
        ("x", &[("tier", "front")], true),
        ("x", &[], false),
        ("web-test", &[], false),
    ] {
        assert_eq!(filter.selects(name, filter.match_fixed("image", labels)), chosen, "{name}");
    }
}

#[test]
fn words_in_any_case() {
    let config =
        config(&["--metrics.schema=Both", "--ebpf=OFF"], &[("LOG_LEVEL", "WARNING"), ("LOG_FORMAT", " JSON ")]);
    assert_eq!((config.schema, config.ebpf, config.log_format), (Schema::Both, FeatureMode::Off, LogFormat::Json));
    assert_eq!(config.log_level, tracing::Level::WARN);
}

#[test]
fn the_command_stands_before_or_after_the_flags() {
    for args in [["doctor", "--web.listen-address=:1"], ["--web.listen-address=:1", "doctor"]] {
        let Ok(Command::Doctor(config)) = parse(&args, &[]) else { panic!("{args:?}") };
        assert_eq!(config.listen, [ListenAddress::Any(1)]);
    }
    let env = [("WEB_LISTEN_ADDRESS", "web:1,:2")];
    for (args, expected) in [
        (&["healthcheck"][..], (ListenAddress::Host("web".to_owned(), 1), false)),
        (
            &["healthcheck", "--web.listen-address=[::]:3", "--web.listen-address=:4"],
            (ListenAddress::Host("::".to_owned(), 3), true),
        ),
    ] {
        let Ok(Command::Healthcheck { address, is_given, .. }) = parse(args, &env) else { panic!("{args:?}") };
        assert_eq!((address, is_given), expected);
    }
}

#[test]
fn help_and_version_are_given_in_spite_of_errors() {
    let env = [("LOG_LEVEL", "loud")];
    assert!(matches!(parse(&["--nonsense", "--help"], &env), Ok(Command::Help(_))));
    assert!(matches!(parse(&["-h"], &env), Ok(Command::Help(_))));
    assert!(matches!(parse(&["doctor", "--log.level", "--help"], &env), Ok(Command::Help(_))));
    for flag in ["--version", "-V"] {
        let Ok(Command::Version(text)) = parse(&[flag], &env) else { panic!("{flag}") };
        assert!(text.starts_with(concat!("docker-stats-exporter ", env!("CARGO_PKG_VERSION"))), "{text}");
    }
    config(&["--help=false"], &[]);
}

#[test]
fn a_path_need_not_be_utf_8() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join(OsString::from_vec(b"caf\xe9".to_vec()));
    std::fs::create_dir(&directory).unwrap();
    let args = [OsString::from("--path.cgroup"), directory.clone().into_os_string()];
    let Ok(Command::Serve(config)) = Config::from(args, |_| None) else { panic!("refused") };
    assert_eq!(config.cgroup_root, directory);
}
