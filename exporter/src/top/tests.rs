//! Tests of the view without a terminal: keys, order, widths, and what is drawn.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hyper::Uri;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::Value;

use super::app::{App, CpuScale, Sort, View};
use super::client::Answer;
use super::draw::draw;
use super::format::Palette;
use super::keys::Action;
use super::model::Model;
use super::numbers::{Numbers, container, json};
use super::table::plain;
use super::{ClientOptions, Options};

const SECOND: Duration = Duration::from_secs(1);
const PLAIN: Palette = Palette { color: false, ascii: false };

fn id(digit: char) -> String {
    format!("/docker/{}", digit.to_string().repeat(64))
}

/// Returns an exposition in which `busy` uses half a core, its limit, `idle` uses nothing, and `stopped` has ended with 137.
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

/// Returns an app after two polls, two seconds apart.
fn app() -> App {
    let mut app = App::new("node-7".to_owned(), &options(), 2 * SECOND);
    let start = Instant::now();
    for poll in 0..2 {
        app.take(&answer(exposition(poll), start + 2 * poll * SECOND), start);
    }
    app
}

fn options() -> Options {
    Options {
        client: ClientOptions { url: Uri::default(), ca_file: None, credentials: None },
        interval: None,
        sort: Sort::Cpu,
        filter: String::new(),
        all: false,
        once: false,
        json: false,
        no_color: true,
        ascii: false,
        local: false,
    }
}

fn answer(text: String, arrived: Instant) -> Answer {
    Answer { text, asked: arrived, arrived, date: Some(1000.0) }
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

/// The script of the live page is tested with the same files.
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

/// Returns the samples of one container or cgroup.
fn samples(id: &str, name: &str, families: &[(&str, f64)]) -> String {
    let mut text = String::new();
    for (family, value) in families {
        writeln!(text, "{family}{{id=\"{id}\",image=\"\",name=\"{name}\"}} {value}").unwrap();
    }
    text
}

/// Returns an app after these polls, a second apart.
fn after(polls: &[String]) -> App {
    let mut app = App::new("node-7".to_owned(), &options(), SECOND);
    let start = Instant::now();
    for (at, poll) in (0..).zip(polls) {
        app.take(&answer(poll.clone(), start + at * SECOND), start);
    }
    app
}

#[test]
fn a_container_in_a_container_has_a_row_of_its_own() {
    let inner = format!("{}/docker/{}", id('a'), "b".repeat(64));
    let cpu = |seconds| [("container_cpu_usage_seconds_total", seconds)];
    let poll = |outer, nested| samples(&id('a'), "outer", &cpu(outer)) + &samples(&inner, "", &cpu(nested));
    let app = after(&[poll(1.0, 0.0), poll(1.75, 0.5)]);
    let of = |digit: &str| Numbers::of(&app.model.rows[&digit.repeat(64)], &app.model.host).cpu_percent;
    assert_eq!((of("a"), of("b")), (Some(75.0), Some(50.0)));
}

#[test]
fn a_cgroup_is_no_container() {
    let used = [("container_memory_working_set_bytes", 1_048_576.0)];
    let poll = samples(&id('a'), "web", &used) + &samples("/system.slice/ssh.service", "", &used);
    let app = after(&[poll]);
    let screen = screen(&app, 80, 24);
    assert!(screen.contains("node-7  1 running  1 cgroups"), "{screen}");
    assert!(screen.contains("c /system.slice/ssh"), "{screen}");
    let json = json(&app.model, "http://a/metrics", 1.0, "a");
    let names = |list: &str| json[list].as_array().unwrap().iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    assert_eq!(
        (names("containers"), names("cgroups")),
        (vec!["a".repeat(64).into()], vec!["/system.slice/ssh.service".into()])
    );
}

#[test]
fn pressure_is_taken_over_ten_seconds_and_left_out_of_the_text_before() {
    let poll = |at: u32| {
        let seconds = f64::from(at);
        let families = [
            ("container_pressure_io_waiting_seconds_total", seconds / 4.0),
            ("container_cpu_usage_seconds_total", seconds),
        ];
        samples(&id('a'), "web", &families)
    };
    let polls: Vec<_> = (0..=10).map(poll).collect();
    assert!(!plain(&after(&polls[..2])).contains("PSI"), "nothing is known yet");
    let text = plain(&after(&polls));
    assert!(text.contains("PSI") && text.contains("!25"), "{text}");
}

#[test]
fn an_exporter_that_answers_late_has_rates() {
    let poll = |seconds| samples(&id('a'), "web", &[("container_cpu_usage_seconds_total", seconds)]);
    let mut app = App::new("node-7".to_owned(), &options(), SECOND);
    let start = Instant::now();
    for (seconds, asked, arrived) in [(0.0, 0, 4), (2.5, 5, 9), (3.5, 10, 29)] {
        let times = (start + asked * SECOND, start + arrived * SECOND);
        app.take(&Answer { text: poll(seconds), asked: times.0, arrived: times.1, date: None }, start);
    }
    assert_eq!(app.model.rows[&"a".repeat(64)].history, [None, Some(50.0), Some(5.0)]);
}

#[test]
fn what_changes_while_it_is_watched_is_marked() {
    let poll = |restarts, kills, seconds| {
        let families = [
            ("container_restarts_total", restarts),
            ("container_oom_events_total", kills),
            ("container_cpu_usage_seconds_total", seconds),
        ];
        let labels = format!("{{id=\"{}\",image=\"\",name=\"web\",state=\"running\"}}", id('a'));
        samples(&id('a'), "web", &families) + &format!("machine_cpu_cores 1\ncontainer_state{labels} 1\n")
    };
    let quiet = screen(&after(&[poll(4.0, 2.0, 0.0), poll(4.0, 2.0, 0.5)]), 80, 24);
    assert!(quiet.contains("R web") && !quiet.contains('▲'), "an old count alone is quiet: {quiet}");
    let killed = screen(&after(&[poll(4.0, 2.0, 0.0), poll(4.0, 3.0, 0.5)]), 80, 24);
    assert!(killed.contains("! web"), "{killed}");
    let restarted = screen(&after(&[poll(4.0, 2.0, 0.0), poll(5.0, 2.0, 0.5)]), 80, 24);
    assert!(restarted.contains("▲5"), "{restarted}");
    let busy: Vec<_> = (0..4).map(|at| poll(4.0, 2.0, f64::from(at))).collect();
    assert!(!screen(&after(&busy[..3]), 80, 24).contains("▲100.0"), "two polls may be chance");
    assert!(screen(&after(&busy), 80, 24).contains("▲100.0"), "{}", screen(&after(&busy), 80, 24));
}

#[test]
fn hostile_names_neither_reach_the_terminal_nor_widen_the_text() {
    let name = format!("a\u{1b}]52;c;x\u{7}\u{202e}{}", "n".repeat(65_536));
    let used = [("container_memory_working_set_bytes", 1_048_576.0)];
    let app = after(&[samples(&id('a'), &name, &used) + &samples(&id('b'), "web", &used)]);
    for text in [screen(&app, 80, 24), plain(&app)] {
        assert!(text.contains("a\u{fffd}]52;c;x\u{fffd}\u{fffd}nn") && !text.contains(['\u{1b}', '\u{202e}']));
    }
    assert!(plain(&app).lines().filter(|line| line.len() > 200).count() == 1, "the other lines are short");
}
