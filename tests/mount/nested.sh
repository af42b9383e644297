#!/bin/sh
# What is mounted in a directory of the mount A, and over one of its files, while names are changed on the mount B:
# it stays mounted, whatever is changed beside it or above it, and all other names stay coherent.
set -u
# shellcheck source=/dev/null
. "$(dirname "$0")/lib.sh"

if [ "$(id -u)" != 0 ]; then
    echo "1..0 # SKIP only root mounts"
    exit 0
fi

is_mounted() { awk -v m="$1" '$5 == m { f = 1 } END { exit !f }' /proc/self/mountinfo; }
logs() { grep -q "$1" "$BASE/a.log"; }
# says TEXT: what the mount A says of itself
says() { grep -q "$1" "$A/.kvfs/mount"; }
# still NAME: the two mounts are there, and what is in them is read
still() {
    is "$1: the mount inside is there" "inside" "$(cat "$A/top/with/inner/file" 2>&1)"
    is "$1: so is the one over a file" "bound" "$(cat "$A/top/covered" 2>&1)"
}
# there PATH...: yes or no for each
there() {
    answers=''
    for path in "$@"; do
        if [ -e "$A/$path" ]; then answers="$answers yes"; else answers="$answers no"; fi
    done
    echo "${answers# }"
}
# know PATH...: the kernel is asked for names, there or not, so that it remembers them
know() {
    for path in "$@"; do
        [ -e "$A/$path" ]
        ls "$A/$path" >/dev/null 2>&1
    done
}

mkdir -p "$A/top/with/inner" "$A/top/beside/deep" "$A/other"
echo covered >"$A/top/covered"
echo bound >"$WORK/bound"
for f in one two three; do
    echo $f >"$A/top/$f"
    echo $f >"$A/top/with/$f"
    echo $f >"$A/$f"
done
ls -lR "$A" "$B" >/dev/null
know missing top/missing top/with/missing
succeeds "names are remembered before" says '"names_cached": true'

succeeds "a file system is mounted inside" mount -t tmpfs tmpfs "$A/top/with/inner"
succeeds "a file is mounted over one" mount --bind "$WORK/bound" "$A/top/covered"
echo inside >"$A/top/with/inner/file"
succeeds "the log says so" within 10 logs "mounted inside"
succeeds "names are not remembered then" within 10 says '"names_cached": false'
still "at first"

mv "$B/one" "$B/uno"
still "a name is moved beside the directory"
eventually "that name is gone" "no" there one
is "and there by the new one" "one" "$(cat "$A/uno")"

mv "$B/top/one" "$B/top/with/uno"
mv "$B/top/with/two" "$B/top/dos"
still "names are moved beside the mounts"
eventually "they are gone" "no no" there top/one top/with/two
is "and found" "one two" "$(cat "$A/top/with/uno" "$A/top/dos" | tr '\n' ' ' | sed 's/ $//')"

echo new >"$B/top/three.new"
mv "$B/top/three.new" "$B/top/three"
still "a file beside is replaced"
is "its text is the new one" "new" "$(cat "$A/top/three")"

rm -r "$B/top/beside" "$B/two"
still "names are removed"
eventually "a removed directory is gone" "no" there top/beside/deep
eventually "a removed file is gone" "no" there two

for m in missing top/missing top/with/missing; do
    echo "$m" >"$B/$m"
    eventually "a name that was known to be missing is there: $m" "yes" there "$m"
done
still "names that were missing are made"

mkdir "$B/top/with/new"
mv "$B/other" "$B/top/with/new/other"
still "a directory is moved there"
is "it is found" "other" "$(ls "$A/top/with/new")"
is "and listed as gone" "0" "$(ls "$A" | grep -c '^other$')"

i=0
while [ $i -lt 50 ]; do
    echo $i >"$B/top/swap.new"
    mv "$B/top/swap.new" "$B/top/swap"
    mv "$B/top/with/three" "$B/top/with/tres"
    ls -lR "$A" >/dev/null
    [ "$(cat "$A/top/swap")" = $i ] || { not_ok "a file that is replaced all the time, $i"; break; }
    mv "$B/top/with/tres" "$B/top/with/three"
    [ "$(cat "$A/top/with/inner/file" 2>&1)" = inside ] || { not_ok "the mount inside, round $i"; break; }
    i=$((i + 1))
done
is "rounds of all that" 50 "$i"
still "names are replaced all the time"

# As on a local disk the mount goes with the directory.
mv "$B/top/with" "$B/top/along"
is "the directory above is moved: it goes with it" "inside" "$(cat "$A/top/along/inner/file" 2>&1)"
eventually "its old name is gone" "no" there top/with
mv "$B/top" "$B/summit"
eventually "the one above that: the old name is gone" "no" there top
is "and it goes with that, though the old name was asked for first" "inside" "$(cat "$A/summit/along/inner/file" 2>&1)"
mkdir "$B/elsewhere"
mv "$B/summit/along" "$B/elsewhere/along"
eventually "to another directory: the old name is gone" "no" there summit/along
is "and it goes there" "inside" "$(cat "$A/elsewhere/along/inner/file" 2>&1)"
mkdir "$B/summit/along"
is "another one by the old name is not it" "0" "$(ls "$A/summit/along" | wc -l)"
mv "$B/elsewhere/along/inner" "$B/elsewhere/along/core"
eventually "the directory itself: the old name is gone" "no" there elsewhere/along/inner
is "and it goes with it" "inside" "$(cat "$A/elsewhere/along/core/file" 2>&1)"
i=0
while [ $i -lt 30 ]; do
    mv "$B/elsewhere" "$B/elsewhere.$i"
    [ -e "$A/elsewhere" ]
    mv "$B/elsewhere.$i" "$B/elsewhere"
    [ -e "$A/elsewhere.$i" ]
    i=$((i + 1))
done
is "moved to and fro" "inside" "$(cat "$A/elsewhere/along/core/file" 2>&1)"

mv "$A/elsewhere" "$A/here"
is "moved here" "inside" "$(cat "$A/here/along/core/file" 2>&1)"

succeeds "it is unmounted" umount "$A/here/along/core"
succeeds "so is the file" umount "$A/summit/covered"
succeeds "names are remembered again" within 10 says '"names_cached": true'
know here/along here/nothing
mv "$B/here/along" "$B/here/nothing"
eventually "and dropped all at once" "no yes" there here/along here/nothing
is "what was missing is there" "0" "$(ls "$A/here/nothing/core" | wc -l)"

# Without a node no name can be looked up: what is mounted inside stays.
mkdir "$A/here/last"
M=$BASE/m1
mkdir "$M"
succeeds "a mount with one node" "$KVFS" "${NODES##*,}" "$M" -o "timeout=1,log=$BASE/m1.log"
succeeds "with something inside" mount -t tmpfs tmpfs "$M/here/last"
echo last >"$M/here/last/file"
succeeds "it says so" within 10 grep -q "mounted inside" "$BASE/m1.log"
dev kill "${NODES##*,}"
fails_with "its node is away" "" cat "$M/here/last/file"
dev start "${NODES##*,}"
within 20 cat "$M/here/last/file"
is "and back: what was mounted inside is there" "last" "$(cat "$M/here/last/file" 2>&1)"
umount "$M/here/last"
succeeds "unmount" umount "$M"
plan
