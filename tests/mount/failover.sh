#!/bin/sh
# Nodes die, stop and come back; mounts are killed and taken down.
set -u
# shellcheck source=/dev/null disable=SC2015
. "$(dirname "$0")/lib.sh"
cd "$WORK" || exit 1

now_ms() { date +%s%3N; }

# Appends numbered lines through A, one process each; those that failed are noted.
appender() {
    i=0
    while [ ! -e stop ]; do
        if echo "line $i" 2>/dev/null >>"$A/appended"; then echo "line $i" >>acknowledged; else echo "line $i" >>failed; fi
        i=$((i + 1))
    done
}

: >"$A/appended"
: >acknowledged
: >failed
appender 2>/dev/null &
writer=$!
appended() { [ "$(wc -l <acknowledged)" -gt "$1" ]; }
succeeds "lines are appended" within 20 appended 20
exec 8>"$A/held" 9<"$A/appended"
echo kept >"$B/other"
start=$(now_ms)
dev kill "$LEADER"
echo after >"$A/during"
took=$(($(now_ms) - start))
is "a write while the leader dies succeeds" "after" "$(cat "$A/during")"
[ "$took" -lt 5000 ] && ok "within the mount's patience" || not_ok "within the mount's patience" "$took ms"
echo "# $took ms with the kill"
is "the other mount sees it" "after" "$(cat "$B/during")"
is "an open descriptor still reads" "line 0" "$(head -n 1 <&9)"
echo staged >&8
exec 8>&-
is "and one open for writing is published by the next node" "staged" "$(cat "$B/held")"
succeeds "the appends go on" within 20 appended "$(wc -l <acknowledged)"
dev start "$LEADER"
succeeds "and with the node back" within 20 appended "$(wc -l <acknowledged)"
case "$(cat "$A/.kvfs/mount")" in *'"connected": true'*) ok "connected" ;; *) not_ok "connected" "$(cat "$A/.kvfs/mount")" ;; esac

# A node that hangs: its socket stays open, and nothing comes.
first=$(sed 's/.*"node": "\([^"]*\)".*/\1/' "$A/.kvfs/mount")
dev pause "$first"
start=$(now_ms)
succeeds "a write while the mount's node hangs" sh -c "echo paused >'$A/paused'"
took=$(($(now_ms) - start))
[ "$took" -lt 6000 ] && ok "in bounded time" || not_ok "in bounded time" "$took ms"
echo "# $took ms"
dev resume "$first"
succeeds "and on with the node that hung" within 20 appended "$(wc -l <acknowledged)"
touch stop
wait "$writer"
sync -f "$A/appended" 2>/dev/null || true

# Every acknowledged line is there exactly once, and nothing twice: of those before the kill, and of one at
# least after each fault.
succeeds "lines were acknowledged" appended 22
sort "$A/appended" >lines
is "no line is there twice" "" "$(uniq -d <lines)"
sort acknowledged | comm -23 - lines >lost
is "no acknowledged line is lost" "" "$(cat lost)"
echo "# $(wc -l <acknowledged) lines acknowledged, $(wc -l <failed) failed, $(wc -l <lines) there"
cmp -s "$A/appended" "$B/appended" && ok "both mounts show the same" || not_ok "both mounts show the same"

# Without a majority nothing is written, and nothing hangs.
for n in n1 n2; do dev kill $n; done
start=$(now_ms)
fails_with "without a majority a write fails" "Input/output\|Read-only" sh -c "echo x >'$A/minority'"
took=$(($(now_ms) - start))
[ "$took" -lt 20000 ] && ok "in bounded time" || not_ok "in bounded time" "$took ms"
echo "# $took ms"
for n in n1 n2; do dev start $n; done
succeeds "with it back writing goes on" within 20 sh -c "echo y >'$A/minority'"
is "on both" "y" "$(cat "$B/minority")"

# Nothing answers at all: a process that waits can be killed, a mount can be taken away.
mkdir "$BASE/m2"
succeeds "a mount to be cut off" "$KVFS" "$NODES" "$BASE/m2" -o timeout=20,log="$WORK/m2.log"
for n in n1 n2 n3; do dev pause $n; done
cat "$BASE/m2/during" >/dev/null 2>&1 &
stuck=$!
waits() { readlink "/proc/$stuck/exe" | grep -q cat && grep -q "^State:.*[DS] " "/proc/$stuck/status"; }
succeeds "a process waits" within 10 waits
kill -9 $stuck
start=$(now_ms)
wait $stuck 2>/dev/null
took=$(($(now_ms) - start))
[ "$took" -lt 2000 ] && ok "a process that waits for a dead cluster can be killed" ||
    not_ok "a process that waits for a dead cluster can be killed" "$took ms"
echo "# $took ms"
start=$(now_ms)
succeeds "its mount can be taken away" timeout 20 umount -l "$BASE/m2"
took=$(($(now_ms) - start))
[ "$took" -lt 2000 ] && ok "at once" || not_ok "at once" "$took ms"
for n in n1 n2 n3; do dev resume $n; done

# A mount that is killed leaves a dead mount; the next one takes its place.
mkdir "$BASE/m1"
succeeds "another mount" "$KVFS" "$NODES" "$BASE/m1" -o log="$WORK/m1.log"
for pid in $(cat /proc/[0-9]*/stat 2>/dev/null | awk '$2 == "(kvfs)" { print $1 }'); do
    if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "$BASE/m1"; then
        kill -9 "$pid"
        succeeds "its process ends" within 10 has_ended "$pid"
    fi
done
fails_with "a killed mount says so" "not connected" ls "$BASE/m1"
succeeds "a new one takes the dead one's place" "$KVFS" "$NODES" "$BASE/m1" -o log="$WORK/m1.log"
is "and works" "y" "$(cat "$BASE/m1/minority")"

# SIGTERM publishes what is staged, even of files that are open.
exec 7>"$BASE/m1/term"
printf staged >&7
for pid in $(cat /proc/[0-9]*/stat 2>/dev/null | awk '$2 == "(kvfs)" { print $1 }'); do
    if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "$BASE/m1"; then
        kill -TERM "$pid"
        term=$pid
    fi
done
succeeds "SIGTERM ends it" within 10 has_ended "$term"
exec 7>&-
is "what was staged is published" "staged" "$(cat "$A/term")"
grep -q "$BASE/m1" /proc/self/mountinfo && not_ok "it is unmounted" || ok "it is unmounted"

fails_with "no such node" "waited in vain for a node" "$KVFS" nosuch "$BASE/m1" -o retry=0
fails_with "no such directory" "No such file" "$KVFS" "$NODES" "$WORK/nosuch"
: >plain
fails_with "not a directory" "not a directory" "$KVFS" "$NODES" "$WORK/plain"
fails_with "an unknown option" "unknown option" "$KVFS" "$NODES" "$BASE/m1" -o nosuchoption
plan
