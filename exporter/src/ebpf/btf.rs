//! The running kernel's types: where its structures keep their members, and what its enumerations number. Asked at
//! start only.
//!
//! The format is that of `Documentation/bpf/btf.rst`. aya parses it too, but tells nothing of members; the only other
//! reader in Rust is under a licence that a static binary cannot take. The file has six megabytes: it is never held. One
//! pass notes where every 32nd type stands and which type has which name (200 KB); what is asked is read from the
//! file then, a page at a time, as the kernel gives no more at once. A copy would not only be the peak of our memory:
//! once it is freed, the C library keeps as much of later memory for itself (its dynamic threshold).

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The kinds that have names we ask for (`BTF_KIND_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(super) enum Kind {
    /// A structure.
    Struct = 4,
    /// An enumeration, of 64 bits too.
    Enumeration = 6,
    /// A type's other name; tracepoints have one each (`btf_trace_NAME`).
    Typedef = 8,
    /// A function.
    Function = 12,
}

const ARRAY: u32 = 3;
const UNION: u32 = 5;
const ENUMERATION_64: u32 = 19;
/// volatile, const, restrict, type tag: and typedefs, of course.
const TRANSPARENT: [u32; 5] = [8, 9, 10, 11, 18];
const MAGIC: u16 = 0xeb9f;
const COMMON: u32 = 12;
/// The tens of thousands of functions are not asked for by anyone, but for the iterators' and tracepoints'.
const PREFIXES: [(Kind, &[u8]); 2] = [(Kind::Function, b"bpf_iter_"), (Kind::Typedef, b"btf_trace_")];
/// Types between two places that are known.
const STRIDE: u32 = 32;
/// Typedefs of typedefs, and unnamed members of unnamed members: no kernel has as many.
const DEPTH: u32 = 32;

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
    /// Types, by their distance from the first one.
    records: Window,
    strings: Window,
    /// Where each 32nd type stands, from the one with id 1 on.
    offsets: Vec<u32>,
    /// Hash of kind and name, and id; in this order.
    named: Vec<(u32, u32)>,
}

impl Types {
    /// Reads them; of functions and typedefs only those of iterators and tracepoints.
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
        Self::index(&header, file, again).ok_or_else(|| Error::Odd { path: name() })
    }

    fn index(header: &[u8], file: File, again: File) -> Option<Self> {
        if u16::from_ne_bytes([*header.first()?, *header.get(1)?]) != MAGIC {
            return None;
        }
        let words: Vec<u32> = header.as_chunks().0.iter().map(|bytes: &[u8; 4]| u32::from_ne_bytes(*bytes)).collect();
        let [_, length, types, types_length, strings, strings_length] = words.as_slice() else { return None };
        let mut read = Self {
            records: Window::new(file, length.checked_add(*types)?, *types_length),
            strings: Window::new(again, length.checked_add(*strings)?, *strings_length),
            offsets: Vec::new(),
            named: Vec::new(),
        };
        read.names(&read.beginning()?)?;
        Some(read)
    }

    /// Returns the strings that begin as [`PREFIXES`] do, in their order.
    fn beginning(&self) -> Option<Vec<u32>> {
        let (mut found, mut offset) = (Vec::new(), 0);
        while offset < self.strings.length {
            offset += self.strings.text(offset, |text| {
                if PREFIXES.iter().any(|(_, prefix)| text.starts_with(prefix)) {
                    found.push(offset);
                }
                u32::try_from(text.len() + 1).ok()
            })??;
        }
        Some(found)
    }

    fn names(&mut self, beginning: &[u32]) -> Option<()> {
        // Where the name stands, kind, and id: in the order of the names, so that the strings are read once.
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
                kind => PREFIXES
                    .into_iter()
                    .map(|(prefixed, _)| prefixed)
                    .find(|prefixed| *prefixed as u32 == kind)
                    .filter(|_| beginning.binary_search(&name).is_ok()),
            };
            if let Some(kind) = wanted.filter(|_| name != 0) {
                found.push((name, kind, id));
            }
            offset = offset.checked_add(COMMON + extra(kind, members))?;
            id += 1;
        }
        found.sort_unstable_by_key(|(name, ..)| *name);
        self.named.reserve_exact(found.len());
        for (name, kind, id) in found {
            let hash = self.strings.text(name, |text| hash(kind, text))?;
            self.named.push((hash, id));
        }
        self.named.sort_unstable();
        Some(())
    }

    /// Returns the id of a named type; of several with one name, that of the first.
    pub(super) fn id(&self, kind: Kind, name: &str) -> Option<u32> {
        let wanted = hash(kind, name.as_bytes());
        let from = self.named.partition_point(|(hash, _)| *hash < wanted);
        let alike = self.named.iter().skip(from).take_while(|(hash, _)| *hash == wanted).map(|(_, id)| *id);
        alike.into_iter().find(|id| {
            let Some((offset, (found, _))) =
                self.record_offset(*id).and_then(|offset| Some((offset, self.info(offset)?)))
            else {
                return false;
            };
            let same_kind = found == kind as u32 || (kind, found) == (Kind::Enumeration, ENUMERATION_64);
            same_kind && self.is_named(offset, name.as_bytes())
        })
    }

    /// Returns the offset in bytes of a member such as `sk_cgrp_data.cgroup` of a structure; members of unnamed
    /// structures and unions count as their holder's.
    pub(super) fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        self.walk(structure, path).map(|(bits, _)| bits / 8)
    }

    /// Returns the byte that holds a one-bit member, and the mask of the bit.
    pub(super) fn bit(&self, structure: &str, path: &str) -> Option<(u32, u32)> {
        self.walk(structure, path).map(|(bits, _)| (bits / 8, 1 << (bits % 8)))
    }

    /// Returns the number that a name has in an enumeration.
    pub(super) fn enumerator(&self, enumeration: &str, name: &str) -> Option<i64> {
        self.number(self.record_offset(self.id(Kind::Enumeration, enumeration)?)?, name)
    }

    /// Returns the number that a name has in an unnamed enumeration, which is recognised by its first name.
    pub(super) fn unnamed_enumerator(&self, first: &str, name: &str) -> Option<i64> {
        let mut offset = 0;
        while offset < self.records.length {
            let (kind, members) = self.info(offset)?;
            let is_enumeration = kind == Kind::Enumeration as u32 || kind == ENUMERATION_64;
            let is_unnamed = is_enumeration && members > 0 && self.records.word(offset)? == 0;
            if is_unnamed && self.is_named(offset + COMMON, first.as_bytes()) {
                return self.number(offset, name);
            }
            offset = offset.checked_add(COMMON + extra(kind, members))?;
        }
        None
    }

    /// Returns the number of a name in the enumeration whose record is at `offset`.
    fn number(&self, offset: u32, name: &str) -> Option<i64> {
        let (kind, members) = self.info(offset)?;
        let signed = self.records.word(offset + 4)? >> 31 == 1;
        let size = if kind == ENUMERATION_64 { 12 } else { 8 };
        let found = (0..members).map(|member| offset + COMMON + size * member);
        let found = found.into_iter().find(|member| self.is_named(*member, name.as_bytes()))?;
        let low = self.records.word(found + 4)?;
        match kind {
            ENUMERATION_64 => Some((i64::from(self.records.word(found + 8)?) << 32) | i64::from(low)),
            _ if signed => Some(i64::from(low.cast_signed())),
            _ => Some(i64::from(low)),
        }
    }

    /// Offset in bits and type of a member of a member.
    fn walk(&self, structure: &str, path: &str) -> Option<(u32, u32)> {
        path.split('.').try_fold((0, self.id(Kind::Struct, structure)?), |(total, id), name| {
            let (offset, member) = self.member(self.plain(id)?, name.as_bytes(), DEPTH)?;
            Some((total + offset, member))
        })
    }

    /// Offset in bits and type of a member.
    fn member(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        let offset = self.record_offset(id)?;
        let (kind, members) = self.info(offset)?;
        if depth == 0 || (kind != Kind::Struct as u32 && kind != UNION) {
            return None;
        }
        // With bit fields in the structure, the offset's upper byte is the width of the field.
        let mask = if self.records.word(offset + 4)? >> 31 == 0 { u32::MAX } else { 0x00ff_ffff };
        (0..members).map(|member| offset + COMMON + 12 * member).find_map(|member| {
            let (unnamed, member_type) = (self.records.word(member)? == 0, self.records.word(member + 4)?);
            let offset = self.records.word(member + 8)? & mask;
            if unnamed {
                let (inner, found) = self.member(self.plain(member_type)?, name, depth - 1)?;
                return Some((offset + inner, found));
            }
            self.is_named(member, name).then_some((offset, member_type))
        })
    }

    /// Returns a type without its other names and qualifiers.
    fn plain(&self, mut id: u32) -> Option<u32> {
        for _ in 0..DEPTH {
            let offset = self.record_offset(id)?;
            if !TRANSPARENT.contains(&self.info(offset)?.0) {
                return Some(id);
            }
            id = self.records.word(offset + 8)?;
        }
        None
    }

    /// Returns where a type stands: a few steps from a place that is known. Id 0 is `void`, which stands nowhere.
    fn record_offset(&self, id: u32) -> Option<u32> {
        let before = id.checked_sub(1)?;
        let mut offset = *self.offsets.get(usize::try_from(before / STRIDE).ok()?)?;
        for _ in 0..before % STRIDE {
            let (kind, members) = self.info(offset)?;
            offset = offset.checked_add(COMMON + extra(kind, members))?;
        }
        Some(offset)
    }

    /// Kind and number of members.
    fn info(&self, offset: u32) -> Option<(u32, u32)> {
        let info = self.records.word(offset.checked_add(4)?)?;
        Some((info >> 24 & 0x1f, info & 0xffff))
    }

    /// Returns whether the name of what stands there, a type or a member, is this one.
    fn is_named(&self, offset: u32, name: &[u8]) -> bool {
        self.records.word(offset).and_then(|offset| self.strings.text(offset, |text| text == name)) == Some(true)
    }
}

/// Makes aya's loader: its `new` reads the kernel's types whole, 18 MB that none of our programs needs, and keeps them until all
/// are loaded; it does without where it cannot. So for that moment, before there is another thread, we may open no file.
pub(super) fn without_types<T>(make: impl FnOnce() -> T) -> T {
    let limit = getrlimit(Resource::Nofile);
    // A soft limit up to the hard one is never refused.
    let set = |limit| setrlimit(Resource::Nofile, limit).is_ok();
    let none = set(Rlimit { current: Some(0), ..limit });
    let result = make();
    if none && !set(limit) {
        tracing::error!("cannot restore the limit of open files");
    }
    result
}

/// Returns bytes behind the common part of a type.
fn extra(kind: u32, members: u32) -> u32 {
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

/// FNV-1a.
fn hash(kind: Kind, name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5 ^ kind as u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// A part of the file, of which one page is at hand.
struct Window {
    file: File,
    start: u32,
    length: u32,
    page: RefCell<Page>,
}

struct Page {
    offset: u32,
    length: u32,
    bytes: [u8; 4096],
}

impl Window {
    fn new(file: File, start: u32, length: u32) -> Self {
        Self { file, start, length, page: RefCell::new(Page { offset: 0, length: 0, bytes: [0; 4096] }) }
    }

    fn word(&self, offset: u32) -> Option<u32> {
        self.with(offset, |bytes| bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)))
    }

    /// Returns what is made of the text that begins there. No name in the kernel is longer than 512 bytes.
    fn text<T>(&self, offset: u32, mut then: impl FnMut(&[u8]) -> T) -> Option<T> {
        self.with(offset, |bytes| {
            let end = bytes.iter().position(|byte| *byte == 0)?;
            bytes.get(..end).map(&mut then)
        })
    }

    /// Returns what is made of the bytes from there on; where it is nothing, once more with a whole page of them.
    fn with<T>(&self, offset: u32, mut then: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
        let mut page = self.page.borrow_mut();
        let at_hand = offset.checked_sub(page.offset).filter(|skip| *skip < page.length);
        if let Some(found) =
            at_hand.and_then(|skip| page.bytes.get(skip as usize..page.length as usize)).and_then(&mut then)
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
