/* The power goes, on all nodes at once or on some, while clients write. Nothing
 * that was acknowledged is lost, nothing is done twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sync/base/clock.h"
#include "tests/disk/lib/rig.h"

#define ALL ((1u << RIG_NODES) - 1)

static struct rig rig;

static int teardown(void **state)
{
    (void)state;
    return rig_stop(&rig) ? 0 : -1;
}

/* Who loses power: mostly all; now and then one, or two. */
static unsigned choose(unsigned i)
{
    unsigned one = 1u << dice_roll(&rig.dice, RIG_NODES);

    return i % 4 != 3 ? ALL : dice_roll(&rig.dice, 2) == 0 ? one : ALL & ~one;
}

static void nothing_acknowledged_is_lost_when_the_power_goes(void **state)
{
    uint64_t forgotten = 0, torn = 0, writes = 0, slowest_ms = 0;
    unsigned i, n = rounds(10);

    (void)state;
    assert_true(rig_start(&rig, "power loss"));
    assert_true(rig_write(&rig, 0, false));
    for (i = 0; i < n; i++) {
        unsigned mask = choose(i);
        uint64_t numbers[2], begin;

        /* The journals are copied into the databases in between, the log is trimmed. */
        assert_true(rig_progress(&rig, 1 + dice_roll(&rig.dice, i % 5 == 4 ? 1500 : 200), 60000));
        rig_cut(&rig, mask, i % 2 == 1, numbers);
        forgotten += numbers[0];
        torn += numbers[1];
        begin = clock_boot_ms();
        assert_true(rig_restart(&rig, mask, 20000));
        assert_true(rig_progress(&rig, 1, 30000));
        slowest_ms = clock_boot_ms() - begin > slowest_ms ? clock_boot_ms() - begin : slowest_ms;
        if (i % 3 == 2 || i + 1 == n)
            rig_assert_right(&rig);
    }
    for (i = 0; i < RIG_WRITERS; i++)
        writes += rig.writers[i].done + rig.writers[i].appended;
    printf(
        "# %u power cuts, %llu writes acknowledged, %llu unsynced changes forgotten, %llu left by torn cuts,"
        " written to again after at most %llu ms\n",
        n, (unsigned long long)writes, (unsigned long long)forgotten, (unsigned long long)torn,
        (unsigned long long)slowest_ms);
    assert_true(forgotten > 0);
}

/* That this test can fail: on disks that say yes to fsync and do nothing. */
static void lying_disks_are_found_out(void **state)
{
    uint64_t numbers[2];
    unsigned i;
    bool right;

    (void)state;
    assert_true(rig_start(&rig, "lying disks"));
    assert_true(rig_write(&rig, 0, false));
    assert_true(rig_progress(&rig, 20, 30000));
    assert_true(rig_hold(&rig, 30000));
    for (i = 0; i < RIG_NODES; i++)
        assert_true(disk_order(&rig.disks[i], "lie 1", NULL));
    rig_go_on(&rig);
    assert_true(rig_progress(&rig, 20, 30000));
    assert_true(rig_hold(&rig, 30000));
    rig_cut(&rig, ALL, false, numbers);
    right = rig_restart(&rig, ALL, 10000) && rig_is_right(&rig);
    assert_false(right);
    printf("# found: %s\n", rig.wrong[0] != '\0' ? rig.wrong : "the nodes do not start");
    rig.wrong[0] = '\0'; /* as it should be */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(lying_disks_are_found_out, teardown),
        cmocka_unit_test_teardown(nothing_acknowledged_is_lost_when_the_power_goes, teardown),
    };

    cmocka_set_test_filter(getenv("KVFS_FAULT_ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
