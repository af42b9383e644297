#!/bin/sh
# File-system tests of LTP (github.com/linux-test-project/ltp): run 2400 ltp CHECKOUT [TEST]...
#
# In CHECKOUT, lib, libs, testcases/lib, tools/apicmds and what there is below testcases/kernel/fs are built. The tests are those of
# runtest/fs and runtest/fs_perms_simple that work in the file system's own folder: none that want a device, quotas or
# /proc. What runs for a time runs for TIME seconds here (10).
set -u
# shellcheck source=tests/suites/lib.sh disable=SC1091
. "$(dirname "$0")/lib.sh"
checkout=$(cd "$1" && pwd) || exit 2
shift
fs=$checkout/testcases/kernel/fs
for p in doio/growfiles ftest/ftest01; do [ -x "$fs/$p" ] || { echo "$checkout is not built" >&2; exit 2; }; done
# As they would be installed.
bin=$S/ltp/testcases/bin
mkdir -p "$bin"
find "$fs" "$checkout/testcases/lib" "$checkout/tools/apicmds" "$checkout/testcases/misc" -type f ! -name '*.[cho]' |
    while read -r f; do
        case $(head -c 4 "$f" | tr -d '\0') in
        '#!'* | ?ELF*) cp "$f" "$bin" && chmod 755 "$bin/${f##*/}" ;;
        esac
    done
PATH=$bin:$PATH
export PATH LTPROOT="$S/ltp" LTP_TIMEOUT_MUL=4
time=${TIME:-10}
passed=0 failed=0 skipped=0
grep -hv '^#\|^$' "$checkout/runtest/fs" "$checkout/runtest/fs_perms_simple" >"$S/list"
while read -r name command; do
    case $name in
    proc01 | writetest01 | read_all_* | quota_* | isofs | binfmt_* | squashfs* | fs_fill | acl_*) continue ;;
    esac
    [ $# = 0 ] || case " $* " in *" $name "*) ;; *) continue ;; esac
    command=$(printf '%s' "$command" | sed -E "s/-L [0-9]+/-L $time/; s/-i [0-9]+s/-i ${time}s/")
    export TMPDIR="$M/$name"
    mkdir "$TMPDIR" && chmod 1777 "$TMPDIR" && cd "$TMPDIR" || exit 1
    timeout -k 5 300 sh -c "$command" >"$S/out" 2>&1 </dev/null
    status=$?
    cd / || exit 1
    case $status in
    0) passed=$((passed + 1)) ;;
    32) skipped=$((skipped + 1)) && echo "skipped: $name: $(grep -m 1 TCONF "$S/out")" ;;
    *)
        failed=$((failed + 1))
        echo "FAILS: $name ($status)"
        grep -v 'TPASS\|TINFO' "$S/out" | tail -n "${SHOW:-6}" | sed 's/^/    /'
        ;;
    esac
    rm -rf "$TMPDIR"
done <"$S/list"
echo "$passed pass, $failed fail, $skipped are not for this file system"
[ "$failed" = 0 ]
