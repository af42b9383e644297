/* Everything is a state machine of calls of kvfs's own, without deadlines: what was sent is sent again until
 * it is answered, also when the program has been told something meanwhile. */
#include "kvfs/file/lock_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

/* After a signal: a program that is about to get its answer need not know of it. */
#define INTERRUPT_MS 100
#define WAL_TELL_MS 60000
/* As long a table may be that of a mount of which nothing is heard: LOCK_LEASE_MS,
 * kvnode/state/store_internal.h. */
#define TABLE_MS 10000

void locks_init(struct locks *locks)
{
    TAILQ_INIT(&locks->held);
    TAILQ_INIT(&locks->requests);
}

void locks_deinit(struct locks *locks)
{
    struct lock_request *r;

    lock_delegations_deinit(locks);
    while (!TAILQ_EMPTY(&locks->held))
        lock_held_free(locks, TAILQ_FIRST(&locks->held));
    while ((r = TAILQ_FIRST(&locks->requests)) != NULL) {
        TAILQ_REMOVE(&locks->requests, r, link);
        free(r->inos);
        free(r);
    }
}

/* ---- taking ---- */

static void on_dropped(struct call *call, int code, const union answer_body *answer)
{
    struct files *files = call->hub->files;
    struct lock_request *r = lock_request_of(call);

    call_end(call);
    if (r != NULL)
        lock_finish(files, r, r->err);
    lock_renew(files);
}

void lock_granted(struct files *files, struct lock_request *r)
{
    struct call *call = NULL;

    if (r->tests) {
        lock_test_again(files, r);
        return;
    }
    if (r->req != NULL)
        call = lock_call(files, &r->wish, r->serial);
    if (call == NULL || !lock_held_set(files, &r->wish)) {
        if (call != NULL)
            call_end(call);
        lock_give_back(files, &r->wish);
        lock_finish(files, r, ENOLCK);
        return;
    }
    r->state = LOCK_GRANTED;
    r->call = call;
    notifier_settle(files->cache, call, on_dropped);
}

static void on_unwaited(struct call *call, int code, const union answer_body *answer)
{
    struct files *files = call->hub->files;
    struct lock_request *r = lock_request_of(call);

    call_end(call);
    if (r == NULL || r->state != LOCK_UNWAITING)
        return; /* the lock came first */
    if (lock_is_for_now(code)) {
        r->state = LOCK_QUEUED; /* lock_tick() */
        return;
    }
    /* Not waiting, and this mount was not told why: it may have it. */
    if (code != 0)
        lock_give_back(files, &r->wish);
    lock_finish(files, r, EINTR);
    lock_renew(files);
}

void lock_unwait(struct files *files, struct lock_request *r)
{
    struct call *call = lock_call(files, &r->wish, r->serial);
    const struct command_body body = {.ino = r->wish.ino, .ticket = r->serial};

    if (call == NULL)
        return; /* it goes on waiting; lock_tick() tries again */
    r->state = LOCK_UNWAITING;
    r->call = call;
    call->on_new_session = lock_on_new_session;
    uplink_write(call, COMMAND_UNWAIT, &body, on_unwaited);
}

static void ask_again(struct files *files, struct lock_request *r);

/* SQLite says "locking protocol", after ten seconds. */
static void explain(struct files *files, const struct lock_request *r, int code)
{
    const struct kernel_inode *inode = kernel_inode_find(files->cache, r->wish.ino);
    size_t len = inode != NULL && inode->name != NULL ? strlen(inode->name) : 0;
    uint64_t now = clock_boot_ms();

    if (code != KV_E_LOCKED || r->wish.kind != LOCK_OF_RANGE || r->wish.mode != LOCK_SHARED ||
        r->wish.start != 128 || r->wish.end != 128 || len <= 4 ||
        strcmp(inode->name + len - 4, "-shm") != 0 ||
        (files->locks.wal_told_ms != 0 && now - files->locks.wal_told_ms < WAL_TELL_MS))
        return;
    files->locks.wal_told_ms = now;
    log_warn("%s: a database with a write-ahead log is in use on another mount, and its users share memory: "
             "it is refused "
             "here until they have closed it (or for good: PRAGMA journal_mode=DELETE)",
             inode->name);
}

static void on_asked(struct call *call, int code, const union answer_body *ignored)
{
    struct files *files = call->hub->files;
    struct lock_request *r = lock_request_of(call);
    bool has = code == 0 && call->result.created;
    uint64_t epoch = has ? call->result.base_revision : 0;

    call_end(call);
    if (r == NULL)
        return;
    if (r->takes)
        lock_taken(files, r, epoch);
    if (code == KV_E_LOCKED || (code == 0 && !has))
        lock_shared(files, r->wish.ino);
    if (code == 0 && !has && r->ended && r->ended_code != 0) {
        /* The wait of before has ended, and this asking has begun another. */
        lock_answer(r, call_errno(r->ended_code));
        r->state = LOCK_QUEUED;
        lock_unwait(files, r);
        lock_renew(files);
        return;
    }
    if (code == 0 && !has && r->ended) {
        code = r->ended_code;
        has = code == 0;
    }
    if (r->restores && lock_is_for_now(code)) {
        lock_renew(files);
        return; /* lock_tick() */
    }
    if (r->restores) {
        lock_finish(files, r, 0);
        lock_start_behind(files);
    } else if (has) {
        lock_granted(files, r);
    } else if (lock_is_for_now(code) && r->wish.wait) {
        if (r->req == NULL && !r->asked_again) /* it was never there */
            lock_finish(files, r, 0);
        /* else lock_tick() */
    } else if (code != 0) {
        explain(files, r, code);
        lock_finish(files, r, call_errno(code));
    } else {
        /* A shared flock(2) that waits to be exclusive was given up. */
        if (r->wish.kind == LOCK_OF_FLOCK) {
            struct lock_wish gone = r->wish;

            gone.mode = LOCK_NONE;
            lock_held_set(files, &gone);
        }
        r->state = LOCK_QUEUED;
        if (r->interrupted_ms != 0 || r->req == NULL)
            lock_unwait(files, r);
        else if (r->missed)
            ask_again(files, r);
    }
    lock_start_behind(files);
    lock_renew(files);
}

void lock_ask(struct files *files, struct lock_request *r)
{
    struct call *call = lock_call(files, &r->wish, r->serial);
    /* While another mount has the table even who does not wait has to. */
    bool delegates = lock_level_delegates(files);
    struct command_body body = lock_body(&r->wish, r->wish.wait || delegates ? r->serial : 0);

    r->state = LOCK_ASKED;
    r->missed = r->ended = false;
    r->call = call;
    if (call == NULL)
        return; /* lock_tick() */
    call->on_new_session = lock_on_new_session;
    body.flags |= (uint8_t)((r->takes ? LOCK_FLAG_TAKE : 0) | (r->tests ? LOCK_FLAG_ASK : 0));
    uplink_write(call, delegates ? COMMAND_LOCK_TAKE : COMMAND_LOCK, &body, on_asked);
}

static void ask_again(struct files *files, struct lock_request *r)
{
    r->asked_again = true;
    lock_ask(files, r);
}

void lock_ended(struct files *files, uint64_t ticket, int code)
{
    struct lock_request *r = lock_request_find(files, ticket);

    if (r == NULL || r->wish.mode == LOCK_NONE)
        return;
    if (r->state == LOCK_ASKED) { /* the answer that it waits was lost with a connection, and comes again */
        r->ended = true;
        r->ended_code = code;
    } else if (r->state == LOCK_QUEUED || r->state == LOCK_UNWAITING) {
        if (code == 0) {
            lock_granted(files, r);
        } else {
            explain(files, r, code);
            lock_finish(files, r, call_errno(code));
        }
        lock_renew(files);
    }
}

void lock_interrupt(struct files *files, uint64_t serial)
{
    struct lock_request *r = lock_request_find(files, serial);

    if (r == NULL || r->wish.mode == LOCK_NONE || r->interrupted_ms != 0)
        return;
    if (!r->wish.wait && r->state != LOCK_QUEUED) /* that is soon done */
        return;
    r->interrupted_ms = clock_boot_ms();
    if (r->state == LOCK_QUEUED)
        lock_unwait(files, r);
}

void lock_ask_again(struct files *files)
{
    struct lock_request *r, *next;

    lock_want_all(files);
    for (r = TAILQ_FIRST(&files->locks.requests); r != NULL; r = next) {
        next = TAILQ_NEXT(r, link);
        if (r->wish.mode == LOCK_NONE)
            continue;
        if (r->state == LOCK_QUEUED)
            ask_again(files, r);
        else if (r->state == LOCK_ASKED)
            r->missed = true;
    }
}

/* Commands that are sent again may overtake each other: an UNLOCK must not take what its owner was given
 * since. */
static bool must_stand_behind(const struct files *files, const struct lock_request *r)
{
    const struct lock_request *x;

    TAILQ_FOREACH (x, &files->locks.requests, link) {
        if (x == r)
            return false;
        if ((x->wish.mode == LOCK_NONE || x->restores) && x->wish.ino == r->wish.ino &&
            x->wish.kind == r->wish.kind && x->wish.owner == r->wish.owner)
            return true;
    }
    return false;
}

static void start(struct files *files, struct lock_request *r)
{
    if (must_stand_behind(files, r)) {
        r->state = LOCK_BEHIND;
        r->fresh = false;
    } else if (r->wish.mode == LOCK_NONE) {
        if (r->published)
            lock_leave(files, r);
        else
            lock_start_leaving(files, r);
    } else if (lock_is_between(files, r->wish.ino)) {
        r->state = LOCK_BEHIND;
        r->fresh = false;
    } else if (lock_is_here(files, r->wish.ino)) {
        lock_take_here(files, r);
    } else {
        lock_may_take(files, r);
        lock_ask(files, r);
    }
}

/* Whether start() would leave it where it is. */
static bool stays_behind(const struct files *files, const struct lock_request *r)
{
    if (must_stand_behind(files, r))
        return true;
    return r->wish.mode != LOCK_NONE ? lock_is_between(files, r->wish.ino)
                                     : r->published && lock_is_moving(files, r->wish.ino);
}

/* Something is done that others may have waited for. */
void lock_start_behind(struct files *files)
{
    struct lock_request *r;

    if (files->locks.is_starting)
        return; /* it looks again */
    files->locks.is_starting = true;
    do { /* one that starts may end at once, and others with it */
        TAILQ_FOREACH (r, &files->locks.requests, link) {
            if (r->state == LOCK_BEHIND && !stays_behind(files, r))
                break;
        }
        if (r != NULL)
            start(files, r);
    } while (r != NULL);
    files->locks.is_starting = false;
}

void lock_start(struct files *files, fuse_req_t req, uint64_t serial, const struct lock_wish *wish)
{
    struct lock_request *r;

    if (wish->handle != NULL && wish->handle->fenced && wish->mode != LOCK_NONE) {
        fuse_reply_err(req, EIO);
        return;
    }
    if (wish->mode == LOCK_NONE && lock_held_find(files, wish->ino, wish->kind, wish->owner) == NULL) {
        fuse_reply_err(req, 0);
        return;
    }
    r = lock_request_new(files, req, serial, wish);
    if (r != NULL)
        start(files, r);
    lock_renew(files);
}

void lock_flush(struct files *files, fuse_req_t req, const struct lock_wish *wish, int err)
{
    struct lock_request *r = lock_request_new(files, req, lock_serial(files), wish);

    if (r == NULL)
        return;
    r->closing = true;
    r->err = err;
    start(files, r);
    lock_renew(files);
}

void lock_released(struct files *files, struct handle *handle)
{
    struct held_lock *h, *next;
    struct lock_request *r;

    TAILQ_FOREACH (r, &files->locks.requests, link) {
        if (r->wish.handle == handle)
            r->wish.handle = NULL;
    }
    for (h = TAILQ_FIRST(&files->locks.held); h != NULL; h = next) {
        struct lock_wish w = {.ino = h->ino,
                              .kind = h->kind,
                              .mode = LOCK_NONE,
                              .owner = h->owner,
                              .end = LOCK_RANGE_END,
                              .process = h->process};

        next = TAILQ_NEXT(h, link);
        if (h->handle != handle)
            continue;
        h->handle = NULL;
        r = lock_request_new(files, NULL, lock_serial(files), &w);
        if (r == NULL)
            continue;
        r->closing = true;
        start(files, r);
        lock_renew(files);
        next = TAILQ_FIRST(&files->locks.held); /* it may be any that has gone */
    }
}

void lock_connected(struct files *files)
{
    if (!files->locks.is_known || files->locks.in_cluster || files->locks.told ||
        files->hub->options->read_local || files->hub->uplink.node.level < 2)
        return;
    files->locks.told = true;
    log_warn("the cluster can keep locks now; those of this mount are its own until it is mounted again");
}

/* Who only tries waits for a table that another mount has, but not for ever: that one may not give it back,
 * and without a majority its time does not run out. */
static void end_late_try(struct files *files, struct lock_request *r, uint64_t now_ms)
{
    if (r->wish.mode == LOCK_NONE || r->wish.wait || r->state != LOCK_QUEUED || r->req == NULL ||
        now_ms - r->started_ms <= files->hub->options->timeout_ms + TABLE_MS)
        return;
    lock_answer(r, EIO);
    r->interrupted_ms = now_ms; /* and it waits no more */
}

void lock_tick(struct files *files, uint64_t now_ms)
{
    struct lock_request *r, *next;

    for (r = TAILQ_FIRST(&files->locks.requests); r != NULL; r = next) {
        bool slow = now_ms - r->started_ms > files->hub->options->timeout_ms;
        bool killed = r->interrupted_ms != 0 && now_ms - r->interrupted_ms > INTERRUPT_MS;
        bool takes = r->wish.mode != LOCK_NONE;

        next = TAILQ_NEXT(r, link);
        /* It is unlocked sooner or later, and what was taken too late is given back. */
        if (!takes && slow && r->state != LOCK_PUBLISHING)
            lock_answer(r, r->err);
        else if (takes && slow && !r->wish.wait && r->state <= LOCK_ASKED)
            lock_answer(r, EIO);
        else if (takes && killed && r->state != LOCK_GRANTED)
            lock_answer(r, EINTR);
        end_late_try(files, r, now_ms);
        if (takes && r->state == LOCK_BEHIND && r->req == NULL)
            lock_request_free(files, r);
        else if (r->state == LOCK_QUEUED && r->interrupted_ms != 0)
            lock_unwait(files, r);
        else if (r->state == LOCK_ASKED && r->call == NULL && takes)
            lock_ask(files, r);
        else if (r->state == LOCK_ASKED && r->call == NULL)
            lock_leave(files, r);
    }
    lock_delegations_tick(files, now_ms);
    lock_start_behind(files);
    lock_renew(files);
}
