#!/bin/sh
# How a mount comes to be: waiting for nodes, what is there already, options.
set -u
# shellcheck source=/dev/null
. "$(dirname "$0")/lib.sh"
M=$BASE/m1
mkdir "$M"

# mounts_on DIRECTORY: how many of kvfs are there
mounts_on() { awk -v m="$1" '$5 == m && / - fuse.kvfs / { n++ } END { print n + 0 }' /proc/self/mountinfo; }
is_mounted() { [ "$(mounts_on "$M")" = 1 ]; }
are_free() { [ "$(mounts_on "$M") $(mounts_on "$BASE/m2") $(mounts_on "$BASE/m3")" = "0 0 0" ]; }
says() { grep -q "$2" "$1"; }

# What is there already
fails_with "a directory is mounted on once" "mounted already" timeout 20 "$KVFS" "$NODES" "$A"
ln -s "$A" "$WORK/link"
fails_with "by another name too" "mounted already" timeout 20 "$KVFS" "$NODES" "$WORK/link"
fails_with "and by a relative one" "mounted already" sh -c 'cd "$BASE" && timeout 20 "$KVFS" "$NODES" a/'
is "nothing was put on it" "1" "$(mounts_on "$A")"
succeeds "what was there works on" sh -c 'echo x >"$A/x"'

"$KVFS" -f "$NODES" "$M" 2>"$BASE/f.log" &
pid=$!
succeeds "a mount in the foreground" within 20 is_mounted
ls -l "$M" >/dev/null
kill -KILL "$pid"
wait "$pid" 2>/dev/null
is "a mount whose process was killed is there" "1" "$(mounts_on "$M")"
succeeds "a dead one is replaced" timeout 20 "$KVFS" "$NODES" "$M"
is "not covered" "1" "$(mounts_on "$M")"
is "by one that works" "x" "$(cat "$M/x")"

# Options
if [ "$(id -u)" = 0 ]; then
    succeeds "remounted read-only" "$KVFS" "$NODES" "$M" -o remount,ro
    fails_with "it is" "Read-only" touch "$M/y"
    succeeds "and read-write" "$KVFS" "$NODES" "$M" -o remount,rw
    succeeds "it is, too" touch "$M/y"
fi
is "still once" "1" "$(mounts_on "$M")"
umount "$M"
fails_with "what is not mounted is not remounted" "not mounted" "$KVFS" "$NODES" "$M" -o remount
cd "$WORK" || exit 1
succeeds "options of mount(8)" timeout 20 "$KVFS" "$NODES" "$M" \
    -o rw,relatime,nodiratime,strictatime,noatime,lazytime,async,log=here.log \
    -o x-systemd.requires=kvnode@n1.service,x-gvfs-hide,X-mount.mkdir,user=root,comment=x,_netdev,nofail
is "the log is where it was said from" "yes" "$([ -e here.log ] && echo yes)"
umount "$M"
fails_with "others are refused" "unknown option" timeout 20 "$KVFS" "$NODES" "$M" -o relatimes
fails_with "a time is a time" "a time was expected" timeout 20 "$KVFS" "$NODES" "$M" -o retry=soon

# One of three nodes
echo one >"$A/rl"
echo two >"$A/rl"
mkdir "$BASE/m2" "$BASE/m3"
for n in n1 n2 n3; do [ "$n" = "$LEADER" ] || dev kill "$n"; done
succeeds "without a majority, read=local mounts" timeout 20 "$KVFS" "$LEADER" "$BASE/m2" -o read=local
is "shows what the node has" "two" "$(cat "$BASE/m2/rl")"
is "lists" "yes" "$(ls "$BASE/m2" | grep -qx rl && echo yes)"
is "versions, too" "one" "$(cat "$BASE/m2/.versions/rl/1")"
is "and lists them" "1 2" "$(versions "$BASE/m2/rl")"
is "and whose they are" "yes" "$(ls "$BASE/m2/.versions" | grep -qx rl && echo yes)"
refuses() { ! touch "$BASE/m2/new" 2>"$BASE/err" && grep -q Read-only "$BASE/err"; }
succeeds "nothing is written" within 30 refuses

# Waiting
dev kill all
fails_with "no node, and nobody waits" "waited in vain for a node" timeout 20 "$KVFS" "$NODES" "$M" -o retry=0
is "nothing is mounted" "0" "$(mounts_on "$M")"
timeout 60 "$KVFS" "$LEADER" "$M" 2>"$BASE/wait.log" &
waiting=$!
succeeds "says what it waits for" within 10 says "$BASE/wait.log" "waiting up to 60 s for a node"
fails_with "a majority is waited for, too" "waited in vain for a majority" \
    sh -c '"$KVNODE" dev start "$LEADER" >/dev/null 2>&1; exec timeout 20 "$KVFS" "$LEADER" "$BASE/work" -o retry=1'
succeeds "and said" within 20 says "$BASE/wait.log" "waiting up to 60 s for a majority"
succeeds "in the background a mount returns at once" timeout 10 "$KVFS" "$LEADER" "$BASE/m3" -o "bg,log=$BASE/bg.log"
is "and is not there yet" "0" "$(mounts_on "$BASE/m3")"
dev start all
wait "$waiting"
is "who waited gets his mount" "0 1" "$? $(mounts_on "$M")"
is "which works" "two" "$(cat "$M/rl")"
comes() { [ "$(mounts_on "$BASE/m3")" = 1 ]; }
succeeds "the other one comes as well" within 30 comes
is "and works" "two" "$(cat "$BASE/m3/rl")"
writes() { echo late >"$BASE/m2/late"; }
succeeds "what was mounted without a majority can be written to with one" within 20 writes
is "and was" "late" "$(cat "$M/late")"
for m in "$M" "$BASE/m2" "$BASE/m3"; do umount "$m"; done
succeeds "all are gone" within 10 are_free
plan
