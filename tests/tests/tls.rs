//! `--web.config.file`, judged by curl, openssl and a real Prometheus: who gets in, who does not, and what strangers cost.

#[cfg(test)]
#[path = "tls/abuse.rs"]
mod abuse;
#[cfg(test)]
#[path = "tls/toolkit.rs"]
mod toolkit;
#[cfg(test)]
#[path = "tls/verdicts.rs"]
mod verdicts;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use exporter_tests::exporter::{binary, free_address};
use exporter_tests::fixture::Fixture;
use exporter_tests::wait::eventually;
use tempfile::TempDir;

/// A server with a web configuration; it ends with the value.
struct Server {
    address: SocketAddr,
    child: Child,
    directory: TempDir,
}

/// Makes keys and certificates: of the server, and of two clients that are their own authorities, the second with names.
fn make_keys(directory: &Path) -> Result<()> {
    let plans = [
        ("server", "subjectAltName=DNS:localhost,IP:127.0.0.1", "rsa:2048"),
        ("client", "basicConstraints=critical,CA:TRUE", "rsa:2048"),
        ("client2", "subjectAltName=DNS:test3", "rsa:2048"),
    ];
    for (name, extension, key) in plans {
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", key, "-nodes", "-days", "30", "-subj", "/CN=localhost"])
            .args(["-addext", extension, "-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")])
            .current_dir(directory)
            .output()?;
        ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

impl Server {
    fn start(yaml: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        make_keys(directory.path())?;
        Self::start_in(directory, yaml)
    }

    fn start_in(directory: TempDir, yaml: &str) -> Result<Self> {
        let path = directory.path().join("web.yml");
        fs::write(&path, yaml)?;
        let address = free_address()?;
        let log = directory.path().join("log");
        let child = command(&path, address)?.stderr(File::create(&log)?).spawn()?;
        let mut server = Self { address, child, directory };
        eventually(Duration::from_secs(30), "the server to listen", || {
            if let Some(status) = server.child.try_wait()? {
                bail!("it ended with {status}");
            }
            ensure!(server.log().contains("listening"), "not yet");
            Ok(())
        })
        .with_context(|| server.log())?;
        Ok(server)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Memory that the server holds.
    fn resident_kilobytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        Ok(fs::write(self.directory.path().join(name), content)?)
    }

    /// Asks with curl: HTTP status and what it printed.
    fn curl(&self, scheme: &str, path: &str, arguments: &[&str]) -> Result<(u16, String)> {
        let output = Command::new("curl")
            .args(["-sS", "-i", "--max-time", "60", "--cacert", "server.crt", "-w", "\n%{http_code}"])
            .args(arguments)
            .arg(format!("{scheme}://localhost:{}{path}", self.address.port()))
            .current_dir(self.directory.path())
            .output()?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text.rsplit('\n').next().and_then(|code| code.parse().ok()).unwrap_or(0);
        Ok((status, said))
    }

    fn healthcheck(&self) -> Result<Output> {
        let mut command = Command::new(binary()?);
        command.arg("healthcheck").arg(format!("--web.listen-address={}", self.address));
        Ok(command.arg(format!("--web.config.file={}", self.directory.path().join("web.yml").display())).output()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

fn command(web_config: &Path, address: SocketAddr) -> Result<Command> {
    let fixture = Fixture::open("debian12-v1-hybrid")?;
    let directory = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
    let mut command = Command::new(binary()?);
    command.args([
        directory("path.cgroup", &fixture.cgroup()),
        directory("path.procfs", &fixture.proc()),
        directory("web.config.file", web_config),
        format!("--web.listen-address={address}"),
        "--docker.url=unix:///nonexistent/docker.sock".to_owned(),
        "--log.level=debug".to_owned(),
    ]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Ok(command)
}
