#include "tests/fault/lib/once.h"

#include <errno.h>
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
    union answer_body answer;
    struct client *client;
    struct cursor in;
    int rv = client_open(c->nodes[i].socket, CLIENT_ADMIN, "fault", 0, timeout_ms, &client, NULL);

    if (rv != 0)
        return rv;
    command_body_encode(&bytes, COMMAND_SET, &body);
    cmd.body = bytes.data;
    cmd.body_len = bytes.len;
    b = client_queue(client, MESSAGE_WRITE, 1);
    body_encode_request(b, MESSAGE_WRITE, NULL);
    command_encode(b, &cmd);
    client_queue_end(client);
    rv = client_call(client, 1, timeout_ms, &in, NULL, 0);
    if (rv == 0)
        rv = body_decode_answer(MESSAGE_WRITE, &in, &answer) ? answer.write.code : -EPROTO;
    buffer_deinit(&bytes);
    client_close(client);
    return rv;
}

int once_read(const struct cluster *c, unsigned i, const char *key, enum read_at at, unsigned timeout_ms,
              char *out, size_t size)
{
    const union request_body request = {
        .get = {.at = (uint8_t)at, .path = bytes_text(key), .length = READ_LENGTH_MAX}};
    union answer_body answer;
    struct client *client;
    struct cursor in;
    int rv = client_open(c->nodes[i].socket, CLIENT_ADMIN, "fault", 0, timeout_ms, &client, NULL);

    out[0] = '\0';
    if (rv != 0)
        return rv;
    client_ask(client, MESSAGE_GET, 1, &request);
    rv = client_call(client, 1, timeout_ms, &in, out, size);
    if (rv == 0 && !body_decode_answer(MESSAGE_GET, &in, &answer))
        rv = -EPROTO;
    if (rv == 0)
        snprintf(out, size, "%.*s", (int)answer.get.data.len, (const char *)answer.get.data.data);
    client_close(client);
    return rv;
}
