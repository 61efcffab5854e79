//! A remote engine behind TLS: a server that is not ours, with certificates of both sides.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::ensure;
use exporter_tests::fake_engine::FakeEngine;
use exporter_tests::fixture::Fixture;
use exporter_tests::{Exporter, wait};
use tempfile::TempDir;

/// The least that waiting for an engine takes.
const SOON: Duration = Duration::from_secs(20);
const UP: &str = "docker_stats_exporter_docker_up";

/// $1: the directory, for a CA, a server and a client as Docker's clients name them.
const CERTIFICATES: &str = r"
set -e
cd $1
key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
openssl req -x509 $key -days 1 -subj /CN=ca -keyout ca-key.pem -out ca.pem
echo subjectAltName=DNS:localhost,IP:127.0.0.1 >names
for who in server client; do
    openssl req $key -subj /CN=$who -keyout $who-key.pem -out $who.csr
    openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 1 -extfile names -out $who.pem
done
mv client.pem cert.pem
mv client-key.pem key.pem
";

/// Asks each client for a certificate, and hands on what it says to a socket.
const SERVER: &str = r#"
import asyncio, ssl, sys
directory, engine = sys.argv[1:]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=directory + "/ca.pem")
context.verify_mode = ssl.CERT_REQUIRED
context.load_cert_chain(directory + "/server.pem", directory + "/server-key.pem")
async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
async def serve(reader, writer):
    of_engine, to_engine = await asyncio.open_unix_connection(engine)
    await asyncio.gather(pump(reader, to_engine), pump(of_engine, writer))
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"#;

fn certificates() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("sh").args(["-c", CERTIFICATES, "sh"]).arg(directory.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    directory
}

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(certificates: &Path, engine: &FakeEngine) -> Self {
        let url = engine.url();
        let socket = url.strip_prefix("unix://").unwrap();
        let mut command = Command::new("python3");
        command.args(["-c", SERVER]).arg(certificates).arg(socket).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

fn exporter(fixture: &Fixture, url: &str, certificates: &Path) -> Exporter {
    let builder = Exporter::builder().docker_url(url).env("DOCKER_CERT_PATH", certificates.to_str().unwrap());
    let builder = builder.flag(format!("--path.cgroup={}", fixture.cgroup().display()));
    let builder = builder.flag(format!("--path.procfs={}", fixture.proc().display()));
    builder.env("DOCKER_TLS_VERIFY", "1").start().unwrap()
}

#[test]
fn a_remote_engine_names_containers_over_tls() {
    let fixture = Fixture::open("debian13-v2-systemd").unwrap();
    let (engine, certificates) = (FakeEngine::captured(&fixture.docker()).unwrap(), certificates());
    let server = Server::start(certificates.path(), &engine);
    for url in [format!("https://localhost:{}", server.port), format!("tcp://127.0.0.1:{}", server.port)] {
        let exporter = exporter(&fixture, &url, certificates.path());
        let named = exporter.scrape_until(SOON, "names", |exposition| {
            let named = exposition.samples().filter(|sample| !sample.label("name").is_empty()).count();
            ensure!(named > 0 && exposition.value(UP, &[])? > 0.5, "no names");
            Ok(named)
        });
        named.unwrap_or_else(|error| panic!("{url}: {error:#}; {}", exporter.stderr()));
        exporter.stop().unwrap();
    }
}

#[test]
fn an_engine_with_a_certificate_of_somebody_else_is_not_believed() {
    let fixture = Fixture::open("debian13-v2-systemd").unwrap();
    let (engine, own, others) = (FakeEngine::captured(&fixture.docker()).unwrap(), certificates(), certificates());
    let server = Server::start(own.path(), &engine);
    let exporter = exporter(&fixture, &format!("https://localhost:{}", server.port), others.path());
    wait::eventually(SOON, "a hint on the engine's certificate", || {
        let log = exporter.stderr();
        ensure!(log.contains("is not accepted") && log.contains("ca.pem in DOCKER_CERT_PATH"), "{log}");
        Ok(())
    })
    .unwrap();
    let exposition = exporter.scrape().unwrap();
    assert!(exposition.value(UP, &[]).unwrap() < 0.5);
    assert!(exposition.samples().all(|sample| sample.label("name").is_empty()));
    exporter.stop().unwrap();
    assert!(engine.requests().is_empty());
}

#[test]
fn an_engine_that_refuses_our_certificate_is_told_apart() {
    let fixture = Fixture::open("debian13-v2-systemd").unwrap();
    let (own, others) = (certificates(), certificates());
    // OpenSSL sends the alert that an engine sends; Python's server closes the connection without one.
    let mut command = Command::new("openssl");
    command.current_dir(own.path()).args([
        "s_server",
        "-accept",
        "127.0.0.1:0",
        "-Verify",
        "1",
        "-verify_return_error",
    ]);
    command.args(["-cert", "server.pem", "-key", "server-key.pem", "-CAfile", "ca.pem"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(std::io::Result::ok);
    let mut ports = lines.filter_map(|line| line.strip_prefix("ACCEPT 127.0.0.1:")?.parse().ok());
    let server = Server { port: ports.next().unwrap(), child };
    // The engine's CA is known, and the client's certificate is of another one.
    std::fs::copy(own.path().join("ca.pem"), others.path().join("ca.pem")).unwrap();
    let exporter = exporter(&fixture, &format!("https://localhost:{}", server.port), others.path());
    wait::eventually(SOON, "a hint on the client's certificate", || {
        let log = exporter.stderr();
        ensure!(
            log.contains("refused this client") && log.contains("cert.pem and key.pem in DOCKER_CERT_PATH"),
            "{log}"
        );
        Ok(())
    })
    .unwrap();
    exporter.stop().unwrap();
}
