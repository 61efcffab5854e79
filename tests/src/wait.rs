//! Waiting for a condition. Called by every test that watches something change.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is checked.
const INTERVAL: Duration = Duration::from_millis(50);

/// How many times as long as on a usual machine things may take: `PATIENCE`, 1 by default. An emulated guest sets it.
#[must_use]
pub fn patience() -> u32 {
    std::env::var("PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// However short a thing usually takes, a limit only ends what hangs: a machine that others use, too, may stand still for
/// this long.
const AT_LEAST: Duration = Duration::from_mins(5);

/// Calls `probe` until it gives a value.
///
/// # Errors
/// After `limit` times [`patience`], five minutes at least, with what was waited for and the last error of `probe`.
pub fn eventually<T>(limit: Duration, what: &str, probe: impl FnMut() -> Result<T>) -> Result<T> {
    until((limit * patience()).max(AT_LEAST), what, probe)
}

fn until<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                bail!("waited {limit:?} for {what}; seen last: {error:#}")
            }
            Err(_) => sleep(INTERVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_told() {
        let mut tries = 0;
        let error = until(Duration::from_millis(120), "a miracle", || -> Result<()> {
            tries += 1;
            bail!("try {tries}")
        })
        .unwrap_err()
        .to_string();
        assert!(error.contains("a miracle") && error.contains(&format!("try {tries}")) && tries > 1, "{error}");
    }
}
