#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "sync/base/histogram.h"

/* Each time is in the slot whose bounds it lies between. */
static void slots_meet(void **state)
{
    uint64_t us;

    (void)state;
    for (us = 0; us < 300000; us++) {
        struct histogram h = {0};
        unsigned i;

        histogram_add(&h, us, 1);
        for (i = 0; h.slots[i] == 0; i++)
            ;
        assert_true(us <= histogram_bound_us(i));
        assert_true(i == 0 || us > histogram_bound_us(i - 1));
    }
    for (us = 1; us < HISTOGRAM_SLOTS; us++)
        assert_true(histogram_bound_us((unsigned)us) > histogram_bound_us((unsigned)us - 1));
    assert_true(histogram_bound_us(4 * HISTOGRAM_DOUBLINGS) == UINT64_C(1) << 25);
}

static void quantiles(void **state)
{
    struct histogram h = {0}, before;
    unsigned i;

    (void)state;
    assert_int_equal(histogram_quantile_us(&h, NULL, 500), 0);
    for (i = 1; i <= 1000; i++)
        histogram_add(&h, i, 1);
    assert_in_range(histogram_quantile_us(&h, NULL, 500), 500, 640);
    assert_in_range(histogram_quantile_us(&h, NULL, 990), 990, 1240);
    before = h;
    assert_int_equal(histogram_quantile_us(&h, &before, 500), 0);
    histogram_add(&h, 20, 7);
    assert_int_equal(histogram_quantile_us(&h, &before, 990), 20);
    assert_int_equal(h.n - before.n, 7);
    assert_int_equal(h.sum_us - before.sum_us, 140);
    histogram_add(&h, UINT64_C(1) << 40, 1000000);
    assert_int_equal(histogram_quantile_us(&h, &before, 999), UINT64_C(1) << 25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(slots_meet), cmocka_unit_test(quantiles)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
