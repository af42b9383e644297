/* Messages, and the guards that the core needs around them. Each guard has a
 * switch in knobs.h and a test in tests/unit/raft/test_guards.c. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/raft/engine/internal.h"

static int receive_core(struct engine *e, const struct engine_message *m, bool as_voter)
{
    struct core_update u;
    int result = engine_check(e, core_receive(e->core, e->now, m, 0, 0, as_voter, &u), "message");

    return result != 0 ? result : step_update(e, &u, NULL);
}

/* ---- AppendEntries ---- */

/* A leader of a current term has every entry that we know to be committed. Where it
 * has another one, something that was acknowledged is gone: nothing that is
 * served from here on could be right. */
static int check_agreement(struct engine *e, uint64_t index, uint64_t term, uint64_t leader)
{
    uint64_t ours = index <= e->commit ? engine_term_at(e, index) : 0; /* 0: not in the log any more */

    if (ours == 0 || term == 0 || ours == term || e->knobs.no_agreement)
        return 0;
    return engine_die(e, ENGINE_CONTRADICTED,
                      "entry %" PRIu64 " is committed here in term %" PRIu64 ", node %" PRIu64
                      ", which leads, has one of term %" PRIu64
                      ": a majority of the nodes forgot what it had acknowledged",
                      index, ours, leader, term);
}

static int check_entries(struct engine *e, const struct engine_message *m)
{
    uint64_t prev = m->append.prev_index;
    int result;

    if (m->term < core_term(e->core) || e->is_installing)
        return 0;
    result = check_agreement(e, prev, m->append.prev_term, m->from);
    for (uint32_t i = 0; i < m->n_entries && prev + i < e->commit && result == 0; i++)
        result = check_agreement(e, prev + i + 1, m->entries[i]->term, m->from);
    return result;
}

/* The core takes entries that it has compacted away for new ones when
 * prev_index is 0 (and appends them at the wrong place), and refuses any other
 * prev_index that it has compacted. A leader of a current term holds everything
 * that we know to be committed: let the message start at our commit index. */
static int start_at_commit(struct engine *e, struct engine_message *m)
{
    uint64_t behind;
    uint32_t skip;

    if (m->term < core_term(e->core) || e->is_installing || m->append.prev_index >= e->commit)
        return 0;
    behind = e->commit - m->append.prev_index;
    skip = behind < m->n_entries ? (uint32_t)behind : m->n_entries;
    for (uint32_t i = 0; i < skip; i++)
        entry_put(m->entries[i]);
    if (skip > 0)
        memmove(m->entries, m->entries + skip, (m->n_entries - skip) * sizeof(struct entry *));
    m->n_entries -= skip;
    m->append.prev_index = e->commit;
    m->append.prev_term = engine_term_at(e, e->commit);
    if (m->append.prev_term == 0)
        return engine_die(e, -ENOTRECOVERABLE, "committed entry %" PRIu64 " has no term", e->commit);
    return 0;
}

/* While a snapshot is being installed the core refuses heartbeats that are
 * anchored before it, and the leader's core takes that for a reason to send the
 * snapshot again. The leader holds all that is in the snapshot, so a heartbeat
 * may as well be anchored there: accepted, with nothing acknowledged. */
static void anchor_at_install(struct engine *e, struct engine_message *m)
{
    if (e->knobs.no_install_hold || m->term < core_term(e->core))
        return;
    for (uint32_t i = 0; i < m->n_entries; i++)
        entry_put(m->entries[i]);
    m->n_entries = 0;
    m->append.prev_index = e->installing.index;
    m->append.prev_term = e->installing.term;
}

/* Entries [first, first + n) of the message to the core. */
static int append_part(struct engine *e, struct engine_message *m, uint32_t first, uint32_t n)
{
    struct core_update u;
    struct engine_message part = *m;
    int result;

    if (first > 0) {
        part.append.prev_index += first;
        part.append.prev_term = m->entries[first - 1]->term;
    }
    result = engine_check(e, core_receive(e->core, e->now, &part, first, n, false, &u), "append");
    return result != 0 ? result : step_update(e, &u, m->entries != NULL ? m->entries + first : NULL);
}

static int receive_append(struct engine *e, struct engine_message *m)
{
    uint32_t first = 0;
    int result;

    if (e->role == ENGINE_LEADER && m->term == core_term(e->core))
        return KV_E_PROTOCOL; /* two leaders in one term; the core would take it for a follower's */
    if (e->is_installing)
        anchor_at_install(e, m);
    result = check_entries(e, m);
    if (result == 0 && !e->knobs.no_trim)
        result = start_at_commit(e, m);
    if (result != 0)
        return result;
    /* The core notes a wrong index for a change that is not the first entry of
     * a message, and forgets a configuration that is committed but not reported
     * to it yet. Cut before every change, and apply what is committed between. */
    for (uint32_t k = 0; !e->knobs.no_split && k < m->n_entries; k++) {
        if (m->entries[k]->type != ENTRY_CHANGE)
            continue;
        result = append_part(e, m, first, k - first);
        if (result == 0)
            result = step_advance(e);
        if (result != 0)
            return result;
        first = k;
    }
    result = append_part(e, m, first, m->n_entries - first);
    if (result == 0)
        lease_accept(e, m);
    return result;
}

static int receive_append_result(struct engine *e, struct engine_message *m)
{
    uint64_t match;

    if (m->append_result.rejected != 0 && core_match_index(e->core, m->from, &match)) {
        /* A rejection at or below what the peer has matched is stale (repeated,
         * reordered). The core would wind next_index back below match_index
         * and never replicate to that peer again. */
        if (!e->knobs.no_stale_filter && m->term == core_term(e->core) &&
            m->append_result.rejected <= match) {
            /* In order, that cannot be: the peer has lost what it acknowledged. */
            if (e->ops.on_log_shorter != NULL)
                e->ops.on_log_shorter(e->ops.ctx, m->from, m->append_result.rejected, match);
            return 0;
        }
        if (m->append_result.last_index < match)
            m->append_result.last_index = match;
    }
    step_open_window(e, m->from, m->append_result.rejected == 0 ? m->append_result.last_index : 0);
    return receive_core(e, m, false);
}

/* ---- votes ---- */

/* Whether our own log says that we are no voter. */
static bool without_vote(const struct engine *e)
{
    for (unsigned i = 0; i < core_n_servers(e->core); i++)
        if (core_server_id(e->core, i) == e->config.id)
            return !core_server_votes(e->core, i);
    return false;
}

static int receive_vote(struct engine *e, struct engine_message *m)
{
    bool voteless;

    if (lease_forbids_vote(e))
        return 0;
    /* A restart has forgotten that we had a leader, whose lease may still run:
     * be silent for one election timeout. */
    if (!e->knobs.no_start_guard && !m->vote.disrupt_leader && e->now < e->started_ms + e->config.election_ms)
        return 0;
    /* The core never votes when its own log says that it is no voter, but the
     * candidate's log may know better (Raft §4.1: a server votes whatever its
     * own configuration says). Nor does a non-voter ever forget its leader, and a
     * follower not before its own, random timeout, so that the first candidate
     * would wait for the last follower: the least timeout is what counts (§4.2.3). */
    voteless = !e->knobs.no_vote_fix && without_vote(e);
    if ((voteless || core_role(e->core) == ENGINE_FOLLOWER) && e->now >= e->heard_ms + e->config.election_ms)
        m->vote.disrupt_leader = true;
    return receive_core(e, m, voteless);
}

static int receive_vote_result(struct engine *e, const struct engine_message *m)
{
    /* The core reads the candidate's part of a union in any state. */
    if (core_role(e->core) != ENGINE_CANDIDATE)
        return 0;
    return receive_core(e, m, false);
}

/* ---- snapshots ---- */

static int receive_install(struct engine *e, const struct engine_message *m)
{
    int result;

    if (m->meta.index == 0 || m->meta.term == 0 || m->meta.conf == NULL || m->meta.term > m->term ||
        (e->role == ENGINE_LEADER && m->term == core_term(e->core)))
        return KV_E_PROTOCOL;
    if (e->is_installing)
        return 0; /* the core would leak its configuration */
    snapshot_meta_copy(&m->meta, &e->installing);
    e->is_installing = true;
    result = receive_core(e, m, false);
    if (!core_installing(e->core)) { /* not needed: what it contains is in our log */
        e->is_installing = false;
        snapshot_meta_deinit(&e->installing);
    }
    return result;
}

/* ---- our own ---- */

static void receive_ping(struct engine *e, const struct engine_message *m)
{
    struct engine_message *pong = message_new(RAFT_MESSAGE_PONG, e->config.id, m->from);

    if (pong == NULL)
        return;
    pong->term = m->term;
    pong->ping.seq = m->ping.seq;
    pong->ping.peer_term = core_term(e->core); /* durable: step_update() saw to it */
    step_send(e, pong);
}

static void receive_echo(struct engine *e, const struct engine_message *m)
{
    struct peer *peer;

    if (e->role != ENGINE_LEADER || m->term != core_term(e->core))
        return;
    peer = engine_peer(e, m->from);
    if (peer != NULL && m->sent_ms > peer->echo_ms)
        peer->echo_ms = m->sent_ms;
}

/* What the leader counts its lease from: we accepted its message, so until an
 * election timeout from now on we vote for nobody else. A few echoes a
 * heartbeat are enough. */
static void echo(struct engine *e, const struct engine_message *m)
{
    struct engine_message *echo;

    if (core_role(e->core) != ENGINE_FOLLOWER || core_leader(e->core) != m->from ||
        core_term(e->core) != m->term)
        return;
    e->heard_ms = e->now;
    if (e->echoed_term == m->term && m->sent_ms < e->echoed_ms + e->config.heartbeat_ms / 4)
        return;
    echo = message_new(RAFT_MESSAGE_ECHO, e->config.id, m->from);
    if (echo == NULL)
        return;
    e->echoed_term = m->term;
    e->echoed_ms = m->sent_ms;
    echo->term = m->term;
    echo->sent_ms = m->sent_ms;
    step_send(e, echo);
}

static int dispatch(struct engine *e, struct engine_message *m)
{
    int result = 0;

    switch (m->type) {
    case RAFT_MESSAGE_APPEND:
        e->answering_stale = m->term < core_term(e->core);
        result = receive_append(e, m);
        if (result == 0)
            echo(e, m);
        break;
    case RAFT_MESSAGE_INSTALL:
        e->answering_stale = m->term < core_term(e->core);
        result = receive_install(e, m);
        break;
    case RAFT_MESSAGE_APPEND_RESULT:
        result = receive_append_result(e, m);
        break;
    case RAFT_MESSAGE_VOTE:
        result = receive_vote(e, m);
        break;
    case RAFT_MESSAGE_VOTE_RESULT:
        result = receive_vote_result(e, m);
        break;
    case RAFT_MESSAGE_TIMEOUT_NOW:
        if (!lease_forbids_vote(e))
            result = receive_core(e, m, false);
        break;
    case RAFT_MESSAGE_PING:
        receive_ping(e, m);
        break;
    case RAFT_MESSAGE_PONG:
        reads_on_pong(e, m);
        break;
    case RAFT_MESSAGE_ECHO:
        receive_echo(e, m);
        break;
    case RAFT_MESSAGE_LEASE:
        lease_on_request(e, m);
        break;
    case RAFT_MESSAGE_GRANT:
        lease_on_grant(e, m);
        break;
    }
    e->answering_stale = false;
    return result;
}

int engine_receive(struct engine *e, uint64_t now, struct engine_message *m)
{
    int result;

    if (e->dead != 0) {
        message_free(m);
        return e->dead;
    }
    e->now = now;
    result = m->to != e->config.id || m->from == e->config.id ? KV_E_PROTOCOL : dispatch(e, m);
    message_free(m);
    if (result != 0)
        return result;
    return step_advance(e);
}
