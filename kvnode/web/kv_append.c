/* PATCH: what comes is put behind the value, wherever its end is by then: a publication of one append, as a
 * mount's O_APPEND. It goes through an opening, which is where permission is asked for. */
#include <stdlib.h>
#include <string.h>

#include "kvnode/group/group.h"
#include "kvnode/web/web_internal.h"
#include "sync/base/error.h"

/* An inode held open; outlives the request that goes before it is closed. */
struct opening {
    struct gate_call call;
    struct gate *gate;           /* a reference */
    struct web_request *request; /* NULL: it has gone */
    uint64_t ino;
    bool open;
};

/* r->state, of PATCH. */
struct appending {
    struct opening *opening;
    struct gate_key key; /* of an Idempotency-Key */
    struct etags match;
};

/* In the command, behind the inode. */
#define FLAGS_AT 8
#define EXPECT_AT 9

static void on_closed(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct opening *o = arg;

    (void)code;
    (void)answer;
    (void)detail;
    gate_put(o->gate);
    free(o);
}

/* Nobody appends any more. */
static void drop(struct opening *o)
{
    union request_body ask = {.close = {.ino = o->ino}};

    o->request = NULL;
    if (o->open)
        gate_ask(o->gate, &o->call, MESSAGE_CLOSE, &ask, on_closed, o);
}

static void on_appended(void *arg, int code, const struct command_result *result, const char *detail)
{
    struct web_request *r = arg;
    struct appending *a = r->state;

    if (a->opening != NULL)
        drop(a->opening);
    a->opening = NULL;
    if (code == KV_OK)
        kv_reply_written(r, result);
    else
        web_fail_code(r, code, detail, true);
}

/* It cannot be appended to any more, or not by him. If the first try of it was executed, that is told. */
static void refuse(struct web_request *r, int code, const char *detail)
{
    const struct appending *a = r->state;

    if (a->key.session != 0 && web_status_of(code) < 500)
        kv_ask_kept(r, &a->key, on_appended);
    else
        web_fail_code(r, code, detail, true);
}

static void on_opened(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct opening *o = arg;
    struct web_request *r = o->request;
    struct appending *a = r != NULL ? r->state : NULL;

    (void)answer;
    o->open = code == KV_OK;
    if (code != KV_OK) {
        if (r != NULL) {
            a->opening = NULL;
            refuse(r, code, detail);
        }
        gate_put(o->gate);
        free(o);
        return;
    }
    if (r == NULL) {
        drop(o);
        return;
    }
    buffer_set_u64(&r->body, 0, o->ino);
    buffer_set_u32(&r->body, r->body_at - 4, (uint32_t)(r->body.len - r->body_at));
    gate_write(r->gate, &r->write, COMMAND_PUBLISH, 0, &r->body, &a->key, on_appended, r);
}

static void on_resolved(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;
    struct appending *a = r->state;
    union request_body ask = {0};

    if (code == KV_OK && answer->resolve.attr.type != INODE_FILE)
        code = answer->resolve.attr.type == INODE_DIRECTORY ? KV_E_ISDIR : KV_E_INVAL;
    if (code == KV_E_NOENT && a->match.kind != ETAG_NONE) {
        refuse(r, KV_E_VERSION, "no such key, and If-Match asks for one");
        return;
    }
    if (code == KV_OK && a->match.kind == ETAG_LIST) {
        if (!etags_have(&a->match, answer->resolve.attr.content_revision)) {
            refuse(r, KV_E_VERSION, "If-Match does not name what it is");
            return;
        }
        r->body.data[FLAGS_AT] = PUBLISH_IF_REVISION;
        buffer_set_u64(&r->body, EXPECT_AT, answer->resolve.attr.content_revision);
    }
    if (code == KV_OK && (a->opening = calloc(1, sizeof *a->opening)) == NULL)
        code = KV_E_BUSY;
    if (code != KV_OK) {
        refuse(r, code, detail);
        return;
    }
    a->opening->gate = gate_ref(r->gate);
    a->opening->request = r;
    a->opening->ino = answer->resolve.attr.ino;
    ask.open = (struct open_request){.at = READ_LOCAL, .ino = answer->resolve.attr.ino, .access = OPEN_WRITE};
    gate_ask(r->gate, &a->opening->call, MESSAGE_OPEN, &ask, on_opened, a->opening);
}

void kv_append_head(struct web_request *r)
{
    struct appending *a = calloc(1, sizeof *a);
    const struct edit edit = {.kind = EDIT_APPEND};
    struct command_body body = {0};
    struct buffer edits = BUFFER_INIT;
    struct store_usage usage;

    r->state = a;
    edit_encode(&edits, &edit);
    body.edits = edits.data;
    body.edits_len = edits.len;
    command_body_encode(&r->body, COMMAND_PUBLISH, &body);
    if (a == NULL || edits.failed || r->body.failed)
        web_fail_code(r, KV_E_BUSY, "out of memory", true);
    else if (!kv_idempotency_key(r, &a->key))
        ; /* it has been replied */
    else if (r->directory)
        web_fail(r, 400, "a key does not end in a slash; nothing was written");
    else if (r->url->given != 0)
        web_fail(r, 400, "PATCH knows no parameters; nothing was written");
    else if (web_header(r, "If-None-Match") != NULL)
        web_fail(r, 400,
                 "If-None-Match asks for a key that is missing, and PATCH for one that is there; "
                 "nothing was written");
    else
        etags_parse(web_header(r, "If-Match"), &a->match);
    if (a != NULL && a->match.kind == ETAG_MALFORMED && r->response == NULL)
        web_fail(r, 400, "an entity tag is what ETag has said, with its quotes; nothing was written");
    buffer_deinit(&edits);
    store_usage(r->web->owner.group->store, &usage);
    r->body_at = r->body.len;
    r->takes_body = true;
    r->body_max = usage.value_limit;
}

void kv_append(struct web_request *r)
{
    union request_body ask = {0};

    ask.resolve = (struct path_request){.at = READ_LINEARIZABLE, .path = bytes_of(r->key, r->key_len)};
    web_ask(r, MESSAGE_RESOLVE, &ask, on_resolved);
}

void kv_append_cancel(struct web_request *r)
{
    struct appending *a = r->state;

    if (a == NULL || a->opening == NULL)
        return;
    gate_write_cancel(&r->write); /* before its inode is let go of */
    drop(a->opening);
}
