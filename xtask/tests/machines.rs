//! What becomes of a guest that hangs, of one that does not boot, and of one whose command is killed: each ends within its
//! limit, says what it saw, and leaves no process and no half-made state behind.
//!
//! `cargo xtask ci machines` runs them: as root, for minutes, hence ignored by default.

#[cfg(test)]
mod machines {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use anyhow::{Context, Result, ensure};

    /// What a guest that hangs is given: its start takes a few seconds of it. On a machine where it takes longer, it is
    /// given the second.
    const HANGS: [Duration; 2] = [Duration::from_mins(1), Duration::from_mins(10)];

    /// What a guest is given that ends by itself.
    const ENDS: Duration = Duration::from_mins(20);

    /// What may come on top of a limit: the program's start, and the processes' ends.
    const MORE: Duration = Duration::from_mins(5);

    /// How long the kernel may take to end a process.
    const SOON: Duration = Duration::from_mins(1);

    #[test]
    #[ignore = "takes minutes: cargo xtask ci machines"]
    fn a_guest_that_hangs_is_ended_with_its_last_words() {
        const WORDS: &str = "these were my words";
        let line = format!("echo {WORDS}; exec sleep 1d");
        let mut said = String::new();
        for limit in HANGS {
            said = fails_in_time(&mut xtask(limit, &["run", "--", &line]), limit).unwrap();
            if said.contains(WORDS) {
                break;
            }
        }
        for words in [WORDS, "had not ended after", "the console's last lines"] {
            assert!(said.contains(words), "{words:?} is missing in {said}");
        }
    }

    /// An image like the suite's, but with an empty disk in place of its root.
    #[test]
    #[ignore = "takes minutes: cargo xtask ci machines"]
    fn a_guest_that_does_not_boot_leaves_no_state() {
        assert!(xtask(ENDS, &["build"]).status().unwrap().success());
        let images = cache().unwrap();
        let newest = |path: &PathBuf| fs::metadata(path.join("used")).and_then(|facts| facts.modified()).ok();
        let image = entries(&images, "trixie-").unwrap().into_iter().filter(|path| newest(path).is_some());
        let image = image.max_by_key(newest).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let copies = scratch.path().join("docker-stats-exporter/vm");
        let copy = copies.join(image.file_name().unwrap());
        fs::create_dir_all(&copy).unwrap();
        for emulator in entries(&images, "qemu-").unwrap() {
            symlink(&emulator, copies.join(emulator.file_name().unwrap())).unwrap();
        }
        for file in ["vmlinuz", "initrd", "data.ext4"] {
            symlink(image.join(file), copy.join(file)).unwrap();
        }
        fs::File::create(copy.join("root.ext4")).unwrap().set_len(1 << 30).unwrap();

        let mut command = xtask(ENDS, &["--accel", "tcg", "build"]);
        let said = fails_in_time(command.env("XDG_CACHE_HOME", scratch.path()), ENDS).unwrap();
        for words in ["the guest does not boot", "the console's last lines", "panic"] {
            assert!(said.contains(words), "{words:?} is missing in {said}");
        }
        assert_eq!(entries(&copy, "state-").unwrap(), [""; 0].map(PathBuf::from));
    }

    #[test]
    #[ignore = "takes minutes: cargo xtask ci machines"]
    fn a_command_that_is_killed_takes_its_guest_with_it() {
        let mut command = xtask(ENDS, &["run", "--", "sleep 1d"]);
        let mut process = Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let pid = process.0.id();
        let is_emulator = |process: &PathBuf| {
            // As a program that starts QEMU it is not bound to its parent's life yet.
            let words = fs::read(process.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains("-netdev") && !words.starts_with(b"setpriv")
        };
        let ended = process.wait(ENDS, || processes_of(pid).is_ok_and(|found| found.iter().any(is_emulator))).unwrap();
        assert!(ended.is_none(), "it ended with {ended:?} before there was a guest");
        assert!(processes_of(pid).unwrap().iter().any(is_emulator), "no guest after {ENDS:?}");
        // By SIGKILL, against which it can do nothing.
        drop(process);
        await_nothing_of(pid).unwrap();
    }

    fn xtask(limit: Duration, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["vm", "--suite", "trixie", "--limit", &limit.as_secs().to_string()]).args(words);
        command.stdin(Stdio::null());
        command
    }

    fn cache() -> Result<PathBuf> {
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        Ok(base.context("neither HOME nor XDG_CACHE_HOME is set")?.join("docker-stats-exporter/vm"))
    }

    fn entries(directory: &Path, prefix: &str) -> Result<Vec<PathBuf>> {
        let paths = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        let is_named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
        Ok(paths.into_iter().filter(is_named).collect())
    }

    /// What it says before it ends, as it must within the limit, by itself, with a status that is not 0 and nothing left
    /// of it.
    fn fails_in_time(command: &mut Command, limit: Duration) -> Result<String> {
        let said = tempfile::NamedTempFile::new()?;
        let output = said.reopen()?;
        let mut process = Process(command.stdout(output.try_clone()?).stderr(output).spawn()?);
        let status = process.wait(limit + MORE, || false)?;
        let said = fs::read_to_string(said.path())?;
        let status = status.with_context(|| format!("not over {MORE:?} after its limit of {limit:?}: {said}"))?;
        ensure!(status.code().is_some_and(|code| code != 0), "it ended with {status}: {said}");
        await_nothing_of(process.0.id())?;
        Ok(said)
    }

    /// Killed with the value.
    struct Process(Child);

    impl Process {
        /// Waits until it ends, or `enough` says so, or the limit is over. None where it still runs.
        fn wait(&mut self, limit: Duration, enough: impl Fn() -> bool) -> Result<Option<ExitStatus>> {
            let start = Instant::now();
            loop {
                let ended = self.0.try_wait()?;
                if ended.is_some() || enough() || start.elapsed() > limit {
                    return Ok(ended);
                }
                sleep(Duration::from_millis(50));
            }
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            // It may have ended by itself.
            self.0.kill().unwrap_or_default();
            self.0.wait().map(drop).unwrap_or_default();
        }
    }

    fn await_nothing_of(pid: u32) -> Result<()> {
        let start = Instant::now();
        loop {
            let left = processes_of(pid)?;
            if left.is_empty() {
                return Ok(());
            }
            ensure!(start.elapsed() < SOON, "still running {SOON:?} after the command's end: {left:?}");
            sleep(Duration::from_millis(50));
        }
    }

    /// The machines that process `pid` has started: they work in one of its run directories, even when that is removed.
    fn processes_of(pid: u32) -> Result<Vec<PathBuf>> {
        let runs = format!("vm/runs/{pid}-");
        let processes = fs::read_dir("/proc")?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        // A process may have ended meanwhile, and the kernel's own have no directory.
        let works_in = |process: &PathBuf| fs::read_link(process.join("cwd")).unwrap_or_default();
        Ok(processes.into_iter().filter(|process| works_in(process).to_string_lossy().contains(&runs)).collect())
    }
}
