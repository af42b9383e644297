# shellcheck shell=bash
# For the scripts in this folder: a folder of their own, a cluster in it, and
# nothing left behind. KVNODE_BIN and KVFS_BIN name the programs under test.
set -u

work=$(mktemp -d /tmp/kvfs-cluster-XXXXXX) || exit 1
work=$(cd "$work" && pwd -P)
export KVNODE_DEV_DIR=$work/run
unset KVNODE_NODE KVNODE_CONFIG KVNODE_SOCKET_DIR KVNODE_CONFIG_DIR NO_COLOR
PATH=$(dirname "${KVNODE_BIN:?}"):$(dirname "${KVFS_BIN:?}"):$PATH
children=()
# Where a sanitizer is built in, its reports of all processes, daemons too, go here.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}log_path=$work/sanitizer"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}log_path=$work/sanitizer"

# A turn of a node's loop that takes longer is an error in its log, and fails the test (kvnode/loop/turn.h).
export KVFS_TURN_LIMIT_MS="${KVFS_TURN_LIMIT_MS:-40}"

say() {
    echo "--- $*"
}

# Shows why, and what the nodes logged last.
die() {
    echo "FAILED: $*" >&2
    local log
    for log in "$work"/run/n*/log "$work"/*/run/n*/log; do
        [ -s "$log" ] || continue
        echo "the end of $log:" >&2
        tail -n 25 "$log" >&2
    done
    exit 1
}

unmount_below() {
    local point
    # Twice: a mount that hides another.
    for _ in 1 2; do
        awk -v base="$work/" 'index($5, base) == 1 { print $5 }' /proc/self/mountinfo | while read -r point; do
            timeout 10 fusermount3 -u -z "$point" 2>/dev/null || timeout 10 umount -l "$point" 2>/dev/null
        done
    done
}

# Programs of this test that are still there although they were stopped, by pid.
leftovers() {
    local exe
    for exe in /proc/[0-9]*/exe; do
        case $(tr '\0' ' ' <"${exe%exe}cmdline" 2>/dev/null) in
        *"$work"/*) [ "${exe//[!0-9]/}" = $$ ] || echo "${exe//[!0-9]/}" ;;
        esac
    done 2>/dev/null
}

no_leftovers() {
    [ -z "$(leftovers)" ]
}

cleanup() {
    local status=$? pid
    trap - EXIT
    cd /
    for pid in "${children[@]:-}"; do
        [ -z "$pid" ] || { kill -KILL "$pid" && wait "$pid"; } 2>/dev/null
    done
    unmount_below
    timeout 60 kvnode dev down >/dev/null 2>&1
    # A program that is ending may have something to report yet.
    until_true 15 no_leftovers
    for pid in $(leftovers); do
        kill -KILL "$pid" 2>/dev/null
    done
    if ls "$work"/sanitizer.* >/dev/null 2>&1; then
        echo "FAILED: a sanitizer found this:" >&2
        head -n 60 "$work"/sanitizer.* >&2
        status=1
    fi
    if grep -rq --include='*log' ' error: a turn of the loop ' "$work" 2>/dev/null; then
        echo "FAILED: a node's loop was held up:" >&2
        grep -rh --include='*log' ' error: a turn of the loop ' "$work" | head -n 20 >&2
        status=1
    fi
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# until_true SECONDS COMMAND...: the command's success is what is waited for.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt "$deadline" ] || return 1
        sleep 0.05 # between two looks at the condition
    done
}

now_ms() {
    local us=${EPOCHREALTIME/[.,]/}
    echo $((us / 1000))
}

# expect STATUS COMMAND...; the output is in $out, messages in $err.
out=
err=
expect() {
    local want=$1 got
    shift
    out=$("$@" 2>"$work/stderr" </dev/null)
    got=$?
    err=$(cat "$work/stderr")
    [ "$got" = "$want" ] || die "exit $got, not $want: $*
$out
$err"
}

has() { # TEXT PART
    case $1 in
    *"$2"*) ;;
    *) die "\"$2\" is missing in: $1" ;;
    esac
}

up() { # [N]
    kvnode dev up "$@" >"$work/up" 2>&1 || die "kvnode dev up: $(cat "$work/up")"
    # shellcheck disable=SC1091
    . "$work/run/env"
}

mount_at() { # DIRECTORY [NODES]
    [ -e /dev/fuse ] || { echo "skipped: no /dev/fuse"; exit 77; }
    mkdir -p "$1"
    timeout 60 kvfs "${2:-n1,n2,n3}" "$1" || die "kvfs $1 failed"
}

# "DIGEST INDEX" of a node as it is now.
digest_of() {
    kvnode status -v -n "$1" 2>/dev/null | awk '$1 == "digest" { print $2, $4 }'
}

# All nodes (n1 …) have applied the same index and have the same digest there.
# Where only the indexes differ, the nodes are not at the same place yet.
digests_agree() { # N
    local first='' this i
    for ((i = 1; i <= $1; i++)); do
        this=$(digest_of "n$i")
        [ -n "$this" ] || return 1
        if [ -n "$first" ] && [ "${this#* }" = "${first#* }" ] && [ "$this" != "$first" ]; then
            die "digests differ at index ${this#* }: n1 ${first% *}, n$i ${this% *}"
        fi
        [ -z "$first" ] || [ "$this" = "$first" ] || return 1
        first=${first:-$this}
    done
}

equal_digests() { # N
    until_true 60 digests_agree "$1" || die "the nodes do not come to the same index: $(for ((i = 1; i <= $1; i++)); do
        echo "n$i $(digest_of "n$i");"
    done)"
    say "digests are equal on $1 nodes: $(digest_of n1)"
}
