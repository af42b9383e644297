#include "kvnode/group/clock_lead.h"

#include "kvnode/group/group.h"
#include "sync/base/log.h"

#define HAND_OVER_AGAIN_MS 1000 /* one that has not stored what it was sent last does not take over */
/* Stored time this far ahead is told in the log. */
#define AHEAD_NS (60 * UINT64_C(1000000000))

/* Who can lead instead: the most advanced voter whose clock is with the majority's. */
struct search {
    const struct group *group;
    uint64_t now_ms, found, applied;
};

struct voter {
    uint64_t id;
    bool found;
};

static void look_for(void *arg, uint64_t id, const char *address, bool voter)
{
    struct voter *v = arg;

    v->found |= voter && id == v->id;
}

static bool is_voter(const struct group *g, uint64_t id)
{
    struct voter v = {.id = id};

    consensus_members(g->consensus, &v, look_for);
    return v.found;
}

static void search_peer(void *arg, const struct peer_glance *peer)
{
    struct search *s = arg;

    if (!peer->up || !peer->fresh || peer->useless || peer->clock_off || !is_voter(s->group, peer->id) ||
        !clock_watch_trusts(s->group->owner->clock, peer->id, s->now_ms))
        return;
    if (s->found == 0 || peer->applied > s->applied) {
        s->found = peer->id;
        s->applied = peer->applied;
    }
}

static void hand_over(struct group *g, uint64_t now_ms)
{
    const struct peer_links *links = g->owner->links;
    struct search s = {.group = g, .now_ms = now_ms};

    if (!consensus_leader_ready(g->consensus) || now_ms < g->clock.again_ms)
        return;
    links->each(links->arg, &s, search_peer);
    if (s.found == 0)
        return;
    g->clock.again_ms = now_ms + HAND_OVER_AGAIN_MS;
    if (consensus_transfer(g->consensus, s.found) == 0)
        log_warn("this node leads and its clock is off: it hands over to %s",
                 config_member_name(g->owner->config, s.found));
}

static void tell_ahead(struct group *g)
{
    uint64_t ahead = clock_watch_ahead_ns(g->owner->clock, store_wall_ns(g->store));

    if (ahead > AHEAD_NS && !g->clock.told_ahead)
        log_warn("the time of the last change is %.1f s ahead of the clocks of a majority: new changes "
                 "are stamped later than that. See kvnode clock",
                 (double)ahead / 1e9);
    g->clock.told_ahead = ahead > AHEAD_NS;
}

void clock_lead_beat(struct group *g, uint64_t now_ms)
{
    tell_ahead(g);
    if (clock_watch_gives_way(g->owner->clock, now_ms) && consensus_is_leader(g->consensus))
        hand_over(g, now_ms);
}
