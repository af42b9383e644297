#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kvnode/peer/rivals.h"

#define OURS 7
#define THEIRS 8

static void prevail_over_one_of_two_and_two_of_three(void **state)
{
    struct rivals r = {.n = 0};

    assert_false(rivals_prevail(&r, 1));
    assert_true(rivals_hear(&r, 2, THEIRS, OURS));
    assert_true(rivals_prevail(&r, 2));
    assert_false(rivals_prevail(&r, 3));
    assert_true(rivals_hear(&r, 3, THEIRS, OURS));
    assert_true(rivals_prevail(&r, 3));
    assert_true(rivals_prevail(&r, 4));
    assert_false(rivals_prevail(&r, 5));
}

static void are_news_once(void **state)
{
    struct rivals r = {.n = 0};

    assert_false(rivals_hear(&r, 2, OURS, OURS));
    assert_true(rivals_hear(&r, 2, THEIRS, OURS));
    assert_false(rivals_hear(&r, 2, THEIRS, OURS));
    assert_true(rivals_hear(&r, 2, THEIRS + 1, OURS));
    assert_int_equal(rivals_cluster(&r, 2), THEIRS + 1);
    assert_int_equal(rivals_cluster(&r, 3), 0);
}

static void are_none_once_they_have_joined(void **state)
{
    struct rivals r = {.n = 0};

    rivals_hear(&r, 2, THEIRS, OURS);
    rivals_hear(&r, 3, THEIRS, OURS);
    assert_true(rivals_hear(&r, 2, OURS, OURS));
    assert_int_equal(rivals_cluster(&r, 2), 0);
    assert_int_equal(rivals_cluster(&r, 3), THEIRS);
    assert_false(rivals_prevail(&r, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prevail_over_one_of_two_and_two_of_three),
        cmocka_unit_test(are_news_once),
        cmocka_unit_test(are_none_once_they_have_joined),
    };

    return cmocka_run_group_tests_name("rivals", tests, NULL, NULL);
}
