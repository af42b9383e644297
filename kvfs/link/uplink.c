/* Messages out and answers in. Worker threads write to the socket themselves when
 * it takes the bytes; only the node thread reads it, connects and drops it.
 *
 * Order. The node answers a write after the write's events, on the same socket,
 * and the node thread handles frames one by one; so when an answer is handled,
 * every event that the node had seen when it gave that answer has been handled.
 * The rest of kvfs builds on this. */
#include "kvfs/link/uplink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvfs/link/hub.h"
#include "kvfs/link/uplink_internal.h"
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

void uplink_wake(struct hub *hub)
{
    uint64_t one = 1;

    if (write(hub->uplink.wake_fd, &one, sizeof one) < 0)
        return; /* full: it is awake */
}

int uplink_init(struct hub *hub)
{
    struct uplink *u = &hub->uplink;
    const struct options *o = hub->options;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    unsigned i;

    TAILQ_INIT(&u->wire);
    u->next_seq = 1;
    u->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (u->wake_fd < 0)
        return -errno;
    for (i = 0; i < o->n_nodes; i++) {
        int rc = client_socket_path(o->nodes[i], path, sizeof path);

        if (rc != 0)
            return rc;
        u->paths[i] = strdup(path);
        if (u->paths[i] == NULL)
            return -ENOMEM;
        u->n_paths++;
    }
    return 0;
}

void uplink_deinit(struct hub *hub)
{
    struct uplink *u = &hub->uplink;
    unsigned i;

    client_close(u->client);
    u->client = NULL;
    for (i = 0; i < u->n_paths; i++)
        free(u->paths[i]);
    if (u->wake_fd > 0)
        close(u->wake_fd);
}

/* Sending */

void uplink_flush(struct hub *hub)
{
    struct uplink *u = &hub->uplink;
    int rc = client_flush(u->client);

    if (rc < 0) {
        u->broken = true;
        uplink_wake(hub);
    } else if (rc > 0 && !u->want_write) {
        u->want_write = true;
        uplink_wake(hub);
    } else if (rc == 0) {
        u->want_write = false;
    }
}

static uint64_t frame_id(const struct call *call, unsigned part)
{
    return call->number << 16 | part;
}

void uplink_send_call(struct call *call)
{
    struct hub *hub = call->hub;
    struct uplink *u = &hub->uplink;
    struct buffer *b;

    if (call->seq != 0 && u->session == 0) {
        uplink_register(hub);
        return;
    }
    call->sent = true;
    call->sent_ms = clock_boot_ms();
    call->sends++;
    call->retry_ms = 0;
    if (call->transmit != NULL) {
        call->transmit(call);
        return;
    }
    b = client_queue(u->client, (enum message_type)call->type, frame_id(call, UPLINK_LAST_PART));
    buffer_put_bytes(b, call->payload.data, call->payload.len);
    client_queue_end(u->client);
    uplink_flush(hub);
}

void uplink_transmit(struct call *call, unsigned part, uint8_t op, uint16_t flags, const void *body,
                     size_t len)
{
    struct hub *hub = call->hub;
    struct uplink *u = &hub->uplink;
    struct buffer *b;
    size_t at;

    if (u->client == NULL)
        return;
    b = client_queue(u->client, MESSAGE_WRITE, frame_id(call, part));
    at = b->len;
    buffer_put_bytes(b, call->payload.data, call->payload.len);
    if (!b->failed) {
        b->data[at + OP_AT] = op;
        b->data[at + FLAGS_AT] |= (uint8_t)(flags >> 8);
        b->data[at + FLAGS_AT + 1] |= (uint8_t)flags;
    }
    buffer_put_bytes(b, body, len);
    client_queue_end(u->client);
    uplink_flush(hub);
}

static struct call **bucket(struct uplink *u, uint64_t number)
{
    return &u->by_number[number % UPLINK_BUCKETS];
}

static void enter(struct call *call, enum message_type type, call_fn *on_answer)
{
    struct hub *hub = call->hub;
    struct uplink *u = &hub->uplink;

    call->type = (uint8_t)type;
    call->on_answer = on_answer;
    call->number = ++u->numbers;
    call->sent = false;
    call->sends = 0;
    call->retry_ms = 0;
    call->last_code = 0;
    call->delays = 0;
    call->refused = false;
    TAILQ_INSERT_TAIL(&u->wire, call, place);
    call->same_bucket = *bucket(u, call->number);
    *bucket(u, call->number) = call;
}

static void start(struct call *call)
{
    struct hub *hub = call->hub;

    /* Replies of any size are possible only for requests that fit in memory. */
    if (call->payload.failed) {
        uplink_cancel(call);
        call->on_answer(call, -ENOMEM, NULL);
        return;
    }
    if (hub->uplink.client != NULL && !hub->uplink.broken)
        uplink_send_call(call);
}

void uplink_send(struct call *call, enum message_type type, const union request_body *request,
                 call_fn *on_answer)
{
    buffer_clear(&call->payload);
    body_encode_request(&call->payload, (uint8_t)type, request);
    call->seq = 0;
    enter(call, type, on_answer);
    start(call);
}

static uint64_t acked_below(const struct uplink *u)
{
    const struct call *call;

    TAILQ_FOREACH (call, &u->wire, place) {
        if (call->seq != 0)
            return call->seq;
    }
    return u->next_seq;
}

static void put_head(struct call *call, enum command_op op)
{
    struct hub *hub = call->hub;
    struct uplink *u = &hub->uplink;
    struct command command = {.op = (uint8_t)op, .session = u->session, .seq = call->seq, .node = ""};
    bool trusted = u->node.trusted;
    const union request_body request = {
        .write = {.has_owner = trusted, .uid = call->caller.uid, .gid = call->caller.gid}};

    command.acked_below = acked_below(u);
    if (trusted)
        command.flags |= COMMAND_TRUSTED;
    if (hub->options->author != NULL && u->node.level >= COMMAND_LABEL_LEVEL) {
        command.flags |= COMMAND_LABEL;
        command.label = hub->options->author;
        command.label_len = strlen(command.label);
    }
    buffer_clear(&call->payload);
    body_encode_request(&call->payload, MESSAGE_WRITE, &request);
    command_encode(&call->payload, &command);
}

void uplink_write(struct call *call, enum command_op op, const struct command_body *body, call_fn *on_answer)
{
    struct hub *hub = call->hub;

    call->op = (uint8_t)op;
    call->seq = hub->uplink.next_seq++;
    enter(call, MESSAGE_WRITE, on_answer);
    put_head(call, op);
    command_body_encode(&call->payload, (uint8_t)op, body);
    start(call);
}

void uplink_write_parts(struct call *call, enum command_op op, call_fn *on_answer)
{
    struct hub *hub = call->hub;

    call->op = (uint8_t)op;
    call->seq = hub->uplink.next_seq++;
    enter(call, MESSAGE_WRITE, on_answer);
    put_head(call, op);
    start(call);
}

void uplink_cancel(struct call *call)
{
    struct hub *hub = call->hub;
    struct uplink *u = &hub->uplink;
    struct call **at;

    if (call->number == 0)
        return;
    if (u->visited_next == call)
        u->visited_next = TAILQ_NEXT(call, place);
    TAILQ_REMOVE(&u->wire, call, place);
    for (at = bucket(u, call->number); *at != call; at = &(*at)->same_bucket)
        ;
    *at = call->same_bucket;
    call->number = 0;
}

void uplink_set_lease(struct hub *hub, bool leased)
{
    struct uplink *u = &hub->uplink;
    uint64_t due = clock_boot_ms() + LEASE_KEEPALIVE_MS;

    if (leased && !u->leased && u->keepalive_ms > due)
        u->keepalive_ms = due;
    u->leased = leased;
}

void uplink_invalidated(struct hub *hub, uint64_t number)
{
    struct uplink *u = &hub->uplink;
    struct buffer *b;

    if (u->client == NULL || u->broken)
        return;
    b = client_queue(u->client, MESSAGE_INVALIDATED, 0);
    body_encode_request(b, MESSAGE_INVALIDATED, &(union request_body){.invalidated.number = number});
    client_queue_end(u->client);
    uplink_flush(hub);
}

uint8_t uplink_read_at(const struct hub *hub)
{
    return hub->options->read_strict ? READ_LINEARIZABLE : READ_LOCAL;
}

void uplink_ask_inode(struct call *call, enum message_type type, uint64_t ino, call_fn *on_answer)
{
    /* Both have the same body. */
    const union request_body request = {.getattr = {.at = uplink_read_at(call->hub), .ino = ino}};

    uplink_send(call, type, &request, on_answer);
}

void uplink_open_inode(struct call *call, uint64_t ino, uint8_t access, bool local, call_fn *on_answer)
{
    bool here = local || call->hub->options->read_local;
    const union request_body request = {.open = {.at = here ? READ_LOCAL : READ_LINEARIZABLE,
                                                 .ino = ino,
                                                 .access = access,
                                                 .has_uid = true,
                                                 .uid = call->caller.uid}};

    uplink_send(call, MESSAGE_OPEN, &request, on_answer);
}

void uplink_on_posted(struct call *call, int code, const union answer_body *answer)
{
    call_end(call);
}

void uplink_close_inode(struct hub *hub, uint64_t ino)
{
    struct call *call;

    if (hub->uplink.client == NULL || hub->uplink.broken)
        return;
    call = call_begin(hub, NULL, CALL_PLAIN);
    if (call == NULL)
        return;
    call->once = true;
    uplink_send(call, MESSAGE_CLOSE, &(union request_body){.close.ino = ino}, uplink_on_posted);
}

/* Answers */

void uplink_deliver(struct call *call, int code, const union answer_body *answer)
{
    uplink_cancel(call);
    call->on_answer(call, code, answer);
}

/* The session is unknown to the cluster: start over with a new one. */
static void lose_session(struct call *call)
{
    struct hub *hub = call->hub;
    struct uplink *u = &hub->uplink;

    call->refused = call->sends <= 1;
    call->sent = false;
    if (!u->session_lost)
        log_warn("the cluster has dropped this mount's session; a new one is registered");
    u->session_lost = true;
    u->broken = true;
}

/* Every node has said that it is in a minority, or its disk full: nobody else is left
 * to ask. One node says it to every call that was under way, and is counted once. */
static bool all_refuse(struct uplink *u)
{
    if (u->refused_on != u->connections) {
        u->refused_on = u->connections;
        u->refusals++;
    }
    return u->refusals >= u->n_paths;
}

bool uplink_retries(struct call *call, int code)
{
    struct hub *hub = call->hub;
    struct uplink *u = &hub->uplink;
    uint64_t now = clock_boot_ms();

    switch (code) {
    case KV_E_ROFS:
    case KV_E_NOSPC: /* on this node's disk: for what the cluster has no room is told in a result */
        /* "Nothing was written" is true of this time; an earlier one may yet turn out well. */
        if (all_refuse(u) && (call->seq == 0 || call->sends <= 1))
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
    if (!call->sent)
        return true; /* arranged for, on the answer to an earlier part */
    if (u->n_paths > 1 && code != KV_E_BUSY && now - u->rotated_ms > ROTATE_MS) {
        u->rotated_ms = now;
        u->rotate = u->broken = true;
    }
    call->last_code = code;
    call->sent = false;
    call->delays = code != KV_E_BUSY ? 0 : call->delays < DELAYS_MAX ? call->delays + 1 : DELAYS_MAX;
    call->retry_ms = now + ((uint64_t)RETRY_MS << call->delays);
    if (code != KV_E_UNKNOWN)
        call->sends--; /* nothing was written: as if it had not been sent */
    return true;
}

static void on_answer_frame(struct hub *hub, const struct frame *frame)
{
    struct uplink *u = &hub->uplink;
    uint64_t number = frame->id >> 16;
    unsigned part = (unsigned)(frame->id & 0xffff);
    union answer_body answer;
    struct call *call;
    struct cursor body;
    int code, outer;

    for (call = *bucket(u, number); call != NULL && call->number != number; call = call->same_bucket)
        ;
    if (call == NULL)
        return;
    code = outer = client_answer(frame, &body, NULL, 0);
    if (code < 0) {
        u->broken = true;
        return;
    }
    if (code == 0 && !body_decode_answer(call->type, &body, &answer)) {
        if (call->seq != 0) {
            u->broken = true;
            return;
        }
        code = outer = KV_E_PROTOCOL;
    }
    if (call->seq != 0 && code == 0) {
        call->result = answer.write;
        code = call->result.code;
        if (call->result.revision > u->seen)
            u->seen = call->result.revision;
    }
    if (code == KV_E_SESSION && call->seq != 0) {
        lose_session(call);
        return;
    }
    if (part != UPLINK_LAST_PART || code == KV_E_PART) {
        if (call->on_part != NULL)
            call->on_part(call, part, code);
        return;
    }
    /* A code inside a result is the command's outcome, and final. */
    if (outer != 0 && uplink_retries(call, outer))
        return;
    if (outer == 0 && call->seq != 0) {
        u->refusals = 0;
        /* Since it began: of an answer that was given twice only the first was. */
        if (call->started_ms > u->heard_ms)
            u->heard_ms = call->started_ms;
    }
    uplink_deliver(call, code, &answer);
}

static void on_event_frame(struct hub *hub, const struct frame *frame)
{
    struct uplink *u = &hub->uplink;
    struct cursor c = cursor_of(frame->payload, frame->len);
    struct event e;

    if (event_decode(&c, &e) != 0) {
        log_error("the node sent a malformed event");
        u->broken = true;
        return;
    }
    if (e.revision > u->seen)
        u->seen = e.revision;
    hub->owner->on_event(hub, &e);
    if (e.last)
        u->complete = e.revision;
}

/* What a client that caches is told (LEASED). */
static void on_lease_frame(struct hub *hub, const struct frame *frame)
{
    struct cursor c = cursor_of(frame->payload, frame->len);
    struct inval inval;
    struct beat beat;

    if (frame->type == MESSAGE_INVAL && inval_decode(&c, &inval) == 0) {
        hub->owner->on_inval(hub, &inval);
    } else if (frame->type == MESSAGE_BEAT && beat_decode(&c, &beat) == 0) {
        hub->owner->on_beat(hub, &beat);
    } else {
        log_error("the node sent a malformed frame of type %u", frame->type);
        hub->uplink.broken = true;
    }
}

/* Handles up to FRAMES_A_TURN frames; false: there may be more. */
bool uplink_take_frames(struct hub *hub)
{
    struct uplink *u = &hub->uplink;
    int i;

    for (i = 0; i < FRAMES_A_TURN; i++) {
        struct frame frame;
        int rc;

        if (u->client == NULL || u->broken)
            return true;
        rc = client_next(u->client, &frame);
        if (rc == 0)
            return true;
        if (rc < 0) {
            log_warn("connection to node %s lost: %s", u->node.name, strerror(-rc));
            u->logged = 0;
            u->broken = true;
            return true;
        }
        if (frame.type == MESSAGE_EVENT)
            on_event_frame(hub, &frame);
        else if (frame.type == MESSAGE_ANSWER)
            on_answer_frame(hub, &frame);
        else if (frame.type == MESSAGE_INVAL || frame.type == MESSAGE_BEAT)
            on_lease_frame(hub, &frame);
    }
    return false;
}
