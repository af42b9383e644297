#!/bin/bash
# Nodes that do not belong together: founded apart and then told of each other, or with
# logs that contradict each other. They say so on both sides, serve nobody, throw nothing
# away, and there is a way out.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

export KVNODE_SOCKET_DIR=$work/sock
mkdir -p "$KVNODE_SOCKET_DIR"
port=$((21000 + RANDOM % 9000))

conf() { # NODE
    echo "$work/$1.conf"
}

init() { # NODE ID [INIT'S OPTIONS]
    expect 0 kvnode init --name "$1" --id "$2" -c "$(conf "$1")" --data "$work/$1" \
        --socket "$KVNODE_SOCKET_DIR/$1.sock" --listen "127.0.0.1:$((port + $2))" -q "${@:3}"
}

run() { # NODE
    kvnode run -c "$(conf "$1")" 2>>"$work/$1.log" &
    children+=($!)
}

stop_all() {
    for pid in "${children[@]}"; do kill "$pid" 2>/dev/null; done
    for pid in "${children[@]}"; do wait "$pid"; done
    children=()
}

introduce() { # NODE TO
    kvnode config -c "$(conf "$1")" --peer >>"$(conf "$2")" || die "config --peer"
}

names() { # NODE OTHER
    kvnode -n "$1" --timeout 2s status 2>/dev/null | grep -q "^warning: $2 belongs to cluster"
}

says() { # NODE COMMAND...: without a word while it fails
    kvnode -n "$1" --timeout 2s "${@:2}" 2>/dev/null
}

get_is() { # NODE KEY VALUE
    [ "$(kvnode -n "$1" --timeout 2s get "$2" 2>/dev/null)" = "$3" ]
}

say "two founders that were exchanged"
init a 1
init b 2
for n in a b; do
    run $n
    until_true 20 says $n set who $n -q || die "$n: $(tail -3 "$work/$n.log")"
done
stop_all
introduce a b
introduce b a
run a
run b
until_true 20 names a b || die "a says: $(kvnode -n a status)"
until_true 20 names b a || die "b says: $(kvnode -n b status)"
at_once() { # COMMAND...: time does not mend it, so nothing is waited for
    local begin=$SECONDS
    expect 4 kvnode -n $n --timeout 30s "$@"
    [ $((SECONDS - begin)) -lt 15 ] || die "$n: $* took $((SECONDS - begin)) s"
    has "$err" "another cluster"
    has "$err" "take its [peer] section out"
}
for n in a b; do
    at_once set who nobody
    has "$err" "nothing was written"
    at_once get who
    at_once get --local who
    at_once ls
    at_once history who
    at_once log
    kvnode -n $n status | grep -q 'Nothing can be written\|two clusters' || die "$n: $(kvnode -n $n status)"
done
grep -q 'a belongs to cluster' "$work/b.log" || die "b logs nothing"
grep -q 'b belongs to cluster' "$work/a.log" || die "a logs nothing"
[ "$(grep -c 'belongs to cluster' "$work/a.log")" = 1 ] || die "a repeats itself"
expect 2 kvnode get who
has "$err" "belong to several clusters"
has "$err" "-n a (cluster "
has "$err" "-n b (cluster "
expect 2 kvnode set who nobody
expect 4 kvnode -n a,b --timeout 30s get who

say "the sections out again, and both have what they had"
stop_all
for n in a b; do sed -i '/^\[peer/,$d' "$(conf $n)"; done
for n in a b; do
    run $n
    until_true 20 get_is $n who $n || die "$n has lost what it had: $(tail -3 "$work/$n.log")"
done
stop_all

say "one of three is of another cluster: it stops, the others go on"
rm -rf "$work/a" "$work/b" "$(conf a)" "$(conf b)"
init a 1
id=$(sed -n '/^\[cluster\]/,/^\[/s/^id = //p' "$(conf a)")
init b 2 --cluster "$id"
init c 3
for n in a b c; do
    for m in a b c; do [ $n = $m ] || introduce $n $m; done
done
for n in a b c; do run $n; done
until_true 30 says a set who ab -q || die "two of three are enough: $(tail -3 "$work/a.log")"
until_true 20 names a c || die "a says: $(kvnode -n a status)"
until_true 20 names b c || die "b says: $(kvnode -n b status)"
until_true 20 names c a || die "c says: $(kvnode -n c status)"
until_true 20 names c b || die "c says: $(kvnode -n c status)"
expect 4 kvnode -n c --timeout 2s get who
has "$err" "another cluster"
expect 0 kvnode -n b --timeout 5s get who
stop_all
sed -i "s/^\(warning\)*id = $(sed -n '/^\[cluster\]/,/^\[/s/^id = //p' "$(conf c)")\$/id = $id/" "$(conf c)"
expect 1 kvnode run -c "$(conf c)"
has "$err" "belongs to cluster"
rm -rf "$work/c" "$(conf c)"
init c 3 --cluster "$id"
for m in a b; do introduce $m c; sed -i '/^\[peer c\]/,$d' "$(conf $m)"; introduce c $m; done
for n in a b c; do run $n; done
until_true 30 get_is c who ab || die "c made anew is let in: $(tail -5 "$work/c.log")"

say "a section of no member changes nothing, and is named"
stop_all
cp "$(conf a)" "$work/a.kept"
init d 4 --cluster "$id"
introduce d a
run a
run b
until_true 20 get_is a who ab || die "a node that works stops for a section too many: $(tail -3 "$work/a.log")"
kvnode -n a status | grep -q '^warning: d is no member' || die "a says: $(kvnode -n a status)"
stop_all
cp "$work/a.kept" "$(conf a)"

say "a node that is to be let in names nobody, or an even number"
names_nobody() {
    expect 1 kvnode doctor -c "$(conf d)"
    has "$out" "FAIL  nodes"
    has "$out" "no [peer] section"
    has "$out" "start it: kvnode run -c $(conf d)"
}
names_nobody
has "$out" "kvnode readmit d, at another node"
expect 1 kvnode run -c "$(conf d)"
has "$err" "no [peer] section"
names_nobody # it has a log.db now, which holds nothing
introduce a d
expect 1 kvnode run -c "$(conf d)"
has "$err" "1, 3, 5 or 7 nodes"

say "logs that contradict each other: the node ends once, says what to do, and comes back"
forget() { # what the nodes know of each other's lives, which would be noticed first
    for n in a b c; do
        python3 - "$work/$n/log.db" <<'EOP' || die "log.db of $n"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("DELETE FROM note")
db.commit()
db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
EOP
    done
}
for n in a b c; do cp -a "$work/$n" "$work/$n.copy"; done
run a
run b
until_true 20 says a set e/1 ab -q || die "a and b"
until_true 20 get_is b e/1 ab || die "b"
stop_all
mv "$work/a" "$work/a.ahead"
rm -rf "$work/b" "$work/c"
mv "$work/b.copy" "$work/b"
mv "$work/c.copy" "$work/c"
run b
run c
for i in 1 2 3; do
    until_true 20 says b transfer c -q
    until_true 20 says c transfer b -q
    until_true 20 says b set "f/$i" bc -q || die "b and c"
done
stop_all
mv "$work/a.ahead" "$work/a"
forget
run b
run c
until_true 20 says b set f/4 bc -q || die "b and c"
kvnode run -c "$(conf a)" 2>>"$work/a.log"
code=$?
[ $code = 70 ] || die "a ends with $code: $(tail -3 "$work/a.log")"
tail -3 "$work/a.log" | grep -q 'kvnode readmit a, at another node' || die "a says: $(tail -3 "$work/a.log")"
[ -e "$work/a/log.db" ] || die "a has thrown something away"
run a
gone() { kvnode -n "$1" --timeout 2s status 2>/dev/null | grep -q '^a .*gone back'; }
until_true 20 gone b || die "b says: $(kvnode -n b status)"
until_true 20 gone a || die "a says: $(kvnode -n a status)"
expect 4 kvnode -n a --timeout 2s get f/1
has "$err" "not what the other nodes have"

say "a node that serves nobody is passed over for one that serves"
expect 0 kvnode --timeout 10s get f/1
has "$out" bc
expect 0 kvnode --timeout 10s status
expect 0 kvnode -n b readmit a --yes
until_true 30 get_is a f/4 bc || die "a comes back: $(tail -5 "$work/a.log")"
stop_all
say "done"
