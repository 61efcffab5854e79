//! Whether scrapes arrive, for requests to the engine that are made only for them.

use std::time::{Duration, Instant};

/// Minimum and maximum time for which interest lasts after the start or a scrape.
const SHORTEST: Duration = Duration::from_secs(30);
const MAX_INTERVAL: Duration = Duration::from_mins(5);

/// Interest lasts from a scrape until the next one is overdue.
#[derive(Debug)]
pub(super) struct Interest {
    last: Instant,
    until: Instant,
}

impl Interest {
    /// Begins as after a scrape, because the first one is likely soon.
    pub(super) fn new(now: Instant) -> Self {
        Self { last: now, until: now + SHORTEST }
    }

    /// Records a scrape.
    pub(super) fn scraped(&mut self, now: Instant) {
        let interval = now.saturating_duration_since(self.last);
        self.last = now;
        self.until = self.until.max(now + (interval * 2).clamp(SHORTEST, MAX_INTERVAL));
    }

    /// Returns whether the next scrape is not overdue yet.
    pub(super) fn lasts(&self, now: Instant) -> bool {
        now < self.until
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Interest;

    #[test]
    fn interest_lasts_from_scrape_to_scrape_and_ends_without() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut interest = Interest::new(start);
        assert!(interest.lasts(at(29)) && !interest.lasts(at(30)));
        interest.scraped(at(60));
        assert!(interest.lasts(at(179)) && !interest.lasts(at(180)), "a minute between scrapes, twice");
        // A second scraper directly after the first shortens nothing.
        interest.scraped(at(61));
        assert!(interest.lasts(at(179)));
        interest.scraped(at(86_400));
        assert!(interest.lasts(at(86_400 + 299)) && !interest.lasts(at(86_400 + 300)));
    }
}
