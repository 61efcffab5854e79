#!/bin/sh
# Debian: `configure` and the version before, if any. rpm: 1 on installation, 2 on upgrade.
set -e
unit=docker-stats-exporter.service

# What the administrator forbids by policy-rc.d is not started.
run() {
    if command -v deb-systemd-invoke >/dev/null; then deb-systemd-invoke "$@"; else systemctl "$@"; fi ||
        echo "$unit: $1 failed, see: journalctl --unit=$unit" >&2
}

case "$1 ${2:-}" in
    "configure ") action=start ;;
    "configure "* | "2 "*) action=try-restart ;;
    "1 "*) action= ;;
    *) exit 0 ;;
esac
if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers docker-stats-exporter.conf
elif ! getent group docker >/dev/null; then
    groupadd --system docker
fi
command -v systemctl >/dev/null || exit 0
# Debian starts what it installs; rpm systems leave that to the administrator and his presets. Both also without a running systemd,
# when an image is built.
case "$action" in
    start) systemctl enable "$unit" ;;
    '') systemctl preset "$unit" ;;
esac
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    if [ -n "$action" ]; then run "$action" "$unit"; fi
fi
