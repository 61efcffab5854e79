//! `cargo xtask capture`: copies the containers of this host into a fixture, a tree of plain files that the exporter can
//! serve anywhere (`--path.cgroup`, `--path.procfs`).
//!
//! Fixtures are published, so only listed data is copied: cgroups and processes of containers, and the listed keys of the
//! engine's answers. Command lines, environments, host names, mounts and addresses of the host are not copied.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use docker_stats_exporter::discover::{ContainerId, Hierarchy, find_all};
use serde_json::{Map, Value};

use crate::sh::say;
use crate::workspace;

const USAGE: &str = "\
usage: cargo xtask capture [--name HOST] [--output DIR] [--container NAME]... [--docker SOCKET | --docker none]

  --name HOST       directory of the fixture: what is special about this host (debian12-v1-hybrid)
  --output DIR      where that directory is made; default: tests/fixtures
  --container NAME  only this container; may be given several times; default: all
  --docker SOCKET   the engine's Unix socket; default: DOCKER_HOST, else /var/run/docker.sock";

/// Trees whose files the exporter reads, or that show the state of a container.
const TREES: &str = "blkio cpu cpuacct cpuset freezer hugetlb memory pids unified";

/// Files of a cgroup tree's root. They identify the tree, and hold the host's totals on v2.
const ROOT_FILES: &str = "cgroup.controllers cgroup.subtree_control cpu.stat io.stat memory.stat cpu.pressure io.pressure \
    memory.pressure";

/// Greatest length of a file in bytes. The exporter reads no longer files.
const MAX_LENGTH: usize = 64 * 1024;

/// Reduces a file's text to the part that is copied.
type Reduce = fn(&str) -> String;

/// Files of the host in `/proc`, each with the function that reduces it.
const HOST_FILES: &[(&str, Reduce)] = &[
    ("cpuinfo", cpuinfo),
    ("diskstats", str::to_owned),
    ("meminfo", str::to_owned),
    ("stat", stat),
    ("vmstat", str::to_owned),
    ("pressure/cpu", str::to_owned),
    ("pressure/io", str::to_owned),
    ("pressure/memory", str::to_owned),
    ("sys/kernel/osrelease", release),
    ("1/net/dev", interfaces),
];

/// Files of a container's process, none of which holds a command line or an environment.
const PROCESS_FILES: &[&str] = &["cgroup", "limits", "stat"];

/// Files of a network namespace of a container's own.
const NETWORK_FILES: &[&str] = &["net/dev", "net/tcp", "net/tcp6", "net/udp", "net/udp6"];

/// Keys of the engine's answers that are copied.
const VERSION: &str = "Version ApiVersion MinAPIVersion Os Arch";
const INFO: &str = "CgroupDriver CgroupVersion";
const LIST: &str = "Id Names Image ImageID Created State Status Labels HostConfig/NetworkMode";
const INSPECT: &str = "Id Name Created Image RestartCount State/Status State/Running State/Paused State/Restarting \
    State/OOMKilled State/Dead State/Pid State/ExitCode State/StartedAt State/FinishedAt State/Health/Status \
    State/Health/FailingStreak Config/Image Config/Labels HostConfig/NetworkMode HostConfig/PidMode HostConfig/Runtime \
    HostConfig/RestartPolicy HostConfig/CgroupParent HostConfig/ReadonlyRootfs HostConfig/CpuShares HostConfig/CpuPeriod \
    HostConfig/CpuQuota HostConfig/NanoCpus HostConfig/Memory HostConfig/MemorySwap HostConfig/MemoryReservation \
    HostConfig/PidsLimit HostConfig/BlkioDeviceWriteBps";

/// Prefixes of the copied labels, which Docker's own tools set. Other labels may hold private data.
const LABEL_PREFIXES: &[&str] = &["com.docker.", "org.opencontainers."];

/// Settings of a container that the manifest lists as flags of `docker run`, if they differ from the default.
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

/// The options of the command line.
struct Request {
    output: PathBuf,
    name: String,
    only: Vec<String>,
    docker: Option<PathBuf>,
}

/// Captures the containers, and prints what was captured.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let request = parse(arguments)?;
    let target = request.output.join(&request.name);
    ensure!(!target.exists(), "{} is there already: remove it or give another --name", target.display());
    capture(&request, &target).inspect_err(|_| {
        // Half a fixture would pass for a whole one.
        fs::remove_dir_all(&target).unwrap_or_default();
    })?;
    say(&format!("captured into {}; look it through, then: cargo xtask bless", target.display()));
    Ok(())
}

fn parse(arguments: &[&str]) -> anyhow::Result<Request> {
    let output = workspace::root().join("tests/fixtures");
    let mut request = Request { output, name: String::new(), only: Vec::new(), docker: None };
    let mut docker = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "/var/run/docker.sock".to_owned());
    let mut words = arguments.iter();
    while let Some(flag) = words.next() {
        let mut value = || words.next().with_context(|| format!("{flag} wants a value\n\n{USAGE}"));
        match *flag {
            "--name" => (*value()?).clone_into(&mut request.name),
            "--output" => request.output = PathBuf::from(value()?),
            "--container" => request.only.push((*value()?).to_owned()),
            "--docker" => (*value()?).clone_into(&mut docker),
            _ => bail!("`{flag}` is not known\n\n{USAGE}"),
        }
    }
    ensure!(!request.name.is_empty() && !request.name.contains('/'), "--name is missing\n\n{USAGE}");
    request.docker = (docker != "none").then(|| PathBuf::from(docker.strip_prefix("unix://").unwrap_or(&docker)));
    Ok(request)
}

fn capture(request: &Request, target: &Path) -> anyhow::Result<()> {
    let answers = match &request.docker {
        Some(socket) => Answers::ask(socket, &request.only)?,
        None => Answers::default(),
    };
    let hierarchy = Hierarchy::detect("/sys/fs/cgroup".as_ref())?;
    let is_wanted = |id: ContainerId| request.only.is_empty() || answers.inspect.contains_key(&id.to_string());
    let mut containers = find_all(hierarchy.searched());
    containers.retain(|(_, path)| {
        path.split('/').filter_map(|name| ContainerId::from_cgroup_name(name.as_bytes())).all(is_wanted)
    });
    ensure!(!containers.is_empty(), "no running container: start some, or name others with --container");

    let cgroups = target.join("sys/fs/cgroup");
    let mut processes = BTreeSet::new();
    for tree in hierarchy.searched() {
        let name = tree.path.strip_prefix(hierarchy.root())?;
        let is_listed = |part: &str| part.is_empty() || TREES.split(' ').any(|listed| listed == part);
        if !name.to_string_lossy().split(',').any(is_listed) {
            continue;
        }
        let into = cgroups.join(name);
        for name in ROOT_FILES.split_whitespace() {
            copy_file(&tree.path.join(name), &into.join(name))?;
        }
        for (_, path) in &containers {
            let path = path.trim_start_matches('/');
            copy_cgroup(&tree.path.join(path), &into.join(path), &mut processes)?;
        }
    }
    copy_processes(&processes, &target.join("proc"))?;
    answers.write(&target.join("docker"))?;
    let is_systemd = containers.iter().any(|(_, path)| Path::new(path).extension().is_some_and(|kind| kind == "scope"));
    write(&target.join("FIXTURE.toml"), manifest(&request.name, &hierarchy, is_systemd, &answers).as_bytes())?;
    say(&format!("{} containers, {} cgroup", containers.len(), hierarchy.kind()));
    Ok(())
}

/// Copies a container's directory and those in it that are no containers of their own (those are captured by themselves), and
/// notes its processes. A tree that the container is not in has nothing to copy.
fn copy_cgroup(from: &Path, to: &Path, processes: &mut BTreeSet<u32>) -> anyhow::Result<()> {
    for entry in fs::read_dir(from).into_iter().flatten() {
        let entry = entry?;
        let (kind, name) = (entry.file_type()?, entry.file_name());
        let nested = ContainerId::from_cgroup_name(name.as_encoded_bytes()).is_some();
        if kind.is_file() {
            copy_file(&entry.path(), &to.join(name))?;
        } else if kind.is_dir() && !nested {
            copy_cgroup(&entry.path(), &to.join(name), processes)?;
        }
    }
    // The list of a threaded cgroup cannot be read; its processes are in the domain's.
    let list = fs::read_to_string(from.join("cgroup.procs")).unwrap_or_default();
    processes.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()));
    Ok(())
}

/// Copies what can be read: some files are for writing only, some say that the kernel does not support them.
fn copy_file(from: &Path, to: &Path) -> anyhow::Result<()> {
    match fs::read(from) {
        Ok(content) if content.len() <= MAX_LENGTH => write(to, &content),
        _ => Ok(()),
    }
}

fn copy_processes(processes: &BTreeSet<u32>, target: &Path) -> anyhow::Result<()> {
    for (name, copied) in HOST_FILES {
        // Without PSI there is no pressure directory.
        if let Ok(text) = fs::read_to_string(Path::new("/proc").join(name)) {
            write(&target.join(name), copied(&text).as_bytes())?;
        }
    }
    let host = host_namespace();
    if let Some(namespace) = &host {
        link(namespace, &target.join("1/ns/net"))?;
    }
    let mut copied = 0;
    for pid in processes {
        copied += usize::from(copy_process(*pid, target, host.as_deref())?);
    }
    ensure!(copied > 0, "no process of a container could be read in /proc: run this as root on the host");
    Ok(())
}

/// Copies one process; false where it has ended meanwhile.
fn copy_process(pid: u32, target: &Path, host: Option<&Path>) -> anyhow::Result<bool> {
    let (from, to) = (Path::new("/proc").join(pid.to_string()), target.join(pid.to_string()));
    let Ok(namespace) = fs::read_link(from.join("ns/net")) else { return Ok(false) };
    let own = host != Some(namespace.as_path());
    for name in PROCESS_FILES.iter().chain(NETWORK_FILES) {
        let Ok(text) = fs::read_to_string(from.join(name)) else { continue };
        match *name {
            "net/dev" if !own => write(&to.join(name), interfaces(&text).as_bytes())?,
            // Sockets of the host are the host's business.
            name if !own && NETWORK_FILES.contains(&name) => {}
            name => write(&to.join(name), text.as_bytes())?,
        }
    }
    link(&namespace, &to.join("ns/net"))?;
    Ok(true)
}

/// The host's network namespace. Pid 1 may be out of reach; where we see the interfaces that it sees, ours is the same.
fn host_namespace() -> Option<PathBuf> {
    let names = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
        Some(text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect::<Vec<_>>())
    };
    fs::read_link("/proc/1/ns/net").ok().or_else(|| {
        let is_same = names("1").is_some() && names("1") == names("self");
        is_same.then(|| fs::read_link("/proc/self/ns/net").ok())?
    })
}

/// A link that points nowhere, as in `/proc`: what it says is the fact.
fn link(fact: &Path, path: &Path) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    symlink(fact, path).with_context(|| path.display().to_string())
}

/// Writes a file and the directories above it.
fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    fs::write(path, content).with_context(|| path.display().to_string())
}

/// The engine's answers, reduced to keys that name a container, its state and its limits.
#[derive(Default)]
struct Answers {
    version: Value,
    info: Value,
    list: Vec<Value>,
    inspect: BTreeMap<String, Value>,
    stats: BTreeMap<String, Value>,
}

impl Answers {
    /// Asks for everything; of the containers only those with one of the names, where some are given.
    fn ask(socket: &Path, names: &[String]) -> anyhow::Result<Self> {
        let get = |path: &str| {
            get(socket, path).with_context(|| {
                format!("{} {path}: is an engine running? (--docker none captures without names)", socket.display())
            })
        };
        let (version, info) = (pick(&get("/version")?, VERSION), pick(&get("/info")?, INFO));
        let mut answers = Self { version, info, ..Self::default() };
        let list = get("/containers/json?all=1")?;
        for entry in list.as_array().context("the list is no list")? {
            if !names.is_empty() && !name_of(entry).is_some_and(|name| names.iter().any(|wanted| wanted == name)) {
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
        let found: Vec<&str> = answers.list.iter().filter_map(name_of).collect();
        let missing: Vec<&str> = names.iter().map(String::as_str).filter(|name| !found.contains(name)).collect();
        ensure!(missing.is_empty(), "no container is called {}", missing.join(" nor "));
        Ok(answers)
    }

    /// Writes one file per answer.
    fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let file = |name: &str, value: &Value| {
            write(&directory.join(format!("{name}.json")), format!("{value:#}\n").as_bytes())
        };
        file("version", &self.version)?;
        file("info", &self.info)?;
        file("list", &Value::Array(self.list.clone()))?;
        self.inspect.iter().try_for_each(|(id, value)| file(&format!("inspect-{id}"), value))?;
        self.stats.iter().try_for_each(|(id, value)| file(&format!("stats-{id}"), value))
    }
}

fn name_of(entry: &Value) -> Option<&str> {
    Some(entry.pointer("/Names/0")?.as_str()?.trim_start_matches('/'))
}

/// A copy with only these paths (`/` between keys), and only harmless labels.
fn pick(value: &Value, paths: &str) -> Value {
    let mut picked = Value::Object(Map::new());
    for path in paths.split_whitespace() {
        let Some(mut found) = value.pointer(&format!("/{path}")).cloned() else { continue };
        if let (true, Value::Object(labels)) = (path.ends_with("Labels"), &mut found) {
            labels.retain(|key, _| LABEL_PREFIXES.iter().any(|prefix| key.starts_with(prefix)));
        }
        insert(&mut picked, path, found);
    }
    picked
}

fn insert(target: &mut Value, path: &str, value: Value) {
    let Value::Object(map) = target else { return };
    match path.split_once('/') {
        None => drop(map.insert(path.to_owned(), value)),
        Some((key, rest)) => insert(map.entry(key).or_insert_with(|| Value::Object(Map::new())), rest, value),
    }
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

/// `FIXTURE.toml`: which host this was, and how each container was configured. Writing into a string cannot fail.
fn manifest(name: &str, hierarchy: &Hierarchy, is_systemd: bool, answers: &Answers) -> String {
    let kernel = release(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default());
    let driver = if is_systemd { "systemd" } else { "cgroupfs" };
    let engine = answers.version.get("Version").and_then(Value::as_str).unwrap_or_default();
    let mut text = format!(
        "# Made by `cargo xtask capture`; see ../README.md.\nname = {name:?}\nkernel = {:?}\nhierarchy = \"{}\"\ndriver = \
         {driver:?}\nengine = {engine:?}\n",
        kernel.trim(),
        hierarchy.kind(),
    );
    let word = |container: &Value, key: &str| {
        let word = container.pointer(key).and_then(Value::as_str).unwrap_or_default();
        word.trim_start_matches('/').to_owned()
    };
    let mut containers: Vec<&Value> = answers.inspect.values().collect();
    containers.sort_by_key(|container| word(container, "/Name"));
    for container in containers {
        let (name, id, state) = (word(container, "/Name"), word(container, "/Id"), word(container, "/State/Status"));
        _ = write!(text, "\n[[container]]\nname = {name:?}\nid = {id:?}\nstate = {state:?}\n");
        for (pointer, option) in OPTIONS {
            _ = match container.pointer(pointer).filter(|value| is_set(value)) {
                None => Ok(()),
                Some(value @ (Value::Number(_) | Value::Bool(_))) => writeln!(text, "{option} = {value}"),
                Some(Value::String(value)) => writeln!(text, "{option} = {value:?}"),
                Some(value) => writeln!(text, "{option} = {:?}", value.to_string().replace('"', "'")),
            };
        }
    }
    text
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

/// Of `/proc/cpuinfo`: how many CPUs, cores and packages there are.
fn cpuinfo(text: &str) -> String {
    const COPIED: &[&str] = &["processor", "physical id", "siblings", "core id", "cpu cores", ""];
    lines(text, |line| COPIED.contains(&line.split(':').next().unwrap_or_default().trim()))
}

/// Of `/proc/stat`: everything but the counts of every single interrupt.
fn stat(text: &str) -> String {
    lines(text, |line| !line.starts_with("intr") && !line.starts_with("softirq"))
}

/// Of the kernel's release: the version. What a vendor or an owner appends tells whose machine it is.
fn release(text: &str) -> String {
    let end = text.find(|character: char| character != '.' && !character.is_ascii_digit()).unwrap_or(text.len());
    format!("{}\n", text.get(..end).unwrap_or_default())
}

fn lines(text: &str, is_copied: impl Fn(&str) -> bool) -> String {
    text.lines().filter(|line| is_copied(line)).flat_map(|line| [line, "\n"]).collect()
}

/// Of the host's `net/dev`: interfaces under generic names. Names of bridges and veth pairs are random, names of tunnels
/// may tell a provider or a customer.
fn interfaces(text: &str) -> String {
    let (mut veth, mut bridge, mut other) = (0.., 0.., 0..);
    let mut copied = String::new();
    for line in text.lines() {
        let Some((name, counters)) = line.split_once(':') else {
            copied.extend([line, "\n"]);
            continue;
        };
        let name = name.trim();
        let generic = match name {
            "lo" | "docker0" => name.to_owned(),
            _ if is_physical(name) => name.to_owned(),
            _ if name.starts_with("veth") => format!("veth{:07x}", veth.next().unwrap_or(0)),
            _ if name.starts_with("br-") => format!("br-{:012x}", bridge.next().unwrap_or(0)),
            _ => format!("dummy{}", other.next().unwrap_or(0)),
        };
        copied.extend([format!("{generic:>6}:{counters}\n")]);
    }
    copied
}

/// `eth0`, `ens3`, `enp0s31f6`: the kernel's or systemd's name for a slot of the machine.
fn is_physical(name: &str) -> bool {
    let rest = name.strip_prefix("eth").or_else(|| name.strip_prefix("ens")).or_else(|| name.strip_prefix("enp"));
    rest.is_some_and(|rest| {
        !rest.is_empty() && rest.len() <= 6 && rest.starts_with(|first: char| first.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{INSPECT, cpuinfo, interfaces, pick, release};

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

    #[test]
    fn no_name_of_the_host_s_choosing_is_copied() {
        let text =
            "Inter-|   Receive\n face |bytes\n    lo: 1 2\n  eth0: 3\nveth7ad3e6b: 4\nbr-305b61b3035a: 5\nwg-acme: 6\n";
        assert_eq!(
            interfaces(text),
            "Inter-|   Receive\n face |bytes\n    lo: 1 2\n  eth0: 3\nveth0000000: 4\nbr-000000000000: 5\ndummy0: 6\n"
        );
    }

    #[test]
    fn of_the_kernel_only_the_version_is_copied() {
        assert_eq!(release("6.18.44-acme-7\n"), "6.18.44\n");
    }

    #[test]
    fn of_the_processor_only_numbers_are_copied() {
        let text = "processor\t: 0\nmodel name\t: Secret 9000\nphysical id\t: 0\n\nprocessor\t: 1\n";
        assert_eq!(cpuinfo(text), "processor\t: 0\nphysical id\t: 0\n\nprocessor\t: 1\n");
    }
}
