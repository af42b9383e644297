#!/bin/bash
# One thousand increments of a counter in a mounted file are one thousand versions.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"
up 3
mount_at "$work/kv"
cd "$work/kv" || die "cd"
echo 1 >counter
for ((i = 1; i < 1000; i++)); do
    read -r n <counter || die "read $i"
    echo $((n + 1)) >counter || die "increment $i"
done
[ "$(cat counter)" = 1000 ] || die "the counter is $(cat counter)"
[ "$(find .versions/counter -mindepth 1 | wc -l)" = 1000 ] || die "versions: $(find .versions/counter -mindepth 1 | wc -l)"
for v in 1 2 499 1000; do
    [ "$(cat .versions/counter/$v)" = $v ] || die "version $v is $(cat .versions/counter/$v)"
done
[ "$(kvnode history counter | wc -l)" = 1001 ] || die "history has $(kvnode history counter | wc -l) lines"

say "the same by compare-and-set, from three writers at three nodes"
increment() { # NODE TIMES
    local done=0 version value
    while [ $done -lt "$2" ]; do
        read -r value version < <(kvnode -n "$1" get --json cas | sed 's/.*"version":\([0-9]*\).*"value":"\([0-9]*\)".*/\2 \1/')
        kvnode -n "$1" set cas $((value + 1)) --if-version "$version" 2>>"$work/conflicts"
        case $? in
        0) done=$((done + 1)) ;;
        5) ;;
        *) return 1 ;;
        esac
    done
}
kvnode set cas 0
pids=()
for node in n1 n2 n3; do
    increment $node 30 &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || die "a writer failed: $(tail -n 3 "$work/conflicts")"; done
[ "$(kvnode get cas)" = 90 ] || die "the sum is $(kvnode get cas)"
cd /
equal_digests 3
