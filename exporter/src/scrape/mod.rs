//! One pass over everything, on a thread of its own: discover, read, name, render.

mod api;
mod cgroups;
mod exposed_set;
#[cfg(test)]
mod identity_tests;
mod names;
mod oom;
mod queue;
mod request;
mod scraper;
mod selection;
mod source;
mod standby;
mod unread;
mod worker;

pub use crate::render::Format;
pub use request::{Error, Request, Scrape};
pub use scraper::{Parts, Prepared, Scraper, StartError};
pub use selection::{Families, Selection};
