#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "sync/wire/frame.h"

static void comes_back_as_it_was_sent(void **state)
{
    struct buffer b = BUFFER_INIT;
    struct frame f;
    size_t at = frame_begin(&b, 9, 3, 77);

    buffer_put_text(&b, "payload");
    frame_end(&b, at);
    assert_int_equal(frame_parse(b.data, b.len, &f), b.len);
    assert_int_equal(f.type, 9);
    assert_int_equal(f.group, 3);
    assert_int_equal(f.id, 77);
    assert_int_equal(f.len, 11);
    buffer_deinit(&b);
}

static void waits_for_more_at_every_cut(void **state)
{
    struct buffer b = BUFFER_INIT;
    struct frame f;
    size_t n, at = frame_begin(&b, 1, 0, 1);

    buffer_put_text(&b, "abc");
    frame_end(&b, at);
    for (n = 0; n < b.len; n++)
        assert_int_equal(frame_parse(b.data, n, &f), 0);
    buffer_deinit(&b);
}

static void rejects_a_frame_longer_than_the_limit(void **state)
{
    uint8_t head[16] = {0, 0x11, 0, 13, FRAME_VERSION};
    struct frame f;

    assert_int_equal(frame_parse(head, 4, &f), -EPROTO);
    assert_int_equal(frame_parse("GET / HTTP/1.1\r\n\r\n", 18, &f), -EPROTO);
}

static void accepts_a_frame_of_exactly_the_limit(void **state)
{
    struct buffer b = BUFFER_INIT;
    struct frame f;
    size_t at = frame_begin(&b, 1, 0, 1);

    assert_true(buffer_reserve(&b, FRAME_PAYLOAD_MAX));
    for (size_t i = 0; i < FRAME_PAYLOAD_MAX / 8; i++)
        buffer_put_u64(&b, i);
    frame_end(&b, at);
    assert_false(b.failed);
    assert_int_equal(frame_parse(b.data, b.len, &f), b.len);
    buffer_clear(&b);
    at = frame_begin(&b, 1, 0, 1);
    for (size_t i = 0; i < FRAME_PAYLOAD_MAX / 8 + 1; i++)
        buffer_put_u64(&b, i);
    frame_end(&b, at);
    assert_true(b.failed);
    buffer_deinit(&b);
}

static void rejects_a_length_shorter_than_the_header(void **state)
{
    uint8_t head[16] = {0, 0, 0, 11, FRAME_VERSION};
    struct frame f;

    assert_int_equal(frame_parse(head, sizeof head, &f), -EPROTO);
}

static void rejects_another_version_as_soon_as_it_is_seen(void **state)
{
    uint8_t head[5] = {0, 0, 0, 12, FRAME_VERSION + 1};
    struct frame f;

    assert_int_equal(frame_parse(head, 4, &f), 0);
    assert_int_equal(frame_parse(head, 5, &f), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back_as_it_was_sent),
        cmocka_unit_test(waits_for_more_at_every_cut),
        cmocka_unit_test(rejects_a_frame_longer_than_the_limit),
        cmocka_unit_test(accepts_a_frame_of_exactly_the_limit),
        cmocka_unit_test(rejects_a_length_shorter_than_the_header),
        cmocka_unit_test(rejects_another_version_as_soon_as_it_is_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
