/* libmicrohttpd in the node's loop: it has no thread and no listening socket of its own. Its epoll descriptor
 * is watched by a uv_poll, its timeouts by a uv_timer, and MHD_run() is called once a turn, at the end, when
 * one of them has fired or a request was answered. A request that waits is suspended, so that nothing is
 * watched for it.
 *
 * Sockets are accepted here, so that whose a connection is and whether there is room for it is known before a
 * byte of it is read (accept.c). */
#include "kvnode/web/web.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvnode/config/config.h"
#include "kvnode/group/group.h"
#include "kvnode/loop/turn.h"
#include "kvnode/peer/self.h"
#include "kvnode/web/web_internal.h"
#include "sync/base/clock.h"
#include "sync/base/log.h"

/* A connection's memory in MHD: the request's line and headers, and those of the answer. A key of 4,095
 * bytes, percent-encoded, and 8 KiB of headers fit. */
#define POOL_SIZE (32 * 1024)
#define SHED_STEP (4UL * 1024 * 1024)

static void on_again(uv_idle_t *idle)
{
    (void)idle; /* its being active keeps the loop from sleeping */
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct web *w = poll->data;

    (void)status;
    (void)events;
    w->run = true;
}

static void on_timer(uv_timer_t *timer)
{
    struct web *w = timer->data;

    w->run = true;
}

/* The raw address, before MHD decodes it: a key's percent signs are ours to decode, once. It belongs to the
 * connection, as MHD does not tell of the end of a request whose headers it refuses. */
static void *on_address(void *arg, const char *raw, struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct web_conn *c = info != NULL ? info->socket_context : NULL;

    (void)arg;
    if (c != NULL) {
        free(c->raw);
        c->raw = strdup(raw);
    }
    return NULL;
}

/* What MHD decodes is not used. */
static size_t keep_raw(void *arg, struct MHD_Connection *mhd, char *text)
{
    (void)arg;
    (void)mhd;
    return strlen(text);
}

static void on_connection(void *arg, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct web *w = arg;
    struct web_conn *c = *context;

    (void)mhd;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = w->entering;
        w->entering = NULL;
        return;
    }
    if (c == NULL)
        return;
    LIST_REMOVE(c, link);
    w->n_connections--;
    web_user_leave(w, c->user);
    gate_put(c->gate);
    free(c->raw);
    free(c);
    *context = NULL;
}

__attribute__((format(printf, 2, 0))) static void on_log(void *arg, const char *fmt, va_list ap)
{
    char text[300];
    size_t len;

    (void)arg;
    vsnprintf(text, sizeof text, fmt, ap);
    len = strcspn(text, "\n");
    log_debug("http: %.*s", (int)len, text);
}

int web_start(const struct web_owner *owner, struct web **out, char *why)
{
    const struct config *config = owner->self->config;
    const union MHD_DaemonInfo *info;
    struct web *w;
    int rv;

    *out = NULL;
    if (config->http_host == NULL || config->http_host[0] == '\0')
        return 0;
    w = calloc(1, sizeof *w);
    if (w == NULL)
        return -ENOMEM;
    *out = w;
    w->owner = *owner;
    LIST_INIT(&w->conns);
    LIST_INIT(&w->suspended);
    TAILQ_INIT(&w->parked);
    LIST_INIT(&w->events);
    gates_init(&w->gates, owner->serve, owner->group);
    w->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG, 0, NULL,
        NULL, web_on_request, w, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_NOTIFY_COMPLETED,
        web_on_completed, w, MHD_OPTION_NOTIFY_CONNECTION, on_connection, w, MHD_OPTION_URI_LOG_CALLBACK,
        on_address, w, MHD_OPTION_UNESCAPE_CALLBACK, keep_raw, w, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)WEB_CONNECTIONS_MAX + 1, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)WEB_IDLE_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_SIZE, MHD_OPTION_END);
    info = w->daemon != NULL ? MHD_get_daemon_info(w->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (info == NULL) {
        snprintf(why, 512, "the HTTP server (libmicrohttpd) does not start");
        return -EIO;
    }
    uv_timer_init(owner->self->loop, &w->timer);
    uv_idle_init(owner->self->loop, &w->again);
    w->timer.data = w->again.data = w;
    rv = uv_poll_init(owner->self->loop, &w->poll, info->epoll_fd);
    if (rv == 0) {
        w->poll.data = w;
        rv = uv_poll_start(&w->poll, UV_READABLE, on_ready);
    }
    if (rv == 0)
        rv = access_start(w, why);
    if (rv == 0)
        rv = web_listen(w, why);
    if (rv == 0 && w->port_again_ms == 0)
        log_info("serves HTTP at http://%s%s%s:%u", strchr(config->http_host, ':') != NULL ? "[" : "",
                 config->http_host, strchr(config->http_host, ':') != NULL ? "]" : "", config->http_port);
    return rv;
}

void web_shed(struct web *w, struct buffer *b)
{
    if (b->cap > SHED_STEP && w->n_shed < sizeof w->shed / sizeof w->shed[0]) {
        w->shed[w->n_shed++] = *b;
        *b = (struct buffer)BUFFER_INIT;
    } else {
        buffer_deinit(b);
    }
}

static void run(struct web *w)
{
    MHD_UNSIGNED_LONG_LONG wait;
    uint64_t since = clock_boot_ns();

    w->run = false;
    MHD_run(w->daemon);
    if (MHD_get_timeout(w->daemon, &wait) != MHD_YES)
        uv_timer_stop(&w->timer);
    else if (wait == 0)
        w->run = true;
    else
        uv_timer_start(&w->timer, on_timer, wait, 0);
    turn_part(w->owner.turn, since, "http", "", 0);
}

void web_turn_begin(struct web *w)
{
    if (w != NULL && !w->stopped) {
        requests_turn(w);
        if (w->run)
            run(w);
    }
    if (w != NULL)
        w->gates.asked = false; /* the streams' output follows */
}

void web_turn_end(struct web *w)
{
    bool again;

    if (w == NULL || w->stopped)
        return;
    again = gates_turn(&w->gates);
    if (w->run)
        run(w);
    if (w->n_shed > 0 && !buffer_shed(&w->shed[w->n_shed - 1], SHED_STEP))
        w->n_shed--;
    again |= w->run || w->gates.asked || w->n_shed > 0 || !TAILQ_EMPTY(&w->parked);
    if (again)
        uv_idle_start(&w->again, on_again);
    else
        uv_idle_stop(&w->again);
}

void web_beat(struct web *w, uint64_t now_ms)
{
    if (w == NULL || w->stopped)
        return;
    web_listen_again(w, now_ms);
    access_beat(w);
    metrics_beat(w);
    pulse_beat(&w->pulse, w->owner.self, now_ms);
    gates_beat(&w->gates, now_ms);
    events_beat(w, now_ms);
}

static void close_handle(uv_handle_t *handle)
{
    if (handle->data != NULL && !uv_is_closing(handle))
        uv_close(handle, NULL);
}

void web_stop(struct web *w)
{
    struct web_request *r;

    if (w == NULL || w->stopped)
        return;
    if (w->daemon != NULL && w->poll.data != NULL) {
        w->run = true;
        web_turn_end(w); /* what is answered by now */
    }
    w->stopped = true;
    web_unlisten(w);
    while ((r = LIST_FIRST(&w->suspended)) != NULL) {
        r->dead = true;
        web_resume(r);
    }
    close_handle((uv_handle_t *)&w->poll);
    close_handle((uv_handle_t *)&w->timer);
    close_handle((uv_handle_t *)&w->again);
    if (w->daemon != NULL)
        MHD_stop_daemon(w->daemon);
    w->daemon = NULL;
}

void web_free(struct web *w)
{
    struct web_user *u, *next;

    if (w == NULL)
        return;
    gates_deinit(&w->gates);
    access_stop(w);
    while (w->n_shed > 0)
        buffer_deinit(&w->shed[--w->n_shed]);
    HASH_ITER(hh, w->users, u, next)
    {
        HASH_DEL(w->users, u);
        free(u);
    }
    free(w);
}
