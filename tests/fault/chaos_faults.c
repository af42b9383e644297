/* Whatever is struck, a majority of the disks keeps what was synced: disks fail
 * one at a time, and a power cut forgets only what was not. So an acknowledged
 * write has to survive every round. */
#include "tests/fault/chaos_faults.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "tests/fault/chaos_clients.h"
#include "tests/fault/lib/clocks.h"
#include "tests/fault/lib/net.h"

#define LEADER 1u
#define FOLLOWER 2u /* any */
#define OTHER 4u    /* the other one */
#define ALL (LEADER | FOLLOWER | OTHER)
#define EXIT_DAMAGED 70
#define DAMAGED_MS 20000 /* until a node has met its disk's fault: it writes its state now and then */
#define SERVES_MS 120000
#define SECOND INT64_C(1000000000)
#define HOUR (3600 * SECOND)

/* Masks of whom it strikes. */
struct fault {
    const char *name;
    unsigned kill, stop, sleep, cut, mute, deaf;
    unsigned disk; /* gets the order, upon which the node has to end by itself */
    const char *order;
    unsigned full;
    unsigned power; /* goes; of a node whose disk is full or failed when it has felt that */
};

static const struct fault faults[] = {
    {"the leader is killed", .kill = LEADER},
    {"a follower is killed", .kill = FOLLOWER},
    {"leader and follower are killed", .kill = LEADER | FOLLOWER},
    {"both followers are killed", .kill = FOLLOWER | OTHER},
    {"all are killed", .kill = ALL},
    {"the leader is stopped", .stop = LEADER},
    {"a follower is stopped", .stop = FOLLOWER},
    {"leader and follower are stopped", .stop = LEADER | FOLLOWER},
    {"the leader's machine sleeps", .sleep = LEADER},
    {"a follower's machine sleeps", .sleep = FOLLOWER},
    {"the leader is cut off", .cut = LEADER},
    {"a follower is cut off", .cut = FOLLOWER},
    {"what the leader sends is lost", .mute = LEADER},
    {"what the leader is sent is lost", .deaf = LEADER},
    {"the leader is cut off, a follower is killed", .cut = LEADER, .kill = FOLLOWER},
    {"the leader's log.db cannot be synced", .disk = LEADER, .order = "fsync-errors 1 log.db"},
    {"a follower's log.db cannot be synced, then its power goes", .disk = FOLLOWER,
     .order = "fsync-errors -1 log.db", .power = FOLLOWER},
    {"writes of the leader's log.db fail", .disk = LEADER, .order = "write-errors 2 log.db-wal"},
    {"writes of a follower's state.db fail", .disk = FOLLOWER, .order = "write-errors 2 state.db-wal"},
    {"the leader's state.db cannot be synced", .disk = LEADER, .order = "fsync-errors -1 state.db"},
    {"the leader's disk fails, a follower is killed", .disk = LEADER, .order = "write-errors -1",
     .kill = FOLLOWER},
    {"the leader's disk is full", .full = LEADER},
    {"a follower's disk is full", .full = FOLLOWER},
    {"a follower's disk is full, then all lose power", .full = FOLLOWER, .power = ALL},
    {"the leader loses power", .power = LEADER},
    {"a follower loses power, the leader is killed", .power = FOLLOWER, .kill = LEADER},
    {"all lose power", .power = ALL},
};

#define N_FAULTS (sizeof faults / sizeof faults[0])

static bool down[NODES], stopped[NODES], asleep[NODES], cut[NODES], mute[NODES], deaf[NODES];
static bool full[NODES], fails[NODES];
static size_t log_from[NODES]; /* what they said since the round began */
static struct disk disks[NODES];
static bool has_disks;
static unsigned deck[N_FAULTS], deck_left;

/* Nodes, each time. */
static struct {
    unsigned killed, stopped, asleep, cut, one_way, failed, full, said_full, unpowered, torn, jumps;
    uint64_t forgotten;
} counts;

/* ---- processes and network ---- */

/* On a bad disk a node that was only just starting gives that up. */
static bool gave_up_starting(unsigned i)
{
    const struct cluster_node *n = &cluster->nodes[i];

    return WIFEXITED(n->status) && WEXITSTATUS(n->status) == 1 &&
           strstr(cluster_log_since(cluster, i, log_from[i]), "cannot start") != NULL;
}

/* A node that nothing was done to runs, and on a full disk as well. */
static void look_after(unsigned i)
{
    if (down[i] || !cluster_ended(cluster, i, 0))
        return;
    down[i] = true;
    if (!full[i] || !gave_up_starting(i))
        violation("%s ended by itself, status %d", cluster->nodes[i].name, cluster->nodes[i].status);
}

static void stop(unsigned i)
{
    cluster_signal(cluster, i, SIGSTOP);
    stopped[i] = true;
    counts.stopped++;
}

static void kill_node(unsigned i)
{
    look_after(i);
    cluster_signal(cluster, i, SIGKILL);
    down[i] = true;
    counts.killed++;
}

static void cut_off(unsigned i)
{
    cut[i] = net_cut(cluster->net, i, true);
    counts.cut++;
}

/* Only what it sends, or only what it is sent, is lost. */
static void cut_one_way(unsigned i, bool out, bool on)
{
    unsigned k;

    for (k = 0; k < NODES; k++)
        if (k != i)
            net_cut_way(cluster->net, out ? i : k, out ? k : i, on);
    *(out ? &mute[i] : &deaf[i]) = on;
    counts.one_way += on;
}

/* ---- clocks ---- */

/* The time of day is set, and stays so. */
static void jump(struct dice *dice, char *text_out, size_t size)
{
    static const int64_t offsets[] = {0, 30 * SECOND, -30 * SECOND, HOUR, -HOUR, 8760 * HOUR, -8760 * HOUR};
    volatile struct clock_offsets *o;
    unsigned i = (unsigned)dice_roll(dice, NODES);
    int64_t was;

    o = cluster->nodes[i].clock;
    was = o->wall_ns;
    o->wall_ns = offsets[dice_roll(dice, sizeof offsets / sizeof offsets[0])];
    if (o->wall_ns == was)
        return;
    counts.jumps++;
    snprintf(text_out, size, "; %s's time of day is off by %" PRId64 " s", cluster->nodes[i].name,
             (int64_t)(o->wall_ns / SECOND));
}

/* It does not run, and when it does every deadline has passed. */
static void put_to_sleep(struct dice *dice, unsigned i)
{
    static const int64_t lengths[] = {5 * SECOND, 60 * SECOND, 12 * HOUR};
    int64_t ns = lengths[dice_roll(dice, sizeof lengths / sizeof lengths[0])];
    volatile struct clock_offsets *o = cluster->nodes[i].clock;

    cluster_signal(cluster, i, SIGSTOP);
    o->boot_ns += ns;
    o->wall_ns += ns;
    asleep[i] = true;
    counts.asleep++;
}

/* ---- disks ---- */

static void order(unsigned i, const char *what)
{
    if (!disk_order(&disks[i], what, NULL))
        violation("%s: the disk does not obey", cluster->nodes[i].name);
}

static void fill_disk(struct dice *dice, unsigned i)
{
    char text[32];

    snprintf(text, sizeof text, "space %u", (unsigned)dice_roll(dice, 65536));
    order(i, text);
    full[i] = true;
    counts.full++;
}

/* A node whose disk failed stops itself, and says so. */
static void ends_by_itself(unsigned i, const char *fault)
{
    const struct cluster_node *n = &cluster->nodes[i];

    if (!cluster_ended(cluster, i, DAMAGED_MS)) {
        violation("%s goes on after \"%s\"", n->name, fault);
        return;
    }
    down[i] = true;
    if ((!WIFEXITED(n->status) || WEXITSTATUS(n->status) != EXIT_DAMAGED) && !gave_up_starting(i))
        violation("%s: after \"%s\" status %d", n->name, fault, n->status);
}

static void cut_power(struct dice *dice, unsigned mask)
{
    uint64_t numbers[2];
    bool torn = dice_roll(dice, 2) == 0;
    unsigned i;

    for (i = 0; i < NODES; i++) {
        if ((mask >> i & 1) == 0)
            continue;
        look_after(i);
        down[i] = true;
        counts.unpowered++;
        counts.torn += torn;
    }
    if (!disks_cut(disks, cluster, mask, torn, numbers))
        violation("the power does not go as it should");
    counts.forgotten += numbers[0];
}

static bool says_full(unsigned i)
{
    struct view v;

    return cluster_view(cluster, i, 500, &v) && strstr(v.warnings, "full") != NULL;
}

static void mend_disk(unsigned i)
{
    if (full[i])
        order(i, "space -1");
    if (fails[i]) {
        order(i, "fsync-errors 0");
        order(i, "write-errors 0");
    }
    full[i] = fails[i] = false;
}

/* ---- striking ---- */

static bool possible(const struct fault *f)
{
    if ((f->cut | f->mute | f->deaf) != 0 && !cluster->options.namespaces)
        return false;
    return (f->disk | f->full | f->power) == 0 || has_disks;
}

static const struct fault *next_fault(struct dice *dice)
{
    unsigned i, k;

    if (deck_left == 0)
        for (i = 0; i < N_FAULTS; i++)
            if (possible(&faults[i]))
                deck[deck_left++] = i;
    k = (unsigned)dice_roll(dice, deck_left);
    i = deck[k];
    deck[k] = deck[--deck_left];
    return &faults[i];
}

/* Calls for each node whose role is in the mask. */
#define EACH(roles, nodes, i)                                                                                \
    for (unsigned each = 0; each < NODES; each++)                                                            \
        if (((roles) >> each & 1) != 0 && ((i) = (nodes)[each], true))

void faults_strike(struct dice *dice, unsigned ms, char *text_out, size_t size)
{
    const struct fault *f = next_fault(dice);
    unsigned nodes[NODES], power = 0, i;
    char also[80] = "";

    nodes[0] = cluster_leader(cluster, 15000);
    if (nodes[0] == CLUSTER_MAX) {
        violation("there is no leader");
        return;
    }
    nodes[1] = (nodes[0] + 1 + (unsigned)dice_roll(dice, 2)) % NODES;
    nodes[2] = NODES - nodes[0] - nodes[1];
    for (i = 0; i < NODES; i++)
        log_from[i] = cluster_log_size(cluster, i);
    if (dice_roll(dice, 2) == 0)
        jump(dice, also, sizeof also);
    snprintf(text_out, size, "%s%s", f->name, also);

    EACH(f->disk, nodes, i)
    {
        /* One that copies what an earlier fault left doubtful would not meet this one. */
        if (!cluster_serves(cluster, i, SERVES_MS))
            violation("%s does not serve", cluster->nodes[i].name);
        order(i, f->order);
        fails[i] = true;
        counts.failed++;
    }
    EACH(f->full, nodes, i) fill_disk(dice, i);
    EACH(f->power, nodes, i) power |= 1u << i;
    if (power != 0 && (f->disk | f->full) == 0)
        cut_power(dice, power);
    EACH(f->cut, nodes, i) cut_off(i);
    EACH(f->mute, nodes, i) cut_one_way(i, true, true);
    EACH(f->deaf, nodes, i) cut_one_way(i, false, true);
    EACH(f->kill, nodes, i) kill_node(i);
    EACH(f->stop, nodes, i) stop(i);
    EACH(f->sleep, nodes, i) put_to_sleep(dice, i);
    pause_ms(ms);
    EACH(f->full, nodes, i) counts.said_full += says_full(i);
    EACH(f->disk, nodes, i) ends_by_itself(i, f->order);
    if (power != 0 && (f->disk | f->full) != 0)
        cut_power(dice, power);
}

void faults_heal(void)
{
    unsigned i;

    for (i = 0; i < NODES; i++) {
        look_after(i);
        mend_disk(i);
        if (mute[i])
            cut_one_way(i, true, false);
        if (deaf[i])
            cut_one_way(i, false, false);
        if (stopped[i] || asleep[i])
            cluster_signal(cluster, i, SIGCONT);
        if (cut[i])
            net_cut(cluster->net, i, false);
        if (down[i])
            cluster_start(cluster, i);
        stopped[i] = asleep[i] = down[i] = cut[i] = false;
    }
}

void faults_print(void)
{
    printf("# nodes killed %u times, stopped %u, asleep %u, cut off %u, one way %u; ", counts.killed,
           counts.stopped, counts.asleep, counts.cut, counts.one_way);
    printf("disks failed %u, full %u (%u said so), without power %u (torn %u, %" PRIu64
           " changes forgotten); ",
           counts.failed, counts.full, counts.said_full, counts.unpowered, counts.torn, counts.forgotten);
    printf("clocks set %u\n", counts.jumps);
}

/* ---- life ---- */

bool faults_init(struct dice *dice)
{
    unsigned i;

    has_disks = disk_unavailable() == NULL;
    if (!has_disks)
        printf("# no disk fails: %s\n", disk_unavailable());
    for (i = 0; has_disks && i < NODES; i++)
        if (!disk_under(&disks[i], cluster, i, dice_roll(dice, UINT64_MAX)))
            return false;
    return true;
}

bool faults_deinit(void)
{
    return disks_stop(disks, cluster);
}
