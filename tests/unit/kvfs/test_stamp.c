#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kvfs/link/stamp.h"
#include "kvfs/link/stat.h"

#define SECOND INT64_C(1000000000)
#define NOON (INT64_C(1800000000) * SECOND)

static void starts_with_the_time_of_day(void **state)
{
    struct stamp s = {0};

    assert_int_equal(stamp_next(&s, 5, NOON), NOON);
    assert_int_equal(stamp_next(&s, 5, NOON), NOON + 1);
    assert_int_equal(stamp_next(&s, 5, NOON - SECOND), NOON + 2);
}

static void follows_the_cluster_and_not_the_time_of_day(void **state)
{
    struct stamp s = {0};
    int64_t now;

    stamp_learn(&s, NOON, 5);
    assert_int_equal(stamp_next(&s, 5, NOON - 3 * SECOND), NOON + 0);
    now = stamp_next(&s, 5 + 2 * SECOND, NOON + 3600 * SECOND);
    assert_in_range(now, NOON + 2 * SECOND - SECOND / 50, NOON + 2 * SECOND);
}

static void is_later_than_what_was_heard_and_what_was_said(void **state)
{
    struct stamp s = {0};
    int64_t last = 0;
    int i;

    for (i = 0; i < 1000; i++) {
        int64_t heard = NOON + i * 1000, now;

        /* Events come late and all at once. */
        stamp_learn(&s, (uint64_t)heard, 10000 + (uint64_t)(i / 100) * 50000);
        now = stamp_next(&s, 10000 + (uint64_t)(i / 100) * 50000, 1);
        assert_true(now >= heard && now > last);
        last = now;
    }
}

static void goes_back_with_a_cluster_that_was_set_back(void **state)
{
    struct stamp s = {0};
    int64_t ahead;

    stamp_learn(&s, NOON + 86400 * SECOND, 5);
    ahead = stamp_next(&s, 6, NOON);
    stamp_learn(&s, NOON + 86399 * SECOND, 7); /* a new leader, whose clock is a little behind */
    assert_int_equal(stamp_next(&s, 7, NOON), ahead + 1);
    stamp_learn(&s, NOON, 8);
    assert_in_range(stamp_next(&s, 9, NOON), NOON, NOON + 10);
}

static void times_are_cut_to_what_can_be_stored(void **state)
{
    static const int64_t last = INT64_MAX / SECOND - 1;
    struct timespec t = {.tv_sec = -315619200, .tv_nsec = 999999999};
    struct attr attr = {.mtime_ns = stat_time_ns(t)};
    struct options options = {0};
    struct stat st;

    stat_of(&options, &attr, &st);
    assert_int_equal(st.st_mtim.tv_sec, t.tv_sec);
    assert_int_equal(st.st_mtim.tv_nsec, t.tv_nsec);
    assert_int_equal(stat_time_ns((struct timespec){INT64_C(1) << 32, 7}), (SECOND << 32) + 7);
    assert_int_equal(stat_time_ns((struct timespec){INT64_MAX, 7}), last * SECOND);
    assert_int_equal(stat_time_ns((struct timespec){INT64_MIN, 7}), -last * SECOND);
    assert_int_equal(stat_time_ns((struct timespec){-1, 999999999}), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_with_the_time_of_day),
        cmocka_unit_test(follows_the_cluster_and_not_the_time_of_day),
        cmocka_unit_test(is_later_than_what_was_heard_and_what_was_said),
        cmocka_unit_test(goes_back_with_a_cluster_that_was_set_back),
        cmocka_unit_test(times_are_cut_to_what_can_be_stored),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
