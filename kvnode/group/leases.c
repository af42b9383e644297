#include "kvnode/group/leases.h"

#include <stdlib.h>

#include "kvnode/group/group.h"
#include "kvnode/group/mounts.h"
#include "kvnode/state/settings.h"
#include "kvnode/state/touch.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/raft/engine/entry.h"

#define LEASE_LEVEL 2
#define IDLE_MS 60000 /* so long after the last read the lease is given back */
/* So long a mount caches behind the last BEAT, and holds writers up if it is gone. Less than the time after
 * which the leader takes this node for late, which would have it go without a lease for its mount's sake. */
#define MOUNT_LEASE_MS 80
#define LOOK_MAX 128   /* entries looked at in a turn: each is compared with those under way */
#define CROWD_MAX 512  /* so many under way cost more than a lease saves */
#define CROWD_MS 1000  /* then there is none for so long */
#define BEHIND_MAX 512 /* entries not applied, beyond which no lease is asked for */

/* Entries that were looked at and are not applied, by index: the touch list borrows their bytes, and the log
 * may be cut. A ring. */
struct held {
    struct entry **slots; /* owned references; NULL: of no command */
    size_t head, n, cap;  /* cap: a power of two */
};

struct leases {
    struct group *group;        /* borrowed */
    struct touch_list *touches; /* owned */
    struct held held;
    uint64_t looked; /* up to here; held.n of them are behind what is applied */
    uint64_t term;   /* in which they were accepted */
    uint64_t read_ms;
    uint64_t crowded_until_ms;
    bool wanted;
};

struct leases *leases_new(struct group *g)
{
    struct leases *l = calloc(1, sizeof *l);

    if (l == NULL)
        return NULL;
    l->group = g;
    l->touches = touch_list_new();
    if (l->touches == NULL) {
        free(l);
        return NULL;
    }
    return l;
}

static bool hold(struct held *h, struct entry *e)
{
    if (h->n == h->cap) {
        size_t cap = h->cap > 0 ? 2 * h->cap : 64;
        struct entry **slots = malloc(cap * sizeof(struct entry *));

        if (slots == NULL)
            return false;
        for (size_t i = 0; i < h->n; i++)
            slots[i] = h->slots[(h->head + i) & (h->cap - 1)];
        free(h->slots);
        h->slots = slots;
        h->head = 0;
        h->cap = cap;
    }
    h->slots[(h->head + h->n++) & (h->cap - 1)] = e;
    return true;
}

/* The oldest n go. */
static void let_go(struct held *h, size_t n)
{
    for (; n > 0 && h->n > 0; n--, h->n--) {
        struct entry *e = h->slots[h->head];

        if (e != NULL)
            entry_put(e);
        h->head = (h->head + 1) & (h->cap - 1);
    }
}

void leases_free(struct leases *l)
{
    if (l == NULL)
        return;
    let_go(&l->held, l->held.n);
    free(l->held.slots);
    touch_list_free(l->touches);
    free(l);
}

void leases_reset(struct leases *l)
{
    touch_cut(l->touches, 0);
    mounts_again(l->group->mounts, store_applied(l->group->store));
    let_go(&l->held, l->held.n);
    l->looked = store_applied(l->group->store);
    l->term = 0;
}

uint64_t leases_forgotten(const struct leases *l)
{
    return consensus_invalidated_index(l->group->consensus);
}

const struct touch_list *leases_touches(const struct leases *l)
{
    return l->touches;
}

bool leases_held(const struct leases *l)
{
    const struct group *g = l->group;

    /* What is invalidated for the engine, perhaps since it is committed, has been looked at here. */
    return l->wanted && l->term == consensus_term(g->consensus) &&
           l->looked >= consensus_invalidated_index(g->consensus) && group_serves(g) &&
           clock_boot_ms() < consensus_lease_until(g->consensus);
}

bool leases_current(struct leases *l)
{
    l->read_ms = clock_boot_ms();
    return leases_held(l);
}

void leases_applied(struct leases *l, uint64_t index)
{
    uint64_t first = l->looked - l->held.n + 1;

    touch_applied(l->touches, l->group->store, index);
    if (index > l->looked)
        l->looked = index;
    if (index >= first)
        let_go(&l->held, index - first + 1);
}

static void look_at(struct leases *l, uint64_t index, struct entry *e)
{
    struct touches touches;
    struct command cmd;

    if (!hold(&l->held, e->type == ENTRY_COMMAND ? e : NULL))
        group_die("out of memory");
    l->looked = index;
    if (e->type != ENTRY_COMMAND)
        return;
    entry_ref(e);
    if (touch_add(l->touches, l->group->store, index, e->data, e->len, &touches) != 0)
        group_die("out of memory");
    if ((touches.all || touches.n > 0) && command_decode(e->data, e->len, &cmd) == KV_OK)
        mounts_inval(l->group->mounts, index, cmd.session, &touches, clock_boot_ms());
}

static bool is_enabled(const struct group *g)
{
    return store_level(g->store) >= LEASE_LEVEL && store_setting(g->store, SETTING_LEASE) != 0;
}

/* Whoever leads counts on no voter's voting before its own election timeout is over. */
static bool may_grant(const struct group *g)
{
    const struct peer_links *links = g->owner->links;
    uint64_t least = links->election_ms(links->arg);

    return is_enabled(g) && least >= g->owner->config->election_ms;
}

static bool is_wanted(const struct leases *l, uint64_t now_ms)
{
    struct group *g = l->group;

    return is_enabled(g) && now_ms >= l->crowded_until_ms && l->read_ms != 0 &&
           now_ms - l->read_ms < IDLE_MS && group_serves(g) && !consensus_disk_full(g->consensus) &&
           consensus_applied(g->consensus) < store_applied(g->store) + BEHIND_MAX;
}

static void beat_mounts(struct leases *l, bool wanted, uint64_t now_ms)
{
    const struct group *g = l->group;
    uint64_t until = wanted && leases_held(l) ? consensus_lease_until(g->consensus) : 0;

    if (until > now_ms + MOUNT_LEASE_MS)
        until = now_ms + MOUNT_LEASE_MS;
    mounts_beat(g->mounts, store_level(g->store) >= LEASE_LEVEL, until, store_applied(g->store), now_ms);
}

uint64_t leases_turn_end(struct leases *l)
{
    struct group *g = l->group;
    uint64_t accepted, bound, until, now = clock_boot_ms();
    bool wanted, want;

    if (!consensus_started(g->consensus))
        return UINT64_MAX;
    if (consensus_accepted(g->consensus) > store_applied(g->store) + CROWD_MAX)
        l->crowded_until_ms = now + CROWD_MS;
    /* What mounts have counts for a while longer. */
    wanted = is_wanted(l, now);
    want = wanted || (l->wanted && mounts_until(g->mounts) > now);
    if (want != l->wanted) {
        l->wanted = want;
        leases_reset(l);
        consensus_want_lease(g->consensus, want);
    }
    if (!want) {
        beat_mounts(l, false, now);
        return UINT64_MAX;
    }
    if (l->term != consensus_term(g->consensus)) {
        leases_reset(l);
        l->term = consensus_term(g->consensus);
    }
    accepted = consensus_accepted(g->consensus);
    for (unsigned n = 0; l->looked < accepted && n < LOOK_MAX; n++) {
        struct entry *e = consensus_entry(g->consensus, l->looked + 1);

        if (e == NULL) /* a state file takes its place */
            break;
        look_at(l, l->looked + 1, e);
    }
    if (l->looked < accepted)
        group_turn_again(g);
    bound = mounts_bound(g->mounts, now);
    consensus_invalidated(g->consensus, bound < l->looked ? bound : l->looked);
    beat_mounts(l, wanted, now);
    until = mounts_until(g->mounts);
    return bound < l->looked && until > now ? until - now : UINT64_MAX;
}

void leases_beat(struct leases *l, uint64_t now_ms)
{
    struct group *g = l->group;

    (void)now_ms;
    if (consensus_started(g->consensus))
        consensus_refuse_leases(g->consensus, !may_grant(g));
}
