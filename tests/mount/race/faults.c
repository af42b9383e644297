#include "tests/mount/race/faults.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fault/lib/net.h"

#define LEADER_MS 15000
#define CAUGHT_UP_MS 300 /* after it goes on, until what has come meanwhile is done */
#define LEADER 1u
#define FOLLOWER 2u
#define OTHER 4u

/* Masks of nodes by their part. */
struct fault {
    const char *name;
    unsigned kill, stop, cut, mute, deaf;
    bool stops_mount, kills_mount;
    unsigned most_ms;
};

static const struct fault faults[] = {
    {"kvfs is stopped", .stops_mount = true, .most_ms = 600},
    {"the leader is killed", .kill = LEADER, .most_ms = 1500},
    {"a follower is stopped", .stop = FOLLOWER, .most_ms = 1500},
    {"a follower is cut off", .cut = FOLLOWER, .most_ms = 2000},
    {"the leader is stopped", .stop = LEADER, .most_ms = 2000},
    {"a follower is killed", .kill = FOLLOWER, .most_ms = 1500},
    {"the leader is cut off", .cut = LEADER, .most_ms = 2500},
    {"a follower is stopped for a moment", .stop = FOLLOWER, .most_ms = 150},
    {"the leader is stopped for a moment", .stop = LEADER, .most_ms = 150},
    {"kvfs is stopped for a moment", .stops_mount = true, .most_ms = 120},
    {"both followers are stopped for a moment", .stop = FOLLOWER | OTHER, .most_ms = 300},
    {"kvfs is stopped, the leader is killed", .stops_mount = true, .kill = LEADER, .most_ms = 1200},
    {"what the leader sends is lost", .mute = LEADER, .most_ms = 2000},
    {"what the leader is sent is lost", .deaf = LEADER, .most_ms = 2000},
    {"what a follower sends is lost", .mute = FOLLOWER, .most_ms = 2000},
    {"what a follower is sent is lost", .deaf = FOLLOWER, .most_ms = 2000},
    {"all are killed", .kill = LEADER | FOLLOWER | OTHER, .most_ms = 500},
    {"kvfs is killed", .kills_mount = true, .most_ms = 300},
};

#define N_FAULTS (sizeof faults / sizeof faults[0])

static struct cluster *cluster;
static struct mounted *mounts;
static struct dice *dice;
static bool may_kill;
static unsigned deck[N_FAULTS], deck_left;
static unsigned struck[N_FAULTS];

void faults_begin(struct cluster *c, struct mounted *m, struct dice *d, bool kills)
{
    cluster = c;
    mounts = m;
    dice = d;
    may_kill = kills;
    deck_left = 0;
}

static bool possible(const struct fault *f)
{
    if (f->kills_mount && !may_kill)
        return false;
    return (f->cut | f->mute | f->deaf) == 0 || cluster->options.namespaces;
}

static const struct fault *draw(void)
{
    unsigned k, i;

    if (deck_left == 0)
        for (i = 0; i < N_FAULTS; i++)
            if (possible(&faults[i]))
                deck[deck_left++] = i;
    k = (unsigned)dice_roll(dice, deck_left);
    i = deck[k];
    deck[k] = deck[--deck_left];
    struck[i]++;
    return &faults[i];
}

bool faults_mount_again(unsigned m, const char *options)
{
    static const unsigned order[MOUNTS][3] = {{0, 1, 2}, {1, 2, 0}, {2, 0, 1}};
    struct mounted *mount = &mounts[m], made; /* the child that becomes kvfs writes what it sees of a fork */
    char name[8];

    snprintf(name, sizeof name, "m%u", m + 1);
    race->down[m]++;
    if (mount->pid > 0) {
        kill(mount->pid, SIGKILL);
        waitpid(mount->pid, NULL, 0);
        guard_process_gone(cluster->guard, mount->pid);
        mount->pid = 0;
        umount2(mount->path, MNT_DETACH);
        guard_mount_gone(cluster->guard, mount->connection);
    }
    if (!mount_start(&made, cluster, name, order[m], 3, options))
        return false;
    *mount = made;
    race->down[m]++;
    return true;
}

static void stop_mount(unsigned m, bool stop)
{
    if (stop)
        race->stopped[m]++;
    kill(mounts[m].pid, stop ? SIGSTOP : SIGCONT);
    if (stop)
        return;
    pause_ms(CAUGHT_UP_MS);
    race->stopped[m]++;
}

static void cut_one_way(unsigned i, bool out, bool on)
{
    for (unsigned k = 0; k < cluster->n; k++)
        if (k != i)
            net_cut_way(cluster->net, out ? i : k, out ? k : i, on);
}

/* One node, on: the fault begins; else it ends. */
static bool strike_node(const struct fault *f, unsigned i, unsigned part, bool on)
{
    if ((f->cut & part) != 0)
        net_cut(cluster->net, i, on);
    if ((f->mute & part) != 0)
        cut_one_way(i, true, on);
    if ((f->deaf & part) != 0)
        cut_one_way(i, false, on);
    if ((f->stop & part) != 0)
        cluster_signal(cluster, i, on ? SIGSTOP : SIGCONT);
    if ((f->kill & part) == 0)
        return true;
    if (!on)
        return cluster_start(cluster, i);
    cluster_signal(cluster, i, SIGKILL);
    return true;
}

bool faults_next(char *text_out, size_t size)
{
    const struct fault *f = draw();
    unsigned m = (unsigned)dice_roll(dice, MOUNTS), ms = 20 + (unsigned)dice_roll(dice, f->most_ms);
    unsigned nodes[3];
    bool ok = true;

    nodes[0] = cluster_leader(cluster, LEADER_MS);
    if (nodes[0] >= cluster->n) {
        violation(FAULT_OTHER, "there is no leader");
        return false;
    }
    nodes[1] = (nodes[0] + 1 + (unsigned)dice_roll(dice, 2)) % 3;
    nodes[2] = 3 - nodes[0] - nodes[1];
    snprintf(
        text_out, size, "%s (%s, mount %u) for %u ms", f->name,
        cluster->nodes[nodes[((f->kill | f->stop | f->cut | f->mute | f->deaf) & LEADER) != 0 ? 0 : 1]].name,
        m, ms);
    printf("# %.6f: %s\n", (double)notes_now() / 1e9, text_out);
    fflush(stdout);
    if (f->stops_mount)
        stop_mount(m, true);
    for (unsigned i = 0; i < 3; i++)
        strike_node(f, nodes[i], 1u << i, true);
    if (f->kills_mount)
        ok = faults_mount_again(m, "timeout=5,read=strict");
    pause_ms(ms);
    for (unsigned i = 0; i < 3; i++)
        ok = strike_node(f, nodes[i], 1u << i, false) && ok;
    if (f->stops_mount)
        stop_mount(m, false);
    return ok;
}

void faults_cut(unsigned node, bool cut)
{
    net_cut(cluster->net, node, cut);
}

void faults_print(void)
{
    for (unsigned i = 0; i < N_FAULTS; i++)
        if (struck[i] > 0)
            printf("# %u times %s\n", struck[i], faults[i].name);
}
