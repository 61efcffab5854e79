//! The view without a terminal: keys, order, widths, and what is drawn.

use std::fs;
use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::Value;

use super::app::{Action, App, CpuScale, Sort, View};
use super::draw::{draw, plain};
use super::model::Model;
use super::numbers::container;
use super::text::Palette;

const PLAIN: Palette = Palette { color: false, ascii: false };

fn id(digit: char) -> String {
    format!("/docker/{}", digit.to_string().repeat(64))
}

/// One exposition: `busy` uses half a core at its limit, `idle` nothing, `stopped` has ended with 137.
fn exposition(poll: u32) -> String {
    let labels = |digit, name: &str| format!("id=\"{}\",image=\"web:1\",name=\"{name}\"", id(digit));
    let (busy, idle, stopped) = (labels('a', "busy"), labels('b', "idle\u{1b}[2J"), labels('c', "stopped"));
    format!(
        "container_cpu_usage_seconds_total{{cpu=\"total\",{busy}}} {}\n\
         container_cpu_usage_seconds_total{{cpu=\"total\",{idle}}} 3\n\
         container_cpu_cfs_periods_total{{{busy}}} {}\n\
         container_cpu_cfs_throttled_periods_total{{{busy}}} {}\n\
         container_spec_cpu_quota{{{busy}}} 50000\ncontainer_spec_cpu_period{{{busy}}} 100000\n\
         container_memory_working_set_bytes{{{busy}}} 943718400\n\
         container_spec_memory_limit_bytes{{{busy}}} 1073741824\n\
         container_memory_working_set_bytes{{{idle}}} 1048576\n\
         container_network_receive_bytes_total{{interface=\"eth0\",{busy}}} {}\n\
         container_state{{state=\"running\",{busy}}} 1\ncontainer_state{{state=\"running\",{idle}}} 1\n\
         container_state{{state=\"exited\",{stopped}}} 1\ncontainer_exit_code{{{stopped}}} 137\n\
         machine_cpu_cores 8\nmachine_memory_bytes 17179869184\n\
         container_cpu_usage_seconds_total{{cpu=\"total\",id=\"/\",image=\"\",name=\"\"}} {}\n",
        f64::from(poll),
        20 * poll,
        10 * poll,
        2048 * poll,
        f64::from(2 * poll),
    )
}

/// An app after two polls, two seconds apart.
fn app() -> App {
    let mut app = App::new(Sort::Cpu, String::new(), false, Duration::from_secs(2));
    let start = Instant::now();
    for poll in 0..2 {
        let after = Duration::from_secs(2) * poll;
        app.take(&exposition(poll), after.as_secs_f64(), start + after, Some(1000.0));
    }
    app
}

fn press(app: &mut App, code: KeyCode) -> Action {
    app.key(KeyEvent::new(code, KeyModifiers::NONE), Instant::now())
}

fn screen(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app, PLAIN)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn the_table_shows_who_hurts_at_eighty_columns() {
    let screen = screen(&app(), 80, 24);
    let busy = screen.lines().find(|line| line.contains("busy")).unwrap();
    for expected in ["■50.0", "900M", "▲88", "1.0K"] {
        assert!(busy.contains(expected), "{expected} in {busy}");
    }
    assert!(screen.contains("2 running  1 stopped"), "{screen}");
    assert!(screen.contains("CPU [") && screen.contains("100.0% of 800"), "{screen}");
    assert!(!screen.contains("stopped (137)"), "stopped containers are shown when asked for");
    assert!(!screen.contains('\u{1b}'), "escape codes of names stay out of the terminal");
}

#[test]
fn narrow_terminals_lose_columns_one_by_one_and_keep_name_cpu_and_memory() {
    for (width, height) in [(120, 40), (80, 24), (60, 15), (40, 6)] {
        let screen = screen(&app(), width, height);
        for expected in ["busy", "50.0", "900M"] {
            assert!(screen.contains(expected), "{expected} at {width}x{height} in\n{screen}");
        }
    }
    assert!(!screen(&app(), 60, 15).contains("RST"), "restarts go first");
    assert!(screen(&app(), 39, 5).contains("too small"), "still alive");
}

#[test]
fn keys_sort_filter_and_end() {
    let mut app = app();
    assert_eq!(press(&mut app, KeyCode::Char('N')), Action::None);
    assert_eq!(app.sort, Sort::Name);
    press(&mut app, KeyCode::Char('a'));
    assert_eq!(app.lines.len(), 3, "a shows stopped ones");
    press(&mut app, KeyCode::Char('/'));
    for letter in "IDLE".chars() {
        press(&mut app, KeyCode::Char(letter));
    }
    press(&mut app, KeyCode::Enter);
    assert_eq!((app.lines.len(), app.editing), (1, false));
    press(&mut app, KeyCode::Esc);
    assert_eq!(app.lines.len(), 3, "Esc clears the filter");
    press(&mut app, KeyCode::Char('%'));
    assert_eq!(app.scale, CpuScale::Limit);
    assert!(screen(&app, 80, 24).contains("■100.0"), "half a core is all of the limit");
    press(&mut app, KeyCode::Enter);
    assert_eq!(app.view, View::Detail);
    assert!(screen(&app, 100, 30).contains("throttled"), "{}", screen(&app, 100, 30));
    press(&mut app, KeyCode::Esc);
    assert_eq!(app.view, View::Table);
    assert_eq!(press(&mut app, KeyCode::Char('q')), Action::Quit);
    assert_eq!(app.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), Instant::now()), Action::Quit);
}

#[test]
fn the_selection_stays_on_its_container() {
    let mut app = app();
    press(&mut app, KeyCode::Down);
    let selected = app.selected.clone().unwrap();
    press(&mut app, KeyCode::Char('r'));
    assert_eq!(app.selected, Some(selected), "the order changed, the selection did not");
    press(&mut app, KeyCode::Char('t'));
    assert!(screen(&app, 80, 24).contains("no project: 2"), "{}", screen(&app, 80, 24));
}

/// The script of the live page is held to the same numbers.
#[test]
fn captured_polls_give_the_numbers_of_the_page() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/page");
    let read =
        |name: &str| serde_json::from_str::<Value>(&fs::read_to_string(format!("{folder}/{name}")).unwrap()).unwrap();
    let polls = read("polls.json");
    let mut model = Model::new();
    for poll in polls["polls"].as_array().unwrap() {
        model.take(poll["text"].as_str().unwrap(), poll["time"].as_f64().unwrap(), polls["pace"].as_f64().unwrap());
    }
    let mut rows: Vec<_> = model.rows.values().collect();
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let numbers: Vec<Value> = rows.into_iter().map(|row| container(row, &model.host)).collect();
    assert_eq!(Value::from(numbers), read("numbers.json"));
}

#[test]
fn plain_text_has_every_column_and_json_every_number() {
    let app = app();
    let text = plain(&app);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.lines().next().unwrap().contains("RST"), "{text}");
    let row = app.model.rows.values().find(|row| row.name == "busy").unwrap();
    let json = container(row, &app.model.host);
    for (key, expected) in [
        ("cpu_percent", 50.0),
        ("cpu_limit_cores", 0.5),
        ("cpu_throttled_percent", 50.0),
        ("network_receive_bytes_per_second", 1024.0),
    ] {
        assert_eq!(json.get(key).and_then(Value::as_f64), Some(expected), "{key}");
    }
    assert_eq!(json.get("disk_read_bytes_per_second"), Some(&Value::Null), "never an invented zero");
}
