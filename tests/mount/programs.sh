#!/bin/sh
# What people run on a mount: shells, editors, archivers, version control, databases.
set -u
# shellcheck source=/dev/null disable=SC2015
. "$(dirname "$0")/lib.sh"
cd "$A" || exit 1

echo blue >color
is "echo > a new file is one version" "1" "$(versions ./color)"
echo green >color
is "echo > an existing one adds one" "1 2" "$(versions ./color)"
is "cat shows the last" "green" "$(cat color)"
is "an old version is still there" "blue" "$(cat .versions/color/1)"
: >empty
is ": > makes an empty file" "0" "$(stat -c %s empty)"
echo x >empty
: >empty
is ": > empties a file" "0" "$(stat -c %s empty)"
is "and that is a version" "1 2 3" "$(versions ./empty)"
bash -c 'echo bash >color2; echo again >color2'
is "bash: no empty version is ever published" "1 2" "$(versions ./color2)"
for v in 1 2; do [ -s .versions/color2/$v ] || not_ok "version $v of color2 is empty"; done
sh -c '/bin/true; echo later' >later
is "a command's output is one version" "1" "$(versions ./later)"
{ echo one; /bin/true; /bin/true; echo two; } >group
is "children of the writer publish nothing half written" "1" "$(versions ./group)"
is "and all of it arrives" "one two" "$(tr '\n' ' ' <group | sed 's/ $//')"
echo one >>log; echo two >>log
is ">> appends" "one two" "$(tr '\n' ' ' <log | sed 's/ $//')"
is ">> adds a version each" "1 2" "$(versions ./log)"

sed -i s/green/red/ color
is "sed -i saves the next version of the same key" "red" "$(cat color)"
is "with all its history" "1 2 3" "$(versions ./color)"
cp .versions/color/1 color
is "cp of an old version restores it" "blue" "$(cat color)"
is "as a new one" "1 2 3 4" "$(versions ./color)"

if has vim; then
    vim -es -u NONE -c 's/blue/violet/' -c wq color </dev/null
    is "vim saves" "violet" "$(cat color)"
    vim -es -u NONE -c 'set backup writebackup backupcopy=no backupskip=' -c 's/violet/vblue/' -c wq color </dev/null
    is "vim saves with a backup by renaming" "vblue" "$(cat color)"
    is "and keeps the backup" "violet" "$(cat 'color~')"
    vim -es -u NONE -c 'set backupcopy=yes backupskip=' -c 's/vblue/vcopy/' -c wq color </dev/null
    is "vim saves with a backup by copying" "vcopy" "$(cat color)"
fi
if has nano && has script; then
    mkfifo "$WORK/keys"
    timeout 40 script -qefc "env TERM=xterm nano --ignorercfiles nanofile" "$WORK/screen" <"$WORK/keys" >/dev/null 2>&1 &
    nano=$!
    exec 7>"$WORK/keys"
    # types KEYS TEXT: when the screen has shown that text
    types() { within 10 grep -aq "$2" "$WORK/screen" && printf "$1" >&7; }
    types hello "GNU nano" && types '\017' Modified && types '\r' "to Write" && types '\030' Wrote
    exec 7>&-
    wait $nano
    is "nano saves" "hello" "$(head -n 1 nanofile 2>/dev/null)"
fi

if has tmux; then
    succeeds "tmux starts on a socket here" timeout 20 tmux -S "$PWD/tmux.sock" -f /dev/null new-session -d cat
    is "and is found by it" "1" "$(timeout 20 tmux -S "$PWD/tmux.sock" list-sessions | wc -l)"
    succeeds "and ended" timeout 20 tmux -S "$PWD/tmux.sock" kill-server
    rm -f tmux.sock
fi

mkdir tree tree/sub
echo one >tree/a; echo two >tree/sub/b; ln -s a tree/link; chmod 600 tree/a
touch -d '2020-02-03 04:05:06 UTC' tree/sub/b
cp -a tree copy
is "cp -a keeps times" "1580702706" "$(stat -c %Y copy/sub/b)"
is "cp -a keeps modes" "600" "$(stat -c %a copy/a)"
is "cp -a keeps links" "a" "$(readlink copy/link)"
succeeds "diff -r finds no difference" diff -r tree copy
if has rsync; then
    succeeds "rsync -a" rsync -a tree/ synced/
    is "rsync -a keeps times" "1580702706" "$(stat -c %Y synced/sub/b)"
    is "a second rsync finds nothing to do" "" "$(rsync -ai tree/ synced/)"
fi
tar cf "$WORK/t.tar" tree
mkdir untar
succeeds "tar x" tar xpf "$WORK/t.tar" -C untar
is "tar x keeps times" "1580702706" "$(stat -c %Y untar/tree/sub/b)"
succeeds "tar's files are the same" diff -r tree untar/tree
mv tree moved
is "mv of a directory" "two" "$(cat moved/sub/b)"
is "its keys keep their history" "1" "$(versions moved/sub/b)"
mkdir target
succeeds "mv into a directory" mv moved target/
fails_with "mv of a directory below itself" "subdirectory of itself\|Invalid" mv target target/moved/
ln -sfn one current; ln -sfn two current
is "ln -sfn replaces a link" "two" "$(readlink current)"
succeeds "ln" ln color hard
is "a hard link is another name" "2" "$(stat -c %h color)"

is "find finds" "target target/moved target/moved/sub" "$(find target -type d | sort | tr '\n' ' ' | sed 's/ $//')"
is "grep -r finds" "target/moved/sub/b:two" "$(grep -r two target)"
[ "$(du -s target | cut -f1)" -gt 0 ] && ok "du counts blocks" || not_ok "du counts blocks"
succeeds "df" df .
truncate -s 100 short; truncate -s 10 short
is "truncate" "10" "$(stat -c %s short)"
printf xyz | dd of=holes bs=1 seek=1000 2>/dev/null
is "dd seek= leaves a hole" "1003" "$(stat -c %s holes)"
is "of zeros" "0" "$(head -c 1000 holes | tr -d '\0' | wc -c)"
is "and then the data" "xyz" "$(tail -c 3 holes)"
dd if=/dev/urandom of="$WORK/big" bs=1M count=20 2>/dev/null
cp "$WORK/big" big
succeeds "a value of 20 MiB" cmp "$WORK/big" big
succeeds "is the same on another mount" cmp "$WORK/big" "$B/big"
dd if=/dev/urandom of="$WORK/patch" bs=1k count=3 2>/dev/null
dd if="$WORK/patch" of="$WORK/big" bs=1k seek=1777 conv=notrunc 2>/dev/null
dd if="$WORK/patch" of=big bs=1k seek=1777 conv=notrunc 2>/dev/null
succeeds "and can be written in the middle" cmp "$WORK/big" "$B/big"

if has git; then
    export GIT_CONFIG_NOSYSTEM=1 HOME="$WORK" GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t
    succeeds "git init" git init -q repo
    (cd repo && for i in 1 2 3 4 5; do echo "$i" >"f$i"; done)
    succeeds "git add" git -C repo add .
    succeeds "git commit" git -C repo commit -qm one
    echo more >>repo/f1
    succeeds "git commit -a" git -C repo commit -qam two
    succeeds "git gc" git -C repo gc -q
    succeeds "git fsck" git -C repo fsck --strict
    succeeds "git clone" git clone -q repo clone
    is "git status is clean" "" "$(git -C clone status --porcelain)"
    # On a machine whose clock is off, what git has just checked out is not changed. It asks
    # for a file's times before it closes it.
    for seconds in 3 -3; do
        mkdir -p "$BASE/m1"
        perl -e 'print pack("qq", $ARGV[0] * 1000000000, 0)' -- $seconds >"$WORK/clock"
        shifted() {
            LD_PRELOAD=$CLOCK_SHIFT KVFS_TEST_CLOCK=$WORK/clock \
                ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0" "$@"
        }
        off=$(date +%s)
        off=$(($(shifted date +%s) - off)) # or a second more, if one has just begun
        [ $off = $seconds ] || [ $off = $((seconds + 1)) ] && ok "a clock is off by $seconds s" || not_ok "a clock is off by $seconds s" "by $off"
        succeeds "a mount with it" shifted "$KVFS" "$NODES" "$BASE/m1"
        succeeds "git clone there" shifted git clone -q "$BASE/m1/repo" "$BASE/m1/clone$seconds"
        is "git diff-files lists nothing" "" "$(shifted git -C "$BASE/m1/clone$seconds" diff-files)"
        (cd "$BASE/m1/clone$seconds" && shifted git checkout -q HEAD~1)
        is "nor after a checkout" "" "$(shifted git -C "$BASE/m1/clone$seconds" diff-files)"
        is "nor on another mount" "" "$(git -C "$B/clone$seconds" diff-files)"
        succeeds "unmount" umount "$BASE/m1"
    done
fi
if has sqlite3; then
    for mode in delete wal; do
        succeeds "sqlite3 in $mode mode writes" sqlite3 "db-$mode" "pragma journal_mode=$mode; create table t(x); insert into t values(1),(2);"
        i=0
        while [ $i -lt 10 ]; do sqlite3 "db-$mode" "insert into t values($i)" || break; i=$((i + 1)); done
        is "sqlite3 in $mode mode reads" "12" "$(sqlite3 "db-$mode" 'select count(*) from t')"
        is "sqlite3 in $mode mode is intact" "ok" "$(sqlite3 "db-$mode" 'pragma integrity_check')"
    done
    is "a database is intact on another mount" "ok" "$(sqlite3 "$B/db-delete" 'pragma integrity_check')"
fi
rm -r target copy untar
is "rm -r" "" "$(ls -d target copy untar 2>/dev/null)"

mkdir -p a/b/c && echo deep >a/b/c/key
rm -r a
mkdir -p a/b/c
is "a directory made again has its keys' history" "1" "$(versions a/b/c/key)"
plan
