//! The delimited protobuf format: `io.prometheus.client.MetricFamily` after `MetricFamily`, each after its length.
//!
//! Written by hand, without objects in between: a container's labels are encoded once and copied from then on, and all that changes
//! from scrape to scrape is eight bytes of a number. Names keep their `_total` and types are those of the metric table: unlike in
//! OpenMetrics, no name of cAdvisor's becomes `unknown`. Called by `output` and by what writes samples.

mod encoder;
mod head;
mod histogram;
mod pairs;
#[cfg(test)]
mod tests;
mod wire;

pub(super) use encoder::{Block, Encoder, SampleLabels, Set, Start};
pub(super) use histogram::Buckets;
pub(super) use pairs::Encoded;
