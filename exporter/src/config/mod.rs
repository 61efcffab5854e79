//! Flags and environment variables, validated into one [`Config`].
//!
//! [`FLAGS`] is the one table: parsing, `--help` and the README's table come from it. `main` calls [`Config::from`]
//! once and passes the value on; nothing else reads a flag or a variable. This module opens no socket, logs nothing and
//! never ends the program.
//!
//! | file | what it does |
//! |---|---|
//! | `types` | the configuration as plain data |
//! | `table` | every flag and variable, once |
//! | `top_flags` | the rows that only `top` takes |
//! | `flag` | the type of a row of the table |
//! | `partial` | the configuration while rows write to it |
//! | `args` | splits the command line into rows and values |
//! | `resolve` | picks flag, variable or default for each row and builds the [`Config`] |
//! | `values`, `docker_url` | parse one value |
//! | `error` | every error of one start, in one message |
//! | `help` | `--help`, `--version` and the Markdown table |

mod args;
mod docker_url;
mod error;
mod flag;
mod help;
mod partial;
mod resolve;
mod table;
mod top_flags;
mod types;
mod values;

#[cfg(test)]
mod tests;

use std::ffi::OsString;

pub use error::{Error, Errors, Origin, Reason};
pub use flag::{Flag, Group};
pub use help::{commands, markdown_table};
pub use table::FLAGS;
pub use types::{Command, Config, DockerEndpoint, FeatureMode, ListenAddress, LogFormat, Schema, SourceMode};

impl Config {
    /// Parses the command line (without the program's own name) and the environment (`env` returns one variable).
    ///
    /// A flag beats its variables, an earlier variable of a row beats a later one, and an overruled value is not
    /// parsed. A variable that is set but empty counts as not set, except `USE_PSEUDO_FILES`.
    ///
    /// # Errors
    /// Every error in everything that was given. `--help` and `--version` are answered in spite of errors.
    pub fn from(
        args: impl IntoIterator<Item = OsString>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Command, Errors> {
        resolve::command(args::parse(args), &env)
    }
}
