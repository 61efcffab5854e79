//! Loads programs from objects. Errors are [`Unsupported`]: what was attempted, the kernel's error, and a hint.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use aya::maps::{Map, MapData, MapError};
use aya::programs::{BtfTracePoint, Iter, ProgramError, ProgramFd};
use aya::{Ebpf, EbpfError, EbpfLoader, Pod};
use exporter_ebpf::cgroup::CgroupIdOffsets;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, error};

use super::Program;
use super::btf::{Kind, Types, single_type};
use super::facts::{BTF, Facts, LOCKDOWN_HINT, LOCKED_DOWN};
use super::sys::{MappedWords, map_words};
use super::unsupported::{Attempt, Unsupported, explain_error, lift_memlock};

/// Loads objects on this host.
pub(super) struct Loader {
    aya: EbpfLoader<'static>,
    types: Result<Types, Unsupported>,
    /// BTF id of [`CGROUP_ITERATOR`].
    cgroup_iterator: Option<u32>,
    pub(super) facts: Facts,
}

impl Loader {
    /// Reads the kernel's types, and raises the limit of locked memory if maps count to it.
    pub(super) fn new(facts: Facts) -> Self {
        let types = Types::read(Path::new(BTF)).map_err(|error| {
            Unsupported::new(
                error.to_string(),
                "a kernel with CONFIG_DEBUG_INFO_BTF=y, and /sys as the engine mounts it",
            )
        });
        lift_memlock();
        let cgroup_iterator = types.as_ref().ok().and_then(|types| types.id(Kind::Function, CGROUP_ITERATOR));
        Self { aya: loader_without_types(), types, cgroup_iterator, facts }
    }

    /// Returns the running kernel's types.
    ///
    /// # Errors
    /// The types cannot be read.
    pub(super) fn types(&self) -> Result<&Types, Unsupported> {
        self.types.as_ref().map_err(Clone::clone)
    }

    /// Frees the kernel's types. Objects can still be loaded, and programs for iterators over cgroups.
    pub(super) fn forget_types(&mut self) {
        self.types = Err(Unsupported::new("the kernel's types were asked for too late", REPORT));
    }

    /// Returns the offset of a member in the running kernel.
    ///
    /// # Errors
    /// There is no such member, or the types cannot be read.
    pub(super) fn offset(&self, structure: &str, path: &str) -> Result<u32, Unsupported> {
        let types = self.types()?;
        types.offset(structure, path).ok_or_else(|| lacks(structure, path))
    }

    /// Returns the offset of the byte that holds a one-bit member in the running kernel, and the mask of the bit.
    ///
    /// # Errors
    /// As [`Loader::offset`].
    pub(super) fn bit(&self, structure: &str, path: &str) -> Result<(u32, u32), Unsupported> {
        self.types()?.bit(structure, path).ok_or_else(|| lacks(structure, path))
    }

    /// Returns the offsets that lead from a cgroup to its id.
    ///
    /// # Errors
    /// The kernel's types lack the members.
    pub(super) fn cgroup_id_offsets(&self) -> Result<CgroupIdOffsets, Unsupported> {
        Ok(CgroupIdOffsets { kn: self.offset("cgroup", "kn")?, kn_id: self.offset("kernfs_node", "id")? })
    }

    /// Sets a constant of the next object. The value is leaked, because programs live as long as this process.
    pub(super) fn set_constant<T: Pod>(&mut self, name: &'static str, value: T) {
        self.aya.override_global(name, &*Box::leak(Box::new(value)), false);
    }

    /// Sets the number of entries of a map of the next object.
    pub(super) fn set_map_size(&mut self, map: &'static str, entries: u32) {
        self.aya.map_max_entries(map, entries);
    }

    /// Loads an object and creates its maps. Its programs are loaded one by one afterwards.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn load(&mut self, object: &[u8]) -> Result<Ebpf, Unsupported> {
        self.aya.load(object).map_err(|error| match &error {
            EbpfError::MapError(_) => refused_map("the kernel refused a map", &error),
            _ => Unsupported::new(describe("an object could not be loaded", &error), REPORT),
        })
    }

    /// Loads a program and attaches it to a tracepoint.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn attach_tracepoint(
        &self,
        object: &mut Ebpf,
        program: Program,
        tracepoint: &str,
    ) -> Result<(), Unsupported> {
        let types = self.types()?;
        let name = format!("btf_trace_{tracepoint}");
        let id = types.id(Kind::Typedef, &name).ok_or_else(|| {
            Unsupported::new(format!("this kernel has no tracepoint {tracepoint}"), "a kernel of a distribution has it")
        })?;
        let types =
            single_type(id, &name, Kind::Typedef).map_err(|error| Unsupported::new(error.to_string(), REPORT))?;
        let traced: &mut BtfTracePoint = program_of(object, program.name())?;
        traced
            .load(tracepoint, &types)
            .and_then(|()| traced.attach().map(drop))
            .map_err(|error| refused(program.name(), &error))
    }

    /// Loads a program for an iterator over cgroups. The descriptor keeps the program alive without its object.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn load_cgroup_iterator(&self, object: &mut Ebpf, program: &str) -> Result<ProgramFd, Unsupported> {
        let none = || Unsupported::new("this kernel has no iterators over cgroups", "Linux 6.1 or newer");
        let id = self.cgroup_iterator.ok_or_else(|| self.types().err().unwrap_or_else(none))?;
        load_iterator(object, program, ("cgroup", id, CGROUP_ITERATOR))
    }

    /// Loads a program for an iterator over threads. The descriptor keeps the program alive without its object.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn load_task_iterator(&self, object: &mut Ebpf, program: &str) -> Result<ProgramFd, Unsupported> {
        const ITERATOR: &str = "bpf_iter_task";
        let none = || Unsupported::new("this kernel has no iterators over threads", "Linux 6.1 or newer");
        let id = self.types()?.id(Kind::Function, ITERATOR).ok_or_else(none)?;
        load_iterator(object, program, ("task", id, ITERATOR))
    }
}

/// Returns a loader of aya without the kernel's types.
///
/// `EbpfLoader::new` reads all types of the kernel if it can, and keeps these 18 MB, which our programs do not need. So
/// we set the limit of open files to 0 meanwhile. There is no other thread yet that could be affected.
fn loader_without_types() -> EbpfLoader<'static> {
    let limit = getrlimit(Resource::Nofile);
    // A soft limit up to the hard one is never refused.
    let set = |limit| setrlimit(Resource::Nofile, limit).is_ok();
    let none = set(Rlimit { current: Some(0), ..limit });
    let loader = EbpfLoader::new();
    if none && !set(limit) {
        error!("cannot restore the limit of open files");
    }
    loader
}

/// Loads a program for an iterator `over` a kind of object, with the BTF id and name of the iterator's function in the
/// kernel.
fn load_iterator(
    object: &mut Ebpf,
    program: &str,
    (over, id, name): (&str, u32, &str),
) -> Result<ProgramFd, Unsupported> {
    let types = single_type(id, name, Kind::Function).map_err(|error| Unsupported::new(error.to_string(), REPORT))?;
    let iterator: &mut Iter = program_of(object, program)?;
    iterator.load(over, &types).map_err(|error| refused(program, &error))?;
    let loaded = iterator.fd().map_err(|error| refused(program, &error))?;
    loaded.try_clone().map_err(|error| refused(program, &error))
}

/// Returns the error for a member that the kernel's types do not have.
fn lacks(structure: &str, path: &str) -> Unsupported {
    Unsupported::new(format!("this kernel has no {structure}.{path}"), REPORT)
}

/// The kernel's function of iterators over cgroups.
const CGROUP_ITERATOR: &str = "bpf_iter_cgroup";
const REPORT: &str = "please report it with the kernel's version";

/// Returns a program of an object.
///
/// # Errors
/// The object has no such item of this type, which is a bug in the exporter.
pub(super) fn program_of<'a, T>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut T, Unsupported>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let found =
        object.program_mut(name).ok_or_else(|| Unsupported::new(format!("no program {name} in its object"), REPORT))?;
    found.try_into().map_err(|error: ProgramError| Unsupported::new(describe("an odd program", &error), REPORT))
}

/// Takes a map out of an object.
///
/// # Errors
/// The object has no such item of this type, which is a bug in the exporter.
pub(super) fn take_map<T: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, name: &str) -> Result<T, Unsupported> {
    take_any_map(object, name)?
        .try_into()
        .map_err(|error: MapError| Unsupported::new(describe("an odd map", &error), REPORT))
}

/// Maps an array of an object into our memory until the process ends, and returns its words.
///
/// # Errors
/// The kernel refuses, or the map is no array, which is a bug in the exporter.
pub(super) fn map_array(object: &mut Ebpf, name: &str, words: usize) -> Result<&'static [AtomicU64], Unsupported> {
    map_words(array(object, name)?.fd(), words).map_err(|error| unshared(&error))
}

/// Maps an array of an object into our memory until the result is dropped.
///
/// # Errors
/// As [`map_array`].
pub(super) fn map_array_until_dropped(object: &mut Ebpf, name: &str, words: usize) -> Result<MappedWords, Unsupported> {
    MappedWords::new(array(object, name)?.fd(), words).map_err(|error| unshared(&error))
}

/// Takes an array out of an object.
fn array(object: &mut Ebpf, name: &str) -> Result<MapData, Unsupported> {
    match take_any_map(object, name)? {
        Map::Array(array) => Ok(array),
        _ => Err(Unsupported::new(format!("{name} is no array in its object"), REPORT)),
    }
}

/// Returns the error for a map that cannot be mapped into our memory.
fn unshared(error: &io::Error) -> Unsupported {
    refused_map("the kernel does not share a map", error)
}

/// Returns the error for a refused operation on a map.
pub(super) fn refused_map(what: &str, error: &(dyn std::error::Error + 'static)) -> Unsupported {
    let explained = system_error(error).and_then(|error| explain_error(Attempt::Map, error));
    explained.unwrap_or_else(|| Unsupported::new(describe(what, error), REPORT))
}

/// Takes a map of any type out of an object.
fn take_any_map(object: &mut Ebpf, name: &str) -> Result<Map, Unsupported> {
    object.take_map(name).ok_or_else(|| Unsupported::new(format!("no map {name} in its object"), REPORT))
}

/// Returns the error for a refused program.
pub(super) fn refused(program: &str, error: &(dyn std::error::Error + 'static)) -> Unsupported {
    // The log of the verifier is pages long. Its last line, which has the reason, is in the error.
    debug!(program, ?error, "the kernel refused a program");
    let what = format!("the kernel refused {program}");
    if lacks_helper(error) {
        return Unsupported::new(format!("{what}: {LOCKED_DOWN}: it gives programs no {LOCKED_HELPER}"), LOCKDOWN_HINT);
    }
    let explained = system_error(error).and_then(|error| explain_error(Attempt::Program, error));
    explained.unwrap_or_else(|| Unsupported::new(describe(&what, error), REPORT))
}

/// The helper that a lockdown for confidentiality denies to programs. A refusal of the helper is how a container
/// notices the lockdown: it has no securityfs, which shows it.
const LOCKED_HELPER: &str = "bpf_probe_read_kernel";

/// Returns whether the verifier reports that a program may not call [`LOCKED_HELPER`], in the words of any kernel so
/// far.
fn lacks_helper(error: &(dyn std::error::Error + 'static)) -> bool {
    let text = error.to_string();
    let says = |words: &str| text.contains(&format!("{words} {LOCKED_HELPER}#"));
    says("unknown func") || says("cannot use helper") || error.source().is_some_and(lacks_helper)
}

/// Returns the error of the system among the causes of an error.
fn system_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    error.downcast_ref().or_else(|| error.source().and_then(system_error))
}

/// Returns an error and its causes on one line. Of a verifier's log it has the first line, and the last one, which has
/// the reason.
pub(super) fn describe(what: &str, error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_statistics(line));
    let first = lines.next().unwrap_or_default();
    let line = lines.next_back().map_or(first.to_owned(), |last| format!("{first} … {last}"));
    line.chars().take(400).collect()
}

/// Returns whether a line of the verifier's log is the statistics that follow the reason.
fn is_statistics(line: &str) -> bool {
    ["processed ", "verification time ", "stack depth "].iter().any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::lacks_helper;

    #[test]
    fn a_lockdown_is_told_by_the_helper_that_it_takes_away() {
        let says = |text: &'static str| lacks_helper(std::io::Error::other(text).get_ref().unwrap());
        assert!(says(
            "Verifier output: 12: (85) call bpf_probe_read_kernel#113\nunknown func bpf_probe_read_kernel#113\n"
        ));
        assert!(says("program of this type cannot use helper bpf_probe_read_kernel#113\nprocessed 12 insns"));
        assert!(!says("12: (85) call bpf_probe_read_kernel#113\nR1 type=scalar expected=fp\n"));
    }
}
