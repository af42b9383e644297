#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kvnode/group/stamps.h"

#define SECOND UINT64_C(1000000000)
#define NOON (UINT64_C(1800000000) * SECOND)
#define DAY (86400 * SECOND)

static void are_the_clock_s(void **state)
{
    struct stamps s = {0};

    assert_int_equal(stamps_next(&s, NOON, 5, 0), NOON);
    assert_int_equal(stamps_next(&s, NOON + SECOND, 6, NOON), NOON + SECOND);
}

static void go_on_from_a_stored_time_that_is_ahead(void **state)
{
    struct stamps s = {0};
    uint64_t ahead = NOON + DAY, boot = 7, stamp, i;

    for (i = 1; i <= 100; i++) {
        stamp = stamps_next(&s, NOON + i * SECOND, boot += SECOND, ahead);
        /* a second a second, a little less: people and rsync see it move */
        assert_in_range(stamp, ahead + (i > 1 ? SECOND * 99 / 100 : 0), ahead + SECOND);
        ahead = stamp;
    }
    assert_in_range(ahead, NOON + DAY + 98 * SECOND, NOON + DAY + 99 * SECOND);
}

static void meet_the_clock_again(void **state)
{
    struct stamps s = {0};
    uint64_t i, stored = NOON + 3 * SECOND, boot = 7, clock = NOON;

    stamps_next(&s, clock, boot, stored);
    for (i = 0; i < 700; i++) {
        clock += SECOND;
        boot += SECOND;
        stored = stamps_next(&s, clock, boot, stored);
    }
    assert_int_equal(stored, clock);
    /* The clock jumps back an hour: nobody sees it. */
    stored = stamps_next(&s, clock - 3600 * SECOND, boot + SECOND, stored);
    assert_in_range(stored, clock, clock + SECOND);
}

static void do_without_a_clock_that_is_wrong(void **state)
{
    struct stamps s = {0};

    assert_int_equal(stamps_next(&s, 0, 5, 0), 0); /* the state machine adds a step */
    assert_int_equal(stamps_next(&s, 0, 5, NOON), NOON);
    assert_in_range(stamps_next(&s, 0, 5 + SECOND, NOON), NOON + SECOND * 99 / 100, NOON + SECOND);
}

static void follow_the_clock_once_the_time_is_set_back(void **state)
{
    struct stamps s = {0};

    assert_int_equal(stamps_next(&s, NOON, 5, NOON + DAY), NOON + DAY);
    stamps_setting_back(&s); /* proposed; the state is as before */
    assert_int_equal(stamps_next(&s, NOON + 1, 6, NOON + DAY), NOON + 1);
    stamps_set_back(&s);
    assert_int_equal(stamps_next(&s, NOON + 2, 7, NOON + 1), NOON + 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(are_the_clock_s),
        cmocka_unit_test(go_on_from_a_stored_time_that_is_ahead),
        cmocka_unit_test(meet_the_clock_again),
        cmocka_unit_test(do_without_a_clock_that_is_wrong),
        cmocka_unit_test(follow_the_clock_once_the_time_is_set_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
