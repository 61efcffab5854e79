//! Tests of connecting to an engine, most of them against a scripted one, and of the view of several engines.

use std::path::PathBuf;

use super::{ContainerId, DockerEndpoint, Duration, Engine, Engines, Instant, Seen, SelfMetrics};
use crate::docker::Error;
use crate::docker::fake::{Fake, Odd, id, quick};
use crate::name::{ContainerInfo, Moment};

fn engine(endpoint: DockerEndpoint) -> Engine {
    Engine::with_timing(endpoint, SelfMetrics::new().unwrap(), quick())
}

#[tokio::test]
async fn an_engine_says_who_it_is() {
    let fake = Fake::start([]);
    let engine = engine(DockerEndpoint::Unix(fake.socket()));
    assert_eq!(engine.about(), None);
    let about = engine.connect().await.unwrap().about.clone();
    assert_eq!((about.version.as_str(), about.api.as_str()), ("20.10.24", "1.41"));
    assert_eq!(engine.about(), Some(about.clone()));
    engine.disconnect();
    assert_eq!(engine.about(), Some(about), "an outage does not change a label");
}

#[tokio::test]
async fn each_cause_is_told_with_its_hint() {
    let directory = tempfile::tempdir().unwrap();
    let missing = engine(DockerEndpoint::Unix(directory.path().join("no.sock"))).connect().await.unwrap_err();
    assert!(matches!(missing, Error::NoSocket { .. }), "{missing}");
    assert!(missing.to_string().contains("-v /var/run/docker.sock"), "{missing}");

    let dead = directory.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let refused = engine(DockerEndpoint::Unix(dead)).connect().await.unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused:?}");

    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = engine(DockerEndpoint::Tcp(port.to_string())).connect().await.unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused:?}");
}

/// As in a container into which the file of the socket was mounted before the engine was started again.
#[tokio::test]
async fn a_socket_that_was_removed_since_it_was_mounted_is_named_with_what_helps() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let flags = rustix::fs::OFlags::PATH;
    let held = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).unwrap();
    let seen = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held)));
    drop(listener);
    let stopped = engine(DockerEndpoint::Unix(seen.clone())).connect().await.unwrap_err();
    assert!(matches!(stopped, Error::Refused { .. }), "{stopped}");
    std::fs::remove_file(&path).unwrap();
    let stale = engine(DockerEndpoint::Unix(seen)).connect().await.unwrap_err();
    assert!(matches!(stale, Error::Stale { .. }), "{stale}");
    assert!(stale.to_string().contains("mount the directory"), "{stale}");
}

#[tokio::test]
async fn a_hanging_engine_is_given_up_in_time() {
    let fake = Fake::start([]);
    fake.world().hangs_at = Some("/".to_owned());
    let self_metrics = SelfMetrics::new().unwrap();
    let error = fake.engine(&self_metrics).connect().await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!(self_metrics.docker_requests.with_label_values(&["version", "timeout"]).get(), 1);
}

#[tokio::test]
async fn an_answer_that_comes_byte_by_byte_is_given_up_in_time() {
    let fake = Fake::start([]);
    let session = engine(DockerEndpoint::Unix(fake.socket())).connect().await.unwrap();
    fake.world().odd = vec![("/containers".to_owned(), Odd::Trickle)];
    let error = session.list(drop).await.unwrap_err();
    assert!(matches!(&error, Error::Timeout { after, .. } if *after == quick().whole), "{error}");
    let (a, began) = (id('a'), Instant::now());
    assert!(matches!(session.inspect(a).await, Err(Error::Timeout { .. })));
    assert!(began.elapsed() < quick().whole * 3);
    drop(tokio::time::timeout(quick().whole * 3, session.newest()).await.unwrap().unwrap_err());
}

#[tokio::test]
async fn a_proxy_that_refuses_everything_is_named() {
    let fake = Fake::start([]);
    fake.world().allows = |_| false;
    let self_metrics = SelfMetrics::new().unwrap();
    let error = fake.engine(&self_metrics).connect().await.unwrap_err();
    assert!(error.to_string().contains("403") && error.to_string().contains("proxy"), "{error}");
    assert_eq!(self_metrics.docker_requests.with_label_values(&["version", "403"]).get(), 3, "with and without prefix");
}

#[tokio::test]
async fn something_else_than_an_engine_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("other.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            drop(tokio::io::AsyncWriteExt::write_all(&mut stream, b"SSH-2.0-OpenSSH_9\r\n").await);
        }
    });
    let error = engine(DockerEndpoint::Unix(socket)).connect().await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error:?}");
    server.abort();
}

#[tokio::test]
async fn a_missing_certificate_is_named() {
    let certificates = PathBuf::from("/nowhere");
    let endpoint = DockerEndpoint::Tls { address: "127.0.0.1:1".to_owned(), certificates };
    let error = engine(endpoint).connect().await.unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/key.pem"), "{error}");
    assert!(error.to_string().contains("DOCKER_CERT_PATH"), "{error}");
}

fn engines(count: usize) -> Engines {
    let endpoints: Vec<_> = (0..count).map(|number| DockerEndpoint::Unix(format!("/e{number}").into())).collect();
    Engines::new(&endpoints, Duration::from_mins(5), &SelfMetrics::of_engines(count).unwrap())
}

fn tell(engines: &Engines, engine: usize, id: ContainerId, name: &str) {
    let info = ContainerInfo { name: name.to_owned(), ..ContainerInfo::unknown(id) };
    engines.members[engine].store.upsert(info);
}

fn name(engines: &Engines, id: ContainerId) -> String {
    engines.names().containers[&id].name.clone()
}

#[test]
fn a_container_belongs_to_the_first_engine_for_which_it_exists() {
    let engines = engines(3);
    tell(&engines, 2, id('a'), "claimed");
    assert_eq!((name(&engines, id('a')).as_str(), engines.names().engine_of(id('a'))), ("claimed", Some(2)));
    tell(&engines, 1, id('a'), "its own");
    tell(&engines, 1, id('b'), "other");
    assert_eq!((name(&engines, id('a')).as_str(), engines.names().engine_of(id('a'))), ("its own", Some(1)));
    engines.members[1].store.remove(id('a'), Moment::now());
    assert_eq!(name(&engines, id('a')), "claimed");
    assert_eq!(engines.names().engine_of(id('b')), Some(1));
    assert_eq!(engines.names().engine_of(id('c')), None);
}

#[test]
fn the_view_changes_only_where_an_engine_says_something_else() {
    let engines = engines(2);
    tell(&engines, 0, id('a'), "web");
    let before = engines.names();
    tell(&engines, 0, id('a'), "web");
    assert!(std::sync::Arc::ptr_eq(&before, &engines.names()));
    tell(&engines, 1, id('b'), "db");
    assert!(engines.names().generation > before.generation);
}

#[test]
fn a_doubt_is_for_the_engine_that_told_of_the_container() {
    let engines = engines(2);
    tell(&engines, 0, id('a'), "web");
    engines.raise_doubts(&[(id('a'), Seen::Running)], &engines.names());
    let open = |engine: usize| engines.members[engine].engine.doubts().are_left(&engines.members[engine].store.names());
    assert!(open(0) && !open(1));
    engines.raise_doubts(&[(id('b'), Seen::Running)], &engines.names());
    assert!(open(1), "no engine has reported it");
    engines.scraped(Instant::now());
    assert!(engines.members().all(|member| member.store.is_scraped(Instant::now())));
}

#[test]
fn one_engine_is_its_own_view_and_each_has_its_own_gauge() {
    let one = engines(1);
    tell(&one, 0, id('a'), "web");
    assert!(std::sync::Arc::ptr_eq(&one.names(), &one.members[0].store.names()));
    assert_eq!(one.names().engine_of(id('a')), Some(0));
    let three = engines(3);
    three.members[1].engine.set_up(true);
    assert_eq!(three.answering(), 0b010);
}
