#!/bin/bash
# /v1/events through failovers: what is acknowledged is told, once each and in order, over a stream that lives through the
# death of the leader, and over one that goes on at another node by its Last-Event-ID when its own node dies.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/../cluster/lib.sh"

command -v python3 >/dev/null || { echo "skipped: no python3"; [ -z "${CI:-}" ] || exit 1; exit 77; }
up 3
nodes=()
for n in n1 n2 n3; do
    nodes+=("$n=127.0.0.1:$(sed -n '/^\[http\]/,$s/^listen = 127.0.0.1://p' "$work/run/conf/$n.conf" | head -n 1)")
done
python3 - "${nodes[@]}" <<'PY' || die "see above"
import http.client, json, os, subprocess, sys, threading, time

NODES = dict(a.split('=') for a in sys.argv[1:])
DEV = [os.environ['KVNODE_BIN'], 'dev']


def leader():
    end = time.monotonic() + 10
    while True:
        for n in NODES:
            try:
                c = http.client.HTTPConnection(NODES[n], timeout=2)
                c.request('GET', '/v1/status')
                s = json.load(c.getresponse())
                if s['ready'] and s['leader']:
                    return s['leader']
            except OSError:
                pass
        assert time.monotonic() < end, 'no leader'


class Follower(threading.Thread):
    """Reads the stream at the first of these nodes; when that ends at the next, from where it was."""
    def __init__(self, *nodes):
        super().__init__(daemon=True)
        self.nodes, self.keys, self.since, self.streams, self.stopped = nodes, [], '0-0', 0, False
        self.resets = 0
        self.news = threading.Condition()

    def run(self):
        at = 0
        while not self.stopped:
            try:
                c = http.client.HTTPConnection(NODES[self.nodes[at % len(self.nodes)]], timeout=30)
                c.request('GET', '/v1/events?prefix=e/', headers={'Last-Event-ID': self.since})
                r = c.getresponse()
                if r.status == 200:
                    self.streams += 1
                    self.read(r)
            except (OSError, http.client.HTTPException):
                pass
            at += 1

    def read(self, r):
        kind = data = ident = None
        while True:
            line = r.readline()
            if not line:
                return
            line = line.decode().rstrip('\n')
            if line.startswith('event: '):
                kind = line[7:]
            elif line.startswith('id: '):
                ident = line[4:]
            elif line.startswith('data: '):
                data = json.loads(line[6:])
            elif line == '' and data is not None:
                with self.news:
                    if kind == 'reset':
                        self.resets += 1
                    elif data['type'] == 'file':
                        self.keys.append(data['key'])
                    self.since = ident or self.since
                    self.news.notify_all()
                kind = data = ident = None

    def wait(self, n, limit):
        with self.news:
            assert self.news.wait_for(lambda: len(self.keys) >= n, limit), '%d of %d events' % (len(self.keys), n)


written = []


def write(name, node):
    """True once it is known to be written: a key that is there only once, so it can be tried again."""
    end = time.monotonic() + 20
    while True:
        try:
            c = http.client.HTTPConnection(NODES[node], timeout=15)
            c.request('PUT', '/kv/e/' + name, name, {'If-None-Match': '*'})
            status = c.getresponse().status
            if status in (201, 412):
                written.append('e/' + name)
                return
        except (OSError, http.client.HTTPException):
            pass
        assert time.monotonic() < end, name


first = leader()
others = [n for n in NODES if n != first]
stays, moves = Follower(others[0]), Follower(first, others[1])
stays.start()
moves.start()
for i in range(50):
    write('a%d' % i, others[0])
stays.wait(50, 10)
moves.wait(50, 10)
subprocess.run(DEV + ['kill', first], check=True, stdout=subprocess.DEVNULL)
for i in range(50):
    write('b%d' % i, others[i % 2])
stays.wait(100, 15)
moves.wait(100, 15)
subprocess.run(DEV + ['start', first], check=True, stdout=subprocess.DEVNULL)
for i in range(20):
    write('c%d' % i, others[i % 2])
stays.wait(120, 15)
moves.wait(120, 15)
assert stays.keys == written, 'the stream that stayed: %s' % stays.keys
assert moves.keys == written, 'the stream that moved: %s' % moves.keys
assert stays.streams == 1, 'it was to live through it: %d streams' % stays.streams
assert moves.streams >= 2 and stays.resets == moves.resets == 0, (moves.streams, stays.resets, moves.resets)
print('120 events, each once and in order, over the death of the leader; %d streams' % (stays.streams + moves.streams))
PY
