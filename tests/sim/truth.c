/* What must hold whatever happens (Raft, figure 3.2): election safety, log
 * matching, leader completeness, state machine safety; and of this engine: a
 * vote is never changed, what is acknowledged is durable, what is committed is
 * durable on a majority, and no read is stale. */
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "tests/sim/sim.h"

/* The log of the cluster as it was committed, [1 .. n_committed]. */
struct committed {
    uint64_t term, hash, chain;
    uint64_t committed_in; /* term in which it was seen committed first */
};
static struct committed *committed;
static size_t n_committed, cap_committed;

/* Every entry that any log ever held, by index and term. */
struct known {
    uint64_t index, term, previous_term, hash;
};
static struct known *known;
static size_t n_known, cap_known;

static int leader_of[MAX_TERM];
static uint64_t vote_of[MAX_NODES + 1][MAX_TERM];

/* Reads: what was committed when each began. */
#define READ_SLOTS 65536
static struct {
    uint64_t at_least;
    int node;
} reads[READ_SLOTS];
static uint64_t n_reads;

void truth_reset(void)
{
    n_committed = 0;
    n_known = 0;
    n_reads = 0;
    if (known != NULL)
        memset(known, 0, cap_known * sizeof *known);
    memset(leader_of, 0, sizeof leader_of);
    memset(vote_of, 0, sizeof vote_of);
}

uint64_t truth_committed(void)
{
    return n_committed;
}

static uint64_t hash_entry(const struct entry *e)
{
    uint64_t h = mix(e->type, e->len);

    for (size_t i = 0; i < e->len; i++)
        h = (h * 1099511628211u) ^ e->data[i];
    return mix(h, e->term);
}

/* ---- logs ---- */

static struct known *find_known(uint64_t index, uint64_t term)
{
    size_t at = mix(index, term) & (cap_known - 1);

    while (known[at].index != 0 && (known[at].index != index || known[at].term != term))
        at = (at + 1) & (cap_known - 1);
    return &known[at];
}

static void grow_known(void)
{
    struct known *old = known;
    size_t old_cap = cap_known;

    cap_known = cap_known > 0 ? cap_known * 2 : 4096;
    known = calloc(cap_known, sizeof *known);
    if (known == NULL)
        abort();
    for (size_t i = 0; i < old_cap; i++)
        if (old[i].index != 0)
            *find_known(old[i].index, old[i].term) = old[i];
    free(old);
}

static void log_matching(int node, uint64_t index, const struct entry *e, uint64_t previous_term)
{
    struct known *k;
    uint64_t hash = hash_entry(e);

    if (n_known * 2 >= cap_known)
        grow_known();
    k = find_known(index, e->term);
    if (k->index == 0) {
        *k = (struct known){index, e->term, previous_term, hash};
        n_known++;
        return;
    }
    if (k->hash != hash)
        violation("log matching: node %d has another entry at %lu^%lu", node, index, e->term);
    if (previous_term != 0 && k->previous_term != 0 && k->previous_term != previous_term)
        violation("log matching: on node %d %lu^%lu follows term %lu, elsewhere %lu", node, index, e->term,
                  previous_term, k->previous_term);
}

void truth_on_append(struct node *n, uint64_t index, struct entry *const *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t previous = i > 0 ? entries[i - 1]->term : engine_term_at(n->engine, index - 1);

        log_matching(n->id, index + i, entries[i], previous);
        if (index + i <= engine_commit_index(n->engine))
            violation("node %d rewrites the committed entry %lu (commit %lu)", n->id, index + i,
                      engine_commit_index(n->engine));
    }
}

/* ---- terms and leaders ---- */

void truth_on_term(struct node *n, uint64_t term, uint64_t vote)
{
    if (term >= MAX_TERM)
        violation("terms grow without end");
    if (term < n->disk.term)
        violation("the term of node %d goes back from %lu to %lu", n->id, n->disk.term, term);
    if (term == n->disk.term && n->disk.vote != 0 && vote != n->disk.vote)
        violation("node %d changes its vote in term %lu from %lu to %lu", n->id, term, n->disk.vote, vote);
    if (vote == 0)
        return;
    if (vote_of[n->id][term] != 0 && vote_of[n->id][term] != vote)
        violation("node %d votes twice in term %lu", n->id, term);
    vote_of[n->id][term] = vote;
}

static void leader_completeness(struct node *n)
{
    const struct engine *e = n->engine;

    for (uint64_t i = 1; i <= n_committed; i++) {
        uint64_t term = engine_term_at(e, i);

        if (committed[i].committed_in >= engine_term(e)) /* a late leader: only earlier terms bind it */
            continue;
        if (i < engine_first_index(e) && i < engine_snapshot_index(e))
            continue;
        if (i < engine_first_index(e) && i != engine_snapshot_index(e))
            continue;
        if (term != committed[i].term)
            violation("leader completeness: node %d leads term %lu with term %lu at %lu, committed is %lu "
                      "(last %lu)",
                      n->id, engine_term(e), term, i, committed[i].term, engine_last_index(e));
    }
}

void truth_on_role(struct node *n, enum engine_role role, uint64_t term)
{
    static const char *const names[] = {"follower", "candidate", "LEADER"};

    trace("node %d is %s of term %lu: last %lu, commit %lu", n->id, names[role], term,
          engine_last_index(n->engine), engine_commit_index(n->engine));
    if (role != ENGINE_LEADER)
        return;
    counters.elections++;
    if (term >= MAX_TERM)
        violation("terms grow without end");
    if (leader_of[term] != 0 && leader_of[term] != n->id)
        violation("two leaders in term %lu: nodes %d and %d", term, leader_of[term], n->id);
    leader_of[term] = n->id;
    leader_completeness(n);
}

/* ---- commits ---- */

void truth_on_committed(uint64_t index, struct entry *e, int node, uint64_t term)
{
    uint64_t hash = hash_entry(e);

    if (index <= n_committed) {
        if (committed[index].term != e->term || committed[index].hash != hash)
            violation("committed entry %lu differs: node %d has term %lu, committed is %lu", index, node,
                      e->term, committed[index].term);
        return;
    }
    if (index != n_committed + 1)
        violation("node %d commits %lu, the cluster had %zu", node, index, n_committed);
    if (n_committed + 2 > cap_committed) {
        cap_committed = cap_committed > 0 ? cap_committed * 2 : 4096;
        committed = realloc(committed, cap_committed * sizeof *committed);
        if (committed == NULL)
            abort();
        memset(&committed[0], 0, sizeof committed[0]);
    }
    n_committed++;
    committed[n_committed] =
        (struct committed){e->term, hash, mix(committed[n_committed - 1].chain, hash), term};
    counters.commits++;
    for (int i = 1; i <= MAX_NODES; i++) {
        struct node *n = &world.nodes[i];

        if (node_leads(n) && engine_term(n->engine) > term && index >= engine_first_index(n->engine) &&
            engine_term_at(n->engine, index) != e->term)
            violation("leader completeness: %lu^%lu is committed in term %lu, but not on node %d, leader of "
                      "term %lu",
                      index, e->term, term, i, engine_term(n->engine));
    }
}

/* Durable on a majority of the leader's voters? */
static void check_quorum(struct node *n, uint64_t index, const struct entry *e)
{
    struct configuration c;
    unsigned have = 0;

    engine_configuration(n->engine, &c);
    for (unsigned i = 0; i < c.n; i++)
        if (c.servers[i].role == SERVER_VOTER && disk_has(&world.nodes[c.servers[i].id].disk, index, e->term))
            have++;
    if (have <= configuration_voters(&c) / 2)
        violation("node %d (term %lu) commits %lu^%lu, durable on %u of %u voters", n->id,
                  engine_term(n->engine), index, e->term, have, configuration_voters(&c));
}

static void check_commit(struct node *n)
{
    const struct engine *e = n->engine;
    uint64_t commit = engine_commit_index(e);

    if (commit < n->checked_commit)
        violation("the commit index of node %d goes back from %lu to %lu", n->id, n->checked_commit, commit);
    for (uint64_t i = n->checked_commit + 1; i <= commit; i++) {
        struct entry *entry = engine_entry_at(e, i);

        if (entry == NULL) {
            if (i <= engine_snapshot_index(e) || (engine_installing(e) && i <= e->installing.index))
                continue;
            violation("node %d commits %lu, which it has not", n->id, i);
        }
        if (i > n_committed && engine_role(e) == ENGINE_LEADER)
            check_quorum(n, i, entry);
        truth_on_committed(i, entry, n->id, engine_term(e));
    }
    n->checked_commit = commit;
}

void truth_check(struct node *n)
{
    const struct engine *e = n->engine;
    uint64_t core_last;

    if (!n->up)
        return;
    if (engine_term(e) < n->max_term)
        violation("the term of node %d goes back", n->id);
    n->max_term = engine_term(e);
    if (engine_term(e) != n->disk.term || engine_vote(e) != n->disk.vote)
        violation("node %d: term and vote %lu/%lu, on disk %lu/%lu", n->id, engine_term(e), engine_vote(e),
                  n->disk.term, n->disk.vote);
    core_last = core_last_index(e->core);
    if (core_last != (engine_installing(e) ? e->installing.index : engine_last_index(e)))
        violation("node %d: the core's log ends at %lu, ours at %lu", n->id, core_last, engine_last_index(e));
    check_commit(n);
}

/* ---- state machines ---- */

void truth_on_apply(struct node *n, uint64_t index, struct entry *e)
{
    if (index != n->state.applied + 1)
        violation("node %d applies %lu after %lu", n->id, index, n->state.applied);
    truth_on_committed(index, e, n->id, engine_term(n->engine));
    n->state.applied = index;
    n->state.chain = mix(n->state.chain, hash_entry(e));
    n->state.count += e->type == ENTRY_COMMAND;
    truth_on_state_file(n, &n->state);
}

void truth_on_state_file(const struct node *n, const struct state *s)
{
    if (s->applied > n_committed || (s->applied > 0 && s->chain != committed[s->applied].chain))
        violation("the state of node %d is wrong at %lu", n->id, s->applied);
}

void truth_on_acknowledge(struct node *n, const struct engine_message *m)
{
    uint64_t index, term;

    if (m->type != RAFT_MESSAGE_APPEND_RESULT || m->append_result.rejected != 0 || m->term != n->disk.term ||
        options.no_acknowledge_check)
        return;
    index = m->append_result.last_index;
    if (index == 0)
        return;
    term = engine_term_at(n->engine, index);
    if (term == 0 && index <= n->state.applied)
        term = committed[index].term; /* trimmed, and a snapshot is being installed over it */
    if (!disk_has(&n->disk, index, term))
        violation("node %d acknowledges %lu^%lu, not durable (on disk %lu..%lu)", n->id, index, term,
                  n->disk.start_index, disk_last(&n->disk));
}

/* ---- reads ---- */

uint64_t truth_read_begins(int node)
{
    reads[n_reads % READ_SLOTS].at_least = n_committed;
    reads[n_reads % READ_SLOTS].node = node;
    return n_reads++;
}

void truth_read_refused(void)
{
    n_reads--;
}

void truth_read_answered(uint64_t token, uint64_t index, int result)
{
    if (token == UINT64_MAX) {
        world.mark_read_pending = false;
        return;
    }
    if (result != 0) {
        counters.reads_failed++;
        return;
    }
    counters.reads++;
    if (n_reads - token < READ_SLOTS && index < reads[token % READ_SLOTS].at_least)
        violation("stale ReadIndex on node %d: %lu, when it began %lu was committed",
                  reads[token % READ_SLOTS].node, index, reads[token % READ_SLOTS].at_least);
}

void truth_lease_read(struct node *n)
{
    if (!engine_lease_valid(n->engine, node_clock(n))) {
        counters.lease_no++;
        return;
    }
    counters.lease_yes++;
    if (engine_commit_index(n->engine) < n_committed)
        violation("stale lease read on node %d, term %lu: commit %lu, committed is %zu", n->id,
                  engine_term(n->engine), engine_commit_index(n->engine), n_committed);
}
