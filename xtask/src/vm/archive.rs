//! What goes into the guest and what comes out of it: tar archives on raw disks.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use anyhow::Context;

use super::host;
use super::session::Job;

/// Where the guest finds its orders, in the directory that it starts in.
const ORDERS: &str = ".guest";

/// Writes the archive with the job's files and its command.
pub(super) fn write(job: &Job, directory: &Path) -> anyhow::Result<()> {
    let orders = directory.join(ORDERS);
    fs::create_dir(&orders)?;
    fs::write(orders.join("command"), format!("{}\n", job.script))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    fs::write(orders.join("time"), format!("{}\n", now.as_secs()))?;
    if job.terminal {
        fs::write(orders.join("terminal"), "")?;
    }
    let mut command = Command::new("tar");
    command.args(["--create", "--format=gnu", "--owner=0", "--group=0", "--numeric-owner", "--file"]);
    command.arg(directory.join("in")).arg("-C").arg(directory).arg(ORDERS);
    if let Some(input) = &job.input {
        let input = fs::canonicalize(input).with_context(|| input.display().to_string())?;
        command.arg("-C").arg(input).arg(".");
    }
    host::output(&mut command).map(drop)
}

/// Unpacks what the guest left in `/out`.
pub(super) fn read(directory: &Path, output: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    let mut command = Command::new("tar");
    command.args(["--extract", "--no-same-owner", "--file"]).arg(directory.join("out")).arg("-C").arg(output);
    host::output(&mut command).map(drop)
}
