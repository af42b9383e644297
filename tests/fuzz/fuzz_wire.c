/* Fuzzes everything that a client's or a peer's bytes pass before they mean
 * something: frames, commands with their bodies, results, events, rows. What
 * decodes must encode to something that decodes to the same. */
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/wire/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok)
{
    if (!ok)
        abort();
}

static void try_command(const uint8_t *data, size_t len)
{
    struct command cmd, again;
    struct command_body body, body_again;
    struct buffer b = BUFFER_INIT;

    if (command_decode(data, len, &cmd) != KV_OK)
        return;
    command_encode(&b, &cmd);
    check(b.len == len && memcmp(b.data, data, len) == 0);
    check(command_decode(b.data, b.len, &again) == KV_OK);
    if (cmd.n_groups > 0)
        (void)command_group(&cmd, cmd.n_groups - 1);
    if (command_body_decode(cmd.op, cmd.body, cmd.body_len, &body) == KV_OK) {
        buffer_clear(&b);
        command_body_encode(&b, cmd.op, &body);
        check(b.len == cmd.body_len && (b.len == 0 || memcmp(b.data, cmd.body, b.len) == 0));
        check(command_body_decode(cmd.op, b.data, b.len, &body_again) == KV_OK);
    }
    buffer_deinit(&b);
}

static void try_records(const uint8_t *data, size_t len)
{
    struct cursor c = cursor_of(data, len);
    struct command_result result;
    struct log_row row;
    struct event event;
    struct buffer b = BUFFER_INIT;

    if (event_decode(&c, &event) == KV_OK) {
        event_encode(&b, &event, MESSAGE_PROTOCOL);
        check(memcmp(b.data, data, b.len) == 0);
    }
    c = cursor_of(data, len);
    command_result_decode(&c, &result);
    c = cursor_of(data, len);
    log_row_decode(&c, &row);
    (void)name_check(data, len);
    buffer_deinit(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct frame frame;
    size_t at = 0;
    long n;

    if (size == 0)
        return 0;
    switch (data[0] % 3) {
    case 0:
        data++, size--;
        while (at < size && (n = frame_parse(data + at, size - at, &frame)) > 0) {
            check((size_t)n <= size - at);
            try_command(frame.payload, frame.len);
            try_records(frame.payload, frame.len);
            at += (size_t)n;
        }
        break;
    case 1:
        try_command(data + 1, size - 1);
        break;
    default:
        try_records(data + 1, size - 1);
        break;
    }
    return 0;
}
