//! Loads programs from an object. Errors are [`Unsupported`]: the attempt, the kernel's error, a hint.

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
    /// BTF id of the kernel's type of cgroup iterators.
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

    /// Frees the kernel's types: later objects have to do without.
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

    /// Returns the byte that holds a one-bit member, and the mask of the bit.
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

    /// Sets a constant of the next object. It is leaked, because programs live as long as this process.
    pub(super) fn set<T: Pod>(&mut self, name: &'static str, value: T) {
        self.aya.override_global(name, &*Box::leak(Box::new(value)), false);
    }

    /// Sets the number of entries of a map of the next object.
    pub(super) fn size(&mut self, map: &'static str, entries: u32) {
        self.aya.map_max_entries(map, entries);
    }

    /// Creates an object's maps. Its programs are loaded one by one.
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

    /// Loads a program that runs for each cgroup of an iterator, and returns it: it outlives its object.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn iterate(&self, object: &mut Ebpf, program: &str) -> Result<ProgramFd, Unsupported> {
        let none = || Unsupported::new("this kernel has no iterators over cgroups", "Linux 6.1 or newer");
        let id = self.iterator.ok_or_else(|| self.types().err().unwrap_or_else(none))?;
        load_iterator(object, program, ("cgroup", id, ITERATOR))
    }

    /// Loads a program that runs for each thread, and returns it: it outlives its object.
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

/// Loads a program for an iterator over objects of the kernel's type with this BTF id and name.
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

/// Returns a program of an object with its type.
///
/// # Errors
/// The object lacks it, or has another type: a bug in this program.
pub(super) fn program_of<'a, T>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut T, Unsupported>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let found =
        object.program_mut(name).ok_or_else(|| Unsupported::new(format!("no program {name} in its object"), REPORT))?;
    found.try_into().map_err(|error: ProgramError| Unsupported::new(describe("an odd program", &error), REPORT))
}

/// Returns a map of an object with its type.
///
/// # Errors
/// The object lacks it, or has another type: a bug in this program.
pub(super) fn map<T: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, name: &str) -> Result<T, Unsupported> {
    take(object, name)?.try_into().map_err(|error: MapError| Unsupported::new(describe("an odd map", &error), REPORT))
}

/// Maps an array of an object into our memory and returns its words.
///
/// # Errors
/// The kernel refuses, or it is not an array: a bug in this program.
pub(super) fn mapped(object: &mut Ebpf, name: &str, words: usize) -> Result<&'static [AtomicU64], Unsupported> {
    share(array(object, name)?.fd(), words).map_err(|error| unshared(&error))
}

/// Maps an array of an object into our memory until the result is dropped.
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

/// Returns the error of a refused map.
pub(super) fn refused_map(what: &str, error: &(dyn std::error::Error + 'static)) -> Unsupported {
    let explained = system_error(error).and_then(|error| resolve_unknown(Attempt::Map, error));
    explained.unwrap_or_else(|| Unsupported::new(describe(what, error), REPORT))
}

fn take(object: &mut Ebpf, name: &str) -> Result<Map, Unsupported> {
    object.take_map(name).ok_or_else(|| Unsupported::new(format!("no map {name} in its object"), REPORT))
}

/// Returns the error of a refused program.
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

/// The helper that a lockdown for confidentiality forbids, while tracing stays allowed otherwise. In a container
/// securityfs, which shows the lockdown, is not available.
const LOCKED_HELPER: &str = "bpf_probe_read_kernel";

/// Returns whether the verifier reports that a program may not call that helper, in the texts of all kernels so far.
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

/// Returns whether a line of the verifier's log is the statistics that follow the reason.
fn is_statistics(line: &str) -> bool {
    ["processed ", "verification time ", "stack depth "].iter().any(|start| line.starts_with(start))
}

/// Returns types in which one typedef or function has its name and id, and all before it are empty. aya looks for one
/// number that we know in the types of the whole kernel, which takes a hundred milliseconds and twenty megabytes.
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
