#include "kvnode/group/heal.h"

#include "kvnode/group/group.h"
#include "kvnode/group/incoming.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define STATE_ASK_MS 2000
/* Nobody waits for the file, and one for nothing costs the leader much. */
#define FILE_ASK_MS 5000
#define FILE_ASK_MAX_MS 600000

/* Who can lead instead: at best a peer whose state is good in memory and on the
 * disk, else one whose memory is. Our log has to reach back to its state: as a
 * leader without a good file we could not bring it up to date. */
struct search {
    uint64_t leader, first; /* first: of our log */
    bool leader_whole;
    uint64_t whole, serving; /* the most advanced of each kind, 0: none */
    uint64_t whole_applied, serving_applied;
};

static void search_peer(void *arg, const struct peer_glance *view)
{
    struct search *p = arg;

    if (!view->up || view->stateless)
        return;
    p->leader_whole |= view->id == p->leader && !view->damaged;
    if (view->applied + 1 < p->first)
        return;
    if (p->serving == 0 || view->applied > p->serving_applied) {
        p->serving = view->id;
        p->serving_applied = view->applied;
    }
    if (view->damaged)
        return;
    if (p->whole == 0 || view->applied > p->whole_applied) {
        p->whole = view->id;
        p->whole_applied = view->applied;
    }
}

static struct search search(const struct group *g)
{
    struct search found = {.leader = consensus_leader(g->consensus), .first = consensus_first(g->consensus)};

    g->owner->links->each(g->owner->links->arg, &found, search_peer);
    return found;
}

static void hand_over(struct group *g, uint64_t to /* 0: to any */)
{
    if (consensus_transfer(g->consensus, to) == KV_E_NOENT) /* it does not vote */
        consensus_transfer(g->consensus, 0);
}

static bool ask(struct group *g, uint64_t leader)
{
    if (g->owner->links->begin(g->owner->links->arg, g->number, leader, PEER_WANT_STATE, 0) == NULL)
        return false;
    g->owner->links->end(g->owner->links->arg, leader);
    return true;
}

static bool is_due(const struct group *g, uint64_t now_ms)
{
    return now_ms >= g->heal.ask_at && !incoming_is_there(g->incoming) && consensus_leader(g->consensus) != 0;
}

void heal_state(struct group *g, uint64_t now_ms)
{
    struct search found;

    if (!is_due(g, now_ms))
        return;
    found = search(g);
    if (consensus_is_leader(g->consensus)) {
        /* Another one has to give the state. If we know of none that can, another node
         * may; if all have lost theirs, nobody can. */
        log_warn("this node leads and has no state of its own: it hands over to one that may have");
        hand_over(g, found.whole != 0 ? found.whole : found.serving);
    } else if (!incoming_moves(g->incoming) && !ask(g, found.leader)) {
        return;
    }
    g->heal.ask_at = now_ms + STATE_ASK_MS;
}

void heal_file(struct group *g, uint64_t now_ms)
{
    struct search found;

    if (!is_due(g, now_ms))
        return;
    found = search(g);
    if (incoming_moves(g->incoming)) {
        g->heal.ask_at = now_ms + FILE_ASK_MS;
    } else if (consensus_is_leader(g->consensus)) {
        if (found.whole != 0) {
            log_warn("this node leads and its state.db is damaged: it hands over to one that can mend it");
            hand_over(g, found.whole);
        }
        g->heal.ask_at = now_ms + (found.whole != 0 ? STATE_ASK_MS : FILE_ASK_MS);
    } else if (found.leader_whole && ask(g, found.leader)) {
        g->heal.pause_ms = g->heal.pause_ms == 0 ? FILE_ASK_MS : 2 * g->heal.pause_ms;
        if (g->heal.pause_ms > FILE_ASK_MAX_MS)
            g->heal.pause_ms = FILE_ASK_MAX_MS;
        g->heal.ask_at = now_ms + g->heal.pause_ms;
    }
}
