//! The containers an engine has told of, by id.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::Meta;
use crate::discover::ContainerId;

/// One consistent view of everything known. Cheap to hold and to compare.
#[derive(Debug, Default)]
pub struct Names {
    /// Every known container, live, stopped, or lingering after its removal.
    pub containers: HashMap<ContainerId, Arc<Meta>>,
    /// Differs from view to view: nothing derived from an equal generation has to be made anew.
    pub generation: u64,
}

/// Shared between the engine's follower, who writes, and scrapes, which read.
#[derive(Debug)]
pub struct Directory {
    names: RwLock<Arc<Names>>,
    linger: Duration,
}

impl Directory {
    /// An empty directory that forgets a removed container after `linger`.
    #[must_use]
    pub fn new(linger: Duration) -> Self {
        Self { names: RwLock::default(), linger }
    }

    /// The current view.
    #[must_use]
    pub fn names(&self) -> Arc<Names> {
        Arc::clone(&self.names.read().unwrap_or_else(PoisonError::into_inner))
    }
}
