//! Runs the view in the terminal: a loop that draws a frame after each key, resize, signal and poll.

use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use std::{process, thread};

use crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use ratatui::DefaultTerminal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpid, kill_process};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::app::App;
use super::client::{Answer, Client, Error};
use super::draw::draw;
use super::format::Palette;
use super::keys::Action;

/// Maximum time between two polls after failures.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// Time that the loop has to end after a signal.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// What the loop waits for.
enum Message {
    Key(KeyEvent),
    Resize,
    Answer(Result<Answer, Error>),
    Signal(i32),
    /// The terminal is gone.
    Hangup,
}

/// Shows the view until a key, a signal or a hangup of the terminal ends it. Returns the exit code.
///
/// # Errors
/// The terminal cannot be set up or written to.
pub(super) fn show(app: &mut App, client: Client, palette: Palette) -> io::Result<u8> {
    let (sender, messages) = mpsc::channel();
    let (ask, asked) = unbounded_channel();
    watch_terminal(&sender);
    let poller = sender.clone();
    thread::spawn(move || poll_exporter(&client, asked, &poller));
    let mut terminal = ratatui::try_init()?;
    thread::spawn(move || read_keys(&sender));
    let ended = run(&mut terminal, app, &messages, &ask, palette);
    // Restoring fails if the terminal is gone.
    drop(ratatui::try_restore());
    ended
}

fn run(
    terminal: &mut DefaultTerminal,
    app: &mut App,
    messages: &Receiver<Message>,
    ask: &UnboundedSender<()>,
    palette: Palette,
) -> io::Result<u8> {
    let started = Instant::now();
    let mut failures = 0_u32;
    let mut due = Some(started);
    loop {
        terminal.draw(|frame| draw(frame, app, palette))?;
        let now = Instant::now();
        if due.is_some_and(|at| at <= now) && !app.paused {
            due = None;
            // The receiver lives as long as the process.
            _ = ask.send(());
        }
        let wait = due.filter(|_| !app.paused).map_or(Duration::from_hours(1), |at| at.saturating_duration_since(now));
        let message = match messages.recv_timeout(wait) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(1),
        };
        let now = Instant::now();
        match message {
            Message::Key(key) => match app.key(key, now) {
                Action::None => {}
                Action::Quit => return Ok(0),
                // `clear` would ask the terminal for the position of its cursor, and fail if it does not answer.
                Action::Redraw => terminal.resize(terminal.size()?.into())?,
                Action::PollNow => due = Some(now),
                Action::Suspend => {
                    ratatui::try_restore()?;
                    _ = kill_process(getpid(), Signal::STOP);
                    *terminal = ratatui::try_init()?;
                }
            },
            Message::Resize => {}
            Message::Answer(Ok(answer)) => {
                failures = 0;
                app.take(&answer, started);
                due = Some(answer.arrived + app.interval);
            }
            Message::Answer(Err(error)) => {
                app.error = Some(error.to_string());
                failures = failures.saturating_add(1);
                due = Some(now + (app.interval * 2_u32.saturating_pow(failures.min(5))).min(MAX_BACKOFF));
            }
            Message::Signal(number) => return Ok(u8::try_from(128 + number).unwrap_or(1)),
            Message::Hangup => return Ok(1),
        }
    }
}

/// Polls the exporter when the loop asks for it, and sends signals to the loop.
fn poll_exporter(client: &Client, mut asked: UnboundedReceiver<()>, sender: &Sender<Message>) {
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        for kind in signals {
            let Ok(mut arrives) = signal(kind) else { continue };
            let sender = sender.clone();
            tokio::spawn(async move {
                if arrives.recv().await.is_none() {
                    return;
                }
                drop(sender.send(Message::Signal(kind.as_raw_value())));
                // The loop is blocked while the terminal takes no output, such as after Ctrl-S.
                tokio::time::sleep(END_TIMEOUT).await;
                process::exit(128 + kind.as_raw_value());
            });
        }
        while asked.recv().await.is_some() {
            if sender.send(Message::Answer(client.ask().await)).is_err() {
                return;
            }
        }
    });
}

/// Sends keys and resizes to the loop.
fn read_keys(sender: &Sender<Message>) {
    loop {
        let message = match event::read() {
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Message::Key(key),
            Ok(Event::Resize(..)) => Message::Resize,
            Ok(_) => continue,
            Err(_) => Message::Hangup,
        };
        let ends = matches!(message, Message::Hangup);
        if sender.send(message).is_err() || ends {
            return;
        }
    }
}

/// Sends a hangup of the terminal to the loop. [`event::read`] does not report it: it never returns once the terminal is
/// gone, and takes a whole core.
fn watch_terminal(sender: &Sender<Message>) {
    let sender = sender.clone();
    thread::spawn(move || {
        let terminal = io::stdin();
        if !terminal.is_terminal() {
            return;
        }
        loop {
            let mut descriptor = [PollFd::new(&terminal, PollFlags::empty())];
            if poll(&mut descriptor, None) != Err(rustix::io::Errno::INTR) {
                _ = sender.send(Message::Hangup);
                return;
            }
        }
    });
}
