//! `X-Prometheus-Scrape-Timeout-Seconds`: the scrape deadline. Called by `route`.

use std::time::{Duration, Instant};

/// The header's name.
pub(super) const HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// Maximum share of the timeout that is reserved for rendering, sending and parsing.
const MAX_RESERVE: Duration = Duration::from_millis(500);

/// Returns when reading must end so that the answer arrives in time. Invalid or repeated headers mean no deadline.
pub(super) fn deadline<'a, E>(mut headers: impl Iterator<Item = Result<&'a str, E>>, now: Instant) -> Option<Instant> {
    let header = headers.next()?.ok()?;
    if headers.next().is_some() {
        return None;
    }
    let seconds: f64 = header.trim().parse().ok()?;
    let timeout = Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero())?;
    now.checked_add(timeout.saturating_sub(MAX_RESERVE.min(timeout / 10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline(headers: &[&str], now: Instant) -> Option<Instant> {
        super::deadline(headers.iter().copied().map(Ok::<_, ()>), now)
    }

    #[test]
    fn a_timeout_becomes_a_deadline_a_little_before_it() {
        let now = Instant::now();
        for (header, milliseconds) in
            [("10", 9_500), ("10.5", 10_000), ("1", 900), (" 0.1 ", 90), ("5e0", 4_500), ("60", 59_500)]
        {
            let expected = now + Duration::from_millis(milliseconds);
            assert_eq!(deadline(&[header], now), Some(expected), "{header}");
        }
    }

    #[test]
    fn a_timeout_that_makes_no_sense_is_ignored() {
        let now = Instant::now();
        for header in [
            "", "ten", "-1", "0", "-0.0", "NaN", "-nan", "inf", "-inf", "1e-300", "0x10", "1_0", "1e300", "1e19",
            "10s", "10,5",
        ] {
            assert_eq!(deadline(&[header], now), None, "{header}");
        }
        assert_eq!(deadline(&[], now), None);
        assert_eq!(deadline(&["10", "0.00001"], now), None);
    }
}
