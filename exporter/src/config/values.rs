//! Parses one value: words, numbers, durations, URL paths, listen addresses and lists of globs.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::error::Reason;
use super::types::ListenAddress;
use crate::discover::CgroupFilter;
use crate::name::{ContainerFilter, GlobError, LabelPolicy, MetricFilter};

/// Upper bound of durations, which keeps clocks from overflowing.
const MAX_DURATION: Duration = Duration::from_hours(365 * 24);

/// Upper bound of `--web.max-requests`.
const MAX_REQUESTS: usize = 100_000;

/// Returns the value of a word. Letter case does not matter.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Reason> {
    let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    found.map(|&(_, value)| value).ok_or(Reason::Word)
}

/// Parses `true` or `false`. A switch without a value is true.
pub(super) fn switch(text: Option<&str>) -> Result<bool, Reason> {
    text.map_or(Ok(true), |text| word(text, &[("true", true), ("false", false)]))
}

/// Parses a number of scrapes; 0 means no limit.
pub(super) fn max_requests(text: &str) -> Result<usize, Reason> {
    match text.parse() {
        Ok(number @ 0..=MAX_REQUESTS) => Ok(number),
        _ => Err(Reason::Number),
    }
}

/// Parses a duration: seconds (`120`, `1.5`) or numbers with units (`1h30m`, `500ms`).
pub(super) fn duration(text: &str) -> Result<Duration, Reason> {
    if text.starts_with('-') {
        return Err(Reason::Negative);
    }
    let length = if is_plain_number(text) { seconds(text)? } else { with_units(text)? };
    if length > MAX_DURATION { Err(Reason::TooLong) } else { Ok(length) }
}

/// Accepts digits with at most one point, and none of the other forms of a float (`nan`, `1e9`, `inf`).
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

/// Parses the URL path of the metrics, which must not be that of another page.
pub(super) fn telemetry_path(text: &str) -> Result<String, Reason> {
    match text {
        "/" => Err(Reason::ReservedPath("landing page")),
        "/healthz" | "/readyz" => Err(Reason::ReservedPath("health endpoint")),
        _ if is_url_path(text) => Ok(text.to_owned()),
        _ => Err(Reason::UrlPath),
    }
}

/// Accepts only characters that need no escaping in a URL, in HTML and in a shell.
fn is_url_path(text: &str) -> bool {
    text.starts_with('/')
        && !text.contains("//")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~:@%+,=".contains(&byte))
}

/// Parses a comma-separated list of `:PORT`, `HOST:PORT` and `[::1]:PORT`.
pub(super) fn listen_addresses(text: &str) -> Result<Vec<ListenAddress>, Reason> {
    let items: Vec<&str> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    if items.is_empty() {
        return Err(Reason::NoValue);
    }
    items.into_iter().map(listen_address).collect()
}

fn listen_address(text: &str) -> Result<ListenAddress, Reason> {
    let (host, port) = split_port(text)?;
    match host {
        "" => Ok(ListenAddress::Any(port)),
        _ => Ok(ListenAddress::Host(bare_host(host)?.to_owned(), port)),
    }
}

/// Splits at the last colon, and parses the port behind it.
fn split_port(text: &str) -> Result<(&str, u16), Reason> {
    let (host, port) = text.rsplit_once(':').ok_or(Reason::Port)?;
    // `parse` would accept `+8081`.
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reason::Port);
    }
    Ok((host, port.parse().or(Err(Reason::Port))?))
}

/// Validates a host name or address. Returns it without the brackets of an IPv6 address.
pub(super) fn bare_host(host: &str) -> Result<&str, Reason> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        // A link-local address may have its interface behind a `%`.
        let address = inner.split('%').next().unwrap_or(inner);
        return address.parse::<Ipv6Addr>().map(|_| inner).or(Err(Reason::Host));
    }
    if host.contains(':') {
        return Err(Reason::BareIpv6);
    }
    let plain = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if plain { Ok(host) } else { Err(Reason::Host) }
}

/// Parses globs of container labels.
pub(super) fn label_globs(text: &str) -> Result<Vec<String>, Reason> {
    globs(text, |globs| LabelPolicy::new(globs).map(drop))
}

/// Parses patterns of containers.
pub(super) fn container_globs(text: &str) -> Result<Vec<String>, Reason> {
    globs(text, |globs| ContainerFilter::new(globs, &[]).map(drop))
}

/// Parses globs of metric names.
pub(super) fn metric_globs(text: &str) -> Result<Vec<String>, Reason> {
    globs(text, |globs| MetricFilter::new(globs, &[]).map(drop))
}

/// Parses globs of cgroup paths.
pub(super) fn cgroup_globs(text: &str) -> Result<Vec<String>, Reason> {
    globs(text, |globs| cgroup_filter(globs).map(drop))
}

/// Compiles globs of cgroup paths.
pub(super) fn cgroup_filter(globs: &[&str]) -> Result<CgroupFilter, Vec<GlobError>> {
    let is_absolute = |glob: &&&str| glob.starts_with(['/', '{', '*', '[']);
    if let Some(relative) = globs.iter().find(|glob| !is_absolute(glob)) {
        return Err(vec![GlobError::of_relative(relative)]);
    }
    CgroupFilter::new(globs).map_err(|errors| errors.iter().map(|(glob, error)| GlobError::new(glob, error)).collect())
}

fn globs(text: &str, compile: impl Fn(&[&str]) -> Result<(), Vec<GlobError>>) -> Result<Vec<String>, Reason> {
    let globs = split_globs(text);
    compile(&borrowed(&globs)).map_err(Reason::Glob)?;
    Ok(globs)
}

pub(super) fn borrowed(items: &[String]) -> Vec<&str> {
    items.iter().map(String::as_str).collect()
}

/// Splits at commas, but not inside `{a,b}` or `[,]`. Empty items are dropped.
fn split_globs(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let (mut depth, mut escaped) = (0_usize, false);
    for letter in text.chars() {
        if letter == ',' && depth == 0 && !escaped {
            items.push(String::new());
            continue;
        }
        match letter {
            _ if escaped => {}
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        escaped = letter == '\\' && !escaped;
        if let Some(item) = items.last_mut() {
            item.push(letter);
        }
    }
    items.into_iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::split_globs;

    #[test]
    fn a_comma_inside_a_glob_does_not_split_it() {
        for (text, items) in [
            ("a,b", &["a", "b"][..]),
            (" a , b* ,", &["a", "b*"]),
            ("{a,b}-*,c", &["{a,b}-*", "c"]),
            ("[,;]x,y", &["[,;]x", "y"]),
            (r"a\,b,c", &[r"a\,b", "c"]),
            ("a},b", &["a}", "b"]),
            (",,", &[]),
            ("", &[]),
        ] {
            assert_eq!(split_globs(text), items, "{text}");
        }
    }
}
