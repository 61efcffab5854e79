//! What goes wrong around the exporter: the engine, the containers, the files, the names. In each case a scrape must stay
//! valid and fast, lose what cannot be known and nothing else.

// Captured hosts are the same everywhere.
#[cfg(all(test, not(feature = "guest")))]
#[path = "faults/absent.rs"]
mod absent;
#[cfg(test)]
#[path = "faults/alone.rs"]
mod alone;
// Not in guests: a made-up engine sends gigabytes, and emulation adds nothing but time.
#[cfg(all(test, not(feature = "guest")))]
#[path = "faults/bounds.rs"]
mod bounds;
#[cfg(test)]
#[path = "faults/descriptors.rs"]
mod descriptors;
#[cfg(test)]
#[path = "faults/engine.rs"]
mod engine;
#[cfg(test)]
#[path = "faults/files.rs"]
mod files;
#[cfg(test)]
#[path = "faults/hostile.rs"]
mod hostile;
#[cfg(test)]
#[path = "faults/proxy.rs"]
mod proxy;
// Guests have neither Python nor OpenSSL's program.
#[cfg(all(test, not(feature = "guest")))]
#[path = "faults/tls.rs"]
mod tls;
#[cfg(test)]
#[path = "faults/vanishing.rs"]
mod vanishing;
