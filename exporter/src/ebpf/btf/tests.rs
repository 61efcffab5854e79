//! Tests with the types of the running kernel, damaged ones, and types made by hand.

use std::fs;
use std::path::Path;

use aya::BtfError;
use aya_obj::btf::BtfKind;

use super::{Error, Kind, Types, single_type};

const KERNEL: &str = "/sys/kernel/btf/vmlinux";

/// Returns the running kernel's types; none if it has no BTF.
fn kernel() -> Option<Types> {
    Path::new(KERNEL).exists().then(|| Types::read(Path::new(KERNEL)).unwrap())
}

#[test]
fn the_running_kernel_s_types_tell_offsets() {
    let Some(types) = kernel() else { return };
    // Fixed by the kernel's user interface: these structures are part of it.
    assert_eq!(types.offset("iphdr", "daddr"), Some(16));
    assert_eq!(types.offset("timespec64", "tv_nsec"), Some(8));
    // A member of a member, and one of an unnamed union.
    let data = types.offset("sock", "sk_cgrp_data").unwrap();
    assert_eq!(types.offset("sock", "sk_cgrp_data.cgroup"), Some(data));
    assert!(types.offset("sk_buff", "sk").is_some());
    assert_eq!(types.offset("sock", "no_such_member"), None);
    assert_eq!(types.offset("no_such_structure", "kn"), None);
}

#[test]
fn the_running_kernel_s_types_have_names_numbers_and_lengths() {
    let Some(types) = kernel() else { return };
    assert!(types.id(Kind::Typedef, "btf_trace_sched_switch").is_some());
    assert!(types.id(Kind::Struct, "task_struct").is_some());
    assert_ne!(types.id(Kind::Struct, "cgroup"), types.id(Kind::Enumeration, "cgroup_subsys_id"));
    assert_eq!(types.id(Kind::Function, "btf_trace_sched_switch"), None);
    // Not one of those that are indexed.
    assert_eq!(types.id(Kind::Typedef, "size_t"), None);

    assert_eq!(types.enumerator("bpf_map_type", "BPF_MAP_TYPE_UNSPEC"), Some(0));
    assert_eq!(types.enumerator("bpf_map_type", "BPF_MAP_TYPE_ARRAY"), Some(2));
    assert_eq!(types.enumerator("bpf_map_type", "NO_SUCH_MAP_TYPE"), None);
    assert_eq!(types.enumerator("no_such_enumeration", "BPF_MAP_TYPE_ARRAY"), None);
}

#[test]
fn damaged_types_are_refused_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("types");
    let of = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Types::read(&path)
    };
    assert!(matches!(of(b"\x9f\xeb"), Err(Error::Odd { .. })));
    assert!(matches!(of(&[0x9f; 64]), Err(Error::Odd { .. })));
    let Ok(whole) = fs::read(KERNEL) else { return };
    assert!(of(whole.get(2..4096).unwrap()).is_err());
    // Without their end, types have no names.
    for cut in [4, 23, 24, 100, whole.len() / 3] {
        assert!(of(whole.get(..cut).unwrap()).is_err(), "{cut} bytes");
    }
    // Any other damage may give other numbers, and must end.
    for from in (0..whole.len()).step_by(whole.len() / 5) {
        let mut damaged = whole.clone();
        damaged.iter_mut().skip(from).step_by(97).for_each(|byte| *byte ^= 0xff);
        if let Ok(types) = of(&damaged) {
            types.offset("sock", "sk_cgrp_data.cgroup");
            types.enumerator("bpf_map_type", "BPF_MAP_TYPE_ARRAY");
        }
    }
}

/// Structures in one file, made by hand: what a kernel has none of, or not every kernel.
#[test]
fn negative_and_long_numbers_and_types_that_hold_themselves() {
    let strings = b"\0many\0LEAST\0wide\0MOST\0FIRST\0ring\0";
    let offset =
        |name: &[u8]| u32::try_from(strings.windows(name.len()).position(|found| found == name).unwrap()).unwrap();
    let types: Vec<u32> = [
        // An enumeration of signed numbers.
        [offset(b"many"), (1 << 31) | (6 << 24) | 1, 4, offset(b"LEAST"), (-7_i32).cast_unsigned()].as_slice(),
        // One of 64 bits.
        &[offset(b"wide"), (19 << 24) | 1, 8, offset(b"MOST"), 5, 1],
        // One without a name.
        &[0, (6 << 24) | 1, 4, offset(b"FIRST"), 8],
        // A structure whose only member is itself, without a name; and a typedef of itself.
        &[offset(b"ring"), (4 << 24) | 1, 8, 0, 3, 0],
        &[offset(b"ring"), 8 << 24, 4],
    ]
    .concat();
    let length = u32::try_from(4 * types.len()).unwrap();
    let header = [u32::from_ne_bytes([0, 0, 1, 0]), 24, 0, length, length, u32::try_from(strings.len()).unwrap()];
    let mut bytes: Vec<u8> = header.into_iter().chain(types).flat_map(u32::to_ne_bytes).collect();
    bytes.splice(..2, 0xeb9f_u16.to_ne_bytes());
    bytes.extend(strings);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("types");
    fs::write(&path, bytes).unwrap();

    let types = Types::read(&path).unwrap();
    assert_eq!(types.enumerator("many", "LEAST"), Some(-7));
    assert_eq!(types.enumerator("wide", "MOST"), Some(0x1_0000_0005));
    assert_eq!(types.unnamed_enumerator("FIRST", "FIRST"), Some(8));
    assert_eq!(types.unnamed_enumerator("LEAST", "LEAST"), None, "it has a name");
    assert_eq!(types.offset("ring", "member"), None);
}

#[test]
fn the_one_type_is_found_at_its_place_and_no_other() {
    for (kind, describe) in [(Kind::Typedef, BtfKind::Typedef), (Kind::Function, BtfKind::Func)] {
        let types = single_type(1234, "btf_trace_sched_switch", kind).unwrap();
        assert_eq!(types.id_by_type_name_kind("btf_trace_sched_switch", describe).unwrap(), 1234);
        assert!(matches!(
            types.id_by_type_name_kind("btf_trace_other", describe),
            Err(BtfError::UnknownBtfTypeName { .. })
        ));
    }
}
