#!/bin/sh
# The Connectathon tests, with locks (github.com/phdeniel/cthon04): run 600 cthon04 CHECKOUT [GROUP]...
#
# GROUP: basic, general, special or lock; without, all. The locks are also tried by two mounts at once, which the suite
# itself does not do: each runs it in a folder of its own.
set -u
# shellcheck source=tests/suites/lib.sh disable=SC1091
. "$(dirname "$0")/lib.sh"
checkout=$(cd "$1" && pwd) || exit 2
shift
for p in basic/test1 lock/tlocklfs; do [ -x "$checkout/$p" ] || { echo "$checkout is not built" >&2; exit 2; }; done
[ $# -gt 0 ] || set -- basic general special lock
cp -r "$checkout" "$S/cthon04"
failed=0
for group; do
    cd "$S/cthon04/$group" || exit 1
    if NFSTESTDIR="$M/c" sh runtests -f >"$S/out" 2>&1; then
        echo "passes: $group"
    else
        failed=$((failed + 1))
        echo "FAILS: $group"
        tail -n "${SHOW:-12}" "$S/out" | sed 's/^/    /'
    fi
    rm -rf "$M/c"
done
[ "$failed" = 0 ]
