#!/bin/bash
# [http] token_file and allow_plain: who may come from another machine, what a token is for, and what becomes of a
# file that is wrong. The other machine is this one's network namespace with an address of its own.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

command -v curl >/dev/null || {
    echo "skipped: no curl"
    [ -z "${CI:-}" ] || exit 1
    exit 77
}

all=alice-0123456789abcdef
reader="reader-0123456789abcdef"
app="app-0123456789abcdef"
appreader="appreader-0123456789abcdef"
tokens=$work/tokens
write_tokens() {
    (umask 077 && cat >"$tokens.new") && mv "$tokens.new" "$tokens"
}
write_tokens <<EOF
# who may come
alice $all
reader $reader read-only
app $app prefix=app

appreader $appreader prefix=app/ read-only
EOF

up 1
conf=$work/run/conf/n1.conf
port=$(sed -n '/^\[http\]/,$s/^listen = 127.0.0.1://p' "$conf" | head -n 1)
log=$work/run/n1/log

configure() { # ADDRESS [LINE...]: what [http] says
    sed -i '/^\[http\]/,/^$/d' "$conf"
    printf '\n[http]\nlisten = %s\n' "$1" >>"$conf"
    shift
    [ $# = 0 ] || printf '%s\n' "$@" >>"$conf"
}

restart() {
    kvnode dev kill n1 >/dev/null || die "kvnode dev kill"
    kvnode dev start n1 >"$work/start" 2>&1 || die "kvnode dev start: $(cat "$work/start")"
}

# http STATUS CURL-ARGUMENT...: the body is in $out, the headers are in $head.
head=
in_net=()
http() {
    local want=$1 got
    shift
    got=$("${in_net[@]}" curl -sS -m 30 -o "$work/body" -D "$work/head" -w '%{http_code}' "$@" 2>"$work/stderr")
    out=$(tr -d '\0' <"$work/body" 2>/dev/null)
    head=$(tr -d '\r' <"$work/head")
    [ "$got" = "$want" ] || die "$got, not $want: curl $*
$head
$out
$(cat "$work/stderr")"
}

as() { # STATUS TOKEN CURL-ARGUMENT...
    local status=$1 token=$2
    shift 2
    http "$status" -H "Authorization: Bearer $token" "$@"
}

say "an address that is none of loopback needs both"
configure "192.0.2.1:$port"
expect 2 kvnode run --config "$conf"
has "$err" "[http] listen = 192.0.2.1:$port is no address of loopback"
has "$err" "token_file"
configure "192.0.2.1:$port" "token_file = $tokens"
expect 2 kvnode run --config "$conf"
has "$err" "allow_plain = yes"
configure "192.0.2.1:$port" "allow_plain = yes"
expect 2 kvnode run --config "$conf"
has "$err" "token_file"

matrix() { # URL
    local u=$1
    as 201 $all -X PUT --data-binary v "$u/kv/app/key"
    as 201 $app -X PUT --data-binary v "$u/kv/app/by-app"
    as 201 $all -X PUT --data-binary v "$u/kv/other"
    as 201 $all -X PUT --data-binary v "$u/kv/apple"
    for token in wrong-0123456789abcdef "${all}x" "${all%?}" ""; do
        as 401 "$token" "$u/kv/app/key"
        has "$head" 'WWW-Authenticate: Bearer realm="kvfs", error="invalid_token"'
        as 401 "$token" -X PUT --data-binary w "$u/kv/app/key"
    done
    # reads: STATUS of alice, reader, app, appreader
    while read -r path a b c d; do
        as "$a" $all "$u$path"
        as "$b" $reader "$u$path"
        as "$c" $app "$u$path"
        as "$d" $appreader "$u$path"
    done <<'EOF'
/kv/app/key 200 200 200 200
/kv/app/missing 404 404 404 404
/kv/app/ 200 200 200 200
/kv/app/key?history 200 200 200 200
/kv/app/key?version=1 200 200 200 200
/kv/other 200 200 403 403
/kv/missing 404 404 403 403
/kv/apple 200 200 403 403
/kv/other?history 200 200 403 403
/kv/other?version=1 200 200 403 403
/kv/ 200 200 403 403
/v1/status 200 200 200 200
/v1/log 200 200 200 200
/v1/locks 200 200 200 200
/nothing 404 404 404 404
/get?key=app 405 405 405 405
EOF
    as 403 $reader -X PUT --data-binary w "$u/kv/app/key"
    has "$out" "read-only; nothing was written"
    as 403 $reader -X DELETE "$u/kv/app/key"
    as 403 $reader -X PATCH --data-binary w "$u/kv/app/key"
    as 403 $reader --json '{"value": "w"}' "$u/kv/app/key"
    as 403 $reader --json '{"if": [], "then": []}' "$u/v1/txn"
    as 403 $appreader -X PUT --data-binary w "$u/kv/app/key"
    as 403 $app -X PUT --data-binary w "$u/kv/other"
    as 403 $app -X PUT --data-binary w "$u/kv/apple"
    as 403 $app -X DELETE "$u/kv/?recursive"
    as 400 $app -X PUT --data-binary w --path-as-is "$u/kv/app/../other"
    for entry in '{"set": "other", "value": "w"}' '{"set": "/other", "value": "w"}' '{"del": "other"}' \
        '{"move": "app/key", "to": "other"}' '{"move": "other", "to": "app/x"}' '{"mkdir": "more"}'; do
        as 403 $app --json '{"then": ['"$entry"']}' "$u/v1/txn"
    done
    as 403 $app --json '{"if": [{"key": "other", "exists": true}], "then": []}' "$u/v1/txn"
    as 200 $app --json '{"then": [{"set": "/app/key", "value": "w"}]}' "$u/v1/txn"
    as 200 $app "$u/kv/app/key"
    [ "$out" = w ] || die "app wrote: $out"
    as 200 $reader "$u/kv/other"
    [ "$out" = v ] || die "other was written: $out"
}

say "over loopback: a token narrows what the kernel says, and a wrong one is refused"
configure "127.0.0.1:$port" "token_file = $tokens"
restart
u=http://127.0.0.1:$port
matrix "$u"
http 200 "$u/kv/other"
http 200 "$u/metrics"
has "$out" 'code="401"'
say "who writes is the node's own user, with the token's name"
expect 0 kvnode log --json
has "$(grep '"by-app"\|app/by-app' <<<"$out")" '"label":"app"'
as 200 $all "$u/kv/app/by-app?history"
has "$out" '"label":"app"'

say "a user whom socket_mode does not let in needs a token, as a reverse proxy does"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    nobody() { # STATUS CURL-ARGUMENT...
        local want=$1 got
        shift
        got=$(setpriv --reuid 65534 --regid 65534 --clear-groups curl -sS -m 30 -o /dev/null -w '%{http_code}' "$@")
        [ "$got" = "$want" ] || die "nobody: $got, not $want: curl $*"
    }
    nobody 401 "$u/kv/other"
    nobody 401 -H "Authorization: Basic eDp5" "$u/kv/other"
    nobody 200 -H "Authorization: Bearer $reader" "$u/kv/other"
    nobody 403 -H "Authorization: Bearer $reader" -X PUT --data-binary w "$u/kv/other"
    nobody 200 "$u/readyz"
fi

if [ -e /dev/fuse ]; then
    say "a link is no way around the prefix"
    mount_at "$work/mount" n1
    ln -s .. "$work/mount/app/up"
    ln -s ../other "$work/mount/app/link"
    for path in up/other up/ link 'up/other?history' 'up/other?version=1'; do
        got=$(curl -sS -m 30 -o "$work/body" -w '%{http_code}' -H "Authorization: Bearer $app" "$u/kv/app/$path")
        [[ $got = 40[0349] ]] || die "app comes by $path to: $got $(cat "$work/body")"
    done
    fusermount3 -u "$work/mount"
fi

say "names that a token is not for are not told"
as 200 $app "$u/v1/log"
[[ $out != *other* && $out != *apple* ]] || die "app is told: $out"
has "$out" app/by-app
as 200 $all --json '{"then": [{"move": "app/by-app", "to": "secret"}]}' "$u/v1/txn"
as 200 $all --json '{"then": [{"move": "other", "to": "app/taken"}]}' "$u/v1/txn"
as 200 $app "$u/v1/log"
[[ $out != *secret* && $out != *other* ]] || die "app is told: $out"
has "$out" '"operation":"del"'
has "$out" app/taken
curl -sN -m 60 -H "Authorization: Bearer $app" "$u/v1/events?since=0-1" >"$work/stream" &
stream=$!
children+=("$stream")
until_true 20 grep -q app/taken "$work/stream" || die "the stream: $(cat "$work/stream")"
! grep -q 'secret\|other\|apple' "$work/stream" || die "the stream tells: $(cat "$work/stream")"
kvnode hold outside -- kvnode hold app/inside -- tail -f /dev/null &
hold=$!
children+=("$hold")
named() { # TOKEN NAME
    as 200 "$1" "$u/v1/locks"
    [[ $out == *"$2"* ]]
}
until_true 20 named $all app/inside || die "$out"
has "$out" '"key":"outside"'
named $app app/inside || die "$out"
[[ $out != *outside* ]] || die "app is told: $out"

kill "$hold"
wait "$hold" 2>/dev/null

say "the file is read anew; who is in it no more has lost his stream, too"
write_tokens <<EOF
alice $all
bob bob-0123456789abcdef
EOF
until_true 20 grep -q "token_file was read anew: tokens for 2" "$log" || die "$(tail -n 5 "$log")"
as 200 bob-0123456789abcdef "$u/kv/apple"
as 200 $all "$u/kv/apple"
as 401 $app "$u/kv/app/key"
gone() { ! kill -0 "$stream" 2>/dev/null; }
until_true 20 gone || die "the stream of a token that is revoked goes on"

say "what is wrong is named, and those of before stay"
{
    echo "alice $all"
    echo "carol short"
    echo "dave dave-0123456789abcdef read-write"
} | write_tokens
until_true 20 grep -q "line 2: carol needs a TOKEN of 16.*line 3: .*read-only.*stay in force" "$log" || die "$(tail -n 5 "$log")"
! grep -q dave-0123 "$log" || die "a token stands in the log"
as 200 bob-0123456789abcdef "$u/kv/apple"
chmod 644 "$tokens"
until_true 20 grep -q "others than its owner may read or write it: chmod 600; the tokens of before" "$log" || die "$(tail -n 5 "$log")"
rm "$tokens"
until_true 20 grep -q "No such file or directory; the tokens of before stay" "$log" || die "$(tail -n 5 "$log")"
as 200 bob-0123456789abcdef "$u/kv/apple"

say "a node does not start with a file that is wrong"
kvnode dev kill n1 >/dev/null
for text in "alice short" "alice $all prefix=../x" "alice $all
alice other-0123456789abcdef" "a/b $all" "alice"; do
    echo "$text" | write_tokens
    expect 1 timeout 30 kvnode run --config "$conf"
    has "$err" "token_file = $tokens: line "
done
echo "alice $all" | write_tokens
chmod 640 "$tokens"
expect 1 timeout 30 kvnode run --config "$conf"
has "$err" "chmod 600"

say "from another machine: nothing without a token but /livez and /readyz"
if ! unshare -n true 2>/dev/null || ! command -v ip >/dev/null; then
    echo "no network namespace can be made here: what is no address of loopback is not looked at"
    exit 0
fi
write_tokens <<EOF
alice $all
reader $reader read-only
app $app prefix=app
appreader $appreader prefix=app/ read-only
EOF
configure "192.0.2.1:$port" "token_file = $tokens" "allow_plain = yes"
unshare -n sh -c 'ip link set lo up && ip addr add 192.0.2.1/24 dev lo && exec "$@"' sh kvnode run --config "$conf" \
    >"$work/remote.log" 2>&1 </dev/null &
node=$!
children+=("$node")
until_true 30 grep -q "serves HTTP at http://192.0.2.1:$port" "$work/remote.log" || die "$(cat "$work/remote.log")"
in_net=(nsenter -t "$node" -n)
u=http://192.0.2.1:$port
up_there() { [ "$("${in_net[@]}" curl -s -o /dev/null -w '%{http_code}' "$u/readyz")" = 200 ]; }
until_true 30 up_there || die "$(cat "$work/remote.log")"
http 200 "$u/livez"
for path in /kv/app/key /kv/missing /kv/ /v1/status /v1/members /v1/log /v1/events /v1/locks /v1/pulse /metrics /dashboard \
    /openapi.json /nothing '/get?key=app' /livez/x; do
    http 401 "$u$path"
    has "$head" 'WWW-Authenticate: Bearer realm="kvfs"'
done
http 401 -X PUT --data-binary w "$u/kv/app/key"
http 401 -u "alice:$all" "$u/kv/app/key"
# One connection, of which only the first request has a token.
"${in_net[@]}" curl -sS -m 30 -o "$work/body" -w '%{http_code} %{num_connects}\n' -H "Authorization: Bearer $all" "$u/kv/apple" \
    --next -sS -m 30 -o "$work/body" -w '%{http_code} %{num_connects}\n' "$u/kv/apple" >"$work/codes" || die "curl"
[ "$(cat "$work/codes")" = "200 1
401 0" ] || die "a token is taken for the next request: $(cat "$work/codes")"
head -c 3000000 /dev/zero >"$work/large"
http 401 -X PUT --data-binary @"$work/large" "$u/kv/large"
as 200 $all -X DELETE "$u/kv/app/?recursive"
as 200 $all -X DELETE "$u/kv/apple"
matrix "$u"
http 200 --unix-socket "$work/run/sock/n1.http" "$u/kv/apple"
