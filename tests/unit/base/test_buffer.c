#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "sync/base/buffer.h"
#include "sync/base/digest.h"
#include "sync/base/error.h"

static void gives_back_what_was_put(void **state)
{
    struct buffer b = BUFFER_INIT;
    struct cursor c;
    size_t len;
    const uint8_t *s;

    buffer_put_u8(&b, 0xfe);
    buffer_put_u16(&b, 0xfedc);
    buffer_put_u32(&b, 0xfedcba98);
    buffer_put_u64(&b, 0xfedcba9876543210);
    buffer_put_text(&b, "hello");
    buffer_put_string(&b, NULL, 0);
    assert_false(b.failed);
    c = cursor_of(b.data, b.len);
    assert_int_equal(cursor_u8(&c), 0xfe);
    assert_int_equal(cursor_u16(&c), 0xfedc);
    assert_int_equal(cursor_u32(&c), 0xfedcba98);
    assert_true(cursor_u64(&c) == 0xfedcba9876543210);
    s = cursor_string(&c, 5, &len);
    assert_int_equal(len, 5);
    assert_memory_equal(s, "hello", 5);
    s = cursor_string(&c, 0, &len);
    assert_non_null(s);
    assert_int_equal(len, 0);
    assert_true(cursor_done(&c));
    buffer_deinit(&b);
}

static void is_in_network_byte_order(void **state)
{
    struct buffer b = BUFFER_INIT;

    buffer_put_u32(&b, 0x01020304);
    buffer_set_u32(&b, 0, 0x05060708);
    assert_memory_equal(b.data, "\x05\x06\x07\x08", 4);
    buffer_deinit(&b);
}

static void fails_at_every_truncation_and_stays_failed(void **state)
{
    struct buffer b = BUFFER_INIT;
    size_t n, len;

    buffer_put_u16(&b, 7);
    buffer_put_text(&b, "abc");
    buffer_put_u64(&b, 9);
    for (n = 0; n < b.len; n++) {
        struct cursor c = cursor_of(b.data, n);

        cursor_u16(&c);
        cursor_string(&c, 100, &len);
        cursor_u64(&c);
        assert_true(c.failed);
        assert_int_equal(cursor_u8(&c), 0);
        assert_null(cursor_bytes(&c, 0));
        assert_false(cursor_done(&c));
    }
    buffer_deinit(&b);
}

static void refuses_a_string_longer_than_the_limit_or_the_bytes(void **state)
{
    struct cursor c = cursor_of("\0\0\0\4abcd", 8);
    size_t len = 99;

    assert_null(cursor_string(&c, 3, &len));
    assert_int_equal(len, 0);
    c = cursor_of("\xff\xff\xff\xff"
                  "abcd",
                  8);
    assert_null(cursor_string(&c, SIZE_MAX, &len));
    assert_true(c.failed);
}

static void consumes_from_the_front(void **state)
{
    struct buffer b = BUFFER_INIT;

    buffer_put_bytes(&b, "abcdef", 6);
    buffer_consume(&b, 4);
    assert_int_equal(b.len, 2);
    assert_memory_equal(b.data, "ef", 2);
    buffer_consume(&b, 2);
    assert_int_equal(b.len, 0);
    buffer_deinit(&b);
}

static void refuses_impossible_growth(void **state)
{
    struct buffer b = BUFFER_INIT;

    assert_false(buffer_reserve(&b, SIZE_MAX / 2));
    assert_true(b.failed);
    buffer_put_u8(&b, 1);
    assert_int_equal(b.len, 0);
    buffer_deinit(&b);
}

static void every_error_has_a_text_and_an_errno(void **state)
{
    int code;

    for (code = 1; code < KV_E_COUNT; code++) {
        assert_string_not_equal(error_text(code), "unknown error");
        assert_int_not_equal(error_errno(code), 0);
    }
    assert_string_equal(error_text(-5), "unknown error");
    assert_string_equal(error_text(KV_E_COUNT), "unknown error");
}

static bool is_counted(const struct buffer *b)
{
    for (size_t i = 0; i < b->len; i++)
        if (b->data[i] != (uint8_t)(i >> 10))
            return false;
    return true;
}

static void a_large_one_keeps_its_bytes_as_it_grows_and_sheds(void **state)
{
    struct buffer b = BUFFER_INIT;
    uint8_t piece[1024];

    for (unsigned i = 0; i < 9 * 1024; i++) {
        memset(piece, (int)i, sizeof piece);
        buffer_put_bytes(&b, piece, sizeof piece);
    }
    assert_false(b.failed);
    assert_int_equal(b.len, 9 << 20);
    assert_true(is_counted(&b));
    while (buffer_shed(&b, 1 << 20)) {
        assert_in_range(b.cap, 1, 16 << 20);
        assert_true(b.len <= b.cap && is_counted(&b));
    }
    assert_null(b.data);
    buffer_put_u8(&b, 7);
    assert_int_equal(b.len, 1);
    assert_false(buffer_shed(&b, 1 << 20));
    assert_int_equal(b.cap, 0);
}

static void a_stream_has_the_digest_of_the_whole(void **state)
{
    struct digest_stream *s = digest_stream_new();

    digest_stream_add(s, "hello ", 6);
    digest_stream_add(s, "world", 5);
    assert_true(digest_stream_value(s) == digest64(0, "hello world", 11));
    assert_true(digest64(1, "x", 1) != digest64(0, "x", 1));
    digest_stream_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_back_what_was_put),
        cmocka_unit_test(is_in_network_byte_order),
        cmocka_unit_test(fails_at_every_truncation_and_stays_failed),
        cmocka_unit_test(refuses_a_string_longer_than_the_limit_or_the_bytes),
        cmocka_unit_test(consumes_from_the_front),
        cmocka_unit_test(refuses_impossible_growth),
        cmocka_unit_test(every_error_has_a_text_and_an_errno),
        cmocka_unit_test(a_large_one_keeps_its_bytes_as_it_grows_and_sheds),
        cmocka_unit_test(a_stream_has_the_digest_of_the_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
