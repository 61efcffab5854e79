//! What has to be remembered of one container to tell news from what is old.

/// The history of one container, as far as it matters.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// The clock at its last event.
    pub(super) touched: u64,
    pub(super) inspected: bool,
    pub(super) retries: u8,
    /// What had to be cut has been counted.
    pub(super) counted: bool,
    /// Age in the last list: a smaller one shows a restart that no event told of.
    pub(super) age: Option<u64>,
    /// An `oom` event since the last start.
    pub(super) oom: bool,
    pub(super) run: Option<Run>,
}

/// What the restart counter is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) started_ns: Option<u64>,
    /// The engine's count when this run was first seen.
    pub(super) engine_count: u64,
    pub(super) restarts: u64,
}

impl Run {
    /// The engine's own count starts again at 0 with a manual start, and restarts by hand are not in it. So we add
    /// what it grew by, and at least one for each new start.
    pub(super) fn next(last: Option<Self>, started_ns: Option<u64>, engine_count: u64) -> Self {
        let restarts = match last {
            None => engine_count,
            Some(last) if last.started_ns == started_ns => return last,
            Some(last) => {
                let grown = engine_count.saturating_sub(last.engine_count);
                // The first start of a container that was made before is no restart.
                last.restarts + if last.started_ns.is_some() { grown.max(1) } else { grown }
            }
        };
        Self { started_ns, engine_count, restarts }
    }
}
