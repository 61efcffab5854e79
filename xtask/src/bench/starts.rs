//! What scrapes and starting containers cost each other: both take the kernel's lock of all cgroups.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::client::{Client, Coding};
use super::exporter::Exporter;
use super::figures::Figures;
use super::host::Host;
use super::measure::Scrapes;

/// Containers that start one after the other, without a pause.
const STARTS: usize = 50;
const ROUNDS: usize = 5;

/// What was found.
#[derive(Debug)]
pub(super) struct Starts {
    /// Nanoseconds that a start takes while nobody scrapes: its cgroups made and its process moved there.
    pub(super) alone: Figures,
    /// The same while one scrape follows the other.
    pub(super) beside: Figures,
    /// The scrapes meanwhile.
    pub(super) scrapes: Scrapes,
}

/// Starts containers with and without scrapes in turns. None where they are an engine's, whose own work would be most of it.
pub(super) fn measure(host: &Host, exporter: &Exporter, client: &mut Client) -> anyhow::Result<Option<Starts>> {
    let Host::Cgroups(population) = host else { return Ok(None) };
    let (mut alone, mut beside, mut scrapes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.extend(population.burst(STARTS)?);
        let done = AtomicBool::new(false);
        let taken = thread::scope(|scope| {
            let starting = scope.spawn(|| {
                let taken = population.burst(STARTS);
                done.store(true, Ordering::Relaxed);
                taken
            });
            while !done.load(Ordering::Relaxed) {
                scrapes.push(exporter.scrape(client, "/metrics", Coding::Plain)?);
            }
            starting.join().map_err(|_panic| anyhow::anyhow!("starting containers panicked"))?
        })?;
        beside.extend(taken);
    }
    Ok(Some(Starts { alone: Figures::of(&alone), beside: Figures::of(&beside), scrapes: Scrapes::of(&scrapes) }))
}
