#!/bin/bash
# 100 keys with a time to live of 5 s, renewed every 2 s, survive elections and a time without a quorum, and go
# when nobody renews them. KVFS_TTL_ELECTIONS=20: more elections.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

[ -e /dev/fuse ] || { echo "skipped: no /dev/fuse"; exit 77; }
up 3
mount_at "$work/m"
dir=$work/m/services
leader() { kvnode status -n "$1" --json 2>/dev/null | python3 -c 'import json,sys; print(json.load(sys.stdin)["leader"] or "")'; }
alive() { find "$dir" -type f | wc -l; }
none_left() { [ "$(alive)" = 0 ]; }
passed() { [ "$(now_ms)" -ge "$1" ]; }

say "a directory's default"
mkdir "$dir" && python3 -c 'import os,sys; os.setxattr(sys.argv[1], "user.kv.ttl", b"5s")' "$dir" || die "no time to live"
for i in {1..100}; do
    echo "$i" >"$dir/$i" || die "cannot write $i"
done

say "renewed, through elections"
for ((k = 0; k < ${KVFS_TTL_ELECTIONS:-3}; k++)); do
    at=$(now_ms)
    if [ $((k % 2)) = 0 ]; then
        dead=$(leader n1)
        expect 0 kvnode dev kill leader
        until_true 20 touch -c "$dir"/{1..100} || die "nothing can be written"
        expect 0 kvnode dev start "$dead"
    else
        expect 0 kvnode transfer
    fi
    touch -c "$dir"/{1..100} || die "cannot renew"
    [ "$(alive)" = 100 ] || die "$(alive) of 100 are left after election $k"
    until_true 10 passed $((at + 2000))
done

say "a time without a quorum does not count"
touch -c "$dir"/{1..100} || die "cannot renew"
at=$(leader n1)
for n in n1 n2 n3; do
    [ "$n" = "$at" ] || expect 0 kvnode dev pause "$n"
done
begin=$(now_ms)
until_true 20 passed $((begin + 6000))
for n in n1 n2 n3; do
    [ "$n" = "$at" ] || expect 0 kvnode dev resume "$n"
done
until_true 20 touch -c "$dir"/{1..100} || die "cannot renew: $(alive) of 100 are left"
[ "$(alive)" = 100 ] || die "$(alive) of 100 are left after an outage"

say "nobody renews them"
begin=$(now_ms)
until_true 20 none_left || die "$(alive) are still there"
[ $(($(now_ms) - begin)) -ge 4500 ] || die "gone after $(($(now_ms) - begin)) ms"
[ -d "$dir" ] || die "the directory went, too"
expect 0 kvnode history services/7
has "$out" "1.deleted"
expect 0 kvnode log --last 5
has "$out" "expire"
equal_digests 3
say ok
