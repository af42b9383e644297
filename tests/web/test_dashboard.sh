#!/bin/bash
# The page /dashboard in a real browser, against a cluster of its own (test_dashboard.py).
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/../cluster/lib.sh"

for program in chromium chromedriver python3; do
    command -v $program >/dev/null && continue
    echo "skipped: no $program (contrib/packages.sh --dev)"
    [ -z "${CI:-}" ] || exit 1
    exit 77
done

up 3
nodes=()
for n in n1 n2 n3; do
    nodes+=("$n=http://127.0.0.1:$(sed -n '/^\[http\]/,$s/^listen = 127.0.0.1://p' "$work/run/conf/$n.conf" | head -n 1)")
done
WORK=$work timeout 400 python3 "$(dirname "$0")/test_dashboard.py" "${nodes[@]}" </dev/null || die "see above"
