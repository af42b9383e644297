#!/bin/bash
# Locks that scripts hold: two never run at once, whatever is killed or stopped. Each command starts a tree (a
# child in a session of its own, a daemon by a double fork, which hears no TERM) in which all write the fence
# to one file: there must be no line of an earlier holder behind one of a later. KVFS_HOLD_ROUNDS=20: more of it.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

cat >"$work/tree.py" <<'END'
import os, signal, sys, time

out = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
fence = os.environ["KVNODE_FENCE"].encode()

def write(who):
    while True:
        os.write(out, fence + b" " + who + b"\n")
        time.sleep(0.004)  # the pace

for sig in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(sig, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    write(b"setsid")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        write(b"daemon")
    os._exit(0)
write(b"command")
END
lines=$work/lines
ttl=${KVFS_HOLD_TTL:-2s}
: >"$lines"

# Every other one is where no cgroup can be made, if that can be had.
private=()
unshare -m true 2>/dev/null &&
    private=(unshare -m sh -c 'awk "\$3 == \"cgroup2\" { print \$2 }" /proc/mounts | xargs -r umount -l; exec "$@"' -)
n_holders=0

hold() { # NAME: a holder in the background; its pid is $last
    local in=()
    [ $((n_holders++ % 2)) = 0 ] || in=("${private[@]}")
    "${in[@]}" kvnode hold lock --ttl "$ttl" -- python3 "$work/tree.py" "$lines" >"$work/$1.out" 2>&1 &
    last=$!
    children+=("$last")
}
last_fence() { tail -n 1 "$lines" | cut -d' ' -f1; }
all_three_write() { # FENCE
    [ "$(grep "^$1 " "$lines" | cut -d' ' -f2 | sort -u | wc -l)" = 3 ]
}
writes_after() { # FENCE: a later holder has its whole tree
    local f
    f=$(last_fence)
    [ "${f:-0}" -gt "$1" ] && all_three_write "$f"
}
in_order() { sort -s -n -c -k1,1 "$lines"; }
guard_of() { ps -o pid= --ppid "$1" | tr -d ' ' | head -n 1; }
gone() { [ ! -d "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status" 2>/dev/null; }
tree_of() { pgrep -f "$work/tree.py" | while read -r p; do
    tr '\0' '\n' 2>/dev/null <"/proc/$p/environ" | grep -qx "KVNODE_FENCE=$1" && [ "$(cat "/proc/$p/comm")" = python3 ] && echo "$p"
done; }
no_tree() { [ -z "$(tree_of "$1")" ]; }
is_stopped() { grep -q '^State:.*T' "/proc/$1/status"; }
waits() { kvnode locks lock --local 2>/dev/null | grep -q waits; }

up 3

say "its exit status is the command's, and what it left running is ended"
expect 3 kvnode hold a -- sh -c 'exit 3'
expect 137 kvnode hold a -- sh -c 'kill -9 $$'
expect 127 kvnode hold a -- /no/such/command
expect 2 kvnode hold a --ttl 500ms -- true
expect 2 kvnode hold a
expect 0 kvnode hold a -- sh -c 'setsid sh -c "trap \"\" TERM HUP; exec tail -f /dev/null" >/dev/null 2>&1 & echo $!'
until_true 1 gone "$out" || die "process $out was left"
expect 0 kvnode hold a -- sh -c 'kvnode hold a --wait 0 -- true'\;' echo $?'
[ "$out" = 6 ] || die "another one got it: $out"

say "a process whose first thread has ended is one that runs"
cat >"$work/threads.py" <<'END'
import ctypes, os, signal, sys, threading

signal.signal(signal.SIGTERM, signal.SIG_IGN)
threading.Thread(target=threading.Event().wait).start()
open(sys.argv[1], "w").write(str(os.getpid()))
ctypes.CDLL(None).syscall({"x86_64": 60}.get(os.uname().machine, 93), 0)  # exit(2), of this thread alone
END
cat >"$work/threads.sh" <<END
python3 "$work/threads.py" "$work/threads" &
until grep -qs '^State:.*Z' "/proc/\$(cat "$work/threads" 2>/dev/null)/status"; do :; done
END
expect 0 timeout 20 kvnode hold a -- timeout 10 sh "$work/threads.sh"
[ ! -d "/proc/$(cat "$work/threads")" ] || die "process $(cat "$work/threads") was left"

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    say "what its user may not kill is waited for, also when the guard has died, and the lock is kept"
    chmod 711 "$work" "$work/run" && chmod 755 "$work/run/sock" && chmod 666 "$work"/run/sock/*
    cp "$(command -v setpriv)" "$work/root" && chmod 4755 "$work/root"
    mkdir -m 777 "$work/theirs"
    user=(setpriv --reuid 65534 --regid 65534 --clear-groups)
    expect 0 kvnode set u ""
    mkdir "$work/m"
    expect 0 kvfs "$work/run/sock/n1.sock" "$work/m" -o "log=$work/m.log"
    expect 0 chmod 666 "$work/m/u"
    expect 0 umount "$work/m"
    "${user[@]}" kvnode hold u -- "$work/root" --reuid 0 --regid 0 --clear-groups \
        sh -c 'echo $$ >"$0/pid"; exec tail -f /dev/null' "$work/theirs" 2>"$work/err" &
    pid=$!
    children=("$pid")
    until_true 10 test -s "$work/theirs/pid" || die "it does not run: $(cat "$work/err")"
    begun=$(date +%s)
    kill -KILL "$(guard_of "$pid")"
    past() { [ "$(date +%s)" -gt $((begun + 6)) ]; }
    until_true 10 past || die "time stands still"
    expect 6 kvnode hold u --wait 0 -- true
    kill -KILL "$(cat "$work/theirs/pid")"
    wait "$pid"
    [ $? = 7 ] || die "it did not say that its guard was killed: $(cat "$work/err")"
    children=()
    expect 0 kvnode hold u --wait 5s -- true
fi

say "a fence lets only the last holder write"
expect 0 kvnode hold a -- sh -c 'echo $KVNODE_FENCE'
first=$out
expect 0 kvnode set --fence "$first" a one
expect 0 kvnode hold a -- sh -c 'kvnode set --fence $KVNODE_FENCE a two; echo $KVNODE_FENCE'
second=$out
expect 5 kvnode set --fence "$first" a late
has "$err" "it is at $second"
printf 'if a fence %s\nset b x\n' "$second" >"$work/txn"
expect 0 kvnode txn "$work/txn"
printf 'if a fence %s\nset b y\n' "$first" >"$work/txn"
expect 5 kvnode txn "$work/txn"
expect 0 kvnode del a
expect 0 kvnode set a anew
expect 5 kvnode set --fence "$second" a late
expect 0 kvnode hold lead --elect -- sh -c 'kvnode get lead'
has "$out" "$(hostname) "
expect 0 kvnode get lead
[ -z "$out" ] || die "who led is still written there: $out"

say "a signal goes to the command"
kvnode hold a -- sh -c 'trap "exit 9" TERM; echo ready >"'"$work"'/ready";  tail -f /dev/null & wait' &
pid=$!
until_true 10 test -e "$work/ready" || die "it does not run"
kill "$pid"
wait "$pid"
status=$?
[ $status = 9 ] || die "exit $status, not 9"

hold first
until_true 20 writes_after 0 || die "nothing is held: $(cat "$work"/first.out)"
for ((round = 0; round < ${KVFS_HOLD_ROUNDS:-5}; round++)); do
    pid=$last
    fence=$(last_fence)
    guard=$(guard_of "$pid")
    hold "next$round"
    until_true 10 waits || die "the next one does not wait"
    case $((round % 5)) in
    0) say "the holder is killed" && kill -KILL "$pid" ;;
    1) say "its guard is killed" && kill -KILL "$guard" ;;
    2) say "the holder is stopped" && kill -STOP "$pid" ;;
    3)
        say "its guard is stopped, and all nodes"
        kill -STOP "$guard"
        expect 0 kvnode dev pause all
        until_true 10 no_tree "$fence" || die "the tree of $fence lives"
        expect 0 kvnode dev resume all
        ;;
    4) say "the leader is killed, and the holder" && expect 0 kvnode dev kill leader && kill -KILL "$pid" ;;
    esac
    until_true 30 writes_after "$fence" || die "nobody holds it behind $fence: $(cat "$work"/*.out)"
    no_tree "$fence" || die "of $fence there is $(tree_of "$fence") left"
    in_order || die "two held it at once"
    kill -CONT "$pid" 2>/dev/null
    until_true 10 gone "$pid" || die "process $pid does not end"
    [ $((round % 5)) != 4 ] || expect 0 kvnode dev start all
done

say "who holds it through the death of a node goes on"
fence=$(last_fence)
expect 0 kvnode dev kill leader
n=$(wc -l <"$lines")
more() { [ "$(wc -l <"$lines")" -gt $((n + 400)) ]; }
until_true 10 more || die "nothing is written"
[ "$(last_fence)" = "$fence" ] || die "it was lost: $(cat "$work"/*.out)"
expect 0 kvnode dev start all
kill -KILL "$last"
until_true 10 no_tree "$fence" || die "the tree of $fence lives"
say "$(cut -d' ' -f1 "$lines" | uniq | wc -l) holders, $(wc -l <"$lines") lines"
children=()
