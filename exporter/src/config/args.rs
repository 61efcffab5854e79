//! Splits the command line into flags and values. Continues after errors, so that all of them are reported at once.

use std::ffi::{OsStr, OsString};

use lexopt::{Arg, Parser};

use super::error::{Error, Reason, shown};
use super::flag::Flag;
use super::table::FLAGS;

/// The command line, split.
#[derive(Debug, Default)]
pub(super) struct Args {
    /// Flags in their order.
    pub(super) flags: Vec<GivenFlag>,
    /// The command; `None` to serve.
    pub(super) command: Option<CommandName>,
    pub(super) errors: Vec<Error>,
}

/// One flag on the command line.
#[derive(Debug)]
pub(super) struct GivenFlag {
    /// Name of its row.
    pub(super) name: &'static str,
    /// Whether it was given as `--no-NAME`.
    pub(super) negated: bool,
    /// The value, which a switch may lack.
    pub(super) value: Option<OsString>,
}

/// The commands besides serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandName {
    Doctor,
    Healthcheck,
    Top,
}

/// The commands, with their descriptions in `--help`.
pub(super) const COMMANDS: &[(&str, CommandName, &str)] = &[
    ("doctor", CommandName::Doctor, "check this host: what works, what does not, and what helps"),
    (
        "healthcheck",
        CommandName::Healthcheck,
        "ask the server at --web.listen-address whether it is alive (for HEALTHCHECK)",
    ),
    ("top", CommandName::Top, "show the containers of a running exporter live in the terminal"),
];

/// Splits the command line, given without the program's own name.
pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Args {
    let mut parser = Parser::from_args(args);
    let mut args = Args::default();
    // The parser's only error is an unused value behind `=`, and each branch below takes that value.
    while let Ok(Some(arg)) = parser.next() {
        match arg {
            Arg::Long(name) => {
                let name = name.to_owned();
                args.long(&name, &mut parser);
            }
            Arg::Short(letter) => args.short(letter, &mut parser),
            Arg::Value(word) => args.command(&word),
        }
    }
    args
}

impl Args {
    fn long(&mut self, name: &str, parser: &mut Parser) {
        let Some((flag, negated)) = find_flag(name) else { return self.unknown(&format!("--{name}"), parser) };
        let mut value = parser.optional_value();
        if value.is_none() && !flag.is_switch() {
            value = next_value(parser);
            if value.is_none() {
                return self.errors.push(flag.error(Reason::NoValue));
            }
        }
        self.flags.push(GivenFlag { name: &flag.name, negated, value });
    }

    fn short(&mut self, letter: char, parser: &mut Parser) {
        let rest = parser.optional_value();
        let name = match (letter, rest) {
            ('h', None) => "help",
            ('V', None) => "version",
            // This is a long flag with a dash too few, or an unknown letter.
            (_, rest) => {
                let word = format!("-{letter}{}", rest.unwrap_or_default().to_string_lossy());
                return self.unknown(word.split('=').next().unwrap_or(&word), parser);
            }
        };
        self.flags.push(GivenFlag { name, negated: false, value: None });
    }

    /// Reports an unknown flag. Skips its value, which is not a command.
    fn unknown(&mut self, word: &str, parser: &mut Parser) {
        if parser.optional_value().is_none()
            && let Some(mut rest) = parser.try_raw_args()
        {
            rest.next_if(|next| !next.as_encoded_bytes().starts_with(b"-") && find_command(next).is_none());
        }
        let hint = did_you_mean(word.trim_start_matches('-'))
            .map_or_else(String::new, |name| format!("did you mean --{name}?"));
        self.errors.push(Error::new(shown(OsStr::new(word)), Reason::UnknownFlag, hint));
    }

    fn command(&mut self, word: &OsStr) {
        let found = find_command(word);
        let reason = match (found, self.command) {
            (Some(found), None) => return self.command = Some(found),
            (Some(_), Some(_)) => Reason::SecondCommand,
            (None, _) => Reason::UnknownCommand,
        };
        let names: Vec<&str> = COMMANDS.iter().map(|(name, ..)| *name).collect();
        let hint = format!("accepted: {}, or none to serve", names.join(", "));
        let subject = if word.is_empty() { "\"\"".to_owned() } else { shown(word) };
        self.errors.push(Error::new(subject, reason, hint));
    }
}

/// Returns the row of a flag, and whether it is negated. Only collectors have `--no-NAME`.
fn find_flag(name: &str) -> Option<(&'static Flag, bool)> {
    let find = |name: &str| FLAGS.iter().find(|flag| !name.is_empty() && flag.name == name);
    find(name).map(|flag| (flag, false)).or_else(|| {
        let flag = find(name.strip_prefix("no-")?)?;
        flag.collector().map(|_| (flag, true))
    })
}

fn find_command(word: &OsStr) -> Option<CommandName> {
    COMMANDS.iter().find(|(name, ..)| word == *name).map(|&(_, word, _)| word)
}

/// Returns the next argument unless it is a flag: `--flag --other` has no value, `--flag -5` has an invalid one.
fn next_value(parser: &mut Parser) -> Option<OsString> {
    parser.try_raw_args()?.next_if(|next| !next.as_encoded_bytes().starts_with(b"--"))
}

/// Returns the flag with the smallest edit distance, if it is similar enough.
fn did_you_mean(name: &str) -> Option<String> {
    let negated = FLAGS.iter().filter(|flag| flag.collector().is_some()).map(|flag| format!("no-{}", flag.name));
    let names = FLAGS.iter().map(|flag| flag.name.to_string()).chain(negated).filter(|name| !name.is_empty());
    let nearest = names.map(|candidate| (distance(name, &candidate), candidate)).min()?;
    // At most a third of the letters may differ.
    (nearest.0 * 3 <= name.chars().count()).then_some(nearest.1)
}

/// Returns the edit distance of two words: letters to insert, delete or replace.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut above_left = line;
        let mut left = line + 1;
        for (cell, other) in row.iter_mut().zip(std::iter::once(None).chain(to.chars().map(Some))) {
            let above = *cell;
            *cell = match other {
                None => left,
                Some(other) => (above_left + usize::from(letter != other)).min(above + 1).min(left + 1),
            };
            (above_left, left) = (above, *cell);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{did_you_mean, distance};

    #[test]
    fn distance_counts_edits() {
        for (from, to, slips) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(from, to), slips, "{from} {to}");
        }
    }

    #[test]
    fn a_misspelled_flag_is_suggested_and_another_word_is_not() {
        for (slip, flag) in [
            ("web.listen-adress", Some("web.listen-address")),
            ("web.listen_address", Some("web.listen-address")),
            ("no-collector.cpus", Some("no-collector.cpu")),
            ("loglevel", Some("log.level")),
            ("housekeeping_interval", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(slip).as_deref(), flag, "{slip}");
        }
    }
}
