#!/bin/sh
# In the guest: tells the host when Docker is ready, waits for the archive that holds a command, runs it as root, and
# gives back its output, its files and its exit status.
#
#   vda the root   vdb the archive from the host   vdc the archive for the host   vdd /data, an empty disk
#   hvc0 a terminal   ports: `output` the command's output, `status` one word a line on how far this is
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8

# The file of the port with this name.
port() {
    for entry in /sys/class/virtio-ports/*; do
        if [ "$(cat "$entry/name" 2>/dev/null)" = "$1" ]; then echo "/dev/${entry##*/}"; fi
    done
}

modprobe virtio_console
until status=$(port status) && [ -c "$status" ]; do sleep 0.2; done
output=$(port output)
until docker version >/dev/null 2>&1; do sleep 0.5; done
sync
echo ready >"$status"

# The archive is there from the beginning, or comes when the host wakes a saved guest.
until dd if=/dev/vdb iflag=direct bs=4096 count=1 2>/dev/null | grep -q ustar; do sleep 0.2; done
mount /dev/vdd /data
dd if=/dev/vdb iflag=direct bs=1M 2>/dev/null | tar --extract --preserve-permissions --directory=/in
date --set="@$(cat /in/.guest/time)" >/dev/null
hwclock --systohc 2>/dev/null
echo started >"$status"
cd /in
if [ -e /in/.guest/terminal ]; then
    # shellcheck disable=SC2094
    setsid --wait --ctty sh /in/.guest/command </dev/hvc0 >/dev/hvc0 2>&1
else
    sh /in/.guest/command >"$output" 2>&1 </dev/null
fi
code=$?
tar --create --blocking-factor=512 --file=/dev/vdc --directory=/out .
sync
echo "ended $code" >"$status"
echo o >/proc/sysrq-trigger
sleep 60
