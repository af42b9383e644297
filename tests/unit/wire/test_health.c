#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sync/wire/health.h"

static const struct health sample = {.flags = HEALTH_LOG_FULL | HEALTH_CLOCK_OFF,
                                     .commit = 1,
                                     .last_index = 2,
                                     .first = 3,
                                     .durable = 4,
                                     .wall_ns = -5,
                                     .uptime_ms = 6,
                                     .keys = 7,
                                     .live_bytes = 8,
                                     .max_keys = 9,
                                     .max_bytes = 10,
                                     .disk_free = 11,
                                     .disk_total = UINT64_MAX,
                                     .rss = 13,
                                     .commit_p50_us = 15,
                                     .commit_p99_us = 16,
                                     .http = "[::1]:7080",
                                     .leader = 14,
                                     .links = {2, 65535},
                                     .n_links = 2,
                                     .version = "0.1.0"};

static void comes_back_as_it_was_sent(void **state)
{
    struct buffer b = BUFFER_INIT;
    struct health h;
    struct cursor in;

    health_encode(&b, &sample);
    in = cursor_of(b.data, b.len);
    assert_true(health_decode(&in, &h));
    assert_memory_equal(&h, &sample, sizeof h);
    buffer_deinit(&b);
}

static void nothing_means_that_nothing_is_told(void **state)
{
    const struct health none = {0};
    struct cursor in = cursor_of("", 0);
    struct health h = sample;

    assert_true(health_decode(&in, &h));
    assert_memory_equal(&h, &none, sizeof h);
}

static void skips_what_a_newer_node_adds(void **state)
{
    struct buffer b = BUFFER_INIT;
    struct health h;
    struct cursor in;

    buffer_put_u16(&b, 4);
    buffer_put_u16(&b, 0x7001);
    buffer_put_u64(&b, 1);
    buffer_put_u16(&b, HEALTH_TAG_STRING | 0x7001);
    buffer_put_text(&b, "something else");
    buffer_put_u16(&b, 8); /* keys */
    buffer_put_u64(&b, 42);
    buffer_put_u16(&b, HEALTH_TAG_STRING | 1);
    buffer_put_text(&b, "9.9");
    in = cursor_of(b.data, b.len);
    assert_true(health_decode(&in, &h));
    assert_int_equal(h.keys, 42);
    assert_string_equal(h.version, "9.9");
    buffer_deinit(&b);
}

static void refuses_every_cut_and_what_follows_the_last_field(void **state)
{
    struct buffer b = BUFFER_INIT;
    struct health h;
    struct cursor in;
    size_t n;

    health_encode(&b, &sample);
    buffer_put_u8(&b, 0);
    for (n = 1; n <= b.len; n++) {
        in = cursor_of(b.data, n);
        assert_true(health_decode(&in, &h) == (n == b.len - 1));
    }
    buffer_deinit(&b);
}

static void refuses_more_fields_than_there_can_be(void **state)
{
    struct buffer b = BUFFER_INIT;
    struct health h;
    struct cursor in;

    buffer_put_u16(&b, HEALTH_FIELDS_MAX + 1);
    in = cursor_of(b.data, b.len);
    assert_false(health_decode(&in, &h));
    buffer_deinit(&b);
}

static void keeps_a_version_printable_and_its_links_within_bounds(void **state)
{
    struct buffer b = BUFFER_INIT;
    struct health h;
    struct cursor in;
    char many[2 * (HEALTH_LINKS_MAX + 5)];

    memset(many, 1, sizeof many);
    buffer_put_u16(&b, 2);
    buffer_put_u16(&b, HEALTH_TAG_STRING | 1);
    buffer_put_text(&b, "\033[31m a version that is much longer than it may be");
    buffer_put_u16(&b, HEALTH_TAG_STRING | 2);
    buffer_put_string(&b, many, sizeof many);
    in = cursor_of(b.data, b.len);
    assert_true(health_decode(&in, &h));
    assert_string_equal(h.version, "?[31m?a?version?that?is?much?lo");
    assert_int_equal(h.n_links, HEALTH_LINKS_MAX);
    buffer_deinit(&b);
}

static void takes_the_last_of_a_field_that_comes_twice_and_nothing_of_the_first(void **state)
{
    static const char many[] = {0, 1, 0, 2, 0, 3}, one[] = {0, 4};
    const struct health wanted = {.version = "2", .links = {4}, .n_links = 1, .keys = 6};
    struct buffer b = BUFFER_INIT;
    struct health h;
    struct cursor in;

    buffer_put_u16(&b, 6);
    buffer_put_u16(&b, HEALTH_TAG_STRING | 1);
    buffer_put_text(&b, "1.2.3");
    buffer_put_u16(&b, HEALTH_TAG_STRING | 2);
    buffer_put_string(&b, many, sizeof many);
    buffer_put_u16(&b, 8); /* keys */
    buffer_put_u64(&b, 5);
    buffer_put_u16(&b, HEALTH_TAG_STRING | 1);
    buffer_put_text(&b, "2");
    buffer_put_u16(&b, HEALTH_TAG_STRING | 2);
    buffer_put_string(&b, one, sizeof one);
    buffer_put_u16(&b, 8);
    buffer_put_u64(&b, 6);
    in = cursor_of(b.data, b.len);
    assert_true(health_decode(&in, &h));
    assert_memory_equal(&h, &wanted, sizeof h);
    buffer_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back_as_it_was_sent),
        cmocka_unit_test(nothing_means_that_nothing_is_told),
        cmocka_unit_test(skips_what_a_newer_node_adds),
        cmocka_unit_test(refuses_every_cut_and_what_follows_the_last_field),
        cmocka_unit_test(refuses_more_fields_than_there_can_be),
        cmocka_unit_test(keeps_a_version_printable_and_its_links_within_bounds),
        cmocka_unit_test(takes_the_last_of_a_field_that_comes_twice_and_nothing_of_the_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
