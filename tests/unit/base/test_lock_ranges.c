/* The ranges of one owner, against a model that has a mode for every byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sync/base/lock_ranges.h"

/* "s0-4 x5-9" (static). */
static const char *text(const struct lock_ranges *r)
{
    static char out[1024];
    size_t at = 0;

    out[0] = '\0';
    for (size_t i = 0; i < r->n; i++)
        at += (size_t)snprintf(out + at, sizeof out - at, "%s%c%llu-%llu", i > 0 ? " " : "",
                               r->at[i].mode == LOCK_EXCLUSIVE ? 'x' : 's',
                               (unsigned long long)r->at[i].start, (unsigned long long)r->at[i].end);
    return out;
}

static void set(struct lock_ranges *r, uint64_t start, uint64_t end, enum lock_mode mode)
{
    size_t after = lock_ranges_after(r, start, end, mode);

    assert_int_equal(lock_ranges_set(r, start, end, mode), 0);
    assert_int_equal(r->n, after);
}

static void ranges_split_merge_and_change(void **state)
{
    struct lock_ranges r = {0};

    set(&r, 10, 19, LOCK_SHARED);
    assert_string_equal(text(&r), "s10-19");
    set(&r, 20, 29, LOCK_SHARED); /* touches */
    assert_string_equal(text(&r), "s10-29");
    set(&r, 0, 9, LOCK_SHARED);
    assert_string_equal(text(&r), "s0-29");
    set(&r, 5, 6, LOCK_EXCLUSIVE); /* an upgrade in the middle */
    assert_string_equal(text(&r), "s0-4 x5-6 s7-29");
    set(&r, 6, 6, LOCK_SHARED); /* a downgrade */
    assert_string_equal(text(&r), "s0-4 x5-5 s6-29");
    set(&r, 5, 5, LOCK_SHARED);
    assert_string_equal(text(&r), "s0-29");
    set(&r, 10, 19, LOCK_NONE); /* a hole */
    assert_string_equal(text(&r), "s0-9 s20-29");
    set(&r, 5, 24, LOCK_EXCLUSIVE); /* over the hole */
    assert_string_equal(text(&r), "s0-4 x5-24 s25-29");
    set(&r, 0, 29, LOCK_SHARED);
    assert_string_equal(text(&r), "s0-29");
    set(&r, 0, 4, LOCK_NONE);
    set(&r, 25, LOCK_RANGE_END, LOCK_NONE);
    assert_string_equal(text(&r), "s5-24");
    set(&r, 0, LOCK_RANGE_END, LOCK_EXCLUSIVE);
    set(&r, 7, 7, LOCK_NONE);
    assert_true(lock_ranges_cover(&r, 8, LOCK_RANGE_END, LOCK_EXCLUSIVE));
    assert_false(lock_ranges_cover(&r, 6, 8, LOCK_SHARED));
    set(&r, 0, LOCK_RANGE_END, LOCK_NONE);
    assert_int_equal(r.n, 0);
    lock_ranges_deinit(&r);
}

#define BYTES 24

static void it_is_as_a_mode_for_every_byte(void **state)
{
    struct lock_ranges r = {0};
    enum lock_mode model[BYTES + 1] = {0};
    unsigned seed = 7;

    for (int i = 0; i < 200000; i++) {
        uint64_t a = (uint64_t)rand_r(&seed) % BYTES, b = (uint64_t)rand_r(&seed) % BYTES;
        enum lock_mode mode = (enum lock_mode)(rand_r(&seed) % 3), seen[BYTES] = {0};
        uint64_t start = a < b ? a : b, end = a < b ? b : a;
        bool covered = true, conflict_s = false, conflict_x = false;
        size_t runs = 0;

        set(&r, start, end, mode);
        for (uint64_t k = start; k <= end; k++)
            model[k] = mode;
        for (size_t k = 0; k < r.n; k++) {
            assert_true(k == 0 || r.at[k - 1].end < r.at[k].start);
            for (uint64_t at = r.at[k].start; at <= r.at[k].end; at++)
                seen[at] = r.at[k].mode;
        }
        for (uint64_t k = 0; k < BYTES; k++) {
            assert_int_equal(seen[k], model[k]);
            runs += model[k] != LOCK_NONE && model[k] != (k > 0 ? model[k - 1] : LOCK_NONE);
        }
        assert_int_equal(r.n, runs);
        a = (uint64_t)rand_r(&seed) % BYTES;
        b = a + (uint64_t)rand_r(&seed) % (BYTES - a);
        for (uint64_t k = a; k <= b; k++) {
            covered = covered && model[k] >= LOCK_EXCLUSIVE;
            conflict_s = conflict_s || model[k] == LOCK_EXCLUSIVE;
            conflict_x = conflict_x || model[k] != LOCK_NONE;
        }
        assert_int_equal(lock_ranges_cover(&r, a, b, LOCK_EXCLUSIVE), covered);
        assert_int_equal(lock_ranges_conflict(&r, a, b, LOCK_SHARED) != NULL, conflict_s);
        assert_int_equal(lock_ranges_conflict(&r, a, b, LOCK_EXCLUSIVE) != NULL, conflict_x);
    }
    lock_ranges_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_split_merge_and_change),
        cmocka_unit_test(it_is_as_a_mode_for_every_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
