//! Checks which module of the exporter uses which other module, and which module uses which foreign crate.
//!
//! The modules are in the order of the data flow: metrics, discover → name → read → docker → render → scrape → serve, app.
//! The tables below list every allowed use, so that a reviewer sees a new one.

use std::path::Path;

use super::{Finding, numbered};

/// Each module and the modules that it may use.
const MODULES: &[(&str, &[&str])] = &[
    ("metrics", &[]),
    ("discover", &["metrics"]),
    ("name", &["metrics", "discover"]),
    ("web_config", &[]),
    ("top", &["web_config"]),
    ("config", &["metrics", "discover", "name", "top", "web_config"]),
    ("ebpf", &["config", "metrics", "discover"]),
    ("memory", &[]),
    ("walker", &["memory", "sandbox"]),
    ("read", &["metrics", "discover", "name", "ebpf", "walker"]),
    ("docker", &["config", "metrics", "discover", "name", "read"]),
    ("render", &["config", "metrics", "discover", "name", "read"]),
    ("sandbox", &["config", "metrics", "ebpf", "web_config"]),
    ("scrape", &["config", "metrics", "discover", "name", "read", "docker", "render", "ebpf", "memory", "walker"]),
    ("serve", &["config", "metrics", "scrape", "web_config"]),
    ("log", &["config"]),
    ("notify", &[]),
    ("probe", &["config", "web_config"]),
    ("doctor", &["config", "metrics", "discover", "name", "read", "docker", "probe", "ebpf", "sandbox", "walker"]),
];

/// The files that wire the modules together, which may use every module.
const WIRING: [&str; 4] = ["app", "fuzz", "lib", "main"];

/// Foreign crates that only some modules may use.
const CRATES: &[(&str, &[&str])] = &[
    ("aya", &["ebpf"]),
    ("bollard", &["docker"]),
    ("hyper", &["config", "docker", "serve", "top", "web_config"]),
    ("hyper_util", &["docker", "serve", "top"]),
    ("http_body_util", &["docker", "serve", "top"]),
    ("tokio_rustls", &["docker", "probe", "serve", "top", "web_config"]),
    ("cgroups_rs", &["discover", "read"]),
    ("landlock", &["sandbox"]),
    ("lexopt", &["config"]),
    ("prometheus", &["metrics", "render"]),
    ("seccompiler", &["sandbox"]),
    ("tokio", &["app", "docker", "doctor", "main", "scrape", "serve", "top", "web_config"]),
];

/// Checks one file; only the exporter's own sources have modules.
pub(super) fn check(path: &str, content: &str) -> Vec<Finding> {
    let Some(inside) = path.strip_prefix("exporter/src/").filter(|inside| !is_test(inside)) else {
        return Vec::new();
    };
    let module = inside.split(['/', '.']).next().unwrap_or(inside);
    let code = code_of(content);
    let mut findings = foreign(path, module, &code);
    if !WIRING.contains(&module) {
        findings.extend(edges(path, module, &code));
        findings.extend(climbs(path, inside, &code));
    }
    findings
}

pub(super) fn is_test(inside: &str) -> bool {
    let path = Path::new(inside);
    inside.ends_with("tests.rs") || inside.contains("/tests/") || path.extension().is_none_or(|kind| kind != "rs")
}

/// Returns the code without comments and without the unit tests at the end. Line numbers do not change.
pub(super) fn code_of(content: &str) -> String {
    let tests = content.find("#[cfg(test)]\nmod tests {").unwrap_or(content.len());
    let code = content.get(..tests).unwrap_or(content);
    code.lines().flat_map(|line| [without_comment(line), "\n"]).collect()
}

/// `://` is a URL in a string, not a comment.
fn without_comment(line: &str) -> &str {
    let comment = line.match_indices("//").map(|(start, _)| start);
    let start = comment.into_iter().find(|start| !line.get(..*start).is_some_and(|before| before.ends_with(':')));
    start.and_then(|start| line.get(..start)).unwrap_or(line)
}

fn edges(path: &str, module: &str, code: &str) -> Vec<Finding> {
    let Some((_, allowed)) = MODULES.iter().find(|(name, _)| *name == module) else {
        let what =
            format!("the module `{module}` is not in the list of {}: say there which modules it may use", file!());
        return vec![Finding::new(path, what)];
    };
    named_after(code, "crate::")
        .into_iter()
        .filter(|(_, target)| *target != module && !allowed.contains(target))
        .filter(|(_, target)| MODULES.iter().any(|(name, _)| name == target) || WIRING.contains(target))
        .map(|(line, target)| {
            let what = format!("`{module}` uses `{target}`, against the direction of the data; it may use {allowed:?}");
            Finding::new(format!("{path}:{line}"), what)
        })
        .collect()
}

/// Finds `super::super::` paths that leave the module, because `edges` does not see them.
fn climbs(path: &str, inside: &str, code: &str) -> Vec<Finding> {
    let parts = inside.trim_end_matches("/mod.rs").split('/').count();
    let too_far = "super::".repeat(parts);
    numbered(code)
        .filter(|(_, line)| line.contains(&too_far))
        .map(|(number, _)| {
            let location = format!("{path}:{number}");
            Finding::new(location, format!("`{too_far}` leaves the module: write `crate::` and the module's name"))
        })
        .collect()
}

fn foreign(path: &str, module: &str, code: &str) -> Vec<Finding> {
    let kept = CRATES.iter().filter(|(_, modules)| !modules.contains(&module));
    kept.filter_map(|(name, modules)| {
        let start = find_path(code, &format!("{name}::"))?;
        let what = format!("uses the crate {name}, which is kept to {modules:?}");
        Some(Finding::new(format!("{path}:{}", line_of(code, start)), what))
    })
    .collect()
}

/// Returns the line and the first segment of every path that begins with `prefix`. Groups in braces are expanded.
fn named_after<'a>(code: &'a str, prefix: &str) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    let mut offset = 0;
    while let Some(start) = code.get(offset..).and_then(|rest| find_path(rest, prefix)).map(|start| offset + start) {
        offset = start + prefix.len();
        let Some(rest) = code.get(offset..) else { break };
        let line = line_of(code, start);
        match rest.strip_prefix('{') {
            Some(group) => found.extend(members(group).into_iter().map(|member| (line, member))),
            None => found.push((line, segment(rest))),
        }
    }
    found
}

/// Returns the offset of the first path that begins with `prefix`. The end of a longer path or name does not count.
fn find_path(code: &str, prefix: &str) -> Option<usize> {
    let inner = |character: char| character.is_alphanumeric() || character == '_' || character == ':';
    code.match_indices(prefix).map(|(start, _)| start).find(|start| {
        let before = code.get(..*start).and_then(|text| text.chars().next_back());
        !before.is_some_and(inner)
    })
}

/// Returns the first segments of the members of a group such as `{a::b, c::{d, e}, f}`, without its opening brace.
fn members(group: &str) -> Vec<&str> {
    let mut depth = 1;
    let mut start = 0;
    let mut found = Vec::new();
    for (index, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        let ends_member = (character == ',' && depth == 1) || depth == 0;
        if ends_member {
            found.push(group.get(start..index).map_or("", |member| segment(member.trim_start())));
            start = index + 1;
        }
        if depth == 0 {
            break;
        }
    }
    found.retain(|member| !member.is_empty());
    found
}

fn segment(path: &str) -> &str {
    let end = path.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(path.len());
    path.get(..end).unwrap_or(path)
}

fn line_of(code: &str, offset: usize) -> usize {
    code.get(..offset).unwrap_or(code).matches('\n').count() + 1
}
