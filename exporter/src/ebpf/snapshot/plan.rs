//! The plan of a copy: what is requested of each tree, with offsets from the running kernel's types, and where it is in
//! a record.

use std::sync::atomic::{AtomicU64, Ordering};

use exporter_ebpf::cgroup::CgroupIdOffsets;
use exporter_ebpf::snapshot::{
    DEVICES, HAS, HAS_CPUS, HAS_DEVICES, HAS_STATS, ID, IN_SET, LIMITS, OBJECTS, OTHER_IDS, Object as KernelObject,
    Plan as KernelPlan, Pointer, SET_WORDS, SPAN_WORDS, SetPlan, Span, Tree as KernelTree, WORDS,
};

use super::numbers::{Number, Object, cpus_plan, devices_plan, limits, stats_plan, word_in_set};
use crate::discover::{Tree, Version};
use crate::ebpf::btf::Types;
use crate::ebpf::unsupported::Unsupported;
use crate::metrics::Controller;

/// Maximum number of words between two requested ones that are copied with them.
const GAP: u32 = 2;

/// What to copy of the cgroups of one tree.
#[derive(Clone, Debug)]
pub(crate) struct TreeRequest {
    /// The tree.
    pub(crate) tree: Tree,
    /// A controller that the tree has.
    pub(crate) controller: Controller,
    /// The numbers to copy.
    pub(crate) numbers: Vec<Number>,
    /// Whether to copy the counters behind `memory.stat`.
    pub(crate) stats: bool,
    /// Whether to copy the CPU time of v1.
    pub(crate) cpus: bool,
    /// Whether to copy the block I/O of v2.
    pub(crate) devices: bool,
    /// Files of a parent of containers. Reading them makes the kernel add up the counters of the cgroups below.
    pub(crate) flushes: Vec<&'static str>,
}

impl TreeRequest {
    /// Returns a request for nothing.
    pub(crate) fn nothing(tree: Tree, controller: Controller) -> Self {
        Self { tree, controller, numbers: Vec::new(), stats: false, cpus: false, devices: false, flushes: Vec::new() }
    }
}

/// What the program copies, and where each number is in a record.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The plan as the program reads it.
    pub(super) kernel: KernelPlan,
    /// Index of the tree that is iterated over.
    pub(super) primary_tree: usize,
    /// The location of each number; none if this kernel does not have it, or if it is not requested.
    locations: [Option<Location>; Number::COUNT],
    /// Number of words of a record in use.
    words: usize,
    /// Number of spans in use.
    spans: usize,
    /// Number of counters behind `memory.stat`; 0 if they are not copied.
    pub(super) stats: usize,
}

/// The location of a number in a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Location {
    /// The bit of the object.
    pub(super) object: u8,
    /// Index of the word.
    pub(super) word: u8,
    /// Index of the number's first bit in the word.
    pub(super) shift: u8,
    /// Size of the number in bytes.
    pub(super) size: u8,
}

impl Plan {
    /// Makes the plan for these requests. Numbers that this kernel does not have are left out. `cpus` is the number of
    /// CPUs.
    ///
    /// # Errors
    /// The kernel's types lack the members that lead from one tree to another.
    pub(super) fn new(
        requests: &[TreeRequest],
        id_offsets: CgroupIdOffsets,
        types: &Types,
        cpus: usize,
    ) -> Result<Self, Unsupported> {
        let at = |structure, path| types.offset(structure, path).ok_or_else(unknown_types);
        let mut plan = Self {
            kernel: KernelPlan {
                flags: at("cgroup_subsys_state", "flags")?,
                serial: at("cgroup_subsys_state", "serial_nr")?,
                cgroup: at("cgroup_subsys_state", "cgroup")?,
                itself: at("cgroup", "self")?,
                id_offsets,
                ..KernelPlan::EMPTY
            },
            primary_tree: primary_tree(requests),
            locations: [None; Number::COUNT],
            words: OTHER_IDS + 2 * requests.len().saturating_sub(1),
            spans: 0,
            stats: 0,
        };
        if requests.len() > 1 {
            plan.kernel.set = SetPlan {
                links: at("cgroup", "cset_links")?,
                link: at("cgrp_cset_link", "cset_link")?,
                set: at("cgrp_cset_link", "cset")?,
                words: 0,
            };
            for (tree, request) in requests.iter().enumerate() {
                plan.locate_cgroups(tree, request, types).ok_or_else(unknown_types)?;
            }
        }
        let mut bit = 0;
        for (tree, request) in requests.iter().enumerate() {
            let mut left = request.numbers.clone();
            while let Some(first) = left.first() {
                let object = first.object();
                let (numbers, others) = left.into_iter().partition(|number| number.object() == object);
                let pointer = plan.pointer(tree, request, object, types);
                plan.add(bit, pointer, numbers, types);
                (left, bit) = (others, bit + 1);
            }
            plan.add_others(tree, request, types, cpus);
        }
        Ok(plan)
    }

    /// Returns the number of a tree for the program, which counts the primary tree as 0.
    pub(super) fn base(&self, tree: usize) -> usize {
        match tree {
            tree if tree == self.primary_tree => 0,
            tree if tree < self.primary_tree => tree + 1,
            tree => tree,
        }
    }

    /// Plans how to find the cgroup in another tree than the primary one.
    fn locate_cgroups(&mut self, tree: usize, request: &TreeRequest, types: &Types) -> Option<()> {
        let Some(other) = self.base(tree).checked_sub(1) else { return Some(()) };
        let word = match request.tree.version {
            Version::V1 => word_in_set(request.controller, types)?,
            Version::V2 => types.offset("css_set", "dfl_cgrp")? / 8,
        };
        self.copy_set_word(word)?;
        let is_cgroup = u16::from(request.tree.version == Version::V2);
        *self.kernel.trees.get_mut(other)? = KernelTree { word, is_cgroup, needs_cgroup: 0 };
        Some(())
    }

    /// Has the program copy this word of the `css_set`. Returns none if it has no room for the word.
    fn copy_set_word(&mut self, word: u32) -> Option<()> {
        let words = self.kernel.set.words.max(word + 1);
        self.kernel.set.words = words;
        (usize::try_from(words).ok()? <= SET_WORDS).then_some(())
    }

    /// Returns how to find an object of a tree; none if this kernel does not have it.
    fn pointer(&mut self, tree: usize, request: &TreeRequest, object: Object, types: &Types) -> Option<Pointer> {
        let base = u16::try_from(self.base(tree)).ok()?;
        let is_css = u16::from(request.tree.version == Version::V2 && object.is_css());
        match object {
            Object::Css(controller) if base > 0 && request.tree.version == Version::V1 => {
                let at = word_in_set(controller, types)?;
                self.copy_set_word(at)?;
                Some(Pointer { base: IN_SET, is_css, at })
            }
            _ => {
                let at = object.in_cgroup(types)?;
                if let Some(tree) = usize::from(base).checked_sub(1).and_then(|other| self.kernel.trees.get_mut(other))
                {
                    tree.needs_cgroup = 1;
                }
                Some(Pointer { base, is_css, at })
            }
        }
    }

    /// Adds the numbers of one object, and its limits. Numbers that find no room in a record are left out.
    fn add(&mut self, bit: u8, pointer: Option<Pointer>, numbers: Vec<Number>, types: &Types) {
        let (Some(pointer), true) = (pointer, usize::from(bit) < OBJECTS) else { return };
        let (first, object) = (self.spans, numbers.first().map(|number| number.object()));
        let mut found: Vec<(u32, Number)> =
            numbers.into_iter().filter_map(|number| Some((number.offset(types)?, number))).collect();
        found.sort_unstable_by_key(|(offset, _)| *offset);
        let of_numbers: Vec<(u32, u32)> =
            found.iter().map(|(offset, number)| (*offset, offset + u32::from(number.size()))).collect();
        for run in runs(&of_numbers, GAP) {
            if self.words + usize::from(run.words) > WORDS {
                break;
            }
            let to = self.words;
            if !self.span(Span { to: u16::try_from(to).unwrap_or(0), ..run }) {
                break;
            }
            self.words += usize::from(run.words);
            let inside = |offset: u32| (run.offset..run.offset + 8 * u32::from(run.words)).contains(&offset);
            for (offset, number) in found.iter().filter(|(offset, _)| inside(*offset)) {
                let word = to + usize::try_from((offset - run.offset) / 8).unwrap_or(0);
                let location = Location {
                    object: bit,
                    word: u8::try_from(word).unwrap_or(0),
                    shift: u8::try_from(offset % 8 * 8).unwrap_or(0),
                    size: number.size(),
                };
                if let Some(room) = self.locations.get_mut(*number as usize) {
                    *room = Some(location);
                }
            }
        }
        if let Some(object) = object {
            let mut of_limits: Vec<(u32, u32)> = limits(object, types).map(|offset| (offset, offset + 8)).collect();
            of_limits.sort_unstable();
            // Without a gap, because other words change all the time.
            for run in runs(&of_limits, 0) {
                self.span(run);
            }
        }
        if let Some(object) = self.kernel.objects.get_mut(usize::from(bit)) {
            *object = KernelObject { pointer, spans: u32::try_from(self.spans - first).unwrap_or(0) };
        }
    }

    /// Adds a span. Returns whether there was room for it.
    fn span(&mut self, span: Span) -> bool {
        let Some(room) = self.kernel.spans.get_mut(self.spans) else { return false };
        *room = span;
        self.spans += 1;
        true
    }

    /// Adds the counters of `memory.stat`, block I/O and the CPU time of v1.
    fn add_others(&mut self, tree: usize, request: &TreeRequest, types: &Types, cpus: usize) {
        if request.stats
            && tree == self.primary_tree
            && let Some(pointer) = self.pointer(tree, request, Object::Css(Controller::Memory), types)
            && let Some(stats) = stats_plan(pointer, types)
        {
            self.kernel.stats = stats;
            self.stats = usize::try_from(stats.bytes / 8).unwrap_or(0);
        }
        if request.devices
            && let Some(pointer) = self.pointer(tree, request, Object::Css(Controller::Io), types)
            && let Some(devices) = devices_plan(pointer, types)
        {
            self.kernel.devices = devices;
        }
        if request.cpus
            && self.words < WORDS
            && let Some(pointer) = self.pointer(tree, request, Object::Css(Controller::Cpuacct), types)
            && let Some(found) = cpus_plan(pointer, types, cpus, self.words)
        {
            self.kernel.cpus = found;
            self.words += 1;
        }
    }

    /// Returns the location of a number.
    pub(super) fn location(&self, number: Number) -> Option<Location> {
        self.locations.get(number as usize).copied().flatten()
    }
}

/// Returns the index of the tree to iterate over: the one of which most is copied, because cgroups in the other trees
/// are not found if the visited cgroup has no processes of its own. If there are v1 trees, it is one of these: an
/// engine that uses them creates no cgroup in the v2 tree, even if only that tree has memory.
fn primary_tree(requests: &[TreeRequest]) -> usize {
    let has_v1 = requests.iter().any(|request| request.tree.version == Version::V1);
    let mut trees = requests.iter().enumerate().filter(|(_, request)| !has_v1 || request.tree.version == Version::V1);
    let first = trees.clone().next();
    trees.find(|(_, request)| request.stats).or(first).map_or(0, |(tree, _)| tree)
}

/// Joins members, given by where they begin and end in ascending order, to spans of words with at most `gap` other
/// words between two members.
fn runs(members: &[(u32, u32)], gap: u32) -> Vec<Span> {
    let mut runs: Vec<Span> = Vec::new();
    for (begin, end) in members {
        let (first, end) = (begin / 8 * 8, end.next_multiple_of(8));
        let most = u32::try_from(SPAN_WORDS).unwrap_or(1);
        if let Some(last) = runs.last_mut()
            && first <= last.offset + 8 * (u32::from(last.words) + gap)
            && end <= last.offset + 8 * most
        {
            last.words = last.words.max(u16::try_from((end - last.offset) / 8).unwrap_or(0));
        } else {
            runs.push(Span { offset: first, words: u16::try_from((end - first) / 8).unwrap_or(1), to: 0 });
        }
    }
    runs
}

/// Returns the error for members that the kernel's types lack.
fn unknown_types() -> Unsupported {
    Unsupported::new(
        "this kernel's types do not tell how cgroups of several trees belong together",
        "please report it with the kernel's version",
    )
}

/// The record of one cgroup in a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(super) plan: &'a Plan,
    pub(super) words: &'a [AtomicU64],
    pub(super) stats: &'a [AtomicU64],
    pub(super) devices: &'a [AtomicU64],
}

/// Number of words of a device: its number, three of bytes, and three of operations.
const DEVICE_WORDS: usize = 7;

impl Record<'_> {
    /// Returns the id of the cgroup in a tree; 0 if the cgroup that was visited has no processes by which that one
    /// could be found.
    pub(crate) fn cgroup(&self, tree: usize) -> u64 {
        let word = self.plan.base(tree).checked_sub(1).map_or(ID, |other| OTHER_IDS + 2 * other);
        self.word(word).unwrap_or(0)
    }

    /// Returns a number; none if the controller is not enabled in this cgroup, or if its pressure is switched off.
    pub(crate) fn number(&self, number: Number) -> Option<u64> {
        let at = self.plan.location(number)?;
        let is_off = || number.is_pressure() && self.number(Number::PressureOn) == Some(0);
        let word = self.word(at.word.into()).filter(|_| self.has(1 << at.object) && !is_off())?;
        Some(word << (64 - at.shift - 8 * at.size) >> (64 - 8 * at.size))
    }

    /// Returns the CPU time in nanoseconds, added up over all CPUs (v1).
    pub(crate) fn cpu_time(&self) -> Option<u64> {
        self.word(usize::try_from(self.plan.kernel.cpus.to).ok().filter(|_| self.has(HAS_CPUS))?)
    }

    /// Returns a bit for each object that the cgroup has, such as the states in enabled controllers: those of the plan
    /// in the lowest eight bits, others in the highest ones.
    pub(crate) fn css_mask(&self) -> u64 {
        self.word(HAS).unwrap_or(0)
    }

    /// Returns a hash of the limits of the cgroup, which changes if a limit changes.
    pub(crate) fn limits(&self) -> u64 {
        self.word(LIMITS).unwrap_or(0)
    }

    /// Returns the counters behind `memory.stat`, by their index.
    pub(crate) fn stat(&self) -> impl Fn(usize) -> Option<u64> + '_ {
        let stats = if self.has(HAS_STATS) { self.stats } else { &[] };
        move |index| stats.get(index).map(|word| word.load(Ordering::Relaxed))
    }

    /// Returns the devices that the cgroup has used; none if there are more than a record has room for.
    pub(crate) fn devices(&self) -> Option<impl Iterator<Item = DeviceUse> + '_> {
        let used = usize::try_from(self.devices.first().filter(|_| self.has(HAS_DEVICES))?.load(Ordering::Relaxed))
            .ok()
            .filter(|used| *used <= DEVICES)?;
        Some(self.devices.get(1..)?.chunks_exact(DEVICE_WORDS).take(used).map(|words| {
            let word = |index: usize| words.get(index).map_or(0, |word| word.load(Ordering::Relaxed));
            DeviceUse {
                major: u32::try_from(word(0) >> 32).unwrap_or(0),
                minor: u32::try_from(word(0) & u64::from(u32::MAX)).unwrap_or(0),
                bytes: [word(1), word(2), word(3)],
                operations: [word(4), word(5), word(6)],
            }
        }))
    }

    /// Returns whether the cgroup has the object of this bit.
    fn has(&self, bit: u64) -> bool {
        self.css_mask() & bit != 0
    }

    fn word(&self, index: usize) -> Option<u64> {
        self.words.get(index).map(|word| word.load(Ordering::Relaxed))
    }
}

/// Block I/O on one device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DeviceUse {
    /// Major number of the device.
    pub(crate) major: u32,
    /// Minor number of the device.
    pub(crate) minor: u32,
    /// Bytes read, written, discarded.
    pub(crate) bytes: [u64; 3],
    /// Reads, writes, discards.
    pub(crate) operations: [u64; 3],
}

#[cfg(test)]
mod tests {
    use super::{Span, TreeRequest, primary_tree, runs};
    use crate::discover::{Tree, Version};
    use crate::metrics::Controller;

    #[test]
    fn what_lies_side_by_side_is_one_run_of_words() {
        // Two of four bytes, one of eight right after, one two words on, one far away.
        let members = [(20, 24), (24, 28), (32, 40), (56, 64), (200, 208)];
        let spans = [Span { offset: 16, words: 6, to: 0 }, Span { offset: 200, words: 1, to: 0 }];
        assert_eq!(runs(&members, 2), spans);
        assert_eq!(runs(&members, 0).len(), 3);
    }

    #[test]
    fn a_tree_of_v2_that_has_memory_alone_is_not_iterated_over() {
        let request = |version, stats| TreeRequest {
            stats,
            ..TreeRequest::nothing(Tree { path: "/".into(), version }, Controller::Memory)
        };
        let (v1, v2) = (Version::V1, Version::V2);
        assert_eq!(primary_tree(&[request(v2, true), request(v1, false), request(v1, false)]), 1);
        assert_eq!(primary_tree(&[request(v1, false), request(v1, true), request(v2, false)]), 1);
        assert_eq!(
            [primary_tree(&[request(v2, true)]), primary_tree(&[request(v2, false)]), primary_tree(&[])],
            [0; 3]
        );
    }
}
