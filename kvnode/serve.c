#include "kvnode/serve.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvnode/client_conn.h"
#include "kvnode/control.h"
#include "kvnode/events.h"
#include "kvnode/past.h"
#include "kvnode/reads.h"
#include "kvnode/writes.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

/* Clients at once, mounts and commands together, and what of that is kept for
 * root and the node's own user. */
#define CLIENTS_MAX 512
#define CLIENTS_TRUSTED 32
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

static const char no_state[] = "this node is fetching its state from the leader; ask another";

struct serve {
    struct node *node; /* borrowed */
    struct client_conn *clients;
    unsigned n;
    int listen_fd;
    uv_poll_t listen_poll;
    bool stopped;
    bool crowded; /* clients hold more than UNREAD_MAX */
};

/* ---- connections ---- */

static void conn_put(struct client_conn *c)
{
    if (--c->refs == 0)
        free(c);
}

static void close_inodes(struct client_conn *c)
{
    struct open_inode *o, *next;

    HASH_ITER(hh, c->open, o, next)
    {
        HASH_DEL(c->open, o);
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
    close_inodes(c);
    conn_put(c);
}

static void update_pause(struct client_conn *c)
{
    bool pause = c->requests >= REQUESTS_MAX || c->promised >= PROMISED_MAX || c->held;

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
    case MESSAGE_READDIR:
    case MESSAGE_HISTORY:
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
    update_pause(conn);
    return r;
}

void request_end(struct request *r)
{
    struct client_conn *c = r->conn;

    c->requests--;
    c->promised -= r->promised;
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
    if (c->node->stateless && kind == CLIENT_MOUNT) {
        answer_code(c, frame->id, KV_E_UNAVAILABLE, no_state); /* it has others to go to */
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

static void on_written(void *arg, int code, const struct command_result *result)
{
    struct request *r = arg;
    struct buffer *out;
    size_t at;

    out = answer_begin(r->conn, r->id, &at);
    if (out != NULL) {
        if (code == KV_OK)
            command_result_encode(out, result, r->conn->protocol);
        answer_end(r->conn, at, code,
                   code == KV_E_NOSPC ? "the disk of this node is full; another one may have room" : NULL);
    }
    request_end(r);
}

/* A publication goes only through a handle whose opening was checked here. The
 * inode is the first field of its body; one in parts is checked when it is applied. */
static bool may_publish(struct client_conn *c, const struct command *cmd)
{
    struct open_inode *o = NULL;
    struct cursor in = cursor_of(cmd->body, cmd->body_len);
    uint64_t ino = cursor_u64(&in);

    if (cmd->op != COMMAND_PUBLISH || (cmd->flags & COMMAND_PARTS) != 0)
        return true;
    HASH_FIND(hh, c->open, &ino, sizeof ino, o);
    return o != NULL && (o->access & OPEN_WRITE) != 0;
}

/* Sessions have numbers that are easy to guess, so a session that an untrusted
 * client registers bears its uid before its name, "1000:kvfs", and is open to
 * that uid only. */
static int owner_prefix(const struct client_conn *c, char out[static 16])
{
    return snprintf(out, 16, "%" PRIu32 ":", c->who.uid);
}

static bool is_own_session(struct client_conn *c, uint64_t session)
{
    char prefix[16];
    size_t n = (size_t)owner_prefix(c, prefix), len;
    const uint8_t *name = store_session_client(c->node->store, session, &len);

    return name != NULL && len >= n && memcmp(name, prefix, n) == 0;
}

/* The body of a registration with the owner's prefix, in b. */
static int stamp_registration(const struct client_conn *c, const struct command *cmd, struct buffer *b)
{
    struct command_body body;
    char name[KV_NAME_MAX + 1];
    int n, rv;

    rv = command_body_decode(cmd->op, cmd->body, cmd->body_len, &body);
    if (rv != KV_OK)
        return rv;
    n = owner_prefix(c, name);
    if (body.name_len > sizeof name - 1 - (size_t)n)
        body.name_len = sizeof name - 1 - (size_t)n;
    memcpy(name + n, body.name, body.name_len);
    body.name = (const uint8_t *)name;
    body.name_len += (size_t)n;
    command_body_encode(b, cmd->op, &body);
    return b->failed ? KV_E_BUSY : KV_OK;
}

/* What a client that is not trusted may not write; 0 if it may. */
static int check_untrusted(struct client_conn *c, const struct command *cmd, bool has_owner,
                           const char **detail_out)
{
    if (has_owner) {
        *detail_out = "only root and the node's own user may write for others";
        return KV_E_PERM;
    }
    if (!may_publish(c, cmd)) {
        *detail_out = "the file is not open for writing here";
        return KV_E_ACCES;
    }
    if (cmd->session == 0 && (cmd->op == COMMAND_END || cmd->op == COMMAND_PART)) {
        *detail_out = "not with the node's session";
        return KV_E_PERM;
    }
    if (cmd->op != COMMAND_REGISTER && cmd->session != 0 && !is_own_session(c, cmd->session)) {
        *detail_out = NULL;
        return KV_E_SESSION;
    }
    return KV_OK;
}

static int on_write(struct client_conn *c, const struct frame *frame)
{
    struct cursor in = cursor_of(frame->payload, frame->len);
    uint8_t has_owner = cursor_u8(&in);
    uint32_t uid = cursor_u32(&in), gid = cursor_u32(&in);
    uint32_t groups[COMMAND_GROUPS_MAX];
    struct buffer registration = BUFFER_INIT;
    const char *detail = NULL;
    struct command cmd;
    struct request *r;
    uint32_t i;
    int rv = KV_OK;

    if (in.failed || command_decode(in.data, in.len, &cmd) != KV_OK) {
        answer_code(c, frame->id, KV_E_PROTOCOL, "malformed command");
        return -EPROTO;
    }
    if (!c->who.trusted)
        rv = check_untrusted(c, &cmd, has_owner, &detail);
    if (rv == KV_OK && !c->who.trusted && cmd.op == COMMAND_REGISTER) {
        rv = stamp_registration(c, &cmd, &registration);
        cmd.body = registration.data;
        cmd.body_len = registration.len;
    }
    if (rv != KV_OK) {
        buffer_deinit(&registration);
        answer_code(c, frame->id, rv, detail);
        return 0;
    }
    cmd.uid = has_owner ? uid : c->who.uid;
    cmd.gid = has_owner ? gid : c->who.gid;
    cmd.n_groups = has_owner ? 0 : c->who.n_groups;
    for (i = 0; i < cmd.n_groups; i++)
        groups[i] = __builtin_bswap32(c->groups[i]);
    cmd.groups = (const uint8_t *)groups;
    cmd.flags = (uint16_t)(c->who.trusted ? cmd.flags : cmd.flags & ~COMMAND_TRUSTED);
    cmd.node = c->node->config->name;
    cmd.node_len = strlen(cmd.node);
    r = request_new(c, &(struct frame){.type = frame->type, .id = frame->id, .payload = frame->payload});
    rv = r != NULL ? writes_start(c->node->writes, &cmd, on_written, r) : -ENOMEM;
    buffer_deinit(&registration);
    if (rv > 0)
        on_written(r, rv, NULL);
    return rv < 0 ? rv : 0;
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
    answer_end(c, at, code, NULL);
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

    if (frame->type == MESSAGE_STATFS || frame->type == MESSAGE_CLOSE || frame->type == MESSAGE_NAMES)
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

static int on_frame(void *arg, const struct frame *frame)
{
    struct client_conn *c = arg;

    if (c->serve->crowded && stream_pending(c->stream) > UNREAD_SHARE) {
        c->held = true; /* this one is still answered */
        update_pause(c);
    }
    if (frame->group != NODE_GROUP || c->hello == (frame->type == MESSAGE_HELLO)) {
        answer_code(c, frame->id, KV_E_PROTOCOL, c->hello ? "unexpected frame" : "HELLO comes first");
        return -EPROTO;
    }
    if (c->node->stateless && frame->type != MESSAGE_HELLO && frame->type != MESSAGE_STATUS) {
        answer_code(c, frame->id, KV_E_UNAVAILABLE, no_state);
        return 0;
    }
    if (serve_is_read(frame->type))
        return on_read(c, frame);
    switch (frame->type) {
    case MESSAGE_HELLO:
        return on_hello(c, frame);
    case MESSAGE_WRITE:
        return on_write(c, frame);
    case MESSAGE_SUBSCRIBE:
        return on_subscribe(c, frame);
    case MESSAGE_HISTORY:
    case MESSAGE_VERSION:
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

/* Makes room: the one that has said nothing for longest goes. */
static bool evict(struct serve *s)
{
    struct client_conn *c, *oldest = NULL;

    for (c = s->clients; c != NULL; c = c->next) /* the newest comes first */
        if (!c->hello && c->opened_ms != 0)
            oldest = c;
    if (oldest == NULL)
        return false;
    oldest->opened_ms = 0; /* going already */
    stream_close(oldest->stream);
    return true;
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
    if (s->n >= (c->who.trusted ? CLIENTS_MAX : CLIENTS_MAX - CLIENTS_TRUSTED) && !evict(s)) {
        log_warn("too many clients (%u): one was refused", s->n);
        close(fd);
        free(c);
        return;
    }
    callbacks.arg = c;
    if (stream_open(&s->node->streams, fd, fd, &callbacks, PAUSE_AT, &c->stream) != 0) {
        free(c);
        return;
    }
    c->next = s->clients;
    s->clients = c;
    s->n++;
}

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
        if (fd < 0)
            return;
        accept_one(s, fd);
    }
}

void serve_beat(struct serve *s, uint64_t now_ms)
{
    struct client_conn *c;
    size_t unread = 0;

    if (s == NULL)
        return;
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
        if (c->held && (!s->crowded || stream_pending(c->stream) <= UNREAD_SHARE)) {
            c->held = false;
            update_pause(c);
        }
    }
}

/* A socket file that nobody listens on is a leftover; one that answers is in use. */
static int claim(const char *path, const struct sockaddr_un *addr)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool used;

    if (fd < 0)
        return -errno;
    used = connect(fd, (const struct sockaddr *)addr, sizeof *addr) == 0 || errno == EAGAIN;
    close(fd);
    if (used)
        return -EADDRINUSE;
    unlink(path);
    return 0;
}

static void mkdir_parent(const char *path)
{
    char dir[CONFIG_SOCKET_PATH_MAX + 1];
    char *slash;

    snprintf(dir, sizeof dir, "%s", path);
    slash = strrchr(dir, '/');
    if (slash != NULL && slash != dir) {
        *slash = '\0';
        mkdir(dir, 0755); /* bind() tells what is wrong */
    }
}

int serve_start(struct node *node, struct serve **out, char *why)
{
    const struct config *config = node->config;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct serve *s = calloc(1, sizeof *s);
    mode_t mask;
    int rv;

    *out = s;
    if (s == NULL)
        return -ENOMEM;
    s->node = node;
    s->listen_fd = -1;
    if (strlen(config->socket) >= sizeof addr.sun_path)
        return -ENAMETOOLONG;
    memcpy(addr.sun_path, config->socket, strlen(config->socket) + 1);
    mkdir_parent(config->socket);
    rv = claim(config->socket, &addr);
    if (rv == -EADDRINUSE)
        snprintf(why, 512, "%s is in use: is this node running already?", config->socket);
    if (rv != 0)
        return rv;
    s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->listen_fd < 0)
        return -errno;
    mask = umask(0777 & ~config->socket_mode);
    rv = bind(s->listen_fd, (struct sockaddr *)&addr, sizeof addr) != 0 ? -errno : 0;
    umask(mask);
    if (rv == 0 && config->socket_group[0] != '\0') {
        struct group *g = getgrnam(config->socket_group);

        if (g == NULL) {
            snprintf(why, 512, "socket_group %s: no such group", config->socket_group);
            return -EINVAL;
        }
        if (chown(config->socket, (uid_t)-1, g->gr_gid) != 0)
            rv = -errno;
    }
    if (rv == 0 && listen(s->listen_fd, 128) != 0)
        rv = -errno;
    if (rv != 0) {
        snprintf(why, 512, "%s: %s", config->socket, strerror(-rv));
        return rv;
    }
    rv = uv_poll_init(&node->loop, &s->listen_poll, s->listen_fd);
    if (rv == 0) {
        s->listen_poll.data = s;
        rv = uv_poll_start(&s->listen_poll, UV_READABLE, on_listen);
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
