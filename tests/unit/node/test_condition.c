/* Where the state of a group may go from where it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kvnode/group/condition.h"

static void only_the_ways_of_the_picture_are_open(void **state)
{
    static const char *const ways[CONDITIONS] = {
        /* to SERVING, MENDING, AWAITED, REPLACING, HEALING */
        [CONDITION_SERVING] = ".M.R.",   [CONDITION_MENDING] = "S..RH", [CONDITION_AWAITED] = "...RH",
        [CONDITION_REPLACING] = "S....", [CONDITION_HEALING] = "S.A..",
    };

    (void)state;
    for (enum condition from = 0; from < CONDITIONS; from++)
        for (enum condition to = 0; to < CONDITIONS; to++) {
            enum condition c = from;
            bool open = ways[from][to] != '.';

            assert_int_equal(condition_move(&c, to), open);
            assert_int_equal(c, open ? to : from);
        }
}

static void serves_and_asks(void **state)
{
    (void)state;
    assert_true(condition_serves(CONDITION_SERVING) && condition_serves(CONDITION_MENDING));
    assert_false(condition_serves(CONDITION_AWAITED) || condition_serves(CONDITION_REPLACING) ||
                 condition_serves(CONDITION_HEALING));
    assert_true(condition_asks(CONDITION_MENDING) && condition_asks(CONDITION_AWAITED));
    assert_false(condition_asks(CONDITION_SERVING) || condition_asks(CONDITION_REPLACING) ||
                 condition_asks(CONDITION_HEALING));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_ways_of_the_picture_are_open),
        cmocka_unit_test(serves_and_asks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
