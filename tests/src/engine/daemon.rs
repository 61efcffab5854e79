//! A `dockerd` of ours, owned by a small shell that outlives a killed test and then stops the daemon.
//!
//! The shell starts the daemon and waits for an end that the kernel reports (its stdin closes, or a lock becomes
//! free), whatever happened to the test process. No exit hook could do that.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::await_answer;

/// A guard against hanging: a busy machine takes a minute.
const PATIENCE: Duration = Duration::from_mins(3);

/// When the keeper stops the daemon.
#[derive(Clone, Debug)]
pub(super) enum Until {
    /// When the test process that started it closes the pipe, or ends.
    StdinCloses,
    /// When nobody has held the lock for a few seconds.
    LockIsFree(PathBuf),
}

/// $1: directory, $2: lock file or empty, $3: bridge; the rest is the daemon's command line. The word `stop` on stdin
/// leaves all that the engine has; any other end takes its containers, its networks and its files away.
///
/// The bridge is made by us because `--bridge=none` would delete the `docker0` of another engine on this host. An engine
/// that one test has for itself works in a network namespace that is called as its bridge: whatever becomes of it, nothing
/// is left on the host's network.
const KEEPER: &str = r#"
# When the test is killed while it has the daemon frozen, the kernel sends this group a hangup.
trap '' HUP
directory=$1 lock=$2 bridge=$3; shift 3
enter=
if [ -z "$lock" ]; then
    [ -e "/run/netns/$bridge" ] || ip netns add "$bridge"
    enter="nsenter --net=/run/netns/$bridge"
fi
$enter ip link show "$bridge" >/dev/null 2>&1 || $enter ip link add "$bridge" type bridge
serve() {
    # The containerd of a daemon that was killed, or its number alone, which another process may have by now: the next
    # daemon would wait for it.
    old=$(cat "$directory/exec/containerd/containerd.pid" 2>/dev/null)
    [ -z "$old" ] || ! grep -qs "$directory" "/proc/$old/cmdline" || kill -KILL "$old"
    rm -f "$directory/exec/containerd/containerd.pid" "$directory/dockerd.pid"
    $enter "$@" </dev/null >>"$directory/log" 2>&1 &
    daemon=$!
    echo $daemon >"$directory/daemon.pid"
}
serve "$@"
word=
if [ -n "$lock" ]; then
    exec 9>>"$lock"
    while flock -x 9; flock -u 9; sleep 4; ! flock -n -x 9; do :; done
else
    read -r word
fi
kill -CONT $daemon 2>/dev/null
if [ "$word" != stop ]; then
    # Only an engine that answers can take its containers away: one that was killed or hangs is started once more.
    for turn in $(seq 30); do
        timeout 20 docker version >/dev/null 2>&1 && break
        [ $turn != 10 ] || { kill -KILL $daemon; wait $daemon; serve "$@"; }
        sleep 1
    done
    timeout 20 docker ps --all --quiet | timeout 30 xargs -r docker rm --force --volumes
fi
kill -TERM $daemon 2>/dev/null
wait $daemon
if [ "$word" != stop ]; then
    $enter ip link delete "$bridge"
    [ -n "$lock" ] || ip netns delete "$bridge"
    # The engine leaves network namespaces and its own root mounted.
    grep -o " $directory/[^ ]*" /proc/mounts | sort -r | xargs -r umount
    rm -rf "$directory"
fi
"#;

/// The daemon and its keeper.
pub(super) struct Daemon {
    directory: PathBuf,
    /// The bridge of its default network.
    bridge: String,
    until: Until,
    keeper: Option<(Child, Option<ChildStdin>)>,
}

impl Daemon {
    /// Starts a daemon that keeps everything in `directory`, and waits until it answers.
    pub(super) fn start(directory: &Path, until: Until) -> Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let bridge = format!("dse{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut daemon = Self { directory: directory.to_owned(), bridge, until, keeper: None };
        daemon.restart()?;
        Ok(daemon)
    }

    /// What to give as `DOCKER_HOST`.
    pub(super) fn host(&self) -> String {
        host(&self.directory)
    }

    /// Starts it where it is stopped or was killed.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.stop()?;
        ensure!(rustix::process::geteuid().is_root(), "nothing answers, and to start a private dockerd takes root");
        for (program, package) in
            [("dockerd", "docker.io"), ("ip", "iproute2"), ("flock", "util-linux"), ("nsenter", "util-linux")]
        {
            let here = find(program).is_some();
            ensure!(here, "nothing answers, and there is no {program} to start an engine: apt-get install {package}");
        }
        let mut command = Command::new("sh");
        let lock = match &self.until {
            Until::StdinCloses => Path::new(""),
            Until::LockIsFree(lock) => lock,
        };
        command
            .env("DOCKER_HOST", self.host())
            .args(["-c", KEEPER, "keeper"])
            .arg(&self.directory)
            .arg(lock)
            .arg(&self.bridge)
            .args(self.command_line());
        // A group of its own: Ctrl-C is for the tests, the keeper then ends the daemon in good order.
        let stdin = if matches!(self.until, Until::StdinCloses) { Stdio::piped() } else { Stdio::null() };
        command.process_group(0).stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().context("sh")?;
        let stdin = child.stdin.take();
        self.keeper = Some((child, stdin));
        await_answer(&self.host()).with_context(|| format!("dockerd said: {}", self.last_words()))
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    /// Stops it, to be started again, and waits until it is gone.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.finish("stop\n")
    }

    /// Stops it for good and takes away what it made.
    pub(super) fn end(&mut self) -> Result<()> {
        if self.keeper.is_none() {
            // Only a living engine can take its containers away.
            self.restart()?;
        }
        self.finish("")
    }

    fn finish(&mut self, word: &str) -> Result<()> {
        let Some((mut child, stdin)) = self.keeper.take() else { return Ok(()) };
        if let Some(mut stdin) = stdin {
            stdin.write_all(word.as_bytes())?;
        }
        let end = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() > end {
                self.signal(Signal::KILL)?;
                child.wait()?;
                bail!("dockerd did not end within {PATIENCE:?} of SIGTERM and was killed");
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// A bridge of its own, no packet filter, a containerd namespace of its own: nothing of another engine is touched.
    fn command_line(&self) -> Vec<String> {
        let path = |name: &str| self.directory.join(name).display().to_string();
        let namespace = format!("dse-{}", std::process::id());
        vec![
            "dockerd".to_owned(),
            format!("--host={}", self.host()),
            format!("--data-root={}", path("data")),
            format!("--exec-root={}", path("exec")),
            format!("--pidfile={}", path("dockerd.pid")),
            format!("--containerd-namespace={namespace}"),
            format!("--containerd-plugins-namespace={namespace}-plugins"),
            format!("--bridge={}", self.bridge),
            // Containers outlive a stop of the engine, as on hosts where that matters.
            "--live-restore".to_owned(),
            "--iptables=false".to_owned(),
            "--ip6tables=false".to_owned(),
            "--ip-forward=false".to_owned(),
            "--ip-masq=false".to_owned(),
            "--log-level=warn".to_owned(),
        ]
    }

    /// Sends the daemon a signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let text = fs::read_to_string(self.directory.join("daemon.pid"))?;
        let pid = Pid::from_raw(text.trim().parse()?).context("no pid")?;
        kill_process(pid, signal).with_context(|| format!("{signal:?} to dockerd, pid {pid:?}"))
    }
}

/// What to give as `DOCKER_HOST` for the daemon of this directory.
pub(super) fn host(directory: &Path) -> String {
    format!("unix://{}", directory.join("docker.sock").display())
}

/// Where a program is. `/usr/sbin` may be missing in a user's `PATH`.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}
