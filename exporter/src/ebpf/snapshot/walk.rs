//! The walk over all cgroups below the parents of containers: the loaded program, its records, and an iterator per parent.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use aya::include_bytes_aligned;
use aya::programs::ProgramFd;
use exporter_ebpf::snapshot::{CPUS, Devices, ID, Stats, WORDS};

use super::cpus::Bases;
use super::link::{Link, Order};
use super::plan::{Plan, Wanted};
use crate::discover::cgroup;
use crate::ebpf::facts::Obstacle;
use crate::ebpf::loader::{Loader, mapped_for_now, refused};
use crate::ebpf::mapped::Mapped;

pub(super) const OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../exporter-ebpf/prebuilt/snapshot.o"));
const PROGRAM: &str = "snapshot";

const STATS_WORDS: usize = size_of::<Stats>() / 8;
const DEVICES_WORDS: usize = size_of::<Devices>() / 8;

/// Cgroups that tables have room for beside those that were met.
const SPARE: usize = 32;
/// Room is made for so many cgroups at a time: whole pages, all of which count as ours.
const STEP: usize = 64;
/// What is read of a parent to have the kernel add up: its text is thrown away.
const BUFFER: usize = 16 * 1024;

/// The walk.
pub(super) struct Walk {
    pub(super) plan: Plan,
    /// The trees, and files of a parent in each whose reading has the kernel add up what is below it.
    trees: Vec<(PathBuf, Vec<&'static str>)>,
    /// Where each CPU has its own copies of variables, where that is wanted.
    cpus: Option<Bases>,
    buffer: Vec<u8>,
    tables: Option<Tables>,
    parents: Vec<Parent>,
    /// Cgroups that the last run met.
    met: usize,
    /// Place of each cgroup's record, made when a look-up does not find it where it was.
    places: HashMap<u64, usize>,
}

/// A program with its tables. With more cgroups than it has room for, a larger one takes its place.
struct Tables {
    /// Of the object nothing else is kept: it is large.
    program: ProgramFd,
    room: usize,
    met: Mapped,
    records: Mapped,
    stats: Option<Mapped>,
    devices: Option<Mapped>,
    cpus: Option<Mapped>,
}

/// A cgroup that has containers below it.
struct Parent {
    path: String,
    /// Its inode in each tree: one that is made anew under the same name is another one.
    ids: Vec<u64>,
    link: Link,
    /// Reading them has the kernel add up what is below.
    flushes: Vec<File>,
}

impl Walk {
    pub(super) fn new(plan: Plan, wanted: &[Wanted], cpus: Option<Bases>) -> Self {
        Self {
            plan,
            trees: wanted.iter().map(|wanted| (wanted.tree.path.clone(), wanted.flushes.clone())).collect(),
            cpus,
            buffer: vec![0; BUFFER],
            tables: None,
            parents: Vec::new(),
            met: 0,
            places: HashMap::new(),
        }
    }

    /// Where the tree that is walked is mounted.
    pub(super) fn root(&self) -> &Path {
        self.trees.get(self.plan.walked).map_or_else(|| Path::new(""), |(root, _)| root)
    }

    /// Loads the program with room for so many cgroups, in place of the one that there was.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn load(&mut self, loader: &mut Loader, cgroups: usize) -> Result<(), Obstacle> {
        // What comes between two scrapes finds room, too.
        let room = (cgroups + cgroups / 16 + SPARE).next_multiple_of(STEP);
        self.tables = None;
        self.parents.clear();
        let kernel = &self.plan.kernel;
        let (has_stats, has_devices) = (kernel.stats.pointer.is_wanted(), kernel.devices.pointer.is_wanted());
        let sized = |wanted: bool| u32::try_from(if wanted { room } else { 1 }).unwrap_or(u32::MAX);
        loader.set("SNAPSHOT_PLAN", *kernel);
        loader.size("SNAPSHOT_RECORDS", sized(true));
        loader.size("SNAPSHOT_STATS", sized(has_stats));
        loader.size("SNAPSHOT_DEVICES", sized(has_devices));
        let mut object = loader.load(OBJECT)?;
        let program = loader.iterate(&mut object, PROGRAM)?;
        let mut mapped = |name, words: usize| mapped_for_now(&mut object, name, words);
        let (met, records) = (mapped("SNAPSHOT_MET", 1)?, mapped("SNAPSHOT_RECORDS", room * WORDS)?);
        let stats = has_stats.then(|| mapped("SNAPSHOT_STATS", room * STATS_WORDS)).transpose()?;
        let devices = has_devices.then(|| mapped("SNAPSHOT_DEVICES", room * DEVICES_WORDS)).transpose()?;
        let has_cpus = kernel.cpus.pointer.is_wanted();
        let cpus = has_cpus.then(|| mapped("SNAPSHOT_CPUS", CPUS)).transpose()?;
        if let (Some(bases), Some(table)) = (&self.cpus, &cpus) {
            bases.write(table.words());
        }
        self.tables = Some(Tables { program, room, met, records, stats, devices, cpus });
        Ok(())
    }

    /// Whether the last run met more cgroups than there is room for; and how many.
    pub(super) fn outgrown(&self) -> Option<usize> {
        let is_enough = |tables: &Tables| tables.room >= self.met;
        (!self.tables.as_ref().is_some_and(is_enough)).then_some(self.met)
    }

    /// Has iterators over these cgroups and no others. A parent that the walked tree does not have is passed over.
    ///
    /// # Errors
    /// What the kernel said to an iterator.
    pub(super) fn follow(&mut self, parents: &[String]) -> Result<(), Obstacle> {
        let (trees, walked) = (&self.trees, self.root().to_owned());
        let ids =
            |path: &str| -> Vec<u64> { trees.iter().map(|(root, _)| cgroup::id(root, path).unwrap_or(0)).collect() };
        self.parents.retain(|parent| parents.contains(&parent.path) && parent.ids == ids(&parent.path));
        let Some(tables) = &self.tables else { return Ok(()) };
        for path in parents {
            if self.parents.iter().any(|parent| parent.path == *path) {
                continue;
            }
            let (ids, directory) = (ids(path), cgroup::directory(&walked, path));
            let Some(cgroup) = open(&directory)? else { continue };
            let link = match Link::new(tables.program.as_fd(), &cgroup, Order::DescendantsPre) {
                Ok(link) => link,
                // It has ended meanwhile.
                Err(_) if !directory.exists() => continue,
                Err(error) => return Err(refused(PROGRAM, &error)),
            };
            let flushes = trees
                .iter()
                .flat_map(|(root, names)| names.iter().map(move |name| cgroup::directory(root, path).join(name)));
            let flushes: Result<Vec<_>, _> = flushes.filter_map(|file| open(&file).transpose()).collect();
            self.parents.push(Parent { path: path.clone(), ids, link, flushes: flushes? });
        }
        Ok(())
    }

    /// Takes a snapshot of all cgroups below the parents.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn take(&mut self) -> io::Result<()> {
        self.places.clear();
        self.met = 0;
        let Some(tables) = &self.tables else { return Ok(()) };
        let Some(met) = tables.met.words().first() else { return Ok(()) };
        met.store(0, Ordering::Relaxed);
        if let (Some(bases), Some(table)) = (&mut self.cpus, &tables.cpus) {
            bases.refresh(table.words());
        }
        for parent in &self.parents {
            for flush in &parent.flushes {
                // Its text is of no use: what counts is that the kernel has added up. A parent may have ended.
                _ = flush.read_at(&mut self.buffer, 0);
            }
            parent.link.run()?;
        }
        self.met = usize::try_from(met.load(Ordering::Acquire)).unwrap_or(usize::MAX);
        Ok(())
    }

    /// Cgroups that the last snapshot met.
    pub(super) fn met(&self) -> usize {
        self.met
    }

    /// Bytes of the tables.
    pub(super) fn bytes(&self) -> usize {
        let Some(tables) = &self.tables else { return 0 };
        let words = |mapped: &Mapped| mapped.words().len();
        8 * (words(&tables.records) + tables.stats.as_ref().map_or(0, words) + tables.devices.as_ref().map_or(0, words))
    }

    /// The place of a cgroup of the walked tree in the last snapshot. Most often it is where it was `before`.
    pub(super) fn find(&mut self, id: u64, before: u32) -> Option<u32> {
        let tables = self.tables.as_ref()?;
        let records = tables.records.words();
        let filled = self.met.min(tables.room);
        let id_at = |place: usize| records.get(place * WORDS + ID).map(|word| word.load(Ordering::Relaxed));
        let known = usize::try_from(before).ok().filter(|place| *place < filled && id_at(*place) == Some(id));
        let found = known.or_else(|| {
            if self.places.is_empty() {
                self.places.extend((0..filled).filter_map(|place| Some((id_at(place)?, place))));
            }
            self.places.get(&id).copied()
        })?;
        u32::try_from(found).ok()
    }

    /// What the last snapshot tells at a place.
    pub(super) fn record(&self, place: u32) -> Option<Record<'_>> {
        let tables = self.tables.as_ref()?;
        let place = usize::try_from(place).ok()?;
        Some(Record {
            plan: &self.plan,
            words: part(tables.records.words(), place, WORDS),
            stats: tables.stats.as_ref().map_or(&[], |stats| part(stats.words(), place, STATS_WORDS)),
            devices: tables.devices.as_ref().map_or(&[], |devices| part(devices.words(), place, DEVICES_WORDS)),
        })
    }
}

/// A parent's directory or file; none where it is not there, or no more.
fn open(path: &Path) -> Result<Option<File>, Obstacle> {
    match File::open(path) {
        Ok(open) => Ok(Some(open)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(Obstacle::new(
            format!("cannot open {}: {error}", path.display()),
            cure(&error, "let the exporter read it"),
        )),
    }
}

/// What helps where descriptors are lacking, else what else does.
pub(super) fn cure(error: &io::Error, otherwise: &'static str) -> &'static str {
    let is_out_of_descriptors = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    if is_out_of_descriptors { "raise the limit of open files: `docker run --ulimit nofile=65536`" } else { otherwise }
}

fn part(words: &[AtomicU64], place: usize, length: usize) -> &[AtomicU64] {
    words.get(place * length..(place + 1) * length).unwrap_or_default()
}

/// What a snapshot tells of one cgroup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(super) plan: &'a Plan,
    pub(super) words: &'a [AtomicU64],
    pub(super) stats: &'a [AtomicU64],
    pub(super) devices: &'a [AtomicU64],
}
