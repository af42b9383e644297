#include "tests/fault/lib/caller.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"

#define TRY_MS 3000
#define CONNECT_MS 1000

void caller_init(struct caller *c, const struct cluster *cluster, unsigned first)
{
    *c = (struct caller){.cluster = cluster, .at = first};
}

void caller_deinit(struct caller *c)
{
    client_close(c->client);
    c->client = NULL;
}

static void drop(struct caller *c)
{
    client_close(c->client);
    c->client = NULL;
    if (!c->pinned)
        c->at = (c->at + 1) % c->cluster->n;
}

static unsigned left(uint64_t deadline_ms)
{
    uint64_t now = clock_boot_ms();

    return now < deadline_ms ? (unsigned)(deadline_ms - now) : 0;
}

static bool connected(struct caller *c, uint64_t deadline_ms)
{
    while (c->client == NULL) {
        unsigned ms = left(deadline_ms);

        if (ms == 0)
            return false;
        if (client_open(c->cluster->nodes[c->at].socket, CLIENT_MOUNT, "fault", c->seen,
                        ms < CONNECT_MS ? ms : CONNECT_MS, &c->client, &c->node) == 0) {
            c->reconnects++;
            return true;
        }
        drop(c);
        pause_ms(5);
    }
    return true;
}

/* Means: nothing was done, ask again. */
static bool is_for_now(int rv)
{
    return rv == KV_E_UNAVAILABLE || rv == KV_E_BUSY || rv == KV_E_NOTLEADER || rv == KV_E_ROFS;
}

/* repeat: a lost connection or an unknown outcome is tried again as well. */
static int ask(struct caller *c, enum message_type type, const union request_body *body, bool repeat,
               unsigned timeout_ms, union answer_body *answer_out)
{
    union answer_body ignored;
    uint64_t deadline = clock_boot_ms() + timeout_ms;
    int last = -ETIMEDOUT;
    bool sent = false;

    while (connected(c, deadline)) {
        unsigned ms = left(deadline);
        struct cursor in;
        int rv;

        client_ask(c->client, type, ++c->id, body);
        c->resent += sent;
        sent = true;
        rv = client_call(c->client, c->id, ms < TRY_MS || c->pinned ? ms : TRY_MS, &in, c->detail,
                         sizeof c->detail);
        if (rv == 0 && !body_decode_answer((uint8_t)type, &in, answer_out != NULL ? answer_out : &ignored))
            return -EPROTO;
        if (rv == KV_E_NOSPC && !c->pinned && left(deadline) > 0) { /* this node's disk */
            last = rv;
            drop(c);
            pause_ms(10);
            continue;
        }
        if (rv >= 0 && !is_for_now(rv) && !(rv == KV_E_UNKNOWN && repeat))
            return rv;
        if (rv < 0 && !repeat)
            return rv;
        if (rv < 0 || rv == KV_E_ROFS || rv == KV_E_UNAVAILABLE)
            drop(c);
        if (left(deadline) == 0)
            return is_for_now(rv) && !repeat ? rv : -ETIMEDOUT;
        last = -ETIMEDOUT;
        pause_ms(10);
    }
    return last;
}

int caller_ask(struct caller *c, enum message_type type, const union request_body *body, unsigned timeout_ms,
               union answer_body *answer_out)
{
    return ask(c, type, body, true, timeout_ms, answer_out);
}

static int write_one(struct caller *c, enum command_op op, uint64_t seq, uint16_t flags, const void *bytes,
                     size_t len, unsigned timeout_ms, struct command_result *result_out)
{
    struct buffer b = BUFFER_INIT;
    union request_body request;
    union answer_body answer;
    const struct command cmd = {.op = (uint8_t)op,
                                .flags = flags,
                                .session = c->session,
                                .seq = seq,
                                .acked_below = c->session != 0 ? c->seq : 0,
                                .node = "",
                                .body = bytes,
                                .body_len = len};
    int rv;

    memset(result_out, 0, sizeof *result_out);
    command_encode(&b, &cmd);
    request.write = (struct write_request){.command = bytes_of(b.data, b.len)};
    rv = ask(c, MESSAGE_WRITE, &request, c->session != 0 || op == COMMAND_REGISTER, timeout_ms, &answer);
    buffer_deinit(&b);
    if (rv != 0)
        return rv;
    *result_out = answer.write;
    if (result_out->revision > c->seen)
        c->seen = result_out->revision;
    return result_out->code;
}

int caller_write(struct caller *c, enum command_op op, const struct command_body *body, unsigned timeout_ms,
                 struct command_result *result_out)
{
    uint64_t deadline = clock_boot_ms() + timeout_ms;
    struct buffer b = BUFFER_INIT;
    uint64_t seq = c->session != 0 ? ++c->seq : 0;
    uint16_t flags = command_body_flags((uint8_t)op, body);
    int rv;

    command_body_encode(&b, (uint8_t)op, body);
    if (b.len <= COMMAND_PART_SIZE) {
        rv = write_one(c, op, seq, flags, b.data, b.len, timeout_ms, result_out);
        buffer_deinit(&b);
        return rv;
    }
    do {
        size_t at = 0;
        uint32_t part;

        rv = 0;
        for (part = 0; rv == 0 && b.len - at > COMMAND_PART_SIZE; part++) {
            struct buffer piece = BUFFER_INIT;

            command_body_encode(
                &piece, COMMAND_PART,
                &(struct command_body){.part = part, .value = b.data + at, .value_len = COMMAND_PART_SIZE});
            rv = write_one(c, COMMAND_PART, seq, 0, piece.data, piece.len, left(deadline), result_out);
            buffer_deinit(&piece);
            at += COMMAND_PART_SIZE;
        }
        if (rv == 0) {
            struct buffer last = BUFFER_INIT;

            command_last_piece_encode(&last, part, 0, b.data + at, b.len - at);
            rv =
                write_one(c, op, seq, flags | COMMAND_PARTS, last.data, last.len, left(deadline), result_out);
            buffer_deinit(&last);
        }
    } while (rv == KV_E_PART && left(deadline) > 0);
    buffer_deinit(&b);
    return rv;
}

int caller_register(struct caller *c, unsigned timeout_ms)
{
    uint8_t nonce[16];
    struct command_body body = {.nonce = nonce, .name = (const uint8_t *)"fault", .name_len = 5};
    struct command_result result;
    struct buffer b = BUFFER_INIT;
    int rv;

    if (getrandom(nonce, sizeof nonce, 0) != (ssize_t)sizeof nonce)
        return -EIO;
    c->session = 0;
    c->seq = 0;
    command_body_encode(&b, COMMAND_REGISTER, &body);
    rv = write_one(c, COMMAND_REGISTER, 0, 0, b.data, b.len, timeout_ms, &result);
    buffer_deinit(&b);
    if (rv == 0)
        c->session = result.session;
    return rv;
}

int caller_set(struct caller *c, const char *key, const void *value, size_t len, unsigned timeout_ms,
               struct command_result *result_out)
{
    const struct command_body body = {.path = (const uint8_t *)key,
                                      .path_len = strlen(key),
                                      .flags = SET_PARENTS,
                                      .mode = 0644,
                                      .value = value,
                                      .value_len = len};

    return caller_write(c, COMMAND_SET, &body, timeout_ms, result_out);
}

int caller_append(struct caller *c, uint64_t ino, const void *data, size_t len, unsigned timeout_ms,
                  struct command_result *result_out)
{
    struct buffer edits = BUFFER_INIT;
    struct edit e = {.kind = EDIT_APPEND, .data = data, .len = len};
    struct command_body body = {.ino = ino};
    int rv;

    edit_encode(&edits, &e);
    body.edits = edits.data;
    body.edits_len = edits.len;
    rv = caller_write(c, COMMAND_PUBLISH, &body, timeout_ms, result_out);
    buffer_deinit(&edits);
    return rv;
}

static int get(struct caller *c, const char *key, enum read_at at, uint64_t offset, uint64_t content_revision,
               unsigned timeout_ms, struct attr *attr_out, const uint8_t **data_out, size_t *len_out)
{
    const union request_body request = {.get = {.at = (uint8_t)at,
                                                .path = bytes_text(key),
                                                .offset = offset,
                                                .length = READ_LENGTH_MAX,
                                                .content_revision = content_revision}};
    union answer_body answer;
    int rv = caller_ask(c, MESSAGE_GET, &request, timeout_ms, &answer);

    if (rv != 0)
        return rv;
    *attr_out = answer.get.attr;
    *data_out = answer.get.data.data;
    *len_out = answer.get.data.len;
    if (attr_out->revision > c->seen)
        c->seen = attr_out->revision;
    return 0;
}

int caller_get(struct caller *c, const char *key, enum read_at at, unsigned timeout_ms, struct attr *attr_out,
               char *data_out, size_t size, size_t *len_out)
{
    const uint8_t *data;
    size_t len;
    int rv = get(c, key, at, 0, 0, timeout_ms, attr_out, &data, &len);

    if (rv != 0)
        return rv;
    len = len < size ? len : size;
    memcpy(data_out, data, len);
    *len_out = len;
    return 0;
}

int caller_get_all(struct caller *c, const char *key, unsigned timeout_ms, struct attr *attr_out,
                   struct buffer *data_out)
{
    uint64_t deadline = clock_boot_ms() + timeout_ms, revision = 0;
    const uint8_t *data;
    size_t len;
    int rv;

    buffer_clear(data_out);
    do {
        rv = get(c, key, READ_LINEARIZABLE, data_out->len, revision, left(deadline), attr_out, &data, &len);
        if (rv == KV_E_STALE && left(deadline) > 0) { /* it changed in between: from the start */
            buffer_clear(data_out);
            revision = 0;
            rv = 0;
            continue;
        }
        if (rv == 0) {
            revision = attr_out->content_revision;
            buffer_put_bytes(data_out, data, len);
        }
    } while (rv == 0 && (revision == 0 || data_out->len < attr_out->size));
    return rv;
}
