//! Serving: puts the rooms together and runs until a signal ends it.

use crate::config::Config;

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// What kept it from starting, or from going on.
#[expect(clippy::needless_pass_by_value, reason = "serving owns its configuration")]
pub fn run(config: Config) -> anyhow::Result<()> {
    anyhow::bail!("serving on {} addresses is not built yet", config.listen.len())
}
