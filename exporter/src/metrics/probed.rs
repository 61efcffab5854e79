//! The counts of eBPF programs, as the metric table names them.

/// A count that eBPF programs keep per container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probed {
    /// Packets of one address family.
    Traffic(TrafficCount, IpFamily),
    /// TCP segments that were retransmitted.
    Retransmits,
    /// Requests completed by block devices, per device.
    Block(BlockCount, BlockOperation),
    /// Latency of requests completed by block devices.
    BlockLatency(BlockOperation),
    /// Time that tasks waited for a CPU.
    RunQueueLatency,
    /// Threads in one state.
    Threads(TaskState),
    /// Runnable threads, averaged over ten seconds, in thousandths.
    Load,
}

/// State of a thread, as cAdvisor names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskState {
    /// Waits for an event, and any signal wakes it.
    Sleeping,
    /// Has a CPU or waits for one.
    Running,
    /// Stopped by a signal or by a debugger.
    Stopped,
    /// Waits for something else than I/O, without reacting to ordinary signals.
    Uninterruptible,
    /// Waits for I/O without reacting to ordinary signals.
    IoWaiting,
}

/// A count of block I/O.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockCount {
    /// Bytes.
    Bytes,
    /// Requests.
    Operations,
    /// Sectors of 512 bytes.
    Sectors,
    /// Time from handing requests to the device to their completion, in nanoseconds.
    Time,
    /// The same, of all operations together.
    TimeOfAll,
}

/// Operation of a block I/O request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockOperation {
    /// Reads from the device.
    Read,
    /// Writes to the device.
    Write,
    /// Empties the device's cache.
    Flush,
    /// Discards blocks that are no longer used.
    Discard,
}

impl BlockOperation {
    /// Returns the label, as exposed.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Read => "operation=\"read\"",
            Self::Write => "operation=\"write\"",
            Self::Flush => "operation=\"flush\"",
            Self::Discard => "operation=\"discard\"",
        }
    }
}

/// The bounds of a histogram. The eBPF programs have a bucket for each power of two of a second; every second bound is exposed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// The first bound of the eBPF programs, as the exponent of a power of two of a second.
    pub first_power: i32,
    /// The exposed bounds as labels.
    pub labels: &'static [&'static str],
}

/// Every second power of two from 2^-20 to 2^4 seconds, formatted as Prometheus formats it, since a label must never change.
const LABELS: &[&str] = &[
    r#"le="9.5367431640625e-07""#,
    r#"le="3.814697265625e-06""#,
    r#"le="1.52587890625e-05""#,
    r#"le="6.103515625e-05""#,
    r#"le="0.000244140625""#,
    r#"le="0.0009765625""#,
    r#"le="0.00390625""#,
    r#"le="0.015625""#,
    r#"le="0.0625""#,
    r#"le="0.25""#,
    r#"le="1.0""#,
    r#"le="4.0""#,
    r#"le="16.0""#,
];

const DISK: Bounds = Bounds { first_power: -16, labels: LABELS.split_at(2).1 };

const RUN_QUEUE: Bounds = Bounds { first_power: -20, labels: LABELS.split_at(11).0 };

impl Probed {
    /// Returns the bounds of the histogram; none for a number.
    #[must_use]
    pub const fn bounds(self) -> Option<&'static Bounds> {
        match self {
            Self::BlockLatency(_) => Some(&DISK),
            Self::RunQueueLatency => Some(&RUN_QUEUE),
            Self::Traffic(..) | Self::Retransmits | Self::Block(..) | Self::Threads(_) | Self::Load => None,
        }
    }
}

/// A count of packets. Bytes are those of the IP packets, and the segments of a merged buffer count as packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrafficCount {
    /// Bytes received.
    ReceivedBytes,
    /// Packets received.
    ReceivedPackets,
    /// Bytes sent.
    SentBytes,
    /// Packets sent.
    SentPackets,
}

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

#[cfg(test)]
mod tests {
    use super::{DISK, RUN_QUEUE};

    #[test]
    fn every_second_power_of_two_of_a_second_is_exposed() {
        for bounds in [DISK, RUN_QUEUE] {
            assert_eq!(bounds.labels.len(), 11);
            for (power, bound) in (bounds.first_power..).step_by(2).zip(bounds.labels) {
                let bound = bound.strip_prefix("le=\"").unwrap().strip_suffix('"').unwrap();
                // Powers of two are exact in binary, and so are their decimals.
                assert_eq!(bound.parse::<f64>().unwrap().to_bits(), 2_f64.powi(power).to_bits(), "{bound}");
                assert!(bound.contains('.'), "{bound} is not written as a float");
            }
        }
    }
}
