//! How `top` ends: keys, signals, a terminal that goes away or takes no output, a reader that has gone.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exporter_tests::wait::eventually;
use exporter_tests::{Served, Terminal, exporter};
use rustix::process::Signal;

use super::{exposition, top, top_of_one};

/// More than a debug build uses until it ends, far less than one that spins does in five minutes.
const LITTLE: Duration = Duration::from_secs(10);

/// Ends the program on a terminal.
type End = fn(&mut Terminal) -> Result<()>;

#[test]
fn keys_and_signals_restore_the_terminal() -> Result<()> {
    let served = Served::start(&exposition("web"))?;
    let ends: [(&str, End, i32); 6] = [
        ("q", |terminal| terminal.keys("q"), 0),
        ("F10", |terminal| terminal.keys("\x1b[21~"), 0),
        ("Ctrl-C", |terminal| terminal.keys("\x03"), 0),
        ("SIGTERM", |terminal| terminal.signal(Signal::TERM), 143),
        ("SIGINT", |terminal| terminal.signal(Signal::INT), 130),
        ("SIGHUP", |terminal| terminal.signal(Signal::HUP), 129),
    ];
    for (what, end, code) in ends {
        let mut terminal = top(&served, &[], &[])?;
        terminal.wait_for("the row", |text| text.contains("web"))?;
        ensure!(!terminal.echoes()?, "{what}: keys are not shown");
        end(&mut terminal)?;
        let (status, _) = terminal.wait()?;
        ensure!(status.code() == Some(code), "{what}: {status}");
        eventually(Duration::from_secs(5), "the old screen", || {
            ensure!(!terminal.screen().alternate_screen() && !terminal.screen().hide_cursor(), "{what}");
            Ok(())
        })?;
        ensure!(terminal.echoes()?, "{what}: keys are shown again");
    }
    Ok(())
}

#[test]
fn a_terminal_that_goes_away_ends_it_without_a_busy_loop() -> Result<()> {
    let served = Served::start(&exposition("web"))?;
    let url = format!("http://{}", served.address);
    let arguments = ["top", "--url", &url, "--interval=30s"];
    let binary = exporter::binary()?;
    let controlled = Terminal::start(&binary, &arguments, &[], (80, 24))?;
    // No SIGHUP comes: nothing but the terminal itself tells, and the next poll is far away.
    let uncontrolled = Terminal::uncontrolled(&binary, &arguments, (80, 24))?;
    for mut terminal in [controlled, uncontrolled] {
        terminal.wait_for("the row", |text| text.contains("web"))?;
        terminal.hang_up();
        let (status, used) = terminal.wait()?;
        ensure!(!status.success() && used < LITTLE, "{status} after {used:?} of CPU time");
    }
    Ok(())
}

#[test]
fn a_signal_ends_it_though_the_terminal_takes_no_output() -> Result<()> {
    let (_served, mut terminal) = top_of_one()?;
    terminal.stop_reading();
    // Each one draws the whole screen: together more than a terminal holds.
    terminal.keys(&"\x0c".repeat(500))?;
    std::thread::sleep(Duration::from_secs(2));
    terminal.signal(Signal::TERM)?;
    let (status, used) = terminal.wait()?;
    ensure!(status.code() == Some(143) && used < LITTLE, "{status} after {used:?} of CPU time");
    Ok(())
}

#[test]
fn ctrl_z_gives_the_terminal_back_until_it_goes_on() -> Result<()> {
    let (_served, mut terminal) = top_of_one()?;
    terminal.keys("\x1a")?;
    terminal.wait_for("the screen from before", |text| !text.contains("web"))?;
    ensure!(!terminal.screen().alternate_screen());
    eventually(Duration::from_secs(5), "the program to stop", || {
        ensure!(terminal.state()? == 'T');
        Ok(())
    })?;
    ensure!(terminal.echoes()?, "keys are shown");
    terminal.signal(Signal::CONT)?;
    terminal.wait_for("the row again", |text| text.contains("web"))?;
    terminal.keys("\x0cq")?;
    ensure!(terminal.wait()?.0.success(), "Ctrl-L draws, q ends");
    Ok(())
}

#[test]
fn a_reader_that_has_gone_is_a_quiet_end() -> Result<()> {
    let served = Served::start(&exposition("web"))?;
    let url = format!("http://{}", served.address);
    let mut child = Command::new(exporter::binary()?)
        .args(["top", "--url", &url, "--json", "--interval=1s"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("stdout")?).read_line(&mut line)?;
    let json: serde_json::Value = serde_json::from_str(&line)?;
    ensure!(json.pointer("/containers/0/name") == Some(&"web".into()), "{json}");
    // The reader went with the statement above.
    let output = child.wait_with_output()?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    Ok(())
}
