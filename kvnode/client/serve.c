#include "kvnode/client/serve.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kvnode/client/client_conn.h"
#include "kvnode/client/control.h"
#include "kvnode/client/past.h"
#include "kvnode/client/serve_socket.h"
#include "kvnode/group/events.h"
#include "kvnode/group/reads.h"
#include "kvnode/group/writes.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

/* Connections over the bounds that may wait to hear why they are refused. */
#define REFUSED_MAX 32
#define SAY_EVERY_MS 1000
/* A connection has this long to say HELLO, and is the first to go when the places
 * run out. */
#define HELLO_MS 5000
#define ACCEPTS_PER_TURN 32
/* Requests of one client under way, and bytes that their answers may have; beyond
 * it the node stops reading from it. */
#define REQUESTS_MAX 4096
#define PROMISED_MAX (8 * 1024 * 1024)
#define PAUSE_AT (16 * 1024 * 1024)
/* What all clients together may leave unread before each has to be content with
 * the share; a subscriber beyond a larger share is disconnected. */
#define UNREAD_MAX (256UL * 1024 * 1024)
#define UNREAD_SHARE (256UL * 1024)
#define UNREAD_SUBSCRIBER (4UL * 1024 * 1024)

struct serve {
    struct node *node; /* borrowed */
    struct client_conn *clients;
    unsigned n;
    struct client_users users;
    int listen_fd;
    uv_poll_t listen_poll;
    bool listening;  /* not while the process has no descriptor for one more */
    uint64_t say_ms; /* when a refusal may be logged again */
    bool stopped;
    bool crowded; /* clients hold more than UNREAD_MAX */
};

/* ---- connections ---- */

static void conn_put(struct client_conn *c)
{
    if (--c->refs > 0)
        return;
    client_user_leave(c->user);
    free(c);
}

static void close_inodes(struct client_conn *c)
{
    struct open_inode *o, *next;

    HASH_ITER(hh, c->open, o, next)
    {
        HASH_DEL(c->open, o);
        client_user_unhold(o->user, o);
        client_user_open(o->user, -1);
        client_user_put(o->user);
        while (o->count-- > 0)
            store_unpin(c->node->store, o->ino);
        free(o);
    }
}

static void on_closed(void *arg, int reason)
{
    struct client_conn *c = arg;
    struct client_conn **at;

    for (at = &c->serve->clients; *at != NULL; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    c->serve->n--;
    if (reason != 0 && reason != -ECANCELED && reason != -ECONNRESET && reason != -EPIPE)
        log_info("client %s: %s", c->name, strerror(-reason));
    c->stream = NULL;
    events_unsubscribe(c->node->events, c->subscriber);
    c->subscriber = NULL;
    reserve_drop(&c->node->reserve, &c->reservation);
    close_inodes(c);
    conn_put(c);
}

static void update_pause(struct client_conn *c)
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
static size_t answer_bound(const struct client_conn *c, const struct frame *frame)
{
    struct cursor in = cursor_of(frame->payload, frame->len);
    struct attr attr;
    size_t ignored, len, bound = 512;
    const uint8_t *path, *name;
    uint64_t ino;

    switch (frame->type) {
    case MESSAGE_READ:
        cursor_u8(&in);
        ino = cursor_u64(&in);
        cursor_u64(&in);
        if (store_getattr(c->node->store, ino, &attr) == KV_OK)
            bound += smaller(cursor_u32(&in), attr.size);
        break;
    case MESSAGE_GET:
        cursor_u8(&in);
        path = cursor_string(&in, KV_PATH_MAX + 1, &len);
        cursor_u64(&in);
        if (path != NULL &&
            store_resolve(c->node->store, &c->who, path, len, &attr, &ino, &name, &ignored) == KV_OK)
            bound += smaller(cursor_u32(&in), attr.size);
        break;
    case MESSAGE_VERSION:
        cursor_u64(&in);
        cursor_string(&in, KV_NAME_MAX, &ignored);
        cursor_u64(&in);
        cursor_u64(&in);
        bound += cursor_u32(&in);
        break;
    case MESSAGE_HISTORY:
        cursor_u64(&in);
        cursor_string(&in, KV_NAME_MAX, &ignored);
        cursor_u64(&in);
        bound += (uint64_t)(cursor_u32(&in) & ~PAST_LOCAL) * PAST_ROW_MAX;
        break;
    case MESSAGE_READDIR:
    case MESSAGE_NAMES:
    case MESSAGE_LOG:
        bound = FRAME_PAYLOAD_MAX;
        break;
    default:
        break;
    }
    return bound < FRAME_PAYLOAD_MAX ? bound : FRAME_PAYLOAD_MAX;
}

struct request *request_new(struct client_conn *conn, const struct frame *frame)
{
    struct request *r = calloc(1, sizeof *r);

    if (r == NULL)
        return NULL;
    r->body = malloc(frame->len > 0 ? frame->len : 1);
    if (r->body == NULL) {
        free(r);
        return NULL;
    }
    memcpy(r->body, frame->payload, frame->len);
    r->len = frame->len;
    r->id = frame->id;
    r->type = frame->type;
    r->conn = conn;
    r->promised = answer_bound(conn, frame);
    conn->refs++;
    conn->requests++;
    conn->promised += r->promised;
    client_user_request(conn->user, 1, r->promised);
    update_pause(conn);
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
    update_pause(c);
    conn_put(c);
    free(r->body);
    free(r);
}

struct buffer *answer_begin(struct client_conn *conn, uint64_t id, size_t *at_out)
{
    struct buffer *out;

    if (conn->stream == NULL)
        return NULL;
    out = stream_output(conn->stream);
    *at_out = frame_begin(out, MESSAGE_ANSWER, NODE_GROUP, id);
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

/* ---- requests ---- */

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
        store_usage(n->store, &usage);
        buffer_put_text(out, n->config->name);
        buffer_put_u64(out, n->config->cluster_id);
        buffer_put_u64(out, store_applied(n->store));
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
    reads_after(c->node->reads, after, on_hello_ready, r);
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
    reads_start(c->node->reads, on_read_ready, r);
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
    c->subscriber = events_subscribe(c->node->events, c->stream, c->protocol, frame->id, after,
                                     store_applied(c->node->store), &from);
    if (c->subscriber == NULL)
        return -ENOMEM;
    if (!c->who.trusted && c->who.uid != 0)
        events_redact(c->subscriber, client_redact, c);
    out = answer_begin(c, frame->id, &at);
    if (out == NULL)
        return 0;
    buffer_put_u64(out, from);
    answer_end(c, at, KV_OK, NULL);
    events_replay(c->node->events, c->subscriber);
    return 0;
}

static void on_text(struct client_conn *c, const struct frame *frame)
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
    store_usage(c->node->store, &usage);
    c->reservation.uid = c->who.uid;
    c->reservation.trusted = c->who.trusted;
    code = reserve_set(&c->node->reserve, &c->reservation, &usage, held, least, wanted, &granted);
    out = answer_begin(c, frame->id, &at);
    if (out != NULL) {
        buffer_put_u64(out, granted);
        answer_end(c, at, code, "this user has too much room reserved on this node");
    }
    return 0;
}

static int on_frame(void *arg, const struct frame *frame)
{
    struct client_conn *c = arg;

    if (c->serve->crowded && stream_pending(c->stream) > UNREAD_SHARE) {
        c->held = true; /* this one is still answered */
        update_pause(c);
    }
    if (c->refusal != NULL) {
        answer_code(c, frame->id, KV_E_BUSY, c->refusal);
        return -EPROTO;
    }
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
    switch (frame->type) {
    case MESSAGE_HELLO:
        return on_hello(c, frame);
    case MESSAGE_WRITE:
        return serve_write(c, frame);
    case MESSAGE_SUBSCRIBE:
        return on_subscribe(c, frame);
    case MESSAGE_RESERVE:
        return on_reserve(c, frame);
    case MESSAGE_HISTORY:
    case MESSAGE_VERSION:
    case MESSAGE_NAMES:
    case MESSAGE_LOG:
        return past_request(c->node->past, c, frame);
    case MESSAGE_STATUS:
    case MESSAGE_SETTINGS:
    case MESSAGE_ADMIN:
        on_text(c, frame);
        return 0;
    default:
        answer_code(c, frame->id, KV_E_NOTSUP, "this node does not know the request");
        return 0;
    }
}

/* ---- the socket ---- */

static void identify(struct client_conn *c, int fd)
{
    struct ucred cred = {.uid = (uid_t)-1, .gid = (gid_t)-1};
    socklen_t len = sizeof cred;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
        cred.uid = (uid_t)-1;
    c->who.uid = cred.uid;
    c->who.gid = cred.gid;
    len = sizeof c->groups;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, c->groups, &len) == 0)
        c->who.n_groups = (uint32_t)(len / sizeof c->groups[0]);
    c->who.groups = c->groups;
    /* Who can read the node's files already may speak for others. */
    c->who.trusted = cred.uid == 0 || cred.uid == geteuid();
}

/* Makes room: the one that has said nothing for longest goes. user: of his only, or NULL. */
static bool evict(struct serve *s, const struct client_user *user)
{
    struct client_conn *c, *oldest = NULL;

    for (c = s->clients; c != NULL; c = c->next) /* the newest comes first */
        if (!c->hello && c->opened_ms != 0 && c->refusal == NULL && (user == NULL || c->user == user))
            oldest = c;
    if (oldest == NULL)
        return false;
    oldest->opened_ms = 0; /* going already */
    stream_close(oldest->stream);
    return true;
}

/* Is he refused? A connection that says nothing makes room first. */
static const char *refuse(struct serve *s, const struct client_conn *c)
{
    const char *why = client_user_refuses_connection(&s->users, c->who.uid, c->who.trusted);
    uint64_t now = clock_boot_ms();

    if (why == NULL || evict(s, s->users.total.connections < CLIENTS_MAX ? c->user : NULL))
        return NULL;
    if (now >= s->say_ms) {
        log_warn("a client of user %" PRIu32 " was refused: %s", c->who.uid, why);
        s->say_ms = now + SAY_EVERY_MS;
    }
    return why;
}

static void accept_one(struct serve *s, int fd)
{
    struct stream_callbacks callbacks = {.on_frame = on_frame, .on_closed = on_closed};
    struct client_conn *c = calloc(1, sizeof *c);

    if (c == NULL) {
        close(fd);
        return;
    }
    c->node = s->node;
    c->serve = s;
    c->refs = 1;
    c->opened_ms = clock_boot_ms();
    snprintf(c->name, sizeof c->name, "?");
    identify(c, fd);
    c->refusal = refuse(s, c);
    if (c->refusal != NULL && s->n >= CLIENTS_MAX + REFUSED_MAX) {
        close(fd);
        free(c);
        return;
    }
    c->user = client_user_enter(&s->users, c->who.uid, c->who.trusted);
    callbacks.arg = c;
    if (c->user == NULL) {
        close(fd);
        free(c);
        return;
    }
    if (stream_open(&s->node->streams, fd, fd, &callbacks, PAUSE_AT, &c->stream) != 0) {
        conn_put(c);
        return;
    }
    c->next = s->clients;
    s->clients = c;
    s->n++;
}

static void listen_on(struct serve *s, bool on);

static void on_listen(uv_poll_t *poll, int status, int events)
{
    struct serve *s = poll->data;
    unsigned n;
    int fd;

    (void)events;
    if (status < 0)
        return;
    /* Bounded, so that those that go to make room are gone before the next ones. */
    for (n = 0; n < ACCEPTS_PER_TURN; n++) {
        fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            /* No descriptor or no memory: the socket stays readable, so it rests until the next beat. */
            log_warn("a client cannot be accepted now: %s", strerror(errno));
            listen_on(s, false);
        }
        if (fd < 0)
            return;
        accept_one(s, fd);
    }
}

static void listen_on(struct serve *s, bool on)
{
    if (s->listening == on || s->stopped)
        return;
    s->listening = on;
    if (on)
        uv_poll_start(&s->listen_poll, UV_READABLE, on_listen);
    else
        uv_poll_stop(&s->listen_poll);
}

/* Who holds the inode open keeps it from now on. */
void serve_held(struct serve *s, uint64_t ino, uint64_t bytes)
{
    struct client_conn *c;
    struct open_inode *o;

    if (s == NULL)
        return;
    for (c = s->clients; c != NULL; c = c->next) {
        HASH_FIND(hh, c->open, &ino, sizeof ino, o);
        if (o != NULL && o->count > 0)
            client_user_hold(o->user, o, bytes);
    }
}

void serve_beat(struct serve *s, uint64_t now_ms)
{
    struct client_conn *c;
    struct store_usage usage;
    size_t unread = 0;

    if (s == NULL)
        return;
    listen_on(s, true);
    store_usage(s->node->store, &usage);
    client_users_release(&s->users, s->node->store, usage.max_bytes);
    for (c = s->clients; c != NULL; c = c->next) {
        if (c->stream == NULL)
            continue;
        if (!c->hello && now_ms - c->opened_ms > HELLO_MS)
            stream_close(c->stream);
        unread += stream_pending(c->stream);
    }
    s->crowded = unread > UNREAD_MAX;
    for (c = s->clients; c != NULL; c = c->next) {
        if (c->stream == NULL)
            continue;
        if (s->crowded && c->subscriber != NULL && stream_pending(c->stream) > UNREAD_SUBSCRIBER)
            stream_close(c->stream);
        if (c->held && (!s->crowded || stream_pending(c->stream) <= UNREAD_SHARE))
            c->held = false;
        update_pause(c); /* others of its user may have been busy */
    }
}

int serve_start(struct node *node, struct serve **out, char *why)
{
    struct serve *s = calloc(1, sizeof *s);
    int rv;

    *out = s;
    if (s == NULL)
        return -ENOMEM;
    s->node = node;
    s->listen_fd = serve_socket(node->config, why);
    if (s->listen_fd < 0)
        return s->listen_fd;
    rv = uv_poll_init(&node->loop, &s->listen_poll, s->listen_fd);
    if (rv == 0) {
        s->listen_poll.data = s;
        listen_on(s, true);
    }
    return rv;
}

void serve_reset(struct serve *s)
{
    struct client_conn *c;

    for (c = s->clients; c != NULL; c = c->next) {
        struct open_inode *o, *next;

        HASH_ITER(hh, c->open, o, next)
        {
            HASH_DEL(c->open, o);
            client_user_unhold(o->user, o);
            client_user_open(o->user, -1);
            client_user_put(o->user);
            free(o);
        }
        if (c->stream != NULL)
            stream_close(c->stream);
    }
}

void serve_stop(struct serve *s)
{
    struct client_conn *c;

    if (s == NULL || s->stopped)
        return;
    s->stopped = true;
    if (s->listen_poll.data != NULL) {
        uv_close((uv_handle_t *)&s->listen_poll, NULL);
        unlink(s->node->config->socket);
    }
    for (c = s->clients; c != NULL; c = c->next)
        if (c->stream != NULL)
            stream_finish(c->stream);
}

void serve_free(struct serve *s)
{
    if (s == NULL)
        return;
    if (s->listen_fd >= 0)
        close(s->listen_fd);
    free(s);
}

unsigned serve_clients(const struct serve *s)
{
    return s->n;
}
