//! Leads from the cgroup that the iterator visits to the objects that hold its counters.

use core::mem::MaybeUninit;

use exporter_ebpf::kernel;
use exporter_ebpf::snapshot::{IN_SET, ITSELF, NONE, OTHER_IDS, Pointer, SET_WORDS, TREES};

use crate::plan::plan;
use crate::read;

/// `CSS_VISIBLE` of a `cgroup_subsys_state`. A controller that is not enabled may still have a state because another one needs
/// it, as block I/O needs memory, but it has no files.
const VISIBLE: u32 = 1 << 3;

/// The cgroup that the iterator visits, and the cgroups of its processes in the other trees.
pub(crate) struct Cgroups {
    pub(crate) primary: *const u8,
    /// The `css_set` of the processes, as many words as the plan says; zeroes where there are no processes.
    pub(crate) set: MaybeUninit<[u64; SET_WORDS]>,
    /// The cgroups of the other trees that the plan needs; 0 where there are no processes.
    pub(crate) others: MaybeUninit<[usize; TREES]>,
}

impl Cgroups {
    /// Finds the cgroups of the other trees by the processes, and writes their ids and serial numbers into the record. A
    /// process may end meanwhile, so that a pointer may lead anywhere: user space trusts a cgroup only by its unique serial
    /// number, which is read from the same object as the counters. Memory of a `cgroup_subsys_state` that is freed from now on
    /// stays intact until the program ends, because the kernel frees it by RCU.
    #[inline(always)]
    pub(crate) unsafe fn find_others(&mut self, record: *mut u64) {
        let links = plan!(set.links);
        if links == NONE {
            return;
        }
        // SAFETY: as the plan says; reads into local variables, and a bad address gives an error and zeroes.
        unsafe {
            let head = self.primary as usize + links as usize;
            let first: usize = kernel::load(self.primary, links);
            let mut from = 0_usize;
            if first != head {
                read(&raw mut from, 8, first - plan!(set.link) as usize + plan!(set.set) as usize);
            }
            let words = plan!(set.words);
            if words <= SET_WORDS as u32 {
                read(self.set.as_mut_ptr(), 8 * words, from);
            }
            let mut tree = 0;
            while tree < TREES {
                let word = plan!(trees[tree].word);
                if word != NONE {
                    let (pointer, is_cgroup) = (self.word(word), plan!(trees[tree].is_cgroup) != 0);
                    let css = pointer + if is_cgroup { plan!(itself) as usize } else { 0 };
                    let mut cgroup = pointer;
                    let at = css + plan!(cgroup) as usize;
                    if !is_cgroup && css != 0 && plan!(trees[tree].needs_cgroup) != 0 {
                        read(&raw mut cgroup, 8, at);
                    }
                    self.others.as_mut_ptr().cast::<usize>().add(tree).write(cgroup);
                    let known = record.add(OTHER_IDS + 2 * tree);
                    let mut serial = 0_u64;
                    read(&raw mut serial, 8, css + plan!(serial) as usize);
                    if *known.add(1) != serial || serial == 0 {
                        let (mut node, mut id) = (0_usize, 0_u64);
                        if !is_cgroup {
                            read(&raw mut cgroup, 8, at);
                        }
                        read(&raw mut node, 8, cgroup + plan!(id_offsets.kn) as usize);
                        read(&raw mut id, 8, node + plan!(id_offsets.kn_id) as usize);
                        *known = id;
                        *known.add(1) = serial;
                    }
                }
                tree += 1;
            }
        }
    }

    /// Returns a word of the `css_set`.
    #[inline(always)]
    unsafe fn word(&self, index: u32) -> usize {
        if index as usize >= SET_WORDS {
            return 0;
        }
        // SAFETY: in the set, and one of the words that were read, as the plan says; the verifier checks it.
        unsafe { self.set.as_ptr().cast::<usize>().add(index as usize).read() }
    }

    /// Returns the cgroup of another tree than the primary one.
    #[inline(always)]
    unsafe fn other(&self, base: u16) -> usize {
        if base == 0 || base as usize > TREES {
            return 0;
        }
        // SAFETY: one of the trees of the plan, as it says; the verifier checks it.
        unsafe { self.others.as_ptr().cast::<usize>().add(base as usize - 1).read() }
    }

    /// Returns the object that a pointer leads to, 0 where there is none or the controller is not enabled.
    #[inline(always)]
    pub(crate) unsafe fn object(&self, pointer: Pointer) -> usize {
        let at = pointer.at;
        // SAFETY: as the plan says; reads into local variables, and a bad address gives an error and zeroes.
        unsafe {
            let object = match pointer.base {
                IN_SET => self.word(at),
                0 if at == ITSELF => self.primary as usize,
                0 => kernel::load(self.primary, at),
                base => {
                    let mut object = self.other(base);
                    if at != ITSELF && object != 0 {
                        read(&raw mut object, 8, object + at as usize);
                    }
                    object
                }
            };
            if pointer.is_css == 0 || object == 0 {
                return object;
            }
            let mut flags = 0_u32;
            read(&raw mut flags, 4, object + plan!(flags) as usize);
            if flags & VISIBLE == 0 { 0 } else { object }
        }
    }
}
