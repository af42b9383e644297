#!/bin/bash
# A command that runs once in the cluster in a period, whoever comes, and again when who ran it has died.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

runs() { wc -l <"$work/runs"; }
once() { kvnode -n "n$((1 + RANDOM % 3))" once job "$@"; }
field() { kvnode get "$1" | python3 -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]])' "$2"; }

up 3
: >"$work/runs"

say "of ten who come at once one runs it"
for i in {1..10}; do
    once --every 1h -- sh -c 'echo ran >>"'"$work"'/runs"; echo said' >"$work/out.$i" 2>"$work/err.$i" &
    children+=($!)
done
for pid in "${children[@]}"; do
    wait "$pid" || die "exit $?: $(cat "$work"/err.*)"
done
children=()
[ "$(runs)" = 1 ] || die "it ran $(runs) times"
[ "$(cat "$work"/out.*)" = said ] || die "it said: $(cat "$work"/out.*)"
expect 0 once --every 1h -- sh -c 'echo ran >>"'"$work"'/runs"'
has "$err" "kvnode: once job: "
has "$err" "exit status 0"
[ "$(runs)" = 1 ] || die "it ran again"
[ "$(field job output)" = said ] || die "its output was lost"
expect 0 once --every 1h --json -- true
has "$out" '"state":"done"'

say "in the next period it runs again"
again() {
    once --every 1s -- sh -c 'echo ran >>"'"$work"'/runs"' >/dev/null 2>&1
    [ "$(runs)" = 2 ]
}
until_true 10 again || die "it does not run any more"

say "a run that failed counts, or is tried again"
expect 4 kvnode once f --every 1h --retry 1 -- sh -c 'exit 4'
[ "$(field f state) $(field f status)" = "failed 4" ] || die "$(kvnode get f)"
expect 0 kvnode once f --every 1h -- sh -c 'exit 5'
expect 5 kvnode once f --every 1h --retry 1 -- sh -c 'exit 5'
expect 0 kvnode once f --every 1h --retry 1 -- sh -c 'exit 6'
has "$err" "exit status 5"
expect 3 kvnode once f --every 1h --retry 2 -- sh -c 'exit 3'

say "one whose holder died is run by the next who comes"
kvnode once dies --ttl 1s --every 1h -- sh -c 'echo $$ >"'"$work"'/pid"; exec tail -f /dev/null' >/dev/null 2>&1 &
holder=$!
until_true 10 test -s "$work/pid" || die "it does not run"
expect 0 kvnode once dies --every 1h -- false
has "$err" "has held it since"
kill -KILL $holder
died() { kvnode once dies --every 1h -- sh -c "exit 9" >/dev/null 2>&1; [ $? = 9 ]; }
until_true 10 died || die "nobody runs it again"
[ ! -d "/proc/$(cat "$work/pid")" ] || die "the first one runs as well"

say "long output is kept from its end, and what is not text as what it is"
expect 0 kvnode once long --every 1h -- sh -c 'head -c 300000 /dev/zero | tr "\0" x; echo end'
[ ${#out} = 300003 ] || die "${#out} bytes were printed"
[ "$(field long output | wc -c) $(field long output_cut)" = "65537 True" ] || die "$(field long output | wc -c) are kept"
expect 0 kvnode once bytes --every 1h -- sh -c 'printf "\377\376"'
[ "$(field bytes output_base64)" = "//4=" ] || die "$(kvnode get bytes)"

say "who does not read its output holds it up, and its lock is kept"
mkfifo "$work/fifo"
kvnode once slow --ttl 1s --every 1h -- sh -c 'seq 60000; echo end' >"$work/fifo" 2>"$work/err" &
children=($!)
exec 9<"$work/fifo"
until_true 10 kvnode get slow || die "it does not run"
fence=$(field slow fence)
begun=$(date +%s%3N)
past() { [ "$(date +%s%3N)" -gt $((begun + 3000)) ]; }
until_true 10 past || die "time stands still"
[ "$(field slow state)" = running ] || die "it ended: $(kvnode get slow)"
[ "$(tail -n 1 <&9)" = end ] || die "its output has no end"
exec 9<&-
wait "${children[0]}" || die "exit $?: $(cat "$work/err")"
children=()
[ "$(field slow state) $(field slow fence)" = "done $fence" ] || die "$(kvnode get slow)"

say "one that closes its output costs no time of the processor"
cat >"$work/quiet" <<'END'
exec >&- 2>&-
exec python3 -c 'import signal, sys; signal.setitimer(signal.ITIMER_REAL, 2); signal.signal(signal.SIGALRM, lambda *_: sys.exit()); signal.pause()'
END
TIMEFORMAT='%U %S'
used=$({ time kvnode once quiet --every 1h -- sh "$work/quiet" >/dev/null 2>&1; } 2>&1)
[ "$(field quiet state)" = "done" ] || die "$(kvnode get quiet)"
# Two seconds long it would use what it can get; with the cluster beside it, a half of that at least.
awk '{ exit !($1 + $2 < 0.6) }' <<<"$used" || die "it used $used s"

say "what is not a record is left alone"
expect 0 kvnode set mine precious
expect 6 kvnode once mine --every 1h -- true
expect 0 kvnode get mine
[ "$out" = precious ] || die "it was overwritten: $out"
expect 2 kvnode once mine -- true
expect 2 kvnode once mine --every never -- true
