//! Counts the threads of a container by state from procfs, at about 10 µs per thread.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::unless_gone;
use crate::metrics::{Collector, CollectorSet, Probed, TaskState};
use crate::read::container::Container;
use crate::read::files::open_files::reason;
use crate::read::reader::Reader;
use crate::read::timing::Timing;

/// Maximum number of threads that are read of one container, because the container chooses how many there are.
const MAX_THREADS: usize = 10_000;

/// Threads by state. Procfs does not show waiting for I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct States {
    sleeping: u64,
    running: u64,
    stopped: u64,
    uninterruptible: u64,
}

impl States {
    fn get(self, state: TaskState) -> Option<u64> {
        match state {
            TaskState::Sleeping => Some(self.sleeping),
            TaskState::Running => Some(self.running),
            TaskState::Stopped => Some(self.stopped),
            TaskState::Uninterruptible => Some(self.uninterruptible),
            TaskState::IoWaiting => None,
        }
    }

    /// Counts a thread by the letter that procfs shows.
    fn add(&mut self, letter: u8) {
        match letter {
            b'S' | b'I' => self.sleeping += 1,
            b'R' => self.running += 1,
            b'T' | b't' => self.stopped += 1,
            b'D' => self.uninterruptible += 1,
            // It has ended.
            _ => {}
        }
    }
}

impl Reader {
    /// Counts the threads of a container, whose processes were listed before.
    pub(crate) fn read_threads(&self, container: &mut Container, now: Instant, timing: &mut Timing) {
        let pids = container.pids.as_slice();
        let states = match states(&self.procfs, pids) {
            Ok(Some(states)) => states,
            Ok(None) => return,
            Err(error) => {
                self.self_metrics.count_read_error("task", reason(&error));
                timing.fail(CollectorSet::EMPTY.with(Collector::Tasks));
                return;
            }
        };
        let since_last = container.load_counted.replace(now).map_or(Duration::ZERO, |last| now.duration_since(last));
        container.load.add(states.running, since_last);
        for (what, slot) in &self.plan.probes {
            let value = match *what {
                Probed::Threads(state) => states.get(state),
                Probed::Load => container.load.thousandths(),
                _ => None,
            };
            if let Some(value) = value {
                container.sample.set(*slot, value);
            }
        }
    }
}

/// Returns the states of all threads of these processes; none where some of them are in a pid namespace that is not
/// shown here, or none is left.
///
/// # Errors
/// A process that cannot be read, or too many threads, as a part of them would be wrong.
fn states(procfs: &Path, pids: &[u32]) -> io::Result<Option<States>> {
    if pids.contains(&0) {
        return Ok(None);
    }
    let (mut states, mut count) = (States::default(), 0);
    for pid in pids {
        let Some(threads) = unless_gone(fs::read_dir(procfs.join(pid.to_string()).join("task")))? else { continue };
        for thread in threads {
            let Some(thread) = unless_gone(thread)? else { break };
            let Some(text) = unless_gone(fs::read(thread.path().join("stat")))? else { continue };
            count += 1;
            if count > MAX_THREADS {
                return Err(io::Error::other("more threads than are read of one container"));
            }
            if let Some(letter) = letter(&text) {
                states.add(letter);
            }
        }
    }
    Ok((count > 0).then_some(states))
}

/// Returns the state behind the name, which may contain anything.
fn letter(stat: &[u8]) -> Option<u8> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end + 2).copied()
}

#[cfg(test)]
mod tests {
    use super::{States, states};

    #[test]
    fn threads_are_counted_by_letter_and_names_do_not_matter() {
        let procfs = tempfile::tempdir().unwrap();
        let stats = ["(a) S 1", "(b) R 2) I 1", "(c) R 1", "(d) D 1", "(e) T 1", "(f) t 1", "(g) Z 1", "(h) X"];
        for (thread, stat) in stats.iter().enumerate() {
            let directory = procfs.path().join(format!("7/task/{thread}"));
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("stat"), format!("{thread} {stat}")).unwrap();
        }
        let expected = States { sleeping: 2, running: 1, stopped: 2, uninterruptible: 1 };
        assert_eq!(states(procfs.path(), &[7, 8]).unwrap(), Some(expected), "one that has ended counts for nothing");
        assert_eq!(states(procfs.path(), &[7, 0]).unwrap(), None);
        assert_eq!(states(procfs.path(), &[8]).unwrap(), None, "absent is no 0");
    }
}
