#include "kvnode/client/client_conn.h"

#include <stdlib.h>
#include <string.h>

#include "kvnode/client/past.h"
#include "sync/base/error.h"
#include "sync/wire/xattr.h"

/* Requests of one client under way, and bytes that their answers may have; beyond
 * it the node stops reading from it. */
#define REQUESTS_MAX 4096
#define PROMISED_MAX (8 * 1024 * 1024)

void client_conn_put(struct client_conn *c)
{
    if (--c->refs > 0)
        return;
    client_user_leave(c->user);
    free(c);
}

void client_conn_pace(struct client_conn *c)
{
    /* Who was stopped goes on when half is done, not for one request at a time. */
    unsigned part = c->paused ? 2 : 1;
    bool pause = c->requests >= REQUESTS_MAX / part || c->promised >= PROMISED_MAX / part || c->held ||
                 client_user_is_busy(c->user);

    if (pause == c->paused || c->stream == NULL)
        return;
    c->paused = pause;
    if (pause)
        stream_pause(c->stream);
    else
        stream_resume(c->stream);
}

static size_t smaller(uint64_t a, uint64_t b)
{
    return (size_t)(a < b ? a : b);
}

/* What an answer that is given later is expected to have at most, so that who asks
 * for much does not get it all at once: answers wait for nobody. Values are taken
 * to be as long as they are now. */
static size_t answer_bound(const struct client_conn *c, uint8_t type, const union request_body *in)
{
    struct attr attr;
    size_t ignored, bound = 512;
    const uint8_t *name;
    uint64_t parent;

    switch (type) {
    case MESSAGE_READ:
        if (store_getattr(c->owner->group->store, in->read.ino, &attr) == KV_OK)
            bound += smaller(in->read.length, attr.size);
        break;
    case MESSAGE_GET:
        if (store_resolve(c->owner->group->store, &c->who, in->get.path.data, in->get.path.len, &attr,
                          &parent, &name, &ignored) == KV_OK)
            bound += smaller(in->get.length, attr.size);
        break;
    case MESSAGE_VERSION:
        bound += in->version.length;
        break;
    case MESSAGE_HISTORY:
        bound += (uint64_t)(in->history.n & ~PAST_LOCAL) * PAST_ROW_MAX;
        break;
    case MESSAGE_GETXATTR:
    case MESSAGE_LISTXATTR:
    case MESSAGE_VERSION_XATTRS:
        bound += KV_XATTRS_MAX;
        break;
    case MESSAGE_READDIR:
    case MESSAGE_NAMES:
    case MESSAGE_LOG:
    case MESSAGE_LOCKS:
        bound = FRAME_PAYLOAD_MAX;
        break;
    default:
        break;
    }
    return bound < FRAME_PAYLOAD_MAX ? bound : FRAME_PAYLOAD_MAX;
}

struct request *request_new(struct client_conn *conn, const struct frame *frame,
                            const union request_body *body)
{
    struct request *r = calloc(1, sizeof *r);

    if (r == NULL)
        return NULL;
    r->id = frame->id;
    r->type = frame->type;
    r->conn = conn;
    r->promised = answer_bound(conn, frame->type, body);
    conn->refs++;
    conn->requests++;
    conn->promised += r->promised;
    client_user_request(conn->user, 1, r->promised);
    client_conn_pace(conn);
    return r;
}

struct request *request_keep(struct client_conn *conn, const struct frame *frame,
                             const union request_body *body)
{
    struct request *r = request_new(conn, frame, body);

    if (r == NULL || frame->len == 0)
        return r;
    r->payload = malloc(frame->len);
    if (r->payload == NULL) {
        request_end(r);
        return NULL;
    }
    memcpy(r->payload, frame->payload, frame->len);
    body_decode_request(r->type, r->payload, frame->len, &r->body); /* as it was before: well-formed */
    return r;
}

void request_end(struct request *r)
{
    struct client_conn *c = r->conn;

    c->requests--;
    c->promised -= r->promised;
    client_user_request(c->user, -1, r->promised);
    if (r->writer != NULL) {
        client_user_write(r->writer, -1, r->written);
        client_user_put(r->writer);
    }
    client_conn_pace(c);
    client_conn_put(c);
    free(r->payload);
    free(r);
}

struct buffer *answer_begin(struct client_conn *conn, uint64_t id, size_t *at_out)
{
    struct buffer *out;

    if (conn->stream == NULL)
        return NULL;
    out = stream_output(conn->stream);
    *at_out = frame_begin(out, MESSAGE_ANSWER, conn->owner->group->number, id);
    buffer_put_u16(out, KV_OK);
    return out;
}

void answer_end(struct client_conn *conn, size_t at, int code, const char *detail)
{
    struct buffer *out = stream_output(conn->stream);

    if (code != KV_OK && !out->failed) {
        out->len = at + FRAME_HEADER_LEN;
        buffer_put_u16(out, (uint16_t)code);
        buffer_put_text(out, detail != NULL ? detail : "");
    }
    frame_end(out, at);
}

void answer_code(struct client_conn *conn, uint64_t id, int code, const char *detail)
{
    size_t at;

    if (answer_begin(conn, id, &at) != NULL)
        answer_end(conn, at, code, detail);
}
