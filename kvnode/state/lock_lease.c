/* How long locks last when nothing is heard of who has them: sessions in the order in which they end. */
#include "kvnode/state/lock_internal.h"

static int session_locks_compare(const struct session_locks *a, const struct session_locks *b)
{
    uint64_t x = a->session->id, y = b->session->id;

    if (a->until_ms != b->until_ms)
        return a->until_ms < b->until_ms ? -1 : 1;
    return (x > y) - (x < y);
}

RB_GENERATE(session_leases, session_locks, order, session_locks_compare)

uint64_t session_locks_until(const struct session *ss)
{
    return ss->seen_ms + (ss->lease_ms != 0 ? ss->lease_ms : LOCK_LEASE_MS);
}

void session_locks_enter(struct lock_table *t, struct session_locks *of)
{
    of->until_ms = session_locks_until(of->session);
    RB_INSERT(session_leases, &t->leases, of);
}

void session_locks_leave(struct lock_table *t, struct session_locks *of)
{
    RB_REMOVE(session_leases, &t->leases, of);
}

void session_renew_locks(struct store *s, struct session *ss)
{
    if (ss->locks == NULL)
        return;
    session_locks_leave(s->locks, ss->locks);
    session_locks_enter(s->locks, ss->locks);
}

struct session *session_first_with_locks(const struct store *s)
{
    struct session_leases leases = s->locks->leases;
    const struct session_locks *of = RB_MIN(session_leases, &leases);

    return of != NULL ? of->session : NULL;
}
