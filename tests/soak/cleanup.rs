//! Removes the cgroups of the soak when it is gone, however it ended: a shell in a process group of its own that waits for
//! the end of its input.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

/// $1: the process whose cgroups are to be removed.
const SCRIPT: &str = r#"
read -r _
for turn in 1 2 3 4 5 6 7 8 9 10; do
    left=
    for top in /sys/fs/cgroup/dse-bare-"$1"-* /sys/fs/cgroup/*/dse-bare-"$1"-*; do
        [ -d "$top" ] || continue
        find "$top" -name cgroup.procs -exec cat {} + 2>/dev/null | xargs -r kill -9 2>/dev/null
        find "$top" -depth -type d -exec rmdir {} + 2>/dev/null
        [ -d "$top" ] && left=yes
    done
    [ -n "$left" ] || exit 0
    sleep 0.5
done
exit 1
"#;

pub(crate) struct Cleanup(Child);

impl Cleanup {
    pub(crate) fn start() -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "cleanup", &std::process::id().to_string()]).process_group(0);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("sh")?;
        Ok(Self(child))
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends within seconds; what it could not remove is not worth a failure.
        self.0.wait().map(drop).unwrap_or_default();
    }
}
