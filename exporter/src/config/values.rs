//! Text into plain values: words, numbers, lengths of time, URL paths.

use std::time::Duration;

use super::mistakes::Reason;

/// Beyond a year a wish is a slip of the keyboard, and clocks begin to overflow.
const LONGEST: Duration = Duration::from_hours(365 * 24);

/// Most scrapes that may be allowed at a time.
const MOST_REQUESTS: usize = 100_000;

/// The value that one of `words` stands for, in any case.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Reason> {
    let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    found.map(|&(_, value)| value).ok_or(Reason::Word)
}

/// `true` or `false`; a switch that stands alone is true.
pub(super) fn switch(text: Option<&str>) -> Result<bool, Reason> {
    text.map_or(Ok(true), |text| word(text, &[("true", true), ("false", false)]))
}

/// How many scrapes are served at a time.
pub(super) fn max_requests(text: &str) -> Result<usize, Reason> {
    match text.parse() {
        Ok(number @ 1..=MOST_REQUESTS) => Ok(number),
        _ => Err(Reason::Number),
    }
}

/// Plain seconds (`120`, `1.5`) or numbers with units (`1h30m`, `500ms`).
pub(super) fn duration(text: &str) -> Result<Duration, Reason> {
    if text.starts_with('-') {
        return Err(Reason::Negative);
    }
    let length = if is_plain_number(text) { seconds(text)? } else { with_units(text)? };
    if length > LONGEST { Err(Reason::TooLong) } else { Ok(length) }
}

/// Digits with at most one point; not what else a float may be (`nan`, `1e9`, `inf`).
fn is_plain_number(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && text.bytes().filter(|&byte| byte == b'.').count() <= 1
}

fn seconds(text: &str) -> Result<Duration, Reason> {
    let Ok(seconds) = text.parse() else { return Err(Reason::Duration) };
    Duration::try_from_secs_f64(seconds).or(Err(Reason::TooLong))
}

fn with_units(text: &str) -> Result<Duration, Reason> {
    use humantime::DurationError;
    humantime::parse_duration(text).map_err(|error| match error {
        DurationError::NumberOverflow => Reason::TooLong,
        _ => Reason::Duration,
    })
}

/// A path that a scrape can ask for and that nobody else answers.
///
/// `/` is refused: it is the landing page, which shows where the metrics are.
pub(super) fn telemetry_path(text: &str) -> Result<String, Reason> {
    match text {
        "/" => Err(Reason::ReservedPath("landing page")),
        "/healthz" | "/readyz" => Err(Reason::ReservedPath("health endpoint")),
        _ if is_url_path(text) => Ok(text.to_owned()),
        _ => Err(Reason::UrlPath),
    }
}

/// Letters that need no escaping anywhere: neither in a URL nor on the landing page nor in a shell.
fn is_url_path(text: &str) -> bool {
    text.starts_with('/')
        && !text.contains("//")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~:@%+,=".contains(&byte))
}
