/* Requests of clients: which part of the node answers what, and what of them is answered here. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/client/client_conn.h"
#include "kvnode/client/control.h"
#include "kvnode/client/past.h"
#include "kvnode/group/events.h"
#include "kvnode/group/reads.h"
#include "sync/base/error.h"

static void on_hello_ready(void *arg, int code)
{
    struct request *r = arg;
    struct client_conn *c = r->conn;
    struct node *n = c->node;
    struct store_usage usage;
    struct buffer *out;
    size_t at;

    out = answer_begin(c, r->id, &at);
    if (out != NULL) {
        store_usage(n->group->store, &usage);
        buffer_put_text(out, n->config->name);
        buffer_put_u64(out, n->config->cluster_id);
        buffer_put_u64(out, store_applied(n->group->store));
        buffer_put_u32(out, COMMAND_PART_SIZE);
        buffer_put_u64(out, usage.value_limit);
        buffer_put_u8(out, c->who.trusted);
        buffer_put_u16(out, c->protocol);
        answer_end(c, at, code, "this node has not caught up with what the client has seen");
    }
    request_end(r);
}

static int on_hello(struct client_conn *c, const struct frame *frame)
{
    struct cursor in = cursor_of(frame->payload, frame->len);
    size_t magic_len, name_len;
    const uint8_t *magic = cursor_string(&in, 64, &magic_len);
    uint8_t kind = cursor_u8(&in);
    const uint8_t *name = cursor_string(&in, 255, &name_len);
    uint64_t after = cursor_u64(&in);
    uint16_t protocol = in.len > 0 ? cursor_u16(&in) : 1;
    struct request *r;

    if (!cursor_done(&in) || magic_len != strlen(MESSAGE_MAGIC) ||
        memcmp(magic, MESSAGE_MAGIC, magic_len) != 0 || (kind != CLIENT_ADMIN && kind != CLIENT_MOUNT) ||
        protocol == 0) {
        answer_code(c, frame->id, KV_E_PROTOCOL, "not a HELLO of this protocol");
        return -EPROTO;
    }
    if (node_no_service(c->node) != NULL && kind == CLIENT_MOUNT) {
        answer_code(c, frame->id, KV_E_UNAVAILABLE, node_no_service(c->node)); /* it has others to go to */
        return 0;
    }
    c->hello = true;
    c->kind = (enum client_kind)kind;
    c->protocol = protocol < MESSAGE_PROTOCOL ? protocol : MESSAGE_PROTOCOL;
    snprintf(c->name, sizeof c->name, "%.*s", (int)name_len, (const char *)name);
    r = request_new(c, frame);
    if (r == NULL)
        return -ENOMEM;
    reads_after(c->node->group->reads, after, on_hello_ready, r);
    return 0;
}

static void answer_read(struct client_conn *c, uint64_t id, uint8_t type, struct cursor *in, int code)
{
    struct buffer *out;
    size_t at;

    out = answer_begin(c, id, &at);
    if (out == NULL)
        return;
    if (code == KV_OK)
        code = serve_read(c, type, in, out);
    answer_end(c, at, code, code == KV_E_BUSY ? c->why : NULL);
}

static void on_read_ready(void *arg, int code)
{
    struct request *r = arg;
    struct cursor in = cursor_of(r->body, r->len);

    cursor_u8(&in);
    if (r->type == MESSAGE_BARRIER)
        in = cursor_of("", 0);
    answer_read(r->conn, r->id, r->type, &in, code);
    request_end(r);
}

static int on_read(struct client_conn *c, const struct frame *frame)
{
    struct cursor in = cursor_of(frame->payload, frame->len);
    uint8_t at = READ_LINEARIZABLE;
    struct request *r;

    if (frame->type == MESSAGE_STATFS || frame->type == MESSAGE_CLOSE)
        at = READ_LOCAL;
    else if (frame->type != MESSAGE_BARRIER)
        at = cursor_u8(&in);
    if (in.failed || at > READ_LINEARIZABLE) {
        answer_code(c, frame->id, KV_E_PROTOCOL, "malformed read");
        return -EPROTO;
    }
    if (at == READ_LOCAL) {
        answer_read(c, frame->id, frame->type, &in, KV_OK);
        return 0;
    }
    r = request_new(c, frame);
    if (r == NULL)
        return -ENOMEM;
    reads_start(c->node->group->reads, on_read_ready, r);
    return 0;
}

static int on_subscribe(struct client_conn *c, const struct frame *frame)
{
    struct cursor in = cursor_of(frame->payload, frame->len);
    uint64_t after = cursor_u64(&in), from;
    struct buffer *out;
    size_t at;

    if (!cursor_done(&in) || c->subscriber != NULL) {
        answer_code(c, frame->id, KV_E_PROTOCOL, "one subscription a connection");
        return -EPROTO;
    }
    c->subscriber = events_subscribe(c->node->group->events, c->stream, c->protocol, frame->id, after,
                                     store_applied(c->node->group->store), &from);
    if (c->subscriber == NULL)
        return -ENOMEM;
    if (!c->who.trusted && c->who.uid != 0)
        events_redact(c->subscriber, client_redact, c);
    out = answer_begin(c, frame->id, &at);
    if (out == NULL)
        return 0;
    buffer_put_u64(out, from);
    answer_end(c, at, KV_OK, NULL);
    events_replay(c->node->group->events, c->subscriber);
    return 0;
}

static int on_text(struct client_conn *c, const struct frame *frame)
{
    struct buffer *out;
    char *text = NULL;
    size_t at;
    int code;

    code = control_text(c->node, c->who.trusted, frame->type, frame->payload, frame->len, &text);
    out = answer_begin(c, frame->id, &at);
    if (out != NULL) {
        if (code == KV_OK)
            buffer_put_text(out, text);
        answer_end(c, at, code, text);
    }
    free(text);
    return 0;
}

static int on_reserve(struct client_conn *c, const struct frame *frame)
{
    struct cursor in = cursor_of(frame->payload, frame->len);
    uint64_t held = cursor_u64(&in), least = cursor_u64(&in), wanted = cursor_u64(&in), granted;
    struct store_usage usage;
    struct buffer *out;
    size_t at;
    int code;

    if (!cursor_done(&in)) {
        answer_code(c, frame->id, KV_E_PROTOCOL, "malformed request");
        return -EPROTO;
    }
    store_usage(c->node->group->store, &usage);
    c->reservation.uid = c->who.uid;
    c->reservation.trusted = c->who.trusted;
    code = reserve_set(&c->node->group->reserve, &c->reservation, &usage, held, least, wanted, &granted);
    out = answer_begin(c, frame->id, &at);
    if (out != NULL) {
        buffer_put_u64(out, granted);
        answer_end(c, at, code, "this user has too much room reserved on this node");
    }
    return 0;
}

static int on_past(struct client_conn *c, const struct frame *frame)
{
    return past_request(c->node->past, c, frame);
}

/* Besides the reads (serve_is_read()). */
static int (*const handlers[MESSAGE_REQUEST_COUNT])(struct client_conn *, const struct frame *) = {
    [MESSAGE_HELLO] = on_hello,     [MESSAGE_WRITE] = serve_write, [MESSAGE_SUBSCRIBE] = on_subscribe,
    [MESSAGE_RESERVE] = on_reserve, [MESSAGE_HISTORY] = on_past,   [MESSAGE_VERSION] = on_past,
    [MESSAGE_NAMES] = on_past,      [MESSAGE_LOG] = on_past,       [MESSAGE_STATUS] = on_text,
    [MESSAGE_SETTINGS] = on_text,   [MESSAGE_ADMIN] = on_text,
};

int serve_request(struct client_conn *c, const struct frame *frame)
{
    if (frame->group != NODE_GROUP || c->hello == (frame->type == MESSAGE_HELLO)) {
        answer_code(c, frame->id, KV_E_PROTOCOL, c->hello ? "unexpected frame" : "HELLO comes first");
        return -EPROTO;
    }
    if (node_no_service(c->node) != NULL && frame->type != MESSAGE_HELLO && frame->type != MESSAGE_STATUS) {
        answer_code(c, frame->id, KV_E_UNAVAILABLE, node_no_service(c->node));
        return 0;
    }
    if (serve_is_read(frame->type))
        return on_read(c, frame);
    if (frame->type < MESSAGE_REQUEST_COUNT && handlers[frame->type] != NULL)
        return handlers[frame->type](c, frame);
    answer_code(c, frame->id, KV_E_NOTSUP, "this node does not know the request");
    return 0;
}
