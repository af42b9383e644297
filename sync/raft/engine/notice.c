/* Commit notices: in the core a follower learns a new commit index only with
 * the next AppendEntries or heartbeat, up to 100 ms later, and whoever wrote
 * through that follower waits for as long. So, once a loop turn, the leader
 * sends an empty AppendEntries to each follower that could go on to a commit
 * index which no message has carried to it.
 *
 * Ordinary Raft: it is anchored at match_index, where this follower is known to
 * agree with us in this term, so it is accepted, and its answer acknowledges no
 * more than match_index, which the leader's core ignores. Lost ones are made
 * good by the next heartbeat. */
#include <stdlib.h>

#include "sync/raft/engine/internal.h"

static void notify(struct engine *e, uint64_t id)
{
    struct peer *peer = engine_peer(e, id);
    struct engine_message *m;
    uint64_t match, reach;

    if (peer == NULL || !core_match_index(e->core, id, &match) || match == 0)
        return;
    reach = match < e->commit ? match : e->commit;
    if (peer->told_commit >= reach || engine_term_at(e, match) == 0)
        return;
    m = message_new(RAFT_MESSAGE_APPEND, e->config.id, id);
    if (m == NULL)
        return;
    peer->told_commit = reach;
    m->term = core_term(e->core);
    m->append.prev_index = match;
    m->append.prev_term = engine_term_at(e, match);
    m->append.leader_commit = e->commit;
    step_send(e, m);
}

int engine_flush(struct engine *e, uint64_t now)
{
    int result;

    if (e->dead != 0)
        return e->dead;
    e->now = now;
    result = reads_flush(e);
    lease_flush(e);
    if (result != 0 || e->role != ENGINE_LEADER)
        return result;
    for (unsigned i = 0; i < core_n_servers(e->core); i++)
        if (core_server_id(e->core, i) != e->config.id)
            notify(e, core_server_id(e->core, i));
    return 0;
}
