#!/bin/sh
# A mount that does nothing keeps its session, however short session_timeout is.
set -u
# shellcheck source=/dev/null
. "$(dirname "$0")/lib.sh"

is_mounted() { awk -v m="$1" '$5 == m { f = 1 } END { exit !f }' /proc/self/mountinfo; }
session() { sed -n 's/.*"session": \([0-9]*\).*/\1/p' "$1/.kvfs/mount"; }
sessions() { "$KVNODE" status --json | tr ',' '\n' | sed -n 's/.*"sessions": *\([0-9]*\).*/\1/p' | head -n 1; }
# Time passes for sessions when something is written.
ticks=0
fewer_sessions() {
    ticks=$((ticks + 1))
    "$KVNODE" set tick $ticks && [ "$(sessions)" -lt "$before" ]
}

I=$BASE/m1 S=$BASE/m2
mkdir "$I" "$S"
succeeds "sessions end after 10 s of silence" "$KVNODE" config --cluster session_timeout=10s
succeeds "a mount that will be idle" "$KVFS" "$NODES" "$I" -o "log=$BASE/m1.log"
echo one >"$I/file"
exec 9>>"$I/file"
idle=$(session "$I")
"$KVFS" -f "$NODES" "$S" -o "log=$BASE/m2.log" 9>&- &
stopped=$!
succeeds "and one that will be stopped" within 20 is_mounted "$S"
echo two >"$S/other"
before=$(sessions)
kill -STOP $stopped
succeeds "whose session ends" within 60 fewer_sessions
kill -CONT $stopped
is "the idle one has its own" "$idle" "$(session "$I")"
echo three >&9
exec 9>&-
is "and writes to what it has open" "one three" "$(tr '\n' ' ' <"$B/file" | sed 's/ $//')"
is "in that session" "$idle" "$(session "$I")"
is "nothing else is in its log" "0" "$(grep -c session "$BASE/m1.log")"

# A setting that is changed while it is mounted is learnt.
succeeds "a long session_timeout" "$KVNODE" config --cluster session_timeout=30min
succeeds "unmount" umount "$I"
wait_for_stopped() { echo four >"$S/other"; }
succeeds "the one that was stopped goes on" within 20 wait_for_stopped
succeeds "unmount it" umount "$S"
plan
