/* Read leases (Gray and Cheriton 1989, over Raft's own leader lease, thesis §6.4.1).
 *
 *   holder                                leader
 *     LEASE(invalidated, request) ───────►  counts on it from now: lease_until, lease_invalidated
 *     ◄──────────── GRANT(length, visible)
 *     entries are accepted ◄──────────────  AppendEntries
 *     their owner has them forgotten
 *     LEASE(invalidated) ─────────────────► shows what all holders have invalidated and a majority has
 *                                           stored: e->commit, which is leader_commit for all
 *
 * What has to hold:
 *  1. What a holder has not invalidated is shown nowhere while its lease runs: the commit index that
 *     the leader applies and announces is at or below what each holder has told.
 *  2. `invalidated` counts only entries of the present leader: it falls back to the commit index
 *     with the term. The end of the own log is no measure, a former leader's entries may stand there.
 *  3. A lease counts from the sending of its request, on the holder's clock, and the leader counts on it from
 *     the answer, so that the holder's end comes first. It is no longer than what is left of the
 *     leader's own (a majority's echoes), so no other leader is elected while it runs; and it is usable
 *     only if what the leader shows by then is invalidated already.
 *  4. A leader that steps down neither votes, nor stands, nor shows more until all that it granted has run
 *     out: it is part of the majority that guards them. A sole voter that starts again waits as long.
 *  5. TimeoutNow makes a voter stand at once: a transfer waits for all leases, and in that term none is
 *     granted again. So does a change of the voters: two of them make majorities that do not meet.
 *  6. Requests are ordered by the holder's clock, so that an earlier life's, or one from before the lease was
 *     given back, says nothing; and a holder that starts again asks for none while its last life's may run:
 *     its caches may have outlived it. */
#include <errno.h>
#include <stdlib.h>

#include "sync/base/error.h"
#include "sync/raft/engine/internal.h"

#define ROUNDING_MS 2   /* of both clocks */
#define BEHIND_MAX 1000 /* entries that a holder may have to invalidate, or it gets no lease */
#define SHUN_MS 1000    /* who held the others up gets none for so long, then for twice as long */
#define SHUN_MAX_MS 30000
#define SHUN_FORGET_MS 60000

static uint64_t with_drift(const struct engine *e, uint64_t ms)
{
    return ms * (1000 + 2 * (uint64_t)e->config.drift_permille) / 1000;
}

/* How often a holder asks: two requests may be lost. */
static uint64_t interval_ms(const struct engine *e)
{
    uint64_t quarter = e->config.lease_ms / 4;

    return quarter < e->config.heartbeat_ms ? quarter : e->config.heartbeat_ms;
}

/* Until when somebody may hold what we granted, ourselves included; on our clock. */
static uint64_t granted_until(const struct engine *e)
{
    uint64_t until = e->lease.until;

    for (unsigned i = 0; i < e->n_peers; i++)
        if (e->peers[i].lease_until > until)
            until = e->peers[i].lease_until;
    return until;
}

static bool granted_runs(const struct engine *e)
{
    return e->role == ENGINE_LEADER && granted_until(e) > e->now;
}

/* ---- what may be shown ---- */

static uint64_t hold(const struct engine *e)
{
    uint64_t index = UINT64_MAX;

    if (e->config.lease_ms == 0 || e->knobs.no_lease_hold)
        return index;
    if (e->lease.until > e->now)
        index = e->lease.invalidated;
    for (unsigned i = 0; i < e->n_peers; i++)
        if (e->peers[i].lease_until > e->now && e->peers[i].lease_invalidated < index)
            index = e->peers[i].lease_invalidated;
    return index;
}

/* A holder that makes the others wait: for once until its lease is over, then without one for a while. */
static void note_late(struct engine *e, uint64_t wanted)
{
    for (unsigned i = 0; i < e->n_peers; i++) {
        struct peer *p = &e->peers[i];

        if (p->lease_until <= e->now || p->lease_invalidated >= wanted) {
            p->late_since_ms = 0;
        } else if (p->late_since_ms == 0) {
            p->late_since_ms = e->now;
        } else if (e->now - p->late_since_ms > e->config.lease_ms / 2 && p->shunned_until_ms <= e->now) {
            if (p->shun_ms == 0 || e->now - p->shunned_until_ms > SHUN_FORGET_MS)
                p->shun_ms = SHUN_MS;
            else if (p->shun_ms < SHUN_MAX_MS)
                p->shun_ms *= 2;
            p->shunned_until_ms = e->now + p->shun_ms;
        }
    }
}

/* The commit index as far as it may be shown. */
static uint64_t showable(const struct engine *e)
{
    uint64_t commit = core_commit_index(e->core);
    uint64_t held = e->role == ENGINE_LEADER ? hold(e) : UINT64_MAX;

    if (e->now < e->lease.promise_ms)
        return e->commit;
    return commit < held ? commit : held;
}

void lease_show(struct engine *e)
{
    uint64_t commit;

    if (e->role == ENGINE_LEADER && e->config.lease_ms > 0)
        note_late(e, core_commit_index(e->core));
    commit = showable(e);
    if (commit > e->commit || e->knobs.raw_commit)
        e->commit = commit;
}

uint64_t lease_announce(const struct engine *e, uint64_t commit)
{
    return e->config.lease_ms > 0 && commit > e->commit ? e->commit : commit;
}

/* ---- the term ---- */

void lease_follow(struct engine *e)
{
    struct lease *l = &e->lease;
    uint64_t term = core_term(e->core);

    if (e->role == ENGINE_LEADER && (core_role(e->core) != ENGINE_LEADER || term != l->term)) {
        uint64_t until = granted_until(e);

        if (until > l->promise_ms && !e->knobs.no_lease_promise)
            l->promise_ms = until;
        l->until = 0;
        l->transfer_waits = false;
    }
    if (term != l->term) {
        l->term = term;
        l->accepted = l->invalidated = l->told = e->commit;
        l->until = 0;
    }
}

void lease_start(struct engine *e)
{
    struct lease *l = &e->lease;
    uint64_t length = e->config.lease_ms;

    /* What our last life held may be cached still, by others who do not know us yet. */
    l->since_ms = e->now + 1 + (e->knobs.lease_early ? 0 : length);
    /* What it granted may run, if we lead at once, without a vote. */
    if (length > 0 && !e->knobs.no_lease_promise)
        l->promise_ms = e->now + with_drift(e, length) + ROUNDING_MS;
}

void lease_started(struct engine *e)
{
    if (core_role(e->core) != ENGINE_LEADER)
        e->lease.promise_ms = 0;
    lease_show(e);
}

void lease_void(struct engine *e)
{
    e->lease.until = 0;
    e->lease.since_ms = e->now + 1;
    e->lease.accepted = e->lease.invalidated = e->lease.told = 0;
}

bool lease_forbids_vote(const struct engine *e)
{
    return e->now < e->lease.promise_ms || (granted_runs(e) && !e->knobs.no_lease_promise);
}

void lease_accept(struct engine *e, const struct engine_message *m)
{
    struct lease *l = &e->lease;
    uint64_t index = m->append.prev_index + m->n_entries;
    uint64_t term = m->n_entries > 0 ? m->entries[m->n_entries - 1]->term : m->append.prev_term;

    if (e->role != ENGINE_FOLLOWER || core_term(e->core) != m->term || core_leader(e->core) != m->from ||
        e->is_installing)
        return;
    if (e->knobs.lease_log_end)
        index = entry_log_last(&e->log);
    else if (engine_term_at(e, index) != term) /* it was not accepted, or is trimmed */
        return;
    if (index > l->accepted)
        l->accepted = index;
}

/* ---- granting ---- */

/* What is left of the time in which nobody else can be elected: a majority of the voters, we among
 * them, have accepted what we sent so lately. 0: nothing. */
static uint64_t left_ms(const struct engine *e)
{
    uint64_t low = e->now, high = e->now + reads_lease_ms(e);

    if (!engine_lease_valid(e, e->now))
        return 0;
    while (low < high) { /* the last moment at which it is valid still */
        uint64_t middle = low + (high - low + 1) / 2;

        if (engine_lease_valid(e, middle))
            low = middle;
        else
            high = middle - 1;
    }
    return low - e->now;
}

/* How long a lease may be now; 0: none. */
static uint64_t grantable_ms(const struct engine *e)
{
    uint64_t left, length;

    if (e->config.lease_ms == 0 || e->lease.refused || e->lease.transfer_waits ||
        e->now < e->lease.pause_ms || e->now < e->lease.promise_ms)
        return 0;
    left = left_ms(e);
    if (e->knobs.lease_too_long)
        return left > 0 ? 3 * (uint64_t)e->config.election_ms : 0;
    length = left > ROUNDING_MS
                 ? (left - ROUNDING_MS) * 1000 / (1000 + 2 * (uint64_t)e->config.drift_permille)
                 : 0;
    if (length > e->config.lease_ms)
        length = e->config.lease_ms;
    return length >= e->config.lease_ms / 4 ? length : 0;
}

static bool is_member(const struct engine *e, uint64_t id)
{
    for (unsigned i = 0; i < core_n_servers(e->core); i++)
        if (core_server_id(e->core, i) == id)
            return true;
    return false;
}

static void grant(struct engine *e, struct peer *p, uint64_t asked_ms)
{
    uint64_t length = grantable_ms(e), until;
    struct engine_message *m;

    if (length == 0 || p->shunned_until_ms > e->now || !is_member(e, p->id) ||
        p->lease_invalidated + BEHIND_MAX < entry_log_last(&e->log))
        return;
    m = message_new(RAFT_MESSAGE_GRANT, e->config.id, p->id);
    if (m == NULL)
        return;
    until = e->now + with_drift(e, length) + ROUNDING_MS;
    if (e->knobs.lease_short_hold)
        until = e->now + length / 2;
    if (until > p->lease_until)
        p->lease_until = until;
    m->term = core_term(e->core);
    m->sent_ms = asked_ms;
    m->grant.length_ms = (uint32_t)length;
    m->grant.visible = e->commit;
    step_send(e, m);
}

void lease_on_request(struct engine *e, const struct engine_message *m)
{
    struct peer *p;
    uint64_t invalidated = m->lease.invalidated;

    if (e->role != ENGINE_LEADER || m->term != core_term(e->core) || e->config.lease_ms == 0)
        return;
    p = engine_peer(e, m->from);
    if (p == NULL || m->sent_ms < p->lease_sent_ms)
        return;
    if (invalidated > entry_log_last(&e->log))
        invalidated = entry_log_last(&e->log);
    if (m->sent_ms > p->lease_sent_ms || invalidated > p->lease_invalidated)
        p->lease_invalidated = invalidated;
    p->lease_sent_ms = m->sent_ms;
    if (m->lease.kind == LEASE_RETURN)
        p->lease_until = 0;
    else if (m->lease.kind == LEASE_REQUEST)
        grant(e, p, m->sent_ms);
    lease_show(e);
}

/* ---- holding ---- */

void lease_on_grant(struct engine *e, const struct engine_message *m)
{
    struct lease *l = &e->lease;
    uint64_t base = e->knobs.lease_from_receipt ? e->now : m->sent_ms;
    /* Not longer than what this server waits for when it starts again. */
    uint64_t length = m->grant.length_ms < e->config.lease_ms || e->knobs.lease_too_long ? m->grant.length_ms
                                                                                         : e->config.lease_ms;

    if (e->role == ENGINE_LEADER || e->is_installing || !l->wanted || m->term != core_term(e->core) ||
        m->from != core_leader(e->core) || m->sent_ms < l->since_ms)
        return;
    if (l->invalidated < m->grant.visible && !e->knobs.lease_ungated)
        return;
    if (base + length > l->until)
        l->until = base + length;
}

static void tell(struct engine *e, enum lease_kind kind)
{
    struct engine_message *m = message_new(RAFT_MESSAGE_LEASE, e->config.id, core_leader(e->core));

    if (m == NULL)
        return; /* at the next turn */
    m->term = core_term(e->core);
    m->lease.kind = kind;
    m->lease.invalidated = e->lease.invalidated;
    e->lease.told = e->lease.invalidated;
    if (kind == LEASE_REQUEST)
        e->lease.asked_ms = e->now;
    step_send(e, m);
}

void lease_flush(struct engine *e)
{
    struct lease *l = &e->lease;
    bool due = l->wanted && e->now >= l->since_ms && e->now >= l->asked_ms + interval_ms(e);

    if (e->config.lease_ms == 0 || e->is_installing)
        return;
    if (e->role == ENGINE_LEADER) {
        uint64_t length = due ? grantable_ms(e) : 0;

        if (!due)
            return;
        l->asked_ms = e->now;
        /* Whose owner is late does not hold the others up for longer than for once, the leader's neither. */
        if (length > 0 && l->invalidated >= core_commit_index(e->core) && e->now + length > l->until)
            l->until = e->now + length;
        return;
    }
    if (e->role != ENGINE_FOLLOWER || core_leader(e->core) == 0 || core_leader(e->core) == e->config.id)
        return;
    if (due)
        tell(e, LEASE_REQUEST);
    else if (l->until > e->now && l->invalidated > l->told)
        tell(e, LEASE_INDEX);
}

int engine_want_lease(struct engine *e, uint64_t now, bool want)
{
    struct lease *l = &e->lease;
    bool held;

    if (e->dead != 0)
        return e->dead;
    e->now = now;
    held = l->wanted && !want;
    l->wanted = want;
    if (!held)
        return 0;
    if (e->role == ENGINE_FOLLOWER && core_leader(e->core) != 0 && l->until > now)
        tell(e, LEASE_RETURN);
    l->until = 0;
    l->since_ms = now + 1;
    lease_show(e);
    return step_advance(e);
}

int engine_invalidated(struct engine *e, uint64_t now, uint64_t index)
{
    struct lease *l = &e->lease;

    if (e->dead != 0)
        return e->dead;
    e->now = now;
    if (index > engine_accepted_index(e))
        index = engine_accepted_index(e);
    if (index <= l->invalidated)
        return 0;
    l->invalidated = index;
    if (e->role != ENGINE_LEADER || e->config.lease_ms == 0)
        return 0;
    lease_show(e);
    return step_advance(e);
}

void engine_refuse_leases(struct engine *e, bool refuse)
{
    e->lease.refused = refuse;
}

uint64_t engine_invalidated_index(const struct engine *e)
{
    return e->lease.term == core_term(e->core) ? e->lease.invalidated : UINT64_MAX;
}

uint64_t engine_accepted_index(const struct engine *e)
{
    if (e->role == ENGINE_LEADER)
        return entry_log_last(&e->log);
    return e->lease.accepted > e->commit ? e->lease.accepted : e->commit;
}

uint64_t engine_lease_until(const struct engine *e)
{
    return e->dead != 0 || e->is_installing || e->lease.term != core_term(e->core) ? 0 : e->lease.until;
}

/* ---- time ---- */

bool lease_delays_transfer(struct engine *e, uint64_t to)
{
    if (!granted_runs(e) || e->knobs.lease_fast_transfer)
        return false;
    e->lease.transfer_waits = true;
    e->lease.transfer_to = to;
    return true;
}

bool lease_delays_change(struct engine *e)
{
    if (!granted_runs(e) || e->knobs.lease_fast_change)
        return false;
    if (e->lease.pause_ms <= e->now)
        e->lease.pause_ms = e->now + 2 * (uint64_t)e->config.lease_ms;
    return true;
}

uint64_t lease_timeout(const struct engine *e)
{
    const struct lease *l = &e->lease;
    uint64_t at = UINT64_MAX;

    if (e->config.lease_ms == 0)
        return at;
    if (l->wanted && !e->is_installing && (e->role == ENGINE_LEADER || core_leader(e->core) != 0)) {
        at = l->asked_ms + interval_ms(e);
        if (at < l->since_ms)
            at = l->since_ms;
    }
    if (l->transfer_waits && granted_until(e) < at)
        at = granted_until(e);
    if (showable(e) > e->commit) {
        at = e->now;
    } else if (core_commit_index(e->core) > e->commit) {
        if (l->promise_ms > e->now && l->promise_ms < at)
            at = l->promise_ms;
        if (e->role == ENGINE_LEADER && l->until > e->now && l->until < at)
            at = l->until;
        for (unsigned i = 0; e->role == ENGINE_LEADER && i < e->n_peers; i++)
            if (e->peers[i].lease_until > e->now && e->peers[i].lease_until < at)
                at = e->peers[i].lease_until;
    }
    return at > e->leased_ms ? at : e->leased_ms + 1;
}

int lease_tick(struct engine *e)
{
    struct lease *l = &e->lease;
    struct core_update u;
    int result;

    e->leased_ms = e->now;
    lease_show(e);
    lease_flush(e);
    if (!l->transfer_waits || granted_until(e) > e->now)
        return 0;
    l->transfer_waits = false;
    result = engine_check(e, core_transfer(e->core, e->now, l->transfer_to, &u), "transfer");
    if (result > 0) /* the voter is gone, or far behind: who asked looks at the outcome */
        return 0;
    return result == 0 ? step_update(e, &u, NULL) : result;
}
