#!/bin/bash
# Transactions while nodes are killed: all of one or nothing of it, on every node. KVFS_TXN_KILLS=20: more of them.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

up 3
nodes=n1,n2,n3

# Twenty keys get one value each time; whoever writes last is in all of them.
write() { # VALUE
    {
        echo "if t/1 version $1"
        for k in {1..20}; do
            echo "set t/$k $1"
        done
        echo "del gone$1"
        echo "set gone$(($1 + 1)) x"
    } | kvnode --timeout 5s -n "$nodes" txn 2>>"$work/errors"
}

# What is known after a number was refused or its outcome was not told: the version is the truth.
version() { kvnode -n "$nodes" get t/1 --json 2>/dev/null | sed 's/.*"version":\([0-9]*\).*/\1/'; }

writer() {
    local v=0 status
    : >"$work/done"
    until [ -e "$work/stop" ]; do
        write "$v"
        status=$?
        case $status in
        0) v=$((v + 1)) && echo "$v" >>"$work/done" ;;
        4 | 5 | 7) v=$(version) && v=${v:-0} ;;
        *) echo "exit $status" >>"$work/wrong" ;;
        esac
    done
}

more_than() { [ "$(wc -l <"$work/done")" -gt "$1" ]; }

expect 0 kvnode set gone0 x
writer &
children+=($!)
until_true 20 more_than 3 || die "nothing is written: $(cat "$work/errors")"
for ((i = 0; i < ${KVFS_TXN_KILLS:-3}; i++)); do
    victim=$([ $((i % 3)) = 2 ] && echo follower || echo leader)
    kvnode dev kill "$victim" >"$work/killed" 2>&1 || die "kill: $(cat "$work/killed")"
    n=$(wc -l <"$work/done")
    until_true 30 more_than $((n + 3)) || die "nothing is written behind the kill of $(cat "$work/killed")"
    expect 0 kvnode dev start all
done
touch "$work/stop"
wait "${children[0]}"
children=()
[ ! -e "$work/wrong" ] || die "$(cat "$work/wrong" "$work/errors")"
equal_digests 3

say "$(wc -l <"$work/done") transactions"
last=$(version)
[ "$last" -ge "$(tail -n 1 "$work/done")" ] || die "version $last, but $(tail -n 1 "$work/done") was acknowledged"
for n in n1 n2 n3; do
    for k in {1..20}; do
        expect 0 kvnode -n "$n" get --local "t/$k" --json
        has "$out" "\"version\":$last,"
        has "$out" "\"value\":\"$((last - 1))\""
    done
    expect 0 kvnode -n "$n" ls --local
    [ "$(grep -c gone <<<"$out")" = 1 ] || die "$n: $out"
    has "$out" "gone$last"
done

say "what people write"
txn() { # STATUS TEXT [OPTION...]
    local want=$1 got
    out=$(printf '%b' "$2" | kvnode txn "${@:3}" 2>"$work/stderr")
    got=$?
    err=$(cat "$work/stderr")
    [ "$got" = "$want" ] || die "exit $got, not $want: $2: $out $err"
}
txn 0 '# moved\nif app missing\nset app/color "a \\"b\\"\\n"\nset app/all the rest of it \nmkdir app/dir\n'
expect 0 kvnode get app/all
[ "$out" = "the rest of it " ] || die "app/all: $out"
expect 0 kvnode get app/color
[ "$out" = 'a "b"' ] || die "app/color: $out"
txn 5 'if app exists\nif app/color version 2\ndel app/all\n' --json
has "$out" '"line":2'
has "$out" '"text":"if app/color version 2"'
has "$err" "line 2: this does not hold: if app/color version 2; nothing was done"
txn 0 'if app/color version 2\ndel app/all\nelse\nmove app/all all\n' --json
has "$out" '"branch":"else"'
expect 0 kvnode get all
txn 2 'set a b\n  sett c d\n'
has "$err" "line 2, column 3"
txn 2 'set a b\nset .. d\n'
has "$err" "line 2, column 5"
txn 2 'set a b\nset c @/missing/file\n'
has "$err" "line 2, column 7"
txn 2 'set a b\nif c missing\n'
txn 2 'set a b\nmove c\n'
has "$err" "line 2, column 7: a key is missing"
txn 2 'set a b\ndel "c\n'
txn 2 '# nothing\n\n'
txn 3 'set a b\ndel missing\n'
has "$err" "line 2: del missing: no such key"
txn 6 'set a b\nset a c\n'
txn 2 "$(for i in {1..1025}; do echo "del k$i"; done)"
has "$err" "line 1025"
expect 3 kvnode get a
head -c 3000000 /dev/urandom >"$work/large"
txn 0 "set large/1 @$work/large\nset large/2 @$work/large\nset large/3 @$work/large\n"
kvnode get large/3 | cmp - "$work/large" || die "a large value"
equal_digests 3
say ok
