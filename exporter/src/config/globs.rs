//! Lists of globs on the command line: split, checked, and made into what [`crate::name`] works with.
//!
//! The only place that knows how [`LabelPolicy`] and [`ContainerFilter`] are made.

use super::ContainerFilter;
use super::mistakes::Reason;
use crate::name::{DEFAULT_LABELS, GlobError, LabelPolicy};

/// Splits at commas, but not inside `{a,b}` or `[,]`, which belong to a glob. Empty items are dropped.
pub(super) fn split(text: &str) -> Vec<String> {
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

/// The globs of container labels, each one that can be compiled.
pub(super) fn labels(text: &str) -> Result<Vec<String>, Reason> {
    checked(text, |items| LabelPolicy::new(items).map(drop))
}

/// The patterns of containers, each one that can be compiled.
pub(super) fn containers(text: &str) -> Result<Vec<String>, Reason> {
    checked(text, |items| ContainerFilter::new(items, &[]).map(drop))
}

fn checked(text: &str, compile: impl Fn(&[&str]) -> Result<(), Vec<GlobError>>) -> Result<Vec<String>, Reason> {
    let items = split(text);
    compile(&borrowed(&items)).map_err(reason)?;
    Ok(items)
}

/// The allow-list of container labels; none means the default one.
pub(super) fn label_policy(globs: Option<&[String]>) -> Result<LabelPolicy, Reason> {
    globs.map_or_else(|| LabelPolicy::new(&DEFAULT_LABELS), |globs| LabelPolicy::new(&borrowed(globs))).map_err(reason)
}

/// Which containers are exposed.
pub(super) fn container_filter(include: &[String], exclude: &[String]) -> Result<ContainerFilter, Reason> {
    ContainerFilter::new(&borrowed(include), &borrowed(exclude)).map_err(reason)
}

fn borrowed(items: &[String]) -> Vec<&str> {
    items.iter().map(String::as_str).collect()
}

fn reason(errors: Vec<GlobError>) -> Reason {
    Reason::Glob(errors)
}

#[cfg(test)]
mod tests {
    use super::split;

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
            assert_eq!(split(text), items, "{text}");
        }
    }
}
