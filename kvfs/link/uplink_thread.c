/* The node thread: waits for the socket, for work and for time to pass. */
#include <poll.h>
#include <unistd.h>

#include "kvfs/link/hub.h"
#include "kvfs/link/keepalive.h"
#include "kvfs/link/process.h"
#include "kvfs/link/uplink_internal.h"
#include "sync/base/clock.h"
#include "sync/base/log.h"

#define TICK_MS 100
#define IDLE_MS 500
#define SUSPECTS_MAX 64 /* looked up at one tick */
#define DOWN_MS 30      /* between attempts to connect */

/* A node that is stopped keeps its socket open and says nothing; one that is cut off
 * from the leader still says what it knows by itself. */
static void check_silence(struct hub *hub, uint64_t now_ms)
{
    struct uplink *u = &hub->uplink;
    uint64_t limit = hub->options->timeout_ms / 2;
    const struct call *call;

    if (u->client == NULL || u->n_paths < 2)
        return;
    TAILQ_FOREACH (call, &u->wire, place) {
        /* Room is asked for ahead: an answer that is late tells nothing. */
        if (!call->sent || now_ms - call->sent_ms < limit || call->type == MESSAGE_RESERVE)
            continue;
        log_warn("node %s has not answered for %u ms; trying the next one", u->node.name, (unsigned)limit);
        u->logged = 0;
        u->rotated_ms = now_ms;
        u->rotate = u->broken = true;
        return;
    }
}

/* Sends again what was put off; returns ms until the next such moment. */
static int retry_due(struct hub *hub, uint64_t now_ms)
{
    struct uplink *u = &hub->uplink;
    struct call *call;
    int wait = TAILQ_EMPTY(&hub->calls.all) ? IDLE_MS : TICK_MS;

    TAILQ_FOREACH (call, &u->wire, place) {
        if (call->sent || u->client == NULL || u->broken)
            continue;
        if (call->retry_ms <= now_ms)
            uplink_send_call(call);
        else if (call->retry_ms - now_ms < (uint64_t)wait)
            wait = (int)(call->retry_ms - now_ms);
    }
    return wait;
}

/* The lock is released meanwhile. */
static void let_go_of_killed(struct hub *hub, uint64_t now_ms)
{
    struct suspect suspects[SUSPECTS_MAX];
    unsigned n = call_tick(hub, now_ms, suspects, SUSPECTS_MAX), i;

    if (n == 0)
        return;
    pthread_mutex_unlock(&hub->lock);
    for (i = 0; i < n; i++) {
        if (!process_is_killed(suspects[i].thread))
            suspects[i].serial = 0;
    }
    pthread_mutex_lock(&hub->lock);
    for (i = 0; i < n; i++) {
        if (suspects[i].serial != 0)
            call_interrupt(hub, suspects[i].serial);
    }
}

/* Everything that time brings. Returns ms until the next turn. */
static int tick(struct hub *hub, uint64_t *last_ms)
{
    uint64_t now = clock_boot_ms();

    check_silence(hub, now);
    if (hub->uplink.broken)
        uplink_drop(hub);
    if (now - *last_ms >= TICK_MS / 2) {
        *last_ms = now;
        let_go_of_killed(hub, now);
        hub->owner->on_tick(hub, now);
        keepalive_tick(hub, now);
    }
    return retry_due(hub, now);
}

static void *run(void *arg)
{
    struct hub *hub = arg;
    struct uplink *u = &hub->uplink;
    uint64_t last_tick = 0, ignored;
    bool all_taken = true;

    pthread_mutex_lock(&hub->lock);
    while (u->running) {
        struct pollfd fds[2] = {{.fd = u->wake_fd, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
        int wait = tick(hub, &last_tick);
        bool down = u->client == NULL;

        if (!down) {
            fds[1].fd = client_fd(u->client);
            if (u->want_write)
                fds[1].events |= POLLOUT;
        }
        pthread_mutex_unlock(&hub->lock);
        if (down && uplink_reconnect(hub)) {
            pthread_mutex_lock(&hub->lock);
            continue;
        }
        poll(fds, 2, !all_taken ? 0 : down && wait > DOWN_MS ? DOWN_MS : wait);
        if ((fds[0].revents & POLLIN) != 0 && read(u->wake_fd, &ignored, sizeof ignored) < 0)
            ignored = 0;
        pthread_mutex_lock(&hub->lock);
        if (u->client != NULL && u->want_write)
            uplink_flush(hub);
        all_taken = uplink_take_frames(hub);
    }
    pthread_mutex_unlock(&hub->lock);
    return NULL;
}

int uplink_start(struct hub *hub)
{
    hub->uplink.running = true;
    if (pthread_create(&hub->uplink.thread, NULL, run, hub) != 0) {
        hub->uplink.running = false;
        return -1;
    }
    return 0;
}

void uplink_stop(struct hub *hub)
{
    bool running;

    pthread_mutex_lock(&hub->lock);
    running = hub->uplink.running;
    hub->uplink.running = false;
    pthread_mutex_unlock(&hub->lock);
    if (!running)
        return;
    uplink_wake(hub);
    pthread_join(hub->uplink.thread, NULL);
}
