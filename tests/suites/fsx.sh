#!/bin/sh
# fsx on two mounts at once, a file on each: run 1800 fsx PROGRAM-OR-CHECKOUT [OPERATIONS [SEED]]
#
# PROGRAM-OR-CHECKOUT: fsx of xfstests (ltp/fsx in its checkout; github.com/kdave/xfstests) or of LTP
# (testcases/kernel/fs/fsx-linux/fsx-linux), built; 100,000 operations. Collapsing and inserting ranges and exchanging
# them are left out: kvfs says EOPNOTSUPP, which fsx takes for an answer, too. What was written through one mount is
# compared at the end with what the other reads.
set -u
# shellcheck source=tests/suites/lib.sh disable=SC1091
. "$(dirname "$0")/lib.sh"
program=$1 n=${2:-100000} seed=${3:-1}
for p in "$1/ltp/fsx" "$1/testcases/kernel/fs/fsx-linux/fsx-linux"; do [ ! -x "$p" ] || program=$p; done
[ ! -d "$program" ] || { echo "$1: no fsx is built there" >&2; exit 2; }
begin=$(date +%s)
mkdir "$S/1" "$S/2"
(cd "$M" && exec "$program" -q -N "$n" -S "$seed" -P "$S/1" fsx1 >"$S/1.out" 2>&1) &
one=$!
(cd "$M2" && exec "$program" -q -N "$n" -S "$((seed + 1))" -P "$S/2" fsx2 >"$S/2.out" 2>&1) &
two=$!
failed=0
wait $one || failed=1
wait $two || failed=$((failed + 2))
for i in 1 2; do
    [ $((failed & i)) = 0 ] || { echo "FAILS: fsx$i"; tail -n "${SHOW:-30}" "$S/$i.out" | sed 's/^/    /'; }
    cmp "$M/fsx$i" "$M2/fsx$i" || failed=4
done
echo "2 x $n operations in $(($(date +%s) - begin)) s: $([ $failed = 0 ] && echo none fails || echo "fails ($failed)")"
[ "$failed" = 0 ]
