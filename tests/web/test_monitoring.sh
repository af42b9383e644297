#!/bin/bash
# contrib/monitoring: /metrics is what Prometheus reads without complaint, and has what the dashboard and the alerts
# ask for; the alerts fire where they should (promtool, of Debian's prometheus).
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/../cluster/lib.sh"

for program in promtool curl python3; do
    command -v $program >/dev/null && continue
    echo "skipped: no $program (contrib/packages.sh --dev)"
    [ -z "${CI:-}" ] || exit 1
    exit 77
done
monitoring=$SOURCE_ROOT/contrib/monitoring

say "rules"
promtool check rules "$monitoring/alerts.yml" || die "alerts.yml"
promtool check config "$monitoring/prometheus.yml" || die "prometheus.yml"
promtool test rules "$monitoring/alerts_test.yml" || die "alerts_test.yml"
mkdir "$work/planted"
cp "$monitoring"/*.yml "$work/planted"
sed -i 's/kvnode_apply_lag > 1000/kvnode_apply_lag > 5000/' "$work/planted/alerts.yml"
! promtool test rules "$work/planted/alerts_test.yml" >/dev/null 2>&1 || die "a wrong alert is not found"

say "metrics"
up 3
u=http://127.0.0.1:$(sed -n '/^\[http\]/,$s/^listen = 127.0.0.1://p' "$work/run/conf/n1.conf" | head -n 1)
for i in 1 2 3; do curl -sSf -o "$work/put" -X PUT --data-binary "$i" "$u/kv/a/$i" || die "no write"; done
curl -sS -o "$work/missing" "$u/kv/none"
leads() { curl -sSf "$u/metrics" >"$work/metrics" && curl -sSf "$u/v1/status" >"$work/status" && grep -q '^kvnode_writable 1' "$work/metrics"; }
until_true 10 leads || die "no leader"
promtool check metrics <"$work/metrics" || die "/metrics"
python3 - "$work/metrics" "$monitoring" "$work/queries.yml" <<'PY' || die "see above"
import json, re, sys
metrics, folder, out = sys.argv[1:]
values = {}
for line in open(metrics, encoding='utf-8'):
    if not line.startswith('#'):
        name, value = line.rsplit(' ', 1)
        values[name] = float(value)
known = {n.split('{')[0] for n in values}
dashboard = json.load(open(folder + '/grafana.json', encoding='utf-8'))
queries = [t['expr'] for p in dashboard['panels'] for t in p['targets']] + [a['expr'] for a in dashboard['annotations']['list']]
asked = set(re.findall(r'\b(?:kvnode|process)_\w+', ' '.join(queries) + open(folder + '/alerts.yml', encoding='utf-8').read()))
assert len(queries) > 15 and asked, 'nothing is asked for'
assert asked <= known, 'no node has %s' % sorted(asked - known)
grid = [p['gridPos'] for p in dashboard['panels']]
for i, a in enumerate(grid):
    for b in grid[:i]:
        assert a['x'] >= b['x'] + b['w'] or b['x'] >= a['x'] + a['w'] or a['y'] >= b['y'] + b['h'] or b['y'] >= a['y'] + a['h'], (a, b)
with open(out, 'w', encoding='utf-8') as f:
    json.dump({'groups': [{'name': 'q', 'rules': [{'record': 'q:%d' % i, 'expr': q.replace('$__rate_interval', '1m').replace('$__interval', '1m')}
                                                 for i, q in enumerate(queries)]}]}, f)
# What was done shows.
assert values['kvnode_writes_total'] >= 3 and values['kvnode_keys'] >= 4, values
assert values['kvnode_fsync_seconds_count'] >= 3 and values['kvnode_fsync_seconds_sum'] > 0
assert values['kvnode_requests_total{op="put",code="201"}'] == 3 and values['kvnode_requests_total{op="get",code="404"}'] == 1
for name in ('kvnode_fsync_seconds', 'kvnode_commit_seconds'):
    buckets = [v for n, v in values.items() if n.startswith(name + '_bucket')]
    assert buckets == sorted(buckets) and buckets[-1] == values[name + '_count'], name
assert values['kvnode_is_leader'] == 0 or values['kvnode_commit_seconds_count'] >= 3
PY
promtool check rules "$work/queries.yml" || die "a query of grafana.json"
