//! What is kept of files that say more of the host than a fixture may.

/// Of `/proc/cpuinfo`: how many CPUs, cores and packages there are.
pub(super) fn cpuinfo(text: &str) -> String {
    const KEPT: &[&str] = &["processor", "physical id", "siblings", "core id", "cpu cores", ""];
    let key = |line: &str| line.split(':').next().unwrap_or_default().trim().to_owned();
    lines(text, |line| KEPT.contains(&key(line).as_str()))
}

/// Of `/proc/stat`: everything but the counts of every single interrupt.
pub(super) fn stat(text: &str) -> String {
    lines(text, |line| !line.starts_with("intr") && !line.starts_with("softirq"))
}

/// Of the kernel's release: the version. What a vendor or an owner appends tells whose machine it is.
pub(super) fn release(text: &str) -> String {
    let end = text.find(|character: char| character != '.' && !character.is_ascii_digit()).unwrap_or(text.len());
    format!("{}\n", text.get(..end).unwrap_or_default())
}

fn lines(text: &str, keep: impl Fn(&str) -> bool) -> String {
    text.lines().filter(|line| keep(line)).flat_map(|line| [line, "\n"]).collect()
}

/// Of the host's `net/dev`: interfaces under generic names. Names of bridges and veth pairs are random, names of tunnels
/// may tell a provider or a customer.
pub(super) fn interfaces(text: &str) -> String {
    let mut veth = 0..;
    let mut bridge = 0..;
    let mut other = 0..;
    let mut kept = String::new();
    for line in text.lines() {
        let Some((name, counters)) = line.split_once(':') else {
            kept.extend([line, "\n"]);
            continue;
        };
        let name = name.trim();
        let generic = match name {
            "lo" | "docker0" => name.to_owned(),
            _ if is_physical(name) => name.to_owned(),
            _ if name.starts_with("veth") => format!("veth{:07x}", veth.next().unwrap_or(0)),
            _ if name.starts_with("br-") => format!("br-{:012x}", bridge.next().unwrap_or(0)),
            _ => format!("dummy{}", other.next().unwrap_or(0)),
        };
        kept.extend([format!("{generic:>6}:{counters}\n")]);
    }
    kept
}

/// `eth0`, `ens3`, `enp0s31f6`: the kernel's or systemd's name for a place in the machine.
fn is_physical(name: &str) -> bool {
    let rest = name.strip_prefix("eth").or_else(|| name.strip_prefix("ens")).or_else(|| name.strip_prefix("enp"));
    rest.is_some_and(|rest| {
        !rest.is_empty() && rest.len() <= 6 && rest.starts_with(|first: char| first.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_name_of_the_host_s_choosing_is_kept() {
        let text =
            "Inter-|   Receive\n face |bytes\n    lo: 1 2\n  eth0: 3\nveth7ad3e6b: 4\nbr-305b61b3035a: 5\nwg-acme: 6\n";
        let kept = super::interfaces(text);
        assert_eq!(
            kept,
            "Inter-|   Receive\n face |bytes\n    lo: 1 2\n  eth0: 3\nveth0000000: 4\nbr-000000000000: 5\ndummy0: 6\n"
        );
    }

    #[test]
    fn of_the_kernel_only_the_version_is_kept() {
        assert_eq!(super::release("6.18.44-acme-7\n"), "6.18.44\n");
    }

    #[test]
    fn of_the_processor_only_numbers_are_kept() {
        let text = "processor\t: 0\nmodel name\t: Secret 9000\nphysical id\t: 0\n\nprocessor\t: 1\n";
        assert_eq!(super::cpuinfo(text), "processor\t: 0\nphysical id\t: 0\n\nprocessor\t: 1\n");
    }
}
