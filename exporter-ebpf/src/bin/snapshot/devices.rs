//! Block I/O of v2.

use exporter_ebpf::snapshot::{DEVICES, Devices, HAS_DEVICES};

use crate::cgroups::Cgroups;
use crate::plan::{plan, pointer};
use crate::read;

/// Copies the I/O of each device that the cgroup has used.
#[inline(always)]
pub(crate) unsafe fn copy_devices(cgroups: &Cgroups, devices: *mut Devices) -> u64 {
    // SAFETY: as the plan says; reads no more than the targets hold, and a bad address gives an error and zeroes.
    unsafe {
        let object = cgroups.object(pointer!(devices));
        if object == 0 {
            return 0;
        }
        let mut node = 0_usize;
        read(&raw mut node, 8, object + plan!(devices.list) as usize);
        let (mut used, mut seen) = (0_usize, 0);
        // Skips devices that are going away, as the file does.
        while node != 0 && used < DEVICES && seen < 2 * DEVICES {
            seen += 1;
            let group = node - plan!(devices.node) as usize;
            let mut online = 0_u8;
            read(&raw mut online, 1, group + plan!(devices.online) as usize);
            if online != 0 {
                let device = &raw mut (*devices).devices[used];
                (*device).number = number(group);
                read(&raw mut (*device).bytes, 48, group + plan!(devices.counters) as usize);
                used += 1;
            }
            read(&raw mut node, 8, node);
        }
        // One above the capacity means that there are more devices than fit.
        (*devices).used = if node == 0 { used as u64 } else { DEVICES as u64 + 1 };
        HAS_DEVICES
    }
}

/// Returns the device number of a `blkcg_gq`, 0 where its device is gone.
#[inline(always)]
unsafe fn number(group: usize) -> u64 {
    let (mut queue, mut disk, mut major, mut minor) = (0_usize, 0_usize, 0_u32, 0_u32);
    // SAFETY: reads into local variables; a bad address gives an error and zeroes.
    unsafe {
        read(&raw mut queue, 8, group + plan!(devices.queue) as usize);
        read(&raw mut disk, 8, queue + plan!(devices.disk) as usize);
        read(&raw mut major, 4, disk + plan!(devices.major) as usize);
        read(&raw mut minor, 4, disk + plan!(devices.minor) as usize);
    }
    u64::from(major) << 32 | u64::from(minor)
}
