# For the scripts that run.sh starts: small checks that say what was expected.
# shellcheck shell=sh

n_checks=0
problems=0

ok() { n_checks=$((n_checks + 1)); echo "ok $n_checks - $1"; }
not_ok() {
    n_checks=$((n_checks + 1))
    problems=$((problems + 1))
    echo "not ok $n_checks - $1"
    shift
    for line in "$@"; do echo "# $line"; done
}

# is NAME WANT GOT
is() {
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "wanted: $2" "got:    $3"; fi
}

# succeeds NAME COMMAND...
succeeds() {
    what=$1
    shift
    if output=$("$@" 2>&1); then ok "$what"; else not_ok "$what" "failed: $*" "$output"; fi
}

# fails_with NAME TEXT COMMAND...: it fails and says TEXT
fails_with() {
    what=$1 text=$2
    shift 2
    if output=$("$@" 2>&1); then
        not_ok "$what" "succeeded: $*"
    elif printf '%s' "$output" | grep -q "$text"; then
        ok "$what"
    else
        not_ok "$what" "wanted: $text" "got:    $output"
    fi
}

# within SECONDS COMMAND...: until the command succeeds
within() {
    until_ms=$(($(date +%s%3N) + $1 * 1000))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s%3N)" -lt $until_ms ] || return 1
        sleep 0.05 # between two looks at the condition
    done
}

# gives WANT COMMAND...: whether it prints that
gives() {
    wanted=$1
    shift
    [ "$("$@" 2>&1)" = "$wanted" ]
}

# eventually NAME WANT COMMAND...: within ten seconds
eventually() {
    what=$1 want=$2
    shift 2
    within 10 gives "$want" "$@"
    is "$what" "$want" "$("$@" 2>&1)"
}

# dev ARG...: kvnode dev; what fails there is a failed check, else what follows would pass without its fault
dev() { timeout 60 "$KVNODE" dev "$@" >>"$WORK/dev.log" 2>&1 || not_ok "kvnode dev $*" "$(tail -n 5 "$WORK/dev.log")"; }

# begun_or_ended FILE PID: the process has made the file, or will not any more
begun_or_ended() { [ -e "$1" ] || has_ended "$2"; }

# A process whose first thread is a zombie may have others, which hold its files.
has_ended() {
    [ ! -e "/proc/$1/status" ] ||
        awk '/^State:.*Z/ { z = 1 } /^Threads:/ { n = $2 } END { exit !(z && n <= 1) }' "/proc/$1/status"
}

# versions KEY: its numbered versions, as a list
versions() {
    # shellcheck disable=SC2012
    ls -v "$(dirname "$1")/.versions/$(basename "$1")" 2>/dev/null | grep -v deleted | tr '\n' ' ' | sed 's/ $//'
}

# has PROGRAM: else the checks that need it are reported as skipped
has() {
    command -v "$1" >/dev/null && return 0
    n_checks=$((n_checks + 1))
    echo "ok $n_checks - $1 # SKIP not installed"
    return 1
}

plan() {
    echo "1..$n_checks"
    [ "$problems" = 0 ]
}
