//! Reads the socket tables of the containers, for a bounded time per scrape.

use std::io;

use tracing::warn;

use crate::metrics::{Collector, CollectorSet};
use crate::read::container::Container;
use crate::read::files::open_files::reason;
use crate::read::network::sockets::{SKIPPED, SocketTurns, TIME, Totals, totals};
use crate::read::reader::{Pass, Reader};
use crate::read::timing::Timing;

impl Reader {
    /// Reads the tables of the next containers until the pass's deadline. Returns whether no more are to be read.
    pub(crate) fn advance_sockets(&mut self, turns: &mut SocketTurns, pass: Pass<'_>, timing: &mut Timing) -> bool {
        let wanted = pass.collectors.has(Collector::Tcp) && !self.plan.sockets.is_empty();
        let mut containers = std::mem::take(&mut self.containers);
        while wanted && turns.done < containers.len() && turns.spent < TIME {
            let before = timing.last();
            if pass.deadline.is_some_and(|deadline| before >= deadline) {
                break;
            }
            let index = (self.sockets.first + turns.done) % containers.len();
            let is_due = |container: &&mut Container| container.sockets.is_reported && pass.wants(container);
            if let Some(container) = containers.get_mut(index).filter(is_due) {
                // Near the descriptor limit no process is held between two visits.
                if container.process.is_none() {
                    self.choose_process(container, pass.names);
                }
                self.read_sockets(container, timing);
                container.process.take_if(|process| process.permit.is_none());
            }
            turns.done += 1;
            timing.attribute_time_to(Collector::Tcp);
            turns.spent += timing.last() - before;
        }
        self.containers = containers;
        !wanted || turns.done >= self.containers.len() || turns.spent >= TIME
    }

    /// Ends the socket reading of a pass: containers that were not reached come first in the next one.
    pub(crate) fn end_sockets(&mut self, turns: &SocketTurns, pass: Pass<'_>) {
        let containers = self.containers.len();
        if pass.collectors.has(Collector::Tcp) && turns.lacks(containers) {
            self.sockets.first = (self.sockets.first + turns.done) % containers;
        }
    }

    fn read_sockets(&mut self, container: &mut Container, timing: &mut Timing) {
        let Some(process) = container.process.as_ref() else { return };
        let namespace = container.sockets.namespace;
        let failed = CollectorSet::EMPTY.with(Collector::Tcp);
        if let Some(left) = container.sockets.skipped.checked_sub(1) {
            container.sockets.skipped = left;
            self.self_metrics.count_read_error("net/tcp", "too_large");
            return timing.fail(failed);
        }
        // Each file shows the namespace of its process at the time of opening, which may have changed meanwhile.
        let is_same =
            || !self.live || process.open_file("net/dev").is_ok_and(|file| process.namespace(&file, true) == namespace);
        let mut tables: Vec<(&str, Totals)> = Vec::new();
        let mut read = || -> io::Result<()> {
            for (name, ..) in &self.plan.sockets {
                if tables.iter().any(|(known, _)| known == name) {
                    continue;
                }
                match process.open_file(&format!("net/{name}")) {
                    Ok(file) => tables.push((*name, totals(&file, &mut self.sockets.buffer)?)),
                    // A kernel without IPv6.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        if !is_same() {
            return;
        }
        match read() {
            Ok(()) if !is_same() => {}
            Ok(()) => {
                for (name, count, slot) in &self.plan.sockets {
                    if let Some((_, totals)) = tables.iter().find(|(known, _)| known == name) {
                        container.sample.set(*slot, totals.get(*count));
                    }
                }
            }
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
            Err(error) => {
                self.self_metrics.count_read_error("net/tcp", reason(&error));
                timing.fail(failed);
                if error.kind() == io::ErrorKind::FileTooLarge {
                    container.sockets.skipped = SKIPPED;
                }
                if self.is_first(Collector::Tcp) {
                    warn!(
                        %error, container = %container.path,
                        "the sockets of this container are not counted; its tcp collector's values are left out (further \
                         containers go unlogged: docker_stats_exporter_read_errors_total{{file=\"net/tcp\"}} counts them)"
                    );
                }
            }
        }
    }
}
