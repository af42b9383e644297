#!/bin/bash
# kvnode verify and the scrub on real nodes: good nodes; a bad old version in the
# file of a node that runs, follower or leader, which mends itself; one that was
# there before the start; a node with another state; a dead node; the scrub that
# comes by itself; a node that is alone.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

falsify=${FALSIFY_BIN:?}

db() { # NODE
    echo "$work/run/$1/data/groups/0/state.db"
}

# The state that verify's output in $out gives for a node.
state_of() { # NODE
    echo "$out" | awk -v node="$1" '$1 == node { print $2; exit }'
}

is() { # NODE STATE
    [ "$(state_of "$1")" = "$2" ] || die "$1 is not $2: $out $err"
}

leader() {
    kvnode status 2>/dev/null | awk '$2 == "leader" { print $1 }'
}

has_leader() {
    [ -n "$(leader)" ]
}

a_follower() {
    kvnode status | awk '$2 == "follower" { print $1; exit }'
}

scrub_field() { # NODE NAME
    kvnode status -n "$1" --json 2>/dev/null |
        sed -n "s/.*\"scrub\": *{[^}]*\"$2\": *\"\{0,1\}\([^,\"}]*\).*/\1/p"
}

mended() { # NODE
    [ "$(scrub_field "$1" mending)" = false ] && kvnode get key --version 1 -n "$1" >/dev/null 2>&1
}

whole_again() {
    kvnode verify >/dev/null 2>&1
}

# Everything in the main file, nothing in the WAL: as after a while.
settle() {
    kvnode dev down >/dev/null 2>&1 || die "kvnode dev down"
    for file in "$work"/run/n*/data/groups/0/state.db; do
        "$falsify" settle "$file" || die "falsify settle"
    done
    up "$@"
}

old="an old version, which nobody reads before somebody needs it"

up 3
kvnode set key "$old" || die "set"
kvnode set key "the current one" || die "set"
kvnode set 'note~' "a value without a history: 1" || die "set"
for i in $(seq 1 40); do
    echo "$i $(head -c 20000 /dev/urandom | base64 -w 0)" | kvnode set "many/$((i % 8))" - || die "set"
done
settle 3

say "all is well"
expect 0 kvnode verify
for n in n1 n2 n3; do is $n ok; done
has "$out" "All 3 nodes have the same state"
expect 0 kvnode verify --json --rate 100
[ "$(echo "$out" | grep -c '"state":"ok"')" = 3 ] || die "$out"
[ "$(echo "$out" | sed 's/.*"digest":"\([^"]*\)".*/\1/' | sort -u | wc -l)" = 1 ] || die "$out"
expect 2 kvnode verify --rate much
expect 0 kvnode status --json
has "$out" '"last":"clean"'

say "all is well while somebody writes"
(i=0; while kvnode set "busy/$((i % 50))" "$i" >/dev/null 2>&1; do i=$((i + 1)); done) &
children+=($!)
for _ in 1 2 3 4 5; do expect 0 kvnode verify; done
kill ${children[-1]} && wait ${children[-1]} 2>/dev/null
children=()

for role in follower leader; do
    until_true 20 has_leader || die "no leader"
    if [ $role = leader ]; then victim=$(leader); else victim=$(a_follower); fi
    say "a bit flips in an old version on $victim, the $role"
    settle 3
    kvnode transfer "$victim" >/dev/null 2>&1
    [ $role = leader ] || kvnode transfer "$([ "$victim" = n1 ] && echo n2 || echo n1)" >/dev/null 2>&1
    "$falsify" flip "$(db "$victim")" "$old" >/dev/null || die "falsify"
    expect 1 kvnode verify
    is "$victim" damaged
    has "$out" "state.db: damaged: chunk"
    has "$out" "1 of 3 nodes is not well"
    grep -q "state.db: damaged: chunk" "$work/run/$victim/log" || die "$victim has not logged it"
    until_true 60 mended "$victim" || die "$victim was not mended"
    until_true 30 whole_again || die "$(kvnode verify 2>&1)"
    expect 0 kvnode verify
    is "$victim" ok
    expect 0 kvnode get key --version 1 -n "$victim"
    [ "$out" = "$old" ] || die "version 1 at $victim: $out"
    grep -q "state.db is whole again" "$work/run/$victim/log" || grep -q "installed" "$work/run/$victim/log" ||
        die "$victim has not said that it is whole"
done

say "a bad old version that was there before the start"
until_true 20 has_leader || die "no leader"
victim=$(a_follower)
kvnode dev down >/dev/null 2>&1
"$falsify" settle "$(db "$victim")" || die "falsify settle"
"$falsify" flip "$(db "$victim")" "$old" >/dev/null || die "falsify"
up 3
expect 1 kvnode verify --json
has "$(echo "$out" | grep "\"$victim\"")" '"state":"damaged"'
until_true 60 mended "$victim" || die "$victim was not mended"
until_true 30 whole_again || die "$(kvnode verify 2>&1)"

say "a node with another state"
kvnode dev down >/dev/null 2>&1
"$falsify" value "$(db n3)" "a value without a history: 1" "a value without a history: 2" || die "falsify"
up 3
expect 1 kvnode verify
is n1 ok
is n2 ok
is n3 differs
expect 0 kvnode get 'note~' --local -n n3
has "$out" "history: 2"
kvnode dev kill n3 >/dev/null 2>&1
rm "$(db n3)"*
kvnode dev start n3 >/dev/null 2>&1 || die "start n3"
until_true 30 whole_again || die "$(kvnode verify 2>&1)"

say "a dead node"
kvnode dev kill n2 >/dev/null 2>&1
until_true 20 has_leader || die "no leader"
gone() { kvnode status --json | tr '{' '\n' | grep '"name":"n2"' | grep -q unreachable; }
until_true 20 gone || die "n2 is still seen"
expect 4 kvnode verify
is n2 unreachable
is n1 ok
is n3 ok
has "$out" "1 of 3 nodes could not be asked"
kvnode dev kill n1 >/dev/null 2>&1
until_true 20 sh -c 'kvnode status -n n3 --json | grep -q "\"quorum\":false"' || die "a majority is gone"
expect 4 kvnode verify -n n3 --timeout 2s
kvnode dev down >/dev/null 2>&1

say "the scrub that comes by itself"
for n in n1 n2 n3; do
    grep -q '^\[storage\]' "$work/run/conf/$n.conf" || echo '[storage]' >>"$work/run/conf/$n.conf"
    sed -i 's/^\[storage\]/&\nscrub_interval_s = 1/' "$work/run/conf/$n.conf"
done
settle 3
until_true 20 has_leader || die "no leader"
victim=$(a_follower)
"$falsify" flip "$(db "$victim")" "$old" >/dev/null || die "falsify"
lines=$(wc -l <"$work/run/$victim/log")
found() { tail -n +"$((lines + 1))" "$work/run/$victim/log" | grep -q "$1"; }
until_true 30 found "state.db: damaged: chunk" || die "not found"
until_true 60 mended "$victim" || die "$victim was not mended"
expect 0 kvnode get key --version 1 -n "$victim"
[ "$out" = "$old" ] || die "version 1 at $victim: $out"
kvnode dev down >/dev/null 2>&1

say "a node that is alone"
export KVNODE_DEV_DIR=$work/alone
kvnode dev up 1 >"$work/up" 2>&1 || die "kvnode dev up 1: $(cat "$work/up")"
# shellcheck disable=SC1091
. "$work/alone/env"
kvnode set key "$old" && kvnode set key new || die "set"
expect 0 kvnode verify
kvnode dev down >/dev/null 2>&1
"$falsify" settle "$work/alone/n1/data/groups/0/state.db" || die "falsify settle"
kvnode dev up 1 >/dev/null 2>&1 || die "up"
"$falsify" flip "$work/alone/n1/data/groups/0/state.db" "$old" >/dev/null || die "falsify"
expect 1 kvnode verify
is n1 damaged
expect 0 kvnode status
has "$out" "warning: "
has "$out" "damaged: chunk"
expect 0 kvnode get key
[ "$out" = new ] || die "$out"
kvnode dev down >/dev/null 2>&1
say "done"
