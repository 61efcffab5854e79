//! The running kernel's types: where its structures keep their members. Asked once at start, for the offsets that the
//! programs are given.
//!
//! The format is that of `Documentation/bpf/btf.rst`. aya parses it too, but tells nothing of members; the only other
//! reader in Rust is under a licence that a static binary cannot take. Names that are not asked for are skipped, so
//! that the six megabytes are read once and freed.

use std::collections::HashMap;
use std::path::Path;
use std::{fs, io};

/// The kinds that have names we ask for (`BTF_KIND_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(super) enum Kind {
    /// A structure.
    Struct = 4,
    /// A type's other name; tracepoints have one each (`btf_trace_NAME`).
    Typedef = 8,
    /// A function.
    Function = 12,
}

const UNION: u32 = 5;
/// volatile, const, restrict, type tag: and typedefs, of course.
const TRANSPARENT: [u32; 5] = [8, 9, 10, 11, 18];
const MAGIC: u16 = 0xeb9f;
const COMMON: usize = 12;

/// Why there are no types.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The file cannot be read.
    #[error("{path}: {source}; the kernel needs CONFIG_DEBUG_INFO_BTF=y")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{path} is not in the form of BTF version 1 that this machine would have")]
    Odd {
        /// The file.
        path: String,
    },
}

/// A kernel's types.
pub(super) struct Types {
    data: Vec<u8>,
    strings: usize,
    /// Where each type stands, by id; id 0 is `void`.
    places: Vec<u32>,
    /// Structures, typedefs and functions by kind and name.
    named: HashMap<(u32, Box<[u8]>), u32>,
}

impl Types {
    /// Reads them; of functions and typedefs only those that are named in `wanted`.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let name = || path.display().to_string();
        let data = fs::read(path).map_err(|source| Error::Unreadable { path: name(), source })?;
        Self::parse(data).ok_or_else(|| Error::Odd { path: name() })
    }

    fn parse(data: Vec<u8>) -> Option<Self> {
        if u16::from_ne_bytes([*data.first()?, *data.get(1)?]) != MAGIC {
            return None;
        }
        let header = |place| word(&data, place).and_then(|word| usize::try_from(word).ok());
        let length = header(4)?;
        let (types, types_length) = (length.checked_add(header(8)?)?, header(12)?);
        let strings = length.checked_add(header(16)?)?;
        let end = types.checked_add(types_length)?;
        let mut types_read = Self { data, strings, places: vec![0], named: HashMap::new() };
        let mut place = types;
        while place < end {
            let (kind, members) = types_read.info(place)?;
            let id = u32::try_from(types_read.places.len()).ok()?;
            types_read.places.push(u32::try_from(place).ok()?);
            types_read.remember(kind, place, id)?;
            place += COMMON + extra(kind, members);
        }
        Some(types_read)
    }

    fn remember(&mut self, kind: u32, place: usize, id: u32) -> Option<()> {
        const NAMED: [u32; 3] = [Kind::Struct as u32, Kind::Typedef as u32, Kind::Function as u32];
        let name = self.text(word(&self.data, place)?)?;
        // The tens of thousands of functions are not asked for by anyone, but for the iterators' and tracepoints'.
        let wanted = match kind {
            kind if kind == Kind::Function as u32 => name.starts_with(b"bpf_iter_"),
            kind if kind == Kind::Typedef as u32 => name.starts_with(b"btf_trace_"),
            kind => NAMED.contains(&kind) && !name.is_empty(),
        };
        if wanted {
            let key = (kind, Box::from(name));
            self.named.entry(key).or_insert(id);
        }
        Some(())
    }

    /// The id of a named type.
    pub(super) fn id(&self, kind: Kind, name: &str) -> Option<u32> {
        self.named.get(&(kind as u32, Box::from(name.as_bytes()))).copied()
    }

    /// The offset in bytes of a member such as `sk_cgrp_data.cgroup` of a structure; members of unnamed structures and
    /// unions count as their holder's.
    pub(super) fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut id = self.id(Kind::Struct, structure)?;
        let mut total = 0;
        for name in path.split('.') {
            let (offset, member) = self.member(self.plain(id)?, name.as_bytes())?;
            total += offset;
            id = member;
        }
        Some(total)
    }

    /// Offset and type of a member.
    fn member(&self, id: u32, name: &[u8]) -> Option<(u32, u32)> {
        let place = self.place(id)?;
        let (kind, members) = self.info(place)?;
        if kind != Kind::Struct as u32 && kind != UNION {
            return None;
        }
        // With bit fields in the structure, the offset's upper byte is the width of the field.
        let mask = if word(&self.data, place + 4)? >> 31 == 0 { u32::MAX } else { 0x00ff_ffff };
        (0..members).map(|member| place + COMMON + 12 * member).find_map(|member| {
            let (member_name, member_type) = (self.text(word(&self.data, member)?)?, word(&self.data, member + 4)?);
            let offset = (word(&self.data, member + 8)? & mask) / 8;
            if member_name == name {
                return Some((offset, member_type));
            }
            let inside = member_name.is_empty().then(|| self.member(self.plain(member_type)?, name)).flatten();
            inside.map(|(inner, found)| (offset + inner, found))
        })
    }

    /// A type without its other names and qualifiers.
    fn plain(&self, mut id: u32) -> Option<u32> {
        loop {
            let place = self.place(id)?;
            if !TRANSPARENT.contains(&self.info(place)?.0) {
                return Some(id);
            }
            id = word(&self.data, place + 8)?;
        }
    }

    fn place(&self, id: u32) -> Option<usize> {
        self.places.get(usize::try_from(id).ok()?).and_then(|place| usize::try_from(*place).ok())
    }

    /// Kind and number of members.
    fn info(&self, place: usize) -> Option<(u32, usize)> {
        let info = word(&self.data, place + 4)?;
        Some((info >> 24 & 0x1f, usize::try_from(info & 0xffff).ok()?))
    }

    fn text(&self, offset: u32) -> Option<&[u8]> {
        let rest = self.data.get(self.strings + usize::try_from(offset).ok()?..)?;
        rest.split(|byte| *byte == 0).next()
    }
}

/// Bytes behind the common part of a type.
fn extra(kind: u32, members: usize) -> usize {
    match kind {
        // int, variable, declaration tag
        1 | 14 | 17 => 4,
        // array
        3 => 12,
        // struct, union, data section, enum64
        4 | 5 | 15 | 19 => 12 * members,
        // enum, function's parameters
        6 | 13 => 8 * members,
        _ => 0,
    }
}

fn word(data: &[u8], place: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(data.get(place..place.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Kind, Types};

    #[test]
    fn the_running_kernel_s_types_tell_offsets() {
        let path = Path::new("/sys/kernel/btf/vmlinux");
        if !path.exists() {
            // Only a kernel without BTF has nothing to compare with.
            return;
        }
        let types = Types::read(path).unwrap();
        // Fixed by the kernel's user interface: these structures are part of it.
        assert_eq!(types.offset("iphdr", "daddr"), Some(16));
        assert_eq!(types.offset("timespec64", "tv_nsec"), Some(8));
        // A member of a member, and one of an unnamed union.
        let data = types.offset("sock", "sk_cgrp_data").unwrap();
        assert_eq!(types.offset("sock", "sk_cgrp_data.cgroup"), Some(data));
        assert!(types.offset("sk_buff", "sk").is_some());
        assert!(types.id(Kind::Typedef, "btf_trace_sched_switch").is_some());
        assert_eq!(types.offset("sock", "no_such_member"), None);
        assert_eq!(types.offset("no_such_structure", "kn"), None);
    }

    #[test]
    fn damaged_types_are_refused_and_never_a_panic() {
        let Ok(whole) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        assert!(Types::parse(b"\x9f\xeb".to_vec()).is_none());
        assert!(Types::parse(whole.get(2..4096).unwrap().to_vec()).is_none());
        for cut in [4, 23, 24, 100, whole.len() / 3] {
            let types = Types::parse(whole.get(..cut).unwrap().to_vec());
            assert!(types.is_none_or(|types| types.offset("sock", "sk_cgrp_data.cgroup").is_none()));
        }
    }
}
