/* The node thread: waits for the socket, for work and for time to pass. */
#include <poll.h>
#include <unistd.h>

#include "kvfs/link/link_internal.h"
#include "kvfs/link/process.h"
#include "kvfs/ops/fs.h"
#include "sync/base/clock.h"
#include "sync/base/log.h"

#define TICK_MS 100
#define IDLE_MS 500
#define SUSPECTS_MAX 64 /* looked up at one tick */
#define DOWN_MS 30      /* between attempts to connect */

static void keepalive(struct fs *fs, uint64_t now_ms)
{
    struct link *l = &fs->link;
    struct command_body body = {0};
    struct request *r;

    if (l->client == NULL || l->session == 0 || now_ms < l->keepalive_ms)
        return;
    l->keepalive_ms = now_ms + KEEPALIVE_MS;
    r = request_begin(fs, NULL);
    if (r != NULL)
        link_write(fs, r, COMMAND_KEEPALIVE, &body, link_on_posted);
}

/* A node that is stopped keeps its socket open and says nothing; one that is cut off
 * from the leader still says what it knows by itself. */
static void check_silence(struct fs *fs, uint64_t now_ms)
{
    struct link *l = &fs->link;
    uint64_t limit = fs->options->timeout_ms / 2;
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
static int retry_due(struct fs *fs, uint64_t now_ms)
{
    struct link *l = &fs->link;
    struct request *r;
    int wait = TAILQ_EMPTY(&fs->requests) ? IDLE_MS : TICK_MS;

    TAILQ_FOREACH (r, &l->wire, place) {
        if (r->sent || l->client == NULL || l->broken)
            continue;
        if (r->retry_ms <= now_ms)
            link_send_request(fs, r);
        else if (r->retry_ms - now_ms < (uint64_t)wait)
            wait = (int)(r->retry_ms - now_ms);
    }
    return wait;
}

/* The lock is released meanwhile. */
static void let_go_of_killed(struct fs *fs, uint64_t now_ms)
{
    struct suspect suspects[SUSPECTS_MAX];
    unsigned n = request_tick(fs, now_ms, suspects, SUSPECTS_MAX), i;

    if (n == 0)
        return;
    pthread_mutex_unlock(&fs->lock);
    for (i = 0; i < n; i++) {
        if (!process_is_killed(suspects[i].thread))
            suspects[i].serial = 0;
    }
    pthread_mutex_lock(&fs->lock);
    for (i = 0; i < n; i++) {
        if (suspects[i].serial != 0)
            request_interrupt(fs, suspects[i].serial);
    }
}

/* Everything that time brings. Returns ms until the next turn. */
static int tick(struct fs *fs, uint64_t *last_ms)
{
    uint64_t now = clock_boot_ms();

    check_silence(fs, now);
    if (fs->link.broken)
        link_drop(fs);
    if (now - *last_ms >= TICK_MS / 2) {
        *last_ms = now;
        let_go_of_killed(fs, now);
        fs->link.owner->on_tick(fs, now);
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
        if (down && link_reconnect(fs)) {
            pthread_mutex_lock(&fs->lock);
            continue;
        }
        poll(fds, 2, !all_taken ? 0 : down && wait > DOWN_MS ? DOWN_MS : wait);
        if ((fds[0].revents & POLLIN) != 0 && read(l->wake_fd, &ignored, sizeof ignored) < 0)
            ignored = 0;
        pthread_mutex_lock(&fs->lock);
        if (l->client != NULL && l->want_write)
            link_flush(fs);
        all_taken = link_take_frames(fs);
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
