#!/bin/bash
# Who may be whom: a wrong client key, a wrong host key, and a good key that is
# another node's are refused by real nodes through their real sshd; what is right
# goes on working beside it.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"

make() { # N
    kvnode dev make 3 >/dev/null || die "kvnode dev make"
}

conf() { # N
    echo "$work/run/conf/n$1.conf"
}

# The value of NAME in section [peer PEER] of a file.
peer_value() { # FILE PEER NAME
    awk -v section="[peer $2]" -v name="$3" '
        /^\[/ { inside = $0 == section }
        inside && $1 == name { sub(/^[^=]*= */, ""); print }' "$1"
}

set_peer_value() { # FILE PEER NAME VALUE
    awk -v section="[peer $2]" -v name="$3" -v value="$4" '
        /^\[/ { inside = $0 == section }
        inside && $1 == name { print name " = " value; next }
        { print }' "$1" >"$work/edited" && cat "$work/edited" >"$1"
}

member_error() { # NODE MEMBER
    kvnode status -n "$1" --json 2>/dev/null | tr '{' '\n' | sed -n "s/.*\"name\": *\"$2\".*\"error\": *\"\([^\"]*\)\".*/\1/p"
}

says() { # NODE MEMBER TEXT
    member_error "$1" "$2" | grep -q "$3"
}

stop_all() {
    for pid in "${children[@]}"; do kill "$pid"; done
    for pid in "${children[@]}"; do wait "$pid"; done
    children=()
}

# Through any node: one that has no link to the leader cannot.
writes() {
    for i in 1 2 3; do
        kvnode -n "n$i" --timeout 1s set app/color "$1" >/dev/null 2>&1 && return
    done
    return 1
}

# Not by `kvnode dev up`, which rightly insists on all links.
try() { # NAME
    say "$1"
    for i in 1 2 3; do
        kvnode run -c "$(conf $i)" 2>>"$work/run/n$i/log" &
        children+=($!)
    done
    until_true 30 writes "$1" || die "two of three nodes are enough to write, but: $(kvnode status 2>&1)"
}

make
export KVNODE_SOCKET_DIR=$work/run/sock
for i in 1 2 3; do cp "$(conf $i)" "$work/n$i.good"; done
again() {
    stop_all
    for i in 1 2 3; do cp "$work/n$i.good" "$(conf $i)"; done
}

# A member's log first: only a leader with a link to it lets a node in.
is_member() { # N
    kvnode -n "n$1" --timeout 1s get app/color >/dev/null 2>&1
}
try "all are let in"
for i in 1 2 3; do until_true 20 is_member $i || die "n$i is not let in: $(kvnode status -n "n$i" 2>&1)"; done
again

# n2 knows n1 by another client key: n1 cannot log in there.
set_peer_value "$(conf 2)" n1 key "$(peer_value "$work/n1.good" n2 host_key)"
try "a client key that the peer does not know"
until_true 20 says n1 n2 "key" || die "n1 says of n2: $(member_error n1 n2)"
again

# n1 expects another host key of n3.
set_peer_value "$(conf 1)" n3 host_key "$(peer_value "$work/n2.good" n1 host_key)"
try "a host key that is not the pinned one"
until_true 20 says n1 n3 "host key" || die "n1 says of n3: $(member_error n1 n3)"
again

# n3 takes n1's key for n2's and the other way round: each logs in under the
# other's name, and says its own.
set_peer_value "$(conf 3)" n1 key "$(peer_value "$work/n3.good" n2 key)"
set_peer_value "$(conf 3)" n2 key "$(peer_value "$work/n3.good" n1 key)"
try "a key that is another node's"
until_true 20 says n3 n1 "another node" || die "n3 says of n1: $(member_error n3 n1)"
until_true 20 says n3 n2 "another node" || die "n3 says of n2: $(member_error n3 n2)"
again

# A node of another cluster. Its own log would be refused: that is of this one.
kept=$work/n3.kept
mkdir "$kept" && mv "$work"/run/n3/data/log.db* "$work/run/n3/data/groups" "$kept/"
sed -i 's/^id = \([0-9a-f]\{15\}\).$/id = \1x/; s/x$/0/' "$(conf 3)"
if cmp -s "$(conf 3)" "$work/n3.good"; then
    sed -i 's/^id = \([0-9a-f]\{15\}\).$/id = \11/' "$(conf 3)"
fi
try "another cluster"
until_true 20 says n1 n3 "cluster" || until_true 5 says n3 n1 "cluster" || die "n1 says of n3: $(member_error n1 n3)"
restore_n3() {
    stop_all
    rm -rf "$work"/run/n3/data/log.db* "$work/run/n3/data/groups"
    mv "$kept"/* "$work/run/n3/data/"
}
restore_n3
again

try "all as it should be"
equal_digests 3
stop_all
say "done"
