#!/bin/bash
# contrib/check-includes finds what is planted in a copy of the tree: planted.sh ROOT
# shellcheck source=tests/house/lib.sh
. "$(dirname "$0")/lib.sh"
root=$1
copy "$root" check-includes sync kvnode kvfs

planted "an include from above" kvnode/state/store.c '#include "kvnode/group/writes.h"' \
    'kvnode/state/store.c:'
planted "an include of a neighbour" kvnode/admin/get.c '#include "kvnode/client/serve.h"' \
    'includes kvnode/client/serve.h: kvnode/admin may include only'
planted "an include from above, in sync" sync/wire/frame.c '  #  include "sync/raft/engine/entry.h"' \
    'includes sync/raft/engine/entry.h'
planted "an include from above, in kvfs" kvfs/link/call.h '#include "kvfs/ops/operations.h"' \
    'kvfs/link/call.h:'
for header in uv.h sqlite3.h pthread.h time.h sys/time.h threads.h; do
    planted "$header in kvnode/state" kvnode/state/value.c "#include <$header>" "includes $header"
done
planted "a clock in kvnode/state" kvnode/state/value.c '#include "sync/base/clock.h"' 'must not see'
planted "a clock that a header brings" sync/wire/attr.h '#include <time.h>' \
    'sync/wire/attr.h:'
planted "libraft outside the engine" kvnode/group/writes.c '#include <raft.h>' 'includes raft.h'
planted "a file that does not exist" kvnode/loop/turn.c '#include "kvnode/none.h"' 'no file of'

# A folder that the table does not know.
mkdir "$work/tree/kvnode/attic"
echo >"$work/tree/kvnode/attic/old.c"
"$work/check" "$work/tree" >/dev/null 2>&1 && { echo "not found: an unknown folder"; failed=1; }
rm -r "$work/tree/kvnode/attic"

# A table in which a folder may use one below it.
sed "s|'sync/base': '',|'sync/base': 'sync/wire',|" "$root/contrib/check-includes" >"$work/check"
"$work/check" "$work/tree" 2>&1 | grep -qF 'does not stand above it' ||
    { echo "not found: a circle in the table"; failed=1; }
exit $failed
