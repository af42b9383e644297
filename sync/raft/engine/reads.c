/* Linearizable reads on the leader.
 *
 * ReadIndex (Raft §6.4): 1. be leader with a committed entry of the own term;
 * 2. note the commit index; 3. a majority of the voters, asked after 2, has no
 * term above ours, so nobody else can have committed anything when the reads
 * arrived; 4. serve once that index is applied. One round at a time; reads that
 * arrive meanwhile share the next one. A lost question is asked again, under
 * the same number: an answer to either proves the same.
 *
 * Lease (Raft §6.4.1): a voter that accepted our message sent at s votes for
 * nobody else until one election timeout after it arrived, on its own clock. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/raft/engine/internal.h"

#define LEASE_MARGIN_MS 2 /* rounding of both clocks */

static bool list_push(struct read_list *l, uint64_t token)
{
    if (l->n == l->cap) {
        size_t cap = l->cap > 0 ? l->cap * 2 : 16;
        uint64_t *tokens = realloc(l->tokens, cap * sizeof *tokens);

        if (tokens == NULL)
            return false;
        l->tokens = tokens;
        l->cap = cap;
    }
    l->tokens[l->n++] = token;
    return true;
}

void reads_deinit(struct reads *r)
{
    free(r->waiting.tokens);
    free(r->asked.tokens);
    memset(r, 0, sizeof *r);
}

static void answer(struct engine *e, struct read_list *l, uint64_t index, int result)
{
    size_t n = l->n;

    l->n = 0;
    for (size_t i = 0; i < n; i++)
        e->ops.on_read(e->ops.ctx, l->tokens[i], index, result);
}

void reads_fail(struct engine *e)
{
    answer(e, &e->reads.asked, 0, KV_E_NOTLEADER);
    answer(e, &e->reads.waiting, 0, KV_E_NOTLEADER);
}

typedef bool vote_counts(const struct engine *e, const struct peer *p, uint64_t now);

static bool majority(const struct engine *e, vote_counts *counts, uint64_t now)
{
    unsigned voters = 0, count = 0;

    for (unsigned i = 0; i < core_n_servers(e->core); i++) {
        uint64_t id = core_server_id(e->core, i);

        if (!core_server_votes(e->core, i))
            continue;
        voters++;
        if (id == e->config.id)
            count++;
        for (unsigned k = 0; k < e->n_peers; k++)
            if (e->peers[k].id == id && id != e->config.id && counts(e, &e->peers[k], now))
                count++;
    }
    return count > voters / 2;
}

static bool confirmed(const struct engine *e, const struct peer *p, uint64_t now)
{
    return p->pong_seq == e->reads.seq;
}

static void ask(struct engine *e)
{
    e->reads.sent_ms = e->now;
    for (unsigned i = 0; i < core_n_servers(e->core); i++) {
        struct engine_message *ping;

        if (!core_server_votes(e->core, i) || core_server_id(e->core, i) == e->config.id)
            continue;
        ping = message_new(RAFT_MESSAGE_PING, e->config.id, core_server_id(e->core, i));
        if (ping == NULL)
            return; /* asked again a heartbeat later */
        ping->term = core_term(e->core);
        ping->ping.seq = e->reads.seq;
        step_send(e, ping);
    }
}

static void check_round(struct engine *e)
{
    if (e->reads.asked.n > 0 && majority(e, confirmed, e->now))
        answer(e, &e->reads.asked, e->reads.index, 0);
}

static void start_round(struct engine *e)
{
    struct read_list empty = e->reads.asked; /* n is 0 */

    e->reads.asked = e->reads.waiting;
    e->reads.waiting = empty;
    e->reads.seq++;
    e->reads.index = e->commit;
    ask(e);
    check_round(e);
}

uint64_t reads_timeout(const struct engine *e)
{
    return e->reads.asked.n > 0 ? e->reads.sent_ms + e->config.heartbeat_ms : UINT64_MAX;
}

int reads_flush(struct engine *e)
{
    if (e->role != ENGINE_LEADER)
        return 0;
    if (e->reads.asked.n == 0 && e->reads.waiting.n > 0) {
        start_round(e);
    } else if (e->now >= reads_timeout(e)) {
        ask(e);
        check_round(e); /* a change of the voters can have made a majority of the answers */
    }
    return 0;
}

void reads_on_pong(struct engine *e, const struct engine_message *m)
{
    struct peer *peer;

    if (e->role != ENGINE_LEADER || m->term != core_term(e->core) || m->ping.peer_term > m->term ||
        m->ping.seq != e->reads.seq)
        return;
    peer = engine_peer(e, m->from);
    if (peer == NULL)
        return;
    peer->pong_seq = m->ping.seq;
    check_round(e);
}

int engine_read_index(struct engine *e, uint64_t now, uint64_t token)
{
    if (e->dead != 0)
        return e->dead;
    e->now = now;
    if (e->role != ENGINE_LEADER)
        return KV_E_NOTLEADER;
    if (!engine_leader_ready(e))
        return KV_E_BUSY;
    if (!list_push(&e->reads.waiting, token))
        return engine_die(e, -ENOMEM, "out of memory for a read");
    return 0;
}

uint64_t reads_lease_ms(const struct engine *e)
{
    uint64_t drift = (uint64_t)e->config.election_ms * 2 * e->config.drift_permille / 1000;
    uint64_t lost = LEASE_MARGIN_MS + drift;
    uint64_t length = e->config.election_ms > lost ? e->config.election_ms - lost : 0;

    return e->knobs.double_lease ? 2 * length : length;
}

static bool holds_lease(const struct engine *e, const struct peer *p, uint64_t now)
{
    return p->echo_ms != 0 && now < p->echo_ms + reads_lease_ms(e);
}

bool engine_lease_valid(const struct engine *e, uint64_t now)
{
    if (e->dead != 0 || !engine_leader_ready(e) || e->transferred || core_uncommitted_change(e->core) != 0)
        return false;
    return majority(e, holds_lease, now);
}
