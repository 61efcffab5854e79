//! The machine: facts that do not change while the program runs, and the labels that identify it on `machine_*`.

use std::path::Path;

use crate::metrics::{SelfMetrics, escape_label};
use crate::read::files::open_files::count_malformed;
use crate::read::files::proc_text::processors;
use crate::read::host::read;

/// Maximum length of a value in bytes. All values are UUIDs.
const MAX_VALUE: usize = 128;

/// Facts of the machine that do not change while the program runs.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Logical CPUs.
    pub cores: Option<u64>,
    /// Physical cores.
    pub physical_cores: Option<u64>,
    /// CPU packages.
    pub sockets: Option<u64>,
    /// `uname -r`.
    pub kernel: String,
    /// `PRETTY_NAME` of the host's `os-release`; empty if the file is not visible.
    pub system: String,
    /// Label pairs that identify this machine.
    pub labels: String,
}

impl Machine {
    /// Reads the facts. Failures and malformed lines are counted.
    #[must_use]
    pub fn read(procfs: &Path, self_metrics: &SelfMetrics) -> Self {
        let (processors, malformed) = processors(&read(procfs, "cpuinfo", self_metrics));
        count_malformed("cpuinfo", malformed, self_metrics);
        // The host's file if its root can be read, else our own, which the image of the exporter does not have. Our own says nothing
        // of the host of a capture.
        let ours = |_| if procfs == Path::new("/proc") { std::fs::read("/etc/os-release") } else { Ok(Vec::new()) };
        let release = std::fs::read(procfs.join("1/root/etc/os-release")).or_else(ours).unwrap_or_default();
        Self {
            cores: processors.logical,
            physical_cores: processors.cores,
            sockets: processors.packages,
            kernel: first_line(&procfs.join("sys/kernel/osrelease")),
            system: pretty_name(&String::from_utf8_lossy(&release)),
            labels: machine_labels(procfs),
        }
    }
}

fn first_line(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}

fn pretty_name(release: &str) -> String {
    let value = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.unwrap_or_default().trim_matches('"').to_owned()
}

/// Reads the label pairs `boot_id`, `machine_id` and `system_uuid`, as cAdvisor has them: in alphabetical order, without braces.
/// A value that cannot be read has no label.
pub(super) fn machine_labels(procfs: &Path) -> String {
    // Our own files say nothing of the host of a capture.
    let is_ours = procfs == Path::new("/proc");
    let root = procfs.join("1/root");
    let below = |directory: &Path, names: &[&str]| names.iter().find_map(|name| first_word(&directory.join(name)));
    let ours = |names| below(Path::new("/"), names).filter(|_| is_ours);
    let machine_id = || {
        const FILES: &[&str] = &["etc/machine-id", "var/lib/dbus/machine-id"];
        below(&root, FILES).or_else(|| ours(FILES))
    };
    // The number that the firmware has. Mainframes and some guests have none, so that their machine id replaces it.
    let system_uuid = || {
        ours(&["sys/class/dmi/id/product_uuid", "proc/device-tree/system-id", "proc/device-tree/vm,uuid"])
            .or_else(machine_id)
    };
    let mut labels = String::new();
    for (name, value) in [
        ("boot_id", first_word(&procfs.join("sys/kernel/random/boot_id"))),
        ("machine_id", machine_id()),
        ("system_uuid", system_uuid()),
    ] {
        let Some(value) = value else { continue };
        let separator = if labels.is_empty() { "" } else { "," };
        labels.extend([separator, name, "=\""]);
        escape_label(&value, &mut labels);
        labels.push('"');
    }
    labels
}

/// Reads the first word of a file. None if it cannot be read or is empty.
fn first_word(path: &Path) -> Option<String> {
    let text = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The device tree ends its texts with a zero byte.
    let word = text.split(|letter: char| letter.is_whitespace() || letter == '\0').next().unwrap_or_default();
    let end = word.floor_char_boundary(MAX_VALUE);
    (!word.is_empty()).then(|| word.get(..end).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Machine, SelfMetrics, machine_labels, pretty_name};

    #[test]
    fn a_captured_machine_has_its_own_ids_and_none_of_ours() {
        let procfs = tempfile::tempdir().unwrap();
        assert_eq!(machine_labels(procfs.path()), "");
        std::fs::create_dir_all(procfs.path().join("sys/kernel/random")).unwrap();
        std::fs::create_dir_all(procfs.path().join("1/root/var/lib/dbus")).unwrap();
        std::fs::write(procfs.path().join("sys/kernel/random/boot_id"), "b-1\n").unwrap();
        std::fs::write(procfs.path().join("1/root/var/lib/dbus/machine-id"), "a\"b\n").unwrap();
        let expected = r#"boot_id="b-1",machine_id="a\"b",system_uuid="a\"b""#;
        assert_eq!(machine_labels(procfs.path()), expected);
        std::fs::create_dir_all(procfs.path().join("1/root/etc")).unwrap();
        std::fs::write(procfs.path().join("1/root/etc/machine-id"), "").unwrap();
        assert_eq!(machine_labels(procfs.path()), expected, "an empty file is none");
    }

    #[test]
    fn this_machine_is_known_by_its_boot() {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        assert!(machine_labels("/proc".as_ref()).starts_with(&format!("boot_id=\"{}\"", boot.trim())));
    }

    #[test]
    fn a_capture_does_not_get_this_machine_s_system() {
        let procfs = tempfile::tempdir().unwrap();
        assert_eq!(Machine::read(procfs.path(), &SelfMetrics::new().unwrap()).system, "");
    }

    #[test]
    fn the_system_s_name_is_found() {
        assert_eq!(pretty_name("ID=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
    }
}
