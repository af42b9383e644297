/* Lock tables that this mount has for itself (COMMAND_LOCK_TAKE): in these it decides, without a word to
 * anybody.
 *
 *   (none) ──LOCK_TAKE──► TAKING ──answer──► HELD ──wanted, idle, somebody has to wait──► PUTTING ──► SHARED
 * ──► (none) └──────────── the table is everybody's ────────────────────────────────────┘
 *
 * What is locked in such a table stands where all locks of this mount stand (struct held_lock), so giving it
 * back is telling that. While TAKING or PUTTING nothing of the file is decided: who asks stands behind.
 * SHARED: others want locks there as well, so for some seconds it is not taken; that is a matter of speed
 * only.
 *
 * Nothing here is right for longer than the session: after so long without an answer of the cluster that it
 * may have ended, and while there is no read lease, which tells this mount of what others have changed, each
 * lock asks first (FRESHENING). */
#include "kvfs/file/lock_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define DELEGATIONS_MAX 4096
/* Less than LOCK_LEASE_MS, kvnode/state/store_internal.h, also by a clock that is slow. */
#define ALIVE_MS 8000
#define IDLE_MS 30000
/* With so many of them, a quarter of what the cluster gives one mount, those that are idle go sooner. */
#define DELEGATIONS_MANY 256
#define IDLE_MANY_MS 1000
#define SHARED_MS 5000
/* As many as are given back at a time when all are. */
#define PUTS_MAX 64
#define LOCKS_OF_MOUNT_MAX 4096

enum delegation_state { DELEGATION_SHARED, DELEGATION_TAKING, DELEGATION_HELD, DELEGATION_PUTTING };

struct delegation {
    uint64_t ino;
    UT_hash_handle hh; /* locks.delegations */
    enum delegation_state state;
    uint64_t epoch;    /* HELD, PUTTING */
    uint64_t wanted;   /* the newest epoch that was; UINT64_MAX: whichever it is */
    bool put;          /* HELD: it is to be given back */
    bool is_shared;    /* PUTTING: others want it, or some here wait */
    uint64_t used_ms;  /* HELD: when last; SHARED: when others were noticed last */
    struct call *call; /* borrowed: PUTTING */
};

static struct delegation *find(const struct files *files, uint64_t ino)
{
    struct delegation *d;

    HASH_FIND(hh, files->locks.delegations, &ino, sizeof ino, d);
    return d;
}

static struct delegation *get(struct files *files, uint64_t ino)
{
    struct delegation *d = find(files, ino);

    if (d != NULL || HASH_COUNT(files->locks.delegations) >= DELEGATIONS_MAX)
        return d;
    d = calloc(1, sizeof *d);
    if (d == NULL)
        return NULL;
    d->ino = ino;
    HASH_ADD(hh, files->locks.delegations, ino, sizeof d->ino, d);
    if (d->hh.tbl == NULL) {
        free(d);
        return NULL;
    }
    return d;
}

static void drop(struct files *files, struct delegation *d)
{
    HASH_DELETE(hh, files->locks.delegations, d);
    free(d);
}

void lock_delegations_deinit(struct locks *locks)
{
    struct delegation *d, *next;

    HASH_ITER(hh, locks->delegations, d, next)
    {
        HASH_DELETE(hh, locks->delegations, d);
        free(d);
    }
}

bool lock_has_delegations(const struct files *files)
{
    const struct delegation *d, *next;

    HASH_ITER(hh, files->locks.delegations, d, next)
    {
        if (d->state != DELEGATION_SHARED)
            return true;
    }
    return false;
}

bool lock_is_between(const struct files *files, uint64_t ino)
{
    const struct delegation *d = find(files, ino);

    return d != NULL && (d->state == DELEGATION_TAKING || d->state == DELEGATION_PUTTING ||
                         (d->state == DELEGATION_HELD && d->put));
}

bool lock_is_moving(const struct files *files, uint64_t ino)
{
    const struct delegation *d = find(files, ino);

    return d != NULL && (d->state == DELEGATION_TAKING || d->state == DELEGATION_PUTTING);
}

bool lock_is_left_here(const struct files *files, uint64_t ino)
{
    const struct delegation *d = find(files, ino);

    return d != NULL && d->state == DELEGATION_HELD;
}

bool lock_is_here(const struct files *files, uint64_t ino)
{
    const struct delegation *d = find(files, ino);

    return d != NULL && d->state == DELEGATION_HELD && !d->put;
}

bool lock_level_delegates(const struct files *files)
{
    return files->hub->uplink.node.level >= 3;
}

/* ---- giving back ---- */

static void put(struct files *files, struct delegation *d, bool is_shared);

/* The locks of programs here in that file are lost. */
static void lose(struct files *files, uint64_t ino, const char *why)
{
    struct held_lock *h, *next;

    for (h = TAILQ_FIRST(&files->locks.held); h != NULL; h = next) {
        next = TAILQ_NEXT(h, link);
        if (h->ino == ino)
            lock_lose(files, h, why);
    }
}

static void on_put(struct call *call, int code, const union answer_body *answer)
{
    struct files *files = call->hub->files;
    struct delegation *d = find(files, call->ino);

    if (d == NULL || d->call != call) { /* of a session that has ended */
        call_end(call);
        return;
    }
    call_end(call);
    d->call = NULL;
    /* Who wants it waits until there is room; what was granted here is not taken away for that. */
    if (lock_is_for_now(code) || code == KV_E_NOLCK) {
        d->state = DELEGATION_HELD; /* lock_delegations_tick() */
        d->put = true;
        lock_start_behind(files);
        return;
    }
    if (code != 0) {
        lose(files, d->ino, error_text(code));
        if (code != KV_E_STALE) {
            put(files, d, d->is_shared); /* with nothing in it */
            return;
        }
    }
    d->state = DELEGATION_SHARED;
    d->used_ms = clock_boot_ms();
    if (!d->is_shared)
        drop(files, d);
    lock_start_behind(files);
    lock_renew(files);
}

static void encode_held(const struct files *files, uint64_t ino, struct buffer *b, size_t *n_out)
{
    const struct held_lock *h;

    TAILQ_FOREACH (h, &files->locks.held, link) {
        for (size_t i = 0; h->ino == ino && i < h->ranges.n; i++) {
            const struct lock_put one = {.kind = h->kind,
                                         .exclusive = h->ranges.at[i].mode == LOCK_EXCLUSIVE,
                                         .owner = h->owner,
                                         .start = h->ranges.at[i].start,
                                         .end = h->ranges.at[i].end,
                                         .pid = (uint32_t)h->process};

            lock_put_encode(b, &one);
            ++*n_out;
        }
    }
}

static void put(struct files *files, struct delegation *d, bool is_shared)
{
    struct buffer b = BUFFER_INIT;
    struct command_body body = {.ino = d->ino, .version = d->epoch};
    struct call *call = call_begin(files->hub, NULL, CALL_LOCK);

    d->state = DELEGATION_HELD;
    d->put = true;
    d->is_shared = is_shared;
    encode_held(files, d->ino, &b, &body.n_put);
    body.put = b.data;
    if (call == NULL || b.failed) {
        if (call != NULL)
            call_end(call);
        buffer_deinit(&b);
        return; /* lock_delegations_tick() */
    }
    d->state = DELEGATION_PUTTING;
    d->call = call;
    call->ino = d->ino;
    call->deadline_ms = UINT64_MAX;
    uplink_write(call, COMMAND_LOCK_PUT, &body, on_put);
    buffer_deinit(&b);
}

void lock_wanted(struct files *files, uint64_t ino, uint64_t epoch)
{
    struct delegation *d = find(files, ino);

    if (d == NULL)
        return;
    if (d->wanted < epoch)
        d->wanted = epoch;
    d->is_shared = true;
    if (d->state == DELEGATION_HELD && !d->put && d->epoch <= d->wanted)
        put(files, d, true);
}

void lock_want_all(struct files *files)
{
    struct delegation *d, *next;

    HASH_ITER(hh, files->locks.delegations, d, next)
    {
        d->wanted = UINT64_MAX;
        d->put = d->state == DELEGATION_HELD;
    }
}

void lock_delegations_lost(struct files *files)
{
    struct delegation *d, *next;

    HASH_ITER(hh, files->locks.delegations, d, next)
    {
        if (d->state != DELEGATION_TAKING) /* that asks anew */
            drop(files, d);
    }
}

/* ---- taking ---- */

/* Nothing of the file is under way but r. */
static bool is_alone(const struct files *files, const struct lock_request *r)
{
    const struct lock_request *x;

    TAILQ_FOREACH (x, &files->locks.requests, link) {
        if (x != r && x->wish.ino == r->wish.ino && x->state != LOCK_BEHIND)
            return false;
    }
    return true;
}

/* That this mount has nothing there the cluster knows best: it gives a table only in which nothing is. */
void lock_may_take(struct files *files, struct lock_request *r)
{
    struct delegation *d = find(files, r->wish.ino);

    if (!lock_level_delegates(files) || r->restores || !lease_runs(files->cache) || !is_alone(files, r) ||
        (d != NULL && clock_boot_ms() - d->used_ms < SHARED_MS))
        return;
    d = get(files, r->wish.ino);
    if (d == NULL)
        return;
    *d = (struct delegation){.ino = d->ino, .hh = d->hh, .state = DELEGATION_TAKING};
    r->takes = true;
}

void lock_taken(struct files *files, struct lock_request *r, uint64_t epoch)
{
    struct delegation *d = find(files, r->wish.ino);

    r->takes = false;
    if (d == NULL || d->state != DELEGATION_TAKING)
        return;
    if (epoch == 0) {
        d->state = DELEGATION_SHARED;
        d->used_ms = clock_boot_ms();
        return;
    }
    d->state = DELEGATION_HELD;
    d->epoch = epoch;
    d->used_ms = clock_boot_ms();
    d->put = d->wanted >= epoch; /* lock_delegations_tick(), when r has what it asked for */
}

void lock_shared(struct files *files, uint64_t ino)
{
    struct delegation *d = lock_level_delegates(files) ? get(files, ino) : NULL;

    if (d != NULL && d->state == DELEGATION_SHARED)
        d->used_ms = clock_boot_ms();
}

/* ---- deciding ---- */

struct glance {
    bool conflict;
    size_t in_file, in_all; /* ranges */
};

static struct glance look(const struct files *files, const struct lock_wish *w)
{
    struct glance g = {0};
    const struct held_lock *h;

    TAILQ_FOREACH (h, &files->locks.held, link) {
        g.in_all += h->ranges.n;
        if (h->ino != w->ino)
            continue;
        g.in_file += h->ranges.n;
        if (h->kind == w->kind && h->owner != w->owner && w->mode != LOCK_NONE &&
            lock_ranges_conflict(&h->ranges, w->start, w->end, w->mode) != NULL)
            g.conflict = true;
    }
    return g;
}

bool lock_is_fresh(const struct files *files)
{
    uint64_t heard_ms = files->hub->uplink.heard_ms;

    return heard_ms != 0 && clock_boot_ms() - heard_ms < ALIVE_MS && lease_runs(files->cache);
}

static void on_freshened(struct call *call, int code, const union answer_body *answer)
{
    struct files *files = call->hub->files;
    struct lock_request *r = lock_request_of(call);

    call_end(call);
    if (r == NULL)
        return;
    if (r->req == NULL) {
        lock_finish(files, r, 0);
    } else if (code != 0 && !lock_is_for_now(code)) {
        lock_finish(files, r, call_errno(code));
    } else {
        r->fresh = code == 0;
        r->state = LOCK_BEHIND; /* with a code, lock_tick() */
    }
    if (code == 0)
        lock_start_behind(files);
    lock_renew(files);
}

/* A command, as the lock itself would be: its answer comes behind all that was acknowledged before, and the
 * session lives. */
static void freshen(struct files *files, struct lock_request *r)
{
    struct call *call = lock_call(files, &r->wish, r->serial);

    if (call == NULL) {
        lock_finish(files, r, ENOLCK);
        return;
    }
    r->state = LOCK_FRESHENING;
    r->call = call;
    call->on_new_session = lock_on_new_session;
    uplink_write(call, COMMAND_KEEPALIVE, &(struct command_body){0}, on_freshened);
}

void lock_take_here(struct files *files, struct lock_request *r)
{
    struct delegation *d = find(files, r->wish.ino);
    struct glance g = look(files, &r->wish);

    d->used_ms = clock_boot_ms();
    if (g.conflict && !r->wish.wait) {
        lock_finish(files, r, call_errno(KV_E_LOCKED));
        return;
    }
    /* Who waits, waits in the cluster, where every edge of a deadlock is. A range more may be three. */
    if (g.conflict || g.in_file + 2 >= LOCK_PUT_MAX || g.in_all + 2 >= LOCKS_OF_MOUNT_MAX) {
        r->state = LOCK_BEHIND;
        put(files, d, true);
        return;
    }
    if (!r->fresh && !lock_is_fresh(files))
        freshen(files, r);
    else
        lock_granted(files, r);
}

/* What is unlocked is in the middle of a range. */
static bool becomes_two(const struct files *files, const struct lock_wish *w)
{
    const struct held_lock *h = lock_held_find(files, w->ino, w->kind, w->owner);

    return h != NULL && lock_ranges_after(&h->ranges, w->start, w->end, LOCK_NONE) > h->ranges.n;
}

void lock_leave_here(struct files *files, struct lock_request *r)
{
    struct delegation *d = find(files, r->wish.ino);

    d->used_ms = clock_boot_ms();
    if (becomes_two(files, &r->wish) && look(files, &r->wish).in_file >= LOCK_PUT_MAX) {
        put(files, d, true);
        if (d->state == DELEGATION_PUTTING)
            r->state = LOCK_BEHIND;
        else
            lock_finish(files, r, ENOLCK);
        return;
    }
    if (!lock_held_set(files, &r->wish) && r->err == 0)
        r->err = ENOMEM;
    lock_finish(files, r, r->err);
    lock_start_behind(files);
    lock_renew(files);
}

/* ---- time ---- */

static void use(struct files *files, uint64_t ino, uint64_t now_ms)
{
    struct delegation *d = find(files, ino);

    if (d != NULL && d->state == DELEGATION_HELD && d->used_ms < now_ms)
        d->used_ms = now_ms;
}

/* Those in which something is locked, or asked for. One walk over both, whatever the number of tables. */
static void use_all(struct files *files, uint64_t now_ms)
{
    const struct lock_request *r;
    const struct held_lock *h;

    if (files->locks.delegations == NULL)
        return;
    TAILQ_FOREACH (r, &files->locks.requests, link)
        use(files, r->wish.ino, now_ms);
    TAILQ_FOREACH (h, &files->locks.held, link)
        use(files, h->ino, now_ms);
}

static bool is_open(struct files *files, uint64_t ino)
{
    const struct file *f = file_find(files, ino);

    return f != NULL && f->n_handles > 0;
}

static unsigned count(const struct files *files, enum delegation_state state)
{
    const struct delegation *d, *next;
    unsigned n = 0;

    HASH_ITER(hh, files->locks.delegations, d, next)
    n += d->state == state;
    return n;
}

void lock_delegations_tick(struct files *files, uint64_t now_ms)
{
    struct delegation *d, *next;
    unsigned puts = count(files, DELEGATION_PUTTING);
    uint64_t idle_ms = count(files, DELEGATION_HELD) > DELEGATIONS_MANY ? IDLE_MANY_MS : IDLE_MS;

    use_all(files, now_ms);
    HASH_ITER(hh, files->locks.delegations, d, next)
    {
        bool idle = d->used_ms < now_ms && (d->used_ms + idle_ms <= now_ms || !is_open(files, d->ino));

        if (d->state == DELEGATION_SHARED && d->used_ms + SHARED_MS <= now_ms) {
            drop(files, d);
        } else if (d->state == DELEGATION_HELD && (d->put || idle) && puts < PUTS_MAX) {
            put(files, d, d->is_shared);
            puts++;
        }
    }
}
