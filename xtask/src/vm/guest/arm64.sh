#!/bin/busybox sh
# The only program of an emulated arm64 guest, beside busybox and the exporter: makes a container of known work, and compares what the
# exporter says of it with what the kernel's files say. The last line on the console is `verdict: ` and what was found.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tmpfs tmp /tmp
say() { echo "== $*"; }
end() {
    echo "verdict: $*"
    # The console is slow: what is not written yet would be lost.
    sleep 1
    poweroff -f
}
fail() {
    tail -n 30 /tmp/log
    end "not as it should be: $*"
}
uname -srm
ip link set lo up
[ -b /dev/nvme0n1 ] || fail "no disk"

# As systemd and Docker would make it.
id=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
path=/system.slice/docker-$id.scope
box=/sys/fs/cgroup$path
mkdir -p "$box"
for parent in /sys/fs/cgroup /sys/fs/cgroup/system.slice; do
    echo '+cpu +io +memory +pids' >"$parent/cgroup.subtree_control" || fail "no controllers in $parent"
done
inside() { sh -c 'echo 0 >"$0/cgroup.procs" && exec "$@"' "$box" "$@"; }
echo 64M >"$box/memory.max"
inside sleep 1d &

say "start"
exporter --web.listen-address=127.0.0.1:8081 --docker.url=unix:///nonexistent.sock --ebpf=on --collector.ebpf_sched >/tmp/log 2>&1 &
exporter=$!
# An emulated processor may be slow; the host ends what hangs.
until wget -q -O /dev/null http://127.0.0.1:8081/readyz 2>/dev/null; do
    kill -0 "$exporter" || fail "the exporter has ended"
    sleep 1
done
scrape() { wget -q -O /tmp/metrics http://127.0.0.1:8081/metrics || fail "no answer"; }
# The value of a series: the name, and a part of its labels.
value() {
    awk -v name="$1{" -v id="id=\"$path\"" -v part="$2" \
        'index($0, name) == 1 && index($0, id) && (part == "" || index($0, part)) {print $NF; exit}' /tmp/metrics
}
scrape
[ -n "$(value container_last_seen '')" ] || fail "the container is not found"
grep ^docker_stats_exporter_ebpf_program_loaded /tmp/metrics
# The exporter attaches to what it has found.
sleep 2

say "work of known size"
inside ping -q -c 40 -i 0.1 -s 1000 127.0.0.1 || fail "ping"
inside dd if=/dev/zero of=/dev/nvme0n1 bs=4k count=32 oflag=direct 2>/dev/null || fail "dd"
inside sh -c 'for i in $(seq 2000); do :; done; dd if=/dev/zero of=/tmp/anything bs=1M count=8 2>/dev/null'

say "values of a container that stands still"
echo 1 >"$box/cgroup.freeze"
until grep -q 'frozen 1' "$box/cgroup.events"; do sleep 1; done
scrape
known() { sed -n "s/^$2 //p" "$box/$1"; }
micro() { awk -v number="$(known cpu.stat "$1")" 'BEGIN {printf "%.6f", number / 1000000}'; }
# What is expected, how the series is called, and a part of its labels.
wrong=
compare() {
    seen=$(value "$2" "$3")
    echo "$2{$3} $seen, expected $1"
    awk -v a="$1" -v b="$seen" 'BEGIN {exit !(b != "" && a + 0 == b + 0)}' || wrong="$wrong $2{$3}"
}
compare "$(micro usage_usec)" container_cpu_usage_seconds_total ''
compare "$(micro user_usec)" container_cpu_user_seconds_total ''
compare "$(micro system_usec)" container_cpu_system_seconds_total ''
compare "$(cat "$box/memory.current")" container_memory_usage_bytes ''
compare "$(known memory.stat anon)" container_memory_rss ''
compare "$(known memory.stat file)" container_memory_cache ''
compare 67108864 container_spec_memory_limit_bytes ''
compare "$(cat "$box/pids.current")" container_threads ''
# Data and the heads of ICMP and IP.
compare 40 container_ebpf_network_transmit_packets_total 'family="ipv4"'
compare $((40 * (1000 + 8 + 20))) container_ebpf_network_transmit_bytes_total 'family="ipv4"'
compare 32 container_blkio_latency_seconds_count 'operation="write"'
compare $((32 * 4096)) container_fs_writes_bytes_total nvme0n1
compare 1 container_tasks_state 'state="sleeping"'
waits=$(value container_runqueue_latency_seconds_count '')
echo "container_runqueue_latency_seconds_count $waits"
[ "${waits:-0}" -gt 0 ] || wrong="$wrong container_runqueue_latency_seconds_count"
refused=$(grep '^docker_stats_exporter_ebpf_program_loaded.* 0$' /tmp/metrics)
[ -z "$refused" ] || wrong="$wrong $refused"
[ -z "$wrong" ] || fail "$wrong"
kill "$exporter"
wait "$exporter" || fail "the exporter ended with $?"
end "all as it should be"
