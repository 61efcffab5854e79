//! Tests of the doctor on made-up trees: each problem gets its own line and its own hint.

use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::*;
use crate::config::Command;

const ID: &str = "1f76d86fe81cab2d4cb40d8e3b49dd6ef508eb7fa80baf1e29566a42c1c923d5";

/// Creates files with their contents below a temporary directory.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("proc")).unwrap();
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// Returns the files of a v2 host with one container and no problem.
fn v2(controllers: &str) -> Vec<(&'static str, String)> {
    let scope = "sys/system.slice/docker-1f76d86fe81cab2d4cb40d8e3b49dd6ef508eb7fa80baf1e29566a42c1c923d5.scope";
    let in_scope = |name: &str| &*format!("{scope}/{name}").leak();
    vec![
        ("sys/cgroup.controllers", "cpuset cpu io memory hugetlb pids".to_owned()),
        ("sys/cgroup.subtree_control", "cpu io memory pids".to_owned()),
        (in_scope("cgroup.controllers"), controllers.to_owned()),
        (in_scope("cgroup.procs"), "4711\n".to_owned()),
        ("proc/pressure/cpu", "some avg10=0.00".to_owned()),
        ("proc/4711/net/dev", "Inter-|".to_owned()),
    ]
}

fn borrowed<'a>(files: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    files.iter().map(|(name, text)| (*name, text.as_str())).collect()
}

fn config(root: &Path, args: &[&str]) -> Config {
    let path = |name: &str| root.join(name).to_str().unwrap().to_owned();
    let mut all = vec![
        "doctor".to_owned(),
        "--web.listen-address=127.0.0.1:0".to_owned(),
        format!("--path.procfs={}", path("proc")),
        format!("--docker.url=unix://{}", path("docker.sock")),
    ];
    if root.join("sys").is_dir() {
        all.push(format!("--path.cgroup={}", path("sys")));
    } else {
        all.push(format!("--path.cgroup={}", path("proc")));
    }
    all.extend(args.iter().map(ToString::to_string));
    match Config::from(all.into_iter().map(OsString::from), |_| None) {
        Ok(Command::Doctor(config)) => *config,
        other => panic!("{other:?}"),
    }
}

/// Returns the report on these files.
fn report(files: &[(&str, &str)], args: &[&str]) -> Report {
    let root = tree(files);
    run(&config(root.path(), args))
}

/// Returns the line on this subject.
fn line<'a>(report: &'a Report, what: &str) -> &'a Line {
    report.lines.iter().find(|line| line.what == what).unwrap_or_else(|| panic!("no line on {what}:\n{report}"))
}

#[test]
fn a_sound_v2_host_is_only_short_of_docker() {
    let report = report(&borrowed(&v2("cpu io memory pids")), &[]);
    assert!(report.main_job_can_run(), "{report}");
    assert!(line(&report, "cgroup tree").found.starts_with("cgroup v2 at "), "{report}");
    assert_eq!(line(&report, "containers in the tree").found, "1 found");
    let ill: Vec<&str> =
        report.lines.iter().filter(|line| line.verdict != Verdict::Ok).map(|line| &*line.what).collect();
    assert_eq!(ill, ["Docker"], "{report}");
    assert!(line(&report, "network counters").found.contains("shows no kernel threads"), "{report}");
    assert!(line(&report, "Docker").hint.contains("-v /var/run/docker.sock"), "{report}");
}

#[test]
fn cgroups_without_a_process_are_counted_apart() {
    let files = v2("cpu io memory pids");
    let left = format!("sys/docker/{}/cgroup.events", "e".repeat(64));
    let mut files = borrowed(&files);
    files.push((&left, "populated 0\n"));
    let report = report(&files, &[]);
    let expected = "1 found, and one cgroup that is named like a container and has no process";
    assert_eq!(line(&report, "containers in the tree").found, expected);
}

#[test]
fn a_hybrid_host_is_told_by_its_content() {
    let lists = ["memory", "cpu,cpuacct", "blkio", "pids"].map(|tree| format!("sys/{tree}/docker/{ID}/cgroup.procs"));
    let mut files = vec![("sys/unified/cgroup.controllers", ""), ("proc/pressure/cpu", "some")];
    files.extend(lists.iter().map(|list| (list.as_str(), "0\n")));
    let with_v2 = report(&files, &[]);
    assert!(line(&with_v2, "cgroup tree").found.contains("hybrid"), "{with_v2}");
    assert_eq!(line(&with_v2, "controllers").verdict, Verdict::Ok, "{with_v2}");
    let v1 = report(&files[1..], &[]);
    assert!(line(&v1, "cgroup tree").found.starts_with("cgroup v1 at"), "{v1}");
    assert!(line(&v1, "pressure (PSI)").hint.contains("unified_cgroup_hierarchy=1"), "{v1}");
    // The only process is 0, so it is in another pid namespace.
    assert!(line(&v1, "procfs").hint.contains("--pid=host"), "{v1}");
}

#[test]
fn containers_that_are_not_in_a_controllers_tree_are_counted() {
    let lists = ["cpu,cpuacct", "blkio", "pids"].map(|tree| format!("sys/{tree}/docker/{ID}/cgroup.procs"));
    let mut files = vec![("sys/unified/cgroup.controllers", "memory\n"), ("proc/4711/net/dev", "")];
    files.extend(lists.iter().map(|list| (list.as_str(), "4711\n")));
    let report = report(&files, &[]);
    assert_eq!(line(&report, "containers in the tree").found, "1 found");
    let memory = line(&report, "controller memory");
    assert!(memory.found.contains("1 of 1 containers have no cgroup in"), "{memory}");
    assert!(memory.hint.contains("cgroup_no_v1="), "{memory}");
    assert_eq!(line(&report, "procfs").verdict, Verdict::Ok, "{report}");
}

#[test]
fn a_memory_controller_that_is_off_is_named_with_its_boot_parameter() {
    let disabled = "#subsys_name hierarchy num_cgroups enabled\nmemory 0 1 0\n";
    let report = report(&[("sys/cgroup.controllers", "cpu io pids"), ("proc/cgroups", disabled)], &[]);
    let line = line(&report, "controller memory");
    assert_eq!(line.verdict, Verdict::Warn);
    assert!(line.hint.contains("cgroup_enable=memory") && line.found.contains("booted"), "{line}");
    assert!(report.main_job_can_run(), "{report}");
}

#[test]
fn a_controller_that_is_not_handed_down_is_named_with_a_container() {
    let report = report(&borrowed(&v2("memory pids")), &[]);
    for name in ["cpu", "io"] {
        let line = line(&report, &format!("controller {name}"));
        assert!(line.found.contains("1 of 1 containers") && line.found.contains(ID), "{line}");
        assert!(line.hint.contains(&format!("+{name} into cgroup.subtree_control")), "{line}");
    }
}

#[test]
fn a_private_cgroup_namespace_fails_and_names_the_mount() {
    for files in [
        &[("sys/cgroup.controllers", "cpu io memory pids"), ("sys/cgroup.type", "domain")][..],
        &[("sys/memory/tasks", "1"), ("sys/cpu/tasks", "1")],
    ] {
        let report = report(files, &[]);
        let line = line(&report, "containers in the tree");
        assert_eq!(line.verdict, Verdict::Fail, "{report}");
        assert!(line.hint.contains("-v /sys/fs/cgroup:/sys/fs/cgroup:ro"), "{report}");
        assert!(!report.main_job_can_run());
    }
}

#[test]
fn a_guest_without_containers_is_sound() {
    let files = [
        ("sys/cgroup.controllers", "cpu io memory pids"),
        ("sys/cgroup.subtree_control", "cpu io memory pids"),
        ("sys/cgroup.type", "domain"),
        ("sys/system.slice/cron.service/cgroup.procs", "1\n"),
    ];
    let report = report(&files, &["--source=cgroup"]);
    assert_eq!(line(&report, "containers in the tree").verdict, Verdict::Ok, "{report}");
    assert!(report.main_job_can_run(), "{report}");
}

#[test]
fn a_controller_that_a_v2_tree_lacks_is_not_to_be_mounted_as_v1() {
    let cgroups = "#subsys_name hierarchy num_cgroups enabled\npids 3 1 1\n";
    let root = [("sys/cgroup.controllers", "cpu io memory"), ("proc/cgroups", cgroups)];
    let host = report(&root, &[]);
    assert!(line(&host, "controller pids").hint.contains("cgroup_no_v1=pids"), "{host}");
    let guest = [&root[..], &[("sys/cgroup.type", "domain"), ("sys/init.scope/cgroup.procs", "1\n")]].concat();
    let guest = report(&guest, &[]);
    assert!(line(&guest, "controller pids").hint.starts_with("on the host: +pids into"), "{guest}");
}

#[test]
fn no_container_is_no_illness() {
    let report = report(&[("sys/cgroup.controllers", "cpu io memory pids")], &[]);
    assert_eq!(line(&report, "containers in the tree").verdict, Verdict::Ok, "{report}");
    assert_eq!(line(&report, "procfs").verdict, Verdict::Ok, "{report}");
}

#[test]
fn a_procfs_without_the_containers_processes_is_not_the_host_s() {
    let files = v2("cpu io memory pids");
    let report = report(&borrowed(&files)[..5], &[]);
    assert!(line(&report, "procfs").hint.contains("--path.procfs"), "{report}");
}

#[test]
fn our_own_container_does_not_speak_for_those_that_cannot_be_seen() {
    let (pid, other) = (std::process::id(), ID.replace('1', "2"));
    let (own, own_proc) = (format!("sys/docker/{ID}/cgroup.procs"), format!("proc/{pid}/net/dev"));
    // v2 lists invisible processes as 0, v1 leaves them out.
    for unseen in ["0\n", ""] {
        let files = [
            ("sys/cgroup.controllers", "cpu io memory pids"),
            (own.as_str(), &*pid.to_string()),
            (own_proc.as_str(), ""),
            (&*format!("sys/docker/{other}/cgroup.procs"), unseen),
        ];
        let report = report(&files, &[]);
        assert!(line(&report, "procfs").hint.contains("--pid=host"), "{report}");
    }
}

#[test]
fn no_psi_names_the_boot_parameter() {
    let report = report(&[("sys/cgroup.controllers", "cpu io memory pids")], &[]);
    assert!(line(&report, "pressure (PSI)").hint.contains("psi=1"), "{report}");
}

#[test]
fn the_source_decides_what_must_be_there() {
    let v2_files = v2("cpu io memory pids");
    for (files, args, fails) in [
        (&[][..], &[][..], &["Docker", "cgroup tree"][..]),
        (&[], &["--source=cgroup"], &["cgroup tree"]),
        (&[], &["--source=docker-api"], &["Docker"]),
        (&borrowed(&v2_files), &["--source=docker-api"], &["Docker"]),
        (&borrowed(&v2_files), &["--source=cgroup"], &[]),
    ] {
        let report = report(files, args);
        let mut failed: Vec<&str> =
            report.lines.iter().filter(|line| line.verdict == Verdict::Fail).map(|line| &*line.what).collect();
        failed.sort_unstable();
        assert_eq!(failed, fails, "{args:?}\n{report}");
        assert_eq!(report.main_job_can_run(), fails.is_empty());
    }
}

/// Starts an engine that answers each request with the next of these answers.
fn engine(socket: &Path, answers: &'static [&'static str]) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(std::io::Read::read(&mut stream, &mut [0; 1024]).unwrap() > 0);
            std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
        }
    });
}

fn docker(answers: &'static [&'static str]) -> Line {
    let root = tree(&[]);
    engine(&root.path().join("docker.sock"), answers);
    line(&run(&config(root.path(), &["--source=docker-api"])), "Docker").clone()
}

#[test]
fn an_engine_is_told_by_its_version_and_by_what_it_allows() {
    const VERSION: &str = "HTTP/1.1 200 OK\r\n\r\n{\"Version\":\"29.0.0\",\"ApiVersion\":\"1.52\"}";
    let well = docker(&[VERSION, "HTTP/1.1 200 OK\r\n\r\n[]"]);
    assert!(well.verdict == Verdict::Ok && well.found.contains("engine 29.0.0 with API 1.52"), "{well}");
    let proxied = docker(&[VERSION, "HTTP/1.1 403 Forbidden\r\n\r\n"]);
    assert!(proxied.found.contains("GET /containers/json?limit=1 with status 403"), "{proxied}");
    assert!(proxied.hint.contains("/containers/ID/json"), "{proxied}");
    let hidden = docker(&["HTTP/1.1 403 Forbidden\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n[]"]);
    assert!(hidden.verdict == Verdict::Ok && hidden.found.contains("lists its containers"), "{hidden}");
    let old = docker(&["HTTP/1.1 200 OK\r\n\r\n{\"Version\":\"18.09.1\",\"ApiVersion\":\"1.39\"}"]);
    assert!(old.verdict == Verdict::Fail && old.found.contains("1.40 is the oldest"), "{old}");
    let other = docker(&["HTTP/1.1 200 OK\r\n\r\n<html>"]);
    assert!(other.found.contains("no Docker engine"), "{other}");
}

#[test]
fn a_directory_in_place_of_the_socket_and_a_dead_socket_have_their_own_hints() {
    let root = tree(&[]);
    let socket = root.path().join("docker.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let dead = run(&config(root.path(), &[]));
    assert!(line(&dead, "Docker").hint.contains("start the Docker engine"), "{dead}");
    fs::remove_file(&socket).unwrap();
    fs::create_dir(&socket).unwrap();
    let directory = run(&config(root.path(), &[]));
    assert!(line(&directory, "Docker").hint.contains("remove the directory"), "{directory}");
}

#[test]
fn a_line_is_verdict_subject_finding_and_hint() {
    assert_eq!(Line::ok("a", "b").to_string(), "ok    a: b");
    assert_eq!(Line::warn("a", "b", "c").to_string(), "warn  a: b -> c");
    assert_eq!(Line::fail("a", "b", "c").to_string(), "FAIL  a: b -> c");
}
