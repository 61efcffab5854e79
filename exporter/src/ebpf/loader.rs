//! From an object to loaded programs. What goes wrong comes back as an [`Unsupported`]: what was tried, what the kernel
//! said, what helps.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use aya::maps::{Map, MapData, MapError};
use aya::programs::{BtfTracePoint, Iter, ProgramError, ProgramFd};
use aya::{Btf, Ebpf, EbpfError, EbpfLoader, Endianness, Pod};
use exporter_ebpf::cgroup::CgroupIdOffsets;
use tracing::debug;

use super::Program;
use super::btf::{Kind, Types, without_types};
use super::denial::{Attempt, lift_memlock, resolve_unknown};
use super::error::Unsupported;
use super::facts::{BTF, Facts, LOCKDOWN_HINT, LOCKED_DOWN};
use super::mapped::{Mapped, share};

/// Loads objects for one host.
pub(super) struct Loader {
    aya: EbpfLoader<'static>,
    types: Result<Types, Unsupported>,
    /// Number of the kernel's type of iterators over cgroups.
    iterator: Option<u32>,
    pub(super) facts: Facts,
}

impl Loader {
    pub(super) fn new(facts: Facts) -> Self {
        let types = Types::read(Path::new(BTF)).map_err(|error| {
            Unsupported::new(
                error.to_string(),
                "a kernel with CONFIG_DEBUG_INFO_BTF=y, and /sys as the engine mounts it",
            )
        });
        lift_memlock();
        let iterator = types.as_ref().ok().and_then(|types| types.id(Kind::Function, ITERATOR));
        Self { aya: without_types(EbpfLoader::new), types, iterator, facts }
    }

    /// Returns the running kernel's types.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) fn types(&self) -> Result<&Types, Unsupported> {
        self.types.as_ref().map_err(Clone::clone)
    }

    /// Gives the kernel's types back: what is loaded from now on has to do without.
    pub(super) fn forget_types(&mut self) {
        self.types = Err(Unsupported::new("the kernel's types were asked for too late", REPORT));
    }

    /// Returns where the running kernel keeps a member.
    ///
    /// # Errors
    /// There is no such member, or nothing tells.
    pub(super) fn offset(&self, structure: &str, path: &str) -> Result<u32, Unsupported> {
        let types = self.types()?;
        types.offset(structure, path).ok_or_else(|| lacks(structure, path))
    }

    /// Returns the byte that a member of one bit is in, and the mask of its bit there.
    ///
    /// # Errors
    /// As [`Loader::offset`].
    pub(super) fn bit(&self, structure: &str, path: &str) -> Result<(u32, u32), Unsupported> {
        self.types()?.bit(structure, path).ok_or_else(|| lacks(structure, path))
    }

    /// Returns the way from a cgroup to its id.
    ///
    /// # Errors
    /// The kernel's types do not tell.
    pub(super) fn cgroup_id_offsets(&self) -> Result<CgroupIdOffsets, Unsupported> {
        Ok(CgroupIdOffsets { kn: self.offset("cgroup", "kn")?, kn_id: self.offset("kernfs_node", "id")? })
    }

    /// Sets a constant of the next object. It lives as long as the programs, which is as long as this process.
    pub(super) fn set<T: Pod>(&mut self, name: &'static str, value: T) {
        self.aya.override_global(name, &*Box::leak(Box::new(value)), false);
    }

    /// Sets the number of entries of a map of the next object.
    pub(super) fn size(&mut self, map: &'static str, entries: u32) {
        self.aya.map_max_entries(map, entries);
    }

    /// Makes an object's maps. Its programs are loaded one by one.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn load(&mut self, object: &[u8]) -> Result<Ebpf, Unsupported> {
        self.aya.load(object).map_err(|error| match &error {
            EbpfError::MapError(_) => refused_map("the kernel refused a map", &error),
            _ => Unsupported::new(describe("an object could not be loaded", &error), REPORT),
        })
    }

    /// Loads and attaches a program that runs at a tracepoint of the same kernel type.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn trace(&self, object: &mut Ebpf, program: Program, tracepoint: &str) -> Result<(), Unsupported> {
        let types = self.types()?;
        let name = format!("btf_trace_{tracepoint}");
        let id = types.id(Kind::Typedef, &name).ok_or_else(|| {
            Unsupported::new(format!("this kernel has no tracepoint {tracepoint}"), "a kernel of a distribution has it")
        })?;
        let only = only(id, &name, Kind::Typedef).map_err(|error| Unsupported::new(error.to_string(), REPORT))?;
        let traced: &mut BtfTracePoint = program_of(object, program.name())?;
        traced
            .load(tracepoint, &only)
            .and_then(|()| traced.attach().map(drop))
            .map_err(|error| refused(program.name(), &error))
    }

    /// Loads a program that runs for each cgroup of an iterator, and gives it: it stays when its object goes.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn iterate(&self, object: &mut Ebpf, program: &str) -> Result<ProgramFd, Unsupported> {
        let none = || Unsupported::new("this kernel has no iterators over cgroups", "Linux 6.1 or newer");
        let id = self.iterator.ok_or_else(|| self.types().err().unwrap_or_else(none))?;
        load_iterator(object, program, ("cgroup", id, ITERATOR))
    }

    /// Loads a program that runs for each thread, and returns it: it stays when its object goes.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn iterate_tasks(&self, object: &mut Ebpf, program: &str) -> Result<ProgramFd, Unsupported> {
        const ITERATOR: &str = "bpf_iter_task";
        let none = || Unsupported::new("this kernel has no iterators over threads", "Linux 6.1 or newer");
        let id = self.types()?.id(Kind::Function, ITERATOR).ok_or_else(none)?;
        load_iterator(object, program, ("task", id, ITERATOR))
    }
}

/// Loads a program for an iterator over such objects: number and name of the kernel's type of it.
fn load_iterator(
    object: &mut Ebpf,
    program: &str,
    (over, id, name): (&str, u32, &str),
) -> Result<ProgramFd, Unsupported> {
    let only = only(id, name, Kind::Function).map_err(|error| Unsupported::new(error.to_string(), REPORT))?;
    let iterator: &mut Iter = program_of(object, program)?;
    iterator.load(over, &only).map_err(|error| refused(program, &error))?;
    let loaded = iterator.fd().map_err(|error| refused(program, &error))?;
    loaded.try_clone().map_err(|error| refused(program, &error))
}

fn lacks(structure: &str, path: &str) -> Unsupported {
    Unsupported::new(format!("this kernel has no {structure}.{path}"), REPORT)
}

/// The kernel's type of iterators over cgroups.
const ITERATOR: &str = "bpf_iter_cgroup";
const REPORT: &str = "please report it with the kernel's version";

/// Returns a program of an object, as the type that it has there.
///
/// # Errors
/// It is not in the object, or another type: a bug in this program.
pub(super) fn program_of<'a, T>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut T, Unsupported>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let found =
        object.program_mut(name).ok_or_else(|| Unsupported::new(format!("no program {name} in its object"), REPORT))?;
    found.try_into().map_err(|error: ProgramError| Unsupported::new(describe("an odd program", &error), REPORT))
}

/// Returns a map of an object, as the type that it has there.
///
/// # Errors
/// It is not in the object, or another type: a bug in this program.
pub(super) fn map<T: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, name: &str) -> Result<T, Unsupported> {
    take(object, name)?.try_into().map_err(|error: MapError| Unsupported::new(describe("an odd map", &error), REPORT))
}

/// Returns an array of an object in our own memory, as words.
///
/// # Errors
/// The kernel refuses, or it is no array: a bug in this program.
pub(super) fn mapped(object: &mut Ebpf, name: &str, words: usize) -> Result<&'static [AtomicU64], Unsupported> {
    share(array(object, name)?.fd(), words).map_err(|error| unshared(&error))
}

/// Returns the same, for as long as it is held.
///
/// # Errors
/// As [`mapped`].
pub(super) fn mapped_for_now(object: &mut Ebpf, name: &str, words: usize) -> Result<Mapped, Unsupported> {
    Mapped::new(array(object, name)?.fd(), words).map_err(|error| unshared(&error))
}

fn array(object: &mut Ebpf, name: &str) -> Result<MapData, Unsupported> {
    match take(object, name)? {
        Map::Array(array) => Ok(array),
        _ => Err(Unsupported::new(format!("{name} is no array in its object"), REPORT)),
    }
}

fn unshared(error: &io::Error) -> Unsupported {
    refused_map("the kernel does not share a map", error)
}

/// Returns what the kernel said of a map.
pub(super) fn refused_map(what: &str, error: &(dyn std::error::Error + 'static)) -> Unsupported {
    let explained = system_error(error).and_then(|error| resolve_unknown(Attempt::Map, error));
    explained.unwrap_or_else(|| Unsupported::new(describe(what, error), REPORT))
}

fn take(object: &mut Ebpf, name: &str) -> Result<Map, Unsupported> {
    object.take_map(name).ok_or_else(|| Unsupported::new(format!("no map {name} in its object"), REPORT))
}

/// Returns what the kernel said of a program.
pub(super) fn refused(program: &str, error: &(dyn std::error::Error + 'static)) -> Unsupported {
    // A verifier's log is pages, and their last lines tell the reason.
    debug!(program, ?error, "the kernel refused a program");
    let what = format!("the kernel refused {program}");
    if lacks_helper(error) {
        return Unsupported::new(format!("{what}: {LOCKED_DOWN}: it gives programs no {LOCKED_HELPER}"), LOCKDOWN_HINT);
    }
    let explained = system_error(error).and_then(|error| resolve_unknown(Attempt::Program, error));
    explained.unwrap_or_else(|| Unsupported::new(describe(&what, error), REPORT))
}

/// What a lockdown for confidentiality takes away, and nothing else from who may trace. Inside a container the kernel's own
/// word on lockdown, in securityfs, is not to be had.
const LOCKED_HELPER: &str = "bpf_probe_read_kernel";

/// Returns whether the verifier says that a program may not call that helper: the texts of all kernels so far.
fn lacks_helper(error: &(dyn std::error::Error + 'static)) -> bool {
    let text = error.to_string();
    let says = |words: &str| text.contains(&format!("{words} {LOCKED_HELPER}#"));
    says("unknown func") || says("cannot use helper") || error.source().is_some_and(lacks_helper)
}

fn system_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    error.downcast_ref().or_else(|| error.source().and_then(system_error))
}

/// Returns an error with its causes, on one line: a verifier's log would be pages, of which the last line tells the
/// reason.
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

/// Returns what a verifier says at the end of its log, after the reason.
fn is_statistics(line: &str) -> bool {
    ["processed ", "verification time ", "stack depth "].iter().any(|start| line.starts_with(start))
}

/// Types in which one typedef or function has its name and its place and all before it are blank. aya asks for a whole kernel's to find one
/// number that we know, and takes a hundred milliseconds and twenty megabytes to read those.
fn only(id: u32, name: &str, kind: Kind) -> Result<Btf, aya::BtfError> {
    const BLANK: [u32; 3] = [0, 7 << 24, 0];
    let named = [1, (kind as u32) << 24, 0];
    let types = 12 * id;
    let strings = 2 + u32::try_from(name.len()).unwrap_or(0);
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    if cfg!(target_endian = "big") {
        bytes.swap(0, 1);
    }
    let words = [24, 0, types, types, strings].into_iter();
    let blanks = (1..id).flat_map(|_| BLANK);
    bytes.extend(words.chain(blanks).chain(named).flat_map(u32::to_ne_bytes));
    bytes.push(0);
    bytes.extend(name.as_bytes());
    bytes.push(0);
    Btf::parse(&bytes, Endianness::default())
}

#[cfg(test)]
mod tests {
    use aya::BtfError;
    use aya_obj::btf::BtfKind;

    use super::{Kind, lacks_helper, only};

    #[test]
    fn a_lockdown_is_told_by_the_helper_that_it_takes_away() {
        let says = |text: &'static str| lacks_helper(std::io::Error::other(text).get_ref().unwrap());
        assert!(says(
            "Verifier output: 12: (85) call bpf_probe_read_kernel#113\nunknown func bpf_probe_read_kernel#113\n"
        ));
        assert!(says("program of this type cannot use helper bpf_probe_read_kernel#113\nprocessed 12 insns"));
        assert!(!says("12: (85) call bpf_probe_read_kernel#113\nR1 type=scalar expected=fp\n"));
    }

    #[test]
    fn the_one_type_is_found_at_its_place_and_no_other() {
        for (kind, describe) in [(Kind::Typedef, BtfKind::Typedef), (Kind::Function, BtfKind::Func)] {
            let types = only(1234, "btf_trace_sched_switch", kind).unwrap();
            assert_eq!(types.id_by_type_name_kind("btf_trace_sched_switch", describe).unwrap(), 1234);
            assert!(matches!(
                types.id_by_type_name_kind("btf_trace_other", describe),
                Err(BtfError::UnknownBtfTypeName { .. })
            ));
        }
    }
}
