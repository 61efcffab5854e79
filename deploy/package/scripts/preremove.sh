#!/bin/sh
# Debian: `remove`, or `upgrade`, where the new package restarts the service. rpm: 0 when the last version goes, 1 on upgrade.
set -e
case "$1" in remove | 0) ;; *) exit 0 ;; esac
command -v systemctl >/dev/null || exit 0
for unit in docker-stats-exporter.socket docker-stats-exporter.service; do
    if [ -d /run/systemd/system ]; then systemctl stop "$unit"; fi
    systemctl disable "$unit"
done
