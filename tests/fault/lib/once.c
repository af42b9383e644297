#include "tests/fault/lib/once.h"

#include <stdio.h>
#include <string.h>

#include "sync/wire/client.h"

int once_write(const struct cluster *c, unsigned i, const char *key, const char *value, unsigned timeout_ms)
{
    const struct command_body body = {.path = (const uint8_t *)key,
                                      .path_len = strlen(key),
                                      .flags = SET_PARENTS,
                                      .mode = 0644,
                                      .value = (const uint8_t *)value,
                                      .value_len = strlen(value)};
    struct buffer bytes = BUFFER_INIT, *b;
    struct command cmd = {.op = COMMAND_SET, .node = ""};
    struct command_result result;
    struct client *client;
    struct cursor answer;
    int rv = client_open(c->nodes[i].socket, CLIENT_ADMIN, "fault", 0, timeout_ms, &client, NULL);

    if (rv != 0)
        return rv;
    command_body_encode(&bytes, COMMAND_SET, &body);
    cmd.body = bytes.data;
    cmd.body_len = bytes.len;
    b = client_queue(client, MESSAGE_WRITE, 1);
    buffer_put_u8(b, 0);
    buffer_put_u32(b, 0);
    buffer_put_u32(b, 0);
    command_encode(b, &cmd);
    client_queue_end(client);
    rv = client_call(client, 1, timeout_ms, &answer, NULL, 0);
    if (rv == 0) {
        command_result_decode(&answer, &result);
        rv = result.code;
    }
    buffer_deinit(&bytes);
    client_close(client);
    return rv;
}

int once_read(const struct cluster *c, unsigned i, const char *key, enum read_at at, unsigned timeout_ms,
              char *out, size_t size)
{
    struct client *client;
    struct cursor answer;
    struct buffer *b;
    const uint8_t *data;
    struct attr attr;
    size_t len = 0;
    int rv = client_open(c->nodes[i].socket, CLIENT_ADMIN, "fault", 0, timeout_ms, &client, NULL);

    out[0] = '\0';
    if (rv != 0)
        return rv;
    b = client_queue(client, MESSAGE_GET, 1);
    buffer_put_u8(b, (uint8_t)at);
    buffer_put_text(b, key);
    buffer_put_u64(b, 0);
    buffer_put_u32(b, READ_LENGTH_MAX);
    buffer_put_u64(b, 0);
    client_queue_end(client);
    rv = client_call(client, 1, timeout_ms, &answer, out, size);
    if (rv == 0) {
        attr_decode(&answer, &attr);
        data = cursor_string(&answer, READ_LENGTH_MAX, &len);
        snprintf(out, size, "%.*s", (int)len, (const char *)data);
    }
    client_close(client);
    return rv;
}
