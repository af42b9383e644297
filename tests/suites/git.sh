#!/bin/sh
# git's own tests, their trash directory on the mount: run 1800 git CHECKOUT [TEST]...
#
# CHECKOUT: of git (github.com/git/git, or Debian's source), built. TEST: a number (t3200); without, those that do most
# with files. A test that fails here and not on an ordinary file system is a failure.
set -u
# shellcheck source=tests/suites/lib.sh disable=SC1091
. "$(dirname "$0")/lib.sh"
checkout=$(cd "$1" && pwd) || exit 2
shift
[ -x "$checkout/bin-wrappers/git" ] || { echo "$checkout is not built" >&2; exit 2; }
[ $# -gt 0 ] || set -- t0000 t1006 t1400 t2200 t3200 t5300 t6300 t7500
cd "$checkout/t" || exit 1
total=0 failed=0
for name; do
    test=$(echo "$name"-*.sh)
    [ -f "$test" ] || { echo "FAILS: $name: is not there"; failed=$((failed + 1)); continue; }
    bash "./$test" --root="$M" >"$S/out" 2>&1
    status=$?
    ok=$(grep -c '^ok' "$S/out") bad=$(grep '^not ok' "$S/out" | grep -vc '# TODO known')
    total=$((total + ok)) failed=$((failed + bad))
    [ $status = 0 ] || [ "$bad" != 0 ] || failed=$((failed + 1))
    [ $status != 0 ] || { echo "passes: $name ($ok)"; continue; }
    echo "FAILS: $name ($bad)"
    grep '^not ok\|^error\|^fatal' "$S/out" | grep -v '# TODO known' | head -n "${SHOW:-10}" | sed 's/^/    /'
    rm -rf "$M/trash directory"*
done
echo "$total pass, $failed fail"
[ "$failed" = 0 ]
