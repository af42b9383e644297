/* The committer's thread only wakes the loop. There the completions are handed out to the groups first,
 * all of them, and each group then does what follows from its own: so that none of them can hold up what
 * is another's, however long it keeps its own (a group that lags takes its time, consensus.c). */
#include "kvnode/group/shared_log.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "kvnode/loop/turn.h"
#include "sync/base/clock.h"
#include "sync/base/log.h"

#define EXIT_DAMAGED 70
#define EVENTS_AT_ONCE 64

struct shared_log {
    struct log_store *store; /* owned */
    struct turn *turn;       /* borrowed */
    uv_async_t wake;         /* there are completions, or the state is another one */
    bool closing;
    struct shared_log_member *members; /* owned */
    size_t n;
};

static void die(void)
{
    log_error("writing log.db: the log cannot be written; this process ends, what this node acknowledged is "
              "safe in its log.db");
    _exit(EXIT_DAMAGED);
}

static void on_notify(void *arg) /* the committer's thread */
{
    struct shared_log *l = arg;

    uv_async_send(&l->wake);
}

/* True: there was something. */
static bool tell(struct shared_log *l)
{
    struct log_store_event events[EVENTS_AT_ONCE];
    bool any = false;
    size_t n, i, k;

    do {
        n = log_store_poll(l->store, events, EVENTS_AT_ONCE);
        for (i = 0; i < n; i++)
            for (k = 0; k < l->n; k++)
                if (l->members[k].group == events[i].group)
                    l->members[k].on_completed(l->members[k].arg, events[i].type);
        any |= n > 0;
    } while (n == EVENTS_AT_ONCE);
    return any;
}

static void on_wake(uv_async_t *wake)
{
    struct shared_log *l = wake->data;
    size_t k;

    if (l->closing)
        return;
    if (log_store_state(l->store) == LOG_STORE_FAILED)
        die();
    tell(l);
    for (k = 0; k < l->n; k++)
        l->members[k].on_woken(l->members[k].arg);
}

int shared_log_open(const char *path, uv_loop_t *loop, struct turn *turn, struct shared_log **out, char *why)
{
    struct shared_log *l = calloc(1, sizeof *l);
    int rv;

    *out = NULL;
    if (l == NULL)
        return -ENOMEM;
    l->turn = turn;
    l->wake.data = l;
    rv = uv_async_init(loop, &l->wake, on_wake);
    if (rv != 0) {
        free(l);
        return rv;
    }
    *out = l;
    return log_store_open(path, on_notify, l, &l->store, why);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void shared_log_close(struct shared_log *l)
{
    if (l == NULL)
        return;
    l->closing = true;
    log_store_close(l->store);
    free(l->members);
    uv_close((uv_handle_t *)&l->wake, on_closed);
}

struct log_store *shared_log_store(struct shared_log *l)
{
    return l->store;
}

int shared_log_join(struct shared_log *l, const struct shared_log_member *member)
{
    struct shared_log_member *members = realloc(l->members, (l->n + 1) * sizeof *members);

    if (members == NULL)
        return -ENOMEM;
    l->members = members;
    l->members[l->n++] = *member;
    return 0;
}

void shared_log_leave(struct shared_log *l, uint16_t group)
{
    size_t k = 0;

    while (k < l->n && l->members[k].group != group)
        k++;
    if (k < l->n)
        l->members[k] = l->members[--l->n];
}

void shared_log_tell(struct shared_log *l)
{
    if (tell(l))
        uv_async_send(&l->wake);
}

int shared_log_sync(struct shared_log *l)
{
    uint64_t since = clock_boot_ns();
    int rv = log_store_sync(l->store);

    shared_log_waited(l, since);
    return rv;
}

void shared_log_waited(struct shared_log *l, uint64_t since_ns)
{
    turn_waited(l->turn, since_ns);
}

/* ---- the note ---- */

const void *shared_log_note(const struct shared_log *l, size_t *len_out)
{
    return log_store_note(l->store, len_out);
}

int shared_log_save_note(struct shared_log *l, const void *data, size_t len)
{
    return log_store_save_note(l->store, data, len);
}

bool shared_log_put_note(struct shared_log *l, const void *data, size_t len, bool now)
{
    int rv = log_store_put_note(l->store, data, len);

    if (rv == 0 && now)
        rv = shared_log_sync(l);
    if (rv < 0)
        die();
    return rv == 0;
}

uint64_t shared_log_life(const struct shared_log *l)
{
    return log_store_life(l->store);
}
