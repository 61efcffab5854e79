//! Programs, links and entries come and go with their owners.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exporter_tests::bare::BareContainers;
use exporter_tests::{Container, Engine, Exporter, Exposition, wait};
use rustix::process::Signal;

use super::{SOON, ping_from, transmitted};

/// The v2 tree of a host that has v1 hierarchies beside it.
const UNIFIED: &str = "/sys/fs/cgroup/unified";
const LOADED: &str = "docker_stats_exporter_ebpf_program_loaded";
const ENTRIES: &str = "docker_stats_exporter_ebpf_map_entries";
const SENT: &str = "container_ebpf_network_transmit_bytes_total";

/// The numbers of the programs that a process holds.
fn programs(pid: u32) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed while we look.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let numbers = text.lines().filter_map(|line| line.strip_prefix("prog_id:"));
        found.extend(numbers.filter_map(|number| number.trim().parse::<u32>().ok()));
    }
    Ok(found)
}

/// Whether a program is in the kernel: asked of the kernel's own tool.
fn exists(program: u32) -> Result<bool> {
    let output = Command::new("bpftool").args(["prog", "show", "id", &program.to_string()]).output();
    Ok(output.context("bpftool is needed (Debian package bpftool)")?.status.success())
}

fn gone(programs: &BTreeSet<u32>) -> Result<()> {
    let left = programs.iter().filter(|program| exists(**program).unwrap_or(true)).collect::<Vec<_>>();
    ensure!(left.is_empty(), "programs {left:?} are still there");
    Ok(())
}

#[test]
fn nothing_is_left_in_the_kernel_however_the_exporter_ends() {
    for signal in [Signal::KILL, Signal::TERM] {
        let mut exporter = Exporter::builder().start().unwrap();
        let loaded = programs(exporter.pid()).unwrap();
        assert!(loaded.len() >= 3, "{loaded:?}; it said {}", exporter.stderr());
        assert!(loaded.iter().all(|program| exists(*program).unwrap()));
        let exposition = exporter.scrape().unwrap();
        for program in ["network_receive", "network_transmit", "tcp_retransmit"] {
            assert_eq!(exposition.integer(LOADED, &[("program", program)]).unwrap(), 1, "{program}");
        }
        exporter.signal(signal).unwrap();
        exporter.wait(Duration::from_secs(10)).unwrap();
        wait::eventually(Duration::from_secs(10), "the programs to be gone", || gone(&loaded)).unwrap();
    }
}

#[test]
fn several_exporters_count_the_same_and_do_not_disturb_each_other() {
    let bare = BareContainers::make(1).unwrap();
    let id = bare.ids.first().unwrap();
    let exporters = [Exporter::builder().start().unwrap(), Exporter::builder().start().unwrap()];
    let ping = || ping_from(&bare, id, 100).unwrap();
    let sent = |exporter: &Exporter, packets: i128| {
        exporter.scrape_until(Duration::from_secs(10), "the packets", |exposition| {
            let sample = exposition.container(id).find(|sample| sample.name == SENT).context("none yet")?;
            ensure!(sample.text == (packets * 100).to_string(), "{} bytes, {packets} packets", sample.text);
            Ok(())
        })
    };
    let packets = ping();
    for exporter in &exporters {
        sent(exporter, packets).unwrap();
    }
    let [first, second] = exporters;
    first.stop().unwrap();
    let packets = packets + ping();
    sent(&second, packets).unwrap();
    second.stop().unwrap();
}

#[test]
fn entries_go_with_their_cgroups_and_nobody_inherits_counts() {
    const ROUNDS: usize = 6;
    const AT_ONCE: usize = 50;
    let exporter = Exporter::builder().start().unwrap();
    let entries = |what: &str, limit: f64| {
        exporter.scrape_until(Duration::from_secs(30), what, |exposition| {
            let entries = exposition.value(ENTRIES, &[("map", "network")])?;
            ensure!(entries <= limit, "{entries} entries, not yet {limit}");
            Ok(entries)
        })
    };
    let before = entries("any", f64::MAX).unwrap();
    for round in 0..ROUNDS {
        let bare = BareContainers::make(AT_ONCE).unwrap();
        // Each sends another number of packets: a foreign byte would show.
        let pinged: Vec<i128> = std::thread::scope(|scope| {
            let parts: Vec<_> = (0..4)
                .map(|part| {
                    let mine = bare.ids.iter().enumerate().skip(part * AT_ONCE.div_ceil(4)).take(AT_ONCE.div_ceil(4));
                    let bare = &bare;
                    scope.spawn(move || {
                        mine.map(|(index, id)| ping_from(bare, id, index as u64 + 1).unwrap()).collect::<Vec<_>>()
                    })
                })
                .collect();
            parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
        });
        let exposition = exporter.scrape().unwrap();
        for (id, pinged) in bare.ids.iter().zip(pinged) {
            let sent = exposition.container(id).find(|sample| sample.name == SENT).map(|sample| sample.text.as_str());
            assert_eq!(sent, Some((pinged * 100).to_string().as_str()), "{id} of round {round}, {pinged} packets");
        }
    }
    // Other tests make traffic meanwhile: fewer than one round's entries may have come on top.
    let after = entries("the entries to be given back", before + 45.0).unwrap();
    assert!(after <= before + 45.0, "{before} entries before, {after} after");
    exporter.stop().unwrap();
}

#[test]
#[cfg_attr(feature = "guest", ignore = "emulated processors take half an hour for three hundred starts")]
fn three_hundred_containers_come_and_go_beside_traffic_and_none_inherits() {
    const ROUNDS: usize = 30;
    const AT_ONCE: usize = 10;
    let engine = Engine::shared().unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let entries = |exposition: &Exposition| exposition.value(ENTRIES, &[("map", "network")]);
    let before = entries(&exporter.scrape().unwrap()).unwrap();
    // Another number of packets of 100 bytes for each, all over the host's loopback.
    let ping = |count: usize| format!("busybox ping -q -A -c {count} -s 72 127.0.0.1");
    let run = |what: &str, line: &str| {
        Container::run(engine, what, &["--network=host"], &["sh", "-c", &format!("{line}; exec sleep 1d")]).unwrap()
    };
    let steady = run("steady", &format!("until [ -e /end ]; do {}; sleep 0.1; done", ping(50)));
    let sent = |exposition: &Exposition, container: &Container<'_>| -> Result<()> {
        let pinged = transmitted(&container.docker("logs", &[])?);
        let sent = exposition.integer(SENT, &[("name", &container.name), ("family", "ipv4")])?;
        ensure!(pinged > 0 && sent == pinged * 100, "{}: {sent} bytes sent, {pinged} packets", container.name);
        Ok(())
    };
    for round in 0..ROUNDS {
        let containers: Vec<Container<'_>> = std::thread::scope(|scope| {
            let started = |index| {
                let (run, ping) = (&run, &ping);
                scope.spawn(move || run("churn", &ping(round * AT_ONCE + index + 1)))
            };
            let started: Vec<_> = (0..AT_ONCE).map(started).collect();
            started.into_iter().map(|started| started.join().unwrap()).collect()
        });
        let all_sent =
            |exposition: &Exposition| containers.iter().try_for_each(|container| sent(exposition, container));
        exporter.scrape_until(SOON, &format!("the packets of round {round}"), all_sent).unwrap();
        std::thread::scope(|scope| {
            for container in containers {
                scope.spawn(move || drop(container));
            }
        });
    }
    steady.exec(&["touch", "/end"]).unwrap();
    exporter.scrape_until(SOON, "the steady one's", |exposition| sent(exposition, &steady)).unwrap();
    drop(steady);
    // Other tests make traffic meanwhile.
    let back = exporter.scrape_until(Duration::from_secs(30), "the entries to be given back", |exposition| {
        let now = entries(exposition)?;
        ensure!(now <= before + 45.0, "{now} entries, {before} before");
        Ok(())
    });
    back.unwrap();
    exporter.stop().unwrap();
}

#[test]
fn every_capability_is_given_up_after_the_start() {
    for flag in ["--read.snapshot=off", "--read.snapshot=on", "--ebpf=off", "--source=docker-api"] {
        let exporter = Exporter::builder().flag(flag).start().unwrap();
        for thread in fs::read_dir(format!("/proc/{}/task", exporter.pid())).unwrap() {
            // A thread may end while we look.
            let Ok(status) = fs::read_to_string(thread.unwrap().path().join("status")) else { continue };
            for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
                let line = status.lines().find_map(|line| line.strip_prefix(set)).unwrap();
                assert_eq!(line.trim(), "0000000000000000", "{flag} {set}");
            }
        }
        // What was attached goes on counting.
        if flag.starts_with("--read.snapshot") {
            assert_eq!(exporter.scrape().unwrap().integer(LOADED, &[("program", "network_receive")]).unwrap(), 1);
        }
        exporter.stop().unwrap();
    }
}

#[test]
fn off_means_that_nothing_is_loaded() {
    let exporter = Exporter::builder().flag("--ebpf=off").start().unwrap();
    let exposition = exporter.scrape().unwrap();
    assert!(programs(exporter.pid()).unwrap().is_empty());
    assert!(!exposition.has(LOADED, &[]), "{:?}", exposition.family(LOADED));
    let success = "docker_stats_exporter_scrape_collector_success";
    assert!(!exposition.has(success, &[("collector", "ebpf_network")]), "a collector that is off has no success");
    exporter.stop().unwrap();
}

/// What an exporter and its doctor say while a directory of the host is hidden from them, and which programs run.
fn without(directory: &str) -> (String, Vec<String>) {
    let exporter = Exporter::builder().hide(directory).start().unwrap();
    let exposition = exporter.scrape().unwrap();
    assert!(exposition.family("machine_cpu_cores").is_some());
    let running = exposition.select(LOADED, &[]).into_iter().filter(|sample| sample.value > 0.0);
    let running = running.map(|sample| sample.label("program").to_owned()).collect();
    let log = exporter.stop().unwrap();
    let doctor = Exporter::builder().hide(directory).flag("doctor").output().unwrap();
    (format!("{log}\n{}", String::from_utf8_lossy(&doctor.stdout)), running)
}

#[test]
fn without_the_kernel_s_types_packets_are_counted_and_the_hint_is_told() {
    let (said, running) = without("/sys/kernel/btf");
    assert_eq!(running, ["network_receive", "network_transmit"], "{said}");
    let reported =
        said.lines().filter(|line| line.contains("CONFIG_DEBUG_INFO_BTF=y") && line.contains("block_complete"));
    assert!(reported.count() >= 2, "{said}");
}

#[test]
fn without_a_cgroup_v2_tree_block_io_is_counted_and_the_hint_is_told() {
    // Where there is nothing but v2, there is nothing left to read without it.
    if !Path::new(UNIFIED).exists() {
        return;
    }
    let (said, running) = without(UNIFIED);
    assert_eq!(running, ["block_complete", "snapshot"], "{said}");
    assert!(said.lines().filter(|line| line.contains("mount -t cgroup2")).count() >= 2, "{said}");
}

#[test]
fn without_capabilities_files_are_served_and_the_hint_is_told() {
    let engine = Engine::shared().unwrap();
    let exporter = Exporter::builder().docker(engine).without_capabilities().start().unwrap();
    let exposition = exporter.scrape().unwrap();
    assert_eq!(exposition.integer(LOADED, &[("program", "network_receive")]).unwrap(), 0);
    assert!(exposition.family("machine_cpu_cores").is_some());
    let log = exporter.stop().unwrap();
    assert!(log.contains("--cap-add=BPF"), "{log}");

    let reported = Exporter::builder().without_capabilities().flag("--ebpf=on").output().unwrap();
    let said = String::from_utf8_lossy(&reported.stderr);
    assert!(reported.status.code() == Some(1) && said.contains("--cap-add=BPF"), "{:?}: {said}", reported.status);
    let doctor = Exporter::builder().without_capabilities().flag("doctor").output().unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(said.contains("eBPF") && said.contains("--cap-add=BPF"), "{said}");
}
