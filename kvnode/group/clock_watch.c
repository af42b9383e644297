#include "kvnode/group/clock_watch.h"

#include <stdlib.h>

#include "kvnode/node/node_state.h"
#include "sync/base/clock.h"
#include "sync/base/log.h"
#include "sync/wire/command.h"

/* Without a majority that agrees there is nobody to wait for. */
#define DOUBT_MS 10000
/* A clock that was just put right may take a moment, and so may a machine that wakes. */
#define OFF_FOR_MS 3000
#define HAND_OVER_AGAIN_MS 1000 /* one that has not stored what it was sent last does not take over */
/* Stored time this far ahead is told in the log. */
#define AHEAD_NS (60 * UINT64_C(1000000000))

struct voters {
    uint64_t ids[SKEW_PEERS_MAX + 1];
    size_t n;
};

static void add_voter(void *arg, uint64_t id, const char *address, bool voter)
{
    struct voters *v = arg;

    if (voter && v->n < SKEW_PEERS_MAX + 1)
        v->ids[v->n++] = id;
}

/* Who can lead instead: the most advanced voter whose clock is with the majority's. */
struct search {
    const struct node *n;
    const struct voters *voters;
    uint64_t now_ms, found, applied;
};

static bool is_voter(const struct voters *v, uint64_t id)
{
    size_t i;

    for (i = 0; i < v->n; i++)
        if (v->ids[i] == id)
            return true;
    return false;
}

static void search_peer(void *arg, const struct peer_glance *view)
{
    struct search *s = arg;
    const struct clock_watch *w = &s->n->clock;
    int64_t offset;

    if (!view->up || !view->fresh || view->useless || view->clock_off || !is_voter(s->voters, view->id) ||
        !skew_offset(&w->skew, view->id, s->now_ms, &offset) ||
        llabs(offset - w->view.majority_ns) > SKEW_OFF_NS)
        return;
    if (s->found == 0 || view->applied > s->applied) {
        s->found = view->id;
        s->applied = view->applied;
    }
}

static void hand_over(struct node *n, const struct voters *voters, uint64_t now_ms)
{
    struct search s = {.n = n, .voters = voters, .now_ms = now_ms};

    if (!consensus_leader_ready(n->consensus) || now_ms < n->clock.again_ms)
        return;
    n->links.each(n->links.arg, &s, search_peer);
    if (s.found == 0)
        return;
    n->clock.again_ms = now_ms + HAND_OVER_AGAIN_MS;
    if (consensus_transfer(n->consensus, s.found) == 0)
        log_warn("this node leads and its clock is off: it hands over to %s", node_member_name(n, s.found));
}

static void tell(struct clock_watch *w)
{
    double seconds = (double)w->view.majority_ns / 1e9;

    if (w->view.off && !w->told)
        log_warn("this node's clock is %.1f s %s those of the majority: it stamps nothing; set it right",
                 seconds < 0 ? -seconds : seconds, seconds < 0 ? "ahead of" : "behind");
    else if (w->told && !w->view.off && w->view.agreed)
        log_info("this node's clock agrees with those of the majority again");
    w->told = w->view.off || (w->told && !w->view.agreed);
}

static void tell_ahead(struct node *n)
{
    uint64_t ahead = clock_watch_ahead_ns(n);

    if (ahead > AHEAD_NS && !n->clock.told_ahead)
        log_warn("the time of the last change is %.1f s ahead of the clocks of a majority: new changes "
                 "are stamped later than that. See kvnode clock",
                 (double)ahead / 1e9);
    n->clock.told_ahead = ahead > AHEAD_NS;
}

/* The time of day, after a look whether it has been set. */
static uint64_t look(struct clock_watch *w)
{
    uint64_t wall = clock_wall_ns();
    int64_t base = (int64_t)wall - (int64_t)clock_boot_ns();

    if (llabs(base - w->base_ns) > SKEW_OFF_NS) {
        w->skew = (struct skew){0}; /* what was compared with the clock as it was */
        w->view = (struct skew_view){0};
        w->confirmed = false;
        w->doubted_ms = clock_boot_ms();
    }
    w->base_ns = base;
    return wall;
}

void clock_watch_beat(struct node *n, uint64_t now_ms)
{
    struct clock_watch *w = &n->clock;
    struct voters voters = {.n = 0};

    look(w);
    consensus_members(n->consensus, &voters, add_voter);
    w->view = skew_judge(&w->skew, n->config->id, voters.ids, voters.n, now_ms);
    w->confirmed = w->confirmed || w->view.agreed || now_ms > w->doubted_ms + DOUBT_MS;
    tell(w);
    tell_ahead(n);
    if (!w->view.off)
        w->off_since_ms = 0;
    else if (w->off_since_ms == 0)
        w->off_since_ms = now_ms;
    else if (now_ms - w->off_since_ms >= OFF_FOR_MS && consensus_is_leader(n->consensus))
        hand_over(n, &voters, now_ms);
}

uint64_t clock_watch_wall_ns(struct node *n)
{
    uint64_t wall = look(&n->clock);

    if (store_wall_ns(n->store) == 0) /* there is nothing to go on from */
        return wall;
    return n->clock.view.off || !n->clock.confirmed ? 0 : wall;
}

uint64_t clock_watch_ahead_ns(const struct node *n)
{
    int64_t clock = (int64_t)clock_wall_ns() + n->clock.view.majority_ns;
    int64_t ahead = (int64_t)store_wall_ns(n->store) - clock;

    return n->clock.view.agreed && ahead > 0 ? (uint64_t)ahead : 0;
}

uint64_t clock_watch_set_back_ns(struct node *n)
{
    uint64_t wall = look(&n->clock);

    if (!n->clock.confirmed || !n->clock.view.agreed || clock_watch_ahead_ns(n) <= CLOCK_BACK_MIN_NS)
        return 0;
    return wall + (uint64_t)n->clock.view.majority_ns;
}
