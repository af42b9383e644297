#!/bin/bash
# The README's session, literally, from a clean clone.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"
root=${SOURCE_ROOT:?}
[ -e /dev/fuse ] || { echo "skipped: no /dev/fuse"; exit 77; }
unset KVNODE_DEV_DIR
if git -C "$root" rev-parse HEAD >/dev/null 2>&1; then
    git clone -q "$root" "$work/clone" || die "git clone"
else # not from git, or from somebody else's: a copy
    mkdir "$work/clone"
    tar -C "$root" --exclude './build*' --exclude ./run --exclude ./.git -cf - . | tar -C "$work/clone" -xf - || die "copy"
fi
cd "$work/clone" || exit 1

quickstart() {
    timeout 600 ./contrib/quickstart "$@" >"$work/out" 2>&1 || die "quickstart $*: $(cat "$work/out")"
    cat "$work/out"
}

say "quickstart in a clean clone"
begin=$(now_ms)
quickstart
has "$(cat "$work/out")" "[3/5] identities  3 ed25519 keys  ok"
has "$(cat "$work/out")" "[5/5] mount  ./run/kv  ok"
say "took $(($(now_ms) - begin)) ms"

# shellcheck disable=SC1091
. run/env
cd run/kv || die "cd run/kv"
{ mkdir app && echo blue > app/color && echo green > app/color; } || die "writing"
expect 0 ls app/.versions/color
[ "$out" = "1
2" ] || die "versions: $out"
expect 0 cat app/.versions/color/1
[ "$out" = blue ] || die "version 1: $out"
cp app/.versions/color/1 app/color || die "undo"
[ "$(cat app/color)" = blue ] || die "undone: $(cat app/color)"
expect 0 kvnode history app/color
echo "$out"
[ "$(awk '{ print $1 }' <<<"$out" | tr '\n' ' ')" = "VERSION 3 2 1 " ] || die "history: $out"

expect 0 kvnode dev kill leader
echo "$out"
has "$out" "killed (SIGKILL, pid "
killed=${out%% *}
begin=$(now_ms)
wrote() { echo red > app/color; }
until_true 10 wrote || die "no write within 10 s of the leader's death"
took=$(($(now_ms) - begin))
[ "$(cat app/color)" = red ] || die "after the failover: $(cat app/color)"
say "a write went through $took ms after the leader's death"
[ $took -le 10000 ] || die "that is too long"
expect 0 kvnode status
echo "$out"
has "$out" "unreachable"
has "$out" "The cluster works. No further node may fail."
expect 0 kvnode dev start "$killed"
echo "$out"
has "$out" "$killed caught up in"
has "$out" "One node may fail."
cd "$work/clone" || exit 1

say "twice in a row, and after down"
quickstart
[ "$(cat run/kv/app/color)" = red ] || die "after a second quickstart"
quickstart down
if grep -q "$work/clone/run/kv" /proc/self/mountinfo; then die "still mounted after down"; fi
quickstart down
quickstart
[ "$(cat run/kv/app/color)" = red ] || die "after down and up"

say "after kill -9 of everything, with a port taken meanwhile"
kvnode dev kill all >/dev/null || die "kill all"
for exe in /proc/[0-9]*/exe; do
    [ "$(readlink "$exe" 2>/dev/null)" != "$work/clone/build/kvfs/kvfs" ] || kill -KILL "${exe//[!0-9]/}"
done
ssh_port() { sed -n '/^\[ssh\]/,/^\[http\]/s/^listen = 127.0.0.1://p' run/conf/n1.conf; }
port=$(ssh_port)
python3 -c '
import signal, socket, sys
s = socket.socket(); s.bind(("127.0.0.1", int(sys.argv[1]))); s.listen()
print("listening", flush=True); signal.pause()' "$port" >"$work/listener" &
children+=($!)
listening() { grep -q listening "$work/listener"; }
until_true 10 listening || die "cannot take port $port"
quickstart
[ "$(cat run/kv/app/color)" = red ] || die "after kill -9 of everything"
[ "$(ssh_port)" != "$port" ] || die "n1 is still at the taken port"

say "a mountpoint in the way"
quickstart down
echo precious >run/kv/file
./contrib/quickstart >"$work/out" 2>&1 && die "a mountpoint with files was mounted over"
has "$(cat "$work/out")" "is not empty"
has "$(cat "$work/out")" "Try: "
[ "$(cat run/kv/file)" = precious ] || die "the file is gone"
rm run/kv/file

say "down while the mount is in use"
quickstart
exec 9<run/kv/app/color
quickstart down
exec 9<&-
has "$(cat "$work/out")" "run/kv was in use and is only detached: kvfs (pid "
if grep -q "$work/clone/run/kv" /proc/self/mountinfo; then die "still mounted after down"; fi

say "purge, and from the beginning"
quickstart purge
{ [ ! -e run ] && [ ! -e build ]; } || die "purge left something"
left=$(git status --porcelain --ignored 2>/dev/null)
[ -z "$left" ] || die "purge left $left"
quickstart purge
say ok
