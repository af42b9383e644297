/* Locks: tables that a session has for itself.
 *
 *   FREE ──LOCK_TAKE──► DELEGATED ──LOCK_PUT, or the session ends──► everybody's, or FREE if nothing is in it
 *
 * Meanwhile nothing stands in it but those who wait for it: all of other sessions, and each for what he
 * asked. When it is back they are looked at in the order in which they came, as if they asked then: they have
 * it, are refused, or go on waiting. */
#include "kvnode/state/lock_internal.h"

#include <errno.h>
#include <stdlib.h>

void lock_delegation_row(const struct lock_delegation *d, struct lock_row *row_out)
{
    *row_out = lock_row_of(d->file, LOCK_DELEGATED, &d->who);
    row_out->end = LOCK_RANGE_END;
    row_out->exclusive = LOCK_ROW_EXCLUSIVE;
    row_out->ticket = d->epoch;
}

struct lock_delegation *lock_delegation_new(struct store *s, struct locked_file *f,
                                            const struct lock_who *who, uint64_t epoch)
{
    struct lock_delegation *d = calloc(1, sizeof *d), *x;

    if (d == NULL)
        return NULL;
    d->file = f;
    d->who = *who;
    d->who.owner = 0;
    d->epoch = epoch;
    f->delegation = d;
    /* Nearly always the last. */
    TAILQ_FOREACH_REVERSE(x, &who->of->delegations, lock_delegations, in_session)
    {
        if (x->epoch < epoch)
            break;
    }
    if (x != NULL)
        TAILQ_INSERT_AFTER(&who->of->delegations, x, d, in_session);
    else
        TAILQ_INSERT_HEAD(&who->of->delegations, d, in_session);
    lock_count(s, who->of, f, 1, 0);
    return d;
}

void lock_delegation_free(struct store *s, struct lock_delegation *d)
{
    lock_count(s, d->who.of, d->file, -1, 0);
    TAILQ_REMOVE(&d->who.of->delegations, d, in_session);
    d->file->delegation = NULL;
    free(d);
}

static void delegation_end(struct store *s, struct lock_delegation *d)
{
    struct lock_row row;

    lock_delegation_row(d, &row);
    lock_row_goes(s, &row);
    lock_delegation_free(s, d);
}

bool lock_may_delegate(const struct store *s, const struct session_locks *of)
{
    const struct lock_table *t = s->locks;

    return of->n < LOCK_TABLES_SESSION_MAX && t->n < LOCK_TABLES_MAX &&
           (!owner_is_user(of->session->owner) || t->n_users < LOCK_TABLES_USERS_MAX);
}

int lock_delegate(struct apply *ap, struct locked_file *f, const struct lock_who *who)
{
    struct lock_delegation *d = lock_delegation_new(ap->s, f, who, ap->index);
    struct lock_row row;

    if (d == NULL)
        return -ENOMEM;
    lock_delegation_row(d, &row);
    lock_row_comes(ap->s, &row);
    ap->result->created = 1;
    ap->result->base_revision = d->epoch;
    return KV_OK;
}

int lock_recall(struct apply *ap, struct locked_file *f, const struct lock_who *who)
{
    uint8_t flags = ap->body->flags;
    int rv;

    if (f->delegation->who.of == who->of)
        return KV_E_INVAL; /* what it locks there it does not ask here */
    rv = lock_wait_room(ap, f, who);
    if (rv != KV_OK)
        return rv;
    rv = lock_note_wanted(ap->s->locks, f->delegation);
    if (rv < 0)
        return rv;
    /* Of an earlier version, which does not know that it may have to wait: it asks once more. */
    if (ap->body->ticket == 0)
        return KV_E_BUSY;
    return lock_wait_begin(ap, f, who, (flags & LOCK_FLAG_WAIT) == 0, (flags & LOCK_FLAG_ASK) != 0);
}

/* ---- it is given back ---- */

/* One who waited for the table. */
static int settle_wait(struct store *s, struct lock_side *side, struct lock_wait *w)
{
    bool elsewhere = lock_is_elsewhere(s, w->file, w->kind, &w->who, w->start, w->end), freed;
    int code = KV_OK, rv;

    if (!w->asks && !elsewhere && lock_conflict(side, &w->who, w->start, w->end, w->mode, NULL) == NULL)
        return lock_grant(s, w, &freed);
    if ((w->tries || elsewhere) && !w->asks)
        code = KV_E_LOCKED;
    else if (!w->asks && w->kind == LOCK_OF_RANGE &&
             lock_is_deadlock(s->locks, side, &w->who, w->start, w->end, w->mode))
        code = KV_E_DEADLK;
    else if (!w->asks)
        return 0;
    rv = lock_note_ended(s->locks, w, code);
    if (rv == 0)
        lock_wait_end(s, w);
    return rv;
}

static int settle(struct store *s, struct locked_file *f)
{
    int rv = 0;

    for (uint8_t kind = 0; kind < LOCK_KINDS && rv == 0; kind++) {
        struct lock_side *side = &f->sides[kind];
        struct lock_wait *w = TAILQ_FIRST(&side->waits);

        while (w != NULL && rv == 0) {
            uint64_t id = w->id;

            rv = settle_wait(s, side, w);
            /* With it others may have ended. */
            for (w = TAILQ_FIRST(&side->waits); w != NULL && w->id <= id; w = TAILQ_NEXT(w, in_side))
                ;
        }
        if (rv == 0)
            rv = lock_wake(s, f, kind); /* one of them may have got a weaker lock than he had */
    }
    return rv;
}

/* That no two of what is put are in each other's way, and that there is room for it. All may have some more
 * than there is room for otherwise: it was granted already. */
static int check_put(const struct store *s, const struct session_locks *of, const struct command_body *body)
{
    const struct lock_table *t = s->locks;
    struct lock_put a, b;

    for (size_t i = 0; i < body->n_put; i++) {
        command_put(body, i, &a);
        for (size_t k = 0; k < i; k++) {
            command_put(body, k, &b);
            if (a.kind == b.kind && a.start <= b.end && b.start <= a.end &&
                (a.owner == b.owner || a.exclusive != 0 || b.exclusive != 0))
                return KV_E_INVAL;
        }
    }
    if (body->n_put == 0)
        return KV_OK;
    return of->n - 1 + body->n_put > 2 * LOCKS_SESSION_MAX || t->n + body->n_put > 2 * LOCKS_MAX ||
                   (owner_is_user(of->session->owner) && t->n_users + body->n_put > 2 * LOCKS_USERS_MAX)
               ? KV_E_NOLCK
               : KV_OK;
}

static int put_one(struct apply *ap, struct locked_file *f, struct lock_who who, const struct lock_put *put)
{
    struct lock_holder *h;

    who.owner = put->owner;
    who.pid = put->pid;
    h = lock_holder_get(f, put->kind, &who);
    if (h == NULL)
        return -ENOMEM;
    return lock_holder_set(ap->s, h, put->start, put->end,
                           put->exclusive != 0 ? LOCK_EXCLUSIVE : LOCK_SHARED);
}

int apply_lock_put(struct apply *ap)
{
    struct store *s = ap->s;
    const struct command_body *body = ap->body;
    struct session *ss = session_find(s, ap->cmd->session);
    struct locked_file *f = locked_file_find(s->locks, body->ino);
    struct lock_delegation *d = f != NULL ? f->delegation : NULL;
    struct lock_put put;
    struct lock_who who;
    int rv;

    if (d == NULL || d->who.of->session != ss || d->epoch != body->version)
        return KV_E_STALE;
    rv = check_put(s, ss->locks, body);
    if (rv != KV_OK)
        return rv;
    who = lock_who_of(ap, ss->locks);
    delegation_end(s, d);
    for (size_t i = 0; i < body->n_put && rv == KV_OK; i++) {
        command_put(body, i, &put);
        rv = put_one(ap, f, who, &put);
    }
    if (rv == KV_OK)
        rv = settle(s, f);
    locked_file_put(s->locks, f);
    session_locks_put(s, ss);
    return rv;
}

void session_undelegate(struct store *s, struct session_locks *of)
{
    while (!TAILQ_EMPTY(&of->delegations)) {
        struct locked_file *f = TAILQ_FIRST(&of->delegations)->file;

        delegation_end(s, f->delegation);
        if (settle(s, f) < 0)
            s->failed = true;
        locked_file_put(s->locks, f);
    }
}
