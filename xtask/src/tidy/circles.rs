//! Finds files of the exporter that import each other in a circle. None of them can be understood without the others.
//!
//! An import from the `mod.rs` above a file makes no circle, because a `mod.rs` puts its files together. An import of an
//! item that a `mod.rs` re-exports counts as an import from the file of the item.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::direction::{code_of, is_test};
use crate::workspace::File;

/// A module by its path from the crate's root.
type Module<'a> = Vec<&'a str>;

/// The modules, each with the paths in its code.
type Modules<'a> = BTreeMap<Module<'a>, Vec<Vec<String>>>;

/// Checks all files together.
pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let mut modules = Modules::new();
    for file in files {
        let inside = file.path.strip_prefix("exporter/src/").filter(|inside| !is_test(inside));
        if let (Some(inside), Some(text)) = (inside, &file.text) {
            let path = inside.trim_end_matches(".rs");
            let module = path.trim_end_matches("/mod").split('/').filter(|name| *name != "lib").collect();
            modules.insert(module, paths(&code_of(text)));
        }
    }
    let edges: BTreeMap<&Module<'_>, BTreeSet<Module<'_>>> = modules
        .iter()
        .map(|(module, paths)| {
            let targets = paths.iter().filter_map(|path| resolve(&modules, module, path, 0));
            (module, targets.filter(|target| !module.starts_with(target)).collect())
        })
        .collect();
    let mut reported = BTreeSet::new();
    let mut findings = Vec::new();
    for module in modules.keys() {
        let mutual: Vec<_> = reachable(&edges, module)
            .into_iter()
            .filter(|other| *other == *module || reachable(&edges, other).contains(module))
            .collect();
        if mutual.len() > 1 && reported.insert(mutual.clone()) {
            let names: Vec<String> = mutual.iter().map(|module| module.join("::")).collect();
            let what = "these files import each other: move what they share below both";
            findings.push(Finding::new(names.join(", "), what));
        }
    }
    findings
}

/// Returns every module that this one imports, directly or indirectly.
fn reachable<'a>(edges: &BTreeMap<&Module<'a>, BTreeSet<Module<'a>>>, from: &Module<'a>) -> BTreeSet<Module<'a>> {
    let mut reached = BTreeSet::new();
    let mut pending = vec![from.clone()];
    while let Some(module) = pending.pop() {
        for target in edges.get(&module).into_iter().flatten() {
            if reached.insert(target.clone()) {
                pending.push(target.clone());
            }
        }
    }
    reached
}

/// Returns the module of the item that `path` names in `module`, or `None` for a path of another crate.
fn resolve<'a>(modules: &Modules<'a>, module: &Module<'a>, path: &[String], depth: usize) -> Option<Module<'a>> {
    let mut segments = path.iter().map(String::as_str).peekable();
    let mut target = match *segments.peek()? {
        "crate" => Module::new(),
        "super" | "self" => module.clone(),
        child => {
            let is_child = modules.keys().any(|known| known.split_last() == Some((&child, module)));
            is_child.then(|| module.clone())?
        }
    };
    while let Some(step) = segments.next_if(|segment| ["crate", "super", "self"].contains(segment)) {
        if step == "super" {
            target.pop()?;
        }
    }
    while let Some(known) =
        segments.peek().and_then(|segment| modules.keys().find(|known| known.split_last() == Some((segment, &target))))
    {
        target.clone_from(known);
        segments.next();
    }
    // A re-exported item belongs to the module that it is imported from.
    let item = segments.next();
    let exported = modules.get(&target)?.iter().find(|path| path.len() > 1 && path.last().map(String::as_str) == item);
    let inner = exported.filter(|_| depth < 8).and_then(|path| resolve(modules, &target, path, depth + 1));
    inner.or(Some(target))
}

/// Returns every path of at least two segments. Groups in braces are expanded.
fn paths(code: &str) -> Vec<Vec<String>> {
    let is_inner = |character: char| character.is_alphanumeric() || character == '_';
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(start) = rest.find(is_inner) {
        rest = rest.get(start..).unwrap_or_default();
        rest = tree(rest, &mut Vec::new(), &mut found);
    }
    found.retain(|path| path.len() > 1);
    found
}

/// Adds the paths of one path expression, and returns the code behind it.
fn tree<'a>(code: &'a str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let end = code.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(code.len());
    let (name, mut rest) = code.split_at(end);
    prefix.push(name.to_owned());
    if let Some(group) = rest.strip_prefix("::{") {
        rest = group;
        loop {
            rest = rest.trim_start_matches(|character: char| character.is_whitespace() || character == ',');
            match rest.strip_prefix('}') {
                Some(behind) => {
                    rest = behind;
                    break;
                }
                None if rest.starts_with(|character: char| character.is_alphanumeric() || character == '_') => {
                    rest = tree(rest, prefix, found);
                }
                None => break,
            }
        }
    } else if let Some(path) = rest.strip_prefix("::") {
        rest = tree(path, prefix, found);
    } else {
        found.push(prefix.clone());
    }
    prefix.pop();
    rest
}
