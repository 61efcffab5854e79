//! Latencies as histograms whose bounds double, told by integer arithmetic alone: the kernel's virtual machine has no
//! floating point, and a division costs more than the rest.

use core::mem::size_of;

/// Bounds of a histogram.
pub const BOUNDS: usize = 21;
/// Buckets: one below each bound, and one above the last.
pub const BUCKETS: usize = BOUNDS + 1;

/// Observed latencies of one kind.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Sum of all latencies in nanoseconds.
    pub sum_ns: u64,
    /// How many there were between the bound before and its own, that one included. Not cumulative.
    pub buckets: [u64; BUCKETS],
}

impl Histogram {
    /// How many latencies were observed.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Takes another's observations in.
    pub fn add(&mut self, more: &Self) {
        self.sum_ns += more.sum_ns;
        for (bucket, more) in self.buckets.iter_mut().zip(&more.buckets) {
            *bucket += more;
        }
    }
}

/// Where the bounds of a histogram begin.
///
/// A bound is 125 ns times a power of two, so that the bounds are short decimals: shifting does most of the division.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale(u32);

impl Scale {
    /// 16 µs to 16.777216 s: disks.
    pub const DISK: Self = Self(7);
    /// 1 µs to 1.048576 s: waiting for a CPU.
    pub const RUN_QUEUE: Self = Self(3);

    /// A bound in nanoseconds, counted from 0.
    #[must_use]
    pub const fn bound_ns(self, place: u32) -> u64 {
        125 << (self.0 + place)
    }

    /// The bucket of a latency.
    #[must_use]
    #[inline]
    pub const fn bucket(self, latency_ns: u64) -> usize {
        // Most latencies are a few steps above the first bound, and a program that is short is a cheap one.
        let mut bound = self.bound_ns(0);
        let mut place = 0;
        while place < BOUNDS && latency_ns > bound {
            bound *= 2;
            place += 1;
        }
        place
    }
}

const _: () = assert!(size_of::<Histogram>() == 8 * (1 + BUCKETS), "Histogram is part of kernel maps' layouts");

#[cfg(test)]
mod tests {
    use super::{BOUNDS, Scale};

    #[test]
    fn a_bound_belongs_to_the_bucket_that_it_bounds() {
        for scale in [Scale::DISK, Scale::RUN_QUEUE] {
            for place in 0..21 {
                let bound = scale.bound_ns(place);
                assert_eq!(scale.bucket(bound), place as usize, "{bound}");
                assert_eq!(scale.bucket(bound + 1), place as usize + 1, "{bound} and one more");
            }
            assert_eq!((scale.bucket(0), scale.bucket(1), scale.bucket(u64::MAX)), (0, 0, BOUNDS));
        }
        assert_eq!((Scale::DISK.bound_ns(0), Scale::DISK.bound_ns(20)), (16_000, 16_777_216_000));
        assert_eq!((Scale::RUN_QUEUE.bound_ns(0), Scale::RUN_QUEUE.bound_ns(20)), (1_000, 1_048_576_000));
    }

    #[test]
    fn every_latency_is_at_most_its_bound_and_above_the_one_before() {
        let mut latency = 1_u64;
        while latency < 40_000_000_000 {
            let bucket = Scale::DISK.bucket(latency);
            let bound = |place: usize| Scale::DISK.bound_ns(u32::try_from(place).unwrap());
            assert!(bucket == BOUNDS || latency <= bound(bucket), "{latency}");
            assert!(bucket == 0 || latency > bound(bucket - 1), "{latency}");
            latency += latency / 97 + 1;
        }
    }
}
