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
say "done"
