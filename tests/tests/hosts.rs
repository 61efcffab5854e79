//! Kinds of hosts: what is served on each, and what `doctor` says there, as a golden file that was read by a person.
//! `docs/HOSTS.md` is the table of them.
//!
//! Hosts that could be captured are those of `tests/fixtures`. The others are small trees, written here in the shape that the
//! kernel, the boot parameters and the engine give them: they have the files that decide what is found, and few others.

#[cfg(test)]
#[path = "hosts/doctor.rs"]
mod doctor;
#[cfg(test)]
#[path = "hosts/host.rs"]
mod host;
#[cfg(test)]
#[path = "hosts/later.rs"]
mod later;
#[cfg(test)]
#[path = "hosts/mounts.rs"]
mod mounts;
#[cfg(test)]
#[path = "hosts/namespace.rs"]
mod namespace;
#[cfg(test)]
#[path = "hosts/shapes.rs"]
mod shapes;
#[cfg(test)]
#[path = "hosts/values.rs"]
mod values;
