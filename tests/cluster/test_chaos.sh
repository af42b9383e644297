#!/bin/bash
# Twenty rounds of SIGKILL, pauses and one death of all, under a client that
# remembers every acknowledgement.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"
rounds=${1:-20}
up 3

"${RECORDER_BIN:?}" "$work"/run/sock/n1.sock "$work"/run/sock/n2.sock "$work"/run/sock/n3.sock >"$work/recorder" 2>&1 &
recorder=$!
children+=("$recorder")

# The time between a fault and its end belongs to the fault.
hold() {
    sleep "$1"
}

for ((round = 1; round <= rounds; round++)); do
    kill -0 "$recorder" || die "the recorder ended: $(cat "$work/recorder")"
    case $((round % 5)) in
    0)
        said=$(kvnode dev pause leader) || die "pause"
        hold 2.$((RANDOM % 10))
        kvnode dev resume "${said%% *}" >/dev/null || die "resume ${said%% *}"
        ;;
    3)
        if [ "$round" = 13 ]; then
            said=$(kvnode dev kill all) || die "kill all"
        else
            said=$(kvnode dev kill follower) || die "kill follower"
        fi
        hold 0.$((RANDOM % 10))
        kvnode dev start all >"$work/start" 2>&1 || die "start: $(cat "$work/start")"
        ;;
    *)
        # A leader is there, or will be soon.
        until_true 20 kvnode dev kill leader >"$work/kill" 2>&1 || die "no leader to kill: $(cat "$work/kill")"
        said=$(tail -n 1 "$work/kill")
        hold $((RANDOM % 2)).$((RANDOM % 10))
        kvnode dev start all >"$work/start" 2>&1 || die "start: $(cat "$work/start")"
        ;;
    esac
    echo "round $round: $(tr '\n' ' ' <<<"$said") $(cat "$work/start" 2>/dev/null)"
    rm -f "$work/start"
done
kill -TERM "$recorder"
gone() { ! kill -0 "$recorder" 2>/dev/null; }
until_true 120 gone || die "the recorder does not end"
wait "$recorder"
status=$?
cat "$work/recorder"
[ $status = 0 ] || die "the recorder found violations"
equal_digests 3
