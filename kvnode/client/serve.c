#include "kvnode/client/serve.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kvnode/client/client_conn.h"
#include "kvnode/client/serve_socket.h"
#include "kvnode/group/events.h"
#include "kvnode/group/mounts.h"
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
#define PAUSE_AT (16 * 1024 * 1024)
/* What all clients together may leave unread before each has to be content with
 * the share; a subscriber beyond a larger share is disconnected. */
#define UNREAD_MAX (256UL * 1024 * 1024)
#define UNREAD_SHARE (256UL * 1024)
#define UNREAD_SUBSCRIBER (4UL * 1024 * 1024)

struct serve {
    struct serve_owner owner;
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
            store_unpin(c->owner->group->store, o->ino);
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
    events_unsubscribe(c->owner->group->events, c->subscriber);
    c->subscriber = NULL;
    mounts_leave(c->owner->group->mounts, c->mount);
    c->mount = NULL;
    reserve_drop(&c->owner->group->reserve, &c->reservation);
    close_inodes(c);
    if (c->local.closed != NULL)
        c->local.closed(c->local.arg);
    client_conn_put(c);
}

/* ---- the socket ---- */

static int on_frame(void *arg, const struct frame *frame)
{
    struct client_conn *c = arg;

    if (c->serve->crowded && stream_pending(c->stream) > UNREAD_SHARE) {
        c->held = true; /* this one is still answered */
        client_conn_pace(c);
    }
    if (c->refusal != NULL) {
        answer_code(c, frame->id, KV_E_BUSY, c->refusal);
        return -EPROTO;
    }
    return serve_request(c, frame);
}

#define UID_NOBODY 65534

/* Who can read the node's files already may speak for others. */
static bool is_trusted(uint32_t uid)
{
    return uid == 0 || uid == geteuid();
}

static void identify(struct client_conn *c, int fd)
{
    struct ucred cred;
    socklen_t len = sizeof cred;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
        cred = (struct ucred){.uid = UID_NOBODY, .gid = UID_NOBODY}; /* never on a unix socket */
    c->who.uid = cred.uid;
    c->who.gid = cred.gid;
    len = sizeof c->groups;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, c->groups, &len) == 0)
        c->who.n_groups = (uint32_t)(len / sizeof c->groups[0]);
    c->who.groups = c->groups;
    c->who.trusted = is_trusted(cred.uid);
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

static struct client_conn *conn_new(struct serve *s)
{
    struct client_conn *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    c->owner = &s->owner;
    c->serve = s;
    c->refs = 1;
    c->opened_ms = clock_boot_ms();
    snprintf(c->name, sizeof c->name, "?");
    return c;
}

static void enter(struct serve *s, struct client_conn *c)
{
    c->next = s->clients;
    s->clients = c;
    s->n++;
}

static void accept_one(struct serve *s, int fd)
{
    struct stream_callbacks callbacks = {.on_frame = on_frame, .on_closed = on_closed};
    struct client_conn *c = conn_new(s);

    if (c == NULL) {
        close(fd);
        return;
    }
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
    if (stream_open(s->owner.streams, fd, fd, &callbacks, PAUSE_AT, &c->stream) != 0) {
        client_conn_put(c);
        return;
    }
    enter(s, c);
}

static size_t on_local_output(void *arg, const uint8_t *data, size_t len)
{
    struct client_conn *c = arg;

    return c->local.take(c->local.arg, data, len);
}

int serve_attach(struct serve *s, const struct serve_local *local, struct stream **stream_out,
                 const char **why_out)
{
    struct stream_callbacks callbacks = {.on_frame = on_frame, .on_closed = on_closed};
    struct client_conn *c = s->stopped ? NULL : conn_new(s);

    *stream_out = NULL;
    if (c == NULL)
        return -ENOMEM;
    c->who.uid = local->uid;
    c->who.gid = local->gid;
    c->who.n_groups = local->n_groups;
    memcpy(c->groups, local->groups, local->n_groups * sizeof c->groups[0]);
    c->who.groups = c->groups;
    c->who.trusted = is_trusted(local->uid);
    *why_out = refuse(s, c);
    if (*why_out != NULL) {
        free(c);
        return KV_E_BUSY;
    }
    c->user = client_user_enter(&s->users, c->who.uid, c->who.trusted);
    callbacks.arg = c;
    if (c->user == NULL) {
        free(c);
        return -ENOMEM;
    }
    if (stream_open_local(s->owner.streams, &callbacks, on_local_output, &c->stream) != 0) {
        client_conn_put(c);
        return -ENOMEM;
    }
    c->local = *local;
    c->local.groups = c->groups;
    enter(s, c);
    *stream_out = c->stream;
    return 0;
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
    store_usage(s->owner.group->store, &usage);
    client_users_release(&s->users, s->owner.group->store, usage.max_bytes);
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
        client_conn_pace(c); /* others of its user may have been busy */
    }
}

int serve_start(const struct serve_owner *owner, struct serve **out, char *why)
{
    struct serve *s = calloc(1, sizeof *s);
    int rv;

    *out = s;
    if (s == NULL)
        return -ENOMEM;
    s->owner = *owner;
    s->listen_fd = serve_socket(owner->self->config, why);
    if (s->listen_fd < 0)
        return s->listen_fd;
    rv = uv_poll_init(owner->self->loop, &s->listen_poll, s->listen_fd);
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
        unlink(s->owner.self->config->socket);
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
