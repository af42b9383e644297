#!/bin/sh
# pjdfstest (github.com/pjd/pjdfstest): run 1500 pjdfstest CHECKOUT [TEST]...
#
# CHECKOUT has the built program (pjdfstest) in it. TEST: a folder or file below CHECKOUT/tests; without, all. Where a
# test goes through kinds of files, it does so here for those that kvfs has: all but devices (DEVICES=1: for all).
# Other checks that fail for a reason are those of `known`; any other number of failures in a file is one.
# SHOW: how many lines of each file.
set -u
# shellcheck source=tests/suites/lib.sh disable=SC1091
. "$(dirname "$0")/lib.sh"
checkout=$(cd "$1" && pwd) || exit 2
shift
[ -x "$checkout/pjdfstest" ] || { echo "$checkout/pjdfstest is not built" >&2; exit 2; }

# FILE FAILURES REASON: there are no device nodes (EPERM); a file of 2 GiB is above any value_limit (EFBIG).
known() {
    [ -z "${PLAIN:-}" ] || return
    cat <<'END'
mknod/02.t 6 device nodes
mknod/03.t 6 device nodes
mknod/11.t 24 device nodes
unlink/00.t 32 device nodes
open/25.t 3 a file of 2 GiB
END
}

tests=$S/pjd
mkdir -p "$tests"
cp -r "$checkout/tests" "$checkout/pjdfstest" "$tests"
[ -n "${DEVICES:-}" ] || grep -rl 'for type' "$tests/tests" | xargs sed -i -E '/for type[0-9]* in/s/ (block|char)//g'
mkdir "$M/t" && chmod 755 "$M/t" && cd "$M/t" || exit 1
if [ $# = 0 ]; then set -- .; fi
failed=0 lines=0 expected=0 total=0 files=0
out=$S/out
for test in $(cd "$tests/tests" && find "$@" -name '*.t' | sed 's,^\./,,' | sort); do
    bash "$tests/tests/$test" >"$out" 2>&1
    files=$((files + 1))
    total=$((total + $(grep -c '^ok\|^not ok' "$out")))
    bad=$(grep '^not ok' "$out" | grep -v '# TODO')
    # All that were planned must have been said, but for kinds of files that were left out.
    grep -q '^ok\|^not ok\|^1\.\.0' "$out" || bad="said nothing: $(head -n 2 "$out")"
    n=$(printf '%s' "$bad" | grep -c .)
    may=$(known | awk -v test="$test" '$1 == test { n = $2 } END { print n + 0 }')
    [ "$n" = "$may" ] && expected=$((expected + n)) && continue
    failed=$((failed + 1)) lines=$((lines + n))
    echo "FAILS: $test ($n, of which $may are known)"
    printf '%s\n' "$bad" | head -n "${SHOW:-3}" | sed -E 's/([0-9a-f]{30})[0-9a-f/]*/\1…/g; s/^/    /'
done
echo "$files files, $total checks; $lines fail in $failed files; $expected more have a reason"
[ "$failed" = 0 ]
