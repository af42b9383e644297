#!/bin/bash
# A node of another account than the one that asks: doctor judges with the account's eyes
# (root) or says that it cannot, run refuses before it touches a file, config names the
# node's account. And a hangup stops neither a node nor a mount.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

say "a hangup"
up 1
kill -HUP "$(cut -d" " -f1 "$work/run/n1/pid")" || die "kill -HUP"
logs_hangup() { grep -q "Hangup: goes on" "$work/run/n1/log"; }
until_true 10 logs_hangup || die "no word of the hangup: $(cat "$work/run/n1/log")"
expect 0 kvnode set k v
if [ -e /dev/fuse ]; then
    mkdir -p "$work/mount"
    kvfs -f n1 "$work/mount" 2>"$work/kvfs.log" &
    children+=($!)
    is_mounted() { [ -e "$work/mount/k" ]; }
    until_true 20 is_mounted || die "no mount: $(cat "$work/kvfs.log")"
    kill -HUP "${children[-1]}"
    mount_logs_hangup() { grep -q "Hangup: goes on" "$work/kvfs.log"; }
    until_true 10 mount_logs_hangup || die "no word of the hangup: $(cat "$work/kvfs.log")"
    [ "$(cat "$work/mount/k")" = v ] || die "the mount is gone"
    ln -s /not/here "$work/mount/link" || die "ln -s"
    expect 6 kvnode get link
    has "$err" "kvnode: get link: it is a symbolic link, to /not/here"
fi
timeout 60 kvnode dev down >/dev/null || die "dev down"

[ "$(id -u)" = 0 ] || { say "the rest needs root"; exit 0; }
account=nobody
as() { # ACCOUNT COMMAND...
    setpriv --reuid="$1" --regid="$(id -g "$1")" --init-groups "${@:2}"
}
# In the background, under the pid of $!.
run_as() {
    exec setpriv --reuid="$1" --regid="$(id -g "$1")" --init-groups "$program" run -c "$work/theirs/n1.conf"
}
program=$(command -v kvnode)

say "a node of $account"
mkdir "$work/theirs" && chmod 711 "$work" && chown "$account" "$work/theirs"
# A program that the account can reach.
install -m 755 "$program" "$work/kvnode"
program=$work/kvnode
for i in 1 2 3; do
    as "$account" "$program" init --name "n$i" --id "$i" --cluster 0123456789abcdef --listen "127.0.0.1:$((7040 + i))" \
        -c "$work/theirs/n$i.conf" --data "$work/theirs/n$i" --socket "$work/theirs/n$i.sock" 2>"$work/stderr" ||
        die "init: $(cat "$work/stderr")"
done
for i in 1 2 3; do
    as "$account" "$program" config -c "$work/theirs/n$i.conf" --peer >"$work/peer$i" || die "config --peer"
    # Root sees the same section, the account's name in it.
    "$program" config -c "$work/theirs/n$i.conf" --peer | cmp - "$work/peer$i" || die "config --peer as root"
done
grep -q "^user = $account$" "$work/peer1" || die "user in $(cat "$work/peer1")"
cat "$work/peer2" "$work/peer3" >>"$work/theirs/n1.conf" # a cluster has an odd number
run_as "$account" >"$work/theirs.log" 2>&1 &
children+=($!)
answers() { as "$account" "$program" -n "$work/theirs/n1.sock" status >/dev/null 2>&1 || [ $? = 4 ] && [ -S "$work/theirs/n1.sock" ]; }
until_true 20 answers || die "the node does not answer: $(cat "$work/theirs.log")"

say "doctor sees what the account sees"
# Times and ids of the processes apart, what it says of files is the same.
files() { grep -E "^(PASS|WARN|FAIL)  (data directory|log|socket directory|client key|host key|authorized keys|pinned host keys|peer socket|account|home directory|login shell) "; }
as "$account" "$program" doctor -c "$work/theirs/n1.conf" >"$work/seen-by-account"
"$program" doctor -c "$work/theirs/n1.conf" >"$work/seen-by-root"
files <"$work/seen-by-account" >"$work/a"
files <"$work/seen-by-root" >"$work/b"
cmp "$work/a" "$work/b" || die "$(diff "$work/a" "$work/b")"
[ "$(grep -cE "^PASS  (data directory|socket directory|client key|host key|authorized keys|pinned host keys|peer socket) " "$work/b")" = 7 ] ||
    die "root is told: $(cat "$work/seen-by-root")"
grep -q chown "$work/seen-by-root" && die "a chown is recommended: $(cat "$work/seen-by-root")"
[ "$(grep -o '[0-9]* failed' "$work/seen-by-root")" = "$(grep -c ^FAIL "$work/seen-by-root") failed" ] ||
    die "the sum is wrong: $(cat "$work/seen-by-root")"
as daemon "$program" doctor -c "$work/theirs/n1.conf" >"$work/seen-by-other" 2>&1
# It cannot read the configuration, and says so without advice that does harm.
grep -q chown "$work/seen-by-other" && die "a chown is recommended: $(cat "$work/seen-by-other")"

say "run as the wrong account"
{ kill "${children[-1]}" && wait "${children[-1]}"; } || die "the node was stopped with $?: $(cat "$work/theirs.log")"
unset "children[-1]"
[ ! -e "$work/theirs/n1.sock" ] || die "the node is still there"
list() { find "$work/theirs" -printf '%p %u %m %s %T@\n' | sort; }
list >"$work/before"
expect 6 timeout 20 "$program" run -c "$work/theirs/n1.conf"
has "$err" "belongs to $account, and this is root"
has "$err" "sudo -u $account kvnode run -n n1"
list | cmp - "$work/before" || die "root touched the files"
chmod 644 "$work/theirs/n1.conf"
list >"$work/before"
expect 6 timeout 20 setpriv --reuid=daemon --regid=daemon --init-groups "$program" run -c "$work/theirs/n1.conf"
has "$err" "belongs to $account, and this is daemon"
list | cmp - "$work/before" || die "daemon touched the files"
as daemon "$program" doctor -c "$work/theirs/n1.conf" >"$work/seen-by-other" 2>&1
grep -q "WARN  account .*files belong to $account" "$work/seen-by-other" || die "$(cat "$work/seen-by-other")"
grep -q chown "$work/seen-by-other" && die "a chown is recommended: $(cat "$work/seen-by-other")"
# A file in it that root has made.
touch "$work/theirs/n1/log.db" && chown root "$work/theirs/n1/log.db"
expect 6 timeout 20 setpriv --reuid="$account" --regid="$(id -g $account)" --init-groups "$program" run -c "$work/theirs/n1.conf"
has "$err" "log.db belongs to root, not to $account"
chown "$account" "$work/theirs/n1/log.db"
run_as "$account" >"$work/theirs.log" 2>&1 &
children+=($!)
until_true 20 answers || die "the node does not start again: $(cat "$work/theirs.log")"
say ok
