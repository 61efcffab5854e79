//! Loads the program of snapshots, runs its iterators over the cgroups below the containers' parents, and finds the
//! records.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fmt, io};

use aya::include_bytes_aligned;
use aya::programs::ProgramFd;
use exporter_ebpf::snapshot::{CPUS, Devices, ID, Stats, WORDS};
use tracing::warn;

use super::plan::{Plan, Record, TreeRequest};
use crate::discover::cgroup;
use crate::ebpf::cpus::CpuOffsets;
use crate::ebpf::loader::{Loader, map_array_until_dropped, refused};
use crate::ebpf::sys::{Link, MappedWords, Order};
use crate::ebpf::unsupported::{Unsupported, may_load};

/// The program that copies counters, and the one that finds the CPUs' copies of variables.
const OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../exporter-ebpf/prebuilt/snapshot.o"));
const PROGRAM: &str = "snapshot";

const STATS_WORDS: usize = size_of::<Stats>() / 8;
const DEVICES_WORDS: usize = size_of::<Devices>() / 8;

/// Minimum capacity of the first program, in cgroups. It has at least room for twice the number of cgroups at start,
/// because the right to load a larger program is given up afterwards.
const MIN_CAPACITY: usize = 1024;
/// Additional capacity beside the number of cgroups, which leaves room for new ones.
const SPARE: usize = 32;
/// Capacity is a multiple of this number of cgroups, so that tables are whole pages.
const STEP: usize = 64;
/// Maximum capacity without containers, in cgroups. A container can create any number of cgroups. Containers without a
/// record are read by their files.
const CAPACITY: usize = 4096;
/// Maximum capacity in addition for each container, in cgroups.
const CAPACITY_EACH: usize = 4;
/// Number of bytes that are read of the files that make the kernel add up counters. Their text is discarded.
const BUFFER_BYTES: usize = 16 * 1024;

/// Copies the counters of the cgroups below some roots: the parents of containers.
pub(crate) struct IterReader {
    plan: Plan,
    /// The trees, and the names of the files that make the kernel add up counters in each.
    trees: Vec<(PathBuf, Vec<&'static str>)>,
    /// The offsets of the CPUs' copies of variables, if the CPU time of v1 is copied.
    cpus: Option<CpuOffsets>,
    /// Loads a larger program when there are more cgroups than the program has capacity for.
    loader: Loader,
    buffer: Vec<u8>,
    program: Option<Program>,
    /// Paths of the cgroups below which all cgroups are visited.
    roots: Vec<String>,
    iterators: Vec<RootIterator>,
    /// Whether each root that exists has its iterator.
    is_attached: bool,
    /// Whether a lack of capacity, with no right to load a larger program, has been logged.
    is_full_logged: bool,
    /// Number of cgroups that the last run has visited.
    visited: usize,
    /// Maximum capacity, in cgroups.
    max_capacity: usize,
    /// Index of the record of each cgroup. It is made if a record is not found at its previous index.
    indices: HashMap<u64, usize>,
}

/// The loaded program and its tables.
struct Program {
    /// Keeps the program alive without its object, which is large.
    descriptor: ProgramFd,
    capacity: usize,
    visited: MappedWords,
    records: MappedWords,
    stats: Option<MappedWords>,
    devices: Option<MappedWords>,
    cpus: Option<MappedWords>,
}

/// An iterator over the cgroups below a root.
struct RootIterator {
    root: String,
    /// Inode of the root in each tree. They differ if a cgroup is created again under the same path.
    ids: Vec<u64>,
    link: Link,
    /// Files that make the kernel add up counters below the root.
    flushes: Vec<File>,
}

impl IterReader {
    /// Loads the program for these requests, with capacity for twice this number of cgroups.
    ///
    /// # Errors
    /// What the kernel refused or lacks.
    pub(in crate::ebpf) fn start(
        mut loader: Loader,
        requests: &[TreeRequest],
        cgroups: usize,
    ) -> Result<Self, Unsupported> {
        let with_cpus = requests.iter().find(|request| request.cpus);
        let cpus = with_cpus.map(|request| CpuOffsets::find(&mut loader, OBJECT, &request.tree.path)).transpose()?;
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
            is_full_logged: false,
            visited: 0,
            max_capacity: max_capacity(cgroups),
            indices: HashMap::new(),
        };
        reader.load(MIN_CAPACITY.max(2 * cgroups))?;
        reader.loader.forget_types();
        Ok(reader)
    }

    /// Returns the number of counters behind `memory.stat`; 0 if they are not copied.
    pub(crate) fn stats(&self) -> usize {
        self.plan.stats
    }

    /// Returns the index of the tree that is iterated over. Its cgroups have a record even without processes.
    pub(crate) fn primary_tree(&self) -> usize {
        self.plan.primary_tree
    }

    /// Returns whether there is anything to copy.
    pub(crate) fn has_roots(&self) -> bool {
        !self.roots.is_empty()
    }

    /// Sets the roots below which cgroups are copied, and the number of containers, which limits the capacity.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(crate) fn set_roots(&mut self, roots: Vec<String>, containers: usize) -> Result<(), Unsupported> {
        (self.roots, self.max_capacity) = (roots, max_capacity(containers));
        self.is_attached = false;
        self.attach_missing()
    }

    /// Copies the counters of all cgroups below the roots. Before that, loads a larger program if the last run had too
    /// little capacity, and attaches missing iterators.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(crate) fn take(&mut self) -> Result<(), Unsupported> {
        let wanted = self.visited.min(self.max_capacity);
        let capacity = self.program.as_ref().map(|program| program.capacity);
        if capacity.is_none_or(|capacity| capacity < wanted) {
            if may_load() {
                self.is_attached = false;
                self.load(wanted)?;
            } else if !std::mem::replace(&mut self.is_full_logged, true) {
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

    /// Returns whether the last run has visited more cgroups than there may be capacity for, so that containers may
    /// have no record.
    pub(crate) fn overflows(&self) -> bool {
        self.visited > self.max_capacity && self.program.as_ref().is_some_and(|program| self.visited > program.capacity)
    }

    /// Returns the index of the record of a cgroup of the primary tree in the last copy. Usually it is the index that
    /// it had `before`.
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

    /// Returns the record with an index in the last copy.
    pub(crate) fn record(&self, index: u32) -> Option<Record<'_>> {
        let program = self.program.as_ref()?;
        let index = usize::try_from(index).ok()?;
        Some(Record {
            plan: &self.plan,
            words: entry_words(program.records.words(), index, WORDS),
            stats: program.stats.as_ref().map_or(&[], |stats| entry_words(stats.words(), index, STATS_WORDS)),
            devices: program.devices.as_ref().map_or(&[], |devices| entry_words(devices.words(), index, DEVICES_WORDS)),
        })
    }

    /// Returns the number of cgroups that the last run has visited.
    pub(crate) fn entries(&self) -> usize {
        self.visited
    }

    /// Returns the size of the tables in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let Some(program) = &self.program else { return 0 };
        let tables = [Some(&program.records), program.stats.as_ref(), program.devices.as_ref()];
        tables.into_iter().flatten().map(|table| size_of_val(table.words())).sum()
    }

    /// Returns where the primary tree is mounted.
    fn primary_path(&self) -> &Path {
        self.trees.get(self.plan.primary_tree).map_or_else(|| Path::new(""), |(path, _)| path)
    }

    /// Loads the program with capacity for this number of cgroups, in place of the previous one.
    fn load(&mut self, cgroups: usize) -> Result<(), Unsupported> {
        // Cgroups that are created between two scrapes have a record, too.
        let capacity = (cgroups + cgroups / 16 + SPARE).next_multiple_of(STEP);
        self.program = None;
        self.iterators.clear();
        let (kernel, loader) = (&self.plan.kernel, &mut self.loader);
        let (has_stats, has_devices) = (kernel.stats.pointer.is_wanted(), kernel.devices.pointer.is_wanted());
        let sized = |wanted: bool| u32::try_from(if wanted { capacity } else { 1 }).unwrap_or(u32::MAX);
        loader.set_constant("SNAPSHOT_PLAN", *kernel);
        loader.set_map_size("SNAPSHOT_RECORDS", sized(true));
        loader.set_map_size("SNAPSHOT_STATS", sized(has_stats));
        loader.set_map_size("SNAPSHOT_DEVICES", sized(has_devices));
        let mut object = loader.load(OBJECT)?;
        let descriptor = loader.load_cgroup_iterator(&mut object, PROGRAM)?;
        let mut mapped = |name, words: usize| map_array_until_dropped(&mut object, name, words);
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

    /// Attaches an iterator to each root that has none, and drops the iterators of other cgroups. Roots that the
    /// primary tree does not have are left out.
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
            let link = match Link::over_cgroups(program.descriptor.as_fd(), &cgroup, Order::DescendantsPre) {
                Ok(link) => link,
                // The root has ended meanwhile.
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

    /// Runs all iterators.
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
                // The text is not used. An error shows that the root has ended.
                _ = flush.read_at(&mut self.buffer, 0);
            }
            iterator.link.run()?;
        }
        self.visited = usize::try_from(visited.load(Ordering::Acquire)).unwrap_or(usize::MAX);
        Ok(())
    }
}

impl fmt::Debug for IterReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IterReader").field("roots", &self.roots).finish_non_exhaustive()
    }
}

/// Opens the directory or a file of a root; returns none if it does not exist.
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

/// Returns the hint for an error: more descriptors if they are used up, else `otherwise`.
fn hint(error: &io::Error, otherwise: &'static str) -> &'static str {
    let is_out_of_descriptors = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    if is_out_of_descriptors { "raise the limit of open files: `docker run --ulimit nofile=65536`" } else { otherwise }
}

/// Returns the maximum capacity in cgroups for this number of containers.
fn max_capacity(containers: usize) -> usize {
    containers.saturating_mul(CAPACITY_EACH).saturating_add(CAPACITY)
}

/// Returns the words of an entry of a table with `length` words per entry.
fn entry_words(words: &[AtomicU64], index: usize, length: usize) -> &[AtomicU64] {
    words.get(index * length..(index + 1) * length).unwrap_or_default()
}
