#!/bin/bash
# contrib/check-sleeps finds what is planted in a copy of the tests: planted_sleeps.sh ROOT
# shellcheck source=tests/house/lib.sh
. "$(dirname "$0")/lib.sh"
root=$1
copy "$root" check-sleeps tests

for line in 'usleep(1000);' 'sleep(1);' 'nanosleep(&t, NULL);' 'pause_ms(100);' 'poll(NULL, 0, 5);' \
    'while (!there()) usleep (10); /* a look */'; do
    planted "$line" tests/mount/semantics.c "    $line" 'tests/mount/semantics.c:'
done
planted "sleep in a script" tests/mount/failover.sh 'sleep 1' "sleeps: sleep 1;"
planted "sleep of a variable" tests/cluster/test_cli.sh 'true; sleep "$long"' 'tests/cluster/test_cli.sh:'
planted "sleep of Python" tests/cluster/test_cli.sh 'import time; time.sleep(1)' 'tests/cluster/test_cli.sh:'
planted "sleep of Perl" tests/mount/close.sh 'select(undef, undef, undef, 0.25);' 'tests/mount/close.sh:'
planted "a file without a suffix" tests/fuzz/run 'sleep 1' 'tests/fuzz/run:'
# What the list has once is there once.
planted "a listed one again" tests/mount/lib.sh '        sleep 0.05 # between two looks at the condition' \
    'tests/mount/lib.sh:'

# What only speaks of it is none.
printf '%s\n' '/* sleep(1) */' 'int asleep(int sleep_at);' >>"$work/tree/tests/mount/semantics.c"
printf '%s\n' '# sleep 1' >>"$work/tree/tests/mount/failover.sh"
"$work/check" "$work/tree" || { echo "found where none is"; failed=1; }

# The list only names what is there, each with a reason.
sed "s|^KNOWN = \[\$|&\n    ('tests/mount/held.sh', 'sleep 3', LOOK),|" "$root/contrib/check-sleeps" >"$work/check"
"$work/check" "$work/tree" 2>&1 | grep -qF 'tests/mount/held.sh no longer has "sleep 3"' ||
    { echo "not found: a listed sleep that is gone"; failed=1; }
exit $failed
