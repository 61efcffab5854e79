//! The token bucket of `rate_limit`, one for all requests.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;

/// The rate of requests that are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Time after which one token is added.
    pub(super) interval: Duration,
    /// Maximum number of tokens. With 0 no request is allowed.
    pub(super) burst: u32,
}

/// A bucket of tokens.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) rate: Rate,
    /// Number of tokens, and when it was computed.
    level: Mutex<(f64, Instant)>,
}

impl Bucket {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, level: Mutex::new((f64::from(rate.burst), Instant::now())) }
    }

    /// Takes a token. Returns whether there was one.
    pub(super) fn allows(&self, now: Instant) -> bool {
        let mut level = lock(&self.level);
        let (tokens, since) = *level;
        let gained = now.saturating_duration_since(since).as_secs_f64() / self.rate.interval.as_secs_f64();
        let tokens = (tokens + gained).min(f64::from(self.rate.burst));
        let is_allowed = tokens >= 1.0;
        *level = (if is_allowed { tokens - 1.0 } else { tokens }, now.max(since));
        is_allowed
    }
}

/// Parses a duration as Go does (`1h2m3.5s`, `300ms`). A bare number is nanoseconds. A negative duration is 0, as both set no
/// limit.
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    if let Ok(nanoseconds) = text.parse::<i64>() {
        return Some(Duration::from_nanos(nanoseconds.try_into().unwrap_or(0)));
    }
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?);
        let (unit, tail) =
            tail.split_at(tail.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(tail.len()));
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = tail;
    }
    let length = Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())?;
    Some(if is_negative { Duration::ZERO } else { length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_with_time_and_never_above_the_burst() {
        let bucket = Bucket::new(Rate { interval: Duration::from_secs(1), burst: 2 });
        let start = Instant::now();
        let at = |seconds: u64| bucket.allows(start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(0), at(0), at(1), at(1)], [true, true, false, true, false]);
        assert_eq!([at(100), at(100), at(100)], [true, true, false]);
        assert!(!Bucket::new(Rate { interval: Duration::from_secs(1), burst: 0 }).allows(start));
    }

    #[test]
    fn durations_are_those_of_go() {
        for (text, nanoseconds) in [("0", 0), ("5", 5), ("1s", 1_000_000_000), ("1m0.5s", 60_500_000_000), ("-1s", 0)] {
            assert_eq!(go_duration(text).unwrap().as_nanos(), nanoseconds, "{text}");
        }
        for text in ["", "s", "1x", "1s1", "one"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }
}
