//! A terminal of the test's own: a program runs on a pseudo-terminal, and a parser of another project reads what it draws.

use std::fs::{File, read_to_string};
use std::io::Write as _;
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::wait::eventually;

/// What the program has written.
struct Output {
    parser: vt100::Parser,
    bytes: Vec<u8>,
}

/// A program on a terminal. It is killed when the value goes.
pub struct Terminal {
    child: Child,
    /// The other end of the terminal; none once it is gone.
    master: Option<File>,
    output: Arc<Mutex<Output>>,
    reader: Option<JoinHandle<()>>,
    reads: Arc<AtomicBool>,
}

impl Terminal {
    /// Starts a program whose controlling terminal has so many columns and rows: as after a login, the terminal sends it
    /// SIGINT, SIGWINCH and SIGHUP.
    ///
    /// # Errors
    /// No terminal, or no such program.
    pub fn start(program: &Path, arguments: &[&str], environment: &[(&str, &str)], size: (u16, u16)) -> Result<Self> {
        let variables = environment.iter().map(|(name, value)| format!("{name}={value}"));
        let mut command = Command::new("setsid");
        command.args(["--ctty", "env"]).args(variables).arg(program).args(arguments);
        Self::spawn(command, size)
    }

    /// Starts a program on a terminal that does not control it, and so sends it no signals.
    ///
    /// # Errors
    /// As [`Terminal::start`].
    pub fn uncontrolled(program: &Path, arguments: &[&str], size: (u16, u16)) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::spawn(command, size)
    }

    fn spawn(mut command: Command, size: (u16, u16)) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?.into_string()?;
        let slave = File::options().read(true).write(true).open(&name).with_context(|| name.clone())?;
        let output = Arc::new(Mutex::new(Output { parser: parser(size)?, bytes: Vec::new() }));
        set_size(&master, size)?;
        for name in ["NO_COLOR", "LC_ALL", "LC_CTYPE"] {
            command.env_remove(name);
        }
        command.env("TERM", "xterm-256color").env("LANG", "C.UTF-8");
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        let reads = Arc::new(AtomicBool::new(true));
        let reader = {
            let (master, output, reads) = (master.try_clone()?, Arc::clone(&output), Arc::clone(&reads));
            thread::spawn(move || read(&master, &output, &reads))
        };
        Ok(Self { child, master: Some(File::from(master)), output, reader: Some(reader), reads })
    }

    /// Types.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn keys(&mut self, keys: &str) -> Result<()> {
        Ok(self.master.as_mut().context("the terminal is gone")?.write_all(keys.as_bytes())?)
    }

    /// Gives the terminal another size.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn resize(&self, size: (u16, u16)) -> Result<()> {
        let mut output = lock(&self.output);
        let (columns, rows) = nonzero(size)?;
        output.parser.screen_mut().set_size(rows, columns);
        set_size(self.master.as_ref().context("the terminal is gone")?, size)
    }

    /// Stops reading what the program writes, as a user does with Ctrl-S.
    pub fn stop_reading(&mut self) {
        self.reads.store(false, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap_or_default();
        }
    }

    /// Takes the terminal away, as a connection that breaks does.
    pub fn hang_up(&mut self) {
        self.stop_reading();
        self.master = None;
    }

    /// Returns the screen as it is.
    #[must_use]
    pub fn screen(&self) -> vt100::Screen {
        lock(&self.output).parser.screen().clone()
    }

    /// Returns whether the terminal itself shows what is typed and edits it by lines: a program that draws ends both.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn echoes(&self) -> Result<bool> {
        let settings = tcgetattr(self.master.as_ref().context("the terminal is gone")?)?;
        Ok(settings.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON))
    }

    /// Returns everything that the program has written.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        lock(&self.output).bytes.clone()
    }

    /// Waits until the text on the screen is as wanted.
    ///
    /// # Errors
    /// After five minutes, with the screen.
    pub fn wait_for(&self, what: &str, mut wanted: impl FnMut(&str) -> bool) -> Result<String> {
        eventually(Duration::from_secs(30), what, || {
            let text = self.screen().contents();
            ensure!(wanted(&text), "the screen shows:\n{text}");
            Ok(text)
        })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The program is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("signal")
    }

    /// Returns the letter of the program's state, `T` where it is stopped.
    ///
    /// # Errors
    /// It was waited for.
    pub fn state(&self) -> Result<char> {
        self.stat()?.first().and_then(|state| state.chars().next()).context("stat")
    }

    /// Returns the fields of `/proc/PID/stat` from the state on.
    fn stat(&self) -> Result<Vec<String>> {
        let stat = read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        Ok(stat.rsplit(") ").next().context("stat")?.split(' ').map(str::to_owned).collect())
    }

    /// Waits for the end of the program. Returns its status and the CPU time that it has used.
    ///
    /// # Errors
    /// It does not end.
    pub fn wait(&mut self) -> Result<(ExitStatus, Duration)> {
        let ticks = eventually(Duration::from_secs(30), "the program to end", || {
            let fields = self.stat()?;
            // What has ended keeps its times until somebody waits for it.
            ensure!(fields.first().is_some_and(|state| state == "Z"), "it runs");
            let ticks = |field: usize| Ok::<u64, anyhow::Error>(fields.get(field).context("stat")?.parse()?);
            Ok(ticks(11)? + ticks(12)?)
        })?;
        Ok((self.child.wait()?, Duration::from_millis(1000 * ticks / clock_ticks_per_second())))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
        self.hang_up();
    }
}

fn nonzero((columns, rows): (u16, u16)) -> Result<(NonZeroU16, NonZeroU16)> {
    Ok((columns.try_into()?, rows.try_into()?))
}

fn parser(size: (u16, u16)) -> Result<vt100::Parser> {
    let (columns, rows) = nonzero(size)?;
    Ok(vt100::Parser::new(rows, columns, 0))
}

fn set_size(terminal: impl std::os::fd::AsFd, (columns, rows): (u16, u16)) -> Result<()> {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
    Ok(())
}

/// Reads until the program is gone, or nobody reads any more.
fn read(master: &OwnedFd, output: &Mutex<Output>, reads: &AtomicBool) {
    let mut buffer = vec![0; 65_536];
    let interval = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    while reads.load(Ordering::Relaxed) {
        let mut descriptor = [PollFd::new(master, PollFlags::IN)];
        if poll(&mut descriptor, Some(&interval)).is_ok_and(|ready| ready > 0) {
            // An error is the end of the program.
            let Ok(count @ 1..) = rustix::io::read(master, &mut buffer) else { return };
            let mut output = lock(output);
            let bytes = buffer.get(..count).unwrap_or_default();
            output.bytes.extend_from_slice(bytes);
            output.parser.process(bytes);
        }
    }
}

fn lock(output: &Mutex<Output>) -> std::sync::MutexGuard<'_, Output> {
    output.lock().unwrap_or_else(PoisonError::into_inner)
}
