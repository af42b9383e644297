#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/sim/whole/linear.h"

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))
#define WRITE(KIND, VALUE, CALL, ANSWERED)                                                                   \
    .kind = LINEAR_##KIND, .value = VALUE, .call = CALL, .answered = ANSWERED
#define READ(CONTENT, CALL, ANSWERED)                                                                        \
    .kind = LINEAR_READ, .value = CONTENT, .call = CALL, .answered = ANSWERED

static uint64_t content(uint64_t value)
{
    return linear_fold(LINEAR_EMPTY, value);
}

static enum linear_result check(struct linear_op *ops, size_t n)
{
    size_t stuck;

    return linear_check(ops, n, &stuck);
}

static void accepts_one_after_the_other(void **state)
{
    struct linear_op ops[] = {
        {READ(LINEAR_ABSENT, 1, 2)},
        {WRITE(SET, 7, 3, 4)},
        {READ(content(7), 5, 6)},
        {WRITE(APPEND, 8, 7, 8)},
        {READ(linear_fold(content(7), 8), 9, 10)},
        {WRITE(DELETE, 0, 11, 12)},
        {READ(LINEAR_ABSENT, 13, 14)},
        {WRITE(CREATE, 0, 15, 16)},
        {READ(LINEAR_EMPTY, 17, 18)},
        {WRITE(OVERWRITE, 9, 19, 20)},
        {READ(content(9), 21, 22)},
    };

    assert_int_equal(check(ops, COUNT(ops)), LINEAR_YES);
}

static void accepts_either_value_during_a_write(void **state)
{
    struct linear_op ops[] = {
        {WRITE(SET, 1, 1, 2)}, {WRITE(SET, 2, 3, 10)}, {READ(content(1), 4, 5)}, {READ(content(2), 6, 7)}};

    assert_int_equal(check(ops, COUNT(ops)), LINEAR_YES);
}

static void hints_do_not_decide(void **state)
{
    struct linear_op ops[] = {{WRITE(SET, 1, 1, 2), .hint = 9},
                              {WRITE(SET, 2, 3, 4), .hint = 5},
                              {READ(content(2), 5, 6), .hint = 1}};

    assert_int_equal(check(ops, COUNT(ops)), LINEAR_YES);
}

static void refuses_a_stale_read(void **state)
{
    struct linear_op ops[] = {{WRITE(SET, 1, 1, 2)}, {WRITE(SET, 2, 3, 4)}, {READ(content(1), 5, 6)}};

    assert_int_equal(check(ops, COUNT(ops)), LINEAR_NO);
}

static void refuses_a_value_that_was_seen_and_is_gone_again(void **state)
{
    struct linear_op ops[] = {
        {WRITE(SET, 1, 1, 2)}, {WRITE(SET, 2, 3, 10)}, {READ(content(2), 4, 5)}, {READ(content(1), 6, 7)}};

    assert_int_equal(check(ops, COUNT(ops)), LINEAR_NO);
}

static void refuses_a_lost_write(void **state)
{
    struct linear_op ops[] = {{WRITE(SET, 1, 1, 2)}, {READ(LINEAR_ABSENT, 3, 4)}};

    assert_int_equal(check(ops, COUNT(ops)), LINEAR_NO);
}

static void refuses_a_value_from_nowhere(void **state)
{
    struct linear_op ops[] = {{WRITE(SET, 1, 1, 2)}, {READ(content(3), 3, 4)}};

    assert_int_equal(check(ops, COUNT(ops)), LINEAR_NO);
}

static void refuses_a_write_that_is_executed_twice(void **state)
{
    struct linear_op ops[] = {{WRITE(SET, 1, 1, 2)},
                              {WRITE(APPEND, 2, 3, 4)},
                              {READ(linear_fold(linear_fold(content(1), 2), 2), 5, 6)}};

    assert_int_equal(check(ops, COUNT(ops)), LINEAR_NO);
}

static void refuses_two_orders_of_the_same_appends(void **state)
{
    struct linear_op ops[] = {{WRITE(CREATE, 0, 1, 2)},
                              {WRITE(APPEND, 1, 3, 20)},
                              {WRITE(APPEND, 2, 3, 20)},
                              {READ(linear_fold(LINEAR_EMPTY, 1), 4, 5)},
                              {READ(linear_fold(LINEAR_EMPTY, 2), 6, 7)}};

    assert_int_equal(check(ops, COUNT(ops)), LINEAR_NO);
}

static void refuses_two_winners_of_one_condition(void **state)
{
    struct linear_op ops[] = {{WRITE(SET, 1, 1, 2)},
                              {WRITE(CAS, 2, 3, 9), .expect = content(1)},
                              {WRITE(CAS, 3, 3, 9), .expect = content(1)}};

    assert_int_equal(check(ops, COUNT(ops)), LINEAR_NO);
    ops[2].refused = true;
    assert_int_equal(check(ops, COUNT(ops)), LINEAR_YES);
}

static void refuses_two_exclusive_creations(void **state)
{
    struct linear_op ops[] = {{WRITE(CREATE, 0, 1, 9)}, {WRITE(CREATE, 0, 1, 9)}};

    assert_int_equal(check(ops, COUNT(ops)), LINEAR_NO);
    ops[1].refused = true;
    assert_int_equal(check(ops, COUNT(ops)), LINEAR_YES);
}

static void refuses_a_refusal_without_a_reason(void **state)
{
    struct linear_op ops[] = {{WRITE(SET, 1, 1, 2)}, {WRITE(DELETE, 0, 3, 4), .refused = true}};

    assert_int_equal(check(ops, COUNT(ops)), LINEAR_NO);
}

static void a_rename_moves_and_leaves_nothing(void **state)
{
    struct linear_op ops[] = {{WRITE(SET, 1, 1, 2)},
                              {.kind = LINEAR_RENAME, .a = 0, .b = 1, .call = 3, .answered = 4},
                              {READ(content(1), 5, 6), .a = 1},
                              {READ(LINEAR_ABSENT, 5, 6)}};

    assert_int_equal(check(ops, COUNT(ops)), LINEAR_YES);
    ops[3].value = content(1); /* sorted by hint: all hints are equal, so the order has stayed */
    assert_int_equal(check(ops, COUNT(ops)), LINEAR_NO);
}

static void a_name_is_there_or_not(void **state)
{
    struct linear_op moving[] = {{WRITE(CREATE, 0, 1, 2)},
                                 {.kind = LINEAR_RENAME, .a = 0, .b = 1, .call = 3, .answered = 10},
                                 {WRITE(EXISTS, 1, 4, 6)},
                                 {WRITE(EXISTS, 0, 9, 10)}};
    struct linear_op missing[] = {{WRITE(CREATE, 0, 1, 2)}, {WRITE(EXISTS, 0, 3, 4)}};
    struct linear_op back[] = {{WRITE(CREATE, 0, 1, 2)},
                               {.kind = LINEAR_RENAME, .a = 0, .b = 1, .call = 3, .answered = 10},
                               {WRITE(EXISTS, 0, 4, 6)},
                               {WRITE(EXISTS, 1, 7, 9)}};

    assert_int_equal(check(moving, COUNT(moving)), LINEAR_YES);
    assert_int_equal(check(missing, COUNT(missing)), LINEAR_NO);
    assert_int_equal(check(back, COUNT(back)), LINEAR_NO);
}

static void a_move_may_find_it_moved_already(void **state)
{
#define TWO(KIND)                                                                                            \
    {                                                                                                        \
        {WRITE(CREATE, 0, 1, 2)}, {.kind = LINEAR_##KIND, .a = 0, .b = 1, .call = 3, .answered = 10},        \
            {.kind = LINEAR_##KIND, .a = 0, .b = 1, .call = 4, .answered = 11}, {WRITE(EXISTS, 0, 12, 13)},  \
        {                                                                                                    \
            .kind = LINEAR_EXISTS, .a = 1, .value = 1, .call = 12, .answered = 13                            \
        }                                                                                                    \
    }
    struct linear_op moves[] = TWO(MOVE), renames[] = TWO(RENAME);
    struct linear_op nothing[] = {{.kind = LINEAR_MOVE, .a = 0, .b = 1, .call = 1, .answered = 2}};
    struct linear_op refused[] = {{WRITE(CREATE, 0, 1, 2)},
                                  {.kind = LINEAR_MOVE, .a = 1, .call = 3, .answered = 4, .refused = true}};

    assert_int_equal(check(moves, COUNT(moves)), LINEAR_YES);
    assert_int_equal(check(renames, COUNT(renames)), LINEAR_NO);
    assert_int_equal(check(nothing, COUNT(nothing)), LINEAR_NO);
    assert_int_equal(check(refused, COUNT(refused)), LINEAR_YES);
}

static void an_open_write_may_take_effect_later_once_or_never(void **state)
{
    struct linear_op never[] = {
        {WRITE(SET, 1, 1, 2)}, {WRITE(SET, 2, 3, 0), .open = true}, {READ(content(1), 9, 10)}};
    struct linear_op later[] = {{WRITE(SET, 1, 1, 2)},
                                {WRITE(SET, 2, 3, 0), .open = true},
                                {READ(content(1), 9, 10)},
                                {READ(content(2), 11, 12)}};
    struct linear_op twice[] = {{WRITE(SET, 1, 1, 2)},
                                {WRITE(SET, 2, 3, 0), .open = true},
                                {READ(content(2), 9, 10)},
                                {WRITE(SET, 3, 11, 12)},
                                {READ(content(2), 13, 14)}};
    struct linear_op early[] = {{READ(content(2), 1, 2)}, {WRITE(SET, 2, 3, 0), .open = true}};

    assert_int_equal(check(never, COUNT(never)), LINEAR_YES);
    assert_int_equal(check(later, COUNT(later)), LINEAR_YES);
    assert_int_equal(check(twice, COUNT(twice)), LINEAR_NO);
    assert_int_equal(check(early, COUNT(early)), LINEAR_NO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_one_after_the_other),
        cmocka_unit_test(accepts_either_value_during_a_write),
        cmocka_unit_test(hints_do_not_decide),
        cmocka_unit_test(refuses_a_stale_read),
        cmocka_unit_test(refuses_a_value_that_was_seen_and_is_gone_again),
        cmocka_unit_test(refuses_a_lost_write),
        cmocka_unit_test(refuses_a_value_from_nowhere),
        cmocka_unit_test(refuses_a_write_that_is_executed_twice),
        cmocka_unit_test(refuses_two_orders_of_the_same_appends),
        cmocka_unit_test(refuses_two_winners_of_one_condition),
        cmocka_unit_test(refuses_two_exclusive_creations),
        cmocka_unit_test(refuses_a_refusal_without_a_reason),
        cmocka_unit_test(a_rename_moves_and_leaves_nothing),
        cmocka_unit_test(a_name_is_there_or_not),
        cmocka_unit_test(a_move_may_find_it_moved_already),
        cmocka_unit_test(an_open_write_may_take_effect_later_once_or_never),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
