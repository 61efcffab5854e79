//! The log: one subscriber on stderr, set up once by `main`.

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
/// The libraries below us log from `warn` on: at `debug` they would drown what we say ourselves. `trace` opens them too.
///
/// # Errors
/// Somebody else has set up a log already.
pub fn init(level: Level, format: LogFormat) -> Result<(), TryInitError> {
    let others = if level == Level::TRACE { level } else { level.min(Level::WARN) };
    let filter = Targets::new()
        .with_default(LevelFilter::from_level(others))
        .with_target(env!("CARGO_CRATE_NAME"), LevelFilter::from_level(level));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let layer = match format {
        LogFormat::Logfmt => {
            layer.event_format(EventsFormatter::default()).fmt_fields(FieldsFormatter::default()).boxed()
        }
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()
}
