# For the scripts here: where a suite works, and how its failures are told.
# shellcheck shell=sh
#
#   tests/suites/run SECONDS SUITE CHECKOUT [ARG]...     on a mount of a cluster of its own (kvfs and kvnode of ./build)
#   PLAIN=FOLDER tests/suites/SUITE CHECKOUT [ARG]...    in that folder of an ordinary file system, to compare with
#
# CHECKOUT is the suite's own folder, built as the suite says; nothing is fetched here, and nothing is built but what
# a suite builds in a test. All need root.

[ "$(id -u)" = 0 ] || { echo "needs root" >&2; exit 2; }

# M: the mount to be tested, for all users; M2: one more of the same cluster on another node; S: a folder on an
# ordinary file system for what the suite keeps.
if [ -n "${PLAIN:-}" ]; then
    S=$(mktemp -d) || exit 2
    M=$(mktemp -d "$PLAIN/suite.XXXXXX") || exit 2
    M2=$M
    trap 'cd /; rm -rf "$S" "$M"' EXIT
else
    : "${BASE:?is set by tests/suites/run}"
    S=$BASE/suite M=$BASE/m1 M2=$BASE/m2
    mkdir -p "$S" "$M" "$M2"
    second=${NODES#*,}
    "$KVNODE" config --cluster | grep -q '^feature_level = [2-9]' || { echo "the cluster has not risen" >&2; exit 1; }
    "$KVFS" "$NODES" "$M" -o "allow_other,dev,suid,log=$BASE/m1.log${OPTIONS:+,$OPTIONS}" || exit 1
    "$KVFS" "$second,$LEADER" "$M2" -o "allow_other,dev,suid,log=$BASE/m2.log${OPTIONS:+,$OPTIONS}" || exit 1
fi
chmod 755 "${S%/*}" "$S" "$M" || exit 2
