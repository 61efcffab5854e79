//! Every captured host, served from its plain files, must give exactly its golden expositions. `cargo xtask bless`
//! (`BLESS=1`) rewrites them.
//!
//! Each host is served in several ways ([`VARIANTS`]); together they show every family of the table that has a source on
//! such a host, but for those that [`coverage`] names with the reason.

#[cfg(test)]
#[path = "golden/coverage.rs"]
mod coverage;
#[cfg(test)]
#[path = "golden/normal.rs"]
mod normal;

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exporter_tests::exposition::Format;
use exporter_tests::fake_engine::FakeEngine;
use exporter_tests::fixture::Fixture;
use exporter_tests::{Exporter, Exposition, wait};

/// An exposition that has not changed for so long holds all that the engine has answered.
const SETTLED: Duration = Duration::from_millis(250);

/// A way of serving a captured host.
struct Variant {
    /// What comes after the host's name in the golden file's; empty for the default.
    name: &'static str,
    flags: &'static [&'static str],
    format: Format,
}

const VARIANTS: &[Variant] = &[
    Variant { name: "", flags: &[], format: Format::Text },
    Variant { name: ".openmetrics", flags: &[], format: Format::OpenMetrics },
    Variant {
        name: ".all",
        flags: &[
            "--collector.memory_detail",
            "--collector.hugetlb",
            "--collector.numa",
            "--collector.percpu",
            "--collector.tcp",
        ],
        format: Format::Text,
    },
    Variant { name: ".docker-stats", flags: &["--metrics.schema=docker-stats"], format: Format::Text },
    Variant { name: ".docker-api", flags: &["--source=docker-api", "--metrics.schema=both"], format: Format::Text },
];

/// Serves a captured host and gives what it says, with all that changes from run to run made 0.
fn serve(fixture: &Fixture, variant: &Variant) -> Result<String> {
    let engine = FakeEngine::captured(&fixture.docker())?;
    engine.end_all_in_the_future()?;
    let mut builder = Exporter::builder()
        .flag(format!("--path.cgroup={}", fixture.cgroup().display()))
        .flag(format!("--path.procfs={}", fixture.proc().display()))
        .docker_url(&engine.url());
    for flag in variant.flags {
        builder = builder.flag(*flag);
    }
    let exporter = builder.start()?;
    let mut last = String::new();
    wait::eventually(Duration::from_secs(20), "all of the engine's answers", || {
        let exposition = exporter.scrape_path("/metrics", variant.format)?;
        named(&exposition, variant)?;
        let now = normal::normal(&exposition.text);
        let before = std::mem::replace(&mut last, now);
        sleep(SETTLED);
        ensure!(before == last, "it still changes");
        Ok(())
    })?;
    exporter.stop()?;
    Ok(last)
}

/// The golden files compared, or written, once for all tests; what is wrong with them.
fn compared() -> &'static [String] {
    static WRONG: OnceLock<Vec<String>> = OnceLock::new();
    WRONG.get_or_init(|| {
        let fixtures = match Fixture::all() {
            Ok(fixtures) => fixtures,
            Err(error) => return vec![format!("{error:#}")],
        };
        let all = fixtures.iter().flat_map(|fixture| VARIANTS.iter().map(move |variant| (fixture, variant)));
        all.filter_map(|(fixture, variant)| compare(fixture, variant).err()).map(|error| format!("{error:#}")).collect()
    })
}

/// Whether the engine's answers have arrived.
fn named(exposition: &Exposition, variant: &Variant) -> Result<()> {
    let up = exposition.value("docker_stats_exporter_docker_up", &[])?;
    ensure!((up - 1.0).abs() < f64::EPSILON, "the engine is not up");
    let label = if variant.name == ".docker-stats" { "container" } else { "name" };
    let any = exposition.samples().any(|sample| !sample.label(label).is_empty());
    ensure!(any, "no container has a name");
    Ok(())
}

fn compare(fixture: &Fixture, variant: &Variant) -> Result<()> {
    let path = fixture.golden(variant.name);
    let got = serve(fixture, variant).with_context(|| path.display().to_string())?;
    if std::env::var_os("BLESS").is_some() {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        return Ok(fs::write(path, got)?);
    }
    let golden = fs::read_to_string(&path).with_context(|| format!("{}: cargo xtask bless", path.display()))?;
    let difference = normal::difference(&golden, &got);
    ensure!(
        difference.is_empty(),
        "{} differs (- golden, + now); where now is right: cargo xtask bless\n{difference}",
        path.display()
    );
    Ok(())
}

#[test]
fn every_captured_host_gives_its_golden_expositions() {
    let wrong = compared();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What the golden files of all hosts of a cgroup version show.
fn shown(v2: bool) -> Result<BTreeSet<String>> {
    compared();
    let mut shown = BTreeSet::new();
    for fixture in Fixture::all()?.iter().filter(|fixture| coverage::is_v2(fixture) == v2) {
        for variant in VARIANTS {
            shown.extend(coverage::families(fixture, variant.name)?);
        }
    }
    Ok(shown)
}

#[test]
fn every_family_with_a_source_is_in_a_golden_file_of_each_cgroup_version() {
    for (v2, version) in [(false, "v1"), (true, "v2")] {
        let missing = coverage::missing(&shown(v2).unwrap(), v2);
        assert!(
            missing.is_empty(),
            "in no golden file of a host with cgroup {version}, though the table gives them a source there: {missing:?}. \
             Either the captures lack a file (cargo xtask capture), or the reader does, or tests/golden/coverage.rs is to \
             name the reason."
        );
    }
}

#[test]
fn no_exception_is_out_of_date() {
    for v2 in [false, true] {
        let shown = shown(v2).unwrap();
        let stale = coverage::stale(&shown, v2);
        assert!(stale.is_empty(), "covered by now, so no longer to be excused in tests/golden/coverage.rs: {stale:?}");
    }
}
