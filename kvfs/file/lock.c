/* Everything is a state machine of calls of kvfs's own, without deadlines: what was sent is sent again until
 * it is answered, also when the program has been told something meanwhile. */
#include "kvfs/file/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kvfs/file/files.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define REQUESTS_MAX 4096
/* After a signal: a program that is about to get its answer need not know of it. */
#define INTERRUPT_MS 100

struct held_lock {
    TAILQ_ENTRY(held_lock) link;
    uint64_t ino;
    uint8_t kind;
    uint64_t owner;
    pid_t process;
    struct handle *handle; /* borrowed; through which it was locked last; NULL: released */
    struct lock_ranges ranges;
};

enum lock_state {
    LOCK_BEHIND,    /* what the same owner unlocks is not done yet */
    LOCK_ASKED,     /* the command is out, or (no call) is to be sent once more */
    LOCK_QUEUED,    /* it waits in the cluster */
    LOCK_UNWAITING, /* UNWAIT is out */
    LOCK_GRANTED,   /* the kernel drops what is older */
    LOCK_PUBLISHING /* to unlock: what the process has staged comes first */
};

struct lock_request {
    TAILQ_ENTRY(lock_request) link;
    uint64_t serial; /* its ticket, too */
    fuse_req_t req;  /* NULL: answered */
    struct lock_wish wish;
    enum lock_state state;
    struct call *call;  /* borrowed: what is under way */
    bool closing;       /* unlock, whatever comes */
    bool restores;      /* makes the cluster know what this mount does */
    bool asked_again;   /* it may wait in the cluster since an earlier time */
    bool ended, missed; /* ASKED: the wait's event came before the answer; or it may have been missed */
    int ended_code;
    int err; /* for the answer */
    uint64_t started_ms, interrupted_ms;
    uint64_t *inos; /* owned: PUBLISHING: files to be published */
    size_t n_inos, next_ino;
};

void locks_init(struct locks *locks)
{
    TAILQ_INIT(&locks->held);
    TAILQ_INIT(&locks->requests);
}

static void held_free(struct locks *locks, struct held_lock *h)
{
    TAILQ_REMOVE(&locks->held, h, link);
    lock_ranges_deinit(&h->ranges);
    free(h);
}

static void request_free(struct files *files, struct lock_request *r)
{
    TAILQ_REMOVE(&files->locks.requests, r, link);
    files->locks.n_requests--;
    free(r->inos);
    free(r);
}

void locks_deinit(struct locks *locks)
{
    struct lock_request *r;

    while (!TAILQ_EMPTY(&locks->held))
        held_free(locks, TAILQ_FIRST(&locks->held));
    while ((r = TAILQ_FIRST(&locks->requests)) != NULL) {
        TAILQ_REMOVE(&locks->requests, r, link);
        free(r->inos);
        free(r);
    }
}

uint64_t lock_serial(struct files *files)
{
    return ++files->locks.serials;
}

static struct lock_request *request_find(struct files *files, uint64_t serial)
{
    struct lock_request *r;

    TAILQ_FOREACH (r, &files->locks.requests, link) {
        if (r->serial == serial)
            return r;
    }
    return NULL;
}

static void answer(struct lock_request *r, int err)
{
    if (r->req != NULL)
        fuse_reply_err(r->req, err);
    r->req = NULL;
}

static void finish(struct files *files, struct lock_request *r, int err)
{
    answer(r, err);
    request_free(files, r);
}

/* ---- what this mount has, as far as its programs were told ---- */

static struct held_lock *held_find(const struct files *files, uint64_t ino, uint8_t kind, uint64_t owner)
{
    struct held_lock *h;

    TAILQ_FOREACH (h, &files->locks.held, link) {
        if (h->ino == ino && h->kind == kind && h->owner == owner)
            return h;
    }
    return NULL;
}

bool lock_any(const struct files *files, uint64_t ino)
{
    const struct held_lock *h;

    TAILQ_FOREACH (h, &files->locks.held, link) {
        if (h->ino == ino)
            return true;
    }
    return false;
}

bool lock_is_held(const struct files *files, uint64_t ino, uint64_t owner)
{
    return held_find(files, ino, LOCK_OF_RANGE, owner) != NULL;
}

/* False: out of memory. */
static bool held_set(struct files *files, const struct lock_wish *w)
{
    struct held_lock *h = held_find(files, w->ino, w->kind, w->owner);

    if (h == NULL && w->mode == LOCK_NONE)
        return true;
    if (h == NULL) {
        h = calloc(1, sizeof *h);
        if (h == NULL)
            return false;
        h->ino = w->ino;
        h->kind = w->kind;
        h->owner = w->owner;
        TAILQ_INSERT_TAIL(&files->locks.held, h, link);
    }
    if (w->mode != LOCK_NONE) {
        h->process = w->process;
        h->handle = w->handle;
    }
    if (lock_ranges_set(&h->ranges, w->start, w->end, w->mode) < 0) {
        if (h->ranges.n == 0)
            held_free(&files->locks, h);
        return false;
    }
    if (h->ranges.n == 0)
        held_free(&files->locks, h);
    return true;
}

/* Others shall learn of our end soon while there is something that they may wait for. */
static void renew(struct files *files)
{
    uplink_set_lease(files->hub, !TAILQ_EMPTY(&files->locks.held) || !TAILQ_EMPTY(&files->locks.requests));
}

/* ---- commands ---- */

/* NULL: req was answered. */
static struct lock_request *request_new(struct files *files, fuse_req_t req, uint64_t serial,
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

static struct call *begin(struct files *files, const struct lock_wish *w, uint64_t serial)
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
static bool on_new_session(struct call *call, bool executed)
{
    const struct lock_request *r = request_find(call->hub->files, call->lock.serial);

    return r != NULL && !r->restores;
}

/* It was not executed, and may be another time. */
static bool is_for_now(int code)
{
    return code == KV_E_ROFS || code == KV_E_NOSPC || code == KV_E_UNAVAILABLE || code == KV_E_BUSY ||
           code == KV_E_NOTLEADER || code == -ENOMEM;
}

static struct command_body body_of_wish(const struct lock_wish *w, uint64_t ticket)
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

static void leave(struct files *files, struct lock_request *r);
static void ask(struct files *files, struct lock_request *r);
static void start_behind(struct files *files);

/* One command of which no program waits for the answer. */
static void post(struct files *files, const struct lock_wish *w)
{
    struct lock_request *r = request_new(files, NULL, lock_serial(files), w);

    if (r == NULL)
        return;
    r->closing = r->restores = true;
    if (w->mode == LOCK_NONE)
        leave(files, r);
    else
        ask(files, r);
}

/* The cluster may have given what the program was not told of: what it has there is to be what it knows. */
static void give_back(struct files *files, const struct lock_wish *wish)
{
    static const struct lock_ranges none;
    const struct held_lock *h = held_find(files, wish->ino, wish->kind, wish->owner);
    const struct lock_ranges *r = h != NULL ? &h->ranges : &none;
    struct lock_wish w = *wish;
    uint64_t at = wish->start;

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

static struct lock_request *request_of(const struct call *call)
{
    struct lock_request *r = request_find(call->hub->files, call->lock.serial);

    if (r != NULL)
        r->call = NULL;
    return r;
}

/* ---- taking ---- */

static void on_dropped(struct call *call, int code, const union answer_body *answer)
{
    struct files *files = call->hub->files;
    struct lock_request *r = request_of(call);

    call_end(call);
    if (r != NULL)
        finish(files, r, r->err);
    renew(files);
}

static void granted(struct files *files, struct lock_request *r)
{
    struct call *call = NULL;

    if (r->req != NULL)
        call = begin(files, &r->wish, r->serial);
    if (call == NULL || !held_set(files, &r->wish)) {
        if (call != NULL)
            call_end(call);
        give_back(files, &r->wish);
        finish(files, r, ENOLCK);
        return;
    }
    r->state = LOCK_GRANTED;
    r->call = call;
    notifier_settle(files->cache, call, on_dropped);
}

static void on_unwaited(struct call *call, int code, const union answer_body *answer)
{
    struct files *files = call->hub->files;
    struct lock_request *r = request_of(call);

    call_end(call);
    if (r == NULL || r->state != LOCK_UNWAITING)
        return; /* the lock came first */
    if (is_for_now(code)) {
        r->state = LOCK_QUEUED; /* lock_tick() */
        return;
    }
    /* Not waiting, and this mount was not told why: it may have it. */
    if (code != 0)
        give_back(files, &r->wish);
    finish(files, r, EINTR);
    renew(files);
}

static void unwait(struct files *files, struct lock_request *r)
{
    struct call *call = begin(files, &r->wish, r->serial);
    const struct command_body body = {.ino = r->wish.ino, .ticket = r->serial};

    if (call == NULL)
        return; /* it goes on waiting; lock_tick() tries again */
    r->state = LOCK_UNWAITING;
    r->call = call;
    call->on_new_session = on_new_session;
    uplink_write(call, COMMAND_UNWAIT, &body, on_unwaited);
}

static void ask_again(struct files *files, struct lock_request *r);

static void on_asked(struct call *call, int code, const union answer_body *ignored)
{
    struct files *files = call->hub->files;
    struct lock_request *r = request_of(call);
    bool has = code == 0 && call->result.created;

    call_end(call);
    if (r == NULL)
        return;
    if (code == 0 && !has && r->ended && r->ended_code != 0) {
        /* The wait of before has ended, and this asking has begun another. */
        answer(r, call_errno(r->ended_code));
        r->state = LOCK_QUEUED;
        unwait(files, r);
        renew(files);
        return;
    }
    if (code == 0 && !has && r->ended) {
        code = r->ended_code;
        has = code == 0;
    }
    if (r->restores && is_for_now(code)) {
        renew(files);
        return; /* lock_tick() */
    }
    if (r->restores) {
        finish(files, r, 0);
        start_behind(files);
    } else if (has) {
        granted(files, r);
    } else if (is_for_now(code) && r->wish.wait) {
        if (r->req == NULL && !r->asked_again) /* it was never there */
            finish(files, r, 0);
        /* else lock_tick() */
    } else if (code != 0) {
        finish(files, r, call_errno(code));
    } else {
        /* A shared flock(2) that waits to be exclusive was given up. */
        if (r->wish.kind == LOCK_OF_FLOCK) {
            struct lock_wish gone = r->wish;

            gone.mode = LOCK_NONE;
            held_set(files, &gone);
        }
        r->state = LOCK_QUEUED;
        if (r->interrupted_ms != 0 || r->req == NULL)
            unwait(files, r);
        else if (r->missed)
            ask_again(files, r);
    }
    renew(files);
}

static void ask(struct files *files, struct lock_request *r)
{
    struct call *call = begin(files, &r->wish, r->serial);
    struct command_body body = body_of_wish(&r->wish, r->wish.wait ? r->serial : 0);

    r->state = LOCK_ASKED;
    r->missed = r->ended = false;
    r->call = call;
    if (call == NULL)
        return; /* lock_tick() */
    call->on_new_session = on_new_session;
    uplink_write(call, COMMAND_LOCK, &body, on_asked);
}

static void ask_again(struct files *files, struct lock_request *r)
{
    r->asked_again = true;
    ask(files, r);
}

void lock_ended(struct files *files, uint64_t ticket, int code)
{
    struct lock_request *r = request_find(files, ticket);

    if (r == NULL || r->wish.mode == LOCK_NONE)
        return;
    if (r->state == LOCK_ASKED) { /* the answer that it waits was lost with a connection, and comes again */
        r->ended = true;
        r->ended_code = code;
    } else if (r->state == LOCK_QUEUED || r->state == LOCK_UNWAITING) {
        if (code == 0)
            granted(files, r);
        else
            finish(files, r, call_errno(code));
        renew(files);
    }
}

void lock_interrupt(struct files *files, uint64_t serial)
{
    struct lock_request *r = request_find(files, serial);

    if (r == NULL || r->wish.mode == LOCK_NONE || !r->wish.wait || r->interrupted_ms != 0)
        return;
    r->interrupted_ms = clock_boot_ms();
    if (r->state == LOCK_QUEUED)
        unwait(files, r);
}

void lock_ask_again(struct files *files)
{
    struct lock_request *r, *next;

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

/* ---- leaving ---- */

static void on_left(struct call *call, int code, const union answer_body *answer)
{
    struct files *files = call->hub->files;
    struct lock_request *r = request_of(call);

    call_end(call);
    if (r == NULL)
        return;
    if (r->closing && is_for_now(code))
        return; /* lock_tick() */
    if (code == 0)
        held_set(files, &r->wish);
    else if (r->err == 0) /* one range would be two, and there is no room for them, say */
        r->err = call_errno(code);
    finish(files, r, r->err);
    start_behind(files);
    renew(files);
}

static void leave(struct files *files, struct lock_request *r)
{
    struct call *call = begin(files, &r->wish, r->serial);
    const struct command_body body = body_of_wish(&r->wish, 0);

    r->state = LOCK_ASKED;
    r->call = call;
    if (call == NULL)
        return; /* lock_tick() */
    call->on_new_session = on_new_session;
    uplink_write(call, COMMAND_UNLOCK, &body, on_left);
}

static void publish_next(struct files *files, struct lock_request *r);

static void on_published(struct call *call, int code, const union answer_body *answer)
{
    struct files *files = call->hub->files;
    struct lock_request *r = request_of(call);
    int err = call_errno(code);

    call_end(call);
    if (r == NULL)
        return;
    if (code != 0 && !r->closing) {
        publish_told(kernel_inode_find(files->cache, r->inos[r->next_ino - 1]));
        finish(files, r, err);
        renew(files);
        return;
    }
    r->err = r->err != 0 ? r->err : err;
    publish_next(files, r);
}

static void publish_next(struct files *files, struct lock_request *r)
{
    struct call *call;

    if (r->next_ino == r->n_inos) {
        leave(files, r);
        return;
    }
    call = begin(files, &r->wish, r->serial);
    if (call == NULL) {
        r->next_ino = r->n_inos; /* in memory there is no room even for that: unlocked it is to be */
        leave(files, r);
        return;
    }
    r->state = LOCK_PUBLISHING;
    r->call = call;
    call->deadline_ms = clock_boot_ms() + files->hub->options->timeout_ms;
    publish_wait(kernel_inode_find(files->cache, r->inos[r->next_ino++]), call, on_published);
}

static bool has_written(const struct file *f, pid_t process)
{
    if (process == 0 || f->n_writers > FILE_WRITERS)
        return true;
    for (unsigned i = 0; i < f->n_writers; i++)
        if (f->writers[i].process == process || f->writers[i].process == 0)
            return true;
    return false;
}

/* All that the process, and who has locked it if that is another one, has staged; what it locked says nothing
 * about what it guards by that. */
static bool find_staged(struct files *files, struct lock_request *r)
{
    const struct held_lock *h = held_find(files, r->wish.ino, r->wish.kind, r->wish.owner);
    struct file *f;
    size_t n = 0;

    TAILQ_FOREACH (f, &files->list, link)
        n++;
    r->inos = n > 0 ? calloc(n, sizeof *r->inos) : NULL;
    if (n > 0 && r->inos == NULL)
        return false;
    TAILQ_FOREACH (f, &files->list, link) {
        if (f->life == FILE_LIVE &&
            (has_written(f, r->wish.process) || (h != NULL && has_written(f, h->process))))
            r->inos[r->n_inos++] = f->inode->ino;
    }
    for (size_t i = 0; i < r->n_inos; i++)
        if ((f = file_find(files, r->inos[i])) != NULL)
            publish_start(files, f);
    return true;
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

static void start_leaving(struct files *files, struct lock_request *r)
{
    if (!find_staged(files, r))
        finish(files, r, ENOMEM);
    else
        publish_next(files, r);
}

static void start(struct files *files, struct lock_request *r)
{
    if (must_stand_behind(files, r))
        r->state = LOCK_BEHIND;
    else if (r->wish.mode == LOCK_NONE)
        start_leaving(files, r);
    else
        ask(files, r);
}

/* Something is done that others may have waited for. */
static void start_behind(struct files *files)
{
    struct lock_request *r;

    do { /* one that starts may end at once, and others with it */
        TAILQ_FOREACH (r, &files->locks.requests, link) {
            if (r->state == LOCK_BEHIND && !must_stand_behind(files, r))
                break;
        }
        if (r != NULL)
            start(files, r);
    } while (r != NULL);
}

void lock_start(struct files *files, fuse_req_t req, uint64_t serial, const struct lock_wish *wish)
{
    struct lock_request *r;

    if (wish->handle != NULL && wish->handle->fenced && wish->mode != LOCK_NONE) {
        fuse_reply_err(req, EIO);
        return;
    }
    if (wish->mode == LOCK_NONE && held_find(files, wish->ino, wish->kind, wish->owner) == NULL) {
        fuse_reply_err(req, 0);
        return;
    }
    r = request_new(files, req, serial, wish);
    if (r != NULL)
        start(files, r);
    renew(files);
}

void lock_flush(struct files *files, fuse_req_t req, const struct lock_wish *wish, int err)
{
    struct lock_request *r = request_new(files, req, lock_serial(files), wish);

    if (r == NULL)
        return;
    r->closing = true;
    r->err = err;
    start(files, r);
    renew(files);
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
        r = request_new(files, NULL, lock_serial(files), &w);
        if (r == NULL)
            continue;
        r->closing = true;
        start(files, r);
        renew(files);
        next = TAILQ_FIRST(&files->locks.held); /* it may be any that has gone */
    }
}

/* ---- F_GETLK ---- */

static bool is_in_the_way(const struct call *call, const struct lock_row *row)
{
    const struct lock_wish *w = call->lock.wish;

    return row->kind == LOCK_OF_RANGE && row->wait == 0 && row->start <= w->end && row->end >= w->start &&
           (row->exclusive || w->mode == LOCK_EXCLUSIVE) &&
           (row->session != call->hub->uplink.session || row->owner != w->owner);
}

static void on_tested(struct call *call, int code, const union answer_body *answer)
{
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    struct lock_row row;
    struct cursor c;

    if (code != 0) {
        call_fail(call, code);
        return;
    }
    c = rows_cursor(&answer->locks.rows);
    for (uint32_t i = 0; i < answer->locks.rows.count; i++) {
        lock_row_decode(&c, &row);
        if (!is_in_the_way(call, &row))
            continue;
        lock.l_type = row.exclusive ? F_WRLCK : F_RDLCK;
        lock.l_start = (off_t)row.start;
        lock.l_len = row.end == LOCK_RANGE_END ? 0 : (off_t)(row.end - row.start + 1);
        /* A number of another machine's would be taken for one of this. */
        lock.l_pid = row.session == call->hub->uplink.session ? (pid_t)row.pid : 0;
        break;
    }
    fuse_reply_lock(call->fuse, &lock);
    call_end(call);
}

void lock_test(struct files *files, fuse_req_t req, const struct lock_wish *wish)
{
    struct call *call = call_begin(files->hub, req, CALL_LOCK);

    if (call == NULL)
        return;
    call->ino = wish->ino;
    call->lock.wish = malloc(sizeof *wish);
    if (call->lock.wish == NULL) {
        call_error(call, ENOMEM);
        return;
    }
    *call->lock.wish = *wish;
    uplink_send(call, MESSAGE_LOCKS,
                &(union request_body){.locks = {.at = READ_LINEARIZABLE, .ino = wish->ino}}, on_tested);
}

/* ---- when the session has ended ---- */

static void fence_process(struct files *files, pid_t process, const struct handle *handle)
{
    struct kernel_inode *inode, *next;
    struct handle *h;

    HASH_ITER(hh, files->cache->inodes.by_ino, inode, next)
    {
        if (inode->file == NULL)
            continue;
        TAILQ_FOREACH (h, &inode->file->handles, link) {
            if (h == handle || (process != 0 && h->opener == process))
                h->fenced = true;
        }
        if (inode->file->listed && has_written(inode->file, process))
            publish_fence(inode->file);
    }
}

void lock_session_lost(struct files *files)
{
    struct lock_request *r, *next;
    struct held_lock *h;
    unsigned n = 0;

    while ((h = TAILQ_FIRST(&files->locks.held)) != NULL) {
        log_error("inode %" PRIu64
                  ": the lock of process %d is lost, nothing was heard of this mount for too "
                  "long; what the process writes through what it has open fails",
                  h->ino, (int)h->process);
        fence_process(files, h->process, h->handle);
        held_free(&files->locks, h);
        n++;
    }
    for (r = TAILQ_FIRST(&files->locks.requests); r != NULL; r = next) {
        next = TAILQ_NEXT(r, link);
        r->ended = r->missed = false;
        if (r->wish.mode == LOCK_NONE)
            continue;
        if (r->state == LOCK_GRANTED || (r->wish.handle != NULL && r->wish.handle->fenced)) {
            r->err = EIO;
            answer(r, EIO);
        }
        if (r->state == LOCK_QUEUED && r->req == NULL)
            request_free(files, r);
        /* Others are asked for anew: lock_ask_again(). */
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
            answer(r, r->err);
        else if (takes && slow && !r->wish.wait && r->state <= LOCK_ASKED)
            answer(r, EIO);
        else if (takes && killed && r->state != LOCK_GRANTED)
            answer(r, EINTR);
        if (takes && r->state == LOCK_BEHIND && r->req == NULL)
            request_free(files, r);
        else if (r->state == LOCK_QUEUED && r->interrupted_ms != 0)
            unwait(files, r);
        else if (r->state == LOCK_ASKED && r->call == NULL && takes)
            ask(files, r);
        else if (r->state == LOCK_ASKED && r->call == NULL)
            leave(files, r);
    }
    start_behind(files);
    renew(files);
}
