/* Requests that are under way, and the commands that they send. */
#include "kvfs/file/lock_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"

#define REQUESTS_MAX 4096

void lock_request_free(struct files *files, struct lock_request *r)
{
    TAILQ_REMOVE(&files->locks.requests, r, link);
    files->locks.n_requests--;
    free(r->inos);
    free(r);
}

uint64_t lock_serial(struct files *files)
{
    return ++files->locks.serials;
}

struct lock_request *lock_request_find(struct files *files, uint64_t serial)
{
    struct lock_request *r;

    TAILQ_FOREACH (r, &files->locks.requests, link) {
        if (r->serial == serial)
            return r;
    }
    return NULL;
}

void lock_answer(struct lock_request *r, int err)
{
    if (r->req != NULL)
        fuse_reply_err(r->req, err);
    r->req = NULL;
}

void lock_finish(struct files *files, struct lock_request *r, int err)
{
    lock_answer(r, err);
    lock_request_free(files, r);
}

/* NULL: req was answered. */
struct lock_request *lock_request_new(struct files *files, fuse_req_t req, uint64_t serial,
                                      const struct lock_wish *wish)
{
    /* Who unlocks makes room. */
    bool may = files->locks.n_requests < REQUESTS_MAX || req == NULL || wish->mode == LOCK_NONE;
    struct lock_request *r = may ? calloc(1, sizeof *r) : NULL;

    if (r == NULL) {
        if (req != NULL)
            fuse_reply_err(req, ENOLCK);
        return NULL;
    }
    r->serial = serial;
    r->req = req;
    r->wish = *wish;
    r->started_ms = clock_boot_ms();
    r->interrupted_ms = wish->interrupted ? r->started_ms : 0;
    TAILQ_INSERT_TAIL(&files->locks.requests, r, link);
    files->locks.n_requests++;
    return r;
}

struct call *lock_call(struct files *files, const struct lock_wish *w, uint64_t serial)
{
    struct call *call = call_begin(files->hub, NULL, CALL_LOCK);

    if (call == NULL)
        return NULL;
    call->ino = w->ino;
    call->caller = w->caller;
    call->deadline_ms = UINT64_MAX;
    call->lock.serial = serial;
    return call;
}

/* What the last session had is free, and what restores that is not needed any more. */
bool lock_on_new_session(struct call *call, bool executed)
{
    const struct lock_request *r = lock_request_find(call->hub->files, call->lock.serial);

    return r != NULL && !r->restores;
}

/* It was not executed, and may be another time. */
bool lock_is_for_now(int code)
{
    return code == KV_E_ROFS || code == KV_E_NOSPC || code == KV_E_UNAVAILABLE || code == KV_E_BUSY ||
           code == KV_E_NOTLEADER || code == -ENOMEM;
}

struct command_body lock_body(const struct lock_wish *w, uint64_t ticket)
{
    return (struct command_body){.ino = w->ino,
                                 .kind = w->kind,
                                 .flags = (uint8_t)((w->mode == LOCK_EXCLUSIVE ? LOCK_FLAG_EXCLUSIVE : 0) |
                                                    (w->wait ? LOCK_FLAG_WAIT : 0)),
                                 .owner = w->owner,
                                 .start = w->start,
                                 .end = w->end,
                                 .ticket = ticket,
                                 .pid = (uint32_t)w->process};
}

/* One command of which no program waits for the answer. */
static void post(struct files *files, const struct lock_wish *w)
{
    struct lock_request *r = lock_request_new(files, NULL, lock_serial(files), w);

    if (r == NULL)
        return;
    r->closing = r->restores = true;
    if (w->mode == LOCK_NONE)
        lock_leave(files, r);
    else
        lock_ask(files, r);
}

/* The cluster may have given what the program was not told of: what it has there is to be what it knows. */
void lock_give_back(struct files *files, const struct lock_wish *wish)
{
    static const struct lock_ranges none;
    const struct held_lock *h = lock_held_find(files, wish->ino, wish->kind, wish->owner);
    const struct lock_ranges *r = h != NULL ? &h->ranges : &none;
    struct lock_wish w = *wish;
    uint64_t at = wish->start;

    /* In a table of this mount's own nobody has what it did not give. */
    if (lock_is_here(files, wish->ino) || lock_is_between(files, wish->ino))
        return;
    w.wait = w.interrupted = false;
    for (size_t i = lock_ranges_find(r, at); i < r->n && r->at[i].start <= wish->end; i++) {
        w.mode = LOCK_NONE;
        w.start = at;
        w.end = r->at[i].start - 1;
        if (r->at[i].start > at)
            post(files, &w);
        w.mode = r->at[i].mode;
        w.start = r->at[i].start > at ? r->at[i].start : at;
        w.end = r->at[i].end < wish->end ? r->at[i].end : wish->end;
        post(files, &w);
        at = w.end + 1;
    }
    if (at > wish->end)
        return;
    w.mode = LOCK_NONE;
    w.start = at;
    w.end = wish->end;
    post(files, &w);
}

struct lock_request *lock_request_of(const struct call *call)
{
    struct lock_request *r = lock_request_find(call->hub->files, call->lock.serial);

    if (r != NULL)
        r->call = NULL;
    return r;
}
