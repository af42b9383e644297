/* Worker threads write to the socket themselves when it takes the bytes; only
 * the node thread reads it, connects and drops it.
 *
 * Order. The node answers a write after the write's events, on the same socket,
 * and the node thread handles frames one by one; so when an answer is handled,
 * every event that the node had seen when it gave that answer has been handled.
 * The rest of kvfs builds on this. */
#include "kvfs/link.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvfs/event.h"
#include "kvfs/file.h"
#include "kvfs/fs.h"
#include "kvfs/publish.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define KEEPALIVE_MS 60000
#define CONNECT_MS 1500
#define TICK_MS 100
#define IDLE_MS 500
#define RETRY_MS 30
#define ROTATE_MS 500
#define FRAMES_A_TURN 64

#define COMMAND_AT 9 /* in a WRITE's payload: behind has_owner, uid, gid */
#define OP_AT (COMMAND_AT + 1)
#define FLAGS_AT (COMMAND_AT + 2)
#define SESSION_AT (COMMAND_AT + 4)
#define SEQ_AT (COMMAND_AT + 12)

void link_wake(struct fs *fs)
{
    uint64_t one = 1;

    if (write(fs->link.wake_fd, &one, sizeof one) < 0)
        return; /* full: it is awake */
}

int link_init(struct fs *fs)
{
    struct link *l = &fs->link;
    const struct options *o = fs->options;
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

void link_deinit(struct fs *fs)
{
    struct link *l = &fs->link;
    unsigned i;

    client_close(l->client);
    l->client = NULL;
    for (i = 0; i < l->n_paths; i++)
        free(l->paths[i]);
    if (l->wake_fd > 0)
        close(l->wake_fd);
}

/* Sending */

static void flush(struct fs *fs)
{
    struct link *l = &fs->link;
    int rc = client_flush(l->client);

    if (rc < 0) {
        l->broken = true;
        link_wake(fs);
    } else if (rc > 0 && !l->want_write) {
        l->want_write = true;
        link_wake(fs);
    } else if (rc == 0) {
        l->want_write = false;
    }
}

static uint64_t frame_id(const struct request *r, unsigned part)
{
    return r->number << 16 | part;
}

static void transmit(struct fs *fs, struct request *r)
{
    struct link *l = &fs->link;
    struct buffer *b;

    r->sent = true;
    r->sent_ms = clock_boot_ms();
    r->sends++;
    r->retry_ms = 0;
    if (r->transmit != NULL) {
        r->transmit(fs, r);
        return;
    }
    b = client_queue(l->client, (enum message_type)r->type, frame_id(r, LINK_LAST_PART));
    buffer_put_bytes(b, r->payload.data, r->payload.len);
    client_queue_end(l->client);
    flush(fs);
}

void link_transmit(struct fs *fs, struct request *r, unsigned part, uint8_t op, uint16_t flags,
                   const void *body, size_t len)
{
    struct link *l = &fs->link;
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
    flush(fs);
}

static void enter(struct fs *fs, struct request *r, enum message_type type, request_fn *on_answer)
{
    struct link *l = &fs->link;

    r->type = (uint8_t)type;
    r->on_answer = on_answer;
    r->number = ++l->numbers;
    r->sent = false;
    r->sends = 0;
    r->retry_ms = 0;
    r->last_code = 0;
    r->refused = false;
    TAILQ_INSERT_TAIL(&l->wire, r, place);
    HASH_ADD(hh, l->by_number, number, sizeof r->number, r);
}

static void start(struct fs *fs, struct request *r)
{
    /* Replies of any size are possible only for requests that fit in memory. */
    if (r->payload.failed) {
        struct cursor nothing = cursor_of(NULL, 0);

        link_cancel(fs, r);
        r->on_answer(fs, r, -ENOMEM, &nothing);
        return;
    }
    if (fs->link.client != NULL && !fs->link.broken)
        transmit(fs, r);
}

void link_send(struct fs *fs, struct request *r, enum message_type type, request_fn *on_answer)
{
    r->seq = 0;
    enter(fs, r, type, on_answer);
    start(fs, r);
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

static void put_head(struct fs *fs, struct request *r, enum command_op op)
{
    struct link *l = &fs->link;
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

void link_write(struct fs *fs, struct request *r, enum command_op op, const struct command_body *body,
                request_fn *on_answer)
{
    r->op = (uint8_t)op;
    r->seq = fs->link.next_seq++;
    enter(fs, r, MESSAGE_WRITE, on_answer);
    put_head(fs, r, op);
    command_body_encode(&r->payload, (uint8_t)op, body);
    start(fs, r);
}

void link_write_parts(struct fs *fs, struct request *r, enum command_op op, request_fn *on_answer)
{
    r->op = (uint8_t)op;
    r->seq = fs->link.next_seq++;
    enter(fs, r, MESSAGE_WRITE, on_answer);
    put_head(fs, r, op);
    start(fs, r);
}

void link_cancel(struct fs *fs, struct request *r)
{
    struct link *l = &fs->link;

    if (r->number == 0)
        return;
    TAILQ_REMOVE(&l->wire, r, place);
    HASH_DELETE(hh, l->by_number, r);
    r->number = 0;
}

static void on_posted(struct fs *fs, struct request *r, int code, struct cursor *body)
{
    request_end(fs, r);
}

void link_close_inode(struct fs *fs, uint64_t ino)
{
    struct request *r;

    if (fs->link.client == NULL || fs->link.broken)
        return;
    r = request_begin(fs, NULL);
    if (r == NULL)
        return;
    r->once = true;
    buffer_put_u64(&r->payload, ino);
    link_send(fs, r, MESSAGE_CLOSE, on_posted);
}

/* Answers */

static void deliver(struct fs *fs, struct request *r, int code, struct cursor *body)
{
    link_cancel(fs, r);
    r->on_answer(fs, r, code, body);
}

/* The session is unknown to the cluster: start over with a new one. */
static void lose_session(struct fs *fs, struct request *r)
{
    struct link *l = &fs->link;

    r->refused = r->sends <= 1;
    r->sent = false;
    if (!l->session_lost)
        log_warn("the cluster has dropped this mount's session; a new one is registered");
    l->session_lost = true;
    l->broken = true;
}

/* Whether the node's code means "ask again", and arranges for that. */
static bool is_retried(struct fs *fs, struct request *r, int code)
{
    struct link *l = &fs->link;
    uint64_t now = clock_boot_ms();

    switch (code) {
    case KV_E_ROFS:
        if (++l->refusals >= l->n_paths)
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
    if (l->n_paths > 1 && code != KV_E_BUSY && now - l->rotated_ms > ROTATE_MS) {
        l->rotated_ms = now;
        l->rotate = l->broken = true;
    }
    r->last_code = code;
    r->sent = false;
    r->retry_ms = now + RETRY_MS;
    if (code != KV_E_UNKNOWN)
        r->sends--; /* nothing was written: as if it had not been sent */
    return true;
}

static void on_answer_frame(struct fs *fs, const struct frame *frame)
{
    struct link *l = &fs->link;
    uint64_t number = frame->id >> 16;
    unsigned part = (unsigned)(frame->id & 0xffff);
    struct request *r;
    struct cursor body;
    int code, outer;

    HASH_FIND(hh, l->by_number, &number, sizeof number, r);
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
        lose_session(fs, r);
        return;
    }
    if (part != LINK_LAST_PART || code == KV_E_PART) {
        if (r->on_part != NULL)
            r->on_part(fs, r, part, code);
        return;
    }
    /* A code inside a result is the command's outcome, and final. */
    if (outer != 0 && is_retried(fs, r, outer))
        return;
    if (outer == 0)
        l->refusals = 0;
    deliver(fs, r, code, &body);
}

static void on_event_frame(struct fs *fs, const struct frame *frame)
{
    struct link *l = &fs->link;
    struct cursor c = cursor_of(frame->payload, frame->len);
    struct event e;

    if (event_decode(&c, &e) != 0) {
        log_error("the node sent a malformed event");
        l->broken = true;
        return;
    }
    if (e.revision > l->seen)
        l->seen = e.revision;
    event_handle(fs, &e);
    if (e.last)
        l->complete = e.revision;
}

/* Handles up to FRAMES_A_TURN frames; false: there may be more. */
static bool take_frames(struct fs *fs)
{
    struct link *l = &fs->link;
    int i;

    for (i = 0; i < FRAMES_A_TURN; i++) {
        struct frame frame;
        int rc;

        if (l->client == NULL || l->broken)
            return true;
        rc = client_next(l->client, &frame);
        if (rc == 0)
            return true;
        l->heard_ms = clock_boot_ms();
        if (rc < 0) {
            log_warn("connection to node %s lost: %s", l->node.name, strerror(-rc));
            l->broken = true;
            return true;
        }
        if (frame.type == MESSAGE_EVENT)
            on_event_frame(fs, &frame);
        else if (frame.type == MESSAGE_ANSWER)
            on_answer_frame(fs, &frame);
    }
    return false;
}

/* Connecting. Without the lock: blocks for CONNECT_MS at most at each step. */

struct attempt {
    struct client *client;
    struct client_node node;
    uint64_t session, seen, complete;
    uint8_t nonce[16];
    uint64_t events_from;
    const char *step;
};

static int register_session(struct attempt *a)
{
    struct command command = {.op = COMMAND_REGISTER, .node = ""};
    struct command_body body = {.nonce = a->nonce, .name = (const uint8_t *)"kvfs", .name_len = 4};
    struct buffer *b = client_queue(a->client, MESSAGE_WRITE, 1);
    struct command_result result;
    struct cursor c;
    int rc;

    if (a->node.trusted)
        command.flags |= COMMAND_TRUSTED;
    buffer_put_u8(b, 0);
    buffer_put_u32(b, 0);
    buffer_put_u32(b, 0);
    command_encode(b, &command);
    command_body_encode(b, COMMAND_REGISTER, &body);
    client_queue_end(a->client);
    rc = client_call(a->client, 1, CONNECT_MS, &c, NULL, 0);
    if (rc != 0)
        return rc;
    command_result_decode(&c, &result);
    if (c.failed)
        return -EPROTO;
    if (result.code == 0)
        a->session = result.session;
    return result.code;
}

static int subscribe(struct attempt *a)
{
    struct buffer *b = client_queue(a->client, MESSAGE_SUBSCRIBE, 2);
    struct cursor c;
    int rc;

    buffer_put_u64(b, a->complete);
    client_queue_end(a->client);
    rc = client_call(a->client, 2, CONNECT_MS, &c, NULL, 0);
    if (rc != 0)
        return rc;
    a->events_from = cursor_u64(&c);
    return c.failed ? -EPROTO : 0;
}

static int attempt(struct attempt *a, const char *path)
{
    bool first = a->seen == 0;
    int rc;

    a->step = "hello";
    rc = client_open(path, CLIENT_MOUNT, "kvfs", a->seen, CONNECT_MS, &a->client, &a->node);
    if (rc != 0)
        return rc;
    if (first)
        a->seen = a->complete = a->node.applied;
    if (a->session == 0) {
        a->step = "registering a session";
        rc = register_session(a);
    }
    if (rc == 0) {
        a->step = "subscribing";
        rc = subscribe(a);
    }
    if (rc != 0) {
        client_close(a->client);
        a->client = NULL;
    }
    return rc;
}

static void attempt_begin(struct fs *fs, struct attempt *a)
{
    struct link *l = &fs->link;

    *a = (struct attempt){.session = l->session, .seen = l->seen, .complete = l->complete};
    if (l->session == 0 && l->nonce[0] == 0 && getrandom(l->nonce, sizeof l->nonce, 0) > 0)
        l->nonce[0] |= 1; /* repeated until it is answered: registering twice gives one session */
    memcpy(a->nonce, l->nonce, sizeof a->nonce);
}

/* A request of a session that has ended. */
static void renumber(struct fs *fs, struct request *r)
{
    struct link *l = &fs->link;
    struct cursor nothing = cursor_of(NULL, 0);

    if (r->sends > 0 && !r->refused && !r->idempotent) {
        deliver(fs, r, KV_E_UNKNOWN, &nothing);
        return;
    }
    r->seq = l->next_seq++;
    r->sends = 0;
    r->refused = false;
    buffer_set_u64(&r->payload, SESSION_AT, l->session);
    buffer_set_u64(&r->payload, SEQ_AT, r->seq);
    buffer_set_u64(&r->payload, SEQ_AT + 8, 0);
}

/* Calls fn for every request that is with the link now, in order. fn may end
 * the one it gets, and others that come later are not visited. */
static void each_request(struct fs *fs, void (*fn)(struct fs *fs, struct request *r))
{
    struct link *l = &fs->link;
    uint64_t last = l->numbers, done = 0;

    for (;;) {
        struct request *r;

        TAILQ_FOREACH (r, &l->wire, place) {
            if (r->number > done && r->number <= last)
                break;
        }
        if (r == NULL)
            return;
        done = r->number;
        fn(fs, r);
    }
}

static void renumber_write(struct fs *fs, struct request *r)
{
    if (r->seq != 0)
        renumber(fs, r);
}

static void resend(struct fs *fs, struct request *r)
{
    if (!r->sent && fs->link.client != NULL && !fs->link.broken)
        transmit(fs, r);
}

static void adopt(struct fs *fs, struct attempt *a)
{
    struct link *l = &fs->link;
    bool gap = a->events_from > a->complete + 1;
    bool new_session = a->session != l->session;

    l->client = a->client;
    l->connections++;
    l->node = a->node;
    l->subscription = 2;
    l->broken = l->rotate = l->want_write = l->session_lost = false;
    l->session = a->session;
    l->keepalive_ms = clock_boot_ms() + KEEPALIVE_MS;
    if (l->seen == 0)
        l->seen = l->complete = a->complete;
    if (new_session) {
        memset(l->nonce, 0, sizeof l->nonce);
        l->next_seq = 1;
        each_request(fs, renumber_write);
    }
    if (gap) {
        log_warn("node %s no longer has the events after revision %" PRIu64 "; all caches are dropped",
                 l->node.name, a->complete);
        l->complete = a->events_from - 1;
        notifier_drop_all(fs);
    }
    file_reopen_all(fs);
    each_request(fs, resend);
}

int link_open(struct fs *fs, char *error_out, size_t size)
{
    struct link *l = &fs->link;
    uint64_t deadline = clock_boot_ms() + fs->options->timeout_ms;
    struct attempt a;
    int rc = -ENOENT;

    for (;;) {
        for (l->current = 0; l->current < l->n_paths; l->current++) {
            attempt_begin(fs, &a);
            rc = attempt(&a, l->paths[l->current]);
            if (rc == 0) {
                pthread_mutex_lock(&fs->lock);
                adopt(fs, &a);
                pthread_mutex_unlock(&fs->lock);
                return 0;
            }
            snprintf(error_out, size, "%s: %s: %s", l->paths[l->current], a.step,
                     rc < 0 ? strerror(-rc) : error_text(rc));
        }
        /* No socket, or nobody behind it, will not mend itself while we wait. */
        if (rc == -ENOENT || rc == -ECONNREFUSED || rc == -EACCES || clock_boot_ms() >= deadline)
            return -1;
        usleep(100000);
    }
}

int link_resolve(struct fs *fs, const char *path, struct attr *attr_out)
{
    struct link *l = &fs->link;
    struct buffer *b = client_queue(l->client, MESSAGE_RESOLVE, 3);
    struct cursor c;
    int rc;

    buffer_put_u8(b, READ_LINEARIZABLE);
    buffer_put_text(b, path);
    client_queue_end(l->client);
    rc = client_call(l->client, 3, fs->options->timeout_ms, &c, NULL, 0);
    if (rc != 0)
        return rc;
    attr_decode(&c, attr_out);
    return c.failed ? -EPROTO : 0;
}

/* The node thread */

static void forget_sent(struct fs *fs, struct request *r)
{
    r->sent = false;
    if (r->once)
        request_end(fs, r);
}

static void drop(struct fs *fs)
{
    struct link *l = &fs->link;

    if (l->client == NULL)
        return;
    client_close(l->client);
    l->client = NULL;
    if (l->session_lost)
        l->session = 0;
    l->current = l->rotate ? (l->current + 1) % l->n_paths : 0;
    each_request(fs, forget_sent);
    /* Nobody tells this mount of changes now: the kernel has to ask again. */
    notifier_drop_all(fs);
}

/* One attempt at the current node; without the lock but for the ends. */
static bool reconnect(struct fs *fs)
{
    struct link *l = &fs->link;
    struct attempt a;
    int rc;

    pthread_mutex_lock(&fs->lock);
    attempt_begin(fs, &a);
    pthread_mutex_unlock(&fs->lock);
    rc = attempt(&a, l->paths[l->current]);
    pthread_mutex_lock(&fs->lock);
    if (rc == 0) {
        adopt(fs, &a);
        log_info("connected to node %s", l->node.name);
    } else {
        log_debug("%s: %s: %s", l->paths[l->current], a.step, rc < 0 ? strerror(-rc) : error_text(rc));
        l->current = (l->current + 1) % l->n_paths;
    }
    pthread_mutex_unlock(&fs->lock);
    return rc == 0;
}

static void keepalive(struct fs *fs, uint64_t now_ms)
{
    struct link *l = &fs->link;
    struct command_body body = {0};
    struct request *r;

    if (l->client == NULL || now_ms < l->keepalive_ms)
        return;
    l->keepalive_ms = now_ms + KEEPALIVE_MS;
    r = request_begin(fs, NULL);
    if (r != NULL)
        link_write(fs, r, COMMAND_KEEPALIVE, &body, on_posted);
}

/* A node that is stopped or cut off keeps its socket open and says nothing. */
static void check_silence(struct fs *fs, uint64_t now_ms)
{
    struct link *l = &fs->link;
    uint64_t limit = fs->options->timeout_ms / 2;
    const struct request *r;

    if (l->client == NULL || l->n_paths < 2 || now_ms - l->heard_ms < limit)
        return;
    TAILQ_FOREACH (r, &l->wire, place) {
        if (!r->sent || now_ms - r->sent_ms < limit)
            continue;
        log_warn("node %s has been silent for %u ms; trying the next one", l->node.name, (unsigned)limit);
        l->rotated_ms = now_ms;
        l->rotate = l->broken = true;
        return;
    }
}

/* Sends again what was put off; returns ms until the next such moment. */
static int retry_due(struct fs *fs, uint64_t now_ms)
{
    struct link *l = &fs->link;
    struct request *r;
    int wait = TAILQ_EMPTY(&fs->requests) ? IDLE_MS : TICK_MS;

    TAILQ_FOREACH (r, &l->wire, place) {
        if (r->sent || l->client == NULL || l->broken)
            continue;
        if (r->retry_ms <= now_ms)
            transmit(fs, r);
        else if (r->retry_ms - now_ms < (uint64_t)wait)
            wait = (int)(r->retry_ms - now_ms);
    }
    return wait;
}

/* Everything that time brings. Returns ms until the next turn. */
static int tick(struct fs *fs, uint64_t *last_ms)
{
    uint64_t now = clock_boot_ms();

    check_silence(fs, now);
    if (fs->link.broken)
        drop(fs);
    if (now - *last_ms >= TICK_MS / 2) {
        *last_ms = now;
        request_tick(fs, now);
        publish_tick(fs, now);
        retry_tick(fs, now);
        keepalive(fs, now);
    }
    return retry_due(fs, now);
}

static void *run(void *arg)
{
    struct fs *fs = arg;
    struct link *l = &fs->link;
    uint64_t last_tick = 0, ignored;
    bool all_taken = true;

    pthread_mutex_lock(&fs->lock);
    while (l->running) {
        struct pollfd fds[2] = {{.fd = l->wake_fd, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
        int wait = tick(fs, &last_tick);
        bool down = l->client == NULL;

        if (!down) {
            fds[1].fd = client_fd(l->client);
            if (l->want_write)
                fds[1].events |= POLLOUT;
        }
        pthread_mutex_unlock(&fs->lock);
        if (down && reconnect(fs)) {
            pthread_mutex_lock(&fs->lock);
            continue;
        }
        poll(fds, 2, !all_taken ? 0 : down && wait > RETRY_MS ? RETRY_MS : wait);
        if ((fds[0].revents & POLLIN) != 0 && read(l->wake_fd, &ignored, sizeof ignored) < 0)
            ignored = 0;
        pthread_mutex_lock(&fs->lock);
        if (l->client != NULL && l->want_write)
            flush(fs);
        all_taken = take_frames(fs);
    }
    pthread_mutex_unlock(&fs->lock);
    return NULL;
}

int link_start(struct fs *fs)
{
    fs->link.running = true;
    if (pthread_create(&fs->link.thread, NULL, run, fs) != 0) {
        fs->link.running = false;
        return -1;
    }
    return 0;
}

void link_stop(struct fs *fs)
{
    bool running;

    pthread_mutex_lock(&fs->lock);
    running = fs->link.running;
    fs->link.running = false;
    pthread_mutex_unlock(&fs->lock);
    if (!running)
        return;
    link_wake(fs);
    pthread_join(fs->link.thread, NULL);
}
