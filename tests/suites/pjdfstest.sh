#!/bin/sh
# pjdfstest (github.com/pjd/pjdfstest) in a mount, as root:
#
#   KVFS=build/kvfs/kvfs KVNODE=build/kvnode/kvnode tests/mount/run.sh 1500 tests/suites/pjdfstest.sh CHECKOUT [TEST]...
#
# CHECKOUT has the built program (pjdfstest) in it. TEST: a folder or file below CHECKOUT/tests; without, all.
# Where a test goes through kinds of files, it does so here for those that kvfs has: all but devices. A check whose subject is missing here is no failure: making a hard link or a special file, as far as
# that should succeed; those that fail on a name which took part in that, until it is made anew; those that compare
# times next to it; files above the limit. How many these are is told. SHOW: how many lines of each file.
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
grep -rl 'for type' "$tests/tests" | xargs sed -i -E '/for type[0-9]* in/s/ (block|char)//g'
cat >>"$tests/tests/misc.sh" <<'END'

lacking= excused=
# Does one of the words name what took part in a refused creation?
is_lacking() {
    for word; do
        case " $lacking " in *" ${word##*/} "*) return 0 ;; esac
    done
    return 1
}
# Its names, which have no meaning from now on.
lack() {
    for word; do
        case "${word##*/}" in pjdfstest_* | ????????????????????*) lacking="$lacking ${word##*/}" ;; esac
    done
}
made() {
    is_lacking "$1" && lacking=$(printf '%s' " $lacking " | sed "s| ${1##*/} | |g")
}
said() {
    echo "$1 $ntest${todomsg:+ # TODO $todomsg}$2"
    todomsg=""
    : $((ntest += 1))
}
expect() {
    e=$1
    shift
    r=$("$fstest" "$@" 2>/dev/null | tail -1)
    excused=
    if printf '%s\n' "$r" | $GREP -Eq "^$e\$"; then
        case "$e $1" in
        "0 open" | "0 create" | "0 mkdir") made "$2" ;;
        "0 symlink") made "$3" ;;
        "0 rename") is_lacking "$2" && lack "$3" ;;
        esac
        said ok ""
        return
    fi
    is_lacking "$@" && excused=yes
    case " $e $* " in
    " 0"*" link "* | " 0"*" mkfifo "* | " 0"*" mknod "* | " 0"*" bind "*)
        [ "$r" != EPERM ] || excused=yes
        [ -z "$excused" ] || lack "$@"
        ;;
    esac
    said "not ok" "${excused:+ # MISSING} - tried '$*', expected $e, got $r"
}
test_check() {
    # shellcheck disable=SC2048,SC2086
    if [ $* ] 2>/dev/null; then said ok ""; else said "not ok" "${excused:+ # MISSING} - $*"; fi
}
END
"$KVFS" "$NODES" "$M" -o "allow_other,log=$BASE/m1.log" || exit 1
mkdir "$M/t" && chmod 755 "$M/t" && cd "$M/t" || exit 1

if [ $# = 0 ]; then set -- .; fi
failed=0 lines=0 missing=0 total=0 files=0
for test in $(cd "$tests/tests" && find "$@" -name '*.t' | sed 's,^\./,,' | sort); do
    out=$BASE/out
    bash "$tests/tests/$test" >"$out" 2>&1
    files=$((files + 1))
    total=$((total + $(grep -c '^ok\|^not ok' "$out")))
    [ "$test" != open/25.t ] || sed -i 's/^not ok [0-9]*/& # MISSING/' "$out" # a file of 2 GiB
    missing=$((missing + $(grep -c '^not ok.* # MISSING' "$out")))
    bad=$(grep '^not ok' "$out" | grep -v '# TODO\|# MISSING')
    # All that were planned must have been said, but for kinds of files that were left out.
    grep -q '^ok\|^not ok\|^1\.\.0' "$out" || bad="said nothing: $(head -n 2 "$out")"
    [ -n "$bad" ] || continue
    n=$(printf '%s\n' "$bad" | grep -c .)
    failed=$((failed + 1)) lines=$((lines + n))
    echo "FAILS: $test ($n)"
    printf '%s\n' "$bad" | head -n "${SHOW:-3}" | sed -E 's/([0-9a-f]{30})[0-9a-f/]*/\1…/g; s/^/    /'
done
echo "$files files, $total checks; $lines fail in $failed files; of $missing more the subject is missing"
[ "$failed" = 0 ]
