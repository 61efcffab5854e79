//! The type of a row of the flag table.

use std::borrow::Cow;
use std::path::PathBuf;

use super::error::{Error, Reason};
use super::partial::Partial;
use crate::metrics::Collector;

/// One flag, or one variable that has no flag.
#[derive(Clone, Debug)]
pub struct Flag {
    /// Name without the dashes; empty where there is only a variable.
    pub name: Cow<'static, str>,
    /// Environment variables; the first one that is set counts.
    pub variables: &'static [&'static str],
    /// Name of its value; empty for a switch.
    pub value: &'static str,
    /// Value when nothing is given; empty if nothing happens then.
    pub default: &'static str,
    /// Its heading in `--help`.
    pub group: Group,
    /// One line on what it does, without a full stop.
    pub help: &'static str,
    /// Accepted values, as an error describes them.
    pub accepts: &'static str,
    /// Whether a flag may be given more than once, each adding to the others; else the last one counts.
    pub repeatable: bool,
    /// Whether the default is parsed as a value, or only shown.
    pub(super) default_is_value: bool,
    pub(super) apply: Apply,
}

/// Fields that most rows share.
pub(super) const ROW: Flag = Flag {
    name: Cow::Borrowed(""),
    variables: &[],
    value: "",
    default: "",
    group: Group::Web,
    help: "",
    accepts: "",
    repeatable: false,
    default_is_value: false,
    apply: Apply::Switch(|_, _| {}),
};

/// A row that is on or off.
pub(super) const SWITCH: Flag = Flag { group: Group::Collectors, accepts: "true, false, or nothing for true", ..ROW };

/// Effect of a row's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Apply {
    /// Text without the white space around it.
    Text(fn(&mut Partial, &str) -> Result<(), Reason>),
    /// A directory, which must be readable if it was given.
    Directory(fn(&mut Partial, PathBuf)),
    /// A path that is checked later.
    Path(fn(&mut Partial, PathBuf)),
    /// On or off.
    Switch(fn(&mut Partial, bool)),
    /// A collector on or off.
    Collector(Collector),
}

/// Headings of `--help`, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The HTTP server.
    Web,
    /// Source of the values.
    Source,
    /// The Docker engine.
    Docker,
    /// Which containers and labels are exposed, and under which names.
    Exposition,
    /// Log, help and version.
    General,
    /// The command `top`.
    Top,
    /// The collectors.
    Collectors,
}

impl Group {
    /// Every group, in order.
    pub const ALL: &[Self] =
        &[Self::Web, Self::Source, Self::Docker, Self::Exposition, Self::General, Self::Top, Self::Collectors];

    /// Returns the heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Web => "Web",
            Self::Source => "Where values come from",
            Self::Docker => "Docker",
            Self::Exposition => "What is exposed",
            Self::General => "General",
            Self::Top => "Of the command top",
            Self::Collectors => "Collectors",
        }
    }
}

impl Flag {
    /// Returns an error about this flag without a value.
    pub(super) fn error(&self, reason: Reason) -> Error {
        Error::new(self.subject(), reason, format!("accepted: {}", self.accepts))
    }

    /// Returns flag and variables as an error names them.
    pub(super) fn subject(&self) -> String {
        match (self.name.as_ref(), self.variables) {
            ("", variables) => variables.join(", "),
            (name, []) => format!("--{name}"),
            (name, variables) => format!("--{name} ({})", variables.join(", ")),
        }
    }

    /// Reports whether the flag takes no value.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        matches!(self.apply, Apply::Switch(_) | Apply::Collector(_))
    }

    /// Returns the collector that the flag switches.
    #[must_use]
    pub fn collector(&self) -> Option<Collector> {
        match self.apply {
            Apply::Collector(collector) => Some(collector),
            _ => None,
        }
    }
}
