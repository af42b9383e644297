/* What a node promises to the mounts on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "kvnode/group/reserve.h"
#include "sync/base/error.h"

#define MIB ((uint64_t)1024 * 1024)

struct fixture {
    struct reserve reserve;
    struct store_usage usage;
    struct reservation a, b, c;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    LIST_INIT(&f->reserve.holders);
    f->usage = (struct store_usage){.bytes = 100 * MIB, .max_bytes = 1124 * MIB, .value_limit = 64 * MIB};
    f->a.trusted = true;
    f->b.uid = f->c.uid = 1000;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    reserve_drop(&f->reserve, &f->a);
    reserve_drop(&f->reserve, &f->b);
    reserve_drop(&f->reserve, &f->c);
    assert_int_equal(f->reserve.bytes, 0);
    assert_true(LIST_EMPTY(&f->reserve.holders));
    free(f);
    return 0;
}

/* What it holds then; UINT64_MAX: refused. */
static uint64_t ask(struct fixture *f, struct reservation *v, uint64_t held, uint64_t least, uint64_t wanted)
{
    uint64_t granted;

    if (reserve_set(&f->reserve, v, &f->usage, held, least, wanted, &granted) != KV_OK)
        return UINT64_MAX;
    assert_int_equal(granted, v->bytes);
    return granted;
}

static void gives_what_is_wanted_where_there_is_plenty(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, &f->a, 0, 10, MIB), MIB);
    assert_int_equal(ask(f, &f->a, MIB, 2 * MIB, 3 * MIB), 3 * MIB);
    assert_int_equal(f->reserve.bytes, 3 * MIB);
    assert_int_equal(ask(f, &f->a, 3 * MIB, 0, MIB), MIB);
}

static void steps_get_small_where_every_byte_counts(void **state)
{
    struct fixture *f = *state;

    f->usage.bytes = f->usage.max_bytes - 1600;
    assert_int_equal(ask(f, &f->a, 0, 0, MIB), 100);
    assert_int_equal(ask(f, &f->a, 100, 1600, MIB), 1600);
    /* The last byte, and no byte more. */
    assert_int_equal(ask(f, &f->a, 1600, 1601, MIB), 1600);
}

static void what_one_holds_is_no_room_for_another(void **state)
{
    struct fixture *f = *state;

    f->usage.bytes = f->usage.max_bytes - 1000;
    assert_int_equal(ask(f, &f->a, 0, 600, 600), 600);
    assert_int_equal(ask(f, &f->b, 0, 401, 401), 0);
    assert_int_equal(ask(f, &f->b, 0, 400, 400), 400);
    reserve_drop(&f->reserve, &f->a);
    assert_int_equal(ask(f, &f->b, 400, 1000, 1000), 1000);
}

/* It was published: the bytes are counted as live now. */
static void what_is_not_held_any_more_is_not_counted_twice(void **state)
{
    struct fixture *f = *state;

    f->usage.bytes = f->usage.max_bytes - 1000;
    assert_int_equal(ask(f, &f->a, 0, 1000, 1000), 1000);
    f->usage.bytes += 700;
    assert_int_equal(ask(f, &f->a, 300, 301, 301), 300);
    assert_int_equal(ask(f, &f->b, 0, 1, 1), 0);
    assert_int_equal(ask(f, &f->a, 300, 0, 0), 0);
    assert_int_equal(ask(f, &f->b, 0, 300, 300), 300);
}

static void a_cluster_beyond_its_limit_gives_nothing_and_takes_back(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, &f->a, 0, 10 * MIB, 10 * MIB), 10 * MIB);
    f->usage.max_bytes = 50 * MIB;
    assert_int_equal(ask(f, &f->a, 10 * MIB, 10 * MIB + 1, 11 * MIB), 10 * MIB);
    assert_int_equal(ask(f, &f->a, 10 * MIB, 0, 5 * MIB), 5 * MIB);
}

static void a_user_does_not_get_all_of_it(void **state)
{
    struct fixture *f = *state;
    uint64_t share = RESERVE_USER_VALUES * f->usage.value_limit;

    assert_int_equal(ask(f, &f->b, 0, share, 2 * share), share);
    assert_int_equal(ask(f, &f->c, 0, 1, 1), UINT64_MAX);
    assert_int_equal(f->c.bytes, 0);
    assert_int_equal(ask(f, &f->a, 0, 100 * MIB, 100 * MIB), 100 * MIB);
    assert_int_equal(ask(f, &f->b, share, 0, share - 5), share - 5);
    assert_int_equal(ask(f, &f->c, 0, 5, 100), 5);
}

static void numbers_near_the_end_do_not_wrap(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, &f->a, UINT64_MAX, UINT64_MAX, UINT64_MAX), 0);
    assert_int_equal(ask(f, &f->b, UINT64_MAX, UINT64_MAX, 0), UINT64_MAX);
    assert_int_equal(ask(f, &f->a, UINT64_MAX, 1, UINT64_MAX) > 0, 1);
    assert_true(f->reserve.bytes <= f->usage.max_bytes - f->usage.bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(gives_what_is_wanted_where_there_is_plenty),
        TEST(steps_get_small_where_every_byte_counts),
        TEST(what_one_holds_is_no_room_for_another),
        TEST(what_is_not_held_any_more_is_not_counted_twice),
        TEST(a_cluster_beyond_its_limit_gives_nothing_and_takes_back),
        TEST(a_user_does_not_get_all_of_it),
        TEST(numbers_near_the_end_do_not_wrap),
    };

    return cmocka_run_group_tests_name("reserve", tests, NULL, NULL);
}
