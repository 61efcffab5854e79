//! The plan that the program follows: what is requested of each tree, with offsets from the running kernel's types.

use exporter_ebpf::cgroup::CgroupIdOffsets;
use exporter_ebpf::snapshot::{
    CPUS, CpusPlan, DevicesPlan, IN_SET, OBJECTS, OTHER_IDS, Object as KernelObject, Plan as KernelPlan, Pointer,
    SET_WORDS, SPAN_WORDS, STATS, SetPlan, Span, StatsPlan, Tree as KernelTree, WORDS,
};

use super::numbers::{Number, Object, in_set, limits};
use crate::discover::{Tree, Version};
use crate::ebpf::btf::Types;
use crate::ebpf::error::Unsupported;
use crate::metrics::Controller;

/// Unrequested words between two requested ones are copied, too, if there are no more than these.
const GAP: u32 = 2;

/// What to copy of the cgroups of one tree.
#[derive(Clone, Debug)]
pub(crate) struct TreeRequest {
    /// The tree.
    pub(crate) tree: Tree,
    /// A controller whose tree it is.
    pub(crate) controller: Controller,
    /// Numbers.
    pub(crate) numbers: Vec<Number>,
    /// The counters behind `memory.stat`.
    pub(crate) stats: bool,
    /// CPU time of v1.
    pub(crate) cpus: bool,
    /// Block I/O of v2.
    pub(crate) devices: bool,
    /// Files of a parent whose reading has the kernel add up what is below it.
    pub(crate) flushes: Vec<&'static str>,
}

impl TreeRequest {
    /// Nothing yet.
    pub(crate) fn nothing(tree: Tree, controller: Controller) -> Self {
        Self { tree, controller, numbers: Vec::new(), stats: false, cpus: false, devices: false, flushes: Vec::new() }
    }
}

/// What the program copies, and where to.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) kernel: KernelPlan,
    /// The tree that is iterated over.
    pub(super) primary_tree: usize,
    /// Of each number where it is; none where this kernel does not have it.
    locations: [Option<Location>; Number::COUNT],
    /// Words of a record in use.
    words: usize,
    /// Runs of words in use.
    spans: usize,
    /// Number of counters behind `memory.stat`; 0 where they are not copied.
    pub(super) stats: usize,
}

/// The location of a number in a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Location {
    /// The bit of its object.
    pub(super) object: u8,
    pub(super) word: u8,
    /// The first of its bits in that word.
    pub(super) shift: u8,
    /// Its size in bytes.
    pub(super) size: u8,
}

impl Plan {
    /// Looks up what is requested. Numbers that this kernel does not have are left out.
    ///
    /// # Errors
    /// The kernel's types do not say how to get from one tree to another.
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

    /// Returns the base of pointers of a tree.
    pub(super) fn base(&self, tree: usize) -> usize {
        match tree {
            tree if tree == self.primary_tree => 0,
            tree if tree < self.primary_tree => tree + 1,
            tree => tree,
        }
    }

    /// Plans how the cgroup in another tree than the primary one is found.
    fn locate_cgroups(&mut self, tree: usize, request: &TreeRequest, types: &Types) -> Option<()> {
        let Some(other) = self.base(tree).checked_sub(1) else { return Some(()) };
        let word = match request.tree.version {
            Version::V1 => in_set(request.controller, types)?,
            Version::V2 => types.offset("css_set", "dfl_cgrp")? / 8,
        };
        self.copy_set_word(word)?;
        let is_cgroup = u16::from(request.tree.version == Version::V2);
        *self.kernel.trees.get_mut(other)? = KernelTree { word, is_cgroup, needs_cgroup: 0 };
        Some(())
    }

    /// Adds a word of the set to what is copied.
    fn copy_set_word(&mut self, word: u32) -> Option<()> {
        let words = self.kernel.set.words.max(word + 1);
        self.kernel.set.words = words;
        (usize::try_from(words).ok()? <= SET_WORDS).then_some(())
    }

    /// Returns the pointer to an object of a tree; none where this kernel does not have it.
    fn pointer(&mut self, tree: usize, request: &TreeRequest, object: Object, types: &Types) -> Option<Pointer> {
        let base = u16::try_from(self.base(tree)).ok()?;
        let is_css = u16::from(request.tree.version == Version::V2 && object.is_css());
        match object {
            Object::Css(controller) if base > 0 && request.tree.version == Version::V1 => {
                let at = in_set(controller, types)?;
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

    /// Adds the numbers of one object, and its limits.
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
            // Words between them may change all the time.
            for run in runs(&of_limits, 0) {
                self.span(run);
            }
        }
        if let Some(object) = self.kernel.objects.get_mut(usize::from(bit)) {
            *object = KernelObject { pointer, spans: u32::try_from(self.spans - first).unwrap_or(0) };
        }
    }

    fn span(&mut self, span: Span) -> bool {
        let Some(room) = self.kernel.spans.get_mut(self.spans) else { return false };
        *room = span;
        self.spans += 1;
        true
    }

    /// Adds what is not a number of an object.
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

    /// Returns where a number is.
    pub(super) fn location(&self, number: Number) -> Option<Location> {
        self.locations.get(number as usize).copied().flatten()
    }
}

/// Returns the tree to iterate over: that of which most is copied, as the others are not found of a cgroup that has no
/// processes of its own. Beside trees of v1 it is one of these: an engine that has them makes no cgroup in the other,
/// not even where that alone has memory.
fn primary_tree(requests: &[TreeRequest]) -> usize {
    let has_v1 = requests.iter().any(|request| request.tree.version == Version::V1);
    let mut trees = requests.iter().enumerate().filter(|(_, request)| !has_v1 || request.tree.version == Version::V1);
    let first = trees.clone().next();
    trees.find(|(_, request)| request.stats).or(first).map_or(0, |(tree, _)| tree)
}

/// Returns the words that lie side by side, from where members begin and end; these are in order.
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

fn unknown_types() -> Unsupported {
    Unsupported::new(
        "this kernel's types do not tell how cgroups of several trees belong together",
        "please report it with the kernel's version",
    )
}

/// Returns the counters that count what is below, too: all of the structure before those of the cgroup alone and what
/// is still to be added up.
fn stats_plan(pointer: Pointer, types: &Types) -> Option<StatsPlan> {
    let ends = ["state_local", "state_pending"].into_iter().filter_map(|name| types.offset("memcg_vmstats", name));
    let bytes = ends.min()?.min(8 * u32::try_from(STATS).ok()?);
    Some(StatsPlan { pointer, vmstats: types.offset("mem_cgroup", "vmstats")?, bytes })
}

fn cpus_plan(pointer: Pointer, types: &Types, count: usize, to: usize) -> Option<CpusPlan> {
    Some(CpusPlan {
        pointer,
        usage: types.offset("cpuacct", "cpuusage")?,
        count: u32::try_from(count).ok().filter(|_| (1..=CPUS).contains(&count))?,
        to: u32::try_from(to).ok()?,
    })
}

fn devices_plan(pointer: Pointer, types: &Types) -> Option<DevicesPlan> {
    Some(DevicesPlan {
        pointer,
        list: types.offset("blkcg", "blkg_list")?,
        node: types.offset("blkcg_gq", "blkcg_node")?,
        online: types.offset("blkcg_gq", "online")?,
        counters: types.offset("blkcg_gq", "iostat.cur")?,
        queue: types.offset("blkcg_gq", "q")?,
        disk: types.offset("request_queue", "disk")?,
        major: types.offset("gendisk", "major")?,
        minor: types.offset("gendisk", "first_minor")?,
    })
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
