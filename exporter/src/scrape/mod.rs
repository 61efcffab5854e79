//! Collects and renders all values on one thread, which discovers, reads, names and renders once for all waiting scrapes.
//!
//! | file | what it does |
//! |---|---|
//! | `request` | what a scrape asks for, and how it is answered |
//! | `scraper` | the handle on the thread, and the choice of the source of values |
//! | `worker` | the thread: answers one batch of scrapes after the other |
//! | `queue` | the waiting scrapes |
//! | `source` | the source of values: kernel files (`cgroups`) or the engine's stats API (`api`) |
//! | `exposed_set` | which containers are exposed, and under which labels |
//! | `oom` | counts OOM kills over all runs of a container |

mod api;
mod cgroups;
mod exposed_set;
#[cfg(test)]
mod identity_tests;
mod oom;
mod queue;
mod request;
mod scraper;
mod source;
mod worker;

pub use self::request::{Error, Families, Request, Scrape, Selection};
pub use self::scraper::{Parts, Prepared, Scraper, StartError};
pub use crate::render::Format;
