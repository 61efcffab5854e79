//! The labels that identify the machine on `machine_*`: `boot_id`, `machine_id` and `system_uuid`, as cAdvisor has
//! them.

use std::path::Path;

use crate::metrics::escape_label;

/// Longest value that is exposed: all of them are UUIDs.
const MAX_VALUE: usize = 128;

/// Reads the label pairs, in alphabetical order and without braces. A value that cannot be read has no label.
pub(super) fn machine_labels(procfs: &Path) -> String {
    // Of a captured host only the files of the capture count: our own machine is another one.
    let is_ours = procfs == Path::new("/proc");
    let root = procfs.join("1/root");
    let below = |directory: &Path, names: &[&str]| names.iter().find_map(|name| first_word(&directory.join(name)));
    let ours = |names| below(Path::new("/"), names).filter(|_| is_ours);
    let machine_id = || {
        const FILES: &[&str] = &["etc/machine-id", "var/lib/dbus/machine-id"];
        below(&root, FILES).or_else(|| ours(FILES))
    };
    // Firmware's number; mainframes and some guests have none and are known by their machine id.
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

/// Reads the first word of a file; none where it cannot be read or is empty.
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
    use super::machine_labels;

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
}
