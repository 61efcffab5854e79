//! The exposition formats.

/// The exposition formats that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics text 1.0.0.
    OpenMetrics,
    /// Delimited protobuf, with the times at which counters began.
    Protobuf {
        /// Whether histograms have native buckets beside the classic ones.
        native: bool,
    },
}
