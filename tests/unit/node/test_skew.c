#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kvnode/group/skew.h"

#define SECOND INT64_C(1000000000)

static const uint64_t three[] = {1, 2, 3}, five[] = {1, 2, 3, 4, 5};

static struct skew_view judge(const int64_t *offsets, size_t n_heard, const uint64_t *voters, size_t n)
{
    struct skew s = {0};
    size_t i;

    for (i = 0; i < n_heard; i++)
        skew_hear(&s, voters[i + 1], offsets[i], 100);
    return skew_judge(&s, 1, voters, n, 100);
}

static void one_node_has_nobody_to_compare_with(void **state)
{
    struct skew_view v = judge(NULL, 0, three, 1);

    assert_true(v.agreed && !v.off && v.majority_ns == 0);
}

static void without_a_majority_that_agrees_nobody_is_wrong(void **state)
{
    const int64_t all_differ[] = {-100 * SECOND, 100 * SECOND}, one[] = {3600 * SECOND};

    assert_false(judge(all_differ, 2, three, 3).agreed);
    assert_false(judge(all_differ, 2, three, 3).off);
    assert_false(judge(one, 1, three, 3).agreed); /* one of two: which? */
    assert_false(judge(NULL, 0, three, 3).agreed);
}

static void the_one_that_differs_from_the_majority_is_off(void **state)
{
    const int64_t ahead[] = {-86400 * SECOND, -86400 * SECOND + 5}, behind[] = {2 * SECOND, 2 * SECOND - 5},
                  other[] = {5, -86400 * SECOND};
    struct skew_view v = judge(ahead, 2, three, 3);

    assert_true(v.agreed && v.off);
    assert_in_range(-v.majority_ns, 86399 * SECOND, 86400 * SECOND);
    v = judge(behind, 2, three, 3);
    assert_true(v.agreed && v.off);
    v = judge(other, 2, three, 3);
    assert_true(v.agreed && !v.off);
}

static void clocks_within_a_second_agree(void **state)
{
    const int64_t near[] = {-SECOND * 9 / 10, SECOND * 9 / 10}, spread[] = {-SECOND / 2, -SECOND * 14 / 10},
                  many[] = {2 * SECOND, 2 * SECOND, -SECOND / 2, SECOND / 3};

    assert_true(judge(near, 2, three, 3).agreed);
    assert_false(judge(near, 2, three, 3).off);
    assert_false(judge(spread, 2, three, 3).off);
    assert_true(judge(many, 4, five, 5).agreed);
    assert_false(judge(many, 4, five, 5).off);
}

static void a_message_that_was_long_under_way_is_no_proof(void **state)
{
    struct skew s = {0};
    int64_t offset;
    unsigned i;

    skew_hear(&s, 2, -1000, 100);
    for (i = 0; i < SKEW_SAMPLES - 1; i++)
        skew_hear(&s, 2, -5 * SECOND, 100 + i);
    assert_true(skew_offset(&s, 2, 200, &offset));
    assert_int_equal(offset, -1000);
    skew_hear(&s, 2, -5 * SECOND, 300); /* but if all were */
    assert_true(skew_offset(&s, 2, 300, &offset));
    assert_int_equal(offset, -5 * SECOND);
}

static void what_is_old_is_forgotten(void **state)
{
    struct skew s = {0};
    int64_t offset;
    uint64_t id;

    skew_hear(&s, 2, 7 * SECOND, 100);
    assert_false(skew_offset(&s, 2, 101 + SKEW_FRESH_MS, &offset));
    assert_false(skew_offset(&s, 3, 100, &offset));
    assert_false(skew_offset(&s, 0, 100, &offset));
    skew_hear(&s, 2, -SECOND, 200 + SKEW_FRESH_MS);
    assert_true(skew_offset(&s, 2, 200 + SKEW_FRESH_MS, &offset));
    assert_int_equal(offset, -SECOND);
    for (id = 1; id < 3 * SKEW_PEERS_MAX; id++) /* more than fit: nothing breaks */
        skew_hear(&s, id, 0, 300 + SKEW_FRESH_MS);
    assert_false(skew_offset(&s, 3 * SKEW_PEERS_MAX - 1, 300 + SKEW_FRESH_MS, &offset));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_node_has_nobody_to_compare_with),
        cmocka_unit_test(without_a_majority_that_agrees_nobody_is_wrong),
        cmocka_unit_test(the_one_that_differs_from_the_majority_is_off),
        cmocka_unit_test(clocks_within_a_second_agree),
        cmocka_unit_test(a_message_that_was_long_under_way_is_no_proof),
        cmocka_unit_test(what_is_old_is_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
