# In the guest, after NAME: starts containers that are configured differently and have done something, and captures them
# into /out/NAME with the xtask in /in/bin.
set -eu
app=shop/app:1.4

mkdir -p /tmp/app/bin /tmp/app/tmp /tmp/app/data
for applet in $(/bin/busybox --list); do ln -sf busybox "/tmp/app/bin/$applet"; done
# One of its applets has its own name.
cp --remove-destination /bin/busybox /tmp/app/bin/busybox
tar -C /tmp/app -c . | docker import --change 'ENV PATH=/bin' --change 'CMD ["sleep", "1d"]' - "$app" >/dev/null

start() {
    name=$1
    shift
    docker run --detach --name "$name" "$@" >/dev/null
}
cgroup() { sed -n 's#^0::#/sys/fs/cgroup#p' "/proc/$(docker inspect --format '{{.State.Pid}}' "$1")/cgroup"; }

start migrate "$app" sh -c 'exit 3'
# Killed as a whole, by the kernel, for its memory.
start importer --memory=24m --memory-swap=24m "$app" dd if=/dev/zero of=/dev/null bs=60M count=1
start queue --label com.docker.compose.project=shop --label com.docker.compose.service=queue "$app" \
    sh -c 'nc -l -p 9000 >/dev/null; sleep 1d'
start queue-sidecar --network=container:queue "$app"
start metrics-agent --network=host "$app"
# Throttled: more work than a quarter of a processor does.
start web --memory=64m --memory-swap=128m --memory-reservation=32m --cpus=0.25 --cpu-shares=512 \
    --label com.docker.compose.project=shop --label com.docker.compose.service=web \
    --label com.docker.compose.container-number=1 "$app" \
    sh -c 'timeout 8 sh -c "while :; do :; done"; sleep 1d'
echo 20000 >"$(cgroup web)/cpu.max.burst"
# One of its processes is killed for its memory; what it has in files stays.
start cache --memory=32m --memory-swap=32m --shm-size=16m --restart=on-failure "$app" \
    sh -c 'dd if=/dev/zero of=/dev/shm/warm bs=1M count=8; dd if=/dev/zero of=/dev/null bs=60M count=1; sleep 1d'
start batch "$app" sh -c 'sleep 1d & sleep 1d & wait'
docker pause batch >/dev/null
# For a second more processes than it may have; then there is room for the health check, whose start takes several.
start audit --read-only --pids-limit=16 --health-cmd=true --health-interval=1s "$app" \
    sh -c 'for i in 1 2 3; do sleep 1d & done; sh -c "for i in \$(seq 20); do sleep 1 & done"; wait'
# Past the page cache and through it, on a disk of its own; then it gives the blocks back.
start writer --cgroup-parent=jobs.slice --cap-add=SYS_ADMIN --volume /data:/data \
    --device-write-bps=/dev/vdd:1073741824 "$app" \
    sh -c 'dd if=/dev/zero of=/data/direct bs=256k count=32 oflag=direct; dd if=/data/direct of=/dev/null bs=256k iflag=direct;
        dd if=/dev/zero of=/data/buffered bs=1M count=4 conv=fsync; rm /data/direct; sync; fstrim /data; sleep 1d'

address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' queue)
docker exec web sh -c "head -c 300000 /dev/zero | timeout 60 nc $address 9000 || true"
until docker inspect --format '{{.State.Health.Status}}' audit | grep -q '^healthy'; do sleep 1; done
until [ "$(docker exec writer sh -c 'ls /data/direct 2>/dev/null | wc -l; pidof fstrim | wc -w' | tr -d '\n')" = 00 ]; do sleep 1; done
sleep 10
docker ps --all --format '{{.Names}}: {{.Status}}'
/in/bin/xtask capture --name "$NAME" --output /out
