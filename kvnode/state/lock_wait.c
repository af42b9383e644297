/* Locks: who is in whose way, who waits for whom, and who gets what becomes free. */
#include "kvnode/state/lock_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- conflicts ---- */

const struct lock_holder *lock_conflict(const struct lock_side *side, const struct lock_who *who,
                                        uint64_t start, uint64_t end, enum lock_mode mode,
                                        const struct lock_range **range_out)
{
    const struct lock_holder *h;

    TAILQ_FOREACH (h, &side->holders, in_side) {
        const struct lock_range *range =
            lock_same_owner(&h->who, who) ? NULL : lock_ranges_conflict(&h->ranges, start, end, mode);

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
        if (lock_same_owner(&h->who, who) || lock_ranges_conflict(&h->ranges, start, end, mode) == NULL)
            continue;
        while (i < walk->n && !lock_same_owner(&walk->who[i], &h->who))
            i++;
        if (i == walk->n && walk->n < DEADLOCK_OWNERS_MAX)
            walk->who[walk->n++] = h->who;
    }
}

/* Whether one of those for whom it would wait waits, by others or not, for who himself. Breadth first, so
 * that what is nearest is found whatever the bound. */
bool lock_is_deadlock(struct lock_table *t, const struct lock_side *side, const struct lock_who *who,
                      uint64_t start, uint64_t end, enum lock_mode mode)
{
    struct walk walk;
    const struct lock_wait *w;

    walk.table = t;
    walk.n = 0;
    walk_to_holders(&walk, side, who, start, end, mode);
    for (size_t i = 0; i < walk.n; i++) {
        const struct lock_who at = walk.who[i];

        if (lock_same_owner(&at, who))
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

static int note(struct lock_table *t, const struct ended_wait *what)
{
    if (t->n_ended == t->cap_ended) {
        size_t cap = t->cap_ended > 0 ? 2 * t->cap_ended : 64;
        struct ended_wait *ended = realloc(t->ended, cap * sizeof *ended);

        if (ended == NULL)
            return -ENOMEM;
        t->ended = ended;
        t->cap_ended = cap;
    }
    t->ended[t->n_ended++] = *what;
    return 0;
}

int lock_note_ended(struct lock_table *t, const struct lock_wait *w, int code)
{
    return note(t, &(struct ended_wait){w->file->ino, w->who.of->session->id, w->ticket, (uint64_t)code});
}

int lock_note_wanted(struct lock_table *t, const struct lock_delegation *d)
{
    return note(t, &(struct ended_wait){d->file->ino, d->who.of->session->id, 0, d->epoch});
}

void emit_waits(struct apply *ap)
{
    struct lock_table *t = ap->s->locks;

    for (size_t i = 0; i < t->n_ended; i++)
        emit_event(ap, &(struct event){.kind = EVENT_NOTHING,
                                       .ino = t->ended[i].ino,
                                       .parent = t->ended[i].session,
                                       .new_parent = t->ended[i].ticket,
                                       .base_revision = t->ended[i].code});
    t->n_ended = 0;
    t->looked_at = 0;
}

bool lock_waits_elsewhere(struct lock_table *t, const struct lock_who *who)
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
int lock_end_deadlocks(struct store *s, struct lock_side *side)
{
    struct lock_wait *w, *next;
    int rv = 0;

    for (w = TAILQ_FIRST(&side->waits); w != NULL && rv == 0 && s->locks->looked_at < DEADLOCK_LOOKS_MAX;
         w = next) {
        next = TAILQ_NEXT(w, in_side);
        if (!lock_is_deadlock(s->locks, side, &w->who, w->start, w->end, w->mode))
            continue;
        rv = lock_note_ended(s->locks, w, KV_E_DEADLK);
        if (rv == 0)
            lock_wait_end(s, w);
    }
    return rv;
}

/* w's lock can be had. *freed_out: it is a weaker one than there was. */
int lock_grant(struct store *s, struct lock_wait *w, bool *freed_out)
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
    rv = lock_note_ended(s->locks, w, KV_OK);
    if (rv == 0 && !ranges)
        fence_granted(s, w->file->ino, w->mode == LOCK_EXCLUSIVE);
    if (rv == 0)
        rv = lock_holder_set(s, h, w->start, w->end, w->mode);
    if (rv < 0)
        return rv;
    lock_wait_end(s, w);
    return ranges && lock_waits_elsewhere(s->locks, &who) ? lock_end_deadlocks(s, side) : 0;
}

/* Something became free there. */
int lock_wake(struct store *s, struct locked_file *f, uint8_t kind)
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
        if (lock_is_elsewhere(s, f, kind, &w->who, w->start, w->end)) {
            rv = lock_note_ended(s->locks, w, KV_E_LOCKED);
            if (rv == 0)
                lock_wait_end(s, w);
        } else {
            rv = lock_grant(s, w, &freed);
        }
        if (rv < 0)
            return rv;
        /* The rest, or all of them again. */
        for (w = TAILQ_FIRST(&side->waits); w != NULL && !freed && w->id < id; w = TAILQ_NEXT(w, in_side))
            ;
    }
    return 0;
}
