//! The table of flags and variables: what a row is, and all rows together. The rows themselves stand in `rows`.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::LazyLock;

use super::apply::Draft;
use super::mistakes::Reason;
use super::rows::{FIXED, SWITCH};
use crate::metrics::Collector;

/// One flag, or one variable that has no flag.
#[derive(Clone, Debug)]
pub struct Flag {
    /// Name without the dashes; empty where there is only a variable.
    pub name: Cow<'static, str>,
    /// Environment variables; the first one that is set counts.
    pub variables: &'static [&'static str],
    /// What its value is called; empty for a switch.
    pub value: &'static str,
    /// Value when nothing is given; empty where nothing then happens.
    pub default: &'static str,
    /// Where it stands in `--help`.
    pub group: Group,
    /// One line on what it is for, without a full stop.
    pub help: &'static str,
    /// What a mistake says is accepted.
    pub accepts: &'static str,
    /// Whether a flag may stand more than once, each adding to the others; else the last one counts.
    pub repeatable: bool,
    /// Whether the default is a value that is parsed, or only said.
    pub(super) default_is_value: bool,
    pub(super) apply: Apply,
}

/// What a row does with its value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Apply {
    /// Text without the space around it.
    Text(fn(&mut Draft, &str) -> Result<(), Reason>),
    /// A directory, which must be readable if it was given.
    Directory(fn(&mut Draft, PathBuf)),
    /// A path that is looked at later.
    Path(fn(&mut Draft, PathBuf)),
    /// On or off.
    Switch(fn(&mut Draft, bool)),
    /// A collector on or off.
    Collector(Collector),
}

/// Headings of `--help`, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The HTTP server.
    Web,
    /// Where values come from.
    Source,
    /// The Docker engine.
    Docker,
    /// Which containers and labels are exposed, and under which names.
    Exposition,
    /// Our own log, help and version.
    General,
    /// The collectors.
    Collectors,
}

impl Group {
    /// Every group, in order.
    pub const ALL: &[Self] =
        &[Self::Web, Self::Source, Self::Docker, Self::Exposition, Self::General, Self::Collectors];

    /// The heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Web => "Web",
            Self::Source => "Where values come from",
            Self::Docker => "Docker",
            Self::Exposition => "What is exposed",
            Self::General => "General",
            Self::Collectors => "Collectors",
        }
    }
}

impl Flag {
    /// Flag and variables as a mistake names them.
    pub(super) fn subject(&self) -> String {
        match (self.name.as_ref(), self.variables) {
            ("", variables) => variables.join(", "),
            (name, []) => format!("--{name}"),
            (name, variables) => format!("--{name} ({})", variables.join(", ")),
        }
    }

    /// Whether it stands without a value.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        matches!(self.apply, Apply::Switch(_) | Apply::Collector(_))
    }

    /// The collector that it switches.
    #[must_use]
    pub fn collector(&self) -> Option<Collector> {
        match self.apply {
            Apply::Collector(collector) => Some(collector),
            _ => None,
        }
    }
}

/// Every flag and variable, in the order of `--help`.
pub static FLAGS: LazyLock<Vec<Flag>> = LazyLock::new(|| {
    let collectors = Collector::ALL.iter().map(|&collector| collector_row(collector));
    FIXED.iter().cloned().chain(collectors).collect()
});

fn collector_row(collector: Collector) -> Flag {
    Flag {
        name: Cow::Owned(format!("collector.{collector}")),
        default: if collector.default_on() { "on" } else { "off" },
        help: collector.about(),
        apply: Apply::Collector(collector),
        ..SWITCH
    }
}
