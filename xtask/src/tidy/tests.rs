//! Each rule on files made up to break it, and on files that must pass.

use super::text::Private;
use super::{Finding, check, circles, direction};
use crate::workspace::File;

fn findings(path: &str, content: &str) -> Vec<Finding> {
    let file = File { path: path.to_owned(), text: Some(content.to_owned()) };
    check(&[file], &Private { paths: vec!["/srv/build/checkout".to_owned()] })
}

fn complaints(path: &str, content: &str) -> Vec<String> {
    findings(path, content).into_iter().map(|finding| format!("{}: {}", finding.location, finding.what)).collect()
}

#[test]
fn a_room_may_use_what_stands_before_it() {
    let code = "//! x\nuse crate::metrics::Unit;\nuse crate::read::Sample;\nuse crate::render::text;\n";
    assert_eq!(complaints("exporter/src/render/mod.rs", code), [""; 0]);
}

#[test]
fn an_edge_against_the_direction_is_found_with_its_line() {
    let found = complaints("exporter/src/metrics/cpu.rs", "//! x\n\nuse crate::render::Text;\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("exporter/src/metrics/cpu.rs:3: `metrics` uses `render`"), "{found:?}");
}

#[test]
fn edges_hide_neither_in_groups_nor_in_paths_nor_in_macros() {
    for code in [
        "//! x\nuse crate::{metrics, docker::{Engine, Url}};\n",
        "//! x\nuse crate::{\n    metrics::{Row, Unit},\n    docker,\n};\n",
        "//! x\nfn f() { crate::docker::list() }\n",
        "//! x\npub use crate::docker;\n",
        "//! x\nmacro_rules! m { () => { $crate::docker::list() } }\n",
    ] {
        let found = complaints("exporter/src/discover/walk.rs", code);
        assert_eq!(found.len(), 1, "{code}: {found:?}");
    }
}

#[test]
fn comments_tests_and_other_crates_make_no_edge() {
    let code = "//! See [`crate::serve`].\n/// [`crate::docker`]\nfn f() { g(\"http://x\"); } // crate::docker\n\
                use mycrate::docker;\n#[cfg(test)]\nmod tests {\n    use crate::docker::Engine;\n}\n";
    assert_eq!(complaints("exporter/src/discover/walk.rs", code), [""; 0]);
    assert_eq!(complaints("exporter/src/discover/tests.rs", "//! x\nuse crate::docker;\n"), [""; 0]);
    assert_eq!(complaints("tests/tests/http.rs", "//! x\nuse crate::docker;\nuse hyper::Request;\n"), [""; 0]);
}

#[test]
fn the_wiring_sees_everything_but_no_room_sees_the_wiring() {
    assert_eq!(complaints("exporter/src/app.rs", "//! x\nuse crate::{docker, serve};\n"), [""; 0]);
    assert_eq!(complaints("exporter/src/serve/mod.rs", "//! x\nuse crate::app::App;\n").len(), 1);
}

#[test]
fn a_room_that_nobody_listed_is_a_finding() {
    let found = complaints("exporter/src/cache.rs", "//! x\n");
    assert!(found[0].contains("`cache` is not in the list"), "{found:?}");
}

#[test]
fn climbing_out_of_a_room_is_found_and_climbing_inside_is_not() {
    assert_eq!(complaints("exporter/src/read/mod.rs", "//! x\nuse super::docker;\n").len(), 1);
    assert_eq!(complaints("exporter/src/read/plan.rs", "//! x\nuse super::super::docker;\n").len(), 1);
    assert_eq!(complaints("exporter/src/read/plan.rs", "//! x\nuse super::Reader;\n"), [""; 0]);
    assert_eq!(complaints("exporter/src/read/plan/row.rs", "//! x\nuse super::super::Reader;\n"), [""; 0]);
}

#[test]
fn a_crate_outside_its_room_is_found() {
    for (path, code) in [
        ("exporter/src/name/mod.rs", "//! x\nuse tokio_rustls::TlsConnector;\n"),
        ("exporter/src/app.rs", "//! x\nfn f() -> hyper::Result<()> {}\n"),
        ("exporter/src/render/mod.rs", "//! x\nuse cgroups_rs::fs::Cgroup;\n"),
        ("exporter/src/read/mod.rs", "//! x\nuse tokio::fs;\n"),
    ] {
        let found = complaints(path, code);
        assert_eq!(found.len(), 1, "{path}: {found:?}");
        assert!(found[0].contains("is kept to"), "{found:?}");
    }
    assert_eq!(complaints("exporter/src/docker/mod.rs", "//! x\nuse tokio_rustls::TlsConnector;\n"), [""; 0]);
}

#[test]
fn files_that_are_too_long_are_found() {
    let found = |lines: usize| findings("xtask/src/x.rs", &format!("//! x\n{}", "\n".repeat(lines - 1))).len();
    assert_eq!((found(500), found(501)), (0, 1));
}

#[test]
fn a_source_file_says_first_what_it_is() {
    assert_eq!(complaints("xtask/src/x.rs", "fn main() {}\n//! late\n").len(), 1);
    assert_eq!(complaints("xtask/src/x.rs", "").len(), 1);
    assert_eq!(complaints("xtask/src/x.rs", "\n//! What it is.\n"), [""; 0]);
    assert_eq!(complaints("README.md", "no source\n"), [""; 0]);
}

#[test]
fn leftovers_are_found_as_words_only() {
    assert_eq!(complaints("deploy/x.yaml", "# TODO: later\n").len(), 1);
    assert_eq!(complaints("deploy/x.yaml", "# (FIXME)\n").len(), 1);
    assert_eq!(complaints("deploy/x.yaml", "# TODOS and MY_TODO_LIST\n"), [""; 0]);
}

#[test]
fn what_only_one_machine_has_is_found() {
    for line in ["/srv/build/checkout/target", "see /home/anna/notes", "index-url = https://pypi.org/simple"] {
        assert_eq!(complaints("CONTRIBUTING.md", line).len(), 1, "{line}");
    }
    for line in ["/srv/build and /sys/fs/cgroup", "/srv/build/checkouts/x", "/proc/1/home/", "/proc/PID/home/"] {
        assert_eq!(complaints("CONTRIBUTING.md", line), [""; 0], "{line}");
    }
}

#[test]
fn a_file_that_is_no_text_is_left_alone() {
    let file = File { path: "x.rs".to_owned(), text: None };
    assert_eq!(check(&[file], &Private::default()), []);
}

#[test]
fn rust_files_outside_the_exporter_have_no_rooms() {
    assert_eq!(direction::check("xtask/src/docs.rs", "use crate::anything;\n"), []);
}

#[test]
fn files_that_import_each_other_are_found() {
    let file =
        |path: &str, text: &str| File { path: format!("exporter/src/{path}"), text: Some(format!("//! x\n{text}")) };
    let found = |files: &[File]| {
        let circles = circles::check(files).into_iter().map(|finding| finding.location);
        circles.collect::<Vec<_>>()
    };
    let root = || file("read/mod.rs", "mod a;\nmod b;\npub use b::B;\nuse a::A;\n");
    assert_eq!(found(&[root(), file("read/a.rs", "use super::B;\n"), file("read/b.rs", "struct B;\n")]), [""; 0]);
    for (a, b) in [
        ("use super::b::B;\n", "use super::a::A;\n"),
        ("use super::{\n    B,\n};\n", "fn f() { super::a::f() }\n"),
        ("use crate::{metrics::M, read::{b::B, X}};\n", "use crate::read::a::{self, A};\n"),
    ] {
        assert_eq!(found(&[root(), file("read/a.rs", a), file("read/b.rs", b)]), ["read::a, read::b"], "{a}{b}");
    }
    let chain = [
        root(),
        file("read/a.rs", "use super::b::B;\n"),
        file("read/b.rs", "use crate::c::C;\n"),
        file("c.rs", "use crate::read::a;\n"),
    ];
    assert_eq!(found(&chain), ["c, read::a, read::b"]);
    let test = file("read/a.rs", "#[cfg(test)]\nmod tests {\n    use super::super::b::B;\n}\n");
    assert_eq!(found(&[root(), test, file("read/b.rs", "use super::a::A;\n")]), [""; 0]);
}
