//! Checks the disk walker: whether it sees the layers and may list them.

use std::path::Path;

use rustix::thread::{CapabilitySet, capabilities};

use super::report::Line;
use crate::config::DockerEndpoint;
use crate::walker::visible_roots;

/// Checks whether the layers of containers can be summed up.
pub(super) fn check(procfs: &Path, engines: &[DockerEndpoint]) -> Line {
    const WHAT: &str = "disk usage";
    let sockets: Vec<&Path> = engines.iter().filter_map(DockerEndpoint::socket).collect();
    let visible = visible_roots(procfs, &sockets);
    let may_list = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::DAC_READ_SEARCH));
    let roots: Vec<String> = visible.iter().map(|root| root.display().to_string()).collect();
    if roots.is_empty() {
        let found = "no engine's data root is visible here: no container_fs_usage_bytes of containers";
        return Line::warn(
            WHAT,
            found,
            "docker run -v /var/lib/docker:/var/lib/docker:ro (or where the engine has its data)",
        );
    }
    let found = format!("layers are looked for below {}", roots.join(", "));
    if may_list {
        return Line::ok(WHAT, found);
    }
    let hint =
        "docker run --cap-add=DAC_READ_SEARCH (AmbientCapabilities= of a service); the disk walker alone keeps it";
    Line::warn(WHAT, format!("{found}, and those of other users cannot be listed"), hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Verdict;

    #[test]
    fn what_is_missing_has_a_hint() {
        let procfs = Path::new("/proc");
        let line = check(procfs, &[DockerEndpoint::Tcp("127.0.0.1:1".to_owned())]);
        let is_there = !visible_roots(procfs, &[] as &[&Path]).is_empty();
        assert!(line.verdict == Verdict::Ok || !line.hint.is_empty(), "{line}");
        assert_eq!(line.found.contains("no engine's data root"), !is_there, "{line}");
    }
}
