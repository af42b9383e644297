#!/bin/bash
# Two builds in one cluster: this one, and one that knows a feature level more, with an operation of
# its own. The nodes are upgraded one by one while somebody writes: what the new one knows is refused
# until all have it and somebody says so; then no node that does not know it takes part.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"
export KVNODE_SOCKET_DIR=$work/run/sock

next_write() { # NODE NAME VALUE
    timeout 30 "${NEXT_WRITE_BIN:?}" "$work/run/sock/$1.sock" "$2" "$3"
}
knows() { # NODE LEVEL: what the cluster has heard of it
    kvnode status --json | tr '{' '\n' | grep "\"name\": *\"$1\"" | grep -q "\"feature_level\": *$2\b"
}
upgrade() { # NODE
    kvnode dev kill "$1" >/dev/null || die "kill $1"
    "${KVNODE_NEXT_BIN:?}" dev start "$1" >"$work/start" 2>&1 || die "start $1: $(cat "$work/start")"
    until_true 20 knows "$1" 4 || die "nobody heard that $1 knows level 4"
}
write_on() {
    local i=0
    while [ ! -e "$work/enough" ]; do
        i=$((i + 1))
        timeout 30 kvnode set "load/$((i % 20))" $i >/dev/null 2>>"$work/refused" && echo "$((i % 20)) $i" >>"$work/acked"
    done
}
acked() { [ "$(wc -l <"$work/acked")" -gt "$1" ]; }

at_three() { kvnode config --cluster | grep -q '^feature_level = 3 '; }
say "who writes at once to a new cluster does not leave it at level 1"
kvnode dev up 3 >"$work/up" 2>&1 &
born=$!
written() { kvnode set born/first yes >/dev/null 2>&1; }
until_true 20 written || die "nothing could be written"
at_three || die "$(kvnode config --cluster)"
wait $born || die "$(cat "$work/up")"
touch "$work/acked"
write_on &
writer=$!
children+=("$writer")
until_true 20 acked 20 || die "nothing is written"

say "all of one build"
expect 6 kvnode config --cluster feature_level=4
has "$err" "n1 (version"
has "$err" "knows 3"
expect 6 kvnode config --cluster feature_level=default
[ "$(next_write n1 max_keys 500)" = 23 ] || die "an operation that nobody knows was not refused"
kvnode config --cluster | grep -q '^feature_level = 3 ' || die "$(kvnode config --cluster)"

say "one has been upgraded, then two: the new operation is refused by each, also by those who know it"
for node in n3 n2; do
    upgrade $node
    for at in n1 n2 n3; do
        [ "$(next_write $at max_keys 500)" = 23 ] || die "not refused at $at"
    done
    expect 6 kvnode config --cluster feature_level=4
    has "$err" "n1 (version"
done
case $err in *"n2 (version"*) die "n2 is named: $err" ;; esac

say "all have been: it is offered, and comes into force when somebody says so"
upgrade n1
[ "$(next_write n1 max_keys 500)" = 23 ] || die "in force before anybody said so"
expect 0 kvnode status
has "$out$err" "kvnode config --cluster feature_level=4"
"$KVNODE_NEXT_BIN" dev kill n2 >/dev/null || die "kill n2"
expect 6 kvnode config --cluster feature_level=4
has "$err" "n2 is not heard"
"$KVNODE_NEXT_BIN" dev start n2 >/dev/null 2>&1 || die "start n2"
until_true 20 knows n2 4 || die "n2 is not heard"
expect 0 kvnode config --cluster feature_level=4
expect 6 kvnode config --cluster feature_level=3
has "$err" "can only rise"
for at in n1 n2 n3; do
    [ "$(next_write $at max_keys 50$at)" = 8 ] || die "nonsense through the new operation at $at"
    [ "$(next_write $at max_keys 5000)" = 0 ] || die "the new operation at $at"
done
kvnode config --cluster | grep -q '^max_keys = 5000 ' || die "$(kvnode config --cluster)"

until_true 60 acked 100 || die "hardly anything was written: $(wc -l <"$work/acked"); $(tail -n 3 "$work/refused")"
touch "$work/enough"
wait "$writer"
children=()
# The last acknowledged value of each key, or a later one whose answer was lost.
for ((i = 0; i < 20; i++)); do
    last=$(grep "^$i " "$work/acked" | tail -n 1 | cut -d' ' -f2)
    [ -z "$last" ] || [ "$(kvnode get "load/$i")" -ge "$last" ] || die "load/$i is $(kvnode get "load/$i"), acknowledged was $last"
done
equal_digests 3

say "a node of the old build takes no part any more, and loses nothing"
"$KVNODE_NEXT_BIN" dev kill n3 >/dev/null || die "kill n3"
"$KVNODE_NEXT_BIN" set after-n3 1 || die "set"
if timeout 60 kvnode dev start n3 >"$work/start" 2>&1; then die "an old build was started: $(cat "$work/start")"; fi
grep -q "feature level" "$work/run/n3/log" || die "it did not say why"
"$KVNODE_NEXT_BIN" dev start n3 >"$work/start" 2>&1 || die "n3 does not come back: $(cat "$work/start")"
[ "$(kvnode get -n n3 after-n3)" = 1 ] || die "n3 lost something"
equal_digests 3

say "a new cluster of the new build begins at its level"
"$KVNODE_NEXT_BIN" dev down >/dev/null 2>&1 || die "down"
mkdir "$work/fresh"
export KVNODE_DEV_DIR=$work/fresh/run KVNODE_SOCKET_DIR=$work/fresh/run/sock
"$KVNODE_NEXT_BIN" dev up 3 >"$work/start" 2>&1 || die "$(cat "$work/start")"
at_four() { kvnode config --cluster | grep -q '^feature_level = 4 '; }
at_four || die "not when it is up: $(kvnode config --cluster)"
