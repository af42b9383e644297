#!/bin/sh
# pjdfstest (github.com/pjd/pjdfstest) in a mount, as root:
#
#   KVFS=build/kvfs/kvfs KVNODE=build/kvnode/kvnode tests/mount/run.sh 1500 tests/suites/pjdfstest.sh CHECKOUT [TEST]...
#
# CHECKOUT has the built program (pjdfstest) in it. TEST: a folder or file below CHECKOUT/tests; without, all.
# Where a test goes through kinds of files, it does so here for those that kvfs has: regular ones, directories and
# symbolic links. Lists the files in which something fails, those whose subject is missing here (hard links, special
# files, values above the limit) apart. SHOW: how many lines of each.
set -u
checkout=$(cd "$1" && pwd) || exit 2
shift
[ -x "$checkout/pjdfstest" ] || { echo "$checkout/pjdfstest is not built" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "needs root" >&2; exit 2; }

M=$BASE/m1
tests=$BASE/pjd
mkdir -p "$M" "$tests"
chmod 755 "$BASE" "$tests"
cp -r "$checkout/tests" "$checkout/pjdfstest" "$tests"
grep -rl 'for type in' "$tests/tests" | xargs sed -i -E '/for type in/s/ (fifo|block|char|socket)//g'
"$KVFS" "$NODES" "$M" -o "allow_other,log=$BASE/m1.log" || exit 1
mkdir "$M/t" && chmod 755 "$M/t" && cd "$M/t" || exit 1

if [ $# = 0 ]; then set -- .; fi
failed=0 lines=0 missing=0 total=0 files=0
for test in $(cd "$tests/tests" && find "$@" -name '*.t' | sed 's,^\./,,' | sort); do
    out=$BASE/out
    bash "$tests/tests/$test" >"$out" 2>&1
    files=$((files + 1))
    total=$((total + $(grep -c '^ok\|^not ok' "$out")))
    bad=$(grep '^not ok' "$out" | grep -v '# TODO')
    if [ -z "$bad" ]; then
        # All of them must have been said.
        grep -q '^ok\|^1\.\.0' "$out" || bad="said nothing: $(head -n 2 "$out")"
    fi
    [ -n "$bad" ] || continue
    n=$(printf '%s\n' "$bad" | grep -c .)
    # open/25: a file of 2 GiB.
    if [ "$test" = open/25.t ] || grep -Eq "expect 0 .*\b(link|mkfifo|mknod|bind)\b" "$tests/tests/$test"; then
        missing=$((missing + 1))
        echo "subject missing: $test ($n)"
    else
        failed=$((failed + 1)) lines=$((lines + n))
        echo "FAILS: $test ($n)"
    fi
    printf '%s\n' "$bad" | head -n "${SHOW:-3}" | sed 's/^/    /'
done
echo "$files files, $total checks; $lines fail in $failed files, and some in $missing files whose subject is missing"
[ "$failed" = 0 ]
