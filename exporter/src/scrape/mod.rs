//! One pass over everything, on a thread of its own.

mod request;

pub use request::{Error, Format, Request, Scrape};
