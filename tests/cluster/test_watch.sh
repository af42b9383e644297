#!/bin/bash
# watch: no change is missed, whoever dies; a command has them in batches; a place is a token, which is refused where it
# means nothing.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

up 3
seen() { grep -q -- "$1" "$work/$2"; }
json() { # FILE EXPRESSION: over `rows`, the lines of a file
    python3 -c 'import json, sys; rows = [json.loads(l) for l in open(sys.argv[1])]; print(eval(sys.argv[2]))' "$1" "$2"
}
leader() {
    kvnode status 2>/dev/null | awk '$2 == "leader" { print $1 }'
}

say "a line each; a token goes on where it was, at any node"
expect 0 kvnode set w/a 1
expect 0 kvnode --json log --last 1
place=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["revision"])' "$out")
expect 0 kvnode set w/a 2
expect 0 kvnode set other/a 2
expect 0 kvnode set w/b "$(printf 'one\ntwo')"
expect 0 kvnode watch w --once --since "$place"
[[ $out =~ ^[0-9-]+\ [0-9:]+\ +set\ +2\ +1\ B\ +[a-z]+@n1\ +w/a$ ]] || die "the line of a change: $out"
expect 0 kvnode -n n2 watch w --once --json --values --since "$place"
has "$out" '"value":"2"'
token=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["token"])' "$out")
expect 0 kvnode -n n3 watch w --once --values --since "$token"
has "$out" "w/b"
has "$out" $'\n    one\n    two'
expect 2 kvnode watch w --since 0-12-0123456789abcdef
has "$err" "of another cluster"
expect 2 kvnode watch w --since 0-x
expect 2 kvnode watch w --since "$token" --initial
cluster=${token##*-}
expect 5 kvnode watch w --json --since "0-99999999-$cluster"
has "$out" '"reset":true'

say "who writes under a name is known by it"
mount_at "$work/unnamed"
mkdir "$work/m" && kvfs n1,n2,n3 "$work/m" -o author=editor || die "no mount"
echo x >"$work/m/byname" && echo y >"$work/unnamed/other"
expect 0 kvnode --as deploy set byname y
KVNODE_AUTHOR=Jörg expect 0 kvnode del byname
expect 0 kvnode log --key byname
[ "$(grep -o '(.*)' <<<"$out" | LC_ALL=C sort -u | tr '\n' ' ')" = "(Jörg) (deploy) (editor) " ] || die "the names of authors: $out"
expect 0 kvnode log --by deploy
[ "$(wc -l <<<"$out")" = 1 ] || die "log --by: $out"
has "$out" "@n1(deploy)"
expect 0 kvnode --json log --by editor --op write --key byname
has "$out" '"label":"editor"'
expect 0 kvnode log --by "$(id -un)@n1" --key other
has "$out" other
expect 0 kvnode history byname
has "$out" "@n1(deploy)"
[ "$(getfattr --only-values -n user.kv.author "$work/unnamed/other" 2>/dev/null)" = "$(id -u)@n1" ] || die "user.kv.author has changed"
for name in 'a b' a@b "$(printf 'x%.0s' {1..65})"; do
    expect 2 kvnode --as "$name" set byname z
    KVNODE_AUTHOR=$name expect 2 kvnode set byname z
    KVNODE_AUTHOR=$name expect 0 kvnode ls
done
expect 2 kvnode --as deploy log
has "$err" "takes no --as"
expect 2 kvnode log --op nonsense
has "$err" "but: write, set, del,"
expect 5 kvnode watch w --since 0-99999999
has "$err" "the newest revision is 0-"

say "silence of what is watched is none of the node"
timeout 4 kvnode watch idle --timeout 1s >"$work/idle" 2>&1
[ $? = 124 ] || die "it ended: $(cat "$work/idle")"
[ -s "$work/idle" ] && die "a node that answers was left: $(head -n 3 "$work/idle")"

say "what there is, and what changes"
kvnode watch w --initial --json >"$work/initial" 2>"$work/initial.err" &
children+=($!)
until_true 20 seen '"key":"w/b"' initial 2>/dev/null || die "the present state is not shown: $(cat "$work/initial" "$work/initial.err")"
expect 0 kvnode set w/c 3
until_true 20 seen '"key":"w/c"' initial || die "what changes then is not shown: $(cat "$work/initial.err")"
got=$(json "$work/initial" '[(r["operation"], r["key"]) for r in rows if "key" in r]')
[ "$got" = "[('exists', 'w'), ('exists', 'w/a'), ('exists', 'w/b'), ('set', 'w/c')]" ] || die "--initial shows: $got"

say "watched through kills of the leader: nothing is missed"
kvnode watch fo --json >"$work/failover" 2>"$work/failover.err" &
children+=($!)
n=0
sees_a_write() {
    n=$((n + 1))
    kvnode -q set "fo/first$n" x && seen fo/first failover
}
until_true 20 sees_a_write || die "no write was seen"
: >"$work/written"
writer() {
    local i
    for ((i = 0; ; i++)); do
        [ -e "$work/stop" ] && return
        # Without an answer it may have been written: it is told in any case that is acknowledged.
        kvnode -q set "fo/k$i" "$i" 2>/dev/null && echo "fo/k$i" >>"$work/written"
    done
}
writer &
writer=$!
children+=("$writer")
more_than() { [ "$(wc -l <"$work/written")" -gt "$1" ]; }
for _ in 1 2 3; do
    until_true 20 [ -n "$(leader)" ]
    who=$(leader)
    [ -n "$who" ] || die "no leader"
    had=$(wc -l <"$work/written")
    expect 0 kvnode dev kill "$who"
    until_true 30 more_than "$((had + 3))" || die "no writes after the death of $who"
    expect 0 kvnode dev start "$who"
done
touch "$work/stop"
wait "$writer"
last=$(tail -n 1 "$work/written")
until_true 30 seen "\"$last\"" failover || die "$last is not seen: $(tail -n 3 "$work/failover.err")"
python3 - "$work/written" "$work/failover" <<'PY' || die "changes are missing"
import json, sys
written = open(sys.argv[1]).read().split()
rows = [json.loads(l) for l in open(sys.argv[2])]
told = [r["key"] for r in rows if "key" in r]
missing = [k for k in written if k not in set(told)]
assert len(written) > 12 and not missing, (len(written), missing[:5])
revisions = [int(r["revision"].split("-")[1]) for r in rows if "key" in r]
assert revisions == sorted(revisions), "out of order"
PY
say "$(wc -l <"$work/written") writes, 3 leaders killed, none missed"

say "a command has all keys, never twice at once"
cat >"$work/command" <<'SH'
#!/bin/bash
echo $$ >"$1/pid"
mkdir "$1/running" 2>/dev/null || echo twice >>"$1/twice"
printf 'BATCH %s\n%s\n' "$KVNODE_TOKEN" "$KVNODE_KEYS" >>"$1/batches"
# Until the test has written more behind this batch.
until [ -e "$1/go" ]; do :; done
rmdir "$1/running"
SH
chmod +x "$work/command"
kvnode watch cmd -- "$work/command" "$work" >"$work/cmd.out" 2>"$work/cmd.err" &
watch=$!
children+=("$watch")
sees_a_batch() {
    n=$((n + 1))
    kvnode -q set cmd/first "$n" && seen BATCH batches 2>/dev/null
}
until_true 20 sees_a_batch || die "the command does not run: $(cat "$work/cmd.err")"
for i in 1 2 3 4 5; do
    expect 0 kvnode set "cmd/k$i" "$i"
done
expect 0 kvnode set cmd/k1 again
touch "$work/go"
until_true 20 seen '^cmd/k5$' batches || die "the rest is not told: $(cat "$work/batches" "$work/cmd.err")"
[ ! -e "$work/twice" ] || die "the command ran twice at once"
[ "$(grep -c '^cmd/k1$' "$work/batches")" = 1 ] || die "a key is in a batch twice: $(cat "$work/batches")"
[ "$(grep -c BATCH "$work/batches")" -le 5 ] || die "a batch for each change: $(cat "$work/batches")"
place=$(sed -n 's/^BATCH //p' "$work/batches" | tail -n 1)
expect 0 kvnode set cmd/next 1
expect 0 kvnode watch cmd --once --since "$place"
has "$out" cmd/next

say "many keys are a star; TERM ends the command, then watch"
kill "$watch"
wait "$watch"
rm -rf "$work/go" "$work/batches" "$work/running"
python3 - "$work/txn" <<'PY'
import sys
with open(sys.argv[1], "w") as f:
    for i in range(300):
        f.write("set many/%s%03d x\n" % ("k" * 180, i))
PY
kvnode watch many -- "$work/command" "$work" >"$work/cmd.out" 2>"$work/cmd.err" &
watch=$!
children+=("$watch")
sees_a_star() {
    n=$((n + 1))
    sed "s/x\$/$n/" "$work/txn" | kvnode -q txn && [ -e "$work/batches" ]
}
until_true 20 sees_a_star || die "the command does not run: $(cat "$work/cmd.err")"
[ "$(sed -n 2p "$work/batches")" = '*' ] || die "300 long keys: $(head -c 300 "$work/batches")"
kill "$watch"
wait "$watch"
[ $? = 143 ] || die "watch did not end by TERM"
kill -0 "$(cat "$work/pid")" 2>/dev/null && die "the command outlives watch"
expect 127 kvnode watch many --since "$token" -- /nonexistent/command
has "$err" "cannot run /nonexistent/command: No such file or directory"
expect 126 kvnode watch many --since "$token" -- /etc/passwd
expect 2 kvnode watch many --
has "$err" "COMMAND is missing"
expect 3 kvnode watch w --once --since "$token" -- sh -c 'exit 3'

say "a mark every 10 s, and SSE goes on with a token"
url="http://127.0.0.1:$(sed -n '/^\[http\]/,$s/^listen = 127.0.0.1://p' "$work/run/conf/n1.conf" | head -n 1)"
until_true 20 seen '"heartbeat":true' initial || die "no heartbeat"
if command -v curl >/dev/null; then
    curl -sN -m 20 "$url/v1/events?prefix=w/&since=$token" >"$work/sse" 2>/dev/null &
    children+=($!)
    until_true 20 seen "^id: 0-[0-9]*-$cluster" sse || die "the tokens of events: $(cat "$work/sse")"
    place=$(sed -n 's/^id: //p' "$work/sse" | tr -d '\r' | head -n 1)
    expect 0 kvnode watch w --once --since "$place"
    has "$out" w/c
    expect 0 curl -s -m 20 "$url/v1/events?since=0-12-0123456789abcdef"
    has "$out" "another cluster"
fi

say "what is no longer kept is told by reset"
expect 0 kvnode config --cluster max_dead_names=0
expect 0 kvnode -q set gone/unseen x
expect 0 kvnode -q del gone/unseen
forgotten() { # with each command some of the names that were deleted first
    kvnode -q set gone/tick x && ! kvnode log --since "$token" 2>/dev/null | grep -q gone/unseen
}
until_true 30 forgotten || die "a deleted name is not forgotten"
expect 5 kvnode watch w --json --since "$token"
has "$out" '"reset":true'
expect 5 kvnode watch w --since "$token"
[ "$(tail -n 1 <<<"$out")" = reset ] || die "the line of a reset: $out"
has "$err" "not all changes between"
say "done"
