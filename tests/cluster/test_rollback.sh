#!/bin/bash
# Nodes whose data directory is an older copy, another node's, or lost: nothing that was
# acknowledged vanishes, nobody counts such a node, everybody says so, and there is a way
# back.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

data() { # N
    echo "$work/run/n$1/data"
}

put_back() { # N: its directory as of the last copy of it
    rm -rf "$(data "$1")" && cp -a "$work/copy" "$(data "$1")" || die "cp"
}

# A node that does not serve is no failure of `dev start` here.
start() { # NODE
    kvnode dev start "$1" -q --timeout 1s >/dev/null 2>&1
}

status_says() { # NODE TEXT
    kvnode -n "$1" --timeout 2s status 2>/dev/null | grep -q "$2"
}

says_gone() { # NODE: of n2
    status_says "$1" '^n2 .* gone back'
}

healthy() { # NODE: of n2
    status_says "$1" '^n2 .* healthy'
}

writes() { # NODE KEY VALUE
    kvnode -n "$1" --timeout 2s set "$2" "$3" -q 2>/dev/null
}

readmit() {
    expect 0 kvnode -n n1 readmit n2 --yes
    # It begins anew by itself; or, half the time, is stopped in the middle of that.
    if ((RANDOM % 2)); then
        kvnode dev kill n2 -q
        kvnode dev start n2 -q || die "n2 does not come back after its readmission"
    fi
    until_true 20 healthy n1 || die "n1 says: $(kvnode -n n1 status)"
    until_true 20 healthy n3 || die "n3 says: $(kvnode -n n3 status)"
}

up 3
expect 0 kvnode -n n1 set base 1
kvnode dev kill n2 -q
cp -a "$(data 2)" "$work/copy"
kvnode dev start n2 -q || die "dev start n2"

say "a copy is put back while the others live"
for i in $(seq 20); do writes n1 "a/$i" "$i" || die "set a/$i"; done
kvnode dev kill n2 -q
put_back 2
start n2
for n in n1 n3 n2; do
    until_true 20 says_gone "$n" || die "$n does not say that n2 has gone back: $(kvnode -n $n status)"
done
status_says n1 'One node may fail' && die "n2 is counted: $(kvnode -n n1 status)"
grep -q 'gone back' "$work/run/n1/log" || die "n1 logs nothing"
grep -q 'gone back' "$work/run/n2/log" || die "n2 logs nothing"
begin=$(now_ms)
expect 4 kvnode -n n2 --timeout 60s get base
has "$err" "gone back"
has "$err" "The way back: kvnode readmit n2, at another node"
expect 4 kvnode -n n2 --timeout 60s set base 2
has "$err" "nothing was written. The way back: kvnode readmit n2"
expect 4 kvnode -n n2 --timeout 60s watch
[ $(($(now_ms) - begin)) -lt 30000 ] || die "a node that knows at once waits"
advises_to_readmit() { # EXIT NODE TEXT
    expect "$1" kvnode doctor -n "$2"
    has "$out" "$3"
    case $out in *"start the nodes that are down"* | *"on that machine"*) die "$2's doctor: $out" ;; esac
}
advises_to_readmit 1 n2 "kvnode readmit n2, at another node"
advises_to_readmit 0 n1 "kvnode readmit n2"
writes n1 a/more 1 || die "two nodes are a majority"
kvnode dev kill n2 -q
start n2
until_true 20 says_gone n2 || die "n2 has forgotten that it has gone back"

say "the way back"
expect 6 kvnode -n n1 readmit n3 --yes
readmit
expect 0 kvnode -n n2 get a/20
[ "$out" = 20 ] || die "a/20 is $out"
equal_digests 3

say "what was acknowledged by it and a node that is down is not given up"
kvnode dev kill n2 -q
rm -rf "$work/copy" && cp -a "$(data 2)" "$work/copy"
kvnode dev start n2 -q || die "dev start n2"
kvnode -n n1 transfer n1 -q 2>/dev/null
kvnode dev kill n3 -q
for i in $(seq 20); do until_true 20 writes n1 "b/$i" "$i" || die "set b/$i"; done
kvnode dev kill n1 -q
kvnode dev kill n2 -q
put_back 2
start n2
start n3
until_true 20 says_gone n3 || die "n3 does not say that n2 has gone back: $(kvnode -n n3 status)"
writes n3 c 1 && die "n3 and a node that has gone back are no majority"
kvnode dev start n1 -q || die "dev start n1"
until_true 20 writes n3 c 1 || die "n1 and n3 are a majority"
for n in n1 n3; do
    for i in $(seq 20); do
        expect 0 kvnode -n $n get "b/$i"
        [ "$out" = "$i" ] || die "b/$i on $n is $out"
    done
done
until_true 20 says_gone n1 || die "n1 says: $(kvnode -n n1 status)"
readmit

say "a wiped node under its old id"
expect 0 kvnode -n n1 set d 1
kvnode dev kill n2 -q
rm -rf "$(data 2)"/log.db* "$(data 2)/groups"
kvnode dev kill n1 -q
start n2
until_true 20 status_says n2 'its data were lost' || die "n2 says: $(kvnode -n n2 status)"
expect 1 kvnode doctor -n n2
has "$out" "kvnode readmit n2, at another node"
until_true 20 says_gone n3 || die "n3 says: $(kvnode -n n3 status)"
writes n3 e 1 && die "n3 and a wiped node are no majority"
kvnode dev start n1 -q || die "dev start n1"
until_true 20 writes n1 e 1 || die "n1 and n3 are a majority"
expect 0 kvnode -n n3 get d
readmit
equal_digests 3

say "another node's log"
kvnode dev kill n2 -q
kvnode dev kill n3 -q
cp -a "$(data 2)" "$work/n2.data"
rm -f "$(data 2)"/log.db*
cp -a "$(data 3)"/log.db* "$(data 2)/"
expect 1 kvnode run -c "$work/run/conf/n2.conf"
has "$err" "belongs to node 3"
rm -rf "$(data 2)" && mv "$work/n2.data" "$(data 2)"

say "another node's state.db, or its log's floor, or those of another life"
# What is in n2's files; state.db may have taken over its own journal.
contents() {
    (cd "$(data 2)" && sha256sum log.db log.db-floor)
    rm -rf "$work/look" && cp -a "$(data 2)/groups/0" "$work/look"
    python3 - "$work/look/state.db" <<'EOP'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
print(db.execute("SELECT * FROM owner").fetchall(), db.execute("SELECT * FROM meta").fetchall())
EOP
}
refused() { # TEXT: n2 does not start, and leaves all as it is
    local before
    before=$(contents)
    expect 1 kvnode run -c "$work/run/conf/n2.conf"
    has "$err" "$1"
    [ "$before" = "$(contents)" ] || die "n2 has written over what is not its own: $before, now $(contents)"
    rm -rf "$(data 2)" && cp -a "$work/n2.data" "$(data 2)"
}
quiet() { # N: nothing is left in a journal of SQLite's
    kvnode dev start "n$1" -q --timeout 5s >/dev/null 2>&1
    kill "$(awk '{ print $1 }' "$work/run/n$1/pid")"
    until_true 20 tail_says_stopped "$1" || die "n$1 does not stop"
}
tail_says_stopped() {
    tail -n 1 "$work/run/n$1/log" | grep -q 'info: stopped'
}
quiet 2
quiet 3
rm -rf "$work/n2.data" && cp -a "$(data 2)" "$work/n2.data"
sums() { (cd "$(data 2)" && find . -type f -exec sha256sum {} + | sort); }
dd if=/dev/urandom of="$(data 2)/log.db" bs=1k count=8 seek=1 conv=notrunc status=none
before=$(sums)
expect 1 kvnode doctor -c "$work/run/conf/n2.conf"
has "$out" "FAIL  log"
has "$out" "$(data 2)/log.db is damaged"
has "$out" "kvnode readmit n2, at another node"
has "$out" "start it: kvnode dev start n2"
[ "$before" = "$(sums)" ] || die "doctor has written: $before, now $(sums)"
refused "log.db is damaged"
expect 1 kvnode doctor -c "$work/run/conf/n2.conf"
has "$out" "PASS  log                $(data 2)/log.db"
rm -f "$(data 2)"/groups/0/state.db*
cp -a "$(data 3)"/groups/0/state.db* "$(data 2)/groups/0/"
refused "state.db belongs to node 3, this is node 2"
cp -a "$(data 3)/log.db-floor" "$(data 2)/log.db-floor"
refused "log.db-floor do not belong together"
cp -a "$work/copy/log.db-floor" "$(data 2)/log.db-floor"
refused "log.db-floor do not belong together"
rm -f "$(data 2)"/groups/0/state.db*
cp -a "$work"/copy/groups/0/state.db* "$(data 2)/groups/0/"
refused "is of an earlier life of this node"
rm -f "$(data 2)"/groups/0/state.db* # taken away, it comes from the leader

say "a copy is put back that starts more than once before anybody hears of it"
kvnode dev start n2 -q && kvnode dev start n3 -q || die "dev start"
until_true 20 healthy n1 || die "n1 says: $(kvnode -n n1 status)"
kvnode dev kill n2 -q
rm -rf "$work/copy" && cp -a "$(data 2)" "$work/copy"
kvnode dev start n2 -q || die "dev start n2"
until_true 20 healthy n3 || die "n3 says: $(kvnode -n n3 status)"
kvnode dev kill all -q
put_back 2
for _ in 1 2 3; do
    start n2
    kvnode dev kill n2 -q
done
for n in n1 n2 n3; do start $n; done
for n in n1 n2 n3; do
    until_true 20 says_gone $n || die "$n does not say that n2 has gone back: $(kvnode -n $n status)"
done
readmit
kvnode dev kill n2 -q
kvnode dev kill n3 -q

say "an interrupted install that cannot be read is not taken for none"
mkdir "$(data 2)/groups/0/install.meta"
expect 1 kvnode run -c "$work/run/conf/n2.conf"
has "$err" "install.meta"
rmdir "$(data 2)/groups/0/install.meta"
kvnode dev start n2 -q && kvnode dev start n3 -q || die "dev start"
equal_digests 3

say "a damaged state.db asks for nothing"
quiet 2
dd if=/dev/urandom of="$(data 2)/groups/0/state.db" bs=1k count=8 seek=1 conv=notrunc status=none
expect 0 kvnode dev start n2
grep -q 'state.db.damaged; .*there is nothing to do' "$work/run/n2/log" || die "no word of it: $(tail -n 5 "$work/run/n2/log")"
grep 'state.db' "$work/run/n2/log" | grep 'stop the node' && die "the log asks for what is done already"
equal_digests 3

say "an even number of nodes"
expect 0 kvnode init --name e1 -c "$work/e1.conf" --data "$work/e1" -q
expect 0 kvnode config -c "$work/run/conf/n3.conf" --peer
echo "$out" >>"$work/e1.conf"
expect 1 kvnode run -c "$work/e1.conf"
has "$err" "1, 3, 5 or 7 nodes"
[ -e "$work/e1/founding" ] || die "the founding is used up"
expect 2 kvnode dev up 2
has "$err" "1, 3, 5 or 7 nodes"
expect 2 kvnode dev up 5
has "$err" "has 3 nodes"
expect 1 kvnode doctor -c "$work/e1.conf"
has "$out" "1, 3, 5 or 7 nodes"
expect 0 kvnode init --name e2 --id 2 --cluster 0123456789abcdef -c "$work/e2.conf" --data "$work/e2" -q
[ ! -e "$work/e2/founding" ] || die "a second founder"
say "done"
