#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "sync/base/error.h"
#include "sync/wire/message.h"

static void events_come_back(void **state)
{
    struct event out, in = {.revision = 1,
                            .wall_ns = 2,
                            .session = 3,
                            .seq = 4,
                            .kind = EVENT_RENAME,
                            .op = COMMAND_RENAME,
                            .last = 1,
                            .ino = 5,
                            .parent = 6,
                            .new_parent = 7,
                            .base_revision = 8,
                            .name = (const uint8_t *)"a",
                            .name_len = 1,
                            .new_name = (const uint8_t *)"bc",
                            .new_name_len = 2,
                            .attr = {.ino = 5, .nlink = 1}};
    struct buffer b = BUFFER_INIT;
    struct cursor c;
    size_t n;

    event_encode(&b, &in, MESSAGE_PROTOCOL);
    c = cursor_of(b.data, b.len);
    assert_int_equal(event_decode(&c, &out), KV_OK);
    assert_true(cursor_done(&c));
    assert_int_equal(out.new_parent, 7);
    assert_int_equal(out.new_name_len, 2);
    assert_memory_equal(out.new_name, "bc", 2);
    assert_int_equal(out.attr.nlink, 1);
    for (n = 0; n < b.len; n++) {
        c = cursor_of(b.data, n);
        assert_int_equal(event_decode(&c, &out), KV_E_PROTOCOL);
    }
    b.data[32] = 99; /* kind */
    c = cursor_of(b.data, b.len);
    assert_int_equal(event_decode(&c, &out), KV_E_PROTOCOL);
    buffer_deinit(&b);
}

static void version_and_log_rows_come_back(void **state)
{
    struct log_row out, in = {.row = {.version = 3,
                                      .revision = 4,
                                      .size = 5,
                                      .deleted = 1,
                                      .current = 1,
                                      .op = COMMAND_SET,
                                      .author_uid = 1000,
                                      .author_node = "n1"},
                              .key = (const uint8_t *)"app/color",
                              .key_len = 9};
    struct buffer b = BUFFER_INIT;
    struct cursor c;

    log_row_encode(&b, &in);
    c = cursor_of(b.data, b.len);
    log_row_decode(&c, &out);
    assert_true(cursor_done(&c));
    assert_int_equal(out.row.version, 3);
    assert_int_equal(out.row.deleted, 1);
    assert_string_equal(out.row.author_node, "n1");
    assert_memory_equal(out.key, "app/color", 9);
    assert_int_equal(out.from_len, 0);
    buffer_deinit(&b);
}

static void every_operation_has_a_name(void **state)
{
    uint8_t op;

    for (op = 1; op < COMMAND_OP_COUNT; op++)
        assert_string_not_equal(command_op_name(op), "?");
    assert_string_equal(command_op_name(COMMAND_OP_COUNT), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_come_back),
        cmocka_unit_test(version_and_log_rows_come_back),
        cmocka_unit_test(every_operation_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
