/* Fuzzes everything that a client's or a node's bytes pass before they mean
 * something: frames, commands with their bodies, the bodies of all messages, events. What
 * decodes must encode to something that decodes to the same. */
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/wire/body.h"

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

static void try_event(const uint8_t *data, size_t len)
{
    struct cursor c = cursor_of(data, len);
    struct event event;
    struct buffer b = BUFFER_INIT;

    if (event_decode(&c, &event) == KV_OK) {
        event_encode(&b, &event, MESSAGE_PROTOCOL);
        check(memcmp(b.data, data, b.len) == 0);
    }
    (void)name_check(data, len);
    buffer_deinit(&b);
}

static void try_request(uint8_t type, const uint8_t *data, size_t len)
{
    union request_body body;
    struct buffer b = BUFFER_INIT;

    if (body_decode_request(type, data, len, &body) == KV_OK) {
        body_encode_request(&b, type, &body);
        check(b.len == len && (len == 0 || memcmp(b.data, data, len) == 0));
    }
    buffer_deinit(&b);
}

/* Every row can be read: the decoder of the list has looked at it. */
static void try_rows(uint8_t type, const union answer_body *body)
{
    const struct rows *rows = type == MESSAGE_READDIR   ? &body->readdir.rows
                              : type == MESSAGE_HISTORY ? &body->history.rows
                              : type == MESSAGE_NAMES   ? &body->names.rows
                              : type == MESSAGE_LOG     ? &body->log.rows
                                                        : NULL;
    struct cursor c;
    uint32_t i;

    if (rows == NULL)
        return;
    c = rows_cursor(rows);
    for (i = 0; i < rows->count; i++) {
        struct readdir_row entry;
        struct version_row version;
        struct names_row name;
        struct log_row row;

        if (type == MESSAGE_READDIR)
            readdir_row_decode(&c, &entry);
        else if (type == MESSAGE_HISTORY)
            version_row_decode(&c, &version);
        else if (type == MESSAGE_NAMES)
            names_row_decode(&c, &name);
        else
            log_row_decode(&c, &row);
    }
    check(cursor_done(&c));
}

/* A text may have been given with a NUL and more behind it, which is left out: so the second time counts. */
static void try_answer(uint8_t type, const uint8_t *data, size_t len)
{
    struct cursor c = cursor_of(data, len);
    union answer_body body;
    struct buffer b = BUFFER_INIT, again = BUFFER_INIT;

    if (body_of(type) != NULL && body_decode_answer(type, &c, &body)) {
        try_rows(type, &body);
        body_encode_answer(&b, type, &body, MESSAGE_PROTOCOL);
        c = cursor_of(b.data, b.len);
        check(body_decode_answer(type, &c, &body) && cursor_done(&c));
        body_encode_answer(&again, type, &body, MESSAGE_PROTOCOL);
        check(again.len == b.len && (b.len == 0 || memcmp(again.data, b.data, b.len) == 0));
    }
    buffer_deinit(&b);
    buffer_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct frame frame;
    size_t at = 0;
    long n;

    if (size == 0)
        return 0;
    switch (data[0] % 4) {
    case 0:
        data++, size--;
        while (at < size && (n = frame_parse(data + at, size - at, &frame)) > 0) {
            check((size_t)n <= size - at);
            try_command(frame.payload, frame.len);
            try_event(frame.payload, frame.len);
            try_request(frame.type, frame.payload, frame.len);
            at += (size_t)n;
        }
        break;
    case 1:
        try_command(data + 1, size - 1);
        break;
    case 2:
        try_event(data + 1, size - 1);
        break;
    default:
        if (size == 1)
            break;
        try_request(data[1], data + 2, size - 2);
        try_answer(data[1], data + 2, size - 2);
        break;
    }
    return 0;
}
