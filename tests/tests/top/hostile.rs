//! Names that nobody should have.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use exporter_tests::{Served, exporter};

use super::{exposition, top};

/// Writes the clipboard, clears the screen, sets the title, turns the direction of writing, and is long.
fn name() -> String {
    format!("evil\x1b]52;c;cm0gLXJm\x07\x1b[2J\x1b]0;title\x07\u{9b}31m\u{202e}\u{2066}{}", "w".repeat(64 << 10))
}

#[test]
fn a_hostile_name_is_text_on_the_screen_and_in_a_pipe() -> Result<()> {
    let served = Served::start(&exposition(&name()))?;
    let mut terminal = top(&served, &[], &[])?;
    // The parser leaves U+FFFD out.
    let shown = "evil]52;c;cm0";
    terminal.wait_for("the row", |text| text.contains(shown))?;
    terminal.keys("\r")?;
    terminal.wait_for("the detail view", |text| text.contains(shown) && text.contains("image"))?;
    terminal.keys("\x1b/\u{202e}")?;
    terminal.wait_for("the filter", |text| text.contains("filter: _"))?;
    let bytes = terminal.bytes();
    let text = String::from_utf8_lossy(&bytes);
    ensure!(text.contains("evil\u{fffd}]52;c;cm0"), "what is left out has a sign in its place");
    for forbidden in ["\x1b]", "\x1b[2J\x1b]", "\u{9b}", "\u{202e}", "\u{2066}", "\x07"] {
        ensure!(!text.contains(forbidden), "{forbidden:?} has reached the terminal");
    }
    let url = format!("http://{}", served.address);
    for arguments in [["--once", "--all"], ["--once", "--json"]] {
        let mut command = Command::new(exporter::binary()?);
        let output = command.args(["top", "--url", &url]).args(arguments).stdin(Stdio::null()).output()?;
        let text = String::from_utf8(output.stdout)?;
        ensure!(output.status.success() && text.contains("evil"), "{arguments:?}");
        let control = |letter: char| letter.is_control() && letter != '\n';
        ensure!(!text.contains(control), "{arguments:?}: a control character");
    }
    Ok(())
}

#[test]
fn nonsense_in_place_of_metrics_shows_an_empty_table() -> Result<()> {
    let served = Served::start("<html>\u{0}{{{}}} 1\ncontainer_state{id=\"a\"} NaN\ncontainer_state")?;
    let terminal = top(&served, &[], &[])?;
    terminal.wait_for("an empty table", |text| text.contains("no container here"))?;
    served.answer(200, &exposition("web"));
    terminal.wait_for("the row", |text| text.contains("web"))?;
    Ok(())
}
