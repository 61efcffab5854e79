//! What the screen shows: sizes, keys, colours, an exporter that goes away.

use std::time::Duration;

use anyhow::{Result, ensure};
use exporter_tests::{Container, Engine, Exporter, Served, Terminal, exporter};
use rustix::process::Signal;
use vt100::{Color, Screen};

use super::{exposition, top, top_of_one};

/// Returns the cells of a screen that show something, without what is selected by `wanted`.
fn cells(screen: &Screen, wanted: impl Fn(&vt100::Cell) -> bool) -> String {
    let (rows, columns) = screen.size();
    let all = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
    all.filter_map(|(row, column)| screen.cell(row, column).filter(|cell| wanted(cell)))
        .map(vt100::Cell::contents)
        .collect()
}

#[test]
fn the_table_follows_the_size_of_the_terminal_and_the_keys() -> Result<()> {
    let engine = Engine::shared()?;
    let container = Container::run(engine, "seen", &["--cpus=0.1"], &["sh", "-c", "while :; do :; done"])?;
    let exporter = Exporter::with(engine)?;
    let url = format!("http://{}", exporter.address);
    let arguments = ["top", "--url", &url, "--interval=1s", "--filter", &container.name];
    let mut terminal = Terminal::start(&exporter::binary()?, &arguments, &[], (80, 24))?;
    // A name has 18 columns at both sizes.
    let name: String = container.name.chars().take(18).collect();
    let row = |text: &str| text.lines().find(|line| line.contains(&name)).map(str::to_owned);
    terminal.wait_for("the throttled container", |text| row(text).is_some_and(|row| row.contains('■')))?;
    ensure!(terminal.screen().alternate_screen(), "what was on the terminal before is kept");
    let wide = terminal.screen().contents();
    ensure!(wide.contains("CPU [") && wide.contains("RST") && wide.contains("q Quit"), "{wide}");
    terminal.resize((40, 6))?;
    let narrow = terminal.wait_for("the narrow table", |text| row(text).is_some() && text.contains("MEM%\n"))?;
    ensure!(narrow.contains("CPU%") && !narrow.contains("RST"), "{narrow}");
    terminal.resize((30, 4))?;
    terminal.wait_for("a word on the size", |text| text.contains("too small: 40x6 at least"))?;
    terminal.resize((120, 40))?;
    terminal.wait_for("the wide table", |text| text.contains(&container.name) && text.contains("RST"))?;
    terminal.keys("\r")?;
    terminal.wait_for("the detail view", |text| text.contains(&container.id) && text.contains("0.10 cores"))?;
    terminal.keys("\x1b")?;
    terminal.wait_for("the table again", |text| text.contains("RST"))?;
    terminal.keys("/nothing\r")?;
    terminal.wait_for("an empty table", |text| text.contains("none that the filter leaves"))?;
    terminal.keys("?")?;
    terminal.wait_for("the help", |text| text.contains("Ctrl-C quit"))?;
    terminal.keys("q")?;
    ensure!(terminal.wait()?.0.code() == Some(0));
    exporter.stop()?;
    Ok(())
}

#[test]
fn without_colours_signs_and_reverse_say_the_same() -> Result<()> {
    let served = Served::start(&exposition("web"))?;
    let colourful = |cell: &vt100::Cell| cell.fgcolor() != Color::Default || cell.bgcolor() != Color::Default;
    let terminal = top(&served, &["--all"], &[])?;
    terminal.wait_for("the mark", |text| text.contains("■96"))?;
    ensure!(cells(&terminal.screen(), colourful).contains("■96"), "critical is red");
    for (arguments, variable) in [(&["--no-color"][..], ("A", "b")), (&[], ("NO_COLOR", "1")), (&[], ("TERM", "dumb"))]
    {
        let terminal = top(&served, arguments, &[variable])?;
        terminal.wait_for("the mark", |text| text.contains("■96"))?;
        let screen = terminal.screen();
        let coloured = cells(&screen, colourful);
        ensure!(coloured.is_empty(), "{variable:?}: {coloured}");
        ensure!(cells(&screen, vt100::Cell::inverse).contains("web"), "{variable:?}: the selection is reversed");
        ensure!(cells(&screen, vt100::Cell::bold).contains("NAME"), "{variable:?}: the head is bold");
    }
    let terminal = top(&served, &[], &[("LANG", "C")])?;
    terminal.wait_for("the mark in ASCII", |text| text.contains("!96") && text.is_ascii())?;
    Ok(())
}

#[test]
fn the_values_stay_while_the_exporter_does_not_answer() -> Result<()> {
    let served = Served::start(&exposition("web"))?;
    let terminal = top(&served, &[], &[])?;
    for (status, words) in [(503, "answers with status 503"), (401, "needs a user and a password"), (429, "status 429")]
    {
        terminal.wait_for("the row", |text| text.contains("web") && !text.contains("no answer"))?;
        served.answer(status, "no");
        terminal
            .wait_for(words, |text| text.contains(words) && text.contains("no answer for") && text.contains("web"))?;
        served.answer(200, &exposition("web"));
    }
    Ok(())
}

#[test]
fn an_exporter_that_goes_away_and_comes_back_is_found_again() -> Result<()> {
    let engine = Engine::shared()?;
    let container = Container::sleeping(engine, "back", &[])?;
    let exporter = Exporter::with(engine)?;
    let address = exporter.address;
    let url = format!("http://{address}");
    let arguments = ["top", "--url", &url, "--interval=1s", "--filter", &container.name];
    let terminal = Terminal::start(&exporter::binary()?, &arguments, &[], (120, 24))?;
    terminal.wait_for("the container", |text| text.contains(&container.name))?;
    exporter.stop()?;
    terminal.wait_for("the end of the exporter", |text| {
        text.contains("cannot connect") && text.contains(&container.name)
    })?;
    let exporter = Exporter::builder().docker(engine).at(address).start()?;
    terminal.wait_for("the new exporter", |text| !text.contains("no answer"))?;
    // Connections are taken and nobody answers.
    exporter.signal(Signal::STOP)?;
    terminal.wait_for("silence", |text| text.contains("no answer within 10 s"))?;
    exporter.signal(Signal::CONT)?;
    terminal.wait_for("the same exporter", |text| !text.contains("no answer"))?;
    exporter.stop()?;
    Ok(())
}

#[test]
fn a_pause_asks_nothing() -> Result<()> {
    let (served, mut terminal) = top_of_one()?;
    terminal.keys(" ")?;
    terminal.wait_for("the pause", |text| text.contains("paused"))?;
    served.answer(200, &exposition("other"));
    std::thread::sleep(Duration::from_secs(3));
    ensure!(terminal.screen().contents().contains("web"), "nothing is asked");
    terminal.keys(" ")?;
    terminal.wait_for("the new row", |text| text.contains("other") && text.contains("every 1 s"))?;
    Ok(())
}
