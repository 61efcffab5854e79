//! Reads the running kernel's types (BTF): offsets of members of structures, and values of enumerators. Used at start
//! only.
//!
//! `Documentation/bpf/btf.rst` has the format. aya parses it, too, but offers no offsets of members. The only other
//! reader in Rust has a licence that does not fit a static binary.
//!
//! The file has six megabytes, and is not held in memory. One pass records the place of every 32nd type, and the hashes
//! of the names (200 KB together). Everything else is read from the file when it is asked for, a page at a time,
//! because the kernel returns no more at once. A copy of the file would be the peak of our memory; and once it is
//! freed, the C library would keep as much of later memory (its dynamic threshold).

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use aya::{Btf, Endianness};

/// The kinds of types that are looked up by name (`BTF_KIND_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(super) enum Kind {
    /// A structure.
    Struct = 4,
    /// An enumeration; [`ENUMERATION_64`] counts as this kind, too.
    Enumeration = 6,
    /// A typedef. Each tracepoint has one: `btf_trace_NAME`.
    Typedef = 8,
    /// A function.
    Function = 12,
}

const ARRAY: u32 = 3;
const UNION: u32 = 5;
const ENUMERATION_64: u32 = 19;
/// Kinds that add a name or a qualifier to another type: typedef, volatile, const, restrict, type tag.
const WRAPPERS: [u32; 5] = [8, 9, 10, 11, 18];
const MAGIC: u16 = 0xeb9f;
/// Size of `struct btf_type`, with which each record begins, in bytes.
const HEAD_BYTES: u32 = 12;
/// Prefixes of the functions and typedefs that are indexed: those of iterators and tracepoints, out of tens of
/// thousands.
const INDEXED_PREFIXES: [(Kind, &[u8]); 2] = [(Kind::Function, b"bpf_iter_"), (Kind::Typedef, b"btf_trace_")];
/// Number of types from one recorded place to the next.
const STRIDE: u32 = 32;
/// Maximum depth of wrappers around a type, and of unnamed members in unnamed members. It bounds recursion in damaged
/// types.
const MAX_DEPTH: u32 = 32;

/// Why the types cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The file cannot be read.
    #[error("{path}: {source}; the kernel needs CONFIG_DEBUG_INFO_BTF=y")]
    Unreadable {
        /// The file.
        path: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The file is not BTF, or is damaged.
    #[error("{path} is not in the form of BTF version 1 that this machine would have")]
    Odd {
        /// The file.
        path: String,
    },
}

/// The types of a kernel.
///
/// A record is the description of a type in the file. Records are found by their offset in `records`.
pub(super) struct Types {
    /// The records of all types.
    records: Section,
    /// The names, each ended by a zero byte.
    strings: Section,
    /// Offsets of the records of types 1, 33, 65 and so on.
    offsets: Vec<u32>,
    /// Hash of kind and name, and id, of each type that is looked up by name, sorted.
    by_name: Vec<(u32, u32)>,
}

impl Types {
    /// Reads the types of a file in the format of `/sys/kernel/btf/vmlinux`. Of functions and typedefs, indexes only
    /// those of iterators and tracepoints.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let name = || path.display().to_string();
        let unreadable = |source| Error::Unreadable { path: name(), source };
        let file = File::open(path).map_err(unreadable)?;
        let again = file.try_clone().map_err(unreadable)?;
        let mut header = [0; 24];
        if file.read_at(&mut header, 0).map_err(unreadable)? < header.len() {
            return Err(Error::Odd { path: name() });
        }
        Self::from_header(&header, file, again).ok_or_else(|| Error::Odd { path: name() })
    }

    /// Indexes the types of a file with this header. Returns none if the file is not valid.
    fn from_header(header: &[u8], file: File, again: File) -> Option<Self> {
        if u16::from_ne_bytes([*header.first()?, *header.get(1)?]) != MAGIC {
            return None;
        }
        let words: Vec<u32> = header.as_chunks().0.iter().map(|bytes: &[u8; 4]| u32::from_ne_bytes(*bytes)).collect();
        let [_, length, types, types_length, strings, strings_length] = words.as_slice() else { return None };
        let mut read = Self {
            records: Section::new(file, length.checked_add(*types)?, *types_length),
            strings: Section::new(again, length.checked_add(*strings)?, *strings_length),
            offsets: Vec::new(),
            by_name: Vec::new(),
        };
        read.index(&read.prefixed_strings()?)?;
        Some(read)
    }

    /// Returns the offsets of the strings that begin with one of [`INDEXED_PREFIXES`], in ascending order.
    fn prefixed_strings(&self) -> Option<Vec<u32>> {
        let (mut found, mut offset) = (Vec::new(), 0);
        while offset < self.strings.length {
            offset += self.strings.text(offset, |text| {
                if INDEXED_PREFIXES.iter().any(|(_, prefix)| text.starts_with(prefix)) {
                    found.push(offset);
                }
                u32::try_from(text.len() + 1).ok()
            })??;
        }
        Some(found)
    }

    /// Fills `offsets` and `by_name`. `prefixed` as [`Types::prefixed_strings`] returns it.
    fn index(&mut self, prefixed: &[u32]) -> Option<()> {
        // Offset of the name, kind, and id. Sorted by the names, so that the strings are read in one pass.
        let mut found = Vec::new();
        let (mut offset, mut id) = (0, 1);
        while offset < self.records.length {
            if id % STRIDE == 1 {
                self.offsets.push(offset);
            }
            let (kind, members) = self.info(offset)?;
            let name = self.records.word(offset)?;
            let wanted = match kind {
                ENUMERATION_64 => Some(Kind::Enumeration),
                kind if kind == Kind::Struct as u32 => Some(Kind::Struct),
                kind if kind == Kind::Enumeration as u32 => Some(Kind::Enumeration),
                kind => INDEXED_PREFIXES
                    .into_iter()
                    .map(|(prefixed, _)| prefixed)
                    .find(|prefixed| *prefixed as u32 == kind)
                    .filter(|_| prefixed.binary_search(&name).is_ok()),
            };
            if let Some(kind) = wanted.filter(|_| name != 0) {
                found.push((name, kind, id));
            }
            offset = offset.checked_add(HEAD_BYTES + tail_bytes(kind, members))?;
            id += 1;
        }
        found.sort_unstable_by_key(|(name, ..)| *name);
        self.by_name.reserve_exact(found.len());
        for (name, kind, id) in found {
            let hash = self.strings.text(name, |text| hash(kind, text))?;
            self.by_name.push((hash, id));
        }
        self.by_name.sort_unstable();
        Some(())
    }

    /// Returns the id of a type by kind and name; the first one if several types have the name.
    pub(super) fn id(&self, kind: Kind, name: &str) -> Option<u32> {
        let wanted = hash(kind, name.as_bytes());
        let from = self.by_name.partition_point(|(hash, _)| *hash < wanted);
        let candidates = self.by_name.iter().skip(from).take_while(|(hash, _)| *hash == wanted).map(|(_, id)| *id);
        candidates.into_iter().find(|id| {
            let Some((offset, (found, _))) =
                self.record_offset(*id).and_then(|offset| Some((offset, self.info(offset)?)))
            else {
                return false;
            };
            let same_kind = found == kind as u32 || (kind, found) == (Kind::Enumeration, ENUMERATION_64);
            same_kind && self.is_named(offset, name.as_bytes())
        })
    }

    /// Returns the offset in bytes of a member, such as `sk_cgrp_data.cgroup`, in a structure. Members of unnamed
    /// structures and unions count as members of the structure around them.
    pub(super) fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        self.find_member(structure, path).map(|(bits, _)| bits / 8)
    }

    /// Returns the offset of the byte that holds a one-bit member, and the mask of the bit in it.
    pub(super) fn bit(&self, structure: &str, path: &str) -> Option<(u32, u32)> {
        self.find_member(structure, path).map(|(bits, _)| (bits / 8, 1 << (bits % 8)))
    }

    /// Returns the value of an enumerator in an enumeration.
    pub(super) fn enumerator(&self, enumeration: &str, name: &str) -> Option<i64> {
        self.enumerator_value(self.record_offset(self.id(Kind::Enumeration, enumeration)?)?, name)
    }

    /// Returns the value of an enumerator in the unnamed enumeration whose first enumerator is `first`.
    pub(super) fn unnamed_enumerator(&self, first: &str, name: &str) -> Option<i64> {
        let mut offset = 0;
        while offset < self.records.length {
            let (kind, members) = self.info(offset)?;
            let is_enumeration = kind == Kind::Enumeration as u32 || kind == ENUMERATION_64;
            let is_unnamed = is_enumeration && members > 0 && self.records.word(offset)? == 0;
            if is_unnamed && self.is_named(offset + HEAD_BYTES, first.as_bytes()) {
                return self.enumerator_value(offset, name);
            }
            offset = offset.checked_add(HEAD_BYTES + tail_bytes(kind, members))?;
        }
        None
    }

    /// Returns the value of an enumerator in the enumeration whose record is at `offset`.
    fn enumerator_value(&self, offset: u32, name: &str) -> Option<i64> {
        let (kind, members) = self.info(offset)?;
        let signed = self.records.word(offset + 4)? >> 31 == 1;
        let size = if kind == ENUMERATION_64 { 12 } else { 8 };
        let found = (0..members).map(|member| offset + HEAD_BYTES + size * member);
        let found = found.into_iter().find(|member| self.is_named(*member, name.as_bytes()))?;
        let low = self.records.word(found + 4)?;
        match kind {
            ENUMERATION_64 => Some((i64::from(self.records.word(found + 8)?) << 32) | i64::from(low)),
            _ if signed => Some(i64::from(low.cast_signed())),
            _ => Some(i64::from(low)),
        }
    }

    /// Returns the offset in bits and the type of a member, given by its path from a structure.
    fn find_member(&self, structure: &str, path: &str) -> Option<(u32, u32)> {
        path.split('.').try_fold((0, self.id(Kind::Struct, structure)?), |(total, id), name| {
            let (offset, member) = self.member(self.unwrapped(id)?, name.as_bytes(), MAX_DEPTH)?;
            Some((total + offset, member))
        })
    }

    /// Returns the offset in bits and the type of a member of the structure or union `id`. Looks into unnamed members
    /// up to `depth` levels deep.
    fn member(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        let offset = self.record_offset(id)?;
        let (kind, members) = self.info(offset)?;
        if depth == 0 || (kind != Kind::Struct as u32 && kind != UNION) {
            return None;
        }
        // If the structure has bit fields, the upper byte of an offset is the width of the field.
        let mask = if self.records.word(offset + 4)? >> 31 == 0 { u32::MAX } else { 0x00ff_ffff };
        (0..members).map(|member| offset + HEAD_BYTES + 12 * member).find_map(|member| {
            let (unnamed, member_type) = (self.records.word(member)? == 0, self.records.word(member + 4)?);
            let offset = self.records.word(member + 8)? & mask;
            if unnamed {
                let (inner, found) = self.member(self.unwrapped(member_type)?, name, depth - 1)?;
                return Some((offset + inner, found));
            }
            self.is_named(member, name).then_some((offset, member_type))
        })
    }

    /// Returns the type that a type wraps, without names and qualifiers.
    fn unwrapped(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_DEPTH {
            let offset = self.record_offset(id)?;
            if !WRAPPERS.contains(&self.info(offset)?.0) {
                return Some(id);
            }
            id = self.records.word(offset + 8)?;
        }
        None
    }

    /// Returns the offset of the record of a type, by at most 31 steps from a recorded place. Id 0 is `void`, which has
    /// no record.
    fn record_offset(&self, id: u32) -> Option<u32> {
        let before = id.checked_sub(1)?;
        let mut offset = *self.offsets.get(usize::try_from(before / STRIDE).ok()?)?;
        for _ in 0..before % STRIDE {
            let (kind, members) = self.info(offset)?;
            offset = offset.checked_add(HEAD_BYTES + tail_bytes(kind, members))?;
        }
        Some(offset)
    }

    /// Returns the kind and the number of members of the type whose record is at `offset`.
    fn info(&self, offset: u32) -> Option<(u32, u32)> {
        let info = self.records.word(offset.checked_add(4)?)?;
        Some((info >> 24 & 0x1f, info & 0xffff))
    }

    /// Returns whether the type, member or enumerator at `offset` has this name.
    fn is_named(&self, offset: u32, name: &[u8]) -> bool {
        self.records.word(offset).and_then(|offset| self.strings.text(offset, |text| text == name)) == Some(true)
    }
}

/// Returns types for aya in which one typedef or function has its name and id, and all types before it are empty.
///
/// aya would look the id up in the types of the whole kernel, which takes a hundred milliseconds and twenty megabytes.
pub(super) fn single_type(id: u32, name: &str, kind: Kind) -> Result<Btf, aya::BtfError> {
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

/// Returns the number of bytes of a record after its head.
fn tail_bytes(kind: u32, members: u32) -> u32 {
    match kind {
        // int, variable, declaration tag
        1 | 14 | 17 => 4,
        ARRAY => 12,
        // struct, union, data section, enum64
        4 | 5 | 15 | 19 => 12 * members,
        // enum, function's parameters
        6 | 13 => 8 * members,
        _ => 0,
    }
}

/// Returns the FNV-1a hash of a kind and a name.
fn hash(kind: Kind, name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5 ^ kind as u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// A section of the file, and the page of it that was read last.
struct Section {
    file: File,
    /// Offset of the section in the file.
    start: u32,
    length: u32,
    page: RefCell<Page>,
}

struct Page {
    /// Offset of the first byte in the section.
    offset: u32,
    /// Number of bytes that were read.
    length: u32,
    bytes: [u8; 4096],
}

impl Section {
    fn new(file: File, start: u32, length: u32) -> Self {
        Self { file, start, length, page: RefCell::new(Page { offset: 0, length: 0, bytes: [0; 4096] }) }
    }

    /// Returns the word at `offset`.
    fn word(&self, offset: u32) -> Option<u32> {
        self.with(offset, |bytes| bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)))
    }

    /// Returns the result of `then` for the text at `offset`, up to its zero byte. Names in the kernel have at most 512
    /// bytes.
    fn text<T>(&self, offset: u32, mut then: impl FnMut(&[u8]) -> T) -> Option<T> {
        self.with(offset, |bytes| {
            let end = bytes.iter().position(|byte| *byte == 0)?;
            bytes.get(..end).map(&mut then)
        })
    }

    /// Returns the result of `then` for the bytes from `offset` on: those of the page that was read last, or, if `then`
    /// returns none for these, a page that begins at `offset`.
    fn with<T>(&self, offset: u32, mut then: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
        let mut page = self.page.borrow_mut();
        let skipped = offset.checked_sub(page.offset).filter(|skip| *skip < page.length);
        if let Some(found) =
            skipped.and_then(|skip| page.bytes.get(skip as usize..page.length as usize)).and_then(&mut then)
        {
            return Some(found);
        }
        let left = self.length.checked_sub(offset)?.min(4096);
        page.length = 0;
        let wanted = page.bytes.get_mut(..left as usize)?;
        let read = self.file.read_at(wanted, u64::from(self.start) + u64::from(offset)).ok()?;
        (page.offset, page.length) = (offset, u32::try_from(read).ok()?);
        page.bytes.get(..read).and_then(then)
    }
}

#[cfg(test)]
mod tests;
