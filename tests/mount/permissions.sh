#!/bin/sh
# A mount for all users: the kernel checks modes, the cluster knows the owners.
set -u
# shellcheck source=/dev/null
. "$(dirname "$0")/lib.sh"
if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null; then
    echo "1..0 # SKIP needs root and setpriv"
    exit 0
fi
M=$BASE/m1
mkdir "$M"
chmod 755 "$BASE" "$WORK"
as() { setpriv --reuid 1000 --regid 1000 --clear-groups "$@"; }

ln -s "$KVFS" "$WORK/mount.kvfs"
succeeds "mount.kvfs takes what mount(8) passes" "$WORK/mount.kvfs" "$NODES" "$M" -n -o rw,_netdev,nofail,allow_other
mkdir "$M/public" "$M/private"
chmod 1777 "$M/public"
chmod 700 "$M/private"
echo secret >"$M/private/key"
echo open >"$M/public/open"
echo before >"$M/public/root"
chmod 600 "$M/public/root"
echo after >"$M/public/root"

as sh -c "echo mine >'$M/public/mine'"
is "a file belongs to its maker" "1000:1000" "$(stat -c %u:%g "$M/public/mine")"
is "on every mount" "1000:1000" "$(stat -c %u:%g "$B/public/mine")"
as mkdir "$M/public/dir"
is "a directory too" "1000" "$(stat -c %u "$M/public/dir")"
is "what is readable is read" "open" "$(as cat "$M/public/open")"
fails_with "what is not, is not" "Permission denied" as cat "$M/public/root"
fails_with "nor its versions" "Permission denied" as cat "$M/public/.versions/root/2"
fails_with "nor those from before it was private" "Permission denied" as cat "$M/public/.versions/root/1"
fails_with "nor their list" "Permission denied" as ls "$M/public/.versions/root"
is "versions of a public file are" "open" "$(as cat "$M/public/.versions/open/1")"
fails_with "a private directory is not entered" "Permission denied" as ls "$M/private"
fails_with "nor its versions" "Permission denied" as ls "$M/private/.versions"
fails_with "nothing is written over" "Permission denied" as sh -c "echo x >'$M/public/open'"
fails_with "nor removed from a sticky directory" "not permitted" as rm -f "$M/public/open"
fails_with "nor given away" "not permitted" as chown 0 "$M/public/dir"
succeeds "one's own is removed" as rm "$M/public/mine"
rm "$M/public/root"
fails_with "versions of a removed private file stay private" "Permission denied" as cat "$M/public/.versions/root/1"
is "root reads them" "before" "$(cat "$M/public/.versions/root/1")"
as sh -c "umask 022; mkdir -m 700 '$M/public/pd'; echo secret >'$M/public/pd/key'; rm -r '$M/public/pd'"
as2() { setpriv --reuid 1001 --regid 1001 --clear-groups "$@"; }
as2 mkdir "$M/public/pd"
fails_with "a private directory's history goes to nobody who makes it again" "No such file" as2 cat "$M/public/pd/.versions/key/1"
for k in removed renamed; do
    as sh -c "umask 022; echo one >'$M/public/$k'; echo two >'$M/public/$k'"
    is "$k: open to all" "one" "$(as2 cat "$M/public/.versions/$k/1")"
    as chmod 600 "$M/public/$k"
    fails_with "$k: closed" "Permission denied" as2 cat "$M/public/.versions/$k/1"
done
as rm "$M/public/removed"
as mv "$M/public/renamed" "$M/public/elsewhere"
for k in removed renamed; do
    fails_with "$k: stays closed" "Permission denied" as2 cat "$M/public/.versions/$k/1"
    is "$k: its owner reads it" "one" "$(as cat "$M/public/.versions/$k/1")"
    as2 sh -c "umask 022; echo three >'$M/public/$k'"
    is "$k: taken by another" "three" "$(as2 cat "$M/public/.versions/$k/3")"
    fails_with "$k: and still closed" "Permission denied" as2 cat "$M/public/.versions/$k/1"
    fails_with "$k: by its other name too" "Permission denied" as2 cat "$M/public/.versions/$k/-2"
done
fails_with "a mount without allow_other is its owner's" "Permission denied" as ls "$A"
succeeds "unmount" umount "$M"
plan
