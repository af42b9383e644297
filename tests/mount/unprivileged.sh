#!/bin/sh
# A mount by a user whom the nodes do not trust: they check what it asks for. What it has
# opened, it has, as on a local disk, whatever becomes of the permissions afterwards.
set -u
# shellcheck source=/dev/null disable=SC2015
. "$(dirname "$0")/lib.sh"
for program in setpriv unshare fusermount3 perl; do
    if [ "$(id -u)" != 0 ] || ! command -v $program >/dev/null; then
        echo "1..0 # SKIP needs root and $program"
        exit 0
    fi
done
# /dev/fuse may be root's alone here: in a namespace of its own, which takes the mount with
# it, there is one for everybody.
if [ -z "${UNPRIVILEGED_NAMESPACE:-}" ]; then
    UNPRIVILEGED_NAMESPACE=1 exec unshare --mount --propagation private sh "$0"
fi
chmod 755 "$BASE" "$WORK"
mknod "$BASE/fuse" c 10 229 && chmod 666 "$BASE/fuse" && mount --bind "$BASE/fuse" /dev/fuse
chmod 755 "$BASE/run" "$KVNODE_SOCKET_DIR"
chmod 666 "$KVNODE_SOCKET_DIR"/*
M=$BASE/m1
mkdir "$M"
chown 1000:1000 "$M"
mkdir -m 777 "$WORK/user"
cd "$WORK/user" || exit 1
as() { setpriv --reuid 1000 --regid 1000 --clear-groups "$@"; }

succeeds "a user mounts" as timeout 20 "$KVFS" "$NODES" "$M" -o log="$WORK/user/log"
mkdir -m 777 "$A/d"
for f in small large create; do
    echo first >"$A/d/$f"
    chmod 666 "$A/d/$f"
done

# Opens, waits, writes and closes.
cat >writes.pl <<'END'
use IO::Handle;
my ($path, $size, $mark) = @ARGV;
open(my $f, '>', $path) or die "open: $!";
close(do { open(my $o, '>', "$mark.opened"); $o });
select(undef, undef, undef, 0.01) until -e "$mark.go";
defined(syswrite($f, 'x' x $size)) or die "write: $!";
if ($mark =~ /sync/) { $f->sync() or die "fsync: $!"; }
defined(syswrite($f, 'y' x $size)) or die "write: $!";
close($f) or die "close: $!";
END
# writes NAME BYTES MARK COMMAND ARG: the command changes the file while it is open
writes() {
    as perl writes.pl "$M/d/$1" "$2" "$3" 2>"$3.err" &
    writer=$!
    succeeds "$1, $3: it is opened" within 20 begun_or_ended "$3.opened" $writer
    "$4" "$5" "$A/d/$1"
    touch "$3.go"
    wait $writer
    is "$1, $3: what was opened before $4 $5 is published" "0 $((2 * $2))" "$? $(wc -c <"$A/d/$1")$(cat "$3.err")"
}
writes small 4 c1 chmod 600
chmod 666 "$A/d/small"
writes small 4 sync1 chmod 000
writes large 400000 c2 chmod 600
chmod 666 "$A/d/large"
writes large 400000 sync2 chmod 000
chmod 666 "$A/d/large"
chown 1000 "$A/d/large"
writes large 400000 c3 chown 0

chmod 666 "$A/d/create"
succeeds "truncate(2) of a path" as perl -e 'truncate($ARGV[0], 3) or die "$!"' "$M/d/create"
is "is published" "3" "$(wc -c <"$A/d/create")"

mkdir "$A/list"
long=$(printf '%0100d' 0)
(cd "$A/list" && seq -f "$long%.0f" 1 600 | xargs touch) # more than one read of the directory
chmod 755 "$A/list"
cat >lists.pl <<'END'
opendir(my $d, $ARGV[0]) or die "opendir: $!";
my $n = defined(readdir($d));
close(do { open(my $o, '>', "listing"); $o });
<STDIN>;
$! = 0;
$n++ while defined(readdir($d));
print(($! ? "$!" : $n - 2) . "\n");
END
mkfifo goes_on
# lists COMMAND...: run while the directory is being listed
lists() {
    rm -f listing
    as perl lists.pl "$M/list" <goes_on >listed 2>&1 &
    lister=$!
    exec 3>goes_on
    succeeds "a directory is opened" within 20 begun_or_ended listing $lister
    "$@"
    echo >&3
    exec 3>&-
    wait $lister
}
lists chmod 700 "$A/list"
is "an opened directory is listed to its end after chmod" "600" "$(tail -n 1 listed)"
chmod 755 "$A/list"
lists rm -r "$A/list"
is "one that is removed has an end too" "" "$(tr -d '0-9\n' <listed)"
mkdir -m 700 "$A/list"
fails_with "and is not opened again" "Permission denied" as ls "$M/list"
fails_with "nor is a file" "Permission denied" as bash -c "echo x >'$M/d/small'"
succeeds "unmount" as fusermount3 -u "$M"
[ ! -s log ] && ok "nothing is in the log" || not_ok "nothing is in the log" "$(cat log)"
plan
