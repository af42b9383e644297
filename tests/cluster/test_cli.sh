#!/bin/bash
# The command line against a real node: outputs, exit statuses, JSON, big values.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

say "no node: exit 4 and what to try"
KVNODE_SOCKET_DIR=$work/none expect 4 kvnode get k
has "$err" "kvnode: get k: no node answers"
has "$err" "Try: kvnode doctor"
expect 2 kvnode nonsense
expect 2 kvnode set k v --ttl 0
expect 2 kvnode set k v --ttl -5s
expect 2 kvnode set k v --ttl 11y
expect 2 kvnode set k v --ttl 3651d
has "$err" "of ten years at most"

up 1

say "README's table of settings is the program's"
expect 0 kvnode config --cluster
[ "$(cut -d' ' -f1 <<<"$out" | sort)" = "$(sed -n 's/^| `\([a-z_]*\)` |.*/\1/p' "$SOURCE_ROOT/README.md" | sort)" ] ||
    die "README knows other settings than: $out"

say "set, get, upd, versions"
expect 0 kvnode set app/color blue
[ -z "$out$err" ] || die "set is not silent: $out$err"
expect 0 kvnode get app/color
[ "$out" = blue ] || die "get gave $out"
expect 3 kvnode get missing
[ -z "$out" ] || die "a missing key gave $out"
has "$err" "kvnode: get missing: no such key"
expect 3 kvnode upd missing x
has "$err" "nothing was written"
expect 3 kvnode get missing
expect 0 kvnode upd app/color green
expect 5 kvnode set app/color red --if-version 1
has "$err" "nothing was written"
expect 0 kvnode set app/color red --if-version 2
expect 5 kvnode set app/color red --if-version 0
expect 0 kvnode set app/new x --if-version 0
expect 0 kvnode get app/color --version 2
[ "$out" = green ] || die "version 2 is $out"
expect 3 kvnode get app/color --version 9
has "$err" "no such version"
expect 6 kvnode get app
expect 6 kvnode set app/.versions/x y
expect 6 kvnode set "$(printf 'n%.0s' {1..300})" y
has "$err" "name"

say "keys that are none: which rule"
expect 6 kvnode set a/../b v
has "$err" "kvnode: set a/../b: a key has no \`..\` part; nothing was written"
expect 6 kvnode set x/ v
has "$err" "does not end in a slash"
expect 6 kvnode get ""
has "$err" "kvnode: get: the key is empty"
expect 6 kvnode get "$(printf 'a/%.0s' {1..2206})"
has "$err" "path is 4412 bytes; the limit is 4095"
[ ${#err} -lt 300 ] || die "a long key is shown whole: ${#err} bytes"

say "names that a terminal would act on"
expect 0 kvnode set $'odd/a\nb' 1
expect 0 kvnode set odd/B 1
expect 0 kvnode set odd/a 1
expect 0 kvnode ls odd
[ "$out" = $'B\na\na\nb' ] || die "ls in a pipe, sorted by bytes: $out"
on_terminal() {
    script -qec "$*" /dev/null </dev/null | tr -d '\r'
}
[ "$(on_terminal kvnode ls odd)" = $'B\na\n$\'a\\nb\'' ] || die "ls on a terminal: $(on_terminal kvnode ls odd)"
[ "$(on_terminal kvnode ls --raw odd)" = $'B\na\na\nb' ] || die "ls --raw: $(on_terminal kvnode ls --raw odd)"
has "$(on_terminal kvnode log --last 3)" $'$\'odd/a\\nb\''
expect 0 kvnode ls --json odd
has "$out" '"name":"a\nb"'
expect 3 kvnode get $'none\nhere'
has "$err" $'get $\'none\\nhere\': no such key'
expect 0 kvnode del -r odd

say "settings of the cluster"
expect 0 kvnode config --cluster
has "$out" "max_bytes = 1GiB"
expect 0 kvnode config --cluster max_bytes=1MiB
expect 0 kvnode config --cluster
has "$out" "max_bytes = 1MiB"
head -c 2000000 /dev/zero | kvnode set too-much - 2>"$work/stderr"
[ $? = 6 ] || die "2 MB in a cluster of 1 MiB: $(cat "$work/stderr")"
has "$(cat "$work/stderr")" "the cluster's limit of 1.0 MiB (max_bytes"
has "$(cat "$work/stderr")" "kvnode config --cluster max_bytes=SIZE"
expect 0 kvnode config --cluster value_limit=4KiB
has "$err" "values longer than 4.0 KiB stay"
expect 6 kvnode set long "$(printf 'n%.0s' {1..5000})"
has "$err" "limit of 4.0 KiB (value_limit); nothing was written"
head -c 5000 /dev/zero | kvnode set long 2>"$work/stderr"
[ $? = 6 ] || die "5000 bytes: $(cat "$work/stderr")"
has "$(cat "$work/stderr")" "limit of 4.0 KiB (value_limit); nothing was written"
expect 0 kvnode config --cluster value_limit=default max_keys=1
has "$err" "max_keys: 3 keys are there, more than 1"
expect 6 kvnode set one/more x
expect 0 kvnode config --cluster max_keys=default max_bytes=1
has "$err" "max_bytes: "
expect 0 kvnode config --cluster max_bytes=1MiB
[ -z "$err" ] || die "a limit above what there is: $err"
expect 6 kvnode config --cluster max_keys=-1
has "$err" "-1 is no value for it"
expect 6 kvnode config --cluster nonsense=1
has "$err" "no such setting"
expect 2 kvnode config --cluster max_keys
expect 2 kvnode config max_keys=5
has "$err" "--cluster"
expect 0 kvnode config --cluster max_bytes=default
expect 0 kvnode config --cluster
has "$out" "max_bytes = 1GiB"

if [ "$(id -u)" = 0 ]; then
    say "a socket of somebody else: exit 6, and who may use it"
    expect 6 setpriv --reuid=20001 --regid=20001 --clear-groups "$(command -v kvnode)" -n n1 get k
    has "$err" "20001 may not"
    has "$err" "[node] socket_group"
fi

say "values: empty, from standard input, with a NUL, of several parts"
expect 0 kvnode set empty ""
expect 0 kvnode get empty
[ -z "$out" ] || die "empty is $out"
printf 'a\0b\n' | kvnode set bytes || die "set from a pipe"
kvnode get bytes | cmp - <(printf 'a\0b\n') || die "bytes differ"
head -c 5000000 /dev/urandom >"$work/big"
kvnode set big/value - <"$work/big" || die "set of 5 MB"
kvnode get big/value | cmp - "$work/big" || die "5 MB differ"
kvnode get big/value --version 1 | cmp - "$work/big" || die "5 MB of version 1 differ"
head -c 70000000 /dev/zero | kvnode set big/too-much 2>"$work/stderr"
[ $? = 6 ] || die "70 MB: $(cat "$work/stderr")"
has "$(cat "$work/stderr")" "limit of 64.0 MiB (value_limit); nothing was written"
expect 3 kvnode get big/too-much

say "history and restore"
expect 0 kvnode history app/color
[ "$(awk '{ print $1 }' <<<"$out" | tr '\n' ' ')" = "VERSION 3 2 1 " ] || die "history: $out"
has "$out" "current"
has "$out" "$(id -un)@n1"
expect 0 kvnode restore app/color 1
expect 0 kvnode get app/color
[ "$out" = blue ] || die "restored is $out"
expect 0 kvnode history app/color --last 1
[ "$(wc -l <<<"$out")" = 2 ] || die "history --last 1: $out"
expect 3 kvnode restore app/color 77
expect 3 kvnode history never

say "ls and del"
expect 0 kvnode ls
[ "$out" = "app/
big/
bytes
empty" ] || [ "$(sort <<<"$out")" = "$(printf 'app/\nbig/\nbytes\nempty' | sort)" ] || die "ls: $out"
expect 0 kvnode ls -l app
has "$out" "-rw-r--r--"
expect 3 kvnode ls nowhere
expect 6 kvnode del app
has "$err" "not empty"
expect 3 kvnode del bytes missing empty
expect 3 kvnode get bytes
expect 3 kvnode get empty
expect 0 kvnode del -r big
expect 0 kvnode history bytes
has "$out" "1.deleted"

say "JSON"
expect 0 kvnode --json get app/color
[ "$(python3 -c 'import json,sys; o = json.loads(sys.argv[1]); print(o["key"], o["value"], o["version"], o["size"])' "$out")" = "app/color blue 4 4" ] ||
    die "JSON: $out"
printf '\377' | kvnode set bin
expect 0 kvnode set short v --ttl 90m
expect 0 kvnode get short --json
has "$out" '"ttl":"90m"'
has "$out" '"expires":"20'
expect 0 kvnode set short v
expect 0 kvnode get short --json
case $out in *ttl*) die "a value that has no time to live: $out" ;; esac
expect 0 kvnode del short
expect 0 kvnode get bin --json
has "$out" '"value_base64":"/w=="'
for verb in "history app/color" "ls" "ls -l app" "log" "status" "members" "config" "set j v" "restore app/color 1" "del j"; do
    # shellcheck disable=SC2086
    expect 0 kvnode --json ${verb/config/config -n n1}
    python3 -c 'import json,sys; [json.loads(l) for l in sys.stdin]' <<<"$out" || die "kvnode --json $verb: $out"
done

say "the operation log, followed"
kvnode log --follow --last 1 >"$work/log" &
children+=($!)
kvnode watch app >"$work/watch" &
children+=($!)
seen() { grep -q "$1" "$work/$2"; }
until_true 20 seen . log || die "log --follow printed nothing"
# A watch begins at an unknown moment: write until it has seen one.
n=0
sees_a_write() {
    n=$((n + 1))
    kvnode set app/followed "$n" && kvnode set other/followed "$n" && seen app/followed watch && seen other/followed log
}
until_true 20 sees_a_write || die "no write was seen"
seen other/ watch && die "watch app printed another directory's key"

say "status, members, doctor, config, man, completion"
expect 0 kvnode status
has "$out" "n1    leader    healthy"
has "$out" "The cluster works. It has one node only"
expect 0 kvnode members
has "$out" "127.0.0.1:"
expect 0 kvnode doctor
has "$out" "0 failed"
expect 0 kvnode config -n n1
has "$out" "election_ms = "
expect 2 kvnode config -n n1 -o raft.election_ms=1
expect 2 kvnode config -n unknown
kvnode --completion | bash -n || die "completion"
if command -v scdoc >/dev/null; then
    kvnode --man | scdoc >/dev/null || die "man page"
fi

say "bench"
expect 0 kvnode bench --json --seconds 1 --keys 100 --op txn --outstanding 8
has "$out" '"op":"txn"'
expect 2 kvnode bench --op set
expect 0 kvnode bench --json --seconds 1 --keys 100 --outstanding 1,8
python3 - "$out" <<'END' || die "bench: $out"
import json, sys
rows = [json.loads(l) for l in sys.argv[1].splitlines()]
assert [(r["op"], r["outstanding"]) for r in rows] == [("floor", 1), ("set", 1), ("set", 8), ("get", 1), ("get", 8)]
assert all(r["ops_per_s"] > 0 and 0 < r["p50_us"] <= r["p99_us"] <= r["max_us"] for r in rows)
END
expect 3 kvnode ls kvnode-bench~
expect 0 kvnode log --last 1000000
case $out in
*kvnode-bench~/*) die "bench left history: $(echo "$out" | grep -m 3 kvnode-bench)" ;;
esac
kvnode bench --seconds 4 --keys 100 --outstanding 8,8,8,8 >/dev/null 2>&1 &
bench=$!
is_filled() { kvnode ls kvnode-bench~ 2>/dev/null | grep -q 00000099; }
until_true 20 is_filled || die "bench does not fill"
kill -INT "$bench"
wait "$bench"
[ $? = 130 ] || die "an interrupted bench"
expect 3 kvnode ls kvnode-bench~

say "init overwrites nothing"
expect 0 kvnode init --name n9 -c "$work/n9.conf" --data "$work/n9"
[ "$(stat -c %a "$work/n9")" = 700 ] || die "mode of the data directory"
has "$out" "kvnode config -c $work/n9.conf --peer"
expect 6 kvnode init --name n9 -c "$work/n9.conf" --data "$work/other"
has "$err" "another -c"
expect 6 kvnode init --name n9 -c "$work/other.conf" --data "$work/n9"
has "$err" "not empty; nothing was changed"
expect 0 kvnode config -c "$work/n9.conf" --fstab
[ "$out" = "n9 /srv/kv kvfs _netdev,nofail,bg,allow_other,x-systemd.requires=kvnode@n9.service 0 0" ] ||
    die "the line for fstab: $out"
expect 0 kvnode config -c "$work/n9.conf" --peer
has "$out" "[peer n9]"
rm -r "$work/n9"
mkdir "$work/n9"
timeout 20 kvnode run -c "$work/n9.conf" >"$work/run.log" 2>&1
[ $? = 1 ] || die "a wiped directory was taken: $(cat "$work/run.log")"

say "who is meant, and what there is to do"
expect 6 kvnode readmit n9
has "$err" "kvnode: readmit n9: no such node"
expect 2 kvnode readmit n1
has "$err" "kvnode: readmit: --yes is needed"
expect 1 kvnode dev start all
has "$err" "kvnode: dev start all: all nodes run already"
expect 1 kvnode dev resume all
has "$err" "kvnode: dev resume all: no node is paused"
expect 0 kvnode dev pause n1
expect 0 kvnode dev resume all
has "$out" "n1 resumed"

say "watch --timeout gives up when there is no node for so long; a value outlives the node"
kvnode watch late --timeout 1s >"$work/late" 2>"$work/late.err" &
watch=$!
children+=("$watch")
n=0
late_sees_a_write() {
    n=$((n + 1))
    kvnode set late/key "$n" && seen late/key late
}
until_true 20 late_sees_a_write || die "no write was seen"
kvnode dev kill n1 >/dev/null || die "kill"
watch_ended() { ! kill -0 "$watch" 2>/dev/null; }
until_true 20 watch_ended || die "watch --timeout 1s does not give up"
wait "$watch"
[ $? = 4 ] || die "watch gave up with another status: $(cat "$work/late.err")"
has "$(cat "$work/late.err")" "no answer from the node for 1 s"
expect 4 kvnode get app/color
expect 0 kvnode dev start n1
expect 0 kvnode get app/color
[ "$out" = blue ] || die "after kill -9 it is $out"
say ok
