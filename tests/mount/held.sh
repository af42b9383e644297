#!/bin/sh
# What is removed and still held by something that is no open file, and callers whose pid is not seen.
set -u
# shellcheck source=/dev/null
. "$(dirname "$0")/lib.sh"

no_directory_is_made() { mkdir ./d 2>&1 | grep -q "No such file"; }

# removed_cwd HERE THERE: the working directory is removed on the mount THERE
removed_cwd() {
    mkdir "$1/gone" && cd "$1/gone" || return
    ls -la >/dev/null
    rmdir "$2/gone"
    is "$3: a removed working directory is listed, and empty" "0 0" "$(ls | wc -l) $(ls >/dev/null 2>&1; echo $?)"
    is "$3: it has no links" "0 directory" "$(stat -c '%h %F' .)"
    fails_with "$3: nothing is found in it" "No such file" cat ./x
    fails_with "$3: nothing is made in it" "No such file\|nonexistent" sh -c 'echo x >./x'
    # The kernel is told of a removal elsewhere a moment later.
    succeeds "$3: no directory either" within 2 no_directory_is_made
    mkdir "$1/gone"
    echo new >"$2/gone/x"
    is "$3: another one of its name is not it" "0" "$(ls | wc -l)"
    is "$3: which is found by its name" "new" "$(cat "$1/gone/x")"
    cd "$WORK" || exit 1
    rm -r "$1/gone"
}
removed_cwd "$A" "$A" "removed here"
removed_cwd "$A" "$B" "removed elsewhere"

if [ "$(id -u)" = 0 ]; then
    # one_file HERE THERE: a single file of the mount HERE is bound, then replaced on THERE
    one_file() {
        echo old >"$1/config"
        : >"$WORK/bound"
        mount --bind "$1/config" "$WORK/bound"
        is "$3: a bound file is read" "old" "$(cat "$WORK/bound")"
        echo new >"$2/config.new"
        mv "$2/config.new" "$2/config"
        is "$3: the name has the new text" "new" "$(cat "$1/config")"
        is "$3: the bound file has the old one" "old" "$(cat "$WORK/bound")"
        is "$3: and no name" "0" "$(stat -c %h "$WORK/bound")"
        is "$3: it can be read from within" "ld" "$(tail -c +2 "$WORK/bound")"
        i=0
        while [ $i -lt 60 ]; do
            echo $i >"$2/other.new"
            mv "$2/other.new" "$2/other"
            i=$((i + 1))
        done
        is "$3: for as long as it is bound" "old" "$(cat "$WORK/bound")"
        rm "$2/config"
        is "$3: when the name is gone, too" "old" "$(cat "$WORK/bound")"
        umount "$WORK/bound"
    }
    one_file "$A" "$A" "replaced here"
    one_file "$A" "$B" "replaced elsewhere"
    exec 9<"$A/other"
    rm "$A/other"
    is "an open one is read by /proc/self/fd" "59" "$(cat /proc/self/fd/9)"
    exec 9<&-
fi

if [ "$(id -u)" = 0 ] && unshare -p -f true 2>/dev/null; then
    M=$BASE/m1
    mkdir "$M"
    unshare -p -f "$KVFS" -f "$NODES" "$M" 2>"$BASE/m1.log" &
    is_mounted() { awk -v m="$M" '$5 == m { f = 1 } END { exit !f }' /proc/self/mountinfo; }
    succeeds "without a pid: a mount" within 20 is_mounted
    echo one >"$M/pid"
    is "without a pid: a write is published by its close" "one" "$(cat "$B/pid")"
    echo two >>"$M/pid"
    is "without a pid: so is an append" "one two" "$(tr '\n' ' ' <"$B/pid" | sed 's/ $//')"
    : >"$M/pid"
    is "without a pid: and an emptying" "0" "$(wc -c <"$B/pid")" # opened: a stat alone may be a moment behind
    exec 8>>"$M/pid"
    echo a >&8
    is "without a pid: what is written is seen here" "a" "$(cat "$M/pid")"
    exec 8>&-
    is "without a pid: and there" "a" "$(cat "$B/pid")"
    exec 8<"$M/pid"
    rm "$B/pid"
    is "without a pid: a removed file is read on" "a" "$(cat /proc/self/fd/8)"
    exec 8<&-
    for i in 1 2 3 4 5; do
        echo "$i" >"$B/swap.new"
        mv "$B/swap.new" "$B/swap"
        is "without a pid: a file that was replaced elsewhere, $i" "$i" "$(cat "$M/swap")"
    done
    removed_cwd "$M" "$B" "without a pid"
    succeeds "without a pid: unmount" umount "$M"
fi
plan
