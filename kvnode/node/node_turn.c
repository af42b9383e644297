/* What ties the parts of a running node together: what it does for its group, and what happens in each turn
 * of the loop and at each heartbeat.
 *
 * A turn of the loop: input is handled; then node_turn_end() has the group do what follows from it, and
 * writes all output. */
#include "kvnode/client/past.h"
#include "kvnode/client/serve.h"
#include "kvnode/node/node_state.h"
#include "kvnode/peer/door.h"
#include "kvnode/peer/peers.h"
#include "kvnode/web/web.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"

/* ---- for the group ---- */

static void on_held(void *arg, uint64_t ino, uint64_t bytes)
{
    struct node *n = arg;

    serve_held(n->serve, ino, bytes);
}

static void on_state_dropped(void *arg)
{
    struct node *n = arg;

    serve_reset(n->serve);
}

static void on_state_replaced(void *arg)
{
    struct node *n = arg;

    past_reopen(n->past);
}

static void on_written_behind(void *arg)
{
    struct node *n = arg;

    past_flushed(n->past);
}

static void on_read(void *arg, uint64_t token, uint64_t index, int code)
{
    struct node *n = arg;

    (void)index;
    if (code == KV_OK)
        door_leads(n->door, token);
}

static void on_log_shorter(void *arg, uint64_t peer, uint64_t index, uint64_t match)
{
    struct node *n = arg;

    door_log_shorter(n->door, peer, index, match);
}

static void on_contradiction(void *arg)
{
    struct node *n = arg;

    door_contradicted(n->door);
}

void node_owns_group(struct node *n)
{
    n->owner = (struct group_owner){.arg = n,
                                    .config = n->config,
                                    .loop = &n->loop,
                                    .turn = &n->turn,
                                    .log = n->log,
                                    .clock = &n->clock,
                                    .links = &n->links,
                                    .on_held = on_held,
                                    .on_state_dropped = on_state_dropped,
                                    .on_state_replaced = on_state_replaced,
                                    .on_written_behind = on_written_behind,
                                    .on_read = on_read,
                                    .on_log_shorter = on_log_shorter,
                                    .on_contradiction = on_contradiction};
}

void node_knows_itself(struct node *n)
{
    n->self.config = n->config;
    n->self.loop = &n->loop;
    n->self.group = n->group;
    n->self.door = n->door;
    n->self.clock = &n->clock;
    n->self.rivals = &n->rivals;
}

/* ---- for the door and the links ---- */

static void on_readmitted(void *arg)
{
    struct node *n = arg;

    n->anew = true;
    uv_stop(&n->loop);
}

struct door_owner node_owns_door(struct node *n)
{
    return (struct door_owner){.config = n->config,
                               .group = n->group,
                               .log = n->log,
                               .turn = &n->turn,
                               .links = &n->links,
                               .arg = n,
                               .on_readmitted = on_readmitted};
}

static const struct peer_handlers *handlers_of_group(void *arg, uint16_t number)
{
    const struct node *n = arg;

    return number == NODE_GROUP ? &n->group->handlers : NULL;
}

static void on_linked(void *arg, uint64_t peer)
{
    struct node *n = arg;

    group_linked(n->group, peer);
}

struct peers_owner node_owns_peers(struct node *n)
{
    return (struct peers_owner){.self = &n->self,
                                .streams = &n->streams,
                                .door = n->door,
                                .rivals = &n->rivals,
                                .skew = &n->clock.skew,
                                .arg = n,
                                .group = handlers_of_group,
                                .on_linked = on_linked};
}

/* ---- turns and beats ---- */

/* The end of this turn looks. */
static void on_later(uv_timer_t *timer)
{
    (void)timer;
}

void node_turn_end(struct node *n)
{
    uint64_t later;

    web_turn_begin(n->web);
    later = group_turn_end(n->group);
    if (later != UINT64_MAX)
        uv_timer_start(&n->later, on_later, later, 0);
    streams_flush(&n->streams);
    web_turn_end(n->web);
    group_turn_over(n->group);
    turn_end(&n->turn);
}

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

static void watch_clock(struct node *n, uint64_t now)
{
    struct voters voters = {.n = 0};

    consensus_members(n->group->consensus, &voters, add_voter);
    clock_watch_beat(&n->clock, n->config->id, voters.ids, voters.n, now);
}

void node_beat(struct node *n)
{
    uint64_t now = clock_boot_ms(), since = clock_boot_ns();

    door_beat(n->door, now);
    peers_beat(n->peers, now);
    serve_beat(n->serve, now);
    web_beat(n->web, now);
    watch_clock(n, now);
    group_beat(n->group, now);
    turn_part(&n->turn, since, "beat", "", 0);
}
