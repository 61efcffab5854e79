//! Formats values for the terminal: short numbers and times, names without control characters, marks of bad values.

use std::fmt::Write as _;

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

/// The text of an unknown value.
pub(super) const MISSING: &str = "-";

/// What the terminal can show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    /// Whether colours are used.
    pub(super) color: bool,
    /// Whether only ASCII characters are used.
    pub(super) ascii: bool,
}

const UNITS: [&str; 6] = ["B", "K", "M", "G", "T", "P"];

/// Returns bytes with a unit of one letter. The units are powers of 1024, as those of `docker run -m`.
pub(super) fn bytes(value: Option<f64>) -> String {
    value.map_or_else(|| MISSING.to_owned(), |value| scaled(value, 1024.0))
}

/// Returns bytes per second, or bits per second in powers of 1000.
pub(super) fn rate(value: Option<f64>, bits: bool) -> String {
    let Some(value) = value else { return MISSING.to_owned() };
    if bits { format!("{}b", scaled(8.0 * value, 1000.0).trim_end_matches('B')) } else { scaled(value, 1024.0) }
}

/// Returns a value with the unit that leaves at most three digits.
fn scaled(value: f64, base: f64) -> String {
    let mut value = value;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value.abs() >= 999.5 {
        let Some(next) = units.next() else { break };
        unit = Some(next);
        value /= base;
    }
    let unit = unit.copied().unwrap_or_default();
    match unit {
        "B" if value < 0.5 => "0".to_owned(),
        "B" => format!("{value:.0}B"),
        _ if value < 10.0 => format!("{value:.1}{unit}"),
        _ => format!("{value:.0}{unit}"),
    }
}

/// Returns a percentage, below 1000 with one digit behind the point.
pub(super) fn percent(value: Option<f64>) -> String {
    match value {
        None => MISSING.to_owned(),
        Some(value) if value >= 1000.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.1}"),
    }
}

/// Returns a duration in its largest unit.
pub(super) fn duration(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds.filter(|seconds| *seconds >= 0.0) else { return MISSING.to_owned() };
    for (length, unit) in [(86_400.0, 'd'), (3600.0, 'h'), (60.0, 'm')] {
        if seconds >= length {
            return format!("{:.0}{unit}", (seconds / length).floor());
        }
    }
    format!("{:.0}s", seconds.floor())
}

/// Replaces control and bidirectional characters, so that no escape code of a name reaches the terminal.
pub(super) fn safe(text: &str) -> String {
    text.chars().map(|letter| if is_hidden(letter) { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}

/// Replaces the same characters of a JSON text by their escapes.
pub(super) fn safe_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        if is_hidden(letter) {
            // Writing to a String cannot fail.
            _ = write!(text, "\\u{:04x}", u32::from(letter));
        } else {
            text.push(letter);
        }
    }
    text
}

fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How bad a value is. A sign, bold text and a colour show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    None,
    Warning,
    Critical,
}

/// Returns a span in the style of its severity, with a sign.
pub(super) fn marked<'a>(text: &str, severity: Severity, palette: Palette) -> Span<'a> {
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
pub(super) fn style(severity: Severity, palette: Palette) -> Style {
    let style = match severity {
        Severity::None => Style::new(),
        Severity::Warning => Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD),
        Severity::Critical => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD | Modifier::REVERSED),
    };
    // `Color::Reset` is not used: its escape code would also end reverse and bold.
    if palette.color { style } else { Style { fg: None, ..style } }
}

/// Returns the severity of a value by two thresholds.
pub(super) fn severity(value: Option<f64>, warning: f64, critical: f64) -> Severity {
    match value {
        Some(value) if value >= critical => Severity::Critical,
        Some(value) if value >= warning => Severity::Warning,
        _ => Severity::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_the_unknown_is_no_zero() {
        for (value, expected) in [
            (None, "-"),
            (Some(0.0), "0"),
            (Some(900.0), "900B"),
            (Some(1536.0), "1.5K"),
            (Some(2e9), "1.9G"),
            (Some(1023.0), "1.0K"),
        ] {
            assert_eq!(bytes(value), expected);
        }
        assert_eq!((rate(Some(125.0), true).as_str(), rate(None, true).as_str()), ("1.0Kb", "-"));
        assert_eq!(
            (duration(Some(125.0)).as_str(), duration(None).as_str(), duration(Some(1.1e6)).as_str()),
            ("2m", "-", "12d")
        );
        assert_eq!((percent(Some(104.24)).as_str(), percent(Some(12_800.0)).as_str()), ("104.2", "12800"));
    }

    #[test]
    fn names_cannot_write_to_the_terminal() {
        assert_eq!(safe("a\u{1b}]0;x\u{7}b\u{202e}c\n"), "a\u{fffd}]0;x\u{fffd}b\u{fffd}c\u{fffd}");
    }

    #[test]
    fn json_tells_hidden_characters_by_escapes() {
        let json = serde_json::json!({"name": "a\u{9b}\u{202e}\u{1b}é"});
        let text = safe_json(&json.to_string());
        assert_eq!(text, "{\"name\":\"a\\u009b\\u202e\\u001bé\"}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), json);
    }
}
