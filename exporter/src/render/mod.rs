//! Renders expositions: the samples of all containers in the order of the metric table, as text or as protobuf, with or without gzip.
//!
//! A renderer of our own, as label sets end with their containers and nothing may be allocated per sample. The registry of the client
//! library can do neither; it holds our own metrics alone.

mod facts;
mod family;
mod format;
mod gzip;
mod header;
mod histogram;
mod labels;
mod number;
mod output;
mod protobuf;
mod sample;
mod self_metrics;
#[cfg(test)]
mod tests;
mod view;

use bytes::Bytes;
use family::write_family;
pub use format::Format;
pub use labels::LabelSets;
pub use output::BufferPool;
use output::Output;
pub use view::{Exposed, View};

/// Renders one exposition.
#[must_use]
pub fn render(
    view: &View<'_>,
    self_metrics: &[prometheus::proto::MetricFamily],
    format: Format,
    gzip: bool,
    pool: &BufferPool,
) -> Bytes {
    let mut output = Output::new(format, gzip, pool);
    for rows in view.rows.chunk_by(|row, next| row.family.name == next.family.name) {
        write_family(view, rows, &mut output);
    }
    end(self_metrics, format, output)
}

/// Renders an exposition of our own metrics alone.
#[must_use]
pub fn render_self_metrics(
    self_metrics: &[prometheus::proto::MetricFamily],
    format: Format,
    gzip: bool,
    pool: &BufferPool,
) -> Bytes {
    end(self_metrics, format, Output::new(format, gzip, pool))
}

fn end(self_metrics: &[prometheus::proto::MetricFamily], format: Format, mut output: Output) -> Bytes {
    self_metrics::self_metrics(self_metrics, &mut output);
    if format == Format::OpenMetrics {
        output.text.extend_from_slice(b"# EOF\n");
    }
    output.finish()
}
