#!/bin/bash
# What contrib/recipes says is run as it stands there, but for paths and ports.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

recipes=${SOURCE_ROOT:?}/contrib/recipes
block() { # PAGE LANGUAGE: its first block in that language
    sed -n "/^\`\`\`$2\$/,/^\`\`\`\$/p" "$recipes/$1.md" | sed '1d;$d'
}
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
for page in "$recipes"/*.md; do
    [ "$(wc -l <"$page")" -le 40 ] || die "$page has over 40 lines"
done
need() { command -v "$1" >/dev/null || die "$1 is missing: contrib/packages.sh --dev"; }

up 3
m=$work/m
mkdir "$m"
kvfs n1,n2,n3 "$m" -o allow_other || die "no mount"
mkdir "$work/bin"
PATH=$work/bin:$PATH:/usr/sbin

say "nginx-reload"
need nginx
port=$(free_port)
printf 'error_log stderr;\npid %s/nginx.pid;\nevents {}\nhttp { access_log off; include %s/nginx/*.conf; }\n' "$work" "$m" >"$work/nginx.conf"
printf '#!/bin/sh\nexec %s -c %s/nginx.conf "$@"\n' "$(command -v nginx)" "$work" >"$work/bin/nginx"
chmod +x "$work/bin/nginx"
mkdir "$work/sites"
site() { # TEXT
    printf 'server { listen 127.0.0.1:%s; location / { return 200 "%s\\n"; } }' "$port" "$1" >"$work/sites/site.conf"
    expect 0 kvnode publish "$work/sites" nginx
}
says() { [ "$(curl -s -m 5 "http://127.0.0.1:$port/")" = "$1" ]; }
site one
nginx -g 'daemon off;' 2>"$work/nginx.err" &
children+=($!)
until_true 10 says one || die "nginx does not begin: $(cat "$work/nginx.err")"
bash -c "exec $(block nginx-reload sh)" >"$work/watch.out" 2>&1 &
children+=($!)
site two
until_true 10 says two || die "nginx has not reloaded: $(cat "$work/watch.out")"
# shellcheck disable=SC2016
site '${nosuch}' # a variable that there is not
refused() { grep -q 'unknown "nosuch" variable' "$work/watch.out"; }
until_true 10 refused || die "the bad configuration is not refused: $(cat "$work/watch.out")"
says two || die "a bad configuration was loaded"
kill "$(cat "$work/nginx.pid")"

say "dnsmasq"
need dnsmasq
port=$(free_port)
expect 0 kvnode set dns/hosts "192.0.2.1 one.example"
dnsmasq --keep-in-foreground --user=root --port="$port" --listen-address=127.0.0.1 --bind-interfaces --no-resolv --no-hosts \
    --conf-file=/dev/null --pid-file="$work/dnsmasq.pid" --addn-hosts="$m/dns/hosts" --log-facility="$work/dnsmasq.log" &
children+=($!)
resolves() { # NAME
    python3 - "$port" "$1" <<'PY'
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
name = b"".join(bytes([len(p)]) + p for p in sys.argv[2].encode().split(b"."))
try:
    s.sendto(struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + name + b"\0\0\1\0\1", ("127.0.0.1", int(sys.argv[1])))
    answer = s.recv(512)
except OSError:
    sys.exit(1)
sys.exit(0 if struct.unpack(">H", answer[6:8])[0] == 1 else 1)
PY
}
until_true 10 resolves one.example || die "dnsmasq does not begin: $(cat "$work/dnsmasq.log")"
bash -c "exec $(block dnsmasq sh | sed "s,/run/dnsmasq.pid,$work/dnsmasq.pid,")" >"$work/watch.out" 2>&1 &
children+=($!)
expect 0 kvnode set dns/hosts "192.0.2.2 two.example"
until_true 10 resolves two.example || die "dnsmasq has not read the file: $(cat "$work/watch.out" "$work/dnsmasq.log")"

say "prometheus-targets"
need prometheus
port=$(free_port)
block prometheus-targets yaml | sed "s,/srv/kv,$m," >"$work/prometheus.yml"
promtool check config --syntax-only "$work/prometheus.yml" >"$work/promtool" 2>&1 || die "$(cat "$work/promtool")"
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" --web.listen-address="127.0.0.1:$port" >"$work/prometheus.log" 2>&1 &
children+=($!)
NAME=web ADDRESS=192.0.2.7:80 bash -c "$(block prometheus-targets sh)" || die "the target is not written"
expect 0 kvnode --json get targets/web.json
has "$out" '"ttl":'
knows() { curl -s -m 5 "http://127.0.0.1:$port/api/v1/targets" | grep -q 192.0.2.7:80; }
until_true 20 knows || die "Prometheus does not know the target: $(tail -n 5 "$work/prometheus.log")"

say "systemd-watch"
need systemd-analyze
block systemd-watch ini | sed "s,/usr/bin/kvnode,$KVNODE_BIN," >"$work/nginx-follows.service"
systemd-analyze verify --man=no "$work/nginx-follows.service" >"$work/verify" 2>&1
grep -q "nginx-follows" "$work/verify" && die "systemd-analyze: $(cat "$work/verify")"
say "done"
