/* Changing the configuration, one server at a time (Raft §4.1), with what the
 * core does not check. */
#include <string.h>

#include "sync/base/error.h"
#include "sync/raft/engine/internal.h"

/* The number of servers that differ between a and b, and whether those of a
 * that stay keep their order: the core matches its progress records by position
 * when the number of servers stays the same. */
static unsigned differences(const struct configuration *a, const struct configuration *b, bool *in_order_out)
{
    const struct server *last = NULL;
    unsigned n = 0;

    *in_order_out = true;
    for (unsigned i = 0; i < a->n; i++) {
        const struct server *s = configuration_find(b, a->servers[i].id);

        if (s == NULL || s->role != a->servers[i].role || strcmp(s->address, a->servers[i].address) != 0)
            n++;
        if (s != NULL && last != NULL && s < last)
            *in_order_out = false;
        if (s != NULL)
            last = s;
    }
    for (unsigned i = 0; i < b->n; i++)
        if (configuration_find(a, b->servers[i].id) == NULL)
            n++;
    return n;
}

/* A voter of a that is none in b, or 0. */
static uint64_t lost_voter(const struct configuration *a, const struct configuration *b)
{
    for (unsigned i = 0; i < a->n; i++) {
        const struct server *s = configuration_find(b, a->servers[i].id);

        if (a->servers[i].role == SERVER_VOTER && (s == NULL || s->role != SERVER_VOTER))
            return a->servers[i].id;
    }
    return 0;
}

static bool self_stays_voter(const struct engine *e, const struct configuration *c)
{
    const struct server *self = configuration_find(c, e->config.id);

    return self != NULL && self->role == SERVER_VOTER;
}

int engine_change(struct engine *e, uint64_t now, const struct configuration *c)
{
    struct configuration current;
    uint64_t was = e->demoted, was_at = e->demoted_at;
    struct entry *change;
    bool in_order;
    int result;

    if (e->dead != 0)
        return e->dead;
    e->now = now;
    if (e->role != ENGINE_LEADER || core_transferee(e->core) != 0)
        return KV_E_NOTLEADER;
    /* Single-server changes are unsafe before an entry of our own term is
     * committed (Ongaro, raft-dev 2015); the core does not check it. */
    if (!e->knobs.no_barrier && !engine_leader_ready(e))
        return KV_E_BUSY;
    if (core_uncommitted_change(e->core) != 0)
        return KV_E_BUSY;
    core_configuration(e->core, &current);
    if (differences(&current, c, &in_order) != 1 || !in_order)
        return KV_E_INVAL;
    /* A sole voter makes itself leader without a new term, so it must be the
     * present leader; and a server that finds itself a non-voter in its own log
     * never votes, even if that entry is lost later: two such changes can
     * block elections for ever. */
    if (!e->knobs.no_solo_guard && !self_stays_voter(e, c))
        return KV_E_INVAL;
    if (lease_delays_change(e))
        return KV_E_BUSY;
    change = configuration_encode(c);
    if (change == NULL)
        return KV_E_INVAL;
    e->demoted = lost_voter(&current, c);
    e->demoted_at = entry_log_last(&e->log) + 1;
    result = step_submit(e, &change, 1, NULL);
    if (result > 0) {
        e->demoted = was;
        e->demoted_at = was_at;
    }
    entry_put(change);
    return result != 0 ? result : step_advance(e);
}
