#!/bin/bash
# publish: a directory becomes equal to a local tree, at once, and nothing is written that is equal already.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

up 3
src=$work/src
m=$work/m
mount_at "$m"
equal() { # the trees, their kinds, modes, contents and links
    diff <(cd "$src" && find . -mindepth 1 -printf '%y %m %p %l\n' | sort) \
        <(cd "$m/$1" && find . -mindepth 1 -printf '%y %m %p %l\n' | sort) && diff -r --no-dereference "$src" "$m/$1"
}
number() { # NAME: of the JSON in $out
    python3 -c 'import json, sys; print(json.loads(sys.argv[1])[sys.argv[2]])' "$out" "$1"
}

say "what is new, changed and gone; modes and links"
mkdir -p "$src/d/e" "$src/empty" "$src/private"
chmod 700 "$src/private"
echo one >"$src/one"
printf 'two' >"$src/d/two"
head -c 300000 /dev/urandom >"$src/d/e/long"
: >"$src/none"
echo '#!/bin/sh' >"$src/run"
chmod 755 "$src/run"
chmod 644 "$src/one" "$src/d/two" "$src/d/e/long" "$src/none"
chmod 755 "$src/d" "$src/d/e" "$src/empty"
ln -s ../one "$src/d/link"
expect 0 kvnode publish "$src" site/www --dry-run
has "$out" "nothing was done"
expect 3 kvnode ls site
expect 0 kvnode --json publish "$src/" /site/www/
[ "$(number added) $(number replaced) $(number deleted) $(number steps)" = "10 0 0 1" ] || die "the first time: $out"
until_true 10 equal site/www >/dev/null || die "$(equal site/www)"
expect 0 kvnode ls site
[ "$out" = "www/" ] || die "something is left aside: $out"

expect 0 kvnode --json log --last 1
before=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["revision"])' "$out")
expect 0 kvnode --json publish "$src" site/www
[ "$(number unchanged) $(number steps)" = "10 0" ] || die "nothing has changed: $out"
expect 0 kvnode log --since "$before"
[ "$out" = "" ] || die "what is equal was written: $out"

echo ONE >"$src/one" # as long as before
rm "$src/d/two"
rmdir "$src/empty"
ln -sfn nowhere "$src/d/link"
echo new >"$src/new"
chmod 600 "$src/none"
rm "$src/run"
ln -s one "$src/run"
expect 0 kvnode --json publish "$src" site/www
[ "$(number added) $(number replaced) $(number deleted) $(number unchanged)" = "1 4 2 4" ] || die "the second time: $out"
until_true 10 equal site/www >/dev/null || die "$(equal site/www)"
expect 0 kvnode log --since "$before" --key site/www
[ "$(grep -c "site/www/one$" <<<"$out")" = 1 ] || die "the log: $out"
[ "$(grep -c "d/e/long" <<<"$out")" = 0 ] || die "what is equal was written: $out"
expect 0 kvnode history site/www/one
has "$out" $'\n1 '

say "readers see all of it, or nothing"
rm -rf "${src:?}"/*
mkdir "$src/v"
turn=0
fill() {
    turn=$((turn + 1))
    local i
    for i in $(seq 200); do
        echo "$turn" >"$src/v/$i"
    done
    chmod 644 "$src"/v/*
}
fill
expect 0 kvnode publish "$src" site/www
# One transaction is one revision: with every publication each file is written once, all at the same one.
kvnode -n n2 --json watch site/www/v >"$work/rows" 2>"$work/rows.err" &
children+=($!)
whole() { # five revisions and more, with 200 files each
    python3 - "$work/rows" <<'PY'
import json, sys
seen = {}
for line in open(sys.argv[1]):
    row = json.loads(line)
    if "revision" in row:
        seen.setdefault(row["revision"], set()).add(row["key"])
sys.exit(0 if len(seen) >= 5 and all(len(k) == 200 for k in seen.values()) else 1)
PY
}
publish_once() {
    fill
    expect 0 kvnode publish "$src" site/www
    whole
}
until_true 30 publish_once || die "a publication is not one change: $(cut -c 1-200 "$work/rows" | tail -n 3)"

say "too much for one transaction"
for i in $(seq 201 1100); do
    echo x >"$src/v/$i"
done
chmod 644 "$src"/v/*
expect 6 kvnode publish "$src" other
has "$err" "more than one transaction takes"
expect 3 kvnode ls other
expect 0 kvnode publish "$src" other --in-steps
has "$err" "step 1 of 2"
until_true 10 equal other >/dev/null || die "$(equal other)"
expect 0 kvnode publish "$src" other --in-steps
rm -rf "$src/v"
echo file >"$src/v"
chmod 644 "$src/v"
expect 6 kvnode publish "$src" site/www
has "$err" "v is a directory on one side only"
expect 0 kvnode publish "$src" site/www --in-steps
until_true 10 equal site/www >/dev/null || die "$(equal site/www)"
rm "$src/v"
mkdir "$src/v"
chmod 755 "$src/v"
expect 0 kvnode publish "$src" site/www --in-steps
until_true 10 equal site/www >/dev/null || die "$(equal site/www)"

say "what cannot be published is named, and nothing is done"
expect 1 kvnode publish "$work/missing" site/www
has "$err" "No such file"
expect 1 kvnode publish "$work/up" site/www
has "$err" "no directory"
mkfifo "$src/pipe"
expect 6 kvnode publish "$src" site/www
has "$err" "pipe: it is no file, directory or symbolic link"
rm "$src/pipe"
mkdir "$src/.versions"
expect 6 kvnode publish "$src" site/www
has "$err" ".versions"
rmdir "$src/.versions"
expect 0 kvnode set site/file x
expect 6 kvnode publish "$src" site/file
has "$err" "it is no directory"
expect 2 kvnode publish "$src" ""
has "$err" "DIR is empty"
mkdir "$work/nothing"
expect 0 kvnode set linked/a x
ln "$m/linked/a" "$m/linked/b"
expect 6 kvnode publish "$work/nothing" linked
has "$err" "hard links"
expect 0 kvnode del linked/b
expect 0 kvnode publish "$work/nothing" linked
equal_digests 3
say "done"
