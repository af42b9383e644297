/* GET and HEAD of a key. The value comes in pieces of WEB_PIECE: one that fits into the first is the answer;
 * of a longer one the rest is asked for as the client takes it. If it is written meanwhile, what is sent
 * cannot be ended: the connection is cut, so the client sees that the value is short, and never half of one
 * and half of another. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/web/web_internal.h"
#include "sync/base/error.h"

#define BLOCK (32 * 1024)

/* A long value on its way out. */
struct outgoing {
    struct web_request *request; /* NULL: nobody asks for more */
    struct MHD_Connection *mhd;
    uint64_t ino, revision, size;
    uint64_t at; /* of the piece, in the value */
    struct buffer piece;
    bool failed, asked;
    uint8_t consistency;
};

/* r->state, of GET. */
struct getting {
    struct etags none_match;
    struct outgoing *outgoing; /* the response's; NULL: there is none, or it has gone */
};

static void headers(struct web_request *r, struct MHD_Response *response, const struct attr *attr)
{
    if (response == NULL)
        return;
    web_headers_of(response, attr);
    MHD_add_response_header(response, "Content-Security-Policy", "default-src 'none'; sandbox");
    MHD_add_response_header(response, "Content-Type",
                            (r->url->given >> PARAM_TEXT & 1) != 0 ? "text/plain; charset=utf-8"
                                                                   : "application/octet-stream");
}

static void on_piece(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;
    struct outgoing *o = ((struct getting *)r->state)->outgoing;

    (void)detail;
    if (o == NULL)
        return;
    o->asked = false;
    buffer_clear(&o->piece);
    if (code != KV_OK || answer->get.data.len == 0 || answer->get.attr.content_revision != o->revision ||
        answer->get.attr.ino != o->ino)
        o->failed = true;
    else
        buffer_put_bytes(&o->piece, answer->get.data.data, answer->get.data.len);
    o->failed |= o->piece.failed;
    web_resume(r);
}

static ssize_t on_read(void *arg, uint64_t pos, char *out, size_t max)
{
    struct outgoing *o = arg;
    struct web_request *r = o->request;
    union request_body ask = {0};
    size_t n;

    if (o->failed || r == NULL || r->dead)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (pos >= o->at && pos < o->at + o->piece.len) {
        n = (size_t)(o->at + o->piece.len - pos);
        if (n > max)
            n = max;
        memcpy(out, o->piece.data + (pos - o->at), n);
        return (ssize_t)n;
    }
    if (!o->asked) {
        o->asked = true;
        o->at = pos;
        buffer_clear(&o->piece);
        ask.get = (struct get_request){.at = READ_LOCAL, /* not older than what has been sent */
                                       .path = bytes_of(r->key, r->key_len),
                                       .offset = pos,
                                       .length = WEB_PIECE,
                                       .content_revision = o->revision};
        gate_ask(r->gate, &r->call, MESSAGE_GET, &ask, on_piece, r);
    }
    web_suspend(r);
    return 0;
}

static void on_sent(void *arg)
{
    struct outgoing *o = arg;

    if (o->request != NULL && o->request->state != NULL)
        ((struct getting *)o->request->state)->outgoing = NULL;
    buffer_deinit(&o->piece);
    free(o);
}

static struct MHD_Response *long_response(struct web_request *r, const struct attr *attr,
                                          const struct bytes *first)
{
    struct getting *g = r->state;
    struct outgoing *o = calloc(1, sizeof *o);
    struct MHD_Response *response;

    if (o == NULL)
        return NULL;
    o->request = r;
    o->mhd = r->mhd;
    o->ino = attr->ino;
    o->revision = attr->content_revision;
    o->size = attr->size;
    if (first != NULL)
        buffer_put_bytes(&o->piece, first->data, first->len);
    o->failed = o->piece.failed;
    response = MHD_create_response_from_callback(attr->size, BLOCK, on_read, o, on_sent);
    if (response == NULL)
        on_sent(o);
    else
        g->outgoing = o;
    return response;
}

static void not_modified(struct web_request *r, const struct attr *attr)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);

    headers(r, response, attr);
    web_reply(r, 304, response);
}

/* A value is there; data: NULL for HEAD. */
static void reply(struct web_request *r, const struct attr *attr, const struct bytes *data)
{
    const struct getting *g = r->state;
    struct MHD_Response *response;

    if (attr->type != INODE_FILE) {
        web_fail_code(r, attr->type == INODE_DIRECTORY ? KV_E_ISDIR : KV_E_INVAL,
                      attr->type == INODE_SYMLINK ? "it is a symbolic link, which mounts follow" : NULL,
                      false);
        return;
    }
    if (etags_have(&g->none_match, attr->content_revision)) {
        not_modified(r, attr);
        return;
    }
    if (data == NULL || data->len < attr->size)
        response = long_response(r, attr, data);
    else
        response = MHD_create_response_from_buffer(data->len, (void *)data->data, MHD_RESPMEM_MUST_COPY);
    headers(r, response, attr);
    web_reply(r, 200, response);
}

static void on_resolved(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;

    if (code == KV_OK)
        reply(r, &answer->resolve.attr, NULL);
    else
        web_fail_code(r, code, detail, false);
}

static void on_got(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;

    if (code == KV_OK)
        reply(r, &answer->get.attr, &answer->get.data);
    else if (code == KV_E_INVAL) /* a name, but no value: what it is */
        web_fail_code(r, code, "it is no file: it has no value", false);
    else
        web_fail_code(r, code, detail, false);
}

void kv_get(struct web_request *r)
{
    bool local = (r->url->given >> PARAM_LOCAL & 1) != 0;
    struct getting *g = calloc(1, sizeof *g);
    union request_body ask = {0};

    r->state = g;
    if (g == NULL) {
        web_fail_code(r, KV_E_BUSY, "out of memory", false);
        return;
    }
    etags_parse(web_header(r, "If-None-Match"), &g->none_match);
    if (strcmp(r->method, "HEAD") == 0) {
        ask.resolve = (struct path_request){.at = local ? READ_LOCAL : READ_LINEARIZABLE,
                                            .path = bytes_of(r->key, r->key_len)};
        web_ask(r, MESSAGE_RESOLVE, &ask, on_resolved);
        return;
    }
    ask.get = (struct get_request){.at = local ? READ_LOCAL : READ_LINEARIZABLE,
                                   .path = bytes_of(r->key, r->key_len),
                                   .length = WEB_PIECE};
    web_ask(r, MESSAGE_GET, &ask, on_got);
}

void kv_cancel(struct web_request *r)
{
    struct getting *g = r->state;
    bool reads = strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0;

    if (reads && g != NULL && g->outgoing != NULL)
        g->outgoing->request = NULL;
}
