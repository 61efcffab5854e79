//! Containers on one filesystem, which one of them requests for all.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::discover::{Discovery, Hierarchy, NoEngine};
use crate::metrics::{Collector, CollectorSet, Dimension, FAMILIES, FamilySet};
use crate::name::Names;
use crate::read::for_cgroups;
use crate::read::reader::{Pass, Reader};

const DISK: CollectorSet = CollectorSet::EMPTY.with(Collector::Disk);

/// A host with this many containers on one disk.
fn host(containers: u32) -> tempfile::TempDir {
    let host = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = host.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("cgroup/cgroup.controllers", "cpu\n");
    for pid in 10..10 + containers {
        let cgroup = format!("/system.slice/docker-{pid:064}.scope");
        write(&format!("cgroup{cgroup}/cgroup.procs"), &format!("{pid}\n"));
        write(&format!("proc/{pid}/cgroup"), &format!("0::{cgroup}\n"));
        write(&format!("proc/{pid}/mountinfo"), "31 29 8:1 / / rw - ext4 /dev/sda1 rw\n");
        symlink("/", host.path().join(format!("proc/{pid}/root"))).unwrap();
    }
    host
}

/// A reader of it, and what makes a pass. That returns how many containers have a size.
fn reader(host: &Path) -> (Reader, impl FnMut(&mut Reader) -> usize) {
    let hierarchy = Hierarchy::detect(&host.join("cgroup")).unwrap();
    let mut discovery = Discovery::new(hierarchy.searched(), &host.join("proc"), true, true);
    let (plan, _) = for_cgroups(&hierarchy, &[], FamilySet::of(FAMILIES, DISK));
    let reader = Reader::new(plan, hierarchy, &host.join("proc"), true, SelfMetrics::new().unwrap(), None);
    let pass = move |reader: &mut Reader| {
        let now = Instant::now();
        reader.apply(discovery.refresh(now, &NoEngine));
        reader.read(Pass::of_all(DISK, &Names::default()), now);
        let (_, limit) = *reader.plan.disks.iter().find(|(fact, _)| *fact == DiskFact::Limit).unwrap();
        let size = |container: &&Container| container.sample.table(Dimension::Device).column(limit).next().is_some();
        reader.containers.iter().filter(size).count()
    };
    (reader, pass)
}

#[test]
fn one_that_hangs_speaks_for_no_other_container() {
    let host = host(3);
    let (mut reader, mut pass) = reader(host.path());
    assert_eq!(pass(&mut reader), 3);
    // The first one's root hangs since a pass that did not wait for it, and so does the next.
    for hanging in 0..2 {
        reader.disks.threads.hang(reader.containers[hanging].generation);
        assert_eq!(pass(&mut reader), 3, "the others can be asked");
    }
    // Known as such, they are not asked first.
    reader.containers[0].disk_has_timed_out = true;
    reader.containers[1].disk_has_timed_out = true;
    assert_eq!(pass(&mut reader), 3);
    // Where none is left, there is no size, and no more threads are held up.
    reader.disks.threads.hang(reader.containers[2].generation);
    assert_eq!(pass(&mut reader), 0);
}

#[test]
fn those_that_have_hung_are_asked_again_where_no_other_one_is_left() {
    let host = host(2);
    let (mut reader, mut pass) = reader(host.path());
    assert_eq!(pass(&mut reader), 2);
    reader.containers.iter_mut().for_each(|container| container.disk_has_timed_out = true);
    assert_eq!(pass(&mut reader), 2);
}

#[test]
fn a_disk_that_does_not_answer_holds_up_a_bounded_number_of_threads() {
    let host = host(5);
    let (mut reader, mut pass) = reader(host.path());
    assert_eq!(pass(&mut reader), 5);
    let blocked: Vec<u64> = reader.containers.iter().take(MAX_BLOCKED).map(|container| container.generation).collect();
    for generation in &blocked {
        reader.disks.threads.hang(*generation);
    }
    reader.disks.shared.values_mut().for_each(|shared| shared.blocked.clone_from(&blocked));
    assert_eq!(pass(&mut reader), 0, "no other one is asked");
    reader.disks.threads = StatfsThreads::default();
    assert_eq!(pass(&mut reader), 5, "it answers again");
}
