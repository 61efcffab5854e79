//! Completions for bash, zsh and fish, from the table of flags.

use docker_stats_exporter::config::{self, FLAGS, Flag};

/// The values of a flag that a shell can offer.
enum Values {
    /// These and no others.
    Words(Vec<&'static str>),
    Files,
    Directories,
    /// Nothing that is known beforehand.
    Any,
}

fn values(flag: &Flag) -> Values {
    match flag.value {
        "FILE" => return Values::Files,
        "DIRECTORY" => return Values::Directories,
        _ => {}
    }
    let words: Vec<&str> = flag.accepts.split(", ").flat_map(|part| part.split(" or ")).collect();
    let is_word = |word: &&str| !word.is_empty() && word.chars().all(|sign| sign.is_ascii_lowercase() || sign == '-');
    if words.len() > 1 && words.iter().all(is_word) { Values::Words(words) } else { Values::Any }
}

/// Flags as they are written, without their values: `--ebpf=`, `--collector.cpu`, `--no-collector.cpu`.
fn written() -> impl Iterator<Item = (String, &'static Flag)> {
    FLAGS.iter().filter(|flag| !flag.name.is_empty()).flat_map(|flag| {
        let sign = if flag.is_switch() { "" } else { "=" };
        let negated = flag.collector().map(|_| (format!("--no-{}", flag.name), flag));
        std::iter::once((format!("--{}{sign}", flag.name), flag)).chain(negated)
    })
}

/// For bash, which takes `=` for a word of its own.
pub(super) fn bash() -> String {
    let commands: Vec<&str> = config::commands().map(|(name, _)| name).collect();
    let flags: Vec<String> = written().map(|(flag, _)| flag).collect();
    let (mut cases, mut unknown) = (String::new(), Vec::new());
    for flag in FLAGS.iter().filter(|flag| !flag.name.is_empty() && !flag.is_switch()) {
        let (option, offer) = match values(flag) {
            Values::Words(words) => ("", format!("-W '{}'", words.join(" "))),
            Values::Files => ("compopt -o filenames; ", "-f".to_owned()),
            Values::Directories => ("compopt -o filenames; ", "-d".to_owned()),
            Values::Any => {
                unknown.push(format!("--{}", flag.name));
                continue;
            }
        };
        let reply = format!("mapfile -t COMPREPLY < <(compgen {offer} -- \"$cur\")");
        add(&mut cases, &format!("        --{}) {option}{reply}; return ;;\n", flag.name));
    }
    format!(
        "\
# bash completion of docker-stats-exporter. Written by `cargo xtask docs`.

_docker_stats_exporter() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} flag=${{COMP_WORDS[COMP_CWORD - 1]}}
    if [[ $cur == '=' ]]; then
        cur=
    elif [[ $flag == '=' ]]; then
        flag=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    case $flag in
{cases}        {}) return ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$cur\")
        if [[ ${{COMPREPLY[0]-}} == *= ]]; then compopt -o nospace; fi
    else
        mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$cur\")
    fi
}}

complete -F _docker_stats_exporter docker-stats-exporter
",
        unknown.join(" | "),
        flags.join(" "),
        commands.join(" "),
    )
}

/// For zsh.
pub(super) fn zsh() -> String {
    let mut lines = String::new();
    for (name, flag) in written() {
        let value = match values(flag) {
            _ if flag.is_switch() => String::new(),
            Values::Words(words) => format!(":{}:({})", flag.value.to_lowercase(), words.join(" ")),
            Values::Files => ":file:_files".to_owned(),
            Values::Directories => ":directory:_files -/".to_owned(),
            Values::Any => format!(":{}:", flag.value.to_lowercase()),
        };
        let repeats = if flag.repeatable { "*" } else { "" };
        add(&mut lines, &format!("    '{repeats}{name}[{}]{value}' \\\n", zsh_text(flag.help)));
    }
    let commands: Vec<String> =
        config::commands().map(|(name, about)| format!("{name}\\:\"{}\"", zsh_text(about).replace('"', ""))).collect();
    format!(
        "\
#compdef docker-stats-exporter
# Written by `cargo xtask docs`.

_arguments -S \\
{lines}    '1:command:(({}))'
",
        commands.join(" ")
    )
}

/// Within quotes, brackets and after colons.
fn zsh_text(text: &str) -> String {
    text.replace('\\', "").replace('\'', "'\\''").replace('[', "\\[").replace(']', "\\]").replace(':', "\\:")
}

/// For fish.
pub(super) fn fish() -> String {
    let mut text = "# fish completion of docker-stats-exporter. Written by `cargo xtask docs`.\n\n".to_owned();
    text.push_str("complete -c docker-stats-exporter -f\n");
    for (name, about) in config::commands() {
        add(
            &mut text,
            &format!(
                "complete -c docker-stats-exporter -n __fish_use_subcommand -a {name} -d '{}'\n",
                fish_text(about)
            ),
        );
    }
    for (name, flag) in written() {
        let value = match values(flag) {
            _ if flag.is_switch() => String::new(),
            Values::Words(words) => format!(" -x -a '{}'", words.join(" ")),
            Values::Files => " -r -F".to_owned(),
            Values::Directories => " -x -a '(__fish_complete_directories)'".to_owned(),
            Values::Any => " -x".to_owned(),
        };
        let name = name.trim_start_matches("--").trim_end_matches('=');
        add(&mut text, &format!("complete -c docker-stats-exporter -l {name}{value} -d '{}'\n", fish_text(flag.help)));
    }
    text
}

fn add(text: &mut String, line: &str) {
    text.push_str(line);
}

fn fish_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn only_lists_of_words_are_offered() {
        let of = |name: &str| FLAGS.iter().find(|flag| flag.name == name).map(values);
        assert!(matches!(of("ebpf"), Some(Values::Words(words)) if words == ["auto", "on", "off"]));
        assert!(matches!(of("log.format"), Some(Values::Words(words)) if words == ["logfmt", "json"]));
        assert!(matches!(of("web.config.file"), Some(Values::Files)));
        assert!(matches!(of("path.procfs"), Some(Values::Directories)));
        assert!(matches!(of("web.listen-address"), Some(Values::Any)));
    }

    /// Returns what bash offers after these words.
    fn offered(words: &[&str]) -> Vec<String> {
        let last = words.len() - 1;
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let script = format!(
            "{}\ncompopt() {{ :; }}\nCOMP_WORDS=({}); COMP_CWORD={last}\n_docker_stats_exporter\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            bash(),
            quoted.join(" ")
        );
        let mut shell = Command::new("bash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let answer = shell.wait_with_output().unwrap();
        String::from_utf8(answer.stdout).unwrap().lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn bash_offers_commands_flags_and_values() {
        assert_eq!(offered(&["docker-stats-exporter", "do"]), ["doctor"]);
        assert_eq!(offered(&["docker-stats-exporter", "--eb"]), ["--ebpf="]);
        assert_eq!(offered(&["docker-stats-exporter", "--ebpf", "o"]), ["on", "off"]);
        assert_eq!(offered(&["docker-stats-exporter", "--ebpf", "=", "a"]), ["auto"]);
        assert_eq!(offered(&["docker-stats-exporter", "--no-collector.cp"]), ["--no-collector.cpu"]);
        assert_eq!(offered(&["docker-stats-exporter", "--ebpf", "="]), ["auto", "on", "off"]);
        assert!(offered(&["docker-stats-exporter", "--docker.url", ""]).is_empty());
    }
}
