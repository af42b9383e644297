#!/bin/sh
# Runs a test against a cluster of its own: three nodes on loopback and two mounts.
#
#   run.sh SECONDS TEST [ARG]...
#
# The test finds in its environment: A and B (mountpoints; A's node leads at the
# start), KVFS, KVNODE (programs), KVNODE_DEV_DIR, KVNODE_SOCKET_DIR, NODES (the
# leader first), WORK (an empty folder on an ordinary file system).
#
# A watchdog aborts the mounts' connections when the time is up: a request that
# hangs would block sync(2) on the whole machine.
set -eu

limit=$1
shift
: "${KVNODE:?}" "${KVFS:?}"
skip() {
    [ -z "${CI:-}" ] || { echo "Bail out! $*"; exit 1; } # there it must be possible
    echo "1..0 # SKIP $*"
    exit 0
}
[ -w /dev/fuse ] || skip "/dev/fuse is missing or not for this user"
[ "$(id -u)" = 0 ] || command -v fusermount3 >/dev/null || skip "neither root nor fusermount3"
command -v sshd >/dev/null || [ -x /usr/sbin/sshd ] || skip "sshd is not installed"

base=$(mktemp -d "${TMPDIR:-/tmp}/kvfs-mount.XXXXXX")
export BASE="$base"
export KVNODE_DEV_DIR="$base/run" KVNODE_SOCKET_DIR="$base/run/sock"
export A="$base/a" B="$base/b" WORK="$base/work"
unset KVNODE_NODE KVNODE_CONFIG KVNODE_CONFIG_DIR
# A turn of a node's loop that takes longer is an error in its log, and fails the test (kvnode/loop/turn.h).
export KVFS_TURN_LIMIT_MS="${KVFS_TURN_LIMIT_MS:-40}"
mkdir "$A" "$B" "$WORK" "$base/run"

# What hangs is freed: connections of this test's mounts, by their device numbers.
fusectl=/sys/fs/fuse/connections
[ "$(id -u)" != 0 ] || [ ! -d $fusectl ] || mountpoint -q $fusectl || mount -t fusectl none $fusectl || true
abort_mounts() {
    awk -v base="$base/" 'index($5, base) == 1 && / fuse.kvfs / { sub(".*:", "", $3); print $3 }' /proc/self/mountinfo |
        while read -r id; do
            [ ! -e "$fusectl/$id/abort" ] || echo 1 >"$fusectl/$id/abort"
        done
}

watchdog=''
finish() {
    status=$?
    trap - EXIT INT TERM
    cd /
    if [ "$status" != 0 ]; then
        for log in "$base"/*.log; do
            [ ! -s "$log" ] || { echo "# --- $log"; tail -n 20 "$log" | sed 's/^/# /'; } >&2
        done
    fi
    for m in "$base"/[a-z] "$base"/m[0-9]; do
        if awk -v m="$m" '$5 == m { f = 1 } END { exit !f }' /proc/self/mountinfo; then
            timeout 10 umount "$m" 2>/dev/null || timeout 10 fusermount3 -u -z "$m" 2>/dev/null ||
                timeout 10 umount -l "$m" || abort_mounts
        fi
    done
    timeout 40 "$KVNODE" dev down >"$base/down.log" 2>&1 || cat "$base/down.log" >&2
    if grep -h ' error: a turn of the loop ' "$base"/run/n*/log >"$base/held_up" 2>/dev/null; then
        { echo "# a node's loop was held up:"; head -n 20 "$base/held_up" | sed 's/^/# /'; } >&2
        status=1
    fi
    [ -z "$watchdog" ] || kill "$watchdog" 2>/dev/null || true
    if [ -n "${KEEP:-}" ]; then echo "# kept: $base" >&2; else rm -rf "$base"; fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# shellcheck disable=SC2064
(trap 'kill "$pause" 2>/dev/null; exit 0' TERM
    sleep "$limit" & pause=$!
    wait "$pause"
    echo "# watchdog: $limit s are over, the mounts are aborted" >&2
    abort_mounts) &
watchdog=$!

timeout 60 "$KVNODE" dev up 3 >"$base/up.log" 2>&1
leader=$(grep -o '[a-z0-9]* (leader)' "$base/up.log" | cut -d' ' -f1)
NODES=$leader
for n in n1 n2 n3; do
    [ "$n" = "$leader" ] || NODES=$NODES,$n
done
export NODES LEADER="$leader"
second=${NODES#*,}
timeout 20 "$KVFS" "$NODES" "$A" -o log="$base/a.log"
timeout 20 "$KVFS" "$second,$leader" "$B" -o log="$base/b.log"
cd "$WORK"
timeout "$((limit + 5))" "$@"
