//! Lists of globs on the command line: split, checked, and made into what [`crate::name`] works with.
//!
//! The only place that knows how [`LabelPolicy`] and [`ContainerFilter`] are made.

use super::ContainerFilter;
use super::mistakes::Reason;
use crate::name::LabelPolicy;

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

/// The items of a list, each a glob that can be compiled.
pub(super) fn list(text: &str) -> Result<Vec<String>, Reason> {
    let items = split(text);
    let broken: Vec<String> = items.iter().filter_map(|item| error(item)).collect();
    if broken.is_empty() { Ok(items) } else { Err(Reason::Glob(broken.join("; "))) }
}

fn error(item: &str) -> Option<String> {
    let glob = item.strip_prefix("label:").unwrap_or(item);
    globset::Glob::new(glob).err().map(|error| error.to_string())
}

/// The allow-list of container labels; none means the default one.
pub(super) fn label_policy(_globs: Option<&[String]>) -> LabelPolicy {
    LabelPolicy {}
}

/// Which containers are exposed.
pub(super) fn container_filter(_include: &[String], _exclude: &[String]) -> ContainerFilter {
    ContainerFilter {}
}
