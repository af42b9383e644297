/* Messages out and answers in. Worker threads write to the socket themselves when
 * it takes the bytes; only the node thread reads it, connects and drops it.
 *
 * Order. The node answers a write after the write's events, on the same socket,
 * and the node thread handles frames one by one; so when an answer is handled,
 * every event that the node had seen when it gave that answer has been handled.
 * The rest of kvfs builds on this. */
#include "kvfs/link/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvfs/link/core.h"
#include "kvfs/link/link_internal.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define RETRY_MS 30
#define DELAYS_MAX 5 /* too much at once: RETRY_MS doubles so often, to a second */
#define ROTATE_MS 500
#define FRAMES_A_TURN 64

#define COMMAND_AT 9 /* in a WRITE's payload: behind has_owner, uid, gid */
#define OP_AT (COMMAND_AT + 1)
#define FLAGS_AT (COMMAND_AT + 2)

void link_wake(struct core *core)
{
    uint64_t one = 1;

    if (write(core->link.wake_fd, &one, sizeof one) < 0)
        return; /* full: it is awake */
}

int link_init(struct core *core)
{
    struct link *l = &core->link;
    const struct options *o = core->options;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    unsigned i;

    TAILQ_INIT(&l->wire);
    l->next_seq = 1;
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wake_fd < 0)
        return -errno;
    for (i = 0; i < o->n_nodes; i++) {
        int rc = client_socket_path(o->nodes[i], path, sizeof path);

        if (rc != 0)
            return rc;
        l->paths[i] = strdup(path);
        if (l->paths[i] == NULL)
            return -ENOMEM;
        l->n_paths++;
    }
    return 0;
}

void link_deinit(struct core *core)
{
    struct link *l = &core->link;
    unsigned i;

    client_close(l->client);
    l->client = NULL;
    for (i = 0; i < l->n_paths; i++)
        free(l->paths[i]);
    if (l->wake_fd > 0)
        close(l->wake_fd);
}

/* Sending */

void link_flush(struct core *core)
{
    struct link *l = &core->link;
    int rc = client_flush(l->client);

    if (rc < 0) {
        l->broken = true;
        link_wake(core);
    } else if (rc > 0 && !l->want_write) {
        l->want_write = true;
        link_wake(core);
    } else if (rc == 0) {
        l->want_write = false;
    }
}

static uint64_t frame_id(const struct request *r, unsigned part)
{
    return r->number << 16 | part;
}

void link_send_request(struct request *r)
{
    struct core *core = r->core;
    struct link *l = &core->link;
    struct buffer *b;

    if (r->seq != 0 && l->session == 0) {
        link_register(core);
        return;
    }
    r->sent = true;
    r->sent_ms = clock_boot_ms();
    r->sends++;
    r->retry_ms = 0;
    if (r->transmit != NULL) {
        r->transmit(r);
        return;
    }
    b = client_queue(l->client, (enum message_type)r->type, frame_id(r, LINK_LAST_PART));
    buffer_put_bytes(b, r->payload.data, r->payload.len);
    client_queue_end(l->client);
    link_flush(core);
}

void link_transmit(struct request *r, unsigned part, uint8_t op, uint16_t flags, const void *body, size_t len)
{
    struct core *core = r->core;
    struct link *l = &core->link;
    struct buffer *b;
    size_t at;

    if (l->client == NULL)
        return;
    b = client_queue(l->client, MESSAGE_WRITE, frame_id(r, part));
    at = b->len;
    buffer_put_bytes(b, r->payload.data, r->payload.len);
    if (!b->failed) {
        b->data[at + OP_AT] = op;
        b->data[at + FLAGS_AT] |= (uint8_t)(flags >> 8);
        b->data[at + FLAGS_AT + 1] |= (uint8_t)flags;
    }
    buffer_put_bytes(b, body, len);
    client_queue_end(l->client);
    link_flush(core);
}

static struct request **bucket(struct link *l, uint64_t number)
{
    return &l->by_number[number % LINK_BUCKETS];
}

static void enter(struct request *r, enum message_type type, request_fn *on_answer)
{
    struct core *core = r->core;
    struct link *l = &core->link;

    r->type = (uint8_t)type;
    r->on_answer = on_answer;
    r->number = ++l->numbers;
    r->sent = false;
    r->sends = 0;
    r->retry_ms = 0;
    r->last_code = 0;
    r->delays = 0;
    r->refused = false;
    TAILQ_INSERT_TAIL(&l->wire, r, place);
    r->same_bucket = *bucket(l, r->number);
    *bucket(l, r->number) = r;
}

static void start(struct request *r)
{
    struct core *core = r->core;

    /* Replies of any size are possible only for requests that fit in memory. */
    if (r->payload.failed) {
        struct cursor nothing = cursor_of(NULL, 0);

        link_cancel(r);
        r->on_answer(r, -ENOMEM, &nothing);
        return;
    }
    if (core->link.client != NULL && !core->link.broken)
        link_send_request(r);
}

void link_send(struct request *r, enum message_type type, request_fn *on_answer)
{
    r->seq = 0;
    enter(r, type, on_answer);
    start(r);
}

static uint64_t acked_below(const struct link *l)
{
    const struct request *r;

    TAILQ_FOREACH (r, &l->wire, place) {
        if (r->seq != 0)
            return r->seq;
    }
    return l->next_seq;
}

static void put_head(struct request *r, enum command_op op)
{
    struct core *core = r->core;
    struct link *l = &core->link;
    struct command command = {.op = (uint8_t)op, .session = l->session, .seq = r->seq, .node = ""};
    bool trusted = l->node.trusted;

    command.acked_below = acked_below(l);
    if (trusted)
        command.flags |= COMMAND_TRUSTED;
    buffer_clear(&r->payload);
    buffer_put_u8(&r->payload, trusted);
    buffer_put_u32(&r->payload, r->caller.uid);
    buffer_put_u32(&r->payload, r->caller.gid);
    command_encode(&r->payload, &command);
}

void link_write(struct request *r, enum command_op op, const struct command_body *body, request_fn *on_answer)
{
    struct core *core = r->core;

    r->op = (uint8_t)op;
    r->seq = core->link.next_seq++;
    enter(r, MESSAGE_WRITE, on_answer);
    put_head(r, op);
    command_body_encode(&r->payload, (uint8_t)op, body);
    start(r);
}

void link_write_parts(struct request *r, enum command_op op, request_fn *on_answer)
{
    struct core *core = r->core;

    r->op = (uint8_t)op;
    r->seq = core->link.next_seq++;
    enter(r, MESSAGE_WRITE, on_answer);
    put_head(r, op);
    start(r);
}

void link_cancel(struct request *r)
{
    struct core *core = r->core;
    struct link *l = &core->link;
    struct request **at;

    if (r->number == 0)
        return;
    if (l->visited_next == r)
        l->visited_next = TAILQ_NEXT(r, place);
    TAILQ_REMOVE(&l->wire, r, place);
    for (at = bucket(l, r->number); *at != r; at = &(*at)->same_bucket)
        ;
    *at = r->same_bucket;
    r->number = 0;
}

void link_ask_inode(struct request *r, enum message_type type, uint64_t ino, request_fn *on_answer)
{
    buffer_clear(&r->payload);
    buffer_put_u8(&r->payload, READ_LOCAL);
    buffer_put_u64(&r->payload, ino);
    link_send(r, type, on_answer);
}

void link_open_inode(struct request *r, uint64_t ino, uint8_t access, bool local, request_fn *on_answer)
{
    struct core *core = r->core;

    buffer_clear(&r->payload);
    buffer_put_u8(&r->payload, local || core->options->read_local ? READ_LOCAL : READ_LINEARIZABLE);
    buffer_put_u64(&r->payload, ino);
    buffer_put_u8(&r->payload, access);
    buffer_put_u32(&r->payload, r->caller.uid);
    link_send(r, MESSAGE_OPEN, on_answer);
}

void link_on_posted(struct request *r, int code, struct cursor *body)
{
    request_end(r);
}

void link_close_inode(struct core *core, uint64_t ino)
{
    struct request *r;

    if (core->link.client == NULL || core->link.broken)
        return;
    r = request_begin(core, NULL, REQUEST_PLAIN);
    if (r == NULL)
        return;
    r->once = true;
    buffer_put_u64(&r->payload, ino);
    link_send(r, MESSAGE_CLOSE, link_on_posted);
}

/* Answers */

void link_deliver(struct request *r, int code, struct cursor *body)
{
    link_cancel(r);
    r->on_answer(r, code, body);
}

/* The session is unknown to the cluster: start over with a new one. */
static void lose_session(struct request *r)
{
    struct core *core = r->core;
    struct link *l = &core->link;

    r->refused = r->sends <= 1;
    r->sent = false;
    if (!l->session_lost)
        log_warn("the cluster has dropped this mount's session; a new one is registered");
    l->session_lost = true;
    l->broken = true;
}

/* Every node has said that it is in a minority, or its disk full: nobody else is left
 * to ask. One node says it to every request that was under way, and is counted once. */
static bool all_refuse(struct link *l)
{
    if (l->refused_on != l->connections) {
        l->refused_on = l->connections;
        l->refusals++;
    }
    return l->refusals >= l->n_paths;
}

bool link_retries(struct request *r, int code)
{
    struct core *core = r->core;
    struct link *l = &core->link;
    uint64_t now = clock_boot_ms();

    switch (code) {
    case KV_E_ROFS:
    case KV_E_NOSPC: /* on this node's disk: for what the cluster has no room is told in a result */
        /* "Nothing was written" is true of this time; an earlier one may yet turn out well. */
        if (all_refuse(l) && (r->seq == 0 || r->sends <= 1))
            return false;
        break;
    case KV_E_UNAVAILABLE:
    case KV_E_NOTLEADER:
    case KV_E_BUSY:
    case KV_E_UNKNOWN:
        break;
    default:
        return false;
    }
    if (!r->sent)
        return true; /* arranged for, on the answer to an earlier part */
    if (l->n_paths > 1 && code != KV_E_BUSY && now - l->rotated_ms > ROTATE_MS) {
        l->rotated_ms = now;
        l->rotate = l->broken = true;
    }
    r->last_code = code;
    r->sent = false;
    r->delays = code != KV_E_BUSY ? 0 : r->delays < DELAYS_MAX ? r->delays + 1 : DELAYS_MAX;
    r->retry_ms = now + ((uint64_t)RETRY_MS << r->delays);
    if (code != KV_E_UNKNOWN)
        r->sends--; /* nothing was written: as if it had not been sent */
    return true;
}

static void on_answer_frame(struct core *core, const struct frame *frame)
{
    struct link *l = &core->link;
    uint64_t number = frame->id >> 16;
    unsigned part = (unsigned)(frame->id & 0xffff);
    struct request *r;
    struct cursor body;
    int code, outer;

    for (r = *bucket(l, number); r != NULL && r->number != number; r = r->same_bucket)
        ;
    if (r == NULL)
        return;
    code = outer = client_answer(frame, &body, NULL, 0);
    if (code < 0) {
        l->broken = true;
        return;
    }
    if (r->seq != 0 && code == 0) {
        command_result_decode(&body, &r->result);
        if (body.failed) {
            l->broken = true;
            return;
        }
        code = r->result.code;
        if (r->result.revision > l->seen)
            l->seen = r->result.revision;
    }
    if (code == KV_E_SESSION && r->seq != 0) {
        lose_session(r);
        return;
    }
    if (part != LINK_LAST_PART || code == KV_E_PART) {
        if (r->on_part != NULL)
            r->on_part(r, part, code);
        return;
    }
    /* A code inside a result is the command's outcome, and final. */
    if (outer != 0 && link_retries(r, outer))
        return;
    if (outer == 0 && r->seq != 0)
        l->refusals = 0;
    link_deliver(r, code, &body);
}

static void on_event_frame(struct core *core, const struct frame *frame)
{
    struct link *l = &core->link;
    struct cursor c = cursor_of(frame->payload, frame->len);
    struct event e;

    if (event_decode(&c, &e) != 0) {
        log_error("the node sent a malformed event");
        l->broken = true;
        return;
    }
    if (e.revision > l->seen)
        l->seen = e.revision;
    core->owner->on_event(core, &e);
    if (e.last)
        l->complete = e.revision;
}

/* Handles up to FRAMES_A_TURN frames; false: there may be more. */
bool link_take_frames(struct core *core)
{
    struct link *l = &core->link;
    int i;

    for (i = 0; i < FRAMES_A_TURN; i++) {
        struct frame frame;
        int rc;

        if (l->client == NULL || l->broken)
            return true;
        rc = client_next(l->client, &frame);
        if (rc == 0)
            return true;
        if (rc < 0) {
            log_warn("connection to node %s lost: %s", l->node.name, strerror(-rc));
            l->logged = 0;
            l->broken = true;
            return true;
        }
        if (frame.type == MESSAGE_EVENT)
            on_event_frame(core, &frame);
        else if (frame.type == MESSAGE_ANSWER)
            on_answer_frame(core, &frame);
    }
    return false;
}
