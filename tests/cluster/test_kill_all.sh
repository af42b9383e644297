#!/bin/bash
# All nodes die at once, in the middle of writes: what was acknowledged is there.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"
up 3
for round in 1 2 3; do
    for node in n1 n2 n3; do
        (
            i=0
            while kvnode -n $node set "round$round/$node/$i" "$node $i" --timeout 2s 2>/dev/null; do
                echo "$i" >"$work/acked-$node"
                i=$((i + 1))
            done
        ) &
        children+=($!)
    done
    busy() { [ "$(cat "$work/acked-$1" 2>/dev/null || echo 0)" -ge 20 ]; }
    for node in n1 n2 n3; do
        until_true 30 busy $node || die "$node does not take writes"
    done
    kvnode dev kill all >/dev/null || die "kill all"
    for pid in "${children[@]}"; do wait "$pid"; done
    children=()
    kvnode dev start all || die "start"
    for node in n1 n2 n3; do
        last=$(cat "$work/acked-$node")
        for ((i = 0; i <= last; i++)); do
            expect 0 kvnode -n $node get "round$round/$node/$i"
            [ "$out" = "$node $i" ] || die "round$round/$node/$i is $out"
        done
        say "round $round, $node: $((last + 1)) acknowledged values are there"
        rm "$work/acked-$node"
    done
done
equal_digests 3
