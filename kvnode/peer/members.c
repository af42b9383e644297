/* A node counts as one that can take a write only if everything says so. What
 * cannot be known counts against it: a sentence that promises too little costs a
 * look, one that promises too much costs the cluster. */
#include "kvnode/peer/members.h"

#include <stdio.h>
#include <string.h>

#include "kvnode/config/config.h"
#include "kvnode/group/group.h"
#include "kvnode/peer/door.h"
#include "kvnode/peer/peers.h"
#include "kvnode/peer/self.h"
#include "sync/base/clock.h"

/* Under load everybody is some turns behind; for so long, it is catching up. */
#define BEHIND_MS 2000
/* Behind, and nothing applied for so long: it does not catch up. */
#define STUCK_MS 5000
/* Sets of failing nodes that are looked at when links are cut: 15 voters have fewer. */
#define SETS_MAX 10000

const char *members_state_text(enum member_state state)
{
    static const char *const texts[] = {
        [MEMBER_UNREACHABLE] = "unreachable", [MEMBER_SILENT] = "silent",
        [MEMBER_RIVALS] = "two clusters",     [MEMBER_GONE_BACK] = "gone back",
        [MEMBER_WAITING] = "waiting",         [MEMBER_NO_STATE] = "no state",
        [MEMBER_DISK_FULL] = "disk full",     [MEMBER_DAMAGED] = "damaged",
        [MEMBER_STOPPING] = "stopping",       [MEMBER_STUCK] = "stuck",
        [MEMBER_BEHIND] = "behind",           [MEMBER_CLOCK_OFF] = "clock off",
        [MEMBER_HEALTHY] = "healthy",
    };

    return texts[state];
}

static enum member_state state_of(const struct member *m, const struct progress *progress, uint64_t now)
{
    uint64_t flags = m->health.flags;

    if (flags & HEALTH_RIVALS)
        return MEMBER_RIVALS;
    if (flags & HEALTH_GONE_BACK)
        return MEMBER_GONE_BACK;
    if (flags & HEALTH_WAITING)
        return MEMBER_WAITING;
    if (flags & HEALTH_STATELESS)
        return MEMBER_NO_STATE;
    if (flags & (HEALTH_LOG_FULL | HEALTH_STATE_FULL))
        return MEMBER_DISK_FULL;
    if (flags & HEALTH_DAMAGED)
        return MEMBER_DAMAGED;
    if (flags & HEALTH_STOPPING)
        return MEMBER_STOPPING;
    if (m->lag_ms > STUCK_MS && now - progress->risen_ms > STUCK_MS)
        return MEMBER_STUCK;
    if (m->lag_ms > BEHIND_MS)
        return MEMBER_BEHIND;
    return flags & HEALTH_CLOCK_OFF ? MEMBER_CLOCK_OFF : MEMBER_HEALTHY;
}

bool members_usable(const struct member *m)
{
    return m->voter && (m->state == MEMBER_HEALTHY || m->state == MEMBER_CLOCK_OFF);
}

static bool is_heard(const struct member *m)
{
    return m->state > MEMBER_SILENT;
}

bool members_hears(const struct member *a, uint64_t b)
{
    size_t i;

    for (i = 0; i < a->health.n_links; i++)
        if (a->health.links[i] == b)
            return true;
    return !is_heard(a);
}

struct search {
    uint64_t id;
    struct peer_view view;
    bool found;
};

static void find_view(void *arg, const struct peer_view *view)
{
    struct search *s = arg;

    if (view->id == s->id) {
        s->view = *view;
        s->found = true;
    }
}

struct look {
    const struct self *self;
    struct members *out;
    uint64_t newest; /* index committed anywhere we know of */
    uint64_t now;
};

static void find_newest(void *arg, const struct peer_view *view)
{
    struct look *l = arg;

    if (view->up && view->status.applied > l->newest)
        l->newest = view->status.applied;
    if (view->up && view->status.health.commit > l->newest)
        l->newest = view->status.health.commit;
}

/* What a node says of itself. */
static void take_status(struct member *m, const struct peer_status *status)
{
    m->health = status->health;
    m->applied = status->applied;
    m->digest_index = status->digest_index;
    m->digest = status->digest;
    m->role = status->role;
}

static void look_at_self(const struct look *l, struct member *m)
{
    const struct config *config = l->self->config;
    const struct progress *progress = peers_progress(l->self->peers, 0);
    struct peer_status status;

    m->self = m->known = true;
    snprintf(m->address, sizeof m->address, strchr(config->listen_host, ':') != NULL ? "[%s]:%u" : "%s:%u",
             config->listen_host, config->listen_port);
    self_look(l->self, &status);
    take_status(m, &status);
    m->last_seen_ms = l->now;
    m->lag_ms = progress_lag_ms(progress, l->now);
    m->state = state_of(m, progress, l->now);
}

/* What the peer said last may be a heartbeat old; who leads this node knows itself. */
static uint8_t peer_role(const struct group *g, const struct peer_view *v)
{
    if (v->id == consensus_leader(g->consensus))
        return PEER_LEADER;
    return v->status.role == PEER_LEADER && v->status.term < consensus_term(g->consensus) ? PEER_FOLLOWER
                                                                                          : v->status.role;
}

static void look_at_peer(const struct look *l, struct member *m)
{
    const struct progress *progress = peers_progress(l->self->peers, m->id);
    struct search s = {.id = m->id};

    peers_each(l->self->peers, &s, find_view);
    if (!s.found)
        return;
    snprintf(m->address, sizeof m->address, "%s", s.view.address);
    take_status(m, &s.view.status);
    m->known = s.view.status_ms != 0;
    m->last_seen_ms = s.view.last_seen_ms;
    m->role = peer_role(l->self->group, &s.view);
    m->lag_ms = progress_lag_ms(progress, l->now);
    if (!s.view.up) {
        snprintf(m->error, sizeof m->error, "%s", s.view.error);
        m->state = MEMBER_UNREACHABLE;
    } else if (!s.view.fresh) {
        m->state = MEMBER_SILENT;
    } else {
        m->state = state_of(m, progress, l->now);
        if (door_shut(l->self->door, m->id, NULL))
            m->state = MEMBER_GONE_BACK;
    }
}

static void add_member(void *arg, uint64_t id, const char *address, bool voter)
{
    struct look *l = arg;
    struct member *m = &l->out->all[l->out->n];

    if (l->out->n == MEMBERS_MAX)
        return;
    l->out->n++;
    *m = (struct member){.id = id,
                         .voter = voter,
                         .name = config_member_name(l->self->config, id),
                         .state = MEMBER_UNREACHABLE};
    snprintf(m->address, sizeof m->address, "%s", address);
    if (id == l->self->config->id)
        look_at_self(l, m);
    else
        look_at_peer(l, m);
    m->behind = l->newest > m->applied ? l->newest - m->applied : 0;
}

static bool some_reach_a_majority(const uint32_t *reach, unsigned n, uint32_t left, unsigned majority)
{
    unsigned i;

    for (i = 0; i < n; i++)
        if ((left >> i & 1) != 0 &&
            (unsigned)__builtin_popcount((reach[i] | UINT32_C(1) << i) & left) >= majority)
            return true;
    return false;
}

/* All sets of `failing` of the nodes from `from` on. *sets: how many more are looked at. */
static bool survives(const uint32_t *reach, unsigned n, uint32_t left, unsigned majority, unsigned failing,
                     unsigned from, int *sets)
{
    unsigned i;

    if (failing == 0)
        return (*sets)-- > 0 && some_reach_a_majority(reach, n, left, majority);
    for (i = from; i < n; i++)
        if ((left >> i & 1) != 0 &&
            !survives(reach, n, left & ~(UINT32_C(1) << i), majority, failing - 1, i + 1, sets))
            return false;
    return true;
}

int members_tolerated(const uint32_t *reach, unsigned n, uint32_t usable, unsigned majority)
{
    unsigned count = (unsigned)__builtin_popcount(usable);
    int tolerated = -1, sets = SETS_MAX;
    bool whole = true;
    unsigned i;

    for (i = 0; i < n; i++)
        if ((usable >> i & 1) != 0)
            whole &= ((reach[i] | UINT32_C(1) << i) & usable) == usable;
    if (whole)
        return count >= majority ? (int)(count - majority) : -1;
    while (count >= majority + (unsigned)(tolerated + 1) &&
           survives(reach, n, usable, majority, (unsigned)(tolerated + 1), 0, &sets))
        tolerated++;
    return tolerated;
}

static void judge(struct look *l)
{
    struct members *o = l->out;
    uint32_t reach[MEMBERS_MAX] = {0}, usable = 0;
    const struct member *voters[MEMBERS_MAX];
    bool leads = false;
    unsigned i, k, n = 0;
    int tolerated;

    for (i = 0; i < o->n; i++) {
        const struct member *m = &o->all[i];

        if (is_heard(m) && !m->self && m->health.leader != 0 && m->health.leader != l->self->config->id)
            o->elsewhere = m->health.leader;
        if (m->voter && n < 32)
            voters[n++] = m;
    }
    o->voters = n;
    for (i = 0; i < n; i++) {
        if (!members_usable(voters[i]))
            continue;
        usable |= UINT32_C(1) << i;
        leads |= voters[i]->id == o->leader;
        for (k = 0; k < n; k++)
            if (members_hears(voters[i], voters[k]->id) && members_hears(voters[k], voters[i]->id))
                reach[i] |= UINT32_C(1) << k;
    }
    o->usable = (unsigned)__builtin_popcount(usable);
    tolerated = members_tolerated(reach, n, usable, n / 2 + 1);
    o->writable = leads && tolerated >= 0;
    o->tolerated = o->writable ? (unsigned)tolerated : 0;
    if (o->leader != 0)
        o->elsewhere = 0;
}

void members_look(const struct self *self, struct members *out)
{
    const struct config *config = self->config;
    const struct group *g = self->group;
    struct look l = {
        .self = self, .out = out, .newest = consensus_commit(g->consensus), .now = clock_boot_ms()};

    memset(out, 0, sizeof *out);
    if (store_applied(g->store) > l.newest)
        l.newest = store_applied(g->store);
    peers_each(self->peers, &l, find_newest);
    out->leader = consensus_leader(g->consensus);
    if (out->leader == 0 && g->leaderless_since_ms != 0)
        out->leaderless_ms = l.now - g->leaderless_since_ms;
    consensus_members(g->consensus, &l, add_member);
    if (out->n == 0) { /* no member yet: whom it is to be one with */
        size_t i;

        add_member(&l, config->id, config->name, true);
        for (i = 0; i < config->n_peers; i++)
            add_member(&l, config->peers[i].id, config->peers[i].name, true);
    }
    judge(&l);
}

uint64_t members_level(const struct members *all)
{
    uint64_t level = UINT64_MAX;
    size_t i;

    for (i = 0; i < all->n; i++) {
        const struct member *m = &all->all[i];

        if (!m->known || !is_heard(m))
            return 0;
        if (m->health.level < level)
            level = m->health.level;
    }
    return all->n > 0 ? level : 0;
}
