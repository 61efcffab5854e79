//! Runs the iterators over the cgroups below the containers' parents, and finds the records that they leave.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use aya::programs::ProgramFd;
use exporter_ebpf::snapshot::{CPUS, Devices, ID, Stats, WORDS};
use tracing::warn;

use super::cpus::CpuOffsets;
use super::link::{Link, OBJECT, Order};
use super::plan::{Plan, TreeRequest};
use super::record::Record;
use crate::discover::cgroup;
use crate::ebpf::denial::may_load;
use crate::ebpf::error::Unsupported;
use crate::ebpf::loader::{Loader, mapped_for_now, refused};
use crate::ebpf::mapped::Mapped;

const PROGRAM: &str = "snapshot";

const STATS_WORDS: usize = size_of::<Stats>() / 8;
const DEVICES_WORDS: usize = size_of::<Devices>() / 8;

/// Cgroups that the first program has capacity for at least, and twice as many as there are: the right to load a larger one is given up
/// after the start. The others are read by their files.
const FIRST: usize = 1024;
/// Cgroups that tables have capacity for beside those that were visited.
const SPARE: usize = 32;
/// Capacity is a multiple of so many cgroups: whole pages, all of which count as ours.
const STEP: usize = 64;
/// Cgroups that there is capacity for at most: so many, and so many for each container. A container makes as many below its own as
/// it likes; containers without a record are read by files.
const CAPACITY: usize = 4096;
const CAPACITY_EACH: usize = 4;
/// What is read of a file of a parent to have the kernel add up: its text is thrown away.
const BUFFER_BYTES: usize = 16 * 1024;

/// Copies the counters of the cgroups below some roots.
pub(crate) struct IterReader {
    plan: Plan,
    /// The trees, and files of a root in each whose reading has the kernel add up what is below it.
    trees: Vec<(PathBuf, Vec<&'static str>)>,
    /// Where each CPU has its own copies of variables, where that is wanted.
    cpus: Option<CpuOffsets>,
    /// Loads the program again when there are more cgroups than it has capacity for.
    loader: Loader,
    buffer: Vec<u8>,
    program: Option<Program>,
    /// Paths of the cgroups below which all are visited.
    roots: Vec<String>,
    iterators: Vec<RootIterator>,
    /// Whether each root that exists has its iterator.
    is_attached: bool,
    /// There are more cgroups than capacity, and a larger program cannot be loaded any more.
    is_full: bool,
    /// Cgroups that the last run visited.
    visited: usize,
    /// Cgroups that there is capacity for at most.
    max_capacity: usize,
    /// Index of each cgroup's record, made when a look-up does not find it where it was.
    indices: HashMap<u64, usize>,
}

/// A loaded program with its tables. With more cgroups than it has capacity for, a larger one replaces it.
struct Program {
    /// Nothing else of the object is held: it is large.
    descriptor: ProgramFd,
    capacity: usize,
    visited: Mapped,
    records: Mapped,
    stats: Option<Mapped>,
    devices: Option<Mapped>,
    cpus: Option<Mapped>,
}

/// An iterator over the cgroups below a root.
struct RootIterator {
    root: String,
    /// Inode of the root in each tree: one that is made anew under the same name is another one.
    ids: Vec<u64>,
    link: Link,
    /// Reading them has the kernel add up what is below.
    flushes: Vec<File>,
}

impl IterReader {
    /// Loads a program that copies what is requested of the trees, with capacity for so many cgroups.
    ///
    /// # Errors
    /// What the kernel does not have or refused.
    pub(in crate::ebpf) fn start(
        mut loader: Loader,
        requests: &[TreeRequest],
        cgroups: usize,
    ) -> Result<Self, Unsupported> {
        let with_cpus = requests.iter().find(|request| request.cpus);
        let cpus = with_cpus.map(|request| CpuOffsets::find(&mut loader, &request.tree.path)).transpose()?;
        let plan = Plan::new(
            requests,
            loader.cgroup_id_offsets()?,
            loader.types()?,
            cpus.as_ref().map_or(0, CpuOffsets::len),
        )?;
        let mut reader = Self {
            plan,
            trees: requests.iter().map(|request| (request.tree.path.clone(), request.flushes.clone())).collect(),
            cpus,
            loader,
            buffer: vec![0; BUFFER_BYTES],
            program: None,
            roots: Vec::new(),
            iterators: Vec::new(),
            is_attached: true,
            is_full: false,
            visited: 0,
            max_capacity: max_capacity(cgroups),
            indices: HashMap::new(),
        };
        reader.load(FIRST.max(2 * cgroups))?;
        reader.loader.forget_types();
        Ok(reader)
    }

    /// Returns the number of counters behind `memory.stat`; 0 where they are not copied.
    pub(crate) fn stats(&self) -> usize {
        self.plan.stats
    }

    /// Returns the tree that is iterated over: its cgroups have a record whether they have processes or not.
    pub(crate) fn primary_tree(&self) -> usize {
        self.plan.primary_tree
    }

    /// Returns whether there is anything to copy.
    pub(crate) fn has_roots(&self) -> bool {
        !self.roots.is_empty()
    }

    /// Copies what is below these cgroups from now on, where there are so many containers.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) fn set_roots(&mut self, roots: Vec<String>, containers: usize) -> Result<(), Unsupported> {
        (self.roots, self.max_capacity) = (roots, max_capacity(containers));
        self.is_attached = false;
        self.attach_missing()
    }

    /// Copies the counters of all cgroups below the roots. Where the last run had too little capacity, or not all iterators could
    /// be attached, that is made good first.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) fn take(&mut self) -> Result<(), Unsupported> {
        let wanted = self.visited.min(self.max_capacity);
        let capacity = self.program.as_ref().map(|program| program.capacity);
        if capacity.is_none_or(|capacity| capacity < wanted) {
            if may_load() {
                self.is_attached = false;
                self.load(wanted)?;
            } else if !std::mem::replace(&mut self.is_full, true) {
                warn!(
                    cgroups = self.visited,
                    capacity,
                    "there are more cgroups than snapshots have capacity for, and the right to load a larger program was given up: the \
                     others are read by their files, which costs more and gives the same; restart the exporter"
                );
            }
        }
        if !self.is_attached {
            self.attach_missing()?;
        }
        self.run().map_err(|error| {
            let tree = self.primary_path().display();
            let otherwise = "please report it with the kernel's version";
            Unsupported::new(format!("a snapshot of {tree} failed: {error}"), hint(&error, otherwise))
        })
    }

    /// Returns whether the last copy visited more cgroups than there is ever capacity for: containers may have no
    /// record.
    pub(crate) fn overflows(&self) -> bool {
        self.visited > self.max_capacity && self.program.as_ref().is_some_and(|program| self.visited > program.capacity)
    }

    /// Index of the record of a cgroup of the primary tree in the last copy. Most often it is where it was `before`.
    pub(crate) fn find(&mut self, id: u64, before: u32) -> Option<u32> {
        let program = self.program.as_ref()?;
        let records = program.records.words();
        let filled = self.visited.min(program.capacity);
        let id_at = |index: usize| records.get(index * WORDS + ID).map(|word| word.load(Ordering::Relaxed));
        let known = usize::try_from(before).ok().filter(|index| *index < filled && id_at(*index) == Some(id));
        let found = known.or_else(|| {
            if self.indices.is_empty() {
                self.indices.extend((0..filled).filter_map(|index| Some((id_at(index)?, index))));
            }
            self.indices.get(&id).copied()
        })?;
        u32::try_from(found).ok()
    }

    /// Returns the record at an index of the last copy.
    pub(crate) fn record(&self, index: u32) -> Option<Record<'_>> {
        let program = self.program.as_ref()?;
        let index = usize::try_from(index).ok()?;
        Some(Record {
            plan: &self.plan,
            words: chunk(program.records.words(), index, WORDS),
            stats: program.stats.as_ref().map_or(&[], |stats| chunk(stats.words(), index, STATS_WORDS)),
            devices: program.devices.as_ref().map_or(&[], |devices| chunk(devices.words(), index, DEVICES_WORDS)),
        })
    }

    /// Cgroups in the last copy.
    pub(crate) fn entries(&self) -> usize {
        self.visited
    }

    /// Returns bytes of the tables.
    pub(crate) fn bytes(&self) -> usize {
        let Some(program) = &self.program else { return 0 };
        let tables = [Some(&program.records), program.stats.as_ref(), program.devices.as_ref()];
        tables.into_iter().flatten().map(|table| size_of_val(table.words())).sum()
    }

    /// Returns where the primary tree is mounted.
    fn primary_path(&self) -> &Path {
        self.trees.get(self.plan.primary_tree).map_or_else(|| Path::new(""), |(path, _)| path)
    }

    /// Loads the program with capacity for so many cgroups, in place of the one that there was.
    fn load(&mut self, cgroups: usize) -> Result<(), Unsupported> {
        // What comes between two scrapes has a record, too.
        let capacity = (cgroups + cgroups / 16 + SPARE).next_multiple_of(STEP);
        self.program = None;
        self.iterators.clear();
        let (kernel, loader) = (&self.plan.kernel, &mut self.loader);
        let (has_stats, has_devices) = (kernel.stats.pointer.is_wanted(), kernel.devices.pointer.is_wanted());
        let sized = |wanted: bool| u32::try_from(if wanted { capacity } else { 1 }).unwrap_or(u32::MAX);
        loader.set("SNAPSHOT_PLAN", *kernel);
        loader.size("SNAPSHOT_RECORDS", sized(true));
        loader.size("SNAPSHOT_STATS", sized(has_stats));
        loader.size("SNAPSHOT_DEVICES", sized(has_devices));
        let mut object = loader.load(OBJECT)?;
        let descriptor = loader.iterate(&mut object, PROGRAM)?;
        let mut mapped = |name, words: usize| mapped_for_now(&mut object, name, words);
        let (visited, records) = (mapped("SNAPSHOT_VISITED", 1)?, mapped("SNAPSHOT_RECORDS", capacity * WORDS)?);
        let stats = has_stats.then(|| mapped("SNAPSHOT_STATS", capacity * STATS_WORDS)).transpose()?;
        let devices = has_devices.then(|| mapped("SNAPSHOT_DEVICES", capacity * DEVICES_WORDS)).transpose()?;
        let has_cpus = kernel.cpus.pointer.is_wanted();
        let cpus = has_cpus.then(|| mapped("SNAPSHOT_CPUS", CPUS)).transpose()?;
        if let (Some(offsets), Some(table)) = (&self.cpus, &cpus) {
            offsets.write(table.words());
        }
        self.program = Some(Program { descriptor, capacity, visited, records, stats, devices, cpus });
        Ok(())
    }

    /// Attaches an iterator to each root that has none, and drops those of other cgroups. A root that the primary tree does not
    /// have is passed over.
    fn attach_missing(&mut self) -> Result<(), Unsupported> {
        let (trees, primary) = (&self.trees, self.primary_path().to_owned());
        let ids =
            |root: &str| -> Vec<u64> { trees.iter().map(|(tree, _)| cgroup::id(tree, root).unwrap_or(0)).collect() };
        let roots = &self.roots;
        self.iterators.retain(|iterator| roots.contains(&iterator.root) && iterator.ids == ids(&iterator.root));
        let Some(program) = &self.program else { return Ok(()) };
        for root in roots {
            if self.iterators.iter().any(|iterator| iterator.root == *root) {
                continue;
            }
            let (ids, directory) = (ids(root), cgroup::directory(&primary, root));
            let Some(cgroup) = open(&directory)? else { continue };
            let link = match Link::new(program.descriptor.as_fd(), &cgroup, Order::DescendantsPre) {
                Ok(link) => link,
                // It has ended meanwhile.
                Err(_) if !directory.exists() => continue,
                Err(error) => return Err(refused(PROGRAM, &error)),
            };
            let flushes = trees
                .iter()
                .flat_map(|(tree, names)| names.iter().map(move |name| cgroup::directory(tree, root).join(name)));
            let flushes: Result<Vec<_>, _> = flushes.filter_map(|file| open(&file).transpose()).collect();
            self.iterators.push(RootIterator { root: root.clone(), ids, link, flushes: flushes? });
        }
        self.is_attached = true;
        Ok(())
    }

    fn run(&mut self) -> io::Result<()> {
        self.indices.clear();
        self.visited = 0;
        let Some(program) = &self.program else { return Ok(()) };
        let Some(visited) = program.visited.words().first() else { return Ok(()) };
        visited.store(0, Ordering::Relaxed);
        if let (Some(offsets), Some(table)) = (&mut self.cpus, &program.cpus) {
            offsets.refresh(table.words());
        }
        for iterator in &self.iterators {
            for flush in &iterator.flushes {
                // Its text is of no use: what counts is that the kernel has added up. A root may have ended.
                _ = flush.read_at(&mut self.buffer, 0);
            }
            iterator.link.run()?;
        }
        self.visited = usize::try_from(visited.load(Ordering::Acquire)).unwrap_or(usize::MAX);
        Ok(())
    }
}

impl std::fmt::Debug for IterReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IterReader").field("roots", &self.roots).finish_non_exhaustive()
    }
}

/// Returns a root's directory or file; none where it does not exist, or no more.
fn open(path: &Path) -> Result<Option<File>, Unsupported> {
    match File::open(path) {
        Ok(open) => Ok(Some(open)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let what = format!("cannot open {}: {error}", path.display());
            Err(Unsupported::new(what, hint(&error, "let the exporter read it")))
        }
    }
}

/// Returns what helps where descriptors are lacking, else what else does.
fn hint(error: &io::Error, otherwise: &'static str) -> &'static str {
    let is_out_of_descriptors = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    if is_out_of_descriptors { "raise the limit of open files: `docker run --ulimit nofile=65536`" } else { otherwise }
}

/// Cgroups that there is capacity for at most, where there are so many containers.
fn max_capacity(containers: usize) -> usize {
    containers.saturating_mul(CAPACITY_EACH).saturating_add(CAPACITY)
}

fn chunk(words: &[AtomicU64], index: usize, length: usize) -> &[AtomicU64] {
    words.get(index * length..(index + 1) * length).unwrap_or_default()
}
