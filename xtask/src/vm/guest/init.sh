#!/bin/busybox sh
# The initrd's only program: finds the disk and starts the guest's own init. With `probe` on the kernel's command line
# it says that user space runs here, and ends; so the host learns whether its hypervisor is good for this kernel.
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
if /bin/busybox grep -qw probe /proc/cmdline; then
    echo 'user space runs' >/dev/ttyS0
    exec /bin/busybox reboot -f
fi
while read -r module; do /bin/busybox insmod "$module"; done </modules
until [ -b /dev/vda ]; do /bin/busybox sleep 0.05; done
/bin/busybox mount -t ext4 -o noatime /dev/vda /newroot
/bin/busybox umount /proc
/bin/busybox mount --move /dev /newroot/dev
exec /bin/busybox switch_root /newroot /sbin/init
