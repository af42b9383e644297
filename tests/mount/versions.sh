#!/bin/sh
# .versions and .kvfs
set -u
# shellcheck source=/dev/null
. "$(dirname "$0")/lib.sh"
cd "$A" || exit 1

mkdir d
cd d || exit 1
for i in $(seq 1 12); do echo "content $i" >key; done
# A time between the twelfth version and the next one.
before=$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)
is_past() { # for the cluster, whose time it is that versions bear
    echo tick >../tick && [ "$(date -u -d "$(stat -c %z ../tick)" +%s%N)" -gt "$(date -u -d "$before" +%s%N)" ]
}
succeeds "the cluster's time goes on" within 10 is_past
rm ../tick
echo "content 13" >key
is "versions are listed by number, oldest first" "$(seq -s ' ' 1 13)" "$(ls -U .versions/key | tr '\n' ' ' | sed 's/ $//')"
is "each shows its content" "content 7" "$(cat .versions/key/7)"
is "-1 is the one before" "content 12" "$(cat .versions/key/-1)"
is "-12 is the first" "content 1" "$(cat .versions/key/-12)"
fails_with "-13 is none" "No such file" cat .versions/key/-13
is "@TIME is what was current then" "content 12" "$(cat ".versions/key/@$before")"
fails_with "@TIME before all is none" "No such file" cat .versions/key/@2001-01-01
fails_with "no such version" "No such file" cat .versions/key/14
fails_with "no such key" "No such file" ls .versions/nokey
fails_with "nonsense" "No such file" cat .versions/key/x
is "shows the mode that it had" "$(stat -c %a key)" "$(stat -c %a .versions/key/3)"
is "its size" "10" "$(stat -c %s .versions/key/3)"
is "its time is that of its writing" "yes" "$([ "$(stat -c %Y .versions/key/13)" -ge "$(stat -c %Y .versions/key/1)" ] && echo yes)"
is "not listed" "key" "$(ls -A)"
is "nor found" ". ./key" "$(find . | sort | tr '\n' ' ' | sed 's/ $//')"
is "on the root neither" "d" "$(ls -A "$A")"

fails_with "no writing" "Read-only" sh -c 'echo x >.versions/key/1'
fails_with "no making" "Read-only\|Permission denied" sh -c 'echo x >.versions/key/new'
fails_with "no directories" "Read-only\|Permission denied" mkdir .versions/key/dir
fails_with "no removing" "Read-only\|Permission denied" rm -f .versions/key/1
fails_with "no renaming" "Read-only\|Permission denied" mv .versions/key/1 .versions/key/99
fails_with "no moving out" "Read-only\|cross-device\|cannot remove\|Permission denied" mv .versions/key/1 out
rm -f out
fails_with "no chmod" "Read-only\|Permission denied" chmod 600 .versions/key/1
fails_with "no touch" "Read-only\|Permission denied" touch .versions/key/1
fails_with "no truncate" "Read-only\|Permission denied" truncate -s 0 .versions/key/1
fails_with "no hard links" "Read-only\|Permission denied" ln .versions/key/1 hard
fails_with "the name is reserved" "not permitted\|exists" mkdir .versions
fails_with "the other too" "not permitted\|exists" mkdir .kvfs

modes=$A/modes
mkdir "$modes" "$modes/directory" "$modes/gone"
rmdir "$modes/gone"
echo f >"$modes/f"
ln -s f "$modes/l"
echo x >"$modes/was-file" && rm "$modes/was-file" && mkdir "$modes/was-file"
cp "$modes/.versions/f/1" "$modes/copy"
is "a copy has the mode that a new file has" "644" "$(umask 022; stat -c %a "$modes/copy")"
is "what is listed can be looked up" "copy f l was-file" "$(cd "$modes/.versions" && for k in *; do ls -d "$k"/* >/dev/null && echo "$k"; done | tr '\n' ' ' | sed 's/ $//')"
is "and nothing else is listed" "4" "$(ls -A "$modes/.versions" | wc -l)"

rm key
is "a deletion is shown" "13.deleted" "$(ls .versions/key | grep deleted)"
is "a deletion is empty" "0" "$(stat -c %s .versions/key/13.deleted)"
is "a deleted key is listed" "key" "$(ls .versions)"
is "-1 of a deleted key is what it was" "content 13" "$(cat .versions/key/-1)"
cp .versions/key/13 key
is "and can be brought back" "content 13" "$(cat key)"
is "as the next version" "14" "$(versions ./key | awk '{ print $NF }')"
chmod 600 key
is "a change of mode is no version" "14" "$(versions ./key | awk '{ print $NF }')"
is "listings are never stale" "15" "$(echo "content 15" >key; versions ./key | awk '{ print $NF }')"
is "nor on another mount" "$(versions ./key)" "$(versions "$B/d/key")"
is "content is the same on another mount" "content 7" "$(cat "$B/d/.versions/key/7")"
is "versions of a private file are private" "600" "$(stat -c %a .versions/key/15)"

ln -s one link; ln -sfn two link
is "a link's versions" "one" "$(readlink .versions/link/1)"
dd if=/dev/urandom of="$WORK/big" bs=100k count=50 2>/dev/null
cp "$WORK/big" big; echo small >big
succeeds "a version of 5 MB" cmp "$WORK/big" .versions/big/1
i=0
while [ $i -lt 300 ]; do echo $i >many$i; i=$((i + 1)); done
is "many keys with history" "304" "$(ls .versions | wc -l)"

case "$(cat "$A/.kvfs/status")" in *'"leader"'*) ok "status" ;; *) not_ok "status" ;; esac
case "$(cat "$A/.kvfs/mount")" in *'"connected": true'*) ok "mount" ;; *) not_ok "mount" ;; esac
is "control files are listed in their directory" "yes" "$(ls "$A/.kvfs" | grep -q status && echo yes)"
fails_with "and only below the root" "No such file" ls "$A/d/.kvfs"
fails_with "and cannot be written" "Read-only\|Permission denied" sh -c "echo x >'$A/.kvfs/status'"

mkdir "$BASE/m1"
succeeds "a mount of a directory, .versions listed" "$KVFS" "$NODES" "$BASE/m1" -o prefix=d,versions=visible
is "shows it as its root" "content 15" "$(cat "$BASE/m1/key")"
is "lists .versions" ".versions" "$(ls -A "$BASE/m1" | grep versions)"
is "and finds versions there" "content 2" "$(cat "$BASE/m1/.versions/key/2")"
echo through >"$BASE/m1/made"
is "what is made there is below it" "through" "$(cat made)"
succeeds "unmount" umount "$BASE/m1"
mkdir "$BASE/m2"
succeeds "a mount without versions" "$KVFS" "$NODES" "$BASE/m2" -o versions=off,ro
fails_with "has none" "No such file" ls "$BASE/m2/.versions"
fails_with "read-only" "Read-only\|Permission denied" touch "$BASE/m2/x"
succeeds "unmount it" umount "$BASE/m2"
plan
