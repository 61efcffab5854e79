//! Latency histograms whose bounds double. The bucket is found by integer arithmetic without a division: eBPF has no floating
//! point, and a division costs more than all the rest.

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

    /// Adds the observations of another histogram.
    pub fn add(&mut self, more: &Self) {
        self.sum_ns += more.sum_ns;
        for (bucket, more) in self.buckets.iter_mut().zip(&more.buckets) {
            *bucket += more;
        }
    }
}

/// Where the bounds of a histogram begin: each is twice the one before, and all are powers of two of a second, as native
/// histograms have them.
///
/// A second is 2^9 · 5^9 ns, so that a bound of 2^(`index` − n) s is 5^9 · 2^`index` steps of 2^(9 − n) ns: the shift that makes
/// such steps of nanoseconds is all that differs between scales, and no comparison is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    shift: u32,
}

/// 5^9.
const FIRST_BOUND: u64 = 1_953_125;
/// Thirteen days: longer latencies are cut to it, so that the shift cannot overflow. All are above the last bound.
const LONGEST_NS: u64 = 1 << 50;

impl Scale {
    /// 2^-16 s (15.3 µs) to 2^4 s: disks.
    pub const DISK: Self = Self { shift: 7 };
    /// 2^-20 s (0.95 µs) to 2^0 s: waiting for a CPU.
    pub const RUN_QUEUE: Self = Self { shift: 11 };

    /// The power of two of a second that the first bound is.
    #[must_use]
    pub const fn first_power(self) -> i32 {
        -9 - self.shift.cast_signed()
    }

    /// The bucket of a latency: the first one whose bound it does not exceed.
    #[must_use]
    #[inline]
    pub const fn bucket(self, latency_ns: u64) -> usize {
        let latency = if latency_ns < LONGEST_NS { latency_ns } else { LONGEST_NS } << self.shift;
        // A linear search, because most latencies are only a few steps above the first bound.
        let mut bound = FIRST_BOUND;
        let mut index = 0;
        while index < BOUNDS && latency > bound {
            bound *= 2;
            index += 1;
        }
        index
    }
}

const _: () = assert!(size_of::<Histogram>() == 8 * (1 + BUCKETS), "Histogram is part of kernel maps' layouts");

#[cfg(test)]
mod tests {
    use super::{BOUNDS, Scale};

    const NS_PER_SECOND: u128 = 1_000_000_000;

    /// Whether a latency is above 2^`power` s: both sides of the fraction multiplied out.
    fn is_above(latency_ns: u64, power: i32) -> bool {
        let (latency, second) = (u128::from(latency_ns), NS_PER_SECOND);
        match u32::try_from(power) {
            Ok(power) => latency > second << power,
            Err(_) => latency << power.unsigned_abs() > second,
        }
    }

    fn check(scale: Scale, latency: u64) {
        let bucket = scale.bucket(latency);
        let power = |index: usize| scale.first_power() + i32::try_from(index).unwrap();
        assert!(bucket == BOUNDS || !is_above(latency, power(bucket)), "{latency} ns in bucket {bucket}");
        assert!(bucket == 0 || is_above(latency, power(bucket - 1)), "{latency} ns in bucket {bucket}");
    }

    #[test]
    fn buckets_are_those_of_exact_fractions() {
        for scale in [Scale::DISK, Scale::RUN_QUEUE] {
            // Bounds and their neighbours.
            for index in 0..BOUNDS {
                let power = scale.first_power() + i32::try_from(index).unwrap();
                let below = match u32::try_from(power) {
                    Ok(power) => NS_PER_SECOND << power,
                    Err(_) => NS_PER_SECOND >> power.unsigned_abs(),
                };
                let below = u64::try_from(below).unwrap();
                assert_eq!((scale.bucket(below), scale.bucket(below + 1)), (index, index + 1), "2^{power} s");
                (below - 1..=below + 2).for_each(|latency| check(scale, latency));
            }
            // Across all magnitudes.
            let mut latency = 1_u64;
            while latency < 1 << 60 {
                check(scale, latency);
                latency += latency / 9_973 + 1;
            }
            assert_eq!((scale.bucket(0), scale.bucket(1), scale.bucket(u64::MAX)), (0, 0, BOUNDS));
        }
    }

    #[test]
    fn scales_begin_at_their_powers_of_a_second() {
        assert_eq!((Scale::DISK.first_power(), Scale::RUN_QUEUE.first_power()), (-16, -20));
        assert_eq!(Scale::DISK.bucket(1_000_000_000), 16, "a bound belongs to the bucket that it bounds");
        assert_eq!(Scale::RUN_QUEUE.bucket(1_000_000_000), 20);
    }
}
