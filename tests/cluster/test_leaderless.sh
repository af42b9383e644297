#!/bin/bash
# What a node can do without being asked at the leader, and without any leader: transfer
# through every node, and the past from what this node has.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

up 3
leader() { kvnode status -n "$1" --json 2>/dev/null | python3 -c 'import json,sys; print(json.load(sys.stdin)["leader"] or "")'; }

say "leadership is handed over by asking any node"
for asked in n1 n2 n3; do
    for to in n3 n1 n2; do
        # So far as the asked node knows.
        expect 0 kvnode transfer -n "$asked" "$to"
        [ "$(leader "$asked")" = "$to" ] || die "asked at $asked for $to, $(leader "$asked") leads"
    done
done
expect 0 kvnode transfer -n n1 n2
has "$err" "n2 leads already"
expect 6 kvnode transfer -n n1 n9
has "$err" "no such node"
before=$(leader n2)
expect 0 kvnode transfer -n n1
[ "$(leader n1)" != "$before" ] || die "$before leads on"
if [ "$(id -u)" = 0 ]; then
    chmod 711 "$work" "$work/run" "$work/run/sock" && chmod 666 "$work"/run/sock/n1.sock
    install -m 755 "$(command -v kvnode)" "$work/kvnode"
    expect 6 setpriv --reuid=nobody --regid=nogroup --clear-groups "$work/kvnode" -n "$work/run/sock/n1.sock" transfer
fi

say "start follower, start all"
expect 0 kvnode dev kill leader
expect 0 kvnode dev kill follower
expect 2 kvnode dev start leader
expect 0 kvnode dev start follower
expect 0 kvnode dev start follower
expect 1 kvnode dev start follower
has "$err" "run already"

say "the past without a leader"
for i in 1 2 3; do
    expect 0 kvnode set app/key "value $i"
done
expect 0 kvnode history app/key
whole=$out
expect 0 kvnode log
log=$out
expect 0 kvnode dev kill n2
expect 0 kvnode dev kill n3
expect 4 kvnode --timeout 2s -n n1 history app/key
has "$err" "--local for what this node has"
expect 4 kvnode --timeout 2s -n n1 log
expect 0 kvnode --timeout 2s -n n1 history --local app/key
[ "$out" = "$whole" ] || die "history --local: $out"
expect 0 kvnode --timeout 2s -n n1 log --local
[ "$out" = "$log" ] || die "log --local: $out, not $log"
expect 0 kvnode --timeout 2s -n n1 get --local app/key
[ "$out" = "value 3" ] || die "get --local: $out"
expect 0 kvnode --timeout 2s -n n1 get --local --version 2 app/key
[ "$out" = "value 2" ] || die "get --local --version 2: $out"
begin=$(now_ms)
for to in "" n1 n2; do
    # shellcheck disable=SC2086
    expect 4 kvnode --timeout 60s -n n1 transfer $to
    has "$err" "in a minority (n2 is unreachable, n3 is unreachable)"
done
[ $(($(now_ms) - begin)) -lt 30000 ] || die "a node that knows of its minority waits"
expect 4 kvnode -n n1 status
has "$out" "The cluster does not accept writes: 1 of 3 voters can take them, 2 are needed (n2 is unreachable, n3 is unreachable)."
expect 0 kvnode dev start all
expect 0 kvnode set app/key again

say "a large value whose session got no answer was not written"
head -c 600000 /dev/zero >"$work/large"
at=$(leader n1)
for n in n1 n2 n3; do
    [ "$n" = "$at" ] || expect 0 kvnode dev pause "$n"
done
expect 4 bash -c 'exec kvnode --timeout 2s -n "$1" set large - <"$2"' - "$at" "$work/large"
has "$err" "nothing was written"
for n in n1 n2 n3; do
    [ "$n" = "$at" ] || expect 0 kvnode dev resume "$n"
done
until_true 20 kvnode set app/key again
expect 3 kvnode get large
say ok
