//! Parses flags and environment variables into one validated [`Config`].
//!
//! Parsing, `--help` and the README's table all follow the table [`FLAGS`]. `main` calls [`Config::from`] once and passes
//! the value on; no other code reads flags or the variables of the table. This module opens no socket, logs nothing and
//! never ends the program.
//!
//! | file | what it does |
//! |---|---|
//! | `types` | the configuration as plain data |
//! | `table` | every flag and variable |
//! | `top_flags` | the flags that only `top` takes |
//! | `flag` | a row of the table, and the unfinished configuration that rows write to |
//! | `args` | splits the command line into flags and values |
//! | `resolve` | picks flag, variable or default for each row and builds the [`Config`] |
//! | `values`, `docker_url` | parse one value |
//! | `error` | all errors of one start, in one message |
//! | `help` | `--help`, `--version` and the Markdown table |

mod args;
mod docker_url;
mod error;
mod flag;
mod help;
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
    /// A flag overrules its variables, and an earlier variable of a row overrules a later one. Overruled values are not
    /// parsed. A variable that is set but empty counts as not set, except `USE_PSEUDO_FILES`.
    ///
    /// # Errors
    /// All errors in flags and environment at once. `--help` and `--version` are answered in spite of errors.
    pub fn from(
        args: impl IntoIterator<Item = OsString>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Command, Errors> {
        resolve::command(args::parse(args), &env)
    }
}
