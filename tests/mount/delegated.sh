#!/bin/sh
# Lock tables that a mount has for itself: delegated.sh LOCKS, the program that locks (locks.c).
set -u
# shellcheck source=/dev/null disable=SC2015
. "$(dirname "$0")/lib.sh"
cd "$WORK" || exit 1
LOCKS=$1

holds() { # NAME FILE ARG...: starts one that holds; its pid is in NAME.pid, its input is open in the fifo NAME
    name=$1
    shift
    rm -f "$name" "$name.out"
    mkfifo "$name"
    "$LOCKS" "$@" <"$name" >"$name.out" 2>&1 5>&- 6>&- &
    echo $! >"$name.pid"
}
is_held() { grep -q held "$1.out"; }
ended() { within 15 has_ended "$(cat "$1.pid")"; }
try() { "$LOCKS" try "$@" 2>&1; }
mount_pid() {
    for pid in $(cat /proc/[0-9]*/stat 2>/dev/null | awk '$2 == "(kvfs)" { print $1 }'); do
        ! tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q " $1 " || echo "$pid"
    done
}
is_delegated() { "$KVNODE" locks "$1" | grep -q '  delegated  '; }
is_not() { ! is_delegated "$1"; }
waits() { "$KVNODE" locks "$1" | grep -q waits; }
# A mount takes a table only under a read lease, which a node has a moment after it began.
has_lease() { "$LOCKS" try "$A/lease" flock >/dev/null && is_delegated lease; }
lock_xattr() { python3 -c 'import os, sys; sys.stdout.write(os.getxattr(sys.argv[1], "user.kv.lock").decode())' "$1" 2>&1; }
applied() { "$KVNODE" status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["applied"])'; }

holds one hold "$A/lease" flock
exec 5>one
within 20 is_delegated lease && ok "the first lock of a file takes its table" || not_ok "the first lock of a file takes its table" "$("$KVNODE" locks)"
exec 5>&-
ended one
eventually "and its last close gives it back" "" "$KVNODE" locks lease

# In its own table a mount asks nobody: the log does not grow with what is locked.
"$LOCKS" loop "$A/fast" flock 1 fcntl 1 >/dev/null
before=$(applied)
"$LOCKS" loop "$A/fast" flock 2000 fcntl 2000 >loop.out 2>&1
is "locked and unlocked 4,000 times" "4000" "$(cat loop.out)"
grew=$(($(applied) - before))
[ $grew -lt 400 ] && ok "with few commands" || not_ok "with few commands" "$grew"

# What is locked in it is not known elsewhere, but asked for: by F_GETLK, by a try, by a wait.
holds one hold "$A/t" fcntl 0 10
exec 5>one
succeeds "a range is held in a table of one mount" within 10 is_held one
is "which is what the cluster knows" "delegated" "$("$KVNODE" locks t | awk '{ print $2 }')"
is "and in JSON" "delegated" "$("$KVNODE" locks --json t | sed 's/.*"kind": *"\([a-z]*\)".*/\1/')"
is "the attribute of that mount says more" "delegated exclusive" "$(lock_xattr "$A/t" | awk '{ printf "%s%s", n++ ? " " : "", $1 }')"
is "F_GETLK there asks for it" "exclusive 0 10 0" "$("$LOCKS" test "$B/t")"
is "and here" "exclusive 0 10 $(cat one.pid)" "$("$LOCKS" test "$A/t")"
is "now the cluster knows" "exclusive" "$("$KVNODE" locks t | awk '{ print $2 }')"
is "as the attribute does" "exclusive" "$(lock_xattr "$B/t" | awk '{ print $1 }')"
exec 5>&-
ended one
is "an attribute of nothing" "1" "$(lock_xattr "$B/t" | grep -c 'No data available')"

holds one hold "$A/u" flock
exec 5>one
succeeds "another is held so" within 10 is_held one
is "a try elsewhere is refused" "Resource temporarily unavailable" "$(try "$B/u" flock)"
exec 5>&-
ended one
holds one hold "$A/v" flock
exec 5>one
succeeds "one more" within 10 is_held one
holds two hold "$B/v" flock
exec 6>two
succeeds "who waits elsewhere waits in the cluster" within 10 waits v
is_held two && not_ok "while it is held" || ok "while it is held"
exec 5>&-
succeeds "and gets it" within 10 is_held two
exec 6>&-
ended two
ended one
holds one hold "$A/w" flock
exec 5>one
succeeds "held by one of two of a mount" within 10 is_held one
holds two hold "$A/w" flock
exec 6>two
succeeds "the other of which waits in the cluster" within 10 waits w
exec 5>&-
succeeds "and gets it there" within 10 is_held two
exec 6>&-
ended two
ended one

# Tables in which nothing is locked any more take no room from locks: one program, more files than a mount
# may have locks.
txn() { # FROM TO
    echo "mkdir many$1"
    seq "$1" "$2" | sed "s:.*:set many$1/& x:"
}
for from in 0 1000 2000 3000 4000; do
    txn $from $((from + 999)) >many.txn
    succeeds "a thousand files" "$KVNODE" txn many.txn
done
cat >many.py <<'END'
import fcntl, os, resource, sys, threading

resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
fds = [os.open("%s/many%d/%d" % (sys.argv[1], i // 1000 * 1000, i), os.O_RDWR) for i in range(5000)]
refused = []

def run(of):
    for fd in of:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            fcntl.flock(fd, fcntl.LOCK_UN)
        except OSError as error:
            refused.append(error)

threads = [threading.Thread(target=run, args=(fds[i::16],)) for i in range(16)]
for t in threads: t.start()
for t in threads: t.join()
print(len(refused), *refused[:1])
END
is "5,000 files locked and unlocked one after another" "0" "$(python3 many.py "$A" 2>&1)"

# A wait ends by a signal while its table is wanted from a mount that does not answer; then that mount ends.
holds one hold "$A/x" flock
exec 5>one
succeeds "held by a mount that stops" within 10 is_held one
a_pid=$(mount_pid "$A")
kill -STOP "$a_pid"
is "a wait ends by a signal" "interrupted" "$("$LOCKS" alarm "$B/x" flock)"
holds two hold "$B/x" flock
exec 6>two
succeeds "one waits for its table" within 10 waits x
is_held two && not_ok "and does not have it" || ok "and does not have it"
began=$(date +%s)
succeeds "it gets it when the session has ended" within 25 is_held two
[ $(($(date +%s) - began)) -le 15 ] && ok "after ten seconds" || not_ok "after ten seconds" "$(($(date +%s) - began))"
kill -CONT "$a_pid"
within 15 sh -c "grep -q 'lock of process' '$BASE'/a.log"
is "the mount that stopped says so" "1" "$(grep -c 'lock of process' "$BASE/a.log")"
is "and has it no more" "Resource temporarily unavailable" "$(try "$A/x" flock)"
exec 5>&- 6>&-
ended one
ended two

# F_GETLK does not answer from a table that may be another's by now: a mount that hears nothing.
mkdir "$BASE/m1"
last=${NODES##*,}
succeeds "a mount of one node" timeout 20 "$KVFS" "$last" "$BASE/m1" -o "log=$BASE/m1.log,timeout=3"
lone_lease() { "$LOCKS" try "$BASE/m1/lone" flock >/dev/null && is_delegated lone; }
within 20 lone_lease
holds three ask "$BASE/m1/z"
exec 7>three
succeeds "where a file is unlocked again" within 10 is_held three
is_delegated z && ok "in a table of its own" || not_ok "in a table of its own" "$("$KVNODE" locks z)"
dev pause "$last"
holds two hold "$B/z" fcntl 0 10
exec 6>two
succeeds "another gets that table when the session has ended" within 25 is_held two
echo >&7
ended three
is "F_GETLK says nothing that is not known" "F_GETLK: Input/output error" "$(tail -n 1 three.out)"
dev resume all
eventually "and then what is so" "exclusive 0 10 0" "$LOCKS" test "$BASE/m1/z"
exec 6>&- 7>&-
ended two

# A try ends also when nobody can say whose the table is.
holds one hold "$A/n" flock
exec 5>one
succeeds "held by a mount that stops, once more" within 10 is_held one
a_pid=$(mount_pid "$A")
kill -STOP "$a_pid"
try "$BASE/m1/n" flock >try.out &
try_pid=$!
succeeds "a try elsewhere waits for its table" within 5 waits n
for n in n1 n2 n3; do
    [ "$n" = "$last" ] || dev pause $n
done
within 20 has_ended $try_pid
is "it ends without a majority" "Input/output error" "$(cat try.out)"
dev resume all
kill -CONT "$a_pid"
exec 5>&-
ended one

# A mount that is killed.
within 20 has_lease
holds one hold "$A/y" flock
exec 5>one
succeeds "held by a mount that is killed" within 10 is_held one
is_delegated y && ok "in a table of its own" || not_ok "in a table of its own" "$("$KVNODE" locks y)"
kill -9 "$(mount_pid "$A")"
is "the other gets it by a try" "got it" "$(try "$B/y" flock)"
exec 5>&-
plan
