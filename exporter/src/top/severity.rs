//! How bad a value is, and how that is shown: by a sign, by bold or reverse, and last by colour.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

use super::text::Palette;

/// How bad a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    None,
    Warning,
    Critical,
}

/// Returns a span in the style of its severity, with a sign that says the same without colour.
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
    // A style without any colour: crossterm would write an escape code that also ends reverse and bold.
    if palette.color { style } else { Style { fg: None, ..style } }
}

/// Returns how bad a value is by two thresholds.
pub(super) fn severity(value: Option<f64>, warning: f64, critical: f64) -> Severity {
    match value {
        Some(value) if value >= critical => Severity::Critical,
        Some(value) if value >= warning => Severity::Warning,
        _ => Severity::None,
    }
}
