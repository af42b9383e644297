/* Disks that fail and are slow, one node's at a time, while clients write. A node
 * whose fsync or write failed stops and says so; it claims nothing that it cannot
 * keep, and is back on a good disk. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "sync/base/clock.h"
#include "tests/disk/lib/rig.h"

#define ALL ((1u << RIG_NODES) - 1)
#define EXIT_DAMAGED 70
#define SLOW_MS 200

static struct rig rig;

static int teardown(void **state)
{
    (void)state;
    return rig_stop(&rig) ? 0 : -1;
}

static void assert_writes_go_on(uint64_t n, unsigned timeout_ms)
{
    bool go_on = rig_progress(&rig, n, timeout_ms);

    if (!go_on) {
        rig.c->keep = true;
        print_message("# writers do not come on: %s\n", rig.wrong);
    }
    assert_true(go_on);
}

static unsigned leader(void)
{
    unsigned i = cluster_leader(rig.c, 15000);

    assert_int_not_equal(i, CLUSTER_MAX);
    return i;
}

static unsigned follower(void)
{
    return (leader() + 1) % RIG_NODES;
}

static void order(unsigned i, const char *what)
{
    assert_true(disk_order(&rig.disks[i], what, NULL));
}

/* Gives the order to the disk of node i, on which the node must end by itself and
 * name the file. Then the disk is good again; power: it also loses what it had not
 * kept. The node comes back, and everything is right. */
static void node_stops_and_comes_back(unsigned i, const char *fault, const char *file, bool power)
{
    size_t from = cluster_log_size(rig.c, i);
    uint64_t begin = clock_boot_ms();
    const char *said;

    order(i, fault);
    if (!cluster_ended(rig.c, i, 20000)) {
        print_message("# %s goes on after \"%s\"\n", rig.c->nodes[i].name, fault);
        rig.c->keep = true;
        fail();
    }
    begin = clock_boot_ms() - begin;
    said = cluster_log_since(rig.c, i, from);
    if (!WIFEXITED(rig.c->nodes[i].status) || WEXITSTATUS(rig.c->nodes[i].status) != EXIT_DAMAGED ||
        strstr(said, file) == NULL || strstr(said, "this process ends") == NULL) {
        print_message("# after \"%s\" status %d, it says: %s\n", fault, rig.c->nodes[i].status, said);
        fail();
    }
    assert_writes_go_on(20, 20000);
    order(i, "fsync-errors 0");
    order(i, "write-errors 0");
    if (power)
        order(i, "drop");
    if (!rig_restart(&rig, 1u << i, 20000)) {
        rig.c->keep = true;
        fail();
    }
    assert_writes_go_on(20, 20000);
    rig_assert_right(&rig);
    printf("# %s, \"%s\": ended after %llu ms\n", rig.c->nodes[i].name, fault, (unsigned long long)begin);
}

/* Everything that was promised also is on the disks. */
static void assert_kept_without_power(void)
{
    uint64_t numbers[2];

    rig_cut(&rig, ALL, false, numbers);
    assert_true(rig_restart(&rig, ALL, 20000));
    assert_writes_go_on(1, 20000);
    rig_assert_right(&rig);
}

static void begin_writing(const char *what)
{
    assert_true(rig_start(&rig, what));
    assert_true(rig_write(&rig, leader(), false));
    assert_writes_go_on(20, 30000);
}

static void a_failed_fsync_stops_the_node_and_loses_nothing(void **state)
{
    (void)state;
    begin_writing("fsync");
    node_stops_and_comes_back(follower(), "fsync-errors 1 log.db", "log.db", false);
    node_stops_and_comes_back(leader(), "fsync-errors 1 log.db", "log.db", false);
    node_stops_and_comes_back(leader(), "fsync-errors 1 log.db", "log.db", true);
    assert_kept_without_power();
    node_stops_and_comes_back(follower(), "fsync-errors -1", "log.db", false);
    node_stops_and_comes_back(leader(), "fsync-errors -1", "log.db", true);
    assert_kept_without_power();
}

static void a_failed_write_stops_the_node_and_loses_nothing(void **state)
{
    (void)state;
    begin_writing("writes");
    node_stops_and_comes_back(follower(), "write-errors 2 log.db-wal", "log.db", false);
    node_stops_and_comes_back(leader(), "write-errors 2 log.db-wal", "log.db", false);
    node_stops_and_comes_back(follower(), "write-errors -1", "", false);
    node_stops_and_comes_back(leader(), "write-errors -1", "", true);
    assert_kept_without_power();
}

static void a_state_that_cannot_be_written_stops_the_node(void **state)
{
    (void)state;
    begin_writing("state");
    node_stops_and_comes_back(follower(), "write-errors 2 state.db-wal", "state.db", false);
    node_stops_and_comes_back(leader(), "fsync-errors 1 state.db-wal", "state.db", false);
    assert_kept_without_power();
    node_stops_and_comes_back(follower(), "fsync-errors 1 state.db-wal", "state.db", true);
    node_stops_and_comes_back(leader(), "fsync-errors -1 state.db", "state.db", true);
    assert_kept_without_power();
}

/* A node that cannot start says why, and starts when the disk is good. */
static void a_node_does_not_start_on_a_disk_that_fails(void **state)
{
    static const char *const faults[] = {"fsync-errors -1", "write-errors -1"};
    unsigned k;

    (void)state;
    begin_writing("start");
    for (k = 0; k < sizeof faults / sizeof faults[0]; k++) {
        unsigned i = follower();
        size_t from;

        cluster_signal(rig.c, i, SIGKILL);
        order(i, faults[k]);
        from = cluster_log_size(rig.c, i);
        assert_true(cluster_start(rig.c, i));
        if (!cluster_ended(rig.c, i, 20000)) {
            print_message("# %s runs with \"%s\"\n", rig.c->nodes[i].name, faults[k]);
            rig.c->keep = true;
            fail();
        }
        print_message("# \"%s\": %s", faults[k], cluster_log_since(rig.c, i, from));
        assert_true(WIFEXITED(rig.c->nodes[i].status) && WEXITSTATUS(rig.c->nodes[i].status) != 0);
        order(i, "fsync-errors 0");
        order(i, "write-errors 0");
        assert_true(rig_restart(&rig, 1u << i, 20000));
        assert_writes_go_on(5, 20000);
        rig_assert_right(&rig);
    }
}

/* ---- slow disks ---- */

static uint64_t term(void)
{
    struct view v;

    assert_true(cluster_view(rig.c, leader(), 5000, &v));
    return v.term;
}

struct pace {
    uint64_t median_us, worst_us;
    size_t n;
};

static struct pace pace(unsigned writes)
{
    struct pace p;

    rig_measure(&rig, NULL, NULL);
    assert_writes_go_on(writes, 60000);
    p.median_us = rig_measure(&rig, &p.worst_us, &p.n);
    return p;
}

static void print_pace(const char *what, struct pace p)
{
    printf("# %s: %zu writes, median %.1f ms, worst %.1f ms\n", what, p.n, (double)p.median_us / 1000,
           (double)p.worst_us / 1000);
}

static void slow(unsigned i, bool is_slow)
{
    char text[32];

    snprintf(text, sizeof text, "delay %d", is_slow ? SLOW_MS : 0);
    order(i, text);
}

static void a_slow_disk_under_the_leader_starts_no_elections(void **state)
{
    unsigned who;
    uint64_t before;
    struct pace p;

    (void)state;
    begin_writing("slow leader");
    who = leader();
    before = term();
    print_pace("good disks", pace(100));
    slow(who, true);
    p = pace(20);
    print_pace("the leader's fsync takes 200 ms", p);
    printf("# term %llu before, %llu after\n", (unsigned long long)before, (unsigned long long)term());
    assert_in_range(term(), before, before + 1);
    assert_in_range(p.worst_us, 0, 5000000);
    slow(who, false);
    print_pace("good again", pace(100));
    rig_assert_right(&rig);
}

static void a_slow_disk_under_a_follower_slows_nobody_else(void **state)
{
    struct pace good, p;
    uint64_t before;
    unsigned who;

    (void)state;
    assert_true(rig_start(&rig, "slow follower"));
    assert_true(rig_write(&rig, leader(), true));
    assert_writes_go_on(20, 30000);
    before = term();
    good = pace(200);
    print_pace("good disks", good);
    who = follower();
    slow(who, true);
    p = pace(200);
    print_pace("a follower's fsync takes 200 ms", p);
    assert_int_equal(term(), before);
    /* Far below what waiting for it would take; the machine may be busy. */
    assert_in_range(p.median_us, 0, 3 * good.median_us + 20000);
    slow(who, false);
    rig_assert_right(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_failed_fsync_stops_the_node_and_loses_nothing, teardown),
        cmocka_unit_test_teardown(a_failed_write_stops_the_node_and_loses_nothing, teardown),
        cmocka_unit_test_teardown(a_state_that_cannot_be_written_stops_the_node, teardown),
        cmocka_unit_test_teardown(a_node_does_not_start_on_a_disk_that_fails, teardown),
        cmocka_unit_test_teardown(a_slow_disk_under_the_leader_starts_no_elections, teardown),
        cmocka_unit_test_teardown(a_slow_disk_under_a_follower_slows_nobody_else, teardown),
    };

    cmocka_set_test_filter(getenv("KVFS_FAULT_ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
