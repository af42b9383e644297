/* The node thread: waits for the socket, for work and for time to pass. */
#include <poll.h>
#include <unistd.h>

#include "kvfs/link/core.h"
#include "kvfs/link/link_internal.h"
#include "kvfs/link/process.h"
#include "sync/base/clock.h"
#include "sync/base/log.h"

#define TICK_MS 100
#define IDLE_MS 500
#define SUSPECTS_MAX 64 /* looked up at one tick */
#define DOWN_MS 30      /* between attempts to connect */

static void keepalive(struct core *core, uint64_t now_ms)
{
    struct link *l = &core->link;
    struct command_body body = {0};
    struct request *r;

    if (l->client == NULL || l->session == 0 || now_ms < l->keepalive_ms)
        return;
    l->keepalive_ms = now_ms + KEEPALIVE_MS;
    r = request_begin(core, NULL, REQUEST_PLAIN);
    if (r != NULL)
        link_write(r, COMMAND_KEEPALIVE, &body, link_on_posted);
}

/* A node that is stopped keeps its socket open and says nothing; one that is cut off
 * from the leader still says what it knows by itself. */
static void check_silence(struct core *core, uint64_t now_ms)
{
    struct link *l = &core->link;
    uint64_t limit = core->options->timeout_ms / 2;
    const struct request *r;

    if (l->client == NULL || l->n_paths < 2)
        return;
    TAILQ_FOREACH (r, &l->wire, place) {
        /* Room is asked for ahead: an answer that is late tells nothing. */
        if (!r->sent || now_ms - r->sent_ms < limit || r->type == MESSAGE_RESERVE)
            continue;
        log_warn("node %s has not answered for %u ms; trying the next one", l->node.name, (unsigned)limit);
        l->logged = 0;
        l->rotated_ms = now_ms;
        l->rotate = l->broken = true;
        return;
    }
}

/* Sends again what was put off; returns ms until the next such moment. */
static int retry_due(struct core *core, uint64_t now_ms)
{
    struct link *l = &core->link;
    struct request *r;
    int wait = TAILQ_EMPTY(&core->requests.all) ? IDLE_MS : TICK_MS;

    TAILQ_FOREACH (r, &l->wire, place) {
        if (r->sent || l->client == NULL || l->broken)
            continue;
        if (r->retry_ms <= now_ms)
            link_send_request(r);
        else if (r->retry_ms - now_ms < (uint64_t)wait)
            wait = (int)(r->retry_ms - now_ms);
    }
    return wait;
}

/* The lock is released meanwhile. */
static void let_go_of_killed(struct core *core, uint64_t now_ms)
{
    struct suspect suspects[SUSPECTS_MAX];
    unsigned n = request_tick(core, now_ms, suspects, SUSPECTS_MAX), i;

    if (n == 0)
        return;
    pthread_mutex_unlock(&core->lock);
    for (i = 0; i < n; i++) {
        if (!process_is_killed(suspects[i].thread))
            suspects[i].serial = 0;
    }
    pthread_mutex_lock(&core->lock);
    for (i = 0; i < n; i++) {
        if (suspects[i].serial != 0)
            request_interrupt(core, suspects[i].serial);
    }
}

/* Everything that time brings. Returns ms until the next turn. */
static int tick(struct core *core, uint64_t *last_ms)
{
    uint64_t now = clock_boot_ms();

    check_silence(core, now);
    if (core->link.broken)
        link_drop(core);
    if (now - *last_ms >= TICK_MS / 2) {
        *last_ms = now;
        let_go_of_killed(core, now);
        core->owner->on_tick(core, now);
        keepalive(core, now);
    }
    return retry_due(core, now);
}

static void *run(void *arg)
{
    struct core *core = arg;
    struct link *l = &core->link;
    uint64_t last_tick = 0, ignored;
    bool all_taken = true;

    pthread_mutex_lock(&core->lock);
    while (l->running) {
        struct pollfd fds[2] = {{.fd = l->wake_fd, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
        int wait = tick(core, &last_tick);
        bool down = l->client == NULL;

        if (!down) {
            fds[1].fd = client_fd(l->client);
            if (l->want_write)
                fds[1].events |= POLLOUT;
        }
        pthread_mutex_unlock(&core->lock);
        if (down && link_reconnect(core)) {
            pthread_mutex_lock(&core->lock);
            continue;
        }
        poll(fds, 2, !all_taken ? 0 : down && wait > DOWN_MS ? DOWN_MS : wait);
        if ((fds[0].revents & POLLIN) != 0 && read(l->wake_fd, &ignored, sizeof ignored) < 0)
            ignored = 0;
        pthread_mutex_lock(&core->lock);
        if (l->client != NULL && l->want_write)
            link_flush(core);
        all_taken = link_take_frames(core);
    }
    pthread_mutex_unlock(&core->lock);
    return NULL;
}

int link_start(struct core *core)
{
    core->link.running = true;
    if (pthread_create(&core->link.thread, NULL, run, core) != 0) {
        core->link.running = false;
        return -1;
    }
    return 0;
}

void link_stop(struct core *core)
{
    bool running;

    pthread_mutex_lock(&core->lock);
    running = core->link.running;
    core->link.running = false;
    pthread_mutex_unlock(&core->lock);
    if (!running)
        return;
    link_wake(core);
    pthread_join(core->link.thread, NULL);
}
