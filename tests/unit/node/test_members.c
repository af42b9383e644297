#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "kvnode/peer/members.h"
#include "kvnode/peer/progress.h"

static void all_linked(uint32_t *reach, unsigned n)
{
    unsigned i;

    for (i = 0; i < n; i++)
        reach[i] = n == 32 ? UINT32_MAX : (UINT32_C(1) << n) - 1;
}

static void cut(uint32_t *reach, unsigned a, unsigned b)
{
    reach[a] &= ~(UINT32_C(1) << b);
    reach[b] &= ~(UINT32_C(1) << a);
}

static void what_counts_beyond_the_majority_may_fail(void **state)
{
    uint32_t reach[32];

    all_linked(reach, 5);
    assert_int_equal(members_tolerated(reach, 5, 0x1f, 3), 2);
    assert_int_equal(members_tolerated(reach, 5, 0x17, 3), 1);
    assert_int_equal(members_tolerated(reach, 5, 0x15, 3), 0);
    assert_int_equal(members_tolerated(reach, 5, 0x11, 3), -1);
    assert_int_equal(members_tolerated(reach, 5, 0, 3), -1);
    assert_int_equal(members_tolerated(reach, 1, 1, 1), 0);
}

static void of_two_that_do_not_hear_each_other_the_third_may_not_fail(void **state)
{
    uint32_t reach[32];

    all_linked(reach, 3);
    cut(reach, 0, 2);
    assert_int_equal(members_tolerated(reach, 3, 7, 2), 0);
    cut(reach, 0, 1);
    cut(reach, 1, 2);
    assert_int_equal(members_tolerated(reach, 3, 7, 2), -1);
    /* Of five, two may fail: the third that is left reaches both of them. */
    all_linked(reach, 5);
    cut(reach, 0, 1);
    assert_int_equal(members_tolerated(reach, 5, 0x1f, 3), 2);
    cut(reach, 1, 2);
    assert_int_equal(members_tolerated(reach, 5, 0x1f, 3), 1);
}

static void a_link_to_what_does_not_count_is_no_help(void **state)
{
    uint32_t reach[32];

    all_linked(reach, 3);
    cut(reach, 0, 1);
    assert_int_equal(members_tolerated(reach, 3, 3, 2), -1);
}

static void many_voters_take_no_time(void **state)
{
    uint32_t reach[32];

    all_linked(reach, 31);
    assert_int_equal(members_tolerated(reach, 31, 0x7fffffff, 16), 15);
    cut(reach, 3, 4);
    assert_in_range(members_tolerated(reach, 31, 0x7fffffff, 16), 1, 14);
}

static void is_behind_only_while_it_lacks_what_was_there_before(void **state)
{
    struct progress p = {0};
    uint64_t t, newest = 0;

    /* Under load: never at the newest, and never more than a beat behind. */
    for (t = 1000; t < 20000; t += 50) {
        newest += 500;
        progress_note(&p, t, newest, newest - 400);
        assert_in_range(progress_lag_ms(&p, t), 0, 100);
    }
    /* It stands still. */
    for (; t < 30000; t += 50)
        progress_note(&p, t, newest, newest - 400);
    assert_in_range(progress_lag_ms(&p, t), 9900, 10200);
    assert_in_range(t - p.risen_ms, 9900, 10200);
    /* It goes on. */
    progress_note(&p, t, newest, newest);
    assert_int_equal(progress_lag_ms(&p, t), 0);
    assert_int_equal(p.risen_ms, t);
}

static void a_new_one_has_not_been_behind_for_ever(void **state)
{
    struct progress p = {0};

    assert_int_equal(progress_lag_ms(&p, 5000000), 0);
    progress_note(&p, 5000000, 1000, 1);
    assert_int_equal(progress_lag_ms(&p, 5000010), 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_counts_beyond_the_majority_may_fail),
        cmocka_unit_test(of_two_that_do_not_hear_each_other_the_third_may_not_fail),
        cmocka_unit_test(a_link_to_what_does_not_count_is_no_help),
        cmocka_unit_test(many_voters_take_no_time),
        cmocka_unit_test(is_behind_only_while_it_lacks_what_was_there_before),
        cmocka_unit_test(a_new_one_has_not_been_behind_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
