/* Locks of files: who has what, who waits, and for whom.
 *
 * What is granted is looked at against what is held, not against who waits: as in Linux, who comes may
 * overtake those who wait for something else than he does. When something becomes free, those who
 * wait get it in the order in which they came. So no wait is one for a queue, and each edge of a deadlock
 * is a lock that is held; that is looked for when a wait begins, and when an owner that waits elsewhere,
 * too, gets a lock. For ranges only: with flock(2) nobody is told of deadlocks.
 *
 * A shared flock(2) that is to become an exclusive one and has to wait for it is given up first, as in
 * Linux: two who do so would wait for each other for ever. One that does not wait keeps it.
 *
 * Locks are of inodes by number, whether there is one or not: a file that was removed and is still open
 * is locked as before, and numbers are never used again. */
#include "kvnode/state/lock_internal.h"

#include <errno.h>
#include <string.h>

/* ---- the commands ---- */

struct lock_who lock_who_of(const struct apply *ap, struct session_locks *of)
{
    struct lock_who who = {
        .of = of, .owner = ap->body->owner, .pid = ap->body->pid, .node_len = (uint8_t)ap->cmd->node_len};

    if (who.node_len > 0)
        memcpy(who.node, ap->cmd->node, who.node_len);
    return who;
}

bool lock_is_full(const struct store *s, const struct session_locks *of, size_t more)
{
    const struct lock_table *t = s->locks;

    return of->n + more > LOCKS_SESSION_MAX || t->n + more > LOCKS_MAX ||
           (owner_is_user(of->session->owner) && t->n_users + more > LOCKS_USERS_MAX);
}

/* h: his, NULL if he has none yet. */
static bool has_room(const struct store *s, const struct locked_file *f, const struct lock_who *who,
                     const struct lock_holder *h, uint64_t start, uint64_t end, enum lock_mode mode)
{
    static const struct lock_ranges none;
    const struct lock_ranges *r = h != NULL ? &h->ranges : &none;
    size_t n = lock_ranges_after(r, start, end, mode);

    return n <= r->n || (f->n_ranges + (n - r->n) <= LOCKS_FILE_MAX && !lock_is_full(s, who->of, n - r->n));
}

/* Sets what can be had. */
static int set(struct store *s, struct locked_file *f, uint8_t kind, const struct lock_who *who,
               uint64_t start, uint64_t end, enum lock_mode mode)
{
    struct lock_holder *h = lock_holder_find(&f->sides[kind], who);
    bool freed;
    int rv;

    if (h == NULL && mode == LOCK_NONE)
        return KV_OK;
    if (!has_room(s, f, who, h, start, end, mode))
        return KV_E_NOLCK;
    if (h == NULL)
        h = lock_holder_get(f, kind, who);
    if (h == NULL)
        return -ENOMEM;
    freed = lock_ranges_conflict(&h->ranges, start, end, mode == LOCK_NONE ? LOCK_EXCLUSIVE : LOCK_SHARED) !=
            NULL;
    rv = lock_holder_set(s, h, start, end, mode);
    if (rv < 0)
        return rv;
    lock_holder_put(h);
    return freed && mode != LOCK_EXCLUSIVE ? lock_wake(s, f, kind) : KV_OK;
}

int lock_wait_room(const struct apply *ap, const struct locked_file *f, const struct lock_who *who)
{
    /* One that is granted may cut a range of its owner's in two, and so add two: a bound of its own, so that
     * it can be waited for what is full. */
    return f->n_waits >= LOCK_WAITS_FILE_MAX || f->n_ranges + 2 * (f->n_waits + 1) > 2 * LOCKS_FILE_MAX ||
                   lock_is_full(ap->s, who->of, 1)
               ? KV_E_NOLCK
               : KV_OK;
}

int lock_wait_begin(struct apply *ap, struct locked_file *f, const struct lock_who *who, bool tries,
                    bool asks)
{
    const struct command_body *body = ap->body;
    bool whole = body->kind == LOCK_OF_FLOCK;
    struct lock_wait *w = lock_wait_new(ap->s, f, body->kind, who, ap->index);
    struct lock_row row;

    if (w == NULL)
        return -ENOMEM;
    w->start = whole ? 0 : body->start;
    w->end = whole ? LOCK_RANGE_END : body->end;
    w->mode = (body->flags & LOCK_FLAG_EXCLUSIVE) != 0 ? LOCK_EXCLUSIVE : LOCK_SHARED;
    w->ticket = body->ticket;
    w->tries = tries;
    w->asks = asks;
    lock_wait_row(w, &row);
    lock_row_comes(ap->s, &row);
    return KV_OK;
}

static int begin_wait(struct apply *ap, struct locked_file *f, const struct lock_who *who, uint64_t start,
                      uint64_t end, enum lock_mode mode)
{
    const struct command_body *body = ap->body;
    int rv;

    if (body->kind == LOCK_OF_RANGE &&
        lock_is_deadlock(ap->s->locks, &f->sides[body->kind], who, start, end, mode))
        return KV_E_DEADLK;
    rv = lock_wait_room(ap, f, who);
    if (rv == KV_OK && body->kind == LOCK_OF_FLOCK)
        rv = set(ap->s, f, body->kind, who, start, end, LOCK_NONE);
    return rv == KV_OK ? lock_wait_begin(ap, f, who, false, false) : rv;
}

static struct lock_wait *find_wait(const struct session *ss, uint64_t ino, uint64_t ticket)
{
    struct lock_wait *w;

    if (ss->locks == NULL)
        return NULL;
    TAILQ_FOREACH (w, &ss->locks->waits, in_session) {
        if (w->ticket == ticket && w->file->ino == ino)
            return w;
    }
    return NULL;
}

/* Of flock(2). */
static bool has_it(const struct lock_side *side, const struct lock_who *who, enum lock_mode mode)
{
    const struct lock_holder *h = lock_holder_find(side, who);

    return h != NULL && h->ranges.n == 1 && h->ranges.at[0].mode == mode;
}

/* It has got the lock, or waits for it. */
static int fence_lock(struct apply *ap, struct session *ss, bool is_new)
{
    const struct command_body *body = ap->body;
    bool wants = (body->flags & LOCK_FLAG_FENCE) != 0;
    const struct fence_row *f;

    if (body->kind != LOCK_OF_FLOCK)
        return KV_OK;
    if (wants && fence_make(ap->s, body->ino) < 0)
        return -ENOMEM;
    if (is_new)
        fence_granted(ap->s, body->ino, (body->flags & LOCK_FLAG_EXCLUSIVE) != 0);
    if (!wants)
        return KV_OK;
    session_set_lease(ap->s, ss, body->lease_ms);
    f = fence_find(ap->s, body->ino);
    ap->result->base_revision = f != NULL ? f->revision : 0;
    return KV_OK;
}

/* ---- SQLite's index of a write-ahead log ---- */

/* The lock by which the users of NAME-shm know of each other (sqlite.org/src/file/src/os_unix.c:
 * UNIX_SHM_DMS): they share the file's memory, as the processes of two mounts cannot. */
#define WAL_INDEX_BYTE 128
#define WAL_INDEX_LEVEL 3

static bool is_wal_index(const struct store *s, uint64_t ino)
{
    static const char suffix[] = "-shm";
    const size_t len = sizeof suffix - 1;
    const struct inode *in = inode_find(s, ino);

    for (const struct dentry *d = in != NULL && in->type == INODE_FILE ? in->names : NULL; d != NULL;
         d = d->next_name)
        if (d->name_len > len && memcmp(d->name + d->name_len - len, suffix, len) == 0)
            return true;
    return false;
}

bool lock_is_elsewhere(const struct store *s, const struct locked_file *f, uint8_t kind,
                       const struct lock_who *who, uint64_t start, uint64_t end)
{
    const struct lock_holder *h;

    if (kind != LOCK_OF_RANGE || start > WAL_INDEX_BYTE || end < WAL_INDEX_BYTE ||
        store_level(s) < WAL_INDEX_LEVEL || !is_wal_index(s, f->ino))
        return false;
    TAILQ_FOREACH (h, &f->sides[kind].holders, in_side) {
        if (h->who.of != who->of &&
            lock_ranges_conflict(&h->ranges, WAL_INDEX_BYTE, WAL_INDEX_BYTE, LOCK_EXCLUSIVE) != NULL)
            return true;
    }
    return false;
}

static int lock(struct apply *ap, struct locked_file *f, const struct lock_who *who)
{
    const struct command_body *body = ap->body;
    bool whole = body->kind == LOCK_OF_FLOCK;
    uint64_t start = whole ? 0 : body->start, end = whole ? LOCK_RANGE_END : body->end;
    enum lock_mode mode = (body->flags & LOCK_FLAG_EXCLUSIVE) != 0 ? LOCK_EXCLUSIVE : LOCK_SHARED;
    int rv;

    if (lock_is_elsewhere(ap->s, f, body->kind, who, start, end))
        return KV_E_LOCKED;
    if (lock_conflict(&f->sides[body->kind], who, start, end, mode, NULL) == NULL) {
        rv = set(ap->s, f, body->kind, who, start, end, mode);
        ap->result->created = rv == KV_OK;
        if (rv == KV_OK && !whole && lock_waits_elsewhere(ap->s->locks, who))
            rv = lock_end_deadlocks(ap->s, &f->sides[body->kind]);
        return rv;
    }
    if ((body->flags & LOCK_FLAG_WAIT) == 0)
        return KV_E_LOCKED;
    return begin_wait(ap, f, who, start, end, mode);
}

/* Both of LOCK and of LOCK_TAKE. A file with a fence is no session's own: each grant moves that. */
static int lock_or_take(struct apply *ap, struct locked_file *f, const struct lock_who *who)
{
    uint8_t flags = ap->body->flags;

    if (f->delegation != NULL)
        return lock_recall(ap, f, who);
    if ((flags & LOCK_FLAG_ASK) != 0) {
        ap->result->created = 1;
        return KV_OK;
    }
    if ((flags & LOCK_FLAG_TAKE) != 0 && f->n_ranges == 0 && f->n_waits == 0 &&
        fence_find(ap->s, f->ino) == NULL && lock_may_delegate(ap->s, who->of))
        return lock_delegate(ap, f, who);
    return lock(ap, f, who);
}

int apply_lock(struct apply *ap)
{
    struct store *s = ap->s;
    struct session *ss = session_find(s, ap->cmd->session);
    bool may_wait = (ap->body->flags & LOCK_FLAG_WAIT) != 0 || ap->cmd->op == COMMAND_LOCK_TAKE;
    struct session_locks *of;
    struct locked_file *f;
    struct lock_who who;
    bool had;
    int rv;

    if (may_wait && ap->body->ticket == 0)
        return KV_E_INVAL;
    if ((ap->body->flags & LOCK_FLAG_FENCE) != 0 && inode_live(s, ap->body->ino) == NULL)
        return KV_E_STALE;
    if (may_wait && find_wait(ss, ap->body->ino, ap->body->ticket) != NULL)
        return KV_OK;
    of = session_locks_get(s, ss);
    f = of != NULL ? locked_file_get(s->locks, ap->body->ino) : NULL;
    if (f == NULL)
        return -ENOMEM;
    who = lock_who_of(ap, of);
    had = has_it(&f->sides[ap->body->kind], &who,
                 (ap->body->flags & LOCK_FLAG_EXCLUSIVE) != 0 ? LOCK_EXCLUSIVE : LOCK_SHARED);
    rv = lock_or_take(ap, f, &who);
    if (rv == KV_OK && (ap->body->flags & LOCK_FLAG_ASK) == 0)
        rv = fence_lock(ap, ss, ap->result->created != 0 && !had);
    locked_file_put(s->locks, f);
    session_locks_put(s, ss);
    return rv;
}

int apply_unlock(struct apply *ap)
{
    struct store *s = ap->s;
    const struct command_body *body = ap->body;
    struct session *ss = session_find(s, ap->cmd->session);
    struct locked_file *f = locked_file_find(s->locks, body->ino);
    struct lock_who who;
    int rv;

    if (f == NULL || ss->locks == NULL)
        return KV_OK;
    who = lock_who_of(ap, ss->locks);
    rv = body->kind == LOCK_OF_FLOCK ? set(s, f, body->kind, &who, 0, LOCK_RANGE_END, LOCK_NONE)
                                     : set(s, f, body->kind, &who, body->start, body->end, LOCK_NONE);
    locked_file_put(s->locks, f);
    session_locks_put(s, ss);
    return rv;
}

int apply_unwait(struct apply *ap)
{
    struct store *s = ap->s;
    struct session *ss = session_find(s, ap->cmd->session);
    struct lock_wait *w = find_wait(ss, ap->body->ino, ap->body->ticket);
    struct locked_file *f;

    if (w == NULL)
        return KV_E_NOENT;
    f = w->file;
    lock_wait_end(s, w);
    locked_file_put(s->locks, f);
    session_locks_put(s, ss);
    return KV_OK;
}

/* ---- sessions that end ---- */

static void session_unwait(struct store *s, struct session_locks *of)
{
    while (!TAILQ_EMPTY(&of->waits)) {
        struct lock_wait *w = TAILQ_FIRST(&of->waits);
        struct locked_file *f = w->file;

        lock_wait_end(s, w);
        locked_file_put(s->locks, f);
    }
}

uint32_t session_unlock(struct store *s, struct session *ss)
{
    struct session_locks *of = ss->locks;
    uint32_t n = of != NULL ? of->n : 0;

    if (of == NULL)
        return 0;
    session_unwait(s, of);
    while (!TAILQ_EMPTY(&of->holders)) {
        struct lock_holder *h = TAILQ_FIRST(&of->holders);
        struct locked_file *f = h->file;
        uint8_t kind = h->kind;

        /* All that it has there, and then once those who wait. */
        for (; h != NULL && h->file == f && h->kind == kind; h = TAILQ_FIRST(&of->holders)) {
            if (lock_holder_set(s, h, 0, LOCK_RANGE_END, LOCK_NONE) < 0) {
                s->failed = true;
                break;
            }
            lock_holder_put(h);
        }
        if (lock_wake(s, f, kind) < 0)
            s->failed = true;
        locked_file_put(s->locks, f);
    }
    session_undelegate(s, of);
    session_locks_put(s, ss);
    return n;
}

void session_forget_locks(struct store *s, struct session *ss)
{
    struct session_locks *of = ss->locks;

    if (of == NULL)
        return;
    while (!TAILQ_EMPTY(&of->waits)) {
        struct lock_wait *w = TAILQ_FIRST(&of->waits);
        struct locked_file *f = w->file;

        lock_wait_free(s, w);
        locked_file_put(s->locks, f);
    }
    while (!TAILQ_EMPTY(&of->holders)) {
        struct lock_holder *h = TAILQ_FIRST(&of->holders);
        struct locked_file *f = h->file;

        lock_count(s, of, f, -(int)h->ranges.n, 0);
        h->ranges.n = 0;
        lock_holder_put(h);
        locked_file_put(s->locks, f);
    }
    while (!TAILQ_EMPTY(&of->delegations)) {
        struct locked_file *f = TAILQ_FIRST(&of->delegations)->file;

        lock_delegation_free(s, f->delegation);
        locked_file_put(s->locks, f);
    }
    session_locks_put(s, ss);
}
