//! Draws one frame: the lines about the host, then the table, one container or the help.
//!
//! Without colours the same is shown by signs and words.

use std::fmt::Write as _;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::text::{Line as TextLine, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::app::{App, View, age, display_name, is_stopped};
use super::exposition::Gauge;
use super::format::{MISSING, Palette, Severity, bytes, duration, marked, percent, rate, safe};
use super::model::Row;
use super::numbers::{Numbers, health};
use super::table::table;

/// Characters of a value in the view of one container; a longer value is cut.
const MAX_VALUE: usize = 256;
/// Characters of the sparkline, from the lowest value to the highest.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The same in ASCII.
const ASCII_BARS: &[u8; 8] = b".:-=+*#@";

const HELP: &str = "\
q, Ctrl-C quit        arrows, j k move       Enter detail, Esc back
/ filter (Esc clears) s < > sort             r reverse the order
C cpu M memory D disk T network N name       a stopped ones too
t projects            % core, limit, host    b bits
+ - pace              Space pause            Ctrl-L redraw

CPU% 100 = one core. MEM is the working set: without inactive cache.
MEM% of the limit; * of the host's memory, as there is no limit.
PSI: share of the last ten seconds in which a task waited.
State: R running, P paused, ~ restarting, x ended, c a cgroup that is no
container, ! not healthy or a process killed for lack of memory.
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

/// Returns the lines about the host: four, or one on a low terminal.
fn header<'a>(app: &App, palette: Palette, width: usize, long: bool) -> Vec<TextLine<'a>> {
    let mut first = vec![Span::raw(counts(app))];
    let failing = app.model.rows.values().filter(|row| health(row) == Some("failing")).count();
    if failing > 0 {
        first.push(Span::raw("  "));
        first.push(marked(&format!("{failing} not healthy"), Severity::Critical, palette));
    }
    if app.model.docker_up == Some(false) {
        first.push(Span::raw("  "));
        first.push(marked("Docker does not answer", Severity::Warning, palette));
    }
    let pace = if app.paused { "paused".to_owned() } else { format!("every {} s", app.interval.as_secs()) };
    first.push(Span::raw(format!("  {pace}")));
    let problem = app.error.as_ref().map(|error| {
        let age = app.answered.map(|answered| answered.elapsed().as_secs_f64());
        let age = age.map_or_else(|| "no answer".to_owned(), |age| format!("no answer for {}", duration(Some(age))));
        marked(&format!("{age}: {error}"), Severity::Critical, palette)
    });
    if !long {
        // The only line shows the error, if there is one.
        return vec![TextLine::from(problem.map_or(first, |problem| vec![problem]))];
    }
    let host = Numbers::of(&app.model.host, &app.model.host);
    let gauge = |gauge| app.model.host.gauges.get(gauge);
    let cores = gauge(Gauge::Cores);
    let cpu_share = host.cpu_percent.zip(cores).map(|(cpu, cores)| cpu / (100.0 * cores));
    let memory_share = host.memory_percent.map(|share| share / 100.0);
    let meter = width.min(100) / 4;
    let pressure = [("cpu", host.pressure_cpu), ("mem", host.pressure_memory), ("io", host.pressure_io)]
        .map(|(kind, value)| format!("{kind} {}", percent(value)))
        .join(" ");
    let of_cores = cores.map_or_else(|| MISSING.to_owned(), |cores| format!("{:.0}", 100.0 * cores));
    let swap = gauge(Gauge::SwapTotal).filter(|total| *total > 0.0);
    let swap = swap.map_or_else(String::new, |_| format!("  swap {}", bytes(gauge(Gauge::Swap))));
    vec![
        TextLine::from(first),
        TextLine::from(format!(
            "CPU {} {}% of {of_cores}  pressure % {pressure}",
            bar(cpu_share, meter),
            percent(host.cpu_percent)
        )),
        TextLine::from(format!(
            "MEM {} {} of {}{swap}  net in {}/s out {}/s",
            bar(memory_share, meter),
            bytes(host.working_set),
            bytes(gauge(Gauge::Memory)),
            rate(host.receive, app.bits),
            rate(host.transmit, app.bits)
        )),
        problem.map_or_else(TextLine::default, TextLine::from),
    ]
}

/// Returns the host's name and its numbers of containers, such as `node-7  14 running  1 stopped`.
fn counts(app: &App) -> String {
    let (containers, cgroups): (Vec<_>, Vec<_>) = app.model.rows.values().partition(|row| row.is_container());
    let stopped = containers.iter().filter(|row| is_stopped(row)).count();
    let mut text = format!("{}  {} running", app.host_name, containers.len() - stopped);
    for (count, what) in [(stopped, "stopped"), (cgroups.len(), "cgroups")] {
        if count > 0 {
            // Writing to a String cannot fail.
            _ = write!(text, "  {count} {what}");
        }
    }
    text
}

/// Returns a meter such as `[||||    ]`.
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

/// Returns the last line: the order, the filter and the main keys.
fn footer(app: &App) -> String {
    if app.editing {
        return format!("filter: {}_  (Enter keeps, Esc clears)", safe(&app.filter));
    }
    let filter = if app.filter.is_empty() { String::new() } else { format!("  filter: {}", safe(&app.filter)) };
    let order = if app.reversed { " reversed" } else { "" };
    format!(
        "by {}{order}{filter}  ? Help q Quit / Filter s Sort Enter Detail a All t Groups Space Pause",
        app.sort.word()
    )
}

/// Returns the lines about one container.
fn detail<'a>(app: &App, row: &Row, palette: Palette) -> Vec<TextLine<'a>> {
    let numbers = Numbers::of(row, &app.model.host);
    let gauge = |gauge| row.gauges.get(gauge);
    let count = |value: Option<f64>| value.map_or_else(|| MISSING.to_owned(), |value| value.to_string());
    let limit = numbers.memory_limit.map_or_else(|| "no limit".to_owned(), |limit| bytes(Some(limit)));
    let cores = numbers.cpu_limit_cores.map_or_else(|| "no limit".to_owned(), |cores| format!("{cores:.2} cores"));
    let health = numbers.health.map_or_else(String::new, |health| format!(", {health}"));
    let facts = [
        ("name", display_name(row)),
        (
            "state",
            format!("{}{health}, for {}", row.state.as_deref().unwrap_or("unknown"), duration(age(row, app.clock))),
        ),
        ("image", if row.image.is_empty() { MISSING.to_owned() } else { safe(&row.image) }),
        ("project", row.project.as_deref().map_or_else(|| MISSING.to_owned(), safe)),
        ("id", safe(&row.key)),
        ("cgroup", safe(&row.id)),
        (
            "cpu",
            format!(
                "{} % of one core, {cores}, throttled {} % of periods",
                percent(numbers.cpu_percent),
                percent(numbers.throttled_percent)
            ),
        ),
        ("cpu, last polls", sparkline(row, palette)),
        (
            "memory",
            format!(
                "{} of {limit} ({} %), {} with cache",
                bytes(numbers.working_set),
                percent(numbers.memory_percent),
                bytes(numbers.usage)
            ),
        ),
        (
            "network",
            format!(
                "in {}/s, out {}/s ({})",
                rate(numbers.receive, app.bits),
                rate(numbers.transmit, app.bits),
                row.network_mode.as_deref().map_or_else(|| "network unknown".to_owned(), safe)
            ),
        ),
        ("disk", format!("read {}/s, written {}/s", bytes(numbers.read), bytes(numbers.write))),
        (
            "pressure",
            format!(
                "cpu {} %, memory {} %, io {} %",
                percent(numbers.pressure_cpu),
                percent(numbers.pressure_memory),
                percent(numbers.pressure_io)
            ),
        ),
        (
            "tasks",
            format!(
                "{} of {}",
                count(gauge(Gauge::Threads)),
                count(gauge(Gauge::ThreadsMax).filter(|most| *most > 0.0))
            ),
        ),
        ("restarts", count(gauge(Gauge::Restarts))),
        ("exit code", count(gauge(Gauge::ExitCode))),
    ];
    facts.into_iter().map(|(term, text)| TextLine::from(format!("{term:<16}{text:.MAX_VALUE$}"))).collect()
}

/// Returns the CPU of the last polls as block characters; a poll without a rate is a blank.
fn sparkline(row: &Row, palette: Palette) -> String {
    let top = row.history.iter().flatten().copied().fold(10.0, f64::max);
    let sign = |value: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 7")]
        let step = (7.0 * value / top).round().clamp(0.0, 7.0) as usize;
        if palette.ascii {
            ASCII_BARS.get(step).map_or(' ', |byte| char::from(*byte))
        } else {
            BARS.get(step).copied().unwrap_or(' ')
        }
    };
    row.history.iter().map(|value| value.map_or(' ', sign)).collect()
}
