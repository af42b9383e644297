#!/bin/bash
# The operation log has every row once: of commands with more rows than a page, of paths
# longer than a page holds, and to those who follow it past the death of their node.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

up 3
m=$work/m
mkdir "$m" && kvfs n1,n2,n3 "$m" || die "no mount"

say "one command with more rows than a page holds"
python3 - "$m" <<'PY' || die "cannot make the keys"
import os, sys
os.mkdir(sys.argv[1] + "/many")
for i in range(2500):
    open("%s/many/%04d%s" % (sys.argv[1], i, "x" * 240), "w").close()
PY
expect 0 kvnode -q del -r many
expect 0 kvnode -q set after x
expect 0 kvnode log --last 100000
deleted() { grep ' del ' <<<"$out" | grep -c ' (gone)/[0-9]*x*$'; }
[ "$(deleted)" = 2500 ] || die "del -r of 2500 keys, the log has $(deleted) of them"
expect 0 kvnode log --last 1000
[ "$(wc -l <<<"$out")" = 1000 ] || die "--last 1000 shows $(wc -l <<<"$out")"

if [ "$(id -u)" = 0 ]; then
    say "a removal that is refused on its way says what it has done"
    python3 - "$m" <<'PY' || die "cannot make the keys"
import os, sys
os.umask(0)
os.makedirs(sys.argv[1] + "/open/tree/a")
for i in range(600):
    open("%s/open/tree/a/%03d" % (sys.argv[1], i), "w").close()
os.mkdir(sys.argv[1] + "/open/tree/z", 0o755)
open(sys.argv[1] + "/open/tree/z/kept", "w").close()
PY
    chmod 711 "$work" "$work/run" "$work/run/sock" && chmod 666 "$work"/run/sock/n1.sock
    install -m 755 "$(command -v kvnode)" "$work/kvnode"
    expect 7 setpriv --reuid=nobody --regid=nogroup --clear-groups "$work/kvnode" -n "$work/run/sock/n1.sock" del -r open/tree
    has "$err" "kvnode: del open/tree: permission denied; 512 of the names below it were removed"
    [ "$(find "$m/open/tree/a" -type f | wc -l)" = 88 ] || die "$(find "$m/open/tree/a" -type f | wc -l) are left"
    expect 0 kvnode -q del -r open
fi

say "paths near the limit"
python3 - "$m" <<'PY' || die "cannot make the keys"
import os, sys
os.chdir(sys.argv[1])
for i in range(15):
    os.mkdir("d" * 250)
    os.chdir("d" * 250)
for i in range(400):
    open("long%03d" % i, "w").close()
PY
expect 0 kvnode log --last 450
[ "$(grep -c 'd/long[0-9]*$' <<<"$out")" = 400 ] || die "long paths: $(grep -c 'd/long[0-9]*$' <<<"$out") of 400"
umount "$m" 2>/dev/null || fusermount3 -u "$m"

say "following past the death of the node, of all nodes"
kvnode watch f >"$work/watch" 2>"$work/watch.err" &
children+=($!)
kvnode -n n2,n3 log --follow --last 1 >"$work/log" 2>"$work/log.err" &
children+=($!)
seen() { grep -q "$1" "$work/$2"; }
n=0
sees_a_write() {
    n=$((n + 1))
    kvnode -q set "f/first$n" x && seen f/first watch && seen f/first log
}
until_true 20 sees_a_write || die "no write was seen"
write() { # FROM TO
    local i
    for i in $(seq "$1" "$2"); do
        until_true 30 kvnode -q set "f/n$i" "$i" || die "cannot write f/n$i"
    done
}
write 100 129
expect 0 kvnode dev kill n1
write 130 159
until_true 30 seen f/n159 watch || die "watch ended with its node: $(cat "$work/watch.err")"
seen "going on at node" watch.err || die "watch says nothing of another node"
expect 0 kvnode dev start n1
expect 0 kvnode dev kill n2
write 160 189
until_true 30 seen f/n189 log || die "log --follow ended with its node: $(cat "$work/log.err")"
expect 0 kvnode dev kill n1
expect 0 kvnode dev kill n3
until_true 30 seen "waiting for one" watch.err || die "watch does not wait: $(cat "$work/watch.err")"
for i in 1 2 3; do
    expect 0 kvnode dev start n$i
done
write 190 199
for i in watch log; do
    until_true 30 seen f/n199 $i || die "$i does not go on: $(cat "$work/$i.err")"
    got=$(grep -o 'f/n1[0-9][0-9]$' "$work/$i" | tr '\n' ' ')
    want=$(for k in $(seq 100 199); do echo -n "f/n$k "; done)
    [ "$got" = "$want" ] || die "$i: rows are lost, twice or out of order: $got"
done

say "who was away is told what is no longer kept"
expect 0 kvnode --json log --last 1
since=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["revision"])' "$out")
expect 0 kvnode log --since "$since"
[ "$out$err" = "" ] || die "something came after the newest revision: $out $err"
expect 1 kvnode log --since 0-99999999
has "$err" "--since 0-99999999: the newest revision is 0-"
expect 2 kvnode log --since new
kvnode -n n1,n2,n3 log --follow --since "$since" >"$work/away" 2>"$work/away.err" &
away=$!
kvnode -n n1 --json log --follow --since "$since" >"$work/json" 2>"$work/json.err" &
children+=("$away" $!)
kvnode -q set f/before x
until_true 30 seen f/before away && until_true 30 seen f/before json || die "what came after a revision is not shown"
kvnode -q set f/gone x
until_true 30 seen f/gone away && until_true 30 seen f/gone json || die "what came next is not shown"
# One stands still, the other has no node; all that is deleted meanwhile is forgotten.
kill -STOP "$away"
expect 0 kvnode dev kill n1
until_true 30 seen "waiting for one" json.err || die "log does not wait: $(cat "$work/json.err")"
expect 0 kvnode -n n2,n3 config --cluster max_dead_names=0
expect 0 kvnode -n n2,n3 -q set f/unseen x
expect 0 kvnode -n n2,n3 -q del f/unseen
forgotten() { # with each command some of the names that were deleted first
    kvnode -n n2 -q set f/tick x && ! kvnode -n n2 log --since "$since" 2>/dev/null | grep -q f/unseen
}
until_true 30 forgotten || die "a deleted name is not forgotten"
expect 0 kvnode -n n2,n3 -q set f/after x
kill -CONT "$away"
until_true 30 seen f/after away || die "log does not go on: $(cat "$work/away.err")"
seen f/unseen away && die "what was to be forgotten is there: the test shows nothing"
gap='^kvnode: log: not all changes between revision 0-[0-9]* and 0-[0-9]* are kept any more$'
[ "$(grep -c "$gap" "$work/away.err")" = 1 ] || die "log does not tell of the gap once: $(cat "$work/away.err")"
expect 0 kvnode dev start n1
until_true 30 seen f/after json || die "log does not go on: $(cat "$work/json.err")"
expect 0 kvnode -n n2 log --since "$since"
has "$err" "kvnode: log: not all changes between revision $since and 0-"
expect 0 kvnode log --last 3
[ "$err" = "" ] || die "the newest rows come with a warning: $err"
python3 - "$work/json" "$work/away.err" "$since" <<'PY' || die "the gap is told wrongly: $(cat "$work/json" "$work/away.err")"
import json, re, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
number = lambda revision: int(revision.split("-")[1])
gaps = [i for i, row in enumerate(rows) if row["operation"] == "gap"]
keys = [row.get("key") for row in rows]
assert len(gaps) == 1, gaps
gap = rows[gaps[0]]
seen, after = rows[keys.index("f/gone")], rows[keys.index("f/after")]
# From what was seen to just before what is kept again, and in its place.
assert keys.index("f/gone") < gaps[0] < keys.index("f/after")
assert number(seen["revision"]) <= number(gap["after"]) < number(gap["revision"]) < number(after["revision"])
told = re.search("between revision (\\S+) and (\\S+) are", open(sys.argv[2]).read()).groups()
assert told[1] == gap["revision"] and number(told[0]) >= number(seen["revision"]), told
PY

say "who keeps up is told of no gap, whatever is forgotten behind him"
expect 0 kvnode config --cluster max_dead_names=1
kvnode watch f >"$work/keeps" 2>"$work/keeps.err" &
children+=($!)
kept() {
    n=$((n + 1))
    kvnode -q set "f/keeps$n" x && seen f/keeps keeps
}
until_true 20 kept || die "no write was seen"
for i in 1 2 3; do
    kvnode -q set "f/brief$i" x
    until_true 20 seen "f/brief$i$" keeps || die "f/brief$i is not shown"
    expect 0 kvnode -q del "f/brief$i"
    until_true 20 seen "deleted.*f/brief$i$" keeps || die "the deletion of f/brief$i is not shown"
done
expect 0 kvnode -q set f/last x
until_true 20 seen f/last keeps || die "f/last is not shown"
[ "$(cat "$work/keeps.err")" = "" ] || die "a gap that there is none: $(cat "$work/keeps.err")"
say "done"
