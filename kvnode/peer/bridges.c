#include "kvnode/peer/bridges.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/base/log.h"
#include "sync/ssh/handover.h"

#define ACCEPTS_PER_TURN 32

struct bridge {          /* one that has said nothing yet */
    struct bridges *all; /* borrowed */
    uv_poll_t poll;
    int fd; /* owned; -1: handed on */
    uint64_t opened_ms;
    TAILQ_ENTRY(bridge) link; /* in all->silent, while open */
};

struct bridges {
    uv_loop_t *loop; /* borrowed */
    struct sockaddr_un address;
    int fd; /* owned */
    uv_poll_t poll;
    bool polling, bound;
    bool resting;                /* not accepting until the next beat */
    TAILQ_HEAD(, bridge) silent; /* the oldest first */
    unsigned n_silent;
    bridges_stream_fn *on_stream;
    void *arg;
};

static void on_bridge_closed(uv_handle_t *handle)
{
    struct bridge *b = handle->data;

    if (b->fd >= 0)
        close(b->fd);
    free(b);
}

static void drop(struct bridge *b)
{
    TAILQ_REMOVE(&b->all->silent, b, link);
    b->all->n_silent--;
    uv_close((uv_handle_t *)&b->poll, on_bridge_closed);
}

static void on_message(uv_poll_t *poll, int status, int events)
{
    struct bridge *b = poll->data;
    struct bridges *all = b->all;
    char name[SSH_PEER_NAME_MAX + 1];
    int rv, in, out, fd = b->fd;

    (void)status;
    (void)events;
    rv = handover_receive(fd, name, &in, &out);
    if (rv == -EAGAIN)
        return;
    if (rv == 0)
        b->fd = -1;
    else if (rv == -EPROTO)
        log_warn("peer socket: what came is not a bridge's; refused");
    drop(b);
    if (rv == 0)
        all->on_stream(all->arg, name, in, out, fd);
}

static void open_bridge(struct bridges *all, int fd)
{
    struct bridge *b = calloc(1, sizeof *b);

    if (b == NULL || uv_poll_init(all->loop, &b->poll, fd) != 0) {
        free(b);
        close(fd);
        return;
    }
    b->poll.data = b;
    b->all = all;
    b->fd = fd;
    b->opened_ms = clock_boot_ms();
    if (all->n_silent == BRIDGES_SILENT_MAX)
        drop(TAILQ_FIRST(&all->silent));
    TAILQ_INSERT_TAIL(&all->silent, b, link);
    all->n_silent++;
    if (uv_poll_start(&b->poll, UV_READABLE, on_message) != 0)
        drop(b);
}

static void on_listen(uv_poll_t *poll, int status, int events)
{
    struct bridges *all = poll->data;
    unsigned n;

    (void)events;
    if (status < 0)
        return;
    for (n = 0; n < ACCEPTS_PER_TURN; n++) {
        int fd = accept4(all->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            /* No descriptor or no memory: the socket stays readable, so it rests until the next beat. */
            log_warn("peer socket: a bridge cannot be accepted now: %s", strerror(errno));
            uv_poll_stop(&all->poll);
            all->resting = true;
        }
        if (fd < 0)
            return;
        if (handover_check_peer(fd) != 0) {
            log_warn("peer socket: a process of another user; refused");
            close(fd);
            continue;
        }
        open_bridge(all, fd);
    }
}

int bridges_listen(uv_loop_t *loop, const char *socket_path, bridges_stream_fn *on_stream, void *arg,
                   struct bridges **out)
{
    struct bridges *all;
    mode_t mask;
    int rv;

    *out = NULL;
    if (strlen(socket_path) >= sizeof all->address.sun_path)
        return -ENAMETOOLONG;
    all = calloc(1, sizeof *all);
    if (all == NULL)
        return -ENOMEM;
    all->loop = loop;
    all->on_stream = on_stream;
    all->arg = arg;
    TAILQ_INIT(&all->silent);
    all->address.sun_family = AF_UNIX;
    memcpy(all->address.sun_path, socket_path, strlen(socket_path) + 1);
    *out = all;
    all->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (all->fd < 0)
        return -errno;
    unlink(socket_path);
    mask = umask(0177);
    rv = bind(all->fd, (struct sockaddr *)&all->address, sizeof all->address) != 0 ? -errno : 0;
    umask(mask);
    all->bound = rv == 0;
    if (rv == 0 && listen(all->fd, 64) != 0)
        rv = -errno;
    if (rv == 0)
        rv = uv_poll_init(loop, &all->poll, all->fd);
    if (rv != 0)
        return rv;
    all->poll.data = all;
    all->polling = true;
    return uv_poll_start(&all->poll, UV_READABLE, on_listen);
}

void bridges_beat(struct bridges *all, uint64_t now_ms)
{
    struct bridge *b;

    if (all->resting && uv_poll_start(&all->poll, UV_READABLE, on_listen) == 0)
        all->resting = false;
    while ((b = TAILQ_FIRST(&all->silent)) != NULL && now_ms > b->opened_ms + BRIDGES_SILENT_MS)
        drop(b);
}

void bridges_close(struct bridges *all)
{
    struct bridge *b;

    if (all == NULL)
        return;
    while ((b = TAILQ_FIRST(&all->silent)) != NULL)
        drop(b);
    if (all->polling)
        uv_close((uv_handle_t *)&all->poll, NULL);
    if (all->bound)
        unlink(all->address.sun_path);
}

void bridges_free(struct bridges *all)
{
    if (all == NULL)
        return;
    if (all->fd >= 0)
        close(all->fd);
    free(all);
}
