#!/bin/bash
# cp -a of a real tree into one mount is the same tree in another one. KVFS_COPY_FROM=DIR: a larger one.
# shellcheck source=tests/cluster/lib.sh
. "$(dirname "$0")/lib.sh"
source=$work/include # of its own: nobody installs anything into it meanwhile
cp -a "${KVFS_COPY_FROM:-/usr/include/linux}" "$source"
ln -s kernel.h "$source/a link"
up 3
mount_at "$work/a" n1,n2,n3
mount_at "$work/b" n3,n2,n1
begin=$(now_ms)
cp -a $source "$work/a/" || die "cp -a"
say "cp -a of $(find $source | wc -l) names, $(du -sh --apparent-size $source | cut -f1): $(($(now_ms) - begin)) ms"
diff -r --no-dereference $source "$work/a/include" || die "differs in the mount that it was copied to"
diff -r --no-dereference $source "$work/b/include" || die "differs in another mount"
list() { (cd "$1" && find . -printf '%P %y %m %s %l\n' | sed 's/^\(.*\) d \([0-9]*\) [0-9]* /\1 d \2 /' | LC_ALL=C sort); }
diff <(list $source) <(list "$work/b/include") || die "names, modes, sizes or links differ"
diff <(cd $source && find . -type f -printf '%P %Ts\n' | LC_ALL=C sort) \
    <(cd "$work/b/include" && find . -type f -printf '%P %Ts\n' | LC_ALL=C sort) || die "times differ"
say "all gone again with rm -r"
rm -r "$work/a/include" || die "rm -r"
[ -z "$(ls -A "$work/a")" ] || die "left: $(ls -A "$work/a")"
gone() { [ -z "$(ls -A "$work/b")" ]; }
until_true 10 gone || die "left in another mount: $(ls -A "$work/b")"
equal_digests 3
