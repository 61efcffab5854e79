//! Draws the state of `top`: text, reverse, bold and the terminal's own colours. Without colour, signs and words say the same.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as TextLine, Span};
use ratatui::widgets::{Paragraph, Wrap};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::app::{App, CpuScale, Line, View, age, display_name, is_stopped};
use super::detail::detail;
use super::families::Gauge;
use super::model::Row;
use super::numbers::{NetworkSource, Numbers};
use super::text::{MISSING, Palette, bytes, duration, percent, rate, safe};

/// How bad a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    None,
    Warning,
    Critical,
}

/// A column with its width; the last to be dropped on a narrow terminal comes first.
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

/// Columns in the order in which they are left out.
const DROPPED: [Column; 6] =
    [Column::Uptime, Column::Restarts, Column::Disk, Column::Transmit, Column::Receive, Column::Pressure];

const HELP: &str = "\
q, Ctrl-C quit        arrows, j k move       Enter detail, Esc back
/ filter (Esc clears) s < > sort             r reverse the order
C cpu M memory D disk T network N name       a stopped ones too
t projects            % core, limit, host    b bits
+ - pace              Space pause            Ctrl-L redraw

CPU% 100 = one core. MEM is the working set: without inactive cache.
MEM% of the limit; * of the host's memory, as there is no limit.
PSI: share of the last ten seconds in which a task waited.
State: R running, P paused, ! not healthy, x ended, ~ restarting.
- is a value that is not known. IP: counted by eBPF.";

/// Draws one frame.
pub(super) fn draw(frame: &mut Frame<'_>, app: &App, palette: Palette) {
    let area = frame.area();
    if area.width < 40 || area.height < 6 {
        frame.render_widget(Paragraph::new("too small: 40x6 at least"), area);
        return;
    }
    let head = if area.height >= 14 { 4 } else { 1 };
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(head), Constraint::Min(1), Constraint::Length(1)]).areas(area);
    frame.render_widget(Paragraph::new(header(app, palette, usize::from(area.width), head > 1)), top);
    match app.view {
        View::Help => frame.render_widget(Paragraph::new(HELP).wrap(Wrap { trim: false }), middle),
        View::Detail => match app.selected_row() {
            Some(row) => {
                frame.render_widget(Paragraph::new(detail(app, row, palette)).wrap(Wrap { trim: false }), middle);
            }
            None => frame.render_widget(Paragraph::new("this container is gone; Esc goes back"), middle),
        },
        View::Table => table(frame, app, palette, middle),
    }
    frame.render_widget(Paragraph::new(footer(app)), bottom);
}

/// Returns the lines about the host.
fn header<'a>(app: &App, palette: Palette, width: usize, long: bool) -> Vec<TextLine<'a>> {
    let model = &app.model;
    let stopped = model.rows.values().filter(|row| is_stopped(row)).count();
    let failing = model.rows.values().filter(|row| Numbers::of(row, &model.host).health == Some("failing")).count();
    let mut first = vec![Span::raw(format!("{} running", model.rows.len() - stopped))];
    if stopped > 0 {
        first.push(Span::raw(format!("  {stopped} stopped")));
    }
    if failing > 0 {
        first.push(Span::raw("  "));
        first.push(marked(&format!("{failing} not healthy"), Severity::Critical, palette));
    }
    if model.docker_up == Some(false) {
        first.push(marked("  Docker does not answer", Severity::Warning, palette));
    }
    let pace = if app.paused { "paused".to_owned() } else { format!("every {} s", app.interval.as_secs()) };
    first.push(Span::raw(format!("  {pace}")));
    if let Some(error) = &app.error {
        let age = app.answered.map(|answered| answered.elapsed().as_secs_f64());
        let text = format!("  no answer for {}: {error}", duration(age));
        first.push(marked(&text, Severity::Critical, palette));
    }
    if !long {
        return vec![TextLine::from(first)];
    }
    let host = Numbers::of(&model.host, &model.host);
    let gauge = |gauge| model.host.gauges.get(gauge);
    let cores = gauge(Gauge::Cores);
    let cpu_share = host.cpu_percent.zip(cores).map(|(cpu, cores)| cpu / (100.0 * cores));
    let memory_share = host.memory_percent.map(|share| share / 100.0);
    let meter = width.min(100) / 4;
    let pressure = [("cpu", host.pressure_cpu), ("mem", host.pressure_memory), ("io", host.pressure_io)]
        .map(|(kind, value)| format!("{kind} {}", percent(value)))
        .join(" ");
    let of_cores = cores.map_or_else(|| MISSING.to_owned(), |cores| format!("{:.0}", 100.0 * cores));
    vec![
        TextLine::from(first),
        TextLine::from(format!(
            "CPU {} {}% of {of_cores}  pressure % {pressure}",
            bar(cpu_share, meter),
            percent(host.cpu_percent)
        )),
        TextLine::from(format!(
            "MEM {} {} of {}  net in {}/s out {}/s",
            bar(memory_share, meter),
            bytes(host.working_set),
            bytes(gauge(Gauge::Memory)),
            rate(host.receive, app.bits),
            rate(host.transmit, app.bits)
        )),
        TextLine::from(""),
    ]
}

/// Returns `[||||    ]`.
fn bar(share: Option<f64>, width: usize) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "0 to the width"
    )]
    let full = (share.unwrap_or(0.0).clamp(0.0, 1.0) * width as f64).round() as usize;
    format!("[{}{}]", "|".repeat(full), " ".repeat(width.saturating_sub(full)))
}

fn table(frame: &mut Frame<'_>, app: &App, palette: Palette, area: Rect) {
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

/// Returns the columns that fit, the name with what is left.
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

/// Returns a text that is cut or filled to a width.
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

/// Returns a span in the style of its severity, with a sign that says the same without colour.
fn marked<'a>(text: &str, severity: Severity, palette: Palette) -> Span<'a> {
    let sign = match (severity, palette.ascii) {
        (Severity::None, _) => return Span::raw(text.to_owned()),
        (Severity::Warning, false) => "▲ ",
        (Severity::Warning, true) => "! ",
        (Severity::Critical, false) => "■ ",
        (Severity::Critical, true) => "!!",
    };
    Span::styled(format!("{sign}{}", text.trim_start()), style(severity, palette))
}

/// Returns the style of a severity.
fn style(severity: Severity, palette: Palette) -> Style {
    let style = match severity {
        Severity::None => Style::new(),
        Severity::Warning => Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD),
        Severity::Critical => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD | Modifier::REVERSED),
    };
    // A style without any colour: crossterm would write an escape code that also ends reverse and bold.
    if palette.color { style } else { Style { fg: None, ..style } }
}

fn severity(value: Option<f64>, warning: f64, critical: f64) -> Severity {
    match value {
        Some(value) if value >= critical => Severity::Critical,
        Some(value) if value >= warning => Severity::Warning,
        _ => Severity::None,
    }
}

fn state_letter(row: &Row, numbers: &Numbers) -> (&'static str, Severity) {
    match row.state.as_deref() {
        Some("running") if numbers.health == Some("failing") => ("!", Severity::Critical),
        Some("running") => ("R", Severity::None),
        Some("paused") => ("P", Severity::None),
        Some("restarting") => ("~", Severity::Warning),
        Some(_) => ("x", Severity::None),
        None => ("?", Severity::None),
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

/// Returns a container's text in a column.
fn value(column: Column, row: &Row, numbers: &Numbers, app: &App) -> (String, Severity) {
    let host = &app.model.host;
    let none = |text| (text, Severity::None);
    match column {
        Column::State => {
            let (letter, severity) = state_letter(row, numbers);
            (letter.to_owned(), severity)
        }
        Column::Name => none(match row.gauges.get(Gauge::ExitCode) {
            Some(code) if is_stopped(row) => format!("{} ({code})", display_name(row)),
            _ => display_name(row),
        }),
        Column::Cpu => {
            let cores = match app.scale {
                CpuScale::Core => Some(1.0),
                CpuScale::Limit => numbers.cpu_limit_cores.or(host.gauges.get(Gauge::Cores)),
                CpuScale::Host => host.gauges.get(Gauge::Cores),
            };
            let shown = numbers.cpu_percent.zip(cores).map(|(cpu, cores)| cpu / cores);
            (percent(shown), severity(numbers.throttled_percent, 5.0, 25.0))
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
            none(row.gauges.get(Gauge::Restarts).map_or_else(|| MISSING.to_owned(), |count| count.to_string()))
        }
        Column::Uptime => none(duration(age(row, app.clock))),
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
    let name = if name.is_empty() { "no project".to_owned() } else { safe(name) };
    let nobody = Row::default();
    let texts = columns.iter().map(|(column, _, width)| {
        let text = match column {
            Column::Name => format!("{name}: {count}"),
            Column::Cpu | Column::Memory | Column::Receive | Column::Transmit | Column::Disk => {
                value(*column, &nobody, numbers, app).0
            }
            _ => String::new(),
        };
        cell(&text, *width, is_text(*column))
    });
    TextLine::from(Span::styled(texts.collect::<Vec<_>>().join(" "), Style::new().add_modifier(Modifier::BOLD)))
}

fn footer(app: &App) -> String {
    if app.editing {
        return format!("filter: {}_  (Enter keeps, Esc clears)", safe(&app.filter));
    }
    let filter = if app.filter.is_empty() { String::new() } else { format!("  filter: {}", safe(&app.filter)) };
    let order = if app.reversed { " reversed" } else { "" };
    format!(
        "by {}{order}{filter}  ? Help / Filter s Sort Enter Detail a All t Groups Space Pause q Quit",
        app.sort.word()
    )
}

/// Returns the whole table as plain text: `--once` and pipes.
pub(super) fn plain(app: &App) -> String {
    let names = app.model.rows.values().map(|row| display_name(row).width() + 6).max().unwrap_or(0);
    let columns: Vec<_> = COLUMNS
        .into_iter()
        .map(|(column, title, width)| (column, title, if column == Column::Name { width.max(names) } else { width }))
        .collect();
    let palette = Palette { color: false, ascii: true };
    let mut text = head_line(&columns);
    text.push('\n');
    for line in &app.lines {
        if let Line::Container(key) = line
            && let Some(row) = app.model.rows.get(key)
        {
            text.push_str(row_line(row, app, &columns, palette).to_string().trim_end());
            text.push('\n');
        }
    }
    text
}
