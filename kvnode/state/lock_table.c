/* Locks: what is where, and the rows of that. Whoever changes a range or a wait does it by these, so that
 * rows, digest and counts follow. */
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
        RB_INIT(&t->leases);
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

void locked_file_put(struct lock_table *t, struct locked_file *f)
{
    if (f->delegation != NULL)
        return;
    for (unsigned k = 0; k < LOCK_KINDS; k++)
        if (!TAILQ_EMPTY(&f->sides[k].holders) || !TAILQ_EMPTY(&f->sides[k].waits))
            return;
    RB_REMOVE(locked_files, &t->files, f);
    free(f);
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
    TAILQ_INIT(&of->delegations);
    ss->locks = of;
    session_locks_enter(s->locks, of);
    return of;
}

void session_locks_put(struct store *s, struct session *ss)
{
    struct session_locks *of = ss->locks;

    if (of == NULL || !TAILQ_EMPTY(&of->holders) || !TAILQ_EMPTY(&of->waits) ||
        !TAILQ_EMPTY(&of->delegations))
        return;
    session_locks_leave(s->locks, of);
    ss->locks = NULL;
    free(of);
}

bool lock_same_owner(const struct lock_who *a, const struct lock_who *b)
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

struct lock_holder *lock_holder_find(const struct lock_side *side, const struct lock_who *who)
{
    struct lock_holder *h;

    TAILQ_FOREACH (h, &side->holders, in_side) {
        if (lock_same_owner(&h->who, who))
            return h;
    }
    return NULL;
}

struct lock_holder *lock_holder_get(struct locked_file *f, uint8_t kind, const struct lock_who *who)
{
    struct lock_side *side = &f->sides[kind];
    struct lock_holder *h = lock_holder_find(side, who), *next;

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

void lock_holder_put(struct lock_holder *h)
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

void lock_wait_free(struct store *s, struct lock_wait *w)
{
    lock_count(s, w->who.of, w->file, 0, -1);
    TAILQ_REMOVE(&w->file->sides[w->kind].waits, w, in_side);
    TAILQ_REMOVE(&w->who.of->waits, w, in_session);
    free(w);
}

/* ---- rows ---- */

struct lock_row lock_row_of(const struct locked_file *f, uint8_t kind, const struct lock_who *who)
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
    *row_out = lock_row_of(h->file, h->kind, &h->who);
    row_out->start = h->ranges.at[i].start;
    row_out->end = h->ranges.at[i].end;
    row_out->exclusive = h->ranges.at[i].mode == LOCK_EXCLUSIVE;
}

void lock_wait_row(const struct lock_wait *w, struct lock_row *row_out)
{
    *row_out = lock_row_of(w->file, w->kind, &w->who);
    row_out->start = w->start;
    row_out->end = w->end;
    row_out->exclusive = (uint8_t)((w->mode == LOCK_EXCLUSIVE ? LOCK_ROW_EXCLUSIVE : 0) |
                                   (w->tries ? LOCK_ROW_TRIES : 0) | (w->asks ? LOCK_ROW_ASKS : 0));
    row_out->wait = w->id;
    row_out->ticket = w->ticket;
}

void lock_row_comes(struct store *s, const struct lock_row *row)
{
    s->digest += lock_row_digest(row);
    journal_lock(s->journal, row);
}

void lock_row_goes(struct store *s, const struct lock_row *row)
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

/* 0 or -ENOMEM. h may have no range afterwards: lock_holder_put(). */
int lock_holder_set(struct store *s, struct lock_holder *h, uint64_t start, uint64_t end, enum lock_mode mode)
{
    size_t n = h->ranges.n;
    int rv;

    rows_around(s, h, start, end, lock_row_goes);
    rv = lock_ranges_set(&h->ranges, start, end, mode);
    if (rv < 0)
        return rv;
    rows_around(s, h, start, end, lock_row_comes);
    lock_count(s, h->who.of, h->file, (int)h->ranges.n - (int)n, 0);
    return 0;
}

void lock_wait_end(struct store *s, struct lock_wait *w)
{
    struct lock_row row;

    lock_wait_row(w, &row);
    lock_row_goes(s, &row);
    lock_wait_free(s, w);
}
