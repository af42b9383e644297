/* What goes wrong, and how often, is drawn anew for each run. */
#include "sync/base/clock.h"
#include "tests/sim/whole/whole.h"

/* After the last fault: when the leader is lost, and when it is back. */
#define CALM_LEADER (6 * SECOND)
#define CALM_LEADER_BACK (15 * SECOND)
/* Two questions of heal_state() after another: to hand over, then for the state. */
#define HEALING (5 * SECOND)

static int64_t crash_gap, network_gap, link_gap, disk_gap, clock_gap, transfer_gap, pause_gap;

static struct host *any(void)
{
    struct host *leader = NULL;

    for (int i = 1; i <= world.n; i++)
        if (host_leads(&world.hosts[i]))
            leader = &world.hosts[i];
    return leader != NULL && rnd_chance(0.4) ? leader : &world.hosts[rnd_range(1, world.n)];
}

static void next(int64_t gap, happening *what)
{
    if (gap != 0 && !world.calm)
        queue_at(world.now + rnd_range(gap / 10, 2 * gap), NULL, what, NULL, 0, NULL);
}

static void restart(struct host *none, void *arg, uint64_t number)
{
    struct host *h = arg;

    if (!h->up)
        host_start(h);
}

static bool intact(const struct host *h)
{
    return h->state.exists && !h->state.damaged && !h->state.lost;
}

/* The state of w can be brought up to date with any other node's log. */
static bool can_heal_others(const struct host *w, const struct host *damaged)
{
    for (int i = 1; i <= world.n; i++) {
        const struct host *h = &world.hosts[i];

        if ((h == damaged || !intact(h)) && w->state.durable + 1 < h->disk.start_index)
            return false;
    }
    return true;
}

/* A cluster needs an intact state on a node that can lead. */
static void damage(struct host *h)
{
    int healers = 0;

    for (int i = 1; i <= world.n; i++) {
        const struct host *w = &world.hosts[i];

        healers += w != h && intact(w) && can_heal_others(w, h);
    }
    if (healers == 0 || !intact(h))
        return;
    trace("n%d: state.db is damaged", h->id);
    h->state.damaged = h->state.exists;
}

/* As if its scrub had found bad old versions: memory is good, and the file loads. */
static void find_damage(struct host *h)
{
    if (!h->up || h->node.group->condition != CONDITION_SERVING)
        return;
    trace("n%d: its state.db is to be mended", h->id);
    group_condition(h->node.group, CONDITION_MENDING);
}

static void crash_one(struct host *h, bool power_cut)
{
    if (!h->up)
        return;
    host_crash(h, power_cut);
    if (options.damage && rnd_chance(0.25))
        damage(h);
    if (options.forget)
        forget_some(h);
    queue_at(world.now + (rnd_chance(0.5) ? rnd_range(0, 300 * MS) : rnd_range(0, 6 * SECOND)), NULL, restart,
             h, 0, NULL);
}

static void crash(struct host *none, void *arg, uint64_t number)
{
    if (world.calm)
        return;
    if (rnd_chance(0.05)) /* all of them, as when the light goes out */
        for (int i = 1; i <= world.n; i++)
            crash_one(&world.hosts[i], true);
    else
        crash_one(any(), rnd_chance(0.5));
    if (options.damage && rnd_chance(0.4))
        find_damage(any());
    next(crash_gap, crash);
}

static void change_network(struct host *none, void *arg, uint64_t number)
{
    if (world.calm)
        return;
    network_random();
    next(network_gap, change_network);
}

static void break_link(struct host *none, void *arg, uint64_t number)
{
    if (world.calm)
        return;
    network_break_some();
    next(link_gap, break_link);
}

static void spoil_disk(struct host *none, void *arg, uint64_t number)
{
    struct host *h = any();
    int64_t until = world.now + rnd_range(200 * MS, 5 * SECOND);

    if (world.calm)
        return;
    if (until > options.fault_us)
        until = options.fault_us;
    switch (rnd_range(0, 5)) {
    case 0:
        trace("n%d: log.db has no space", h->id);
        h->disk.full_until = until;
        break;
    case 1:
        trace("n%d: the next fsync of log.db will fail", h->id);
        h->disk.fsync_fails = h->up;
        break;
    case 2:
        h->state.slow_until = until;
        break;
    default:
        trace("n%d: log.db is slow", h->id);
        h->disk.slow_until = until;
        break;
    }
    next(disk_gap, spoil_disk);
}

static void turn_clock(struct host *none, void *arg, uint64_t number)
{
    struct host *h = any();

    if (world.calm)
        return;
    if (rnd_chance(0.6)) /* somebody sets it right */
        h->wall_offset_us = rnd_range(-300 * MS, 300 * MS);
    else
        h->wall_offset_us += rnd_range(-3600, 3600) * SECOND;
    h->clock_set_us = world.now;
    trace("n%d: another wall clock", h->id);
    next(clock_gap, turn_clock);
}

/* SIGSTOP, or a virtual machine whose clock stands still meanwhile. */
static void pause_one(struct host *none, void *arg, uint64_t number)
{
    struct host *h = any();
    int64_t time = rnd_chance(0.5) ? rnd_range(50 * MS, 800 * MS) : rnd_range(500 * MS, 6 * SECOND);

    if (world.calm)
        return;
    if (time > options.fault_us - world.now)
        time = options.fault_us - world.now;
    if (h->up && h->paused_until <= world.now) {
        /* Read leases are not for those: `lease` is off there. */
        bool machine = rnd_chance(0.5) && (!world.leases || options.plant == PLANT_STILL_CLOCK);

        trace("n%d stands still for %ld ms%s", h->id, time / MS, machine ? ", and its clock" : "");
        h->paused_until = world.now + time;
        if (machine)
            h->boot_offset_us -= time;
    }
    next(pause_gap, pause_one);
}

static void hand_over(struct host *h, void *arg, uint64_t number)
{
    counters.transfers++;
    trace("n%d hands leadership over", h->id);
    consensus_transfer(h->node.group->consensus, 0);
}

static void transfer(struct host *none, void *arg, uint64_t number)
{
    for (int i = 1; i <= world.n; i++)
        if (host_leads(&world.hosts[i]))
            queue_at(world.now, &world.hosts[i], hand_over, NULL, 0, NULL);
    next(transfer_gap, transfer);
}

/* In the calm: it has to go on without the leader, and answers must not wait for
 * it to come back. That there is no leader at this moment is no fault: until the
 * last link is there (after a lost HELLO in 5 s) a node that is cut off from the
 * leader alone can make it step down, without pre-votes. */
static void lose_leader(struct host *none, void *arg, uint64_t number)
{
    int64_t late = world.now - options.fault_us - CALM_LEADER;
    bool all_serve = true;

    for (int i = 1; i <= world.n; i++)
        all_serve = all_serve && host_serves(&world.hosts[i]);
    for (int i = 1; i <= world.n && all_serve; i++)
        if (host_leads(&world.hosts[i])) {
            world.settled = world.now;
            if (rnd_chance(0.5) || late > CALM_LEADER_BACK - 2 * CALM_LEADER) {
                queue_at(world.now, &world.hosts[i], hand_over, NULL, 0, NULL);
            } else {
                host_crash(&world.hosts[i], false);
                queue_at(options.fault_us + CALM_LEADER_BACK, NULL, restart, &world.hosts[i], 0, NULL);
            }
            return;
        }
    if (late >= ANSWER_WITHIN_ELECTIONS * (int64_t)world.hosts[1].config.election_ms * MS +
                    (options.damage || options.forget ? HEALING : 0))
        violation("liveness: %s %.1f s after the last fault", all_serve ? "no leader" : "not all nodes serve",
                  (double)(world.now - options.fault_us) / SECOND);
    queue_at(world.now + 100 * MS, NULL, lose_leader, NULL, 0, NULL);
}

static int64_t gap(int64_t from, int64_t to)
{
    return rnd_chance(0.25) ? 0 : rnd_range(from, to);
}

void faults_start(void)
{
    queue_at(options.fault_us + CALM_LEADER, NULL, lose_leader, NULL, 0, NULL);
    transfer_gap = gap(300 * MS, 5 * SECOND);
    next(transfer_gap, transfer);
    if (options.no_faults)
        return;
    crash_gap = options.forget ? rnd_range(200 * MS, 2 * SECOND) : gap(300 * MS, 6 * SECOND);
    if (options.forget)
        forget_start();
    network_gap = gap(300 * MS, 6 * SECOND);
    link_gap = gap(100 * MS, 4 * SECOND);
    disk_gap = gap(300 * MS, 5 * SECOND);
    clock_gap = gap(500 * MS, 5 * SECOND);
    pause_gap = gap(500 * MS, 8 * SECOND);
    next(crash_gap, crash);
    next(network_gap, change_network);
    next(link_gap, break_link);
    next(disk_gap, spoil_disk);
    next(clock_gap, turn_clock);
    next(pause_gap, pause_one);
}

void faults_stop(void)
{
    trace("no more faults");
    world.calm = true;
    network_calm();
    for (int i = 1; i <= world.n; i++) {
        struct host *h = &world.hosts[i];

        h->disk.fsync_fails = false;
        if (!h->up)
            host_start(h);
    }
}
