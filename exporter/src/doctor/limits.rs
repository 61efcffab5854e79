//! Checks limits that a busy host runs into: open files and inotify.

use std::fs;
use std::path::Path;

use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::report::Line;

/// Kernel files that are kept open per container with the default collectors, rounded up.
const FILES_PER_CONTAINER: u64 = 20;

/// Descriptors for other purposes: sockets, the log.
const OTHER_FILES: u64 = 128;

/// Checks whether every container's files can be kept open.
pub(super) fn open_files(containers: usize) -> Line {
    const WHAT: &str = "open files";
    // The soft limit is raised to the hard one at start.
    let Some(limit) = getrlimit(Resource::Nofile).maximum else { return Line::ok(WHAT, "unlimited") };
    let needed = needed(containers);
    let found = format!("limit {limit}, about {needed} wanted for {containers} containers");
    if limit >= needed {
        return Line::ok(WHAT, found);
    }
    let hint = format!("docker run --ulimit nofile={needed} (systemd: LimitNOFILE=); without it scrapes are slower");
    Line::warn(WHAT, found, hint)
}

fn needed(containers: usize) -> u64 {
    u64::try_from(containers).unwrap_or(u64::MAX).saturating_mul(FILES_PER_CONTAINER).saturating_add(OTHER_FILES)
}

/// Checks whether new containers can be noticed without a walk.
pub(super) fn inotify(procfs: &Path) -> Line {
    const WHAT: &str = "inotify";
    let setting = |name: &str| {
        let text = fs::read(procfs.join("sys/fs/inotify").join(name)).unwrap_or_default();
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let found = match (setting("max_user_instances"), setting("max_user_watches")) {
        (instances, watches) if instances.is_empty() || watches.is_empty() => "can be used".to_owned(),
        (instances, watches) => format!("{instances} instances and {watches} watches per user"),
    };
    match inotify::init(inotify::CreateFlags::CLOEXEC) {
        Ok(_closed_at_once) => Line::ok(WHAT, found),
        Err(Errno::MFILE) => Line::warn(
            WHAT,
            format!("{found}, all instances in use"),
            "on the host: sysctl fs.inotify.max_user_instances=1024; without it new containers show a little later",
        ),
        Err(error) => Line::warn(WHAT, error.to_string(), "without it new containers show a little later"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Verdict;

    #[test]
    fn more_containers_than_files_is_a_warning_with_a_number() {
        assert_eq!(open_files(0).verdict, Verdict::Ok);
        let line = open_files(usize::MAX);
        assert_eq!(line.verdict, Verdict::Warn);
        assert!(line.hint.contains("--ulimit nofile="), "{line}");
    }

    #[test]
    fn inotify_can_be_had_here() {
        let line = inotify(Path::new("/proc"));
        assert_eq!(line.verdict, Verdict::Ok, "{line}");
        assert!(line.found.contains("watches per user"), "{line}");
    }

    #[test]
    fn a_procfs_without_the_settings_leaves_no_holes_in_the_sentence() {
        assert_eq!(inotify(Path::new("/does/not/exist")).found, "can be used");
    }
}
