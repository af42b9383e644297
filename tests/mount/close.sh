#!/bin/sh
# What write(2) and close(2) tell, and what becomes of what could not be published.
set -u
# shellcheck source=/dev/null disable=SC2015
. "$(dirname "$0")/lib.sh"
cd "$WORK" || exit 1

setting() { timeout 20 "$KVNODE" config --cluster "$1" >>"$WORK/dev.log" 2>&1; }
# Only A's and B's are left, which write: time passes for the cluster by what is written.
others_sessions_ended() {
    echo tick >"$A/tick" && echo tick >"$B/tock" && timeout 20 "$KVNODE" status --json | grep -q '"sessions": *2\b'
}

# Emptying a file is a change, whoever else has it open.
echo old >"$A/emptied"
exec 3>>"$A/emptied"
: >"$A/emptied"
is "what was emptied is so on the other mount when close has returned" "0" "$(wc -c <"$B/emptied")" # opened: a stat alone may be a moment behind
is "who writes while it is open elsewhere publishes once" "2" "$(echo 1 >"$A/fresh" && exec 4>>"$A/fresh" && echo one >"$A/fresh" && versions "$A/fresh" | wc -w)"
exec 3>&-
is "and the writer of '>' publishes once" "1" "$(echo one >"$A/once" && versions "$A/once" | wc -w)"

# Two large files at once: what the node keeps of unfinished ones is bounded.
succeeds "a limit for values" setting value_limit=8MiB
head -c 5500000 /dev/urandom >large
cp large "$A/large1" &
first=$!
cp large "$A/large2"
second=$?
wait $first
is "two large files are closed at once" "0 0" "$? $second"
cmp -s large "$B/large1" && cmp -s large "$B/large2" && ok "both are whole" || not_ok "both are whole"
rm "$A/large1" "$A/large2"

# The limit is lowered and raised: write(2) tells, on both mounts, as soon as the events are there.
told_by() { # MOUNT
    python3 - "$1/toolong" <<'END'
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
for what, call in ("write", lambda: os.write(fd, b"x" * 200)), ("close", lambda: os.close(fd)):
    try:
        call()
    except OSError as e:
        print(what, os.strerror(e.errno))
END
}
setting value_limit=100
eventually "a write over the lowered limit fails" "write File too large" told_by "$A"
eventually "on the other mount too" "write File too large" told_by "$B"
succeeds "what is within it is written" sh -c "head -c 100 large >'$A/toolong'"
fails_with "nor can it be made longer" "too large" truncate -s 101 "$A/toolong"
setting value_limit=8MiB
eventually "a write below the raised limit succeeds" "" told_by "$A"
eventually "there too" "" told_by "$B"

# Values have become longer than is allowed since they were written: what close refused stays,
# every file of it, and is published when it may be.
is "close tells that it is too long, and so does fsync" "close close fsync close" "$(python3 - "$A" "$KVNODE" <<'END'
import os, subprocess, sys
said = []
def attempt(what, call, fd):
    try:
        call(fd)
    except OSError as e:
        said.append(what if os.strerror(e.errno) == "File too large" else str(e))
fds = [os.open(sys.argv[1] + "/" + name, os.O_CREAT | os.O_WRONLY, 0o644) for name in ("long1", "long2", "long3")]
for fd in fds:
    os.write(fd, b"longer")
subprocess.run([sys.argv[2], "config", "--cluster", "value_limit=1"], stdout=subprocess.DEVNULL, timeout=20, check=True)
attempt("close", os.close, fds[0])
attempt("close", os.close, fds[1])
attempt("fsync", os.fsync, fds[2])
attempt("close", os.close, fds[2])
print(*said)
END
)"
is "this mount shows it" "longer longer longer" "$(cat "$A/long1") $(cat "$A/long2") $(cat "$A/long3")"
setting value_limit=8MiB
all_there() { [ "$(cat "$B/long1" "$B/long2" "$B/long3" 2>/dev/null)" = longerlongerlonger ]; }
within 40 all_there && ok "it is published when it may be" || not_ok "it is published when it may be" "$(ls -l "$B"/long*)"

# A full cluster: write(2) fails, not only close(2).
head -c 3000000 large >part
echo small >"$A/small"
head -c 1000 large >"$A/exists"
succeeds "a limit" setting max_bytes=4MiB
cp part "$A/filler"
fails_with "a file that has no room is not written" "No space left" cp part "$A/toomuch"
rm -f "$A/toomuch"
left=1100000
until [ $left = 0 ]; do # up to the last byte
    dd if=/dev/zero bs=$left count=1 oflag=append conv=notrunc of="$A/filler" 2>/dev/null || left=$((left / 2))
done
is "echo in a full cluster stops a script" "1, 0 bytes" \
    "$(bash -c 'set -e; echo important >"$1/state"; echo "it goes on"' - "$A" 2>/dev/null; printf '%s, %s bytes' $? "$(stat -c %s "$A/state")")"
fails_with "nor can a file be made longer" "No space left" truncate -s 1001 "$A/exists"
fails_with "nor allocated" "No space left" fallocate -l 1001 "$A/exists"
succeeds "it can be made shorter" truncate -s 500 "$A/exists"
succeeds "one that has its room can be replaced" sh -c "echo tiny >'$A/exists'"
is "on both mounts" "tiny" "$(cat "$B/exists")"
rm "$A/filler"
succeeds "what was removed makes room" cp part "$B/filler"
rm "$A/filler"
# The other mount's node does not know of this one's promises: the program is told at close.
succeeds "no room for keys" setting max_keys=1
fails_with "a file is not created" "No space left" sh -c ": >'$A/onemore'"
setting max_keys=1000000
setting max_bytes=1GiB
succeeds "with room again" cp part "$A/again"

# The session ends while a publication is without an answer: it does not replace what
# others have written since.
setting session_timeout=10s
mkdir "$BASE/m1"
last=${NODES##*,}
succeeds "a mount on one node only" "$KVFS" "$last" "$BASE/m1" -o timeout=2,commit=300,log="$BASE/m1.log"
echo first >"$BASE/m1/fought"
# Bytes here and there into a file that stays open: they do not wait for its close, nor do
# they gather for ever when they cannot be published.
cat >scatters.pl <<'END'
my ($path, $n, $from) = @ARGV;
open(my $f, '+<', $path) or die "open: $!";
close(do { open(my $o, '>', "begun"); $o });
select(undef, undef, undef, 0.01) until -e "scatter";
for my $i (0 .. $n - 1) {
    sysseek($f, $from + 2 * $i, 0);
    defined(syswrite($f, "x")) or die "write $i: $!";
}
close(do { open(my $o, '>', "scattered"); $o });
select(undef, undef, undef, 0.01) until -e "close";
close($f) or die "close: $!";
END
mkdir "$BASE/m2"
succeeds "a mount that commits seldom" "$KVFS" "$last" "$BASE/m2" -o timeout=2,commit=300,log="$BASE/m2.log"
: >"$A/strided"
: >scatter
perl scatters.pl "$BASE/m2/strided" 30000 0 &
writer=$!
succeeds "bytes are scattered" within 20 ls scattered
is_long() { [ "$(stat -c %s "$B/strided")" -gt 45000 ]; }
succeeds "they are published while the file is open" within 10 is_long
touch close
wait $writer
is "all of them at the end" "59999 0" "$(wc -c <"$B/strided") $?"
rm -f scatter scattered begun
timeout 60 perl scatters.pl "$BASE/m2/strided" 400000 100000 2>scatters.err &
writer=$!
succeeds "another writer has begun" within 20 ls begun
dev pause "$last"
: >scatter
wait $writer
is "what cannot be published does not gather for ever" "write N: Input/output error" \
    "$(sed 's/ at .*//; s/[0-9][0-9]*/N/; q' scatters.err)"
dev resume "$last"
is_all_published() { grep -q '"staged_bytes": 0,' "$BASE/m2/.kvfs/mount"; }
succeeds "and goes out later" within 30 is_all_published
umount "$BASE/m2"

# A program that has written, and closes when the node hangs.
python3 - "$BASE/m1/fought" "$BASE/m1/unopposed" >told <<'END' &
import os, sys, time
fds = [os.open(path, os.O_WRONLY | os.O_CREAT, 0o644) for path in sys.argv[1:]]
for fd, text in zip(fds, (b"late ", b"nobody")):
    os.fsync(fd)
    os.write(fd, text)
open("opened", "w").close()
while not os.path.exists("hangs"):
    time.sleep(0.01)
for fd in fds:
    try:
        os.close(fd)
        print("closed")
    except OSError as e:
        print(e.strerror)
END
writer=$!
eventually "two files are open on it" "opened" ls opened
dev pause "$last"
: >hangs
wait $writer
is "its node hangs: close tells" "Input/output error Input/output error" "$(paste -sd " " told)"
echo newer >"$A/fought"
succeeds "the session of the mount whose node hangs ends" within 60 others_sessions_ended
dev resume "$last"
eventually "the mount has got on" "newer" cat "$BASE/m1/fought"
is "the newer text stays" "newer" "$(cat "$B/fought")"
eventually "what nobody has changed meanwhile is published after all" "nobody" cat "$A/unopposed"
is "the newer text still stays" "newer" "$(cat "$A/fought")"
grep -q "is dropped" "$BASE/m1.log" && ok "the log says what was dropped" || not_ok "the log says what was dropped" "$(cat "$BASE/m1.log")"
grep -q "not answered within" "$BASE/m1.log" && ok "and for what close waited" || not_ok "and for what close waited" "$(cat "$BASE/m1.log")"
plan
