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
#include <stdlib.h>
#include <string.h>

static int locked_file_compare(const struct locked_file *a, const struct locked_file *b)
{
    return (a->ino > b->ino) - (a->ino < b->ino);
}

RB_GENERATE(locked_files, locked_file, tree, locked_file_compare)

struct lock_table *lock_table_new(void)
{
    struct lock_table *t = calloc(1, sizeof *t);

    if (t != NULL)
        TAILQ_INIT(&t->leases);
    return t;
}

void lock_table_free(struct lock_table *t)
{
    struct locked_file *f;

    if (t == NULL)
        return;
    /* One that could not be loaded is empty. */
    while ((f = RB_MIN(locked_files, &t->files)) != NULL) {
        RB_REMOVE(locked_files, &t->files, f);
        free(f);
    }
    free(t->ended);
    free(t);
}

/* ---- what is where ---- */

struct locked_file *locked_file_find(const struct lock_table *t, uint64_t ino)
{
    struct locked_files files = t->files;

    return RB_FIND(locked_files, &files, &(struct locked_file){.ino = ino});
}

struct locked_file *locked_file_get(struct lock_table *t, uint64_t ino)
{
    struct locked_file *f = locked_file_find(t, ino);

    if (f != NULL)
        return f;
    f = calloc(1, sizeof *f);
    if (f == NULL)
        return NULL;
    f->ino = ino;
    for (unsigned k = 0; k < LOCK_KINDS; k++) {
        TAILQ_INIT(&f->sides[k].holders);
        TAILQ_INIT(&f->sides[k].waits);
    }
    RB_INSERT(locked_files, &t->files, f);
    return f;
}

static void locked_file_put(struct lock_table *t, struct locked_file *f)
{
    for (unsigned k = 0; k < LOCK_KINDS; k++)
        if (!TAILQ_EMPTY(&f->sides[k].holders) || !TAILQ_EMPTY(&f->sides[k].waits))
            return;
    RB_REMOVE(locked_files, &t->files, f);
    free(f);
}

/* Those of one moment by the session's id. */
static void put_in_order(struct lock_table *t, struct session_locks *of)
{
    struct session_locks *x;

    TAILQ_FOREACH_REVERSE(x, &t->leases, session_leases, order)
    {
        if (x->session->seen_ms < of->session->seen_ms ||
            (x->session->seen_ms == of->session->seen_ms && x->session->id < of->session->id)) {
            TAILQ_INSERT_AFTER(&t->leases, x, of, order);
            return;
        }
    }
    TAILQ_INSERT_HEAD(&t->leases, of, order);
}

struct session_locks *session_locks_get(struct store *s, struct session *ss)
{
    struct session_locks *of = ss->locks;

    if (of != NULL)
        return of;
    of = calloc(1, sizeof *of);
    if (of == NULL)
        return NULL;
    of->session = ss;
    TAILQ_INIT(&of->holders);
    TAILQ_INIT(&of->waits);
    ss->locks = of;
    put_in_order(s->locks, of);
    return of;
}

static void session_locks_put(struct store *s, struct session *ss)
{
    struct session_locks *of = ss->locks;

    if (of == NULL || !TAILQ_EMPTY(&of->holders) || !TAILQ_EMPTY(&of->waits))
        return;
    TAILQ_REMOVE(&s->locks->leases, of, order);
    ss->locks = NULL;
    free(of);
}

void session_renew_locks(struct store *s, struct session *ss)
{
    if (ss->locks == NULL)
        return;
    TAILQ_REMOVE(&s->locks->leases, ss->locks, order);
    put_in_order(s->locks, ss->locks);
}

struct session *session_first_with_locks(const struct store *s)
{
    const struct session_locks *of = TAILQ_FIRST(&s->locks->leases);

    return of != NULL ? of->session : NULL;
}

static bool same_owner(const struct lock_who *a, const struct lock_who *b)
{
    return a->of == b->of && a->owner == b->owner;
}

static bool before(const struct lock_who *a, const struct lock_who *b)
{
    uint64_t x = a->of->session->id, y = b->of->session->id;

    return x < y || (x == y && a->owner < b->owner);
}

static bool before_in_session(const struct lock_holder *a, const struct lock_holder *b)
{
    if (a->file->ino != b->file->ino)
        return a->file->ino < b->file->ino;
    return a->kind < b->kind || (a->kind == b->kind && a->who.owner < b->who.owner);
}

static struct lock_holder *holder_find(const struct lock_side *side, const struct lock_who *who)
{
    struct lock_holder *h;

    TAILQ_FOREACH (h, &side->holders, in_side) {
        if (same_owner(&h->who, who))
            return h;
    }
    return NULL;
}

struct lock_holder *lock_holder_get(struct locked_file *f, uint8_t kind, const struct lock_who *who)
{
    struct lock_side *side = &f->sides[kind];
    struct lock_holder *h = holder_find(side, who), *next;

    if (h != NULL)
        return h;
    h = calloc(1, sizeof *h);
    if (h == NULL)
        return NULL;
    h->file = f;
    h->kind = kind;
    h->who = *who;
    TAILQ_FOREACH (next, &side->holders, in_side) {
        if (before(who, &next->who))
            break;
    }
    if (next != NULL)
        TAILQ_INSERT_BEFORE(next, h, in_side);
    else
        TAILQ_INSERT_TAIL(&side->holders, h, in_side);
    TAILQ_FOREACH_REVERSE(next, &who->of->holders, lock_holders, in_session)
    {
        if (before_in_session(next, h))
            break;
    }
    if (next != NULL)
        TAILQ_INSERT_AFTER(&who->of->holders, next, h, in_session);
    else
        TAILQ_INSERT_HEAD(&who->of->holders, h, in_session);
    return h;
}

static void holder_put(struct lock_holder *h)
{
    if (h->ranges.n > 0)
        return;
    TAILQ_REMOVE(&h->file->sides[h->kind].holders, h, in_side);
    TAILQ_REMOVE(&h->who.of->holders, h, in_session);
    lock_ranges_deinit(&h->ranges);
    free(h);
}

void lock_count(struct store *s, struct session_locks *of, struct locked_file *f, int ranges, int waits)
{
    struct lock_table *t = s->locks;
    uint32_t n = (uint32_t)(ranges + waits); /* modulo 2^32 */

    f->n_ranges += (uint32_t)ranges;
    f->n_waits += (uint32_t)waits;
    of->n += n;
    t->n += n;
    if (owner_is_user(of->session->owner))
        t->n_users += n;
}

struct lock_wait *lock_wait_new(struct store *s, struct locked_file *f, uint8_t kind,
                                const struct lock_who *who, uint64_t id)
{
    struct lock_wait *w = calloc(1, sizeof *w), *x;

    if (w == NULL)
        return NULL;
    w->file = f;
    w->kind = kind;
    w->who = *who;
    w->id = id;
    /* Nearly always the last. */
    TAILQ_FOREACH_REVERSE(x, &f->sides[kind].waits, lock_waits, in_side)
    {
        if (x->id < id)
            break;
    }
    if (x != NULL)
        TAILQ_INSERT_AFTER(&f->sides[kind].waits, x, w, in_side);
    else
        TAILQ_INSERT_HEAD(&f->sides[kind].waits, w, in_side);
    TAILQ_FOREACH_REVERSE(x, &who->of->waits, lock_waits, in_session)
    {
        if (x->id < id)
            break;
    }
    if (x != NULL)
        TAILQ_INSERT_AFTER(&who->of->waits, x, w, in_session);
    else
        TAILQ_INSERT_HEAD(&who->of->waits, w, in_session);
    lock_count(s, who->of, f, 0, 1);
    return w;
}

static void wait_free(struct store *s, struct lock_wait *w)
{
    lock_count(s, w->who.of, w->file, 0, -1);
    TAILQ_REMOVE(&w->file->sides[w->kind].waits, w, in_side);
    TAILQ_REMOVE(&w->who.of->waits, w, in_session);
    free(w);
}

/* ---- rows ---- */

static struct lock_row row_of(const struct locked_file *f, uint8_t kind, const struct lock_who *who)
{
    return (struct lock_row){.ino = f->ino,
                             .kind = kind,
                             .session = who->of->session->id,
                             .owner = who->owner,
                             .pid = who->pid,
                             .node = (const uint8_t *)who->node,
                             .node_len = who->node_len};
}

void lock_holder_row(const struct lock_holder *h, size_t i, struct lock_row *row_out)
{
    *row_out = row_of(h->file, h->kind, &h->who);
    row_out->start = h->ranges.at[i].start;
    row_out->end = h->ranges.at[i].end;
    row_out->exclusive = h->ranges.at[i].mode == LOCK_EXCLUSIVE;
}

void lock_wait_row(const struct lock_wait *w, struct lock_row *row_out)
{
    *row_out = row_of(w->file, w->kind, &w->who);
    row_out->start = w->start;
    row_out->end = w->end;
    row_out->exclusive = w->mode == LOCK_EXCLUSIVE;
    row_out->wait = w->id;
    row_out->ticket = w->ticket;
}

static void row_comes(struct store *s, const struct lock_row *row)
{
    s->digest += lock_row_digest(row);
    journal_lock(s->journal, row);
}

static void row_goes(struct store *s, const struct lock_row *row)
{
    s->digest -= lock_row_digest(row);
    journal_lock_gone(s->journal, row);
}

/* The rows of all ranges that a change of this one may change. */
static void rows_around(struct store *s, const struct lock_holder *h, uint64_t start, uint64_t end,
                        void (*each)(struct store *s, const struct lock_row *row))
{
    struct lock_row row;

    for (size_t i = lock_ranges_find(&h->ranges, start > 0 ? start - 1 : 0);
         i < h->ranges.n && h->ranges.at[i].start <= end + 1; i++) {
        lock_holder_row(h, i, &row);
        each(s, &row);
    }
}

/* 0 or -ENOMEM. h may have no range afterwards: holder_put(). */
static int holder_set(struct store *s, struct lock_holder *h, uint64_t start, uint64_t end,
                      enum lock_mode mode)
{
    size_t n = h->ranges.n;
    int rv;

    rows_around(s, h, start, end, row_goes);
    rv = lock_ranges_set(&h->ranges, start, end, mode);
    if (rv < 0)
        return rv;
    rows_around(s, h, start, end, row_comes);
    lock_count(s, h->who.of, h->file, (int)h->ranges.n - (int)n, 0);
    return 0;
}

static void wait_end(struct store *s, struct lock_wait *w)
{
    struct lock_row row;

    lock_wait_row(w, &row);
    row_goes(s, &row);
    wait_free(s, w);
}

/* ---- conflicts ---- */

const struct lock_holder *lock_conflict(const struct lock_side *side, const struct lock_who *who,
                                        uint64_t start, uint64_t end, enum lock_mode mode,
                                        const struct lock_range **range_out)
{
    const struct lock_holder *h;

    TAILQ_FOREACH (h, &side->holders, in_side) {
        const struct lock_range *range =
            same_owner(&h->who, who) ? NULL : lock_ranges_conflict(&h->ranges, start, end, mode);

        if (range == NULL)
            continue;
        if (range_out != NULL)
            *range_out = range;
        return h;
    }
    return NULL;
}

struct walk {
    struct lock_table *table;
    struct lock_who who[DEADLOCK_OWNERS_MAX];
    size_t n;
};

/* Those whose locks are in the way, if the walk has not come by them. */
static void walk_to_holders(struct walk *walk, const struct lock_side *side, const struct lock_who *who,
                            uint64_t start, uint64_t end, enum lock_mode mode)
{
    const struct lock_holder *h;

    TAILQ_FOREACH (h, &side->holders, in_side) {
        size_t i = 0;

        if (walk->table->looked_at++ >= DEADLOCK_LOOKS_MAX)
            return;
        if (same_owner(&h->who, who) || lock_ranges_conflict(&h->ranges, start, end, mode) == NULL)
            continue;
        while (i < walk->n && !same_owner(&walk->who[i], &h->who))
            i++;
        if (i == walk->n && walk->n < DEADLOCK_OWNERS_MAX)
            walk->who[walk->n++] = h->who;
    }
}

/* Whether one of those for whom it would wait waits, by others or not, for who himself. Breadth first, so
 * that what is nearest is found whatever the bound. */
static bool is_deadlock(struct lock_table *t, const struct lock_side *side, const struct lock_who *who,
                        uint64_t start, uint64_t end, enum lock_mode mode)
{
    struct walk walk;
    const struct lock_wait *w;

    walk.table = t;
    walk.n = 0;
    walk_to_holders(&walk, side, who, start, end, mode);
    for (size_t i = 0; i < walk.n; i++) {
        const struct lock_who at = walk.who[i];

        if (same_owner(&at, who))
            return true;
        TAILQ_FOREACH (w, &at.of->waits, in_session) {
            if (t->looked_at++ >= DEADLOCK_LOOKS_MAX)
                return false;
            if (w->kind == LOCK_OF_RANGE && w->who.owner == at.owner)
                walk_to_holders(&walk, &w->file->sides[LOCK_OF_RANGE], &w->who, w->start, w->end, w->mode);
        }
    }
    return false;
}

/* ---- those who wait ---- */

static int note_ended(struct lock_table *t, const struct lock_wait *w, int code)
{
    if (t->n_ended == t->cap_ended) {
        size_t cap = t->cap_ended > 0 ? 2 * t->cap_ended : 64;
        struct ended_wait *ended = realloc(t->ended, cap * sizeof *ended);

        if (ended == NULL)
            return -ENOMEM;
        t->ended = ended;
        t->cap_ended = cap;
    }
    t->ended[t->n_ended++] = (struct ended_wait){w->file->ino, w->who.of->session->id, w->ticket, code};
    return 0;
}

void emit_waits(struct apply *ap)
{
    struct lock_table *t = ap->s->locks;

    for (size_t i = 0; i < t->n_ended; i++)
        emit_event(ap, &(struct event){.kind = EVENT_NOTHING,
                                       .ino = t->ended[i].ino,
                                       .parent = t->ended[i].session,
                                       .new_parent = t->ended[i].ticket,
                                       .base_revision = (uint64_t)t->ended[i].code});
    t->n_ended = 0;
    t->looked_at = 0;
}

static bool waits_elsewhere(struct lock_table *t, const struct lock_who *who)
{
    const struct lock_wait *w;

    TAILQ_FOREACH (w, &who->of->waits, in_session) {
        if (t->looked_at++ >= DEADLOCK_LOOKS_MAX)
            return false;
        if (w->kind == LOCK_OF_RANGE && w->who.owner == who->owner)
            return true;
    }
    return false;
}

/* An owner with several threads has got something here, and waits elsewhere: who waits here may wait for
 * himself by him. */
static int end_deadlocks(struct store *s, struct lock_side *side)
{
    struct lock_wait *w, *next;
    int rv = 0;

    for (w = TAILQ_FIRST(&side->waits); w != NULL && rv == 0 && s->locks->looked_at < DEADLOCK_LOOKS_MAX;
         w = next) {
        next = TAILQ_NEXT(w, in_side);
        if (!is_deadlock(s->locks, side, &w->who, w->start, w->end, w->mode))
            continue;
        rv = note_ended(s->locks, w, KV_E_DEADLK);
        if (rv == 0)
            wait_end(s, w);
    }
    return rv;
}

/* w's lock can be had. *freed_out: it is a weaker one than there was. */
static int grant(struct store *s, struct lock_wait *w, bool *freed_out)
{
    struct lock_holder *h = lock_holder_get(w->file, w->kind, &w->who);
    struct lock_side *side = &w->file->sides[w->kind];
    bool ranges = w->kind == LOCK_OF_RANGE;
    struct lock_who who = w->who;
    int rv;

    if (h == NULL)
        return -ENOMEM;
    *freed_out =
        w->mode == LOCK_SHARED && lock_ranges_conflict(&h->ranges, w->start, w->end, LOCK_SHARED) != NULL;
    rv = note_ended(s->locks, w, KV_OK);
    if (rv == 0)
        rv = holder_set(s, h, w->start, w->end, w->mode);
    if (rv < 0)
        return rv;
    wait_end(s, w);
    return ranges && waits_elsewhere(s->locks, &who) ? end_deadlocks(s, side) : 0;
}

/* Something became free there. */
static int wake(struct store *s, struct locked_file *f, uint8_t kind)
{
    struct lock_side *side = &f->sides[kind];
    struct lock_wait *w = TAILQ_FIRST(&side->waits);
    bool freed = false;

    while (w != NULL) {
        uint64_t id = w->id;
        int rv;

        if (lock_conflict(side, &w->who, w->start, w->end, w->mode, NULL) != NULL) {
            w = TAILQ_NEXT(w, in_side);
            continue;
        }
        rv = grant(s, w, &freed);
        if (rv < 0)
            return rv;
        /* The rest, or all of them again. */
        for (w = TAILQ_FIRST(&side->waits); w != NULL && !freed && w->id < id; w = TAILQ_NEXT(w, in_side))
            ;
    }
    return 0;
}

/* ---- the commands ---- */

static struct lock_who who_of(const struct apply *ap, struct session_locks *of)
{
    struct lock_who who = {
        .of = of, .owner = ap->body->owner, .pid = ap->body->pid, .node_len = (uint8_t)ap->cmd->node_len};

    if (who.node_len > 0)
        memcpy(who.node, ap->cmd->node, who.node_len);
    return who;
}

static bool is_full(const struct store *s, const struct session_locks *of, size_t more)
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

    return n <= r->n || (f->n_ranges + (n - r->n) <= LOCKS_FILE_MAX && !is_full(s, who->of, n - r->n));
}

/* Sets what can be had. */
static int set(struct store *s, struct locked_file *f, uint8_t kind, const struct lock_who *who,
               uint64_t start, uint64_t end, enum lock_mode mode)
{
    struct lock_holder *h = holder_find(&f->sides[kind], who);
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
    rv = holder_set(s, h, start, end, mode);
    if (rv < 0)
        return rv;
    holder_put(h);
    return freed && mode != LOCK_EXCLUSIVE ? wake(s, f, kind) : KV_OK;
}

static int begin_wait(struct apply *ap, struct locked_file *f, const struct lock_who *who, uint64_t start,
                      uint64_t end, enum lock_mode mode)
{
    const struct command_body *body = ap->body;
    struct lock_side *side = &f->sides[body->kind];
    struct lock_row row;
    struct lock_wait *w;
    int rv;

    if (body->kind == LOCK_OF_RANGE && is_deadlock(ap->s->locks, side, who, start, end, mode))
        return KV_E_DEADLK;
    /* One that is granted may cut a range of its owner's in two, and so add two: a bound of its own, so that
     * it can be waited for what is full. */
    if (f->n_waits >= LOCK_WAITS_FILE_MAX || f->n_ranges + 2 * (f->n_waits + 1) > 2 * LOCKS_FILE_MAX ||
        is_full(ap->s, who->of, 1))
        return KV_E_NOLCK;
    if (body->kind == LOCK_OF_FLOCK) {
        rv = set(ap->s, f, body->kind, who, start, end, LOCK_NONE);
        if (rv != KV_OK)
            return rv;
    }
    w = lock_wait_new(ap->s, f, body->kind, who, ap->index);
    if (w == NULL)
        return -ENOMEM;
    w->start = start;
    w->end = end;
    w->mode = mode;
    w->ticket = body->ticket;
    lock_wait_row(w, &row);
    row_comes(ap->s, &row);
    return KV_OK;
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

static int lock(struct apply *ap, struct locked_file *f, const struct lock_who *who)
{
    const struct command_body *body = ap->body;
    bool whole = body->kind == LOCK_OF_FLOCK;
    uint64_t start = whole ? 0 : body->start, end = whole ? LOCK_RANGE_END : body->end;
    enum lock_mode mode = (body->flags & LOCK_FLAG_EXCLUSIVE) != 0 ? LOCK_EXCLUSIVE : LOCK_SHARED;
    int rv;

    if (lock_conflict(&f->sides[body->kind], who, start, end, mode, NULL) == NULL) {
        rv = set(ap->s, f, body->kind, who, start, end, mode);
        ap->result->created = rv == KV_OK;
        if (rv == KV_OK && !whole && waits_elsewhere(ap->s->locks, who))
            rv = end_deadlocks(ap->s, &f->sides[body->kind]);
        return rv;
    }
    if ((body->flags & LOCK_FLAG_WAIT) == 0)
        return KV_E_LOCKED;
    return begin_wait(ap, f, who, start, end, mode);
}

int apply_lock(struct apply *ap)
{
    struct store *s = ap->s;
    struct session *ss = session_find(s, ap->cmd->session);
    struct session_locks *of;
    struct locked_file *f;
    struct lock_who who;
    int rv;

    if ((ap->body->flags & LOCK_FLAG_WAIT) != 0 && ap->body->ticket == 0)
        return KV_E_INVAL;
    if ((ap->body->flags & LOCK_FLAG_WAIT) != 0 && find_wait(ss, ap->body->ino, ap->body->ticket) != NULL)
        return KV_OK;
    of = session_locks_get(s, ss);
    f = of != NULL ? locked_file_get(s->locks, ap->body->ino) : NULL;
    if (f == NULL)
        return -ENOMEM;
    who = who_of(ap, of);
    rv = lock(ap, f, &who);
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
    who = who_of(ap, ss->locks);
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
    wait_end(s, w);
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

        wait_end(s, w);
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
            if (holder_set(s, h, 0, LOCK_RANGE_END, LOCK_NONE) < 0) {
                s->failed = true;
                break;
            }
            holder_put(h);
        }
        if (wake(s, f, kind) < 0)
            s->failed = true;
        locked_file_put(s->locks, f);
    }
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

        wait_free(s, w);
        locked_file_put(s->locks, f);
    }
    while (!TAILQ_EMPTY(&of->holders)) {
        struct lock_holder *h = TAILQ_FIRST(&of->holders);
        struct locked_file *f = h->file;

        lock_count(s, of, f, -(int)h->ranges.n, 0);
        h->ranges.n = 0;
        holder_put(h);
        locked_file_put(s->locks, f);
    }
    session_locks_put(s, ss);
}
