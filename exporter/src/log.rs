//! The log: one subscriber on stderr, set up once by `main`.

use std::io::{self, Write};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_logfmt::{EventsFormatter, FieldsFormatter};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::LogFormat;

/// Starts logging on stderr.
///
/// Libraries log from `warn` on: at `debug` they would drown our own messages. `trace` includes them.
///
/// # Errors
/// A log is set up already.
pub fn init(level: Level, format: LogFormat) -> Result<(), TryInitError> {
    let others = if level == Level::TRACE { level } else { level.min(Level::WARN) };
    // Its warnings report what clients do, as often as a client likes.
    let http2 = if level == Level::TRACE { LevelFilter::TRACE } else { LevelFilter::OFF };
    let filter = Targets::new()
        .with_default(LevelFilter::from_level(others))
        .with_target("h2", http2)
        .with_target(env!("CARGO_CRATE_NAME"), LevelFilter::from_level(level));
    let layer = tracing_subscriber::fmt::layer().log_internal_errors(false);
    let layer = match format {
        LogFormat::Logfmt => {
            let layer = layer.with_writer(|| Apostrophes(io::stderr()));
            layer.event_format(EventsFormatter::default()).fmt_fields(FieldsFormatter::default()).boxed()
        }
        LogFormat::Json => layer
            .with_writer(io::stderr)
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()
}

/// Removes the one escape of the logfmt formatter that logfmt readers do not know: `\'` for an apostrophe.
struct Apostrophes<W>(W);

impl<W: Write> Write for Apostrophes<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut plain = Vec::with_capacity(line.len());
        let mut bytes = line.iter().copied();
        while let Some(byte) = bytes.next() {
            if byte != b'\\' {
                plain.push(byte);
                continue;
            }
            match bytes.next() {
                Some(b'\'') => plain.push(b'\''),
                escaped => plain.extend([Some(byte), escaped].into_iter().flatten()),
            }
        }
        self.0.write_all(&plain)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::Apostrophes;

    #[test]
    fn an_apostrophe_is_not_escaped_and_everything_else_is() {
        let mut out = Apostrophes(Vec::new());
        out.write_all(br#"a="the engine\'s \"API\" C:\\'x' \n\\\'""#).unwrap();
        assert_eq!(out.0, br#"a="the engine's \"API\" C:\\'x' \n\\'""#);
    }
}
