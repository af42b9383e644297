#include <stdio.h>
#include <string.h>

#include "sync/base/error.h"
#include "tests/sim/sim.h"

static double crash_rate;
static int64_t submit_gap;
static int64_t quiet_until; /* nobody submits before that */

static void each_leader(void (*act)(struct node *n))
{
    for (int i = 1; i <= MAX_NODES; i++)
        if (node_leads(&world.nodes[i]) && world.nodes[i].paused_until <= world.now)
            act(&world.nodes[i]);
}

/* ---- what clients and administrators ask ---- */

static void submit(struct node *n)
{
    static uint64_t unique;
    struct entry *entries[8];
    size_t count = (size_t)rnd_range(1, 6);
    int result;

    for (size_t i = 0; i < count; i++) {
        uint8_t data[64] = {0};

        unique++;
        memcpy(data, &unique, sizeof unique);
        entries[i] = entry_new(ENTRY_COMMAND, data, (size_t)rnd_range(8, 64));
    }
    result = engine_submit(n->engine, node_clock(n), entries, count, NULL);
    for (size_t i = 0; i < count; i++)
        entry_put(entries[i]);
    node_check(n, result == KV_E_NOTLEADER ? 0 : result, "submit");
}

/* One random change of one server; false: none that makes sense. */
static bool change_one(struct node *n, struct configuration *c)
{
    int id = (int)rnd_range(1, MAX_NODES);
    struct server *s = configuration_find(c, (uint64_t)id);
    char address[16];

    if (s == NULL) {
        snprintf(address, sizeof address, "n%d", id);
        configuration_add(c, (uint64_t)id, address, SERVER_STANDBY);
        if (!world.nodes[id].up && world.nodes[id].lives == 0)
            node_start(&world.nodes[id]);
        return true;
    }
    if (s->role == SERVER_VOTER) {
        unsigned voters = configuration_voters(c);

        if (voters <= 1 || (voters <= 3 && rnd_chance(0.7)))
            return false;
        if (rnd_chance(0.5))
            configuration_remove(c, (uint64_t)id);
        else
            s->role = SERVER_STANDBY;
        return true;
    }
    if (rnd_chance(0.3)) {
        configuration_remove(c, (uint64_t)id);
        return true;
    }
    if (engine_match_index(n->engine, (uint64_t)id) + 50 < engine_last_index(n->engine))
        return false;
    s->role = SERVER_VOTER;
    return true;
}

static void change(struct node *n)
{
    struct configuration c;
    int result;

    engine_configuration(n->engine, &c);
    if (!change_one(n, &c))
        return;
    result = engine_change(n->engine, node_clock(n), &c);
    if (result == 0) {
        counters.changes++;
        trace("node %d changes the configuration at %lu", n->id, engine_last_index(n->engine));
    }
    node_check(n, result > 0 && result != KV_E_PROTOCOL ? 0 : result, "change");
}

static void transfer_leadership(struct node *n)
{
    int result = engine_transfer(n->engine, node_clock(n), (uint64_t)rnd_range(0, MAX_NODES));

    if (result == 0) {
        counters.leader_transfers++;
        trace("node %d hands leadership over", n->id);
    }
    node_check(n, result > 0 ? 0 : result, "transfer");
}

static void read_index(struct node *n)
{
    int64_t count = rnd_range(1, 3);

    for (int64_t i = 0; i < count; i++) {
        int result = engine_read_index(n->engine, node_clock(n), truth_read_begins(n->id));

        if (result != 0)
            truth_read_refused();
        if (result < 0)
            violation("node %d: read_index gives %d", n->id, result);
    }
    truth_lease_read(n);
    node_check(n, 0, "read");
}

/* ---- what goes wrong ---- */

/* What tries leases hardest: another voter has heard nothing of the leader for
 * long and stands for election, just when one that would refuse it, since it
 * has heard the leader, restarts and has forgotten that. */
static void begin_forgetting(struct node *leader)
{
    struct configuration c;
    uint64_t candidate, voter;

    engine_configuration(leader->engine, &c);
    candidate = c.servers[rnd_range(0, c.n - 1)].id;
    voter = c.servers[rnd_range(0, c.n - 1)].id;
    if (candidate == voter || candidate == (uint64_t)leader->id || voter == (uint64_t)leader->id)
        return;
    quiet_until = world.now + 4000; /* so that the candidate's log is up to date */
    memset(world.cut, 0, sizeof world.cut);
    world.cut[leader->id][candidate] = world.cut[candidate][leader->id] = true;
    events_push(world.now + rnd_range(900, 2500), EVENT_FORGET, (int)voter, NULL);
}

static void forget(struct node *n)
{
    if (!n->up || world.healed)
        return;
    for (int i = 1; i <= MAX_NODES; i++)
        if (node_leads(&world.nodes[i]))
            world.cut[i][n->id] = world.cut[n->id][i] = true;
    node_crash(n);
    events_push(world.now + rnd_range(0, 20), EVENT_RESTART, n->id, NULL);
}

static void look_somewhere(void)
{
    int id = (int)rnd_range(1, MAX_NODES);

    for (int i = 0; i < MAX_NODES && world.nodes[id].lives == 0; i++)
        id = id % MAX_NODES + 1;
    lease_look(&world.nodes[id]);
}

static void pause_some(void)
{
    struct node *n = &world.nodes[rnd_range(1, MAX_NODES)];

    if (!n->up)
        return;
    n->paused_until = world.now + rnd_range(20, 1500);
    counters.pauses++;
    trace("node %d is stopped for %ld ms", n->id, n->paused_until - world.now);
}

/* What tries a holder's start hardest: it is back, and level, while its mount has not noticed yet. */
static void restart_holder(int id)
{
    for (int i = 0; i < MAX_NODES; i++, id = id % MAX_NODES + 1) {
        struct node *n = &world.nodes[id];

        if (!n->up || engine_role(n->engine) == ENGINE_LEADER ||
            engine_lease_until(n->engine) <= node_clock(n))
            continue;
        node_crash(n);
        events_push(world.now + rnd_range(1, 10), EVENT_RESTART, id, NULL);
        return;
    }
}

static void crash_some(void)
{
    int id = (int)rnd_range(1, MAX_NODES);

    if (rnd_chance(0.2)) {
        each_leader(begin_forgetting);
        events_push(world.now + rnd_range(50, 4000), EVENT_CRASH, 0, NULL);
        return;
    }
    if (options.leases && rnd_chance(0.3)) {
        restart_holder(id);
        events_push(world.now + rnd_range(50, 2000), EVENT_CRASH, 0, NULL);
        return;
    }
    if (rnd_chance(0.3))
        for (int i = 1; i <= MAX_NODES; i++)
            if (node_leads(&world.nodes[i]))
                id = i;
    if (world.nodes[id].up) {
        node_crash(&world.nodes[id]);
        events_push(world.now + (rnd_chance(0.4) ? rnd_range(0, 100) : rnd_range(100, 6000)), EVENT_RESTART,
                    id, NULL);
    }
    if (rnd_chance(0.03)) /* a power cut */
        for (int i = 1; i <= MAX_NODES; i++)
            if (world.nodes[i].up) {
                node_crash(&world.nodes[i]);
                events_push(world.now + rnd_range(0, 3000), EVENT_RESTART, i, NULL);
            }
    events_push(world.now + rnd_range(50, (int64_t)(12000 / crash_rate)), EVENT_CRASH, 0, NULL);
}

static void write_behind(void)
{
    struct node *n = &world.nodes[rnd_range(1, MAX_NODES)];

    if (n->up && !engine_installing(n->engine) && n->state.applied > n->disk.state.applied) {
        n->disk.state = n->state;
        node_check(n, engine_state_durable(n->engine, node_clock(n), n->state.applied), "state_durable");
    }
    events_push(world.now + rnd_range(20, 600), EVENT_STATE_DURABLE, 0, NULL);
}

static void heal(void)
{
    world.healed = world.calm = true;
    memset(world.cut, 0, sizeof world.cut);
    trace("no more faults");
    for (int i = 1; i <= MAX_NODES; i++)
        world.nodes[i].paused_until = 0;
    for (int i = 1; i <= MAX_NODES; i++)
        if (!world.nodes[i].up && world.nodes[i].lives > 0)
            node_start(&world.nodes[i]);
}

static void mark(void)
{
    unsigned leaders = 0;

    for (int i = 1; i <= MAX_NODES; i++) {
        struct node *n = &world.nodes[i];

        if (!node_leads(n))
            continue;
        leaders++;
        submit(n);
        world.mark_read_pending = engine_read_index(n->engine, node_clock(n), UINT64_MAX) == 0;
    }
    world.mark_commit = truth_committed();
    if (leaders == 0)
        violation("liveness: no leader %ld s after the faults stopped", options.heal_ms / 1000 - 10);
}

/* ---- */

void faults_begin(void)
{
    crash_rate = (double)rnd_range(1, 10);
    submit_gap = rnd_range(2, 60);
    quiet_until = 0;
    events_push(rnd_range(1, 50), EVENT_SUBMIT, 0, NULL);
    events_push(rnd_range(1, 500), EVENT_READ, 0, NULL);
    events_push(rnd_range(20, 600), EVENT_STATE_DURABLE, 0, NULL);
    events_push(options.fault_ms, EVENT_HEAL, 0, NULL);
    events_push(options.fault_ms + options.heal_ms - 10000, EVENT_MARK, 0, NULL);
    if (options.leases)
        events_push(rnd_range(1, 300), EVENT_LOOK, 0, NULL);
    if (!options.no_change)
        events_push(rnd_range(2000, 6000), EVENT_CHANGE, 0, NULL);
    if (!options.no_transfer)
        events_push(rnd_range(2000, 8000), EVENT_TRANSFER, 0, NULL);
    if (options.no_faults) {
        world.healed = true;
        return;
    }
    network_random();
    events_push(rnd_range(500, 4000), EVENT_NETWORK, 0, NULL);
    if (options.leases) {
        events_push(rnd_range(100, 3000), EVENT_DISTURB, 0, NULL);
        events_push(rnd_range(500, 5000), EVENT_PAUSE, 0, NULL);
    }
    events_push(rnd_range(500, 5000), EVENT_SLOW, 0, NULL);
    if (!options.no_crash)
        events_push(rnd_range(500, 5000), EVENT_CRASH, 0, NULL);
}

void faults_on_event(struct event *e)
{
    switch (e->type) {
    case EVENT_SUBMIT:
        if (world.healed || world.now >= quiet_until)
            each_leader(submit);
        events_push(world.now + rnd_range(1, submit_gap * 2), EVENT_SUBMIT, 0, NULL);
        break;
    case EVENT_READ:
        each_leader(read_index);
        events_push(world.now + rnd_range(1, 60), EVENT_READ, 0, NULL);
        break;
    case EVENT_LOOK:
        look_somewhere();
        events_push(world.now + rnd_range(1, 6), EVENT_LOOK, 0, NULL);
        break;
    case EVENT_LETTER:
        lease_on_letter(&world.nodes[e->node]);
        break;
    case EVENT_DISTURB:
        if (world.healed)
            break;
        lease_disturb(&world.nodes[rnd_range(1, MAX_NODES)]);
        events_push(world.now + rnd_range(100, 3000), EVENT_DISTURB, 0, NULL);
        break;
    case EVENT_PAUSE:
        if (world.healed)
            break;
        pause_some();
        events_push(world.now + rnd_range(300, 5000), EVENT_PAUSE, 0, NULL);
        break;
    case EVENT_CHANGE:
        each_leader(change);
        if (!world.calm)
            events_push(world.now + (rnd_chance(0.5) ? rnd_range(1, 60) : rnd_range(200, 4000)), EVENT_CHANGE,
                        0, NULL);
        break;
    case EVENT_TRANSFER:
        each_leader(transfer_leadership);
        if (!world.calm)
            events_push(world.now + rnd_range(300, 9000), EVENT_TRANSFER, 0, NULL);
        break;
    case EVENT_CRASH:
        if (!world.healed)
            crash_some();
        break;
    case EVENT_RESTART:
        if (!world.nodes[e->node].up)
            node_start(&world.nodes[e->node]);
        break;
    case EVENT_FORGET:
        forget(&world.nodes[e->node]);
        break;
    case EVENT_NETWORK:
        if (world.healed)
            break;
        network_random();
        events_push(world.now + (rnd_chance(0.3) ? rnd_range(50, 800) : rnd_range(500, 8000)), EVENT_NETWORK,
                    0, NULL);
        break;
    case EVENT_SLOW:
        if (world.healed)
            break;
        world.nodes[rnd_range(1, MAX_NODES)].slow_until = world.now + rnd_range(500, 6000);
        events_push(world.now + rnd_range(1000, 8000), EVENT_SLOW, 0, NULL);
        break;
    case EVENT_STATE_DURABLE:
        write_behind();
        break;
    case EVENT_HEAL:
        heal();
        break;
    case EVENT_MARK:
        mark();
        break;
    default:
        break;
    }
}

void faults_check_end(void)
{
    struct node *leader = NULL;
    struct configuration c;
    uint64_t change_at;

    for (int i = 1; i <= MAX_NODES; i++)
        if (node_leads(&world.nodes[i]) &&
            (leader == NULL || engine_term(world.nodes[i].engine) > engine_term(leader->engine)))
            leader = &world.nodes[i];
    if (leader == NULL)
        violation("liveness: no leader at the end");
    if (truth_committed() < world.mark_commit + 10)
        violation("liveness: commits are stuck at %lu (%lu ten seconds ago)", truth_committed(),
                  world.mark_commit);
    if (world.mark_read_pending)
        violation("liveness: a read was not answered for ten seconds");
    engine_configuration(leader->engine, &c);
    for (unsigned i = 0; i < c.n; i++) {
        struct node *n = &world.nodes[c.servers[i].id];

        if (n->state.applied < world.mark_commit)
            violation("liveness: member %d (%s) has applied %lu, %lu was committed ten seconds ago", n->id,
                      c.servers[i].role == SERVER_VOTER ? "voter" : "standby", n->state.applied,
                      world.mark_commit);
    }
    change_at = engine_uncommitted_change(leader->engine);
    if (change_at != 0 && engine_commit_index(leader->engine) > change_at + 200)
        violation(
            "liveness: leader %d can never change the configuration again: %lu is not reported, commit %lu",
            leader->id, change_at, engine_commit_index(leader->engine));
}
