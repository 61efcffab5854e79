//! What scrapes and starting containers cost each other: both take the kernel's lock of all cgroups.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::cgroups::Cgroups;
use super::figures::{Figures, Scrapes};
use super::target::{Coding, Target};

/// Containers that start one after the other, without a pause.
const STARTS: usize = 50;
const ROUNDS: usize = 5;

/// What was measured.
#[derive(Debug)]
pub(super) struct Starts {
    /// Nanoseconds that a start takes while nobody scrapes: its cgroups made and its process moved there.
    pub(super) alone: Figures,
    /// The same while one scrape follows the other.
    pub(super) beside: Figures,
    /// The scrapes meanwhile.
    pub(super) scrapes: Scrapes,
}

/// Starts containers with and without scrapes in turns.
pub(super) fn measure(cgroups: &Cgroups, target: &mut Target) -> anyhow::Result<Starts> {
    let (mut alone, mut beside, mut scrapes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.extend(cgroups.burst(STARTS)?);
        let done = AtomicBool::new(false);
        let taken = thread::scope(|scope| {
            let starting = scope.spawn(|| {
                let taken = cgroups.burst(STARTS);
                done.store(true, Ordering::Relaxed);
                taken
            });
            while !done.load(Ordering::Relaxed) {
                scrapes.push(target.scrape(Coding::Plain)?);
            }
            starting.join().map_err(|_panic| anyhow::anyhow!("starting containers panicked"))?
        })?;
        beside.extend(taken);
    }
    Ok(Starts { alone: Figures::of(&alone), beside: Figures::of(&beside), scrapes: Scrapes::of(&scrapes) })
}
