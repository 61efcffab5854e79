//! Sets up the log on stderr.

use std::io::{self, Write};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_logfmt::{EventsFormatter, FieldsFormatter};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::LogFormat;

/// Sets up the log.
///
/// Libraries log warnings and errors only, because their messages at `debug` would outnumber the exporter's. At `trace`
/// they log everything.
///
/// # Errors
/// A log has been set up already.
pub fn init(level: Level, format: LogFormat) -> Result<(), TryInitError> {
    let others = if level == Level::TRACE { level } else { level.min(Level::WARN) };
    // h2 warns about what clients do, so clients could fill the log.
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

/// Replaces `\'` by an apostrophe: logfmt readers do not know this escape of the formatter.
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
