/* Requests of clients: which part of the node answers what, and what of them is answered here. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/client/client_conn.h"
#include "kvnode/client/past.h"
#include "kvnode/client/serve_json.h"
#include "kvnode/group/events.h"
#include "kvnode/group/leases.h"
#include "kvnode/group/mounts.h"
#include "kvnode/group/reads.h"
#include "kvnode/state/touch.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"

static void on_hello_ready(void *arg, int code)
{
    struct request *r = arg;
    struct client_conn *c = r->conn;
    const struct config *config = c->owner->self->config;
    const struct store *store = c->owner->group->store;
    struct store_usage usage;
    struct buffer *out;
    size_t at;

    out = answer_begin(c, r->id, &at);
    if (out != NULL) {
        union answer_body answer;

        store_usage(store, &usage);
        answer.hello = (struct hello_answer){.cluster_id = config->cluster_id,
                                             .applied = store_applied(store),
                                             .part_size = COMMAND_PART_SIZE,
                                             .value_limit = usage.value_limit,
                                             .trusted = c->who.trusted,
                                             .protocol = c->protocol,
                                             .level = (uint16_t)store_level(store)};
        snprintf(answer.hello.name, sizeof answer.hello.name, "%s", config->name);
        body_encode_answer(out, MESSAGE_HELLO, &answer, c->protocol);
        answer_end(c, at, code, "this node has not caught up with what the client has seen");
    }
    request_end(r);
}

static int on_hello(struct client_conn *c, const struct frame *frame, const union request_body *in)
{
    const struct hello_request *hello = &in->hello;
    uint16_t protocol = hello->has_protocol ? hello->protocol : 1;
    struct request *r;

    if (hello->magic.len != strlen(MESSAGE_MAGIC) ||
        memcmp(hello->magic.data, MESSAGE_MAGIC, hello->magic.len) != 0 ||
        (hello->kind != CLIENT_ADMIN && hello->kind != CLIENT_MOUNT) || protocol == 0) {
        answer_code(c, frame->id, KV_E_PROTOCOL, "not a HELLO of this protocol");
        return -EPROTO;
    }
    if (self_no_service(c->owner->self) != NULL && hello->kind == CLIENT_MOUNT) {
        answer_code(c, frame->id, KV_E_UNAVAILABLE,
                    self_no_service(c->owner->self)); /* it has others to go to */
        return 0;
    }
    c->hello = true;
    c->kind = (enum client_kind)hello->kind;
    c->protocol = protocol < MESSAGE_PROTOCOL ? protocol : MESSAGE_PROTOCOL;
    snprintf(c->name, sizeof c->name, "%.*s", (int)hello->name.len, (const char *)hello->name.data);
    r = request_new(c, frame, in);
    if (r == NULL)
        return -ENOMEM;
    reads_after(c->owner->group->reads, hello->after, on_hello_ready, r);
    return 0;
}

static void answer_read(struct client_conn *c, uint64_t id, uint8_t type, const union request_body *in,
                        int code)
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

    answer_read(r->conn, r->id, r->type, &r->body, code);
    request_end(r);
}

/* Beyond so many commands under way it costs less to wait for them than to look at each. */
#define TOUCHES_MAX 64

/* The newest command under way that may change what is asked for, while this node holds a lease; 0: none. Who
 * may see it is part of that, and is decided along the directories above, which a request by number does not
 * name. */
static uint64_t waits_for(const struct client_conn *c, uint8_t type, const union request_body *in)
{
    const struct touch_list *touches = leases_touches(c->owner->group->leases);
    uint64_t upto = leases_forgotten(c->owner->group->leases);
    const struct store *store = c->owner->group->store;
    uint64_t index, other;

    if (touch_count(touches) == 0)
        return 0;
    if (touch_count(touches) > TOUCHES_MAX)
        return touch_newest(touches, upto);
    switch (type) {
    case MESSAGE_RESOLVE:
        return touch_on_path(touches, store, in->resolve.path.data, in->resolve.path.len, upto);
    case MESSAGE_GET:
        return touch_on_path(touches, store, in->get.path.data, in->get.path.len, upto);
    default:
        break;
    }
    if (!c->who.trusted)
        return touch_newest(touches, upto);
    switch (type) {
    case MESSAGE_LOOKUP:
        return touch_on_entry(touches, store, in->lookup.parent, in->lookup.name.data, in->lookup.name.len,
                              UINT64_MAX);
    case MESSAGE_GETATTR:
        return touch_on(touches, in->getattr.ino, TOUCH_ANY, upto);
    case MESSAGE_GETXATTR:
        return touch_on(touches, in->getxattr.ino, TOUCH_ANY, upto);
    case MESSAGE_LISTXATTR:
        return touch_on(touches, in->listxattr.ino, TOUCH_ANY, upto);
    case MESSAGE_READ:
        return touch_on(touches, in->read.ino, TOUCH_ANY, upto);
    case MESSAGE_OPEN:
        index = touch_on_move(touches, upto); /* it vouches for the path, too */
        other = touch_on(touches, in->open.ino, TOUCH_ANY, upto);
        return index > other ? index : other;
    default:
        return touch_newest(touches, upto);
    }
}

static int on_read(struct client_conn *c, const struct frame *frame, const union request_body *in)
{
    uint8_t at = frame->type == MESSAGE_STATFS || frame->type == MESSAGE_CLOSE ? READ_LOCAL
                 : frame->type == MESSAGE_BARRIER                              ? READ_LINEARIZABLE
                                                                               : in->at;
    const struct group *group = c->owner->group;
    uint64_t index = 0;
    struct request *r;
    bool leased;

    if (at > READ_LINEARIZABLE) {
        answer_code(c, frame->id, KV_E_PROTOCOL, "malformed read");
        return -EPROTO;
    }
    if (at == READ_LOCAL) {
        answer_read(c, frame->id, frame->type, in, KV_OK);
        return 0;
    }
    /* Commands that change locks, or nothing, are not looked at before they are applied: those two are asked
     * for. */
    leased = frame->type != MESSAGE_LOCKS && frame->type != MESSAGE_BARRIER && leases_current(group->leases);
    if (leased)
        index = waits_for(c, frame->type, in);
    if (leased && index <= store_applied(group->store)) {
        answer_read(c, frame->id, frame->type, in, KV_OK);
        return 0;
    }
    r = request_keep(c, frame, in);
    if (r == NULL)
        return -ENOMEM;
    if (leased)
        reads_start_behind(group->reads, index, on_read_ready, r);
    else
        reads_start(group->reads, on_read_ready, r);
    return 0;
}

static int on_subscribe(struct client_conn *c, const struct frame *frame, const union request_body *in)
{
    union answer_body answer;
    struct buffer *out;
    size_t at;

    if (c->subscriber != NULL) {
        answer_code(c, frame->id, KV_E_PROTOCOL, "one subscription a connection");
        return -EPROTO;
    }
    c->subscriber =
        events_subscribe(c->owner->group->events, c->stream, c->protocol, frame->id, in->subscribe.after,
                         store_applied(c->owner->group->store), &answer.subscribe.revision);
    if (c->subscriber == NULL)
        return -ENOMEM;
    if (!c->who.trusted && c->who.uid != 0)
        events_redact(c->subscriber, client_redact, c);
    if (in->subscribe.sparse != 0)
        events_sparse(c->subscriber);
    out = answer_begin(c, frame->id, &at);
    if (out == NULL)
        return 0;
    body_encode_answer(out, MESSAGE_SUBSCRIBE, &answer, c->protocol);
    answer_end(c, at, KV_OK, NULL);
    events_replay(c->owner->group->events, c->subscriber);
    return 0;
}

static int on_json(struct client_conn *c, const struct frame *frame, const union request_body *in)
{
    struct buffer *out;
    char *text = NULL;
    size_t at;
    int code;

    code = serve_json(c->owner, c->serve, c->who.trusted, frame->type, in, &text);
    out = answer_begin(c, frame->id, &at);
    if (out != NULL) {
        if (code == KV_OK)
            body_encode_answer(out, frame->type, &(union answer_body){.admin.json = bytes_text(text)},
                               c->protocol);
        answer_end(c, at, code, text);
    }
    free(text);
    return 0;
}

static int on_reserve(struct client_conn *c, const struct frame *frame, const union request_body *in)
{
    const struct reserve_request *r = &in->reserve;
    struct store_usage usage;
    union answer_body answer;
    struct buffer *out;
    size_t at;
    int code;

    store_usage(c->owner->group->store, &usage);
    c->reservation.uid = c->who.uid;
    c->reservation.trusted = c->who.trusted;
    code = reserve_set(&c->owner->group->reserve, &c->reservation, &usage, r->held, r->least, r->wanted,
                       &answer.reserve.granted);
    out = answer_begin(c, frame->id, &at);
    if (out != NULL) {
        body_encode_answer(out, MESSAGE_RESERVE, &answer, c->protocol);
        answer_end(c, at, code, "this user has too much room reserved on this node");
    }
    return 0;
}

static int on_leased(struct client_conn *c, const struct frame *frame, const union request_body *in)
{
    const struct group *g = c->owner->group;

    (void)in;
    if (c->mount != NULL || c->kind != CLIENT_MOUNT) {
        answer_code(c, frame->id, KV_E_PROTOCOL, "LEASED is for mounts, once a connection");
        return -EPROTO;
    }
    answer_code(c, frame->id, KV_OK, NULL);
    if (c->stream == NULL)
        return 0;
    c->mount = mounts_enter(g->mounts, c->stream, frame->id, consensus_last(g->consensus));
    return c->mount != NULL ? 0 : -ENOMEM;
}

static int on_invalidated(struct client_conn *c, const struct frame *frame, const union request_body *in)
{
    if (c->mount != NULL)
        mounts_answered(c->mount, in->invalidated.number, clock_boot_ms());
    answer_code(c, frame->id, KV_OK, NULL);
    return 0;
}

static int on_past(struct client_conn *c, const struct frame *frame, const union request_body *in)
{
    if (frame->type == MESSAGE_LOG)
        events_asked(c->subscriber);
    return past_request(c->owner->past, c, frame, in);
}

/* Besides the reads (serve_is_read()). */
static int (*const handlers[MESSAGE_REQUEST_COUNT])(struct client_conn *, const struct frame *,
                                                    const union request_body *) = {
    [MESSAGE_HELLO] = on_hello,
    [MESSAGE_WRITE] = serve_write,
    [MESSAGE_SUBSCRIBE] = on_subscribe,
    [MESSAGE_RESERVE] = on_reserve,
    [MESSAGE_HISTORY] = on_past,
    [MESSAGE_VERSION] = on_past,
    [MESSAGE_NAMES] = on_past,
    [MESSAGE_LOG] = on_past,
    [MESSAGE_STATUS] = on_json,
    [MESSAGE_SETTINGS] = on_json,
    [MESSAGE_ADMIN] = on_json,
    [MESSAGE_LEASED] = on_leased,
    [MESSAGE_INVALIDATED] = on_invalidated,
    [MESSAGE_VERSION_XATTRS] = on_past,
};

int serve_request(struct client_conn *c, const struct frame *frame)
{
    union request_body in;

    if (frame->group != c->owner->group->number || c->hello == (frame->type == MESSAGE_HELLO)) {
        answer_code(c, frame->id, KV_E_PROTOCOL, c->hello ? "unexpected frame" : "HELLO comes first");
        return -EPROTO;
    }
    if (self_no_service(c->owner->self) != NULL && frame->type != MESSAGE_HELLO &&
        frame->type != MESSAGE_STATUS) {
        answer_code(c, frame->id, KV_E_UNAVAILABLE, self_no_service(c->owner->self));
        return 0;
    }
    switch (body_decode_request(frame->type, frame->payload, frame->len, &in)) {
    case KV_OK:
        return serve_is_read(frame->type) ? on_read(c, frame, &in) : handlers[frame->type](c, frame, &in);
    case KV_E_NOTSUP:
        answer_code(c, frame->id, KV_E_NOTSUP, "this node does not know the request");
        return 0;
    default:
        answer_code(c, frame->id, KV_E_PROTOCOL,
                    frame->type == MESSAGE_HELLO ? "not a HELLO of this protocol" : "malformed request");
        return -EPROTO;
    }
}
