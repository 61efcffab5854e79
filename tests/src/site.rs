//! Hosts of a test's own: each has a Docker engine at the usual places, and a network, mounts, processes and a name that are its own. A
//! bridge joins them. For files of `deploy/`, which run as they are. Whatever becomes of the test, the kernel ends all that runs there.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::engine::{self, image, run};
use crate::wait::eventually;

/// The network of all hosts of a site; nobody else is in it.
const SUBNET: &str = "10.213.7";

/// The first process of a host, with its directory and its name as arguments: makes its places, waits for its network, runs its engine.
const HOST: &str = r#"
set -e
directory=$1 name=$2
mount -t tmpfs none /run
mkdir -p "$directory/docker"
mount --bind "$directory/docker" /var/lib/docker
hostname "$name"
ip link set lo up
echo ready
read -r _
dockerd --host=unix:///run/docker.sock --host="unix://$directory/docker.sock" --log-level=warn >"$directory/log" 2>&1 </dev/null &
wait $!
"#;

/// What the switch of a site does: nothing, in a network of its own.
const SWITCH: &str = "ip link add br0 type bridge && ip link set br0 up && echo ready && read -r _";

/// A network, to which hosts are added.
pub struct Site {
    hosts: Vec<Host>,
    // Dropped last.
    switch: Namespaces,
}

/// A host with an engine.
pub struct Host {
    /// What it calls itself.
    pub name: String,
    /// Its address in the site.
    pub address: String,
    namespaces: Namespaces,
    directory: TempDir,
}

/// The first process of namespaces; all others end with it.
struct Namespaces {
    child: Child,
    /// The first process in them, as this machine counts.
    pid: u32,
}

impl Namespaces {
    /// Starts the script in namespaces of these kinds, and waits until it says `ready`.
    fn start(kinds: &[&str], script: &str, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare"]).args(kinds);
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, "host"]).args(arguments);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("setpriv and unshare")?;
        let mut made = Self { child, pid: 0 };
        let mut said = std::io::BufReader::new(made.child.stdout.take().context("no stdout")?);
        let mut line = String::new();
        std::io::BufRead::read_line(&mut said, &mut line)?;
        ensure!(line == "ready\n", "the namespaces of a host could not be made; that takes root and iproute2");
        let parent = made.child.id();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        made.pid = children.trim().parse().with_context(|| format!("children of unshare: {children:?}"))?;
        Ok(made)
    }

    /// A command in these namespaces.
    fn command(&self, kinds: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.pid)).args(kinds).args(words);
        command
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

impl Site {
    /// A site of hosts with these names, whose engines answer.
    ///
    /// # Errors
    /// Not root, or an engine does not start.
    pub fn start(names: &[&str]) -> Result<Self> {
        for directory in ["/var/lib/docker", "/run"] {
            ensure!(Path::new(directory).exists(), "there is no {directory}: apt-get install docker.io");
        }
        let switch = Namespaces::start(&["--net", "--mount"], SWITCH, &[])?;
        let mut site = Self { hosts: Vec::new(), switch };
        for name in names {
            site.add(name)?;
        }
        for host in &site.hosts {
            eventually(Duration::from_mins(2), "the engine of a host", || host.docker(&["version"]))
                .with_context(|| fs::read_to_string(host.path("log")).unwrap_or_default())?;
        }
        Ok(site)
    }

    fn add(&mut self, name: &str) -> Result<()> {
        let directory = tempfile::Builder::new().prefix("dse-host-").tempdir_in("/var/tmp")?;
        let path = directory.path().display().to_string();
        let mut namespaces = Namespaces::start(&["--net", "--mount", "--uts"], HOST, &[&path, name])?;
        let number = self.hosts.len() + 1;
        let (link, pid) = (format!("host{number}"), namespaces.pid.to_string());
        let address = format!("{SUBNET}.{number}");
        run(&mut self.switch.command(
            &["--net"],
            &["ip", "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid],
        ))?;
        run(&mut self.switch.command(&["--net"], &["ip", "link", "set", &link, "master", "br0", "up"]))?;
        let inside = |words: &[&str]| run(&mut namespaces.command(&["--net"], words));
        inside(&["ip", "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
        inside(&["ip", "link", "set", "eth0", "up"])?;
        inside(&["ip", "route", "add", "default", "via", &format!("{SUBNET}.254"), "onlink", "dev", "eth0"])?;
        let stdin = namespaces.child.stdin.as_mut().context("no stdin")?;
        stdin.write_all(b"go\n")?;
        self.hosts.push(Host { name: name.to_owned(), address, namespaces, directory });
        Ok(())
    }

    /// The hosts, in the order of their names.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }
}

impl Host {
    /// A file in the directory of the host.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `DOCKER_HOST` of its engine, for clients outside.
    #[must_use]
    pub fn engine(&self) -> String {
        format!("unix://{}", self.path("docker.sock").display())
    }

    /// Runs the docker CLI.
    ///
    /// # Errors
    /// It says no.
    pub fn docker(&self, arguments: &[&str]) -> Result<String> {
        run(engine::command(&self.engine()).args(arguments))
    }

    /// Runs a container of the image of all tests: options, and what it runs.
    ///
    /// # Errors
    /// The image cannot be made, or the engine says no.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Result<String> {
        image::build(&self.engine())?;
        self.docker(&[&["run", "--detach"], options, &[image::NAME], command].concat())
    }

    /// A command on this host.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        self.namespaces.command(&["--net", "--mount", "--uts", "--pid"], words)
    }

    /// What curl gets from a URL, on this host.
    ///
    /// # Errors
    /// No answer, or another status than 200.
    pub fn get(&self, url: &str) -> Result<String> {
        run(&mut self.command(&["curl", "--silent", "--show-error", "--fail", "--max-time", "30", url]))
    }

    /// An instant query to a server of Prometheus' API, at `http://ADDRESS:PORT`: its result vector.
    ///
    /// # Errors
    /// No answer, or no vector.
    pub fn query(&self, server: &str, query: &str) -> Result<Vec<Value>> {
        let words = ["curl", "--silent", "--fail", "--max-time", "30", "--get", "--data-urlencode"];
        let (query, url) = (format!("query={query}"), format!("{server}/api/v1/query"));
        let text = run(&mut self.command(&[&words[..], &[&query, &url]].concat()))?;
        let answer: Value = serde_json::from_str(&text)?;
        answer.pointer("/data/result").and_then(Value::as_array).cloned().with_context(|| text)
    }

    /// Makes an image of a program of this machine, its libraries, and files that it looks for in this place. With directories that the
    /// program writes to, `nobody` owns them and runs it.
    ///
    /// # Errors
    /// A program is missing, or the engine says no.
    pub fn make_image(&self, tag: &str, program: &Path, files: &[PathBuf], own: &[&str]) -> Result<()> {
        let context = tempfile::tempdir()?;
        let root = context.path().join("root");
        let target = format!("/bin/{}", program.file_name().unwrap_or_default().to_string_lossy());
        let copy = |from: &Path, place: &str| -> Result<()> {
            let to = root.join(place.trim_start_matches('/'));
            fs::create_dir_all(to.parent().unwrap_or(&root))?;
            fs::copy(from, &to).with_context(|| from.display().to_string()).map(drop)
        };
        copy(program, &target)?;
        for file in libraries(program)?.iter().chain(files) {
            copy(file, &file.to_string_lossy())?;
        }
        for directory in own {
            fs::create_dir_all(context.path().join("own").join(directory.trim_start_matches('/')))?;
        }
        let mut lines = vec!["FROM scratch".to_owned(), "COPY root /".to_owned()];
        if let Some(first) = own.first() {
            lines.extend([
                "COPY --chown=65534:65534 own /".to_owned(),
                format!("WORKDIR {first}"),
                "USER 65534".to_owned(),
            ]);
        }
        lines.push(format!("ENTRYPOINT [\"{target}\"]"));
        fs::write(context.path().join("Dockerfile"), lines.join("\n"))?;
        let mut command = engine::command(&self.engine());
        run(command.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", tag]).arg(context.path())).map(drop)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The cgroups of containers go only with the containers; nobody can be told of a failure here.
        let script = "docker swarm leave --force; docker ps --all --quiet | xargs -r docker rm --force --volumes";
        let mut command = Command::new("timeout");
        command.args(["60", "sh", "-c", script]).env("DOCKER_HOST", self.engine()).env_remove("DOCKER_CONTEXT");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().map(drop).unwrap_or_default();
    }
}

/// The files that the loader of dynamic programs would open for this one.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(paths.filter(|path| path.is_file() && path != program).collect())
}
