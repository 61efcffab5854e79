//! Compares walks of real trees, unchanging and changing ones, with `du`.

use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn begin(path: &Path) -> Walk {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Walk::begin(openat(rustix::fs::CWD, path, flags, Mode::empty()).unwrap()).unwrap()
}

fn end(mut walk: Walk) -> Result<u64, Failure> {
    loop {
        if let Some(bytes) = walk.step()? {
            return Ok(bytes);
        }
    }
}

/// Returns the disk usage in bytes according to `du`.
fn du(path: &Path) -> u64 {
    let output = Command::new("du").args(["-B1", "-s", "-x"]).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn the_sum_is_that_of_du() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for number in 0..600 {
        let below = root.join(format!("d{}", number % 7)).join(format!("e{}", number % 13));
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join(number.to_string()), vec![1; number * 37]).unwrap();
    }
    fs::write(root.join("linked"), vec![1; 100_000]).unwrap();
    for number in 0..50 {
        fs::hard_link(root.join("linked"), root.join("d1").join(format!("link{number}"))).unwrap();
    }
    // A hole of a gigabyte takes no blocks.
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    sparse.write_all_at(b"end", (1 << 30) - 3).unwrap();
    symlink(root, root.join("d1/loop")).unwrap();
    symlink("/usr", root.join("d1/elsewhere")).unwrap();
    symlink("x".repeat(1000), root.join("d1/long")).unwrap();
    let sum = end(begin(root)).unwrap();
    assert_eq!(sum, du(root));
    assert!(sum < 1 << 26, "{sum}");
}

#[test]
fn links_beyond_those_that_are_remembered_count_for_their_part() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for number in 0..5 {
        let file = root.join(format!("file{number}"));
        fs::write(&file, vec![1; 8192]).unwrap();
        fs::hard_link(&file, root.join(format!("link{number}"))).unwrap();
    }
    let walk = Walk { max_links: 2, ..begin(root) };
    assert_eq!(end(walk), Ok(du(root)));
}

#[test]
fn a_tree_that_is_too_deep_has_no_sum_and_costs_bounded_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    let deep = |levels: usize| {
        let root = directory.path().join(levels.to_string());
        fs::create_dir_all(root.join("d/".repeat(levels - 1))).unwrap();
        end(begin(&root))
    };
    assert_eq!(deep(MAX_DEPTH), Ok(du(&directory.path().join(MAX_DEPTH.to_string()))));
    assert_eq!(deep(MAX_DEPTH + 1), Err(Failure::TooLarge));
}

#[test]
fn what_changes_while_it_is_walked_fails_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_owned();
    for number in 0..50 {
        fs::create_dir_all(root.join(format!("a{number}/b/c"))).unwrap();
    }
    let (is_over, changed) = (Arc::new(AtomicBool::new(false)), root.clone());
    let is_over_too = Arc::clone(&is_over);
    let disturber = std::thread::spawn(move || {
        let mut number = 0;
        while !is_over_too.load(Ordering::Relaxed) {
            number = (number + 1) % 50;
            let one = changed.join(format!("a{number}"));
            let _removed = fs::remove_dir_all(&one);
            // The directory becomes a file, a link out of the tree, and a directory again.
            let _file = fs::write(&one, "x");
            let _gone = fs::remove_file(&one);
            let _link = symlink("/usr", &one);
            let _gone = fs::remove_file(&one);
            fs::create_dir_all(one.join("b/c")).unwrap();
        }
    });
    for _ in 0..200 {
        let sum = end(begin(&root)).unwrap();
        assert!(sum <= 200 * 4096 + 65_536, "{sum}: not what /usr holds");
    }
    is_over.store(true, Ordering::Relaxed);
    disturber.join().unwrap();
}

#[test]
fn a_directory_that_vanishes_before_it_is_entered_counts_for_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("gone/below")).unwrap();
    fs::create_dir_all(directory.path().join("replaced")).unwrap();
    let mut walk = begin(directory.path());
    assert_eq!(walk.step(), Ok(None));
    fs::remove_dir_all(directory.path().join("gone")).unwrap();
    fs::remove_dir(directory.path().join("replaced")).unwrap();
    symlink("/usr", directory.path().join("replaced")).unwrap();
    let alone = fs::metadata(directory.path()).unwrap();
    assert_eq!(end(walk), Ok(std::os::unix::fs::MetadataExt::blocks(&alone) * 512));
}
