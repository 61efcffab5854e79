//! The engine's `oom` events of a container, by its runs.

/// Counts `oom` events since the exporter started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OomEvents {
    /// Number of observed starts.
    pub runs: u64,
    /// Events in all runs before this one.
    pub earlier: u64,
    /// Events in the run before this one, a part of `earlier`.
    pub previous: u64,
    /// Events in this run.
    pub current: u64,
}

impl OomEvents {
    /// Counts an event of this run, or of the previous one if it is late.
    pub fn record(&mut self, late: bool) {
        if late {
            self.earlier += 1;
            self.previous += 1;
        } else {
            self.current += 1;
        }
    }

    /// Begins a new run.
    pub fn start(&mut self) {
        *self = Self { runs: self.runs + 1, earlier: self.earlier + self.current, previous: self.current, current: 0 };
    }

    /// Events in all runs.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.earlier + self.current
    }
}
