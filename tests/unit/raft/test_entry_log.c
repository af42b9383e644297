#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sync/raft/engine/entry_log.h"

static struct entry *numbered(uint64_t number)
{
    return entry_new(ENTRY_COMMAND, &number, sizeof number);
}

static uint64_t number_of(const struct entry *e)
{
    uint64_t number;

    memcpy(&number, e->data, sizeof number);
    return number;
}

static void push(struct entry_log *l)
{
    assert_true(entry_log_push(l, numbered(entry_log_last(l) + 1)));
}

static void an_entry_lives_as_long_as_its_last_reference(void **state)
{
    struct entry *e = entry_new(ENTRY_COMMAND, "abc", 3);

    entry_ref(e);
    entry_put(e);
    assert_memory_equal(e->data, "abc", 3);
    entry_put(e);
    entry_put(NULL);
    assert_null(entry_new_reserve(ENTRY_COMMAND, ENTRY_MAX_LEN + 1));
}

static void cuts_both_ends_and_finds_what_is_left(void **state)
{
    struct entry_log l = {.first = 1};

    assert_int_equal(entry_log_last(&l), 0);
    for (int i = 0; i < 100; i++)
        push(&l);
    assert_int_equal(entry_log_last(&l), 100);
    entry_log_cut_head(&l, 41);
    entry_log_cut_tail(&l, 91);
    assert_int_equal(l.first, 41);
    assert_int_equal(entry_log_last(&l), 90);
    assert_null(entry_log_at(&l, 40));
    assert_null(entry_log_at(&l, 91));
    for (uint64_t i = 41; i <= 90; i++)
        assert_int_equal(number_of(entry_log_at(&l, i)), i);
    assert_int_equal(number_of(entry_log_from(&l, 60)[5]), 65);
    assert_int_equal(l.bytes, 50 * (8 + ENTRY_LOG_OVERHEAD));
    entry_log_cut_head(&l, 500); /* no further than there is */
    assert_int_equal(l.n, 0);
    assert_int_equal(l.first, 91);
    assert_int_equal(l.bytes, 0);
    entry_log_reset(&l, 1000);
    push(&l);
    assert_int_equal(entry_log_last(&l), 1000);
    entry_log_deinit(&l);
}

/* As many cuts as pushes: the array must not grow with what was cut. */
static void stays_small_when_its_head_is_cut_as_fast_as_it_grows(void **state)
{
    struct entry_log l = {.first = 1};

    for (int i = 0; i < 1000; i++)
        push(&l);
    for (int i = 0; i < 100000; i++) {
        push(&l);
        entry_log_cut_head(&l, l.first + 1);
    }
    assert_int_equal(l.n, 1000);
    assert_true(l.cap <= 4096);
    for (uint64_t i = l.first; i <= entry_log_last(&l); i++)
        assert_int_equal(number_of(entry_log_at(&l, i)), i);
    entry_log_deinit(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_lives_as_long_as_its_last_reference),
        cmocka_unit_test(cuts_both_ends_and_finds_what_is_left),
        cmocka_unit_test(stays_small_when_its_head_is_cut_as_fast_as_it_grows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
