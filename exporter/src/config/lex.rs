//! The command line into occurrences of rows of the table. A mistake does not stop it.

use std::ffi::{OsStr, OsString};

use lexopt::{Arg, Parser};

use super::flags::{FLAGS, Flag};
use super::mistakes::{Mistake, Reason};

/// What was on the command line.
#[derive(Debug, Default)]
pub(super) struct Lexed {
    /// Flags in their order.
    pub(super) occurrences: Vec<Occurrence>,
    /// The command, if any.
    pub(super) word: Option<Word>,
    /// What was wrong.
    pub(super) mistakes: Vec<Mistake>,
}

/// One flag on the command line.
#[derive(Debug)]
pub(super) struct Occurrence {
    /// Its row, by name.
    pub(super) name: &'static str,
    /// Whether it stood as `--no-NAME`.
    pub(super) negated: bool,
    /// Its value; a switch may have none.
    pub(super) value: Option<OsString>,
}

/// The commands besides serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Doctor,
    Healthcheck,
}

/// The commands, with what `--help` says of them.
pub(super) const COMMANDS: &[(&str, Word, &str)] = &[
    ("doctor", Word::Doctor, "check this host and say what works, what does not, and what cures it"),
    ("healthcheck", Word::Healthcheck, "ask the server at --web.listen-address whether it is alive (for HEALTHCHECK)"),
];

/// Reads the whole command line, without the program's own name.
pub(super) fn lex(args: impl IntoIterator<Item = OsString>) -> Lexed {
    let mut parser = Parser::from_args(args);
    let mut lexed = Lexed::default();
    // The only errors are values behind `=` that nobody took; each flag below takes its own.
    while let Ok(Some(arg)) = parser.next() {
        match arg {
            Arg::Long(name) => {
                let name = name.to_owned();
                lexed.long(&name, &mut parser);
            }
            Arg::Short(letter) => lexed.short(letter, &mut parser),
            Arg::Value(word) => lexed.word(&word),
        }
    }
    lexed
}

impl Lexed {
    fn long(&mut self, name: &str, parser: &mut Parser) {
        let Some((flag, negated)) = named(name) else { return self.unknown(&format!("--{name}"), parser) };
        let mut value = parser.optional_value();
        if value.is_none() && !flag.is_switch() {
            value = next_value(parser);
            if value.is_none() {
                return self.mistakes.push(Mistake::of_flag(flag, Reason::NoValue));
            }
        }
        self.occurrences.push(Occurrence { name: &flag.name, negated, value });
    }

    fn short(&mut self, letter: char, parser: &mut Parser) {
        let rest = parser.optional_value();
        let name = match (letter, rest) {
            ('h', None) => "help",
            ('V', None) => "version",
            // The rest belongs to it: a long flag with one dash too few.
            (_, rest) => {
                let word = format!("-{letter}{}", rest.unwrap_or_default().to_string_lossy());
                return self.unknown(word.split('=').next().unwrap_or(&word), parser);
            }
        };
        self.occurrences.push(Occurrence { name, negated: false, value: None });
    }

    /// A flag that is none; a value that goes with it must not be taken for a command.
    fn unknown(&mut self, word: &str, parser: &mut Parser) {
        if parser.optional_value().is_none()
            && let Some(mut rest) = parser.try_raw_args()
        {
            rest.next_if(|next| !next.as_encoded_bytes().starts_with(b"-") && command(next).is_none());
        }
        let hint = did_you_mean(word.trim_start_matches('-'))
            .map_or_else(String::new, |name| format!("did you mean --{name}?"));
        self.mistakes.push(Mistake::of_word(OsStr::new(word), Reason::UnknownFlag, hint));
    }

    fn word(&mut self, word: &OsStr) {
        let found = command(word);
        let reason = match (found, self.word) {
            (Some(found), None) => return self.word = Some(found),
            (Some(_), Some(_)) => Reason::SecondCommand,
            (None, _) => Reason::UnknownCommand,
        };
        let names: Vec<&str> = COMMANDS.iter().map(|(name, ..)| *name).collect();
        let hint = format!("accepted: {}, or none to serve", names.join(", "));
        self.mistakes.push(Mistake::of_word(word, reason, hint));
    }
}

/// The row that a flag means, and whether it says no. Only collectors can be said no to.
fn named(name: &str) -> Option<(&'static Flag, bool)> {
    let find = |name: &str| FLAGS.iter().find(|flag| !name.is_empty() && flag.name == name);
    find(name).map(|flag| (flag, false)).or_else(|| {
        let flag = find(name.strip_prefix("no-")?)?;
        flag.collector().map(|_| (flag, true))
    })
}

fn command(word: &OsStr) -> Option<Word> {
    COMMANDS.iter().find(|(name, ..)| word == *name).map(|&(_, word, _)| word)
}

/// The next argument, unless it is a flag of its own: `--flag --other` lacks a value, `--flag -5` has a bad one.
fn next_value(parser: &mut Parser) -> Option<OsString> {
    parser.try_raw_args()?.next_if(|next| !next.as_encoded_bytes().starts_with(b"--"))
}

/// The flag whose name is nearest, if it is near.
fn did_you_mean(name: &str) -> Option<String> {
    let negated = FLAGS.iter().filter(|flag| flag.collector().is_some()).map(|flag| format!("no-{}", flag.name));
    let names = FLAGS.iter().map(|flag| flag.name.to_string()).chain(negated).filter(|name| !name.is_empty());
    let nearest = names.map(|candidate| (distance(name, &candidate), candidate)).min()?;
    // A third of the letters wrong is a slip; more is another word.
    (nearest.0 * 3 <= name.chars().count()).then_some(nearest.1)
}

/// Letters to insert, drop or change to make one word of the other.
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
    fn distance_counts_slips() {
        for (from, to, slips) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(from, to), slips, "{from} {to}");
        }
    }

    #[test]
    fn a_slip_finds_its_flag_and_another_word_finds_none() {
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
