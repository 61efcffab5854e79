//! The manual page of the packages, from the table of flags.

use docker_stats_exporter::config::{self, FLAGS, Flag, Group};
use roff::{Inline, Roff, bold, italic, roman};

/// The text before the flags.
const DESCRIPTION: &str = "\
Serves Prometheus metrics of every container on this host: CPU, memory, block I/O, network, pids, pressure, limits, state and health. It \
reads the kernel's own counters (cgroup v1, v2 and hybrid, /proc, and eBPF where the kernel allows) at the moment of the scrape, and asks the \
Docker engine for names and states alone.";

const FLAGS_IN_GENERAL: &str = "\
--flag=value and --flag value are the same. A flag beats its variable; of a flag given twice the last one counts, unless it is repeatable. A \
variable that is set but empty counts as not set. All errors in flags and variables are reported at once, before anything is served.";

/// Name and meaning of each exit status.
const STATUS: [(&str, &str); 3] = [
    ("0", "Ended by a signal, healthy, or the main job can run here (doctor)."),
    ("1", "Cannot serve, not healthy, or the main job cannot run here."),
    ("2", "Errors in flags, variables or the files that they name."),
];

const FILES: [(&str, &str); 3] = [
    ("/etc/default/docker-stats-exporter, /etc/sysconfig/docker-stats-exporter", "Flags and variables of the service."),
    (
        "/usr/lib/systemd/system/docker-stats-exporter.service",
        "The service. Changes: systemctl edit docker-stats-exporter.",
    ),
    ("/var/run/docker.sock", "Socket of the engine, unless --docker.url names another one."),
];

/// Returns the page in man(7)'s language, without a date, so that it is the same on every day.
pub(super) fn page() -> String {
    let name = "docker-stats-exporter";
    let mut page = Roff::new();
    page.control("SH", ["NAME"]).text([roman(format!("{name} - Prometheus metrics of every container on this host"))]);
    page.control("SH", ["SYNOPSIS"]).text([
        bold(name),
        roman(" ["),
        italic("COMMAND"),
        roman("] ["),
        italic("FLAG"),
        roman("...]"),
    ]);
    page.control("SH", ["DESCRIPTION"]).text([roman(DESCRIPTION)]);
    page.control("SH", ["COMMANDS"]).text([roman("Without a command it serves.")]);
    for (command, about) in config::commands() {
        entry(&mut page, [bold(command)], about);
    }
    page.control("SH", ["OPTIONS"]).text([roman(FLAGS_IN_GENERAL)]);
    for group in Group::ALL {
        page.control("SS", [group.title()]);
        for flag in FLAGS.iter().filter(|flag| flag.group == *group && !flag.name.is_empty()) {
            entry(&mut page, head(flag), &meaning(flag));
        }
    }
    page.control("SH", ["ENVIRONMENT"]);
    for flag in FLAGS.iter().filter(|flag| !flag.variables.is_empty()) {
        for variable in flag.variables {
            let meaning = if flag.name.is_empty() { meaning(flag) } else { format!("The same as --{}.", flag.name) };
            entry(&mut page, [bold(*variable)], &meaning);
        }
    }
    for (title, rows) in [("EXIT STATUS", &STATUS), ("FILES", &FILES)] {
        page.control("SH", [title]);
        for (name, about) in rows {
            entry(&mut page, [bold(*name)], about);
        }
    }
    page.control("SH", ["SEE ALSO"]).text([bold("systemctl"), roman("(1), "), roman(env!("CARGO_PKG_REPOSITORY"))]);
    // The library leaves out the empty date.
    format!(
        ".TH DOCKER-STATS-EXPORTER 1 \"\" \"{name} {}\" \"User Commands\"\n{}",
        env!("CARGO_PKG_VERSION"),
        page.to_roff()
    )
}

/// A term and, indented below it, what it means.
fn entry(page: &mut Roff, term: impl IntoIterator<Item = Inline>, meaning: &str) {
    page.control("TP", []).text(term.into_iter().collect::<Vec<_>>()).text([roman(meaning)]);
}

fn head(flag: &Flag) -> Vec<Inline> {
    let name = bold(format!("--{}", flag.name));
    match flag.value {
        "" if flag.collector().is_some() => vec![name, roman(", "), bold(format!("--no-{}", flag.name))],
        "" => vec![name],
        value => vec![name, roman("="), italic(value)],
    }
}

/// The help, what is accepted, and what counts without it.
fn meaning(flag: &Flag) -> String {
    let accepted = if flag.is_switch() { "" } else { flag.accepts };
    let parts = [("", flag.help), (" Accepted: ", accepted), (" Default: ", flag.default)];
    let parts = parts.into_iter().filter(|(_, text)| !text.is_empty());
    parts.map(|(title, text)| format!("{title}{text}.")).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_and_variable_is_in_the_page() {
        let page = page().replace("\\-", "-");
        for flag in FLAGS.iter() {
            assert!(flag.name.is_empty() || page.contains(&format!("--{}", flag.name)), "--{}", flag.name);
            assert!(flag.variables.iter().all(|variable| page.contains(variable)), "{:?}", flag.variables);
        }
    }
}
