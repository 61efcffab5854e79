//! What `top` says of one container.

use ratatui::text::Line as TextLine;

use super::app::{App, age, display_name};
use super::families::Gauge;
use super::model::Row;
use super::numbers::Numbers;
use super::text::{MISSING, Palette, bytes, duration, percent, rate, safe};

/// Letters of a fact that are shown.
const MAX_TEXT: usize = 256;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Returns the lines about one container.
pub(super) fn detail<'a>(app: &App, row: &Row, palette: Palette) -> Vec<TextLine<'a>> {
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
    // An endless name leaves room for the rest.
    facts.into_iter().map(|(term, text)| TextLine::from(format!("{term:<16}{text:.MAX_TEXT$}"))).collect()
}

/// Returns the CPU of the last polls as block characters; a poll without a rate is a blank.
fn sparkline(row: &Row, palette: Palette) -> String {
    let most = row.history.iter().flatten().copied().fold(10.0, f64::max);
    let sign = |value: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 7")]
        let step = (7.0 * value / most).round().clamp(0.0, 7.0) as usize;
        if palette.ascii {
            b".:-=+*#@".get(step).map_or(' ', |byte| char::from(*byte))
        } else {
            BARS.get(step).copied().unwrap_or(' ')
        }
    };
    row.history.iter().map(|value| value.map_or(' ', sign)).collect()
}
