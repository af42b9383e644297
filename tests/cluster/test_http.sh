#!/bin/bash
# The HTTP API against real nodes: what curl is answered, who may what, and that nothing is called written that is not.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

command -v curl >/dev/null || {
    echo "skipped: no curl"
    [ -z "${CI:-}" ] || exit 1
    exit 77
}

up 3
has "$(cat "$work/up")" "HTTP: http://127.0.0.1:"

url_of() { # NODE
    echo "http://127.0.0.1:$(sed -n '/^\[http\]/,$s/^listen = 127.0.0.1://p' "$work/run/conf/$1.conf" | head -n 1)"
}
u1=$(url_of n1)
u2=$(url_of n2)
u3=$(url_of n3)

# http STATUS CURL-ARGUMENT...: the body is in $out, the headers are in $head.
head=
http() {
    local want=$1 got
    shift
    got=$(curl -sS -m 30 -o "$work/body" -D "$work/head" -w '%{http_code}' "$@" 2>"$work/stderr")
    out=$(tr -d '\0' <"$work/body" 2>/dev/null)
    head=$(tr -d '\r' <"$work/head")
    [ "$got" = "$want" ] || die "$got, not $want: curl $*
$head
$out
$(cat "$work/stderr")"
}

header() { # NAME
    sed -n "s/^$1: //Ip" <<<"$head"
}

say "set, get, update, delete"
http 201 -X PUT --data-binary blue "$u1/kv/app/color"
has "$out" '"version":1'
http 200 "$u2/kv/app/color"
[ "$out" = blue ] || die "another node gives: $out"
[ "$(header KV-Version)" = 1 ] || die "$head"
has "$head" "application/octet-stream"
has "$head" "X-Content-Type-Options: nosniff"
has "$head" "Content-Security-Policy: default-src 'none'; sandbox"
first=$(header ETag)
[[ $first =~ ^\"0-[0-9]+\"$ ]] || die "ETag is $first"
http 200 -X PUT --data-binary green "$u3/kv/app/color"
has "$out" '"version":2'
has "$out" '"created":false'
http 200 "$u1/kv/app/color?text"
has "$head" "text/plain"
expect 0 kvnode get app/color
[ "$out" = green ] || die "the command line gets $out"
http 200 -I "$u1/kv/app/color"
[ "$(header Content-Length)" = 5 ] || die "HEAD: $head"
http 304 -H "If-None-Match: $(header ETag)" "$u1/kv/app/color"
http 200 -H "If-None-Match: $first" "$u1/kv/app/color"
http 404 "$u1/kv/missing"
has "$out" '"error":"missing: no such key"'
http 404 -I "$u1/kv/missing"
http 200 -X DELETE "$u2/kv/app/color"
has "$out" '"removed":1'
http 404 "$u3/kv/app/color"
http 404 -X DELETE "$u2/kv/app/color"
has "$out" "nothing was written"

say "conditions"
http 201 -X PUT -H 'If-None-Match: *' --data-binary 1 "$u1/kv/lock"
http 412 -X PUT -H 'If-None-Match: *' --data-binary 2 "$u2/kv/lock"
has "$out" "the key exists"
has "$out" "nothing was written"
http 200 "$u1/kv/lock"
old=$(header ETag)
http 200 -X PUT -H "If-Match: $old" --data-binary 2 "$u1/kv/lock"
http 412 -X PUT -H "If-Match: $old" --data-binary 3 "$u1/kv/lock"
http 412 -X PUT -H 'If-Match: *' --data-binary 3 "$u1/kv/none"
http 404 "$u1/kv/none"
http 200 -X PUT -H 'If-Match: *' --data-binary 3 "$u1/kv/lock"
http 400 -X PUT -H 'If-Match: 3' --data-binary 4 "$u1/kv/lock"
http 200 "$u3/kv/lock"
[ "$out" = 3 ] || die "after refusals: $out"

http 200 "$u1/kv/lock"
now=$(header ETag)
http 412 -X PATCH -H "If-Match: $old" --data-binary x "$u2/kv/lock"
has "$out" "nothing was written"
http 412 -X PATCH -H 'If-Match: *' --data-binary x "$u2/kv/none"
http 400 -X PATCH -H 'If-Match: 3' --data-binary x "$u2/kv/lock"
http 400 -X PATCH -H 'If-None-Match: *' --data-binary x "$u2/kv/lock"
http 200 -X PATCH -H "If-Match: $now" --data-binary + "$u2/kv/lock"
http 412 -X PATCH -H "If-Match: $now" --data-binary + "$u2/kv/lock"
http 412 -X DELETE -H "If-Match: $now" "$u3/kv/lock"
has "$out" "nothing was written"
http 412 -X DELETE -H 'If-Match: *' "$u3/kv/none"
http 400 -X DELETE -H 'If-None-Match: *' "$u3/kv/lock"
http 400 -X DELETE -H 'If-Match: 3' "$u3/kv/lock"
http 400 -X DELETE -H "If-Match: $now" "$u3/kv/app/?recursive"
http 200 "$u2/kv/lock"
[ "$out" = 3+ ] || die "after refusals: $out"
http 200 -X DELETE -H "If-Match: $(header ETag)" "$u3/kv/lock"
has "$out" '"removed":1'
http 412 -X DELETE -H "If-Match: $now" "$u3/kv/lock"
http 404 "$u1/kv/lock"
http 201 -X PUT --data-binary 3 "$u1/kv/lock"
http 200 -X DELETE -H 'If-Match: *' "$u3/kv/lock"
http 201 -X PUT --data-binary 3 "$u1/kv/lock"

say "transactions"
txn() { http "$1" --json "$2" "${3:-$u1}/v1/txn"; }
txn 200 '{"then": [{"set": "t/a", "value": "1"}, {"set": "t/b", "value_base64": "AP8="}, {"mkdir": "t/d"}]}'
has "$out" '"branch":"then"'
http 200 "$u2/kv/t/a"
[ "$out" = 1 ] || die "of a transaction: $out"
txn 200 '{"if": [{"key": "t/a", "version": 1}, {"key": "t/none", "missing": true}, {"key": "t/b", "exists": true}, {"key": "t/a", "value": "1"}],
    "then": [{"set": "t/a", "value": "2"}, {"move": "t/b", "to": "t/c"}], "else": [{"del": "t/a"}]}' "$u2"
http 200 "$u3/kv/t/a"
[ "$out" = 2 ] || die "of a transaction: $out"
http 404 "$u3/kv/t/b"
txn 409 '{"if": [{"key": "t/c", "exists": true}, {"key": "t/a", "version": 1}], "then": [{"del": "t/a"}, {"del": "t/c"}]}' "$u3"
has "$out" '"if":2'
has "$out" 'nothing was written'
http 200 "$u1/kv/t/c"
txn 200 '{"if": [{"key": "t/a", "version": 1}], "then": [{"del": "t/a"}], "else": [{"set": "t/e", "value": "x", "ttl": "1h"}]}'
has "$out" '"branch":"else"'
http 200 "$u1/kv/t/e"
txn 404 '{"then": [{"set": "t/f", "value": "x"}, {"del": "t/none"}]}'
has "$out" '"then":2'
http 404 "$u1/kv/t/f"
for bad in '' '[]' '{}' '{"if": 1}' '{"when": []}' '{"if": [{"key": "a"}]}' '{"if": [{"key": "a", "version": -1}]}' '{"if": [{"key": "a", "missing": false}]}' \
    '{"if": [{"key": "a", "version": 1, "exists": true}]}' '{"then": [{}]}' '{"then": [1]}' '{"then": [{"set": "a"}]}' '{"then": [{"set": "a/", "value": ""}]}' \
    '{"then": [{"set": "../a", "value": ""}]}' '{"then": [{"set": "a", "value": "", "tll": "1s"}]}' '{"then": [{"set": "a", "value": "", "ttl": "soon"}]}' \
    '{"then": [{"move": "a"}]}' '{"then": [{"del": "a", "mkdir": "b"}]}' '{"then": [{"set": "a", "value": "", "value_base64": ""}]}' '{"then": [{"set": "a\u0000b", "value": ""}]}'; do
    txn 400 "$bad"
    has "$out" "nothing was written"
done
http 404 "$u1/kv/a"
http 405 "$u1/v1/txn"
http 403 -H 'Sec-Fetch-Site: cross-site' --json '{"then": [{"set": "a", "value": ""}]}' "$u1/v1/txn"
head -c 40000 /dev/zero | tr '\0' ' ' >"$work/long.txn"
http 413 --data-binary @"$work/long.txn" "$u1/v1/txn"

say "append, JSON, times to live"
http 201 -X POST -H 'Content-Type: application/json' --data '{"value": "bl\u00fce"}' "$u1/kv/json"
http 200 "$u2/kv/json"
[ "$out" = blüe ] || die "of JSON: $out"
http 200 -X POST --data '{"value": {"a": [1, null]}}' "$u1/kv/json"
http 200 "$u2/kv/json"
[ "$out" = '{"a":[1,null]}' ] || die "of JSON: $out"
http 200 -X POST --data '{"value_base64": "AP8="}' "$u1/kv/json"
[ "$(curl -sS "$u1/kv/json" | od -An -tx1 | tr -d ' ')" = 00ff ] || die "of base64"
http 400 -X POST --data '{"value": 1, "tll": 2}' "$u1/kv/json"
http 400 -X POST --data '{"value": ' "$u1/kv/json"
http 400 -X POST --data '{"value_base64": "A*=="}' "$u1/kv/json"
head -c 300000 /dev/zero | tr '\0' 1 >"$work/long.json"
http 413 -X POST --data-binary @"$work/long.json" "$u1/kv/json"
http 200 -X PATCH --data-binary abc "$u1/kv/lock"
has "$out" '"size":4'
http 200 -X PATCH --data-binary @<(head -c 300000 /dev/zero | tr '\0' z) "$u2/kv/lock"
http 200 "$u3/kv/lock"
[ "${#out}" = 300004 ] && [ "${out:0:5}" = 3abcz ] || die "appended: ${#out} bytes"
http 404 -X PATCH --data-binary abc "$u1/kv/none"
http 409 -X PATCH --data-binary abc "$u1/kv/app"
http 200 -X PUT --data-binary 3 "$u1/kv/lock"
http 400 -X PUT --data-binary x "$u1/kv/brief?ttl=soon"
http 201 -X PUT --data-binary x "$u1/kv/brief?ttl=1s"
gone() { [ "$(curl -sS -o /dev/null -w '%{http_code}' "$u2/kv/brief")" = 404 ]; }
until_true 10 gone || die "what had a second to live lives"

say "directories and the past"
for i in 1 2 3 4 5; do http 201 -X PUT --data-binary "$i" "$u1/kv/dir/sub$i/k"; done
http 200 "$u2/kv/dir/"
python3 - "$out" <<'PY' || die "listing: $out"
import json, sys
o = json.loads(sys.argv[1])
assert o["key"] == "dir/" and o["more"] is False and [e["name"] for e in o["entries"]] == ["sub%d" % i for i in range(1, 6)], o
assert o["entries"][0]["type"] == "directory"
PY
http 200 "$u2/kv/dir/?recursive"
python3 - "$out" <<'PY' || die "recursive: $out"
import json, sys
o = json.loads(sys.argv[1])
assert sorted(e["name"] for e in o["entries"]) == sorted(["sub%d" % i for i in range(1, 6)] + ["sub%d/k" % i for i in range(1, 6)]), o
PY
http 200 "$u2/kv/dir/?recursive&limit=7"
has "$out" '"more":true'
seen=''
next=0
for _ in 1 2 3 4; do
    http 200 "$u2/kv/dir/?limit=2&after=$next"
    seen+=$(python3 -c 'import json,sys; print(*[e["name"] for e in json.loads(sys.argv[1])["entries"]], "")' "$out")
    next=$(python3 -c 'import json,sys; print(json.loads(sys.argv[1]).get("next", ""))' "$out")
    [ -n "$next" ] || break
done
[ "$(xargs -n1 <<<"$seen" | sort | xargs)" = "sub1 sub2 sub3 sub4 sub5" ] || die "page by page: $seen"
http 200 "$u2/kv/"
has "$out" '"name":"dir"'
http 404 "$u2/kv/nodir/"
http 409 "$u2/kv/lock/"
http 400 "$u2/kv/dir/?limit=0"
http 400 "$u2/kv/dir/?limit=3000"
for v in one two three; do
    curl -sSf -o /dev/null -X PUT --data-binary $v "$u1/kv/past/key" || die "put"
done
http 200 "$u2/kv/past/key?version=2"
[ "$out" = two ] || die "version 2 is $out"
[[ $(header KV-Author) =~ ^[0-9]+@n1$ ]] || die "who wrote version 2: $head"
http 404 "$u2/kv/past/key?version=9"
http 400 "$u2/kv/past/key?version=x"
http 200 "$u3/kv/past/key?history"
[ "$(python3 -c 'import json,sys; print(*[r["version"] for r in json.loads(sys.argv[1])["versions"]])' "$out")" = "3 2 1" ] ||
    die "history: $out"
time_of() { python3 -c 'import json,sys; print(next(r["time"] for r in json.loads(sys.argv[1])["versions"] if str(r["version"]) == sys.argv[2]))' "$out" "$1"; }
first_time=$(time_of 1)
second_time=$(time_of 2)
http 200 "$u1/kv/past/key?as-of=$second_time"
[ "$out" = two ] || [ "$out" = three ] || die "as of $second_time: $out" # both may be of one millisecond
http 200 "$u2/kv/past/key?as-of=9000000000"
[ "$out" = three ] || die "as of later: $out"
[ "$(header KV-Version)" = 3 ] || die "as of later: $head"
[[ $(header KV-Author) =~ @n1$ ]] || die "as of later: $head"
http 404 "$u2/kv/past/key?as-of=2001-01-31T12:00:00Z"
for bad in '' soon 2026-13-01T00:00:00Z 2026-01-01T00:00:00ZZ -1 99999999999999999999; do http 400 "$u2/kv/past/key?as-of=$bad"; done
http 400 "$u2/kv/past/key?as-of=$first_time&version=1"
http 400 "$u2/kv/past/?as-of=$first_time"
http 200 "$u3/kv/past/key?history"
http 200 "$u3/kv/past/key?history&limit=2"
http 200 "$u3/kv/past/key?history&after=$(python3 -c 'import json,sys; print(json.loads(sys.argv[1])["next"])' "$out")"
[ "$(python3 -c 'import json,sys; print(*[r["version"] for r in json.loads(sys.argv[1])["versions"]])' "$out")" = 1 ] ||
    die "the rest of the history: $out"
http 404 "$u3/kv/past/none?history"
http 200 -X DELETE "$u1/kv/past/key"
http 404 "$u3/kv/past/key?as-of=9000000000"
http 200 "$u3/kv/past/key?version=3"
[ "$out" = three ] || die "a deleted key's version is $out"
http 200 -X DELETE "$u1/kv/dir/?recursive"
http 404 "$u3/kv/dir/sub1/k"

say "what nodes say of themselves"
http 200 "$u1/livez"
http 200 "$u1/readyz"
http 200 "$u1/v1/status"
expect 0 kvnode status --json -n n1
python3 - "$out" <<PY || die "status differs from the command line's"
import json, sys, urllib.request
a, b = json.loads(sys.argv[1]), json.load(urllib.request.urlopen("$u1/v1/status"))
assert set(a) == set(b) and a["node"] == b["node"] == "n1" and a["leader"] == b["leader"], (set(a) ^ set(b))
m = json.load(urllib.request.urlopen("$u1/v1/members"))
assert sorted(x["name"] for x in m["members"]) == ["n1", "n2", "n3"] and m["leader"] == a["leader"], m
PY
http 200 "$u1/metrics"
has "$out" 'kvnode_peer_up{peer="n2"} 1'
has "$out" 'kvnode_requests_total{op="get",code="200"}'
if command -v promtool >/dev/null; then
    promtool check metrics <"$work/body" >"$work/promtool" 2>&1 || die "promtool: $(cat "$work/promtool")"
    [ ! -s "$work/promtool" ] || die "promtool: $(cat "$work/promtool")"
fi
http 405 -X PUT --data-binary x "$u1/v1/status"
sessions() { curl -sS -m 10 "$u1/metrics" | sed -n 's/^kvnode_sessions //p'; }
before=$(sessions)
for i in {1..40}; do curl -sSf -m 10 -o /dev/null -X PUT --data-binary "$i" "$u1/kv/brief-connections" || die "put $i"; done
[ "$(sessions)" -le $((before + 2)) ] || die "40 connections left sessions: $before are now $(sessions)"

say "changes as they come: in order, none missed, and those who do not read hold up nobody"
python3 - "$u1" "$u2" "$u3" <<'PY' || die "events"
import http.client, json, select, socket, subprocess, sys, threading, time, urllib.parse, urllib.request

nodes = [urllib.parse.urlparse(u).netloc for u in sys.argv[1:]]

class Events:
    def __init__(self, node, path, headers={}):
        self.c = http.client.HTTPConnection(node, timeout=20)
        self.c.request("GET", "/v1/events" + path, headers=headers)
        self.r = self.c.getresponse()
        assert self.r.status == 200 and self.r.getheader("Content-Type") == "text/event-stream", self.r.status
        self.last = None

    def next(self):
        event = {}
        while True:
            line = self.r.readline().decode().rstrip("\n")
            if line == "" and event:
                if "id" in event:
                    self.last = event["id"]
                return event["event"], json.loads(event["data"])
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                event[name] = value

def put(node, key, value):
    c = http.client.HTTPConnection(node, timeout=20)
    c.request("PUT", "/kv/" + key, value)
    r = c.getresponse()
    body = json.loads(r.read())
    assert r.status in (200, 201), (r.status, body)
    return body["revision"]

start = put(nodes[0], "ev/before", "0")
a = Events(nodes[0], "?prefix=ev/")
b = Events(nodes[1], "?prefix=ev/&since=" + start)
deaf = []
for i in range(50):
    s = socket.create_connection(nodes[0].split(":"))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.sendall(b"GET /v1/events?since=0-0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    deaf.append(s)
for i in range(300):
    put(nodes[i % 3], "ev/k%d" % i, str(i))
    put(nodes[i % 3], "other/k", str(i))
for stream in (a, b):
    got = [stream.next() for _ in range(300)]
    keys = [d["key"] for k, d in got if d["operation"] != "mkdir"]
    want = ["ev/k%d" % i for i in range(300)]
    assert [k for k, _ in got] == ["change"] * 300 and keys == want, keys[:5] + keys[-5:]
# From where it was, at another node; and a browser's way.
last = b.last
c = Events(nodes[2], "?prefix=ev/", {"Last-Event-ID": last})
put(nodes[0], "ev/after", "1")
assert c.next()[1]["key"] == "ev/after"
# From the beginning: all of it, in order, though it is far more than is kept for one who does not read.
d = Events(nodes[0], "?prefix=ev/k&since=0-0")
seen = []
while len(seen) < 300:
    kind, row = d.next()
    assert kind == "change", (kind, row)
    seen.append(row["key"])
assert seen == want, seen[:5]
# Nobody asks while nothing happens, though the last revisions are of no key.
def cpu():
    text = urllib.request.urlopen("http://%s/metrics" % nodes[2]).read().decode()
    return float([l for l in text.splitlines() if l.startswith("process_cpu_seconds_total ")][0].split()[1])
settle = put(nodes[0], "ev/settle", "1")
subprocess.run(["kvnode", "config", "--cluster", "value_limit=63MiB"], check=True, stdout=subprocess.DEVNULL)
idle = Events(nodes[2], "?prefix=ev/&since=" + settle)
before = cpu()
until = time.monotonic() + 1.5
while (left := until - time.monotonic()) > 0:
    if select.select([idle.r.fp], [], [], left)[0]:
        assert idle.r.readline().strip() in (b":", b"")
used = cpu() - before
assert used < 0.5, "%.2f s of CPU while nothing happened" % used
put(nodes[0], "ev/settled", "1")
assert idle.next()[1]["key"] == "ev/settled"
subprocess.run(["kvnode", "config", "--cluster", "value_limit=64MiB"], check=True, stdout=subprocess.DEVNULL)
# Many at once have each row.
many = [Events(nodes[0], "?prefix=fan/") for i in range(60)]
want = ["fan/k%d" % i for i in range(20)]
for i, key in enumerate(want):
    put(nodes[i % 3], key, str(i))
for stream in many:
    got = []
    while len(got) < 20:
        row = stream.next()[1]
        got += [row["key"]] if row["key"] != "fan" else []
    assert got == want, got
# A place that nobody has been at yet.
e = Events(nodes[0], "?since=0-99999999")
assert e.next()[0] == "reset"
put(nodes[1], "ev/again", "1")
while e.next()[1]["key"] != "ev/again":
    pass
log = json.load(urllib.request.urlopen("http://%s/v1/log?limit=10&since=%s" % (nodes[1], start)))
assert len(log["operations"]) == 10 and log["more"], log
more = json.load(urllib.request.urlopen("http://%s/v1/log?limit=10&after=%s" % (nodes[1], urllib.parse.quote(log["next"], safe=""))))
assert more["operations"][0]["revision"] != log["operations"][-1]["revision"] and more["more"], more
PY
http 400 "$u1/v1/events?since=yesterday"
http 200 "$u1/v1/locks"
has "$out" '"locks":[]'
http 200 "$u1/openapi.json"
python3 - "$out" <<'PY' || die "openapi.json names addresses that there are not"
import json, sys
assert "/kv/{key}" in json.loads(sys.argv[1])["paths"]
PY
has "$head" "Content-Security-Policy: default-src 'self'"

say "names"
http 201 -X PUT --data-binary x "$u1/kv/odd/a%20b%2Fc%25%E2%98%83%3Cscript%3E"
expect 0 kvnode get 'odd/a b/c%☃<script>'
[ "$out" = x ] || die "decoded otherwise: $out"
http 400 --path-as-is "$u1/kv/a/../b"
has "$out" '`..`'
http 400 "$u1/kv/a%2F..%2Fb"
http 400 "$u1/kv/a%00b"
http 400 "$u1/kv//a"
http 400 "$u1/kv/app/.versions/color"
http 400 -X PUT --data-binary x "$u1/kv/app/"
http 400 "$u1/kv/app?colour=red"
has "$out" "there are: version"
http 409 "$u1/kv/app"
has "$out" "slash at the end"
http 404 "$u1/nothing"
# A text that is cut inside of a character.
http 404 "$u1/kv/aa$(printf '%%C3%%A9%.0s' {1..120})/$(printf '%%C3%%A9%.0s' {1..60})"
has "$out" "no such key"
http 201 -X PUT --data-binary "" "$u1/kv/empty"
http 200 "$u1/kv/empty"
[ -z "$out" ] || die "an empty value is $out"

say "values of all lengths, bounds"
head -c 20000000 /dev/urandom >"$work/big"
http 201 -X PUT --data-binary @"$work/big" "$u2/kv/big"
curl -sS -m 60 "$u3/kv/big" | cmp - "$work/big" || die "a long value comes back otherwise"
http 200 -X PUT -H 'Transfer-Encoding: chunked' --data-binary @"$work/big" "$u1/kv/big"
curl -sS -m 60 "$u1/kv/big" | cmp - "$work/big" || die "a long value comes back otherwise"
http 200 -X PUT --data-binary @<(head -c 262144 "$work/big") "$u1/kv/big"
curl -sS -m 60 "$u1/kv/big" | cmp - <(head -c 262144 "$work/big") || die "262,144 bytes come back otherwise"
expect 0 kvnode config --cluster value_limit=1MiB
http 413 -X PUT --data-binary @"$work/big" "$u1/kv/big"
has "$out" "value_limit"
http 413 -X PUT -H 'Transfer-Encoding: chunked' --data-binary @"$work/big" "$u1/kv/big"
curl -sS -m 60 "$u1/kv/big" | cmp - <(head -c 262144 "$work/big") || die "a refused value was written"
expect 0 kvnode config --cluster value_limit=64MiB
expect 0 kvnode config --cluster max_bytes=1MiB
http 507 -X PUT --data-binary @"$work/big" "$u1/kv/big2"
has "$out" "nothing was written"
expect 0 kvnode config --cluster max_bytes=1GiB
http 404 "$u1/kv/big2"
http 414 "$u1/kv/$(printf 'a%.0s' {1..17000})"
http 400 "$u1/kv/$(printf 'n%.0s' {1..300})"

say "no GET writes; who is asked, from where"
http 405 "$u1/set?key=foo&value=bar&ttl=60s"
has "$out" "curl -X PUT --data-binary bar '$u1/kv/foo?ttl=60s'"
http 404 "$u1/kv/foo"
http 405 -X PATCH "$u1/set?key=foo"
http 405 -X TRACE "$u1/kv/app/color"
[ -n "$(header Allow)" ] || die "405 without Allow: $head"
http 421 -H 'Host: evil.example' "$u1/kv/lock"
http 421 -H "Host: 127.0.0.1.evil.example" "$u1/kv/lock"
http 200 -H 'Host: localhost' "$u1/kv/lock"
http 403 -X PUT -H 'Origin: http://evil.example' --data-binary x "$u1/kv/lock"
http 403 -X DELETE -H 'Sec-Fetch-Site: cross-site' "$u1/kv/lock"
http 200 -X PUT -H "Origin: $u1" -H 'Sec-Fetch-Site: same-origin' --data-binary 3 "$u1/kv/lock"
http 200 --unix-socket "$work/run/sock/n1.http" http://any/kv/lock
[ "$out" = 3 ] || die "over the unix socket: $out"

say "as whom"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    chmod 755 "$work" "$work/run" "$work/run/sock" # to the sockets, whose own mode counts
    expect 0 kvnode set private/key secret
    mkdir -p "$work/nobody"
    chmod 777 "$work/nobody"
    as_other() { (cd "$work/nobody" && setpriv --reuid 12345 --regid 12345 --clear-groups "$@"); }
    [ "$(as_other curl -sS -m 10 -o /dev/null -w '%{http_code}' "$u1/kv/private/key")" = 403 ] ||
        die "TCP is a way around socket_mode"
    sed -i '/^\[node\]/a socket_mode = 0666' "$work/run/conf/n1.conf"
    { kvnode dev kill n1 && kvnode dev start n1; } >"$work/again" 2>&1 || die "n1: $(cat "$work/again")"
    serves() { [ "$(curl -sS -m 10 -o /dev/null -w '%{http_code}' "$u1/kv/private/key" 2>/dev/null)" = 200 ]; }
    until_true 20 serves || die "n1 does not serve over HTTP"
    [ "$(as_other curl -sS -m 10 "$u1/kv/private/key")" = secret ] || die "others cannot read what is 0644"
    if [ -e /dev/fuse ]; then
        mount_at "$work/closing" n1
        mkdir -m 711 "$work/closing/closed"
        echo x >"$work/closing/closed/name"
        fusermount3 -u "$work/closing"
        kvnode hold closed/name -- tail -f /dev/null &
        holder=$!
        children+=("$holder")
        is_held() { curl -sS -m 10 "$u1/v1/locks" | grep -q closed/name; }
        until_true 20 is_held || die "the lock is not told"
        locks=$(as_other curl -sS -m 10 "$u1/v1/locks")
        has "$locks" '"locks":'
        [[ $locks != *closed/name* ]] || die "a name in a directory that he may not list: $locks"
        kill "$holder"
        wait "$holder" 2>/dev/null
    fi
    [ "$(as_other curl -sS -m 10 -o /dev/null -w '%{http_code}' -X PUT --data-binary x "$u1/kv/private/key")" = 403 ] ||
        die "another user writes root's key over TCP"
    [ "$(as_other curl -sS -m 10 -o /dev/null -w '%{http_code}' -X DELETE "$u1/kv/private/key")" = 403 ] ||
        die "another user deletes root's key over TCP"
    [ "$(as_other curl -sS -m 10 -o /dev/null -w '%{http_code}' --unix-socket "$work/run/sock/n2.http" http://x/kv/lock 2>/dev/null)" = 000 ] ||
        die "a socket of mode 0600 was open to others"
    expect 0 kvnode get private/key
    [ "$out" = secret ] || die "private/key is $out"
fi

say "a client that says nothing, one that does not read, and one that goes"
python3 - "${u1##*:}" <<'PY' || die "other clients are held up"
import http.client, socket, sys, time
port = int(sys.argv[1])
quiet = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
half = []
for i in range(50):
    s = socket.create_connection(("127.0.0.1", port))
    s.sendall(b"PUT /kv/half%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nabc" % i)
    half.append(s)
deaf = []
for i in range(20):
    s = socket.create_connection(("127.0.0.1", port))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.sendall(b"GET /kv/big HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
    deaf.append(s)
gone = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
for s in gone:
    s.sendall(b"GET /kv/lock HTTP/1.1\r\nHost: localhost\r\n\r\n")
    s.close()
c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
begin = time.monotonic()
for i in range(200):
    c.request("GET", "/kv/lock")
    r = c.getresponse()
    body = r.read()
    assert r.status == 200 and body == b"3", (r.status, body)
    c.request("PUT", "/kv/n", str(i))
    r = c.getresponse()
    r.read()
    assert r.status in (200, 201), r.status
assert time.monotonic() - begin < 20, time.monotonic() - begin
for bad in [b"\x00\xff\n\n", b"GET\r\n\r\n", b"GET /kv/a HTTP/9.9\r\n\r\n", b"GET /kv/a HTTP/1.1\r\n" + b"x: " + b"y" * 70000]:
    s = socket.create_connection(("127.0.0.1", port))
    s.settimeout(0.3)  # what is no whole request is not answered, and cut off after a minute
    try:
        s.sendall(bad)
        answer = s.recv(100)
    except OSError:
        answer = b""
    assert b" 200 " not in answer, answer
PY
for i in 0 49; do http 404 "$u1/kv/half$i"; done

say "without a majority: 503 or 504, never 200; what a 504 says can be asked again, and is executed once"
for x in "$u1" "$u2" "$u3"; do http 200 -X PUT --data-binary 3 "$x/kv/lock"; done # each has a session
expect 0 kvnode dev pause follower
paused=${out%% *}
expect 0 kvnode dev kill follower
killed=${out%% *}
for n in n1 n2 n3; do [ "$n" = "$paused" ] || [ "$n" = "$killed" ] || left=$n; done
u=$(url_of "$left")
# What is on its way when the majority is lost.
got=$(curl -sS -m 30 -o "$work/body" -D "$work/head" -w '%{http_code}' -X PUT --data-binary lost "$u/kv/once")
case $got in
503) has "$(cat "$work/body")" "nothing was written" ;;
504) has "$(cat "$work/body")" "may or may not have been written" ;;
*) die "a write without a majority: $got $(cat "$work/body")" ;;
esac
key=$(tr -d '\r' <"$work/head" | sed -n 's/^Idempotency-Key: //Ip')
# Until its read lease has run out it may answer: nothing can be written meanwhile.
unserved() { [ "$(curl -sS -m 30 -o /dev/null -w '%{http_code}' "$u/kv/lock")" = 503 ]; }
until_true 30 unserved || die "it goes on answering without a majority"
http 503 "$u/readyz"
http 200 "$u/livez"
http 503 "$u/kv/lock"
[ -n "$(header Retry-After)" ] || die "503 without Retry-After: $head"
http 503 -X PUT --data-binary lost "$u/kv/never"
has "$out" "nothing was written"
if [ "$got" = 504 ]; then
    http 503 -X PUT -H "Idempotency-Key: $key" --data-binary lost "$u/kv/once"
    has "$out" "whether the first try was written is not known"
fi
expect 0 kvnode dev resume all
expect 0 kvnode dev start all
until_true 20 curl -sSf -m 10 -o /dev/null "$u/kv/lock" || die "does not serve again"
say "the answer was $got"
if [ "$got" = 504 ]; then
    for x in "$u1" "$u2" "$u3" "$u1"; do
        curl -sSf -m 30 -X PUT -H "Idempotency-Key: $key" --data-binary lost "$x/kv/once" >"$work/body" ||
            die "the repetition at $x: $(cat "$work/body")"
        has "$(cat "$work/body")" '"version":1,'
    done
    # Also when the key is not any more what the condition names, or is no more.
    http 201 -X PUT -H "Idempotency-Key: $key" -H 'If-Match: "0-1"' --data-binary lost "$u2/kv/once"
    has "$out" '"version":1,'
    http 200 -X DELETE "$u1/kv/once"
    http 201 -X PUT -H "Idempotency-Key: $key" -H 'If-Match: "0-1"' --data-binary lost "$u2/kv/once"
    has "$out" '"version":1,'
    http 201 -X PATCH -H "Idempotency-Key: $key" --data-binary lost "$u3/kv/once"
    has "$out" '"version":1,'
    http 404 "$u3/kv/once"
    http 404 "$u3/kv/never"
    other=${key%-*}-0123456789abcdef
    http 409 -X PUT -H "Idempotency-Key: $other" --data-binary lost "$u2/kv/once"
fi
http 400 -X PUT -H 'Idempotency-Key: mine' --data-binary x "$u1/kv/once"
# Nobody takes the number of a write that is yet to come, by guessing it.
python3 - "${u1##*:}" <<'PY' || die "a guessed Idempotency-Key"
import http.client, json, sys
c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=20)
def ask(method, path, body=None, headers={}):
    c.request(method, path, body, headers)
    r = c.getresponse()
    return r.status, r.read()
first = int(json.loads(ask("PUT", "/kv/guess", "0")[1])["revision"][2:])
for session in range(first - 9, first):
    for tag in ("", "-0123456789abcdef"):
        status, text = ask("PUT", "/kv/guess", "evil", {"Idempotency-Key": "%d-2%s" % (session, tag)})
        assert status in (400, 409), (session, status, text)
assert ask("PUT", "/kv/guess", "real")[0] == 200 and ask("GET", "/kv/guess")[1] == b"real"
PY

equal_digests 3
