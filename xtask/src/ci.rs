//! `cargo xtask ci` and `cargo xtask test`: the steps that a change must pass, in order, each with its commands.
//!
//! CI calls these steps by name and has no steps of its own.

use std::time::Instant;

use anyhow::{Context, bail};

use crate::sh::{self, say};
use crate::{bundles, deploy, dist, docs, ebpf, setup, tidy, vm};

/// One check.
struct Step {
    name: &'static str,
    work: Work,
    /// Hint for a failure.
    repair: &'static str,
    /// Whether `cargo xtask test` runs the step. It leaves out steps that need uncommon tools, and slow steps that add little.
    in_test: bool,
}

enum Work {
    /// Command lines whose words contain no spaces.
    Commands(&'static [&'static str]),
    Own(fn() -> anyhow::Result<()>),
}

static STEPS: &[Step] = &[
    Step {
        name: "setup",
        work: Work::Own(|| setup::run(&[])),
        repair: "install by other means what is missing above",
        in_test: true,
    },
    Step { name: "fmt", work: Work::Commands(&["cargo fmt --all --check"]), repair: "cargo fmt --all", in_test: true },
    Step {
        name: "clippy",
        work: Work::Commands(&[
            "cargo clippy --locked --workspace --all-targets --features exporter-tests/guest,exporter-tests/stacks -- -D warnings",
        ]),
        repair: "fix what clippy names; #[expect(lint, reason = \"...\")] where it is wrong",
        in_test: true,
    },
    Step {
        name: "rustdoc",
        work: Work::Commands(&[
            "env RUSTDOCFLAGS=-Dwarnings cargo doc --locked --workspace --no-deps --document-private-items",
        ]),
        repair: "fix the doc comments that rustdoc names",
        in_test: false,
    },
    Step {
        name: "unit",
        work: Work::Commands(&["cargo test --locked --workspace --exclude exporter-tests --no-fail-fast"]),
        repair: "fix the code or the test; golden files are rewritten by `cargo xtask bless`",
        in_test: true,
    },
    Step { name: "docs", work: Work::Own(|| docs::run(true)), repair: "cargo xtask docs", in_test: true },
    Step {
        name: "deploy",
        work: Work::Own(|| deploy::run(true)),
        repair: "cargo xtask deploy; sources are in deploy/source, and promtool comes with the package prometheus",
        in_test: true,
    },
    Step { name: "tidy", work: Work::Own(tidy::run), repair: "each finding above has a hint", in_test: true },
    Step {
        name: "ebpf",
        work: Work::Own(|| ebpf::run(true)),
        repair: "cargo xtask ebpf, and commit exporter-ebpf/prebuilt; where the compiler is another one, that of \
                 exporter-ebpf/prebuilt/PROVENANCE",
        in_test: false,
    },
    Step {
        name: "deny",
        work: Work::Commands(&["cargo deny --locked check"]),
        repair: "cargo install cargo-deny --locked, if it is missing; else see deny.toml",
        in_test: false,
    },
    Step {
        name: "guest",
        work: Work::Own(|| {
            let skipped: Vec<&str> = SEEN_ON_THE_HOST.iter().flat_map(|test| ["--skip", test]).collect();
            guests(&["trixie"], &skipped)
        }),
        repair: "cargo xtask vm --suite trixie test WORD runs the tests of that name again, and with `shell` in place of \
                 `test` you are in the guest",
        in_test: true,
    },
    Step {
        name: "kernels",
        work: Work::Own(|| guests(&["forky", "bookworm"], KERNELS)),
        repair: "cargo xtask vm --suite NAME test WORD runs the tests of that name again",
        in_test: false,
    },
    Step {
        name: "guests",
        work: Work::Own(|| guests(&["trixie", "forky", "bookworm"], &[])),
        repair: "cargo xtask vm --suite NAME test WORD runs the tests of that name again",
        in_test: false,
    },
    Step {
        name: "machines",
        work: Work::Commands(&["cargo test --locked --package xtask --test machines -- --ignored --test-threads=1"]),
        repair: "the failed test says what it saw of its guest",
        in_test: false,
    },
    Step {
        name: "bundles",
        work: Work::Own(bundles::check),
        repair: "cargo xtask setup dist installs the tools; each failed check stands above with its command",
        in_test: false,
    },
    Step {
        name: "stacks",
        work: Work::Own(bundles::run_stacks),
        repair: "each test starts hosts of its own; tests/tests/stacks says what it waits for",
        in_test: false,
    },
    Step {
        name: "reproducible",
        work: Work::Own(|| dist::run(&["--twice"])),
        repair: "build both by hand (`cargo xtask dist --program ARCH` in each directory) and compare them by diffoscope",
        in_test: false,
    },
    Step {
        name: "dist",
        work: Work::Own(|| dist::run(&[])),
        repair: "cargo xtask setup dist installs compilers and tools",
        in_test: false,
    },
    Step {
        name: "emulated",
        work: Work::Own(dist::emulated::check),
        repair: "run the program under qemu-user by hand, with the flags in xtask/src/dist/emulated.rs; the guest's script is \
                 xtask/src/vm/guest/arm64.sh",
        in_test: false,
    },
    Step {
        name: "packages",
        work: Work::Own(dist::packages::check),
        repair: "the guest's last lines say what was not as it should be; the script is xtask/src/vm/guest/packages.sh",
        in_test: false,
    },
    Step {
        name: "restarts",
        work: Work::Own(|| {
            say("$ cargo xtask vm --suite trixie soak --restarts 100");
            vm::run(&["--suite", "trixie", "soak", "--restarts", "100"]).context("counters over restarts")
        }),
        repair: "each counter that fell stands above the table; cargo xtask soak --restarts NUMBER does the same on this host",
        in_test: false,
    },
    Step {
        name: "soak",
        work: Work::Commands(&[
            "cargo build --locked --package docker-stats-exporter",
            "cargo run --quiet --locked --package exporter-tests --bin=soak -- --time 60s",
        ]),
        repair: "what failed stands above the table; cargo xtask soak --time TIME does it again",
        in_test: true,
    },
    Step {
        name: "host",
        work: Work::Commands(&[
            "cargo build --locked --package docker-stats-exporter",
            "cargo test --locked --package exporter-tests --tests --no-fail-fast",
        ]),
        repair: "the failed test says what it compared; it needs root, and what `cargo xtask setup` installs",
        in_test: true,
    },
];

/// Tests that the step `guest` leaves out: their result on the host is the same, because they depend neither on systemd, nor on
/// cgroup v2, nor on the kernel. The step `guests` runs them, too.
const SEEN_ON_THE_HOST: &[&str] = &[
    // Engines, and what they say.
    "engine::",
    "engines::",
    "proxy::",
    "tls::",
    "hostile::",
    "health::",
    "names::",
    "restarts_and_exit_code",
    "each_scrape_of_a_crash_loop",
    "a_start_by_hand",
    "life::a_container_that_never_ran",
    "life::a_paused_container",
    "life::a_rename",
    "an_engine_of_one_s_own_can_be_stopped",
    // Made-up trees and limits of the process.
    "absent::",
    "descriptors::",
    "files::",
    // The walker of layers.
    "disk::a_",
    "disk::no_collector",
    "disk::the_",
    // Network namespaces, sockets and links.
    "details::",
    "links::",
    "network::a_container_with_a_great_many",
    "network::a_process_that_enters",
    "network::a_shared_namespace",
    "sandbox::nobody_counts",
    "sandbox::nobody_needs",
    "sandbox::sockets",
    // Load, and tables that are full.
    "bounds::",
    "fio::",
    "more_containers_than_there_is_room_for",
    "several_exporters",
    "three_hundred_containers",
    "who_finds_no_room",
    "who_nests_cgroups",
];

/// Tests that depend most on the kernel: every eBPF program with exact counts, every value of files and snapshots, and the
/// sandbox.
const KERNELS: &[&str] = &[
    "this_is_a_host",
    "packets_of_known_number",
    "segments_that_are_sent_again",
    "known_bytes_and_operations",
    "a_task_s_waiting",
    "every_value_lies",
    "pressure_that_is_switched_off",
    "every_key_of_a_container",
    "sandbox::",
];

/// Runs the end-to-end tests in virtual machines, one after the other. `words` are arguments of the test programs.
fn guests(suites: &[&str], words: &[&str]) -> anyhow::Result<()> {
    for suite in suites {
        let arguments = [&["--suite", suite, "test"], words].concat();
        say(&format!("$ cargo xtask vm {}", arguments.join(" ")));
        vm::run(&arguments).with_context(|| format!("the guest {suite}"))?;
    }
    Ok(())
}

/// Runs `cargo xtask test`.
pub(crate) fn test() -> anyhow::Result<()> {
    setup::become_root(&["test"])?;
    run_steps(&STEPS.iter().filter(|step| step.in_test).collect::<Vec<_>>())
}

/// Runs `cargo xtask ci`: all steps, or the named ones.
pub(crate) fn run(names: &[&str]) -> anyhow::Result<()> {
    if names.is_empty() {
        return run_steps(&STEPS.iter().collect::<Vec<_>>());
    }
    run_steps(&names.iter().map(|name| find(name)).collect::<anyhow::Result<Vec<_>>>()?)
}

fn find(name: &str) -> anyhow::Result<&'static Step> {
    STEPS.iter().find(|step| step.name == name).with_context(|| {
        let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        format!("`{name}` is not a step of ci: {}", known.join(", "))
    })
}

/// Runs steps until one fails. The times are printed before the last step, so that a run ends with the output of the tests.
fn run_steps(steps: &[&Step]) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        if index > 0 && index + 1 == steps.len() {
            say(&format!("\n== so far: {}", times.join(", ")));
        }
        say(&format!("\n== {}", step.name));
        let start = Instant::now();
        if let Err(error) = step.run() {
            bail!("step {} failed: {error:#}\nhint: {}", step.name, step.repair);
        }
        times.push(format!("{} {:.1} s", step.name, start.elapsed().as_secs_f64()));
    }
    Ok(())
}

impl Step {
    fn run(&self) -> anyhow::Result<()> {
        match self.work {
            Work::Own(check) => check(),
            Work::Commands(commands) => commands.iter().try_for_each(|command| sh::run(command)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{STEPS, find};

    #[test]
    fn every_step_is_found_by_its_own_name_alone() {
        let names: HashSet<&str> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), STEPS.len());
        assert!(STEPS.iter().all(|step| find(step.name).is_ok_and(|found| std::ptr::eq(found, step))));
    }

    #[test]
    fn an_unknown_step_is_answered_with_the_known_ones() {
        let message = find("lint").err().unwrap().to_string();
        assert!(message.contains("`lint`") && message.contains("clippy, rustdoc"), "{message}");
    }

    #[test]
    fn a_run_ends_with_the_tests_against_the_host() {
        assert_eq!(STEPS.last().unwrap().name, "host");
    }
}
