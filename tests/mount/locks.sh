#!/bin/sh
# flock and fcntl among programs of two mounts on two nodes: locks.sh LOCKS, the program that locks.
set -u
# shellcheck source=/dev/null disable=SC2015
. "$(dirname "$0")/lib.sh"
cd "$WORK" || exit 1
LOCKS=$1

# holds NAME FILE ARG...: starts one that holds; its pid is in NAME.pid, its input is open in the fifo NAME
holds() {
    name=$1
    shift
    rm -f "$name" "$name.out"
    mkfifo "$name"
    "$LOCKS" "$@" <"$name" >"$name.out" 2>&1 5>&- 6>&- & # or it would keep the other's input open
    echo $! >"$name.pid"
}
is_held() { grep -q held "$1.out"; }
say() { within 15 test -s "$1" && tail -n 1 "$1"; }
ended() { within 15 has_ended "$(cat "$1.pid")"; }
try() { "$LOCKS" try "$@" 2>&1; }
# mount_pid MOUNTPOINT: the process of that mount
mount_pid() {
    for pid in $(cat /proc/[0-9]*/stat 2>/dev/null | awk '$2 == "(kvfs)" { print $1 }'); do
        ! tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q " $1 " || echo "$pid"
    done
}
waits() { "$KVNODE" locks "$1" | grep -q waits; }

# Counters: from four processes of both mounts none is lost.
counted() {
    rm -f "$A/counter"
    pids=''
    for m in "$A" "$B" "$A" "$B"; do
        "$LOCKS" count "$m/counter" 60 "$1" 2>>counters.err &
        pids="$pids $!"
    done
    for p in $pids; do wait "$p" || echo "$p failed" >>counters.err; done
    is "a counter under $1 from both mounts" "00000240" "$(cat "$A/counter")"
    is "and there" "00000240" "$(cat "$B/counter")"
}
: >counters.err
counted flock
counted fcntl
counted ofd
pids=''
for m in "$A" "$B" "$A" "$B"; do
    "$LOCKS" beside "$m/guarded" "$m/guard" 60 2>>counters.err &
    pids="$pids $!"
done
for p in $pids; do wait "$p" || echo "$p failed" >>counters.err; done
is "a counter in one file under a lock of another" "00000240" "$(cat "$B/guarded")"
is "without an error" "" "$(cat counters.err)"

# Who has it, who does not.
holds one hold "$A/f" flock
exec 5>one
succeeds "one holds it" within 10 is_held one
is "the other mount does not get it" "Resource temporarily unavailable" "$(try "$B/f" flock)"
is "nor shared" "Resource temporarily unavailable" "$(try "$B/f" shared)"
is "nor does this mount" "Resource temporarily unavailable" "$(try "$A/f" flock)"
is "ranges know nothing of it" "got it" "$(try "$B/f" fcntl)"
is "a wait ends by a signal" "interrupted" "$("$LOCKS" alarm "$B/f" flock)"
is "and leaves nothing behind" "1" "$("$KVNODE" locks f | wc -l)"
holds two hold "$B/f" flock
exec 6>two
succeeds "another waits" within 10 waits f
is "it is told who holds and who waits" "holds waits" \
    "$("$KVNODE" locks f | sed 's/.*  \(holds\|waits\) .*/\1/' | tr '\n' ' ' | sed 's/ $//')"
is "and in JSON" "true" "$("$KVNODE" locks --json f | tail -n 1 | sed 's/.*"waits": *\([a-z]*\).*/\1/')"
kill -9 "$(cat one.pid)"
succeeds "who was killed has unlocked it" within 10 is_held two
exec 5>&- 6>&-
ended two
eventually "and who ended" "" "$KVNODE" locks f

# Ranges.
holds one hold "$A/r" fcntl 0 10
exec 5>one
succeeds "a range is held" within 10 is_held one
is "not that one" "Resource temporarily unavailable" "$(try "$B/r" fcntl 5 10)"
is "but one beside it" "got it" "$(try "$B/r" fcntl 10 10)"
is "F_GETLK there" "exclusive 0 10 0" "$("$LOCKS" test "$B/r")"
is "F_GETLK here" "exclusive 0 10 $(cat one.pid)" "$("$LOCKS" test "$A/r")"
exec 5>&-
ended one
eventually "closing unlocks" "free" "$LOCKS" test "$B/r"
holds one circle "$A/r" 0
holds two circle "$B/r" 1
exec 5>one 6>two
within 10 is_held one && within 10 is_held two && ok "each has a half" || not_ok "each has a half"
echo >&5
succeeds "one waits for the other's" within 10 waits r
echo >&6
within 10 sh -c "grep -q deadlock two.out"
is "the other is told of the deadlock" "deadlock" "$(tail -n 1 two.out)"
exec 6>&-
ended two
within 10 sh -c "grep -q got one.out"
is "and when it ends the first goes on" "got it" "$(tail -n 1 one.out)"
exec 5>&-
ended one

# SQLite, with its rollback journal, from both mounts.
sqlite() { "$LOCKS" rows "$1" "$2" "$3" 2>>sqlite.err >"sqlite.$2"; }
: >sqlite.err
"$LOCKS" table "$A/db" || not_ok "a table is made"
sqlite "$A/db" a1 25 & p1=$!
sqlite "$B/db" b1 25 & p2=$!
sqlite "$B/db" b2 25 & p3=$!
wait $p1 $p2 $p3
acknowledged=$(($(cat sqlite.a1) + $(cat sqlite.b1) + $(cat sqlite.b2)))
is "SQLite: every acknowledged row is there" "$acknowledged ok" "$("$LOCKS" check "$A/db")"
is "SQLite: seen by the other mount" "$acknowledged ok" "$("$LOCKS" check "$B/db")"
[ $acknowledged -ge 70 ] && ok "SQLite: nearly all were" || not_ok "SQLite: nearly all were" "$acknowledged" "$(sort sqlite.err | uniq -c)"

# With a write-ahead log, whose users share memory: one mount at a time.
sql() { "$LOCKS" sql "$@" 2>&1; }
"$LOCKS" table "$A/wal"
is "SQLite: a write-ahead log" "wal" "$(sql "$A/wal" 'PRAGMA journal_mode=WAL')"
holds one stay "$A/wal" "PRAGMA synchronous=OFF; INSERT INTO t VALUES('a')"
exec 5>one
succeeds "it is in use on one mount" within 10 is_held one
is "another process of that mount goes on" "0" "$(sql "$A/wal" "INSERT INTO t VALUES('b')"; echo $?)"
is "it is refused on another, to read, too" "locking protocol" "$(sql "$B/wal" "SELECT x FROM t")"
succeeds "and the log says why" within 5 grep -q "wal-shm: .* in use on another mount" "$B.log"
exec 5>&-
ended one
is "then that one has it" "0" "$(sql "$B/wal" "INSERT INTO t VALUES('d')"; echo $?)"
is "SQLite: no row of either is lost" "a b d" "$(sql "$A/wal" "SELECT x FROM t ORDER BY x")"
holds one stay "$B/wal" "INSERT INTO t VALUES('e')"
exec 5>one
succeeds "the other mount uses it" within 10 is_held one
kill -9 "$(cat one.pid)"
exec 5>&-
ended one
is "who is killed lets go" "a b d e ok" "$(sql "$A/wal" "SELECT x FROM t ORDER BY x; PRAGMA integrity_check")"

# The leader dies while locks are held and waited for.
holds one hold "$A/l" flock
exec 5>one
succeeds "held before the leader dies" within 10 is_held one
holds two hold "$B/l" flock
exec 6>two
succeeds "and waited for" within 10 waits l
dev kill "$LEADER"
is "held by the next one" "Resource temporarily unavailable" "$(try "$B/l" flock)"
is_held two && not_ok "who waits, waits" || ok "who waits, waits"
exec 5>&-
succeeds "and gets it" within 15 is_held two
dev start "$LEADER"
exec 6>&-
ended two

# A mount that is killed: its locks are free when its session has ended.
holds one hold "$A/k" flock
exec 5>one
succeeds "held by a mount that is killed" within 10 is_held one
holds two hold "$B/k" flock
exec 6>two
succeeds "and waited for" within 10 waits k
kill -9 "$(mount_pid "$A")"
succeeds "it is given on" within 20 is_held two
exec 5>&- 6>&-
ended two

# A mount that stands still for so long that others have its locks: what its program writes is refused.
holds one fenced "$B/s"
exec 5>one
succeeds "held by a mount that stops" within 10 is_held one
b_pid=$(mount_pid "$B")
kill -STOP "$b_pid"
free_again() { "$KVNODE" set tick x && ! "$KVNODE" locks s | grep -q holds; } # time passes with commands
succeeds "others may have it" within 30 free_again
"$KVNODE" set s new
kill -CONT "$b_pid"
is_connected_anew() { "$KVNODE" locks s >/dev/null && grep -q '"connected": true' "$B/.kvfs/mount"; }
succeeds "the mount is back" within 15 is_connected_anew
within 15 sh -c "grep -q 'lock of process' '$BASE'/*.log"
echo >&5
within 15 sh -c "[ \$(wc -l <one.out) -ge 2 ]"
is "what it writes, syncs and closes fails" "5 5 5" "$(tail -n 1 one.out)"
is "and is not there" "new" "$("$KVNODE" get s)"
exec 5>&-
plan
