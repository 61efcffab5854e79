# In the guest, with the packages of two versions in /in: installs, upgrades, removes and purges them under systemd, and lists what is left.
# Ends at the first thing that is not as it should be.
set -eu
unit=docker-stats-exporter.service
say() { echo "== $* (after $(cut -d' ' -f1 /proc/uptime) s)"; }
fail() { echo "not as it should be: $*"; systemctl status --no-pager --full "$unit" || true; exit 1; }
get() { busybox wget -q -O - "http://127.0.0.1:$1"; }
# Until a command succeeds: this processor may be emulated.
await() {
    for _ in $(seq 120); do if "$@" >/dev/null 2>&1; then return 0; fi; sleep 0.5; done
    fail "$* did not succeed within a minute"
}
# Files, units, users and groups of the system; not what changes by itself.
inventory() {
    find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /in -o -path /out -o -path /data -o -path /root \
        -o -path /var/log -o -path /var/cache -o -path /var/lib/docker -o -path /var/lib/containerd -o -path /var/lib/dpkg \
        -o -path /var/lib/rpm -o -path /var/tmp -o -path /var/lib/systemd \) -prune -o -print
    # On a busy machine systemd may answer too late.
    until systemctl list-unit-files --no-legend --no-pager >/tmp/units; do sleep 1; done
    awk '{print "unit " $1 " " $2}' /tmp/units
    getent passwd
    getent group
}
series() { get "$1/metrics" | grep -E '^(container|machine)_' | sed 's/ [^ ]*$//' | LC_ALL=C sort; }
same_series() {
    series 8081 >/tmp/unit.series
    series 8082 >/tmp/root.series
    cmp -s /tmp/unit.series /tmp/root.series
}

systemctl --version | head -n 1
mkdir -p /tmp/app/bin
for applet in sh sleep dd; do cp /bin/busybox "/tmp/app/bin/$applet"; done
tar -C /tmp/app -c . | docker import --change 'CMD ["/bin/sleep", "1d"]' - app >/dev/null
docker run --detach --name web --memory=64m --cpus=0.5 app >/dev/null
docker run --detach --name batch --network=host app >/dev/null
# Before the first list: its own directories and state.
systemd-run --quiet --wait --property=DynamicUser=yes true
inventory | LC_ALL=C sort >/tmp/before

say "the unit by systemd's own tools"
deb=$(ls /in/docker-stats-exporter_*_amd64.deb | head -n 1)
dpkg --unpack "$deb" >/dev/null
# The manual page is left out of this image.
systemd-analyze verify --man=no /usr/lib/systemd/system/docker-stats-exporter.service /usr/lib/systemd/system/docker-stats-exporter.socket
systemd-analyze security --offline=true --threshold=25 /usr/lib/systemd/system/docker-stats-exporter.service | tail -n 1
dpkg --purge docker-stats-exporter >/dev/null

say "install"
dpkg --install "$deb"
[ "$(systemctl is-active "$unit")" = active ] || fail "it does not run after the installation"
[ "$(systemctl is-enabled "$unit")" = enabled ] || fail "it is not enabled after the installation"
await get 8081/readyz
pid=$(systemctl show --property=MainPID --value "$unit")
grep -E '^(Uid|NoNewPrivs|Seccomp|Cap(Eff|Bnd))' "/proc/$pid/status"
[ "$(stat -c %U "/proc/$pid")" != root ] || fail "it runs as root"
get 8081/metrics | grep -E '^docker_stats_exporter_(docker_up|sandbox|containers|ebpf_program_loaded)' | tee /tmp/own
if grep 'sandbox.* 0$' /tmp/own; then fail "the unit takes what the exporter confines itself with"; fi

say "the metrics of the unit are those that root sees"
docker-stats-exporter --web.listen-address=127.0.0.1:8082 >/tmp/root.log 2>&1 &
root=$!
await get 8082/readyz
if ! (await same_series); then
    diff /tmp/unit.series /tmp/root.series | head -n 40
    fail "series of the unit (<) and of root (>) differ"
fi
echo "$(wc -l </tmp/unit.series) series of $(cut -d'{' -f1 /tmp/unit.series | uniq | wc -l) families, the same in both"
kill "$root"
wait "$root" || fail "root's exporter ended with $?"

say "a changed environment file"
sed -i 's/^OPTIONS=.*/OPTIONS="--web.listen-address=127.0.0.1:9081 --collector.disk"/' /etc/default/docker-stats-exporter
systemctl restart "$unit"
await get 9081/readyz
cp /etc/default/docker-stats-exporter /tmp/changed

say "a faulty environment file"
echo 'OPTIONS="--no-such-flag --ebpf=maybe"' >/etc/default/docker-stats-exporter
if systemctl restart "$unit"; then fail "it starts with faulty flags"; fi
sleep 5
[ "$(systemctl show --property=NRestarts --value "$unit")" = 0 ] || fail "it is started again and again"
[ "$(systemctl show --property=ExecMainStatus --value "$unit")" = 2 ] || fail "its status is not 2"
journalctl --quiet --no-pager --output=cat --unit="$unit" --since=-1min | grep -E -- '--no-such-flag|--ebpf' >/tmp/errors || fail "no errors in the journal"
cat /tmp/errors
grep -q -- --no-such-flag /tmp/errors && grep -q -- --ebpf /tmp/errors || fail "not all errors are in the journal"
cp /tmp/changed /etc/default/docker-stats-exporter
systemctl restart "$unit"

say "upgrade"
before=$(systemctl show --property=MainPID --value "$unit")
dpkg --force-confold --install /in/next/docker-stats-exporter_*_amd64.deb
cmp /tmp/changed /etc/default/docker-stats-exporter || fail "the changed environment file is lost"
[ -e /etc/default/docker-stats-exporter.dpkg-dist ] || fail "the new environment file is not beside it"
await get 9081/readyz
[ "$(systemctl show --property=MainPID --value "$unit")" != "$before" ] || fail "the old program still runs"
systemctl disable --now --quiet "$unit"
dpkg --force-confold --install /in/next/docker-stats-exporter_*_amd64.deb >/dev/null
[ "$(systemctl is-active "$unit")" = inactive ] || fail "an upgrade starts what the administrator has stopped"
[ "$(systemctl is-enabled "$unit")" = disabled ] || fail "an upgrade enables what the administrator has disabled"
systemctl enable --now --quiet "$unit"

say "remove and purge"
dpkg --remove docker-stats-exporter >/dev/null
[ "$(systemctl is-active "$unit")" != active ] || fail "it runs after its removal"
cmp /tmp/changed /etc/default/docker-stats-exporter || fail "the environment file went with the program"
dpkg --purge docker-stats-exporter >/dev/null
rm -f /etc/default/docker-stats-exporter.dpkg-dist
inventory | LC_ALL=C sort >/tmp/after
diff /tmp/before /tmp/after || fail "that is left, or lost"
echo "files, units, users and groups are those of before"

if command -v rpm >/dev/null; then
    rpm() { command rpm --dbpath /tmp/rpmdb "$@"; }
    rpm --initdb
    say "rpm: install"
    rpm --install --nodeps /in/docker-stats-exporter-*.x86_64.rpm
    systemctl start "$unit"
    await get 8081/readyz
    say "rpm: upgrade"
    sed -i 's/^OPTIONS=.*/OPTIONS="--web.listen-address=127.0.0.1:9081"/' /etc/sysconfig/docker-stats-exporter
    cp /etc/sysconfig/docker-stats-exporter /tmp/changed
    rpm --upgrade --nodeps /in/next/docker-stats-exporter-*.x86_64.rpm
    cmp /tmp/changed /etc/sysconfig/docker-stats-exporter || fail "the changed environment file is lost"
    [ -e /etc/sysconfig/docker-stats-exporter.rpmnew ] || fail "the new environment file is not beside it"
    await get 9081/readyz
    say "rpm: erase"
    rpm --erase docker-stats-exporter
    [ -e /etc/sysconfig/docker-stats-exporter.rpmsave ] || fail "the changed environment file is lost"
    rm -f /etc/sysconfig/docker-stats-exporter.rpm*
    rmdir /etc/sysconfig 2>/dev/null || true
    inventory | LC_ALL=C sort >/tmp/after
    diff /tmp/before /tmp/after || fail "that is left, or lost"
    echo "files, units, users and groups are those of before"
fi
say "all as it should be"
