#!/bin/sh
# Makes a guest's image from distribution packages: kernel, a small initrd, and file systems without a partition table
# or a boot loader. `cargo xtask vm` runs it as root on the host, in an empty directory, which it fills:
#
#   vmlinuz initrd root.ext4 data.ext4
#
# Environment: SUITE, MIRROR (or empty), PACKAGES (comma-separated), KERNEL (a package), GUEST (directory with agent.sh, agent.service,
# init.sh), APT_OPTIONS (for apt.conf, one a line).
set -eu

root=$PWD/root

# The kernel is unpacked, not installed: no initramfs tools, no boot loader. Its modules are a package of their own in newer
# suites, so all that it depends on is fetched, and what is of the kernel is taken. In older suites it lies in /lib, which is a
# link to be kept (hence tar, and the hook, which makes it in time). A frozen mirror may serve a Release file of
# a testing suite that has expired.
set -- --quiet --mode=root --variant=minbase --include="$PACKAGES" \
    --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    --aptopt='Acquire::Retries "3"' \
    --hook-directory=/usr/share/mmdebstrap/hooks/maybe-merged-usr \
    --dpkgopt='force-unsafe-io' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='chroot "$1" apt-get -qq --yes --download-only --option=APT::Keep-Downloaded-Packages=true install '"$KERNEL" \
    --customize-hook='for package in "$1"/var/cache/apt/archives/linux-*.deb; do dpkg-deb --fsys-tarfile "$package" | tar --extract --keep-directory-symlink --directory="$1" && rm "$package" || exit 1; done'
old_ifs=$IFS
IFS='
'
for option in ${APT_OPTIONS:-}; do set -- "$@" --aptopt="$option"; done
IFS=$old_ifs
mmdebstrap "$@" "$SUITE" "$root" ${MIRROR:+"deb $MIRROR $SUITE main"}

release=$(ls "$root/usr/lib/modules")
# xz is slow under emulation: modules that are not compressed load several times faster.
find "$root/usr/lib/modules" -name '*.ko.xz' -exec xz --decompress --threads=2 {} +
chroot "$root" depmod "$release"

# Nothing of this machine's package sources stays in the image.
rm -rf "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/* "$root"/etc/apt/apt.conf.d/99mmdebstrap \
    "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/apt "$root"/var/log/*.log "$root"/etc/resolv.conf
echo guest >"$root/etc/hostname"
printf '127.0.0.1 localhost guest\n' >"$root/etc/hosts"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
: >"$root/etc/fstab"
mkdir -p "$root/in" "$root/out" "$root/data"

# What would wake up in the middle of a test, or wait for what this guest does not have.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer \
    systemd-tmpfiles-clean.timer getty.target getty@.service serial-getty@.service systemd-timesyncd.service \
    systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-firstboot.service systemd-pstore.service \
    podman.service podman-auto-update.timer podman-restart.service prometheus.service \
    networking.service systemd-networkd-wait-online.service; do
    ln -sfn /dev/null "$root/etc/systemd/system/$unit"
done
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/guest.conf"
install -m 755 "$GUEST/agent.sh" "$root/usr/local/sbin/guest-agent"
install -m 644 "$GUEST/agent.service" "$root/etc/systemd/system/guest-agent.service"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sfn ../guest-agent.service "$root/etc/systemd/system/multi-user.target.wants/guest-agent.service"

# What the kernel for clouds needs to mount the disk, in the order of loading: it is built in more or less, by version.
mv "$(find "$root/boot" "$root/usr/lib/modules" -name 'vmlinuz*' | head -n 1)" vmlinuz
rm -rf "$root"/boot/*
initrd=$root/tmp/initrd
mkdir -p "$initrd/bin" "$initrd/dev" "$initrd/proc" "$initrd/newroot"
cp "$root/bin/busybox" "$initrd/bin/"
for driver in virtio_pci virtio_blk ext4; do
    chroot "$root" modprobe --show-depends --set-version "$release" "$driver" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
done | awk '!seen[$0]++' | while read -r module; do
    cp "$root$module" "$initrd/"
    echo "/${module##*/}" >>"$initrd/modules"
done
install -m 755 "$GUEST/init.sh" "$initrd/init"
chroot "$root" sh -c 'cd /tmp/initrd && find . | busybox cpio -o -H newc 2>/dev/null' >initrd
rm -rf "$initrd"

truncate --size=6G root.ext4
mke2fs -q -t ext4 -O ^has_journal -E lazy_itable_init=1 -m 0 -d "$root" root.ext4
truncate --size=2G data.ext4
mke2fs -q -t ext4 -E lazy_itable_init=1 -m 0 data.ext4
rm -rf "$root"
