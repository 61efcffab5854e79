//! Draws the table of containers: its columns, their widths, and the cells.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line as TextLine, Span};
use ratatui::widgets::Paragraph;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::app::{App, CpuScale, Line, age, display_name, is_stopped};
use super::exposition::Gauge;
use super::format::{MISSING, Palette, Severity, bytes, duration, percent, rate, safe, severity, style};
use super::model::{CGROUPS, Row};
use super::numbers::{NetworkSource, Numbers};

/// Number of polls in a row near the CPU limit after which a container is marked.
const BUSY_POLLS: u32 = 3;
/// Maximum width of the names' column in plain text. A longer name is not cut and moves the rest of its line.
const MAX_NAME_WIDTH: usize = 64;

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    State,
    Name,
    Cpu,
    Memory,
    MemoryPercent,
    Receive,
    Transmit,
    Disk,
    Pressure,
    Restarts,
    Uptime,
}

/// The columns with their titles and widths.
const COLUMNS: [(Column, &str, usize); 11] = [
    (Column::State, "S", 1),
    (Column::Name, "NAME", 18),
    (Column::Cpu, "CPU%", 6),
    (Column::Memory, "MEM", 6),
    (Column::MemoryPercent, "MEM%", 5),
    (Column::Receive, "RX/s", 7),
    (Column::Transmit, "TX/s", 7),
    (Column::Disk, "DISK/s", 7),
    (Column::Pressure, "PSI", 5),
    (Column::Restarts, "RST", 3),
    (Column::Uptime, "UP", 4),
];

/// The columns that a narrow terminal leaves out, the first one first.
const DROPPED: [Column; 6] =
    [Column::Uptime, Column::Restarts, Column::Disk, Column::Transmit, Column::Receive, Column::Pressure];

/// Draws the table.
pub(super) fn table(frame: &mut Frame<'_>, app: &App, palette: Palette, area: Rect) {
    let columns = columns(usize::from(area.width));
    let height = usize::from(area.height).saturating_sub(1);
    let selected = app
        .lines
        .iter()
        .position(|line| matches!(line, Line::Container(key) if Some(key) == app.selected.as_ref()))
        .unwrap_or(0);
    let first = selected.saturating_sub(height.saturating_sub(1)).min(app.lines.len().saturating_sub(height));
    let mut lines = vec![TextLine::from(Span::styled(head_line(&columns), Style::new().add_modifier(Modifier::BOLD)))];
    for (index, line) in app.lines.iter().enumerate().skip(first).take(height) {
        let mut text = match line {
            Line::Group { name, count, numbers } => group_line(name, *count, numbers, &columns, app),
            Line::Container(key) => match app.model.rows.get(key) {
                Some(row) => row_line(row, app, &columns, palette),
                None => TextLine::from(""),
            },
        };
        if index == selected {
            text = text.patch_style(Style::new().add_modifier(Modifier::REVERSED));
        } else if app.error.is_some() {
            text = text.patch_style(Style::new().add_modifier(Modifier::DIM));
        }
        lines.push(text);
    }
    if app.lines.is_empty() && app.answered.is_some() {
        lines.push(TextLine::from(
            "no container here, or none that the filter leaves (Esc clears it, a shows stopped ones)",
        ));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// Returns the columns that fit, with a name column that takes the free width.
fn columns(width: usize) -> Vec<(Column, &'static str, usize)> {
    let mut columns = COLUMNS.to_vec();
    let total = |columns: &[(Column, &str, usize)]| columns.iter().map(|(_, _, width)| width + 1).sum::<usize>() - 1;
    for dropped in DROPPED {
        if total(&columns) <= width {
            break;
        }
        columns.retain(|(column, ..)| *column != dropped);
    }
    let free = width.saturating_sub(total(&columns));
    for (column, _, width) in &mut columns {
        if *column == Column::Name {
            *width += free.min(42);
        }
    }
    columns
}

fn head_line(columns: &[(Column, &'static str, usize)]) -> String {
    columns.iter().map(|(column, title, width)| cell(title, *width, is_text(*column))).collect::<Vec<_>>().join(" ")
}

fn is_text(column: Column) -> bool {
    matches!(column, Column::State | Column::Name)
}

/// Returns a text that is cut or padded to a width.
fn cell(text: &str, width: usize, left: bool) -> String {
    let mut cut = String::new();
    let mut used = 0;
    for letter in text.chars() {
        let wide = letter.width().unwrap_or(0);
        if used + wide > width {
            break;
        }
        used += wide;
        cut.push(letter);
    }
    let fill = " ".repeat(width - used);
    if left { cut + &fill } else { fill + &cut }
}

/// Returns the sign of a container's state, and how bad the state is.
fn state_letter(row: &Row, numbers: &Numbers) -> (&'static str, Severity) {
    match row.state.as_deref() {
        Some("running") if row.oom_killed || numbers.health == Some("failing") => ("!", Severity::Critical),
        Some("running") => ("R", Severity::None),
        Some("paused") => ("P", Severity::None),
        Some("restarting") => ("~", Severity::Warning),
        Some(_) => ("x", Severity::None),
        None if row.is_container() => ("?", Severity::None),
        None => ("c", Severity::None),
    }
}

fn row_line<'a>(row: &Row, app: &App, columns: &[(Column, &'static str, usize)], palette: Palette) -> TextLine<'a> {
    let host = &app.model.host;
    let numbers = Numbers::of(row, host);
    let mut spans = Vec::new();
    for (column, _, width) in columns {
        let (text, severity) = value(*column, row, &numbers, app);
        if !spans.is_empty() {
            spans.push(Span::raw(" "));
        }
        let sign = match (severity, palette.ascii, *column) {
            (Severity::None, ..) | (_, _, Column::State) => "",
            (Severity::Warning, false, _) => "▲",
            (Severity::Critical, false, _) => "■",
            (_, true, _) => "!",
        };
        spans.push(Span::styled(cell(&format!("{sign}{text}"), *width, is_text(*column)), style(severity, palette)));
    }
    TextLine::from(spans)
}

/// Returns a container's text in a column, and how bad the value is.
fn value(column: Column, row: &Row, numbers: &Numbers, app: &App) -> (String, Severity) {
    let host = &app.model.host;
    let none = |text| (text, Severity::None);
    match column {
        Column::State => {
            let (letter, severity) = state_letter(row, numbers);
            (letter.to_owned(), severity)
        }
        Column::Name => name(row),
        Column::Cpu => {
            let cores = match app.scale {
                CpuScale::Core => Some(1.0),
                CpuScale::Limit => numbers.cpu_limit_cores.or(host.gauges.get(Gauge::Cores)),
                CpuScale::Host => host.gauges.get(Gauge::Cores),
            };
            let shown = numbers.cpu_percent.zip(cores).map(|(cpu, cores)| cpu / cores);
            let throttled = severity(numbers.throttled_percent, 5.0, 25.0);
            let busy = if row.busy_polls >= BUSY_POLLS { Severity::Warning } else { Severity::None };
            (percent(shown), if throttled == Severity::None { busy } else { throttled })
        }
        Column::Memory => none(bytes(numbers.working_set)),
        Column::MemoryPercent => match (numbers.memory_percent, numbers.memory_limit) {
            (None, _) => none(MISSING.to_owned()),
            (Some(share), None) => none(format!("*{share:.0}")),
            (Some(share), Some(_)) => (format!("{share:.0}"), severity(Some(share), 80.0, 95.0)),
        },
        Column::Receive => none(network(numbers.receive, numbers, app)),
        Column::Transmit => none(network(numbers.transmit, numbers, app)),
        Column::Disk => none(bytes(match (numbers.read, numbers.write) {
            (None, None) => None,
            (read, write) => Some(read.unwrap_or(0.0) + write.unwrap_or(0.0)),
        })),
        Column::Pressure => match numbers.pressure() {
            None => none(MISSING.to_owned()),
            Some((_, value)) => (format!("{value:.0}"), severity(Some(value), 10.0, 40.0)),
        },
        Column::Restarts => {
            let text = row.gauges.get(Gauge::Restarts).map_or_else(|| MISSING.to_owned(), |count| count.to_string());
            (text, if row.restarted { Severity::Warning } else { Severity::None })
        }
        Column::Uptime => none(duration(age(row, app.clock))),
    }
}

/// Returns the name of a container, with the exit code of a stopped one.
fn name(row: &Row) -> (String, Severity) {
    let name = display_name(row);
    match row.gauges.get(Gauge::ExitCode) {
        Some(_) if is_stopped(row) && row.gauges.get(Gauge::OomKilled) == Some(1.0) => {
            (format!("{name} (OOM)"), Severity::Critical)
        }
        Some(code) if is_stopped(row) => (format!("{name} ({code})"), Severity::None),
        _ => (name, Severity::None),
    }
}

fn network(value: Option<f64>, numbers: &Numbers, app: &App) -> String {
    let mark = if value.is_some() && numbers.network_source == Some(NetworkSource::Ebpf) { "IP " } else { "" };
    format!("{mark}{}", rate(value, app.bits))
}

fn group_line<'a>(
    name: &str,
    count: usize,
    numbers: &Numbers,
    columns: &[(Column, &'static str, usize)],
    app: &App,
) -> TextLine<'a> {
    let name = match name {
        "" => "no project".to_owned(),
        CGROUPS => "cgroups, not containers".to_owned(),
        name => safe(name),
    };
    let no_row = Row::default();
    let texts = columns.iter().map(|(column, _, width)| {
        let text = match column {
            Column::Name => format!("{name}: {count}"),
            Column::Cpu | Column::Memory | Column::Receive | Column::Transmit | Column::Disk => {
                value(*column, &no_row, numbers, app).0
            }
            _ => String::new(),
        };
        cell(&text, *width, is_text(*column))
    });
    TextLine::from(Span::styled(texts.collect::<Vec<_>>().join(" "), Style::new().add_modifier(Modifier::BOLD)))
}

/// Returns the whole table as plain text, for `--once` and pipes. Names are not cut. The pressure is left out if no row has
/// one.
pub(super) fn plain(app: &App) -> String {
    let shown: Vec<&Row> = app.keys().filter_map(|key| app.model.rows.get(key)).collect();
    let width = |row: &Row| name(row).0.width();
    let common = shown.iter().map(|row| width(row).min(MAX_NAME_WIDTH)).max().unwrap_or(0);
    let pressure = shown.iter().any(|row| Numbers::of(row, &app.model.host).pressure().is_some());
    let columns = |names: usize| -> Vec<_> {
        let shown = COLUMNS.into_iter().filter(|(column, ..)| pressure || *column != Column::Pressure);
        shown
            .map(|(column, title, width)| {
                (column, title, if column == Column::Name { width.max(names) } else { width })
            })
            .collect()
    };
    let palette = Palette { color: false, ascii: true };
    let mut text = head_line(&columns(common));
    text.push('\n');
    for row in shown {
        let line = row_line(row, app, &columns(common.max(width(row))), palette).to_string();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
