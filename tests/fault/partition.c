/* Links that lose everything, in both directions or in one, between nodes in
 * network namespaces of their own: nobody is told, connections just fall silent.
 * The majority goes on within seconds; whoever is left alone says so, refuses
 * what needs the others, and still reads what it has. When the links are back,
 * all is well without a hand. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "tests/fault/lib/caller.h"
#include "tests/fault/lib/needed.h"
#include "tests/fault/lib/net.h"
#include "tests/fault/lib/once.h"

#define NODES 3
#define GO_ON_MS 8000   /* until the majority writes again: silence is noticed, somebody is elected */
#define ANSWER_MS 11000 /* a node gives up after 9.5 s (kvnode/group/group.h) */
#define KNOW_MS 8000    /* until a node alone knows that it is */
#define HEAL_MS 20000   /* redialling has pauses of up to 5 s (sync/ssh/link.h) */

static struct cluster *cluster;
static const char *unavailable;
static unsigned generation;
static bool lost[NODES][NODES]; /* from, to */

/* ---- links ---- */

static void lose(unsigned from, unsigned to)
{
    assert_true(net_cut_way(cluster->net, from, to, true));
    lost[from][to] = true;
}

static void lose_both(unsigned a, unsigned b)
{
    lose(a, b);
    lose(b, a);
}

static void join_all(void)
{
    unsigned i, k;

    for (i = 0; i < NODES; i++) {
        for (k = 0; k < NODES; k++) {
            if (lost[i][k])
                net_cut_way(cluster->net, i, k, false);
            lost[i][k] = false;
        }
        if (cluster->nodes[i].pid != 0)
            net_cut(cluster->net, i, false);
    }
}

static void cut_cable(unsigned i)
{
    assert_true(net_cut(cluster->net, i, true));
}

static void lose_what_it_sends(unsigned i)
{
    unsigned k;

    for (k = 0; k < NODES; k++)
        if (k != i)
            lose(i, k);
}

static void lose_what_it_is_sent(unsigned i)
{
    unsigned k;

    for (k = 0; k < NODES; k++)
        if (k != i)
            lose(k, i);
}

/* ---- what is expected ---- */

/* Clients of that node write within the time, again and again. */
static void assert_goes_on(unsigned i, const char *key, char *value, size_t size)
{
    struct command_result result;
    uint64_t begin = clock_boot_ms(), first;
    struct caller c;
    unsigned n;

    caller_init(&c, cluster, i);
    c.pinned = true;
    assert_int_equal(caller_register(&c, GO_ON_MS), 0);
    first = clock_boot_ms() - begin;
    for (n = 0; n < 20; n++) {
        snprintf(value, size, "%u.%u by %u", generation, n, i);
        assert_int_equal(caller_set(&c, key, value, strlen(value), GO_ON_MS, &result), 0);
    }
    printf("#   %s writes after %llu ms, 20 writes after %llu ms\n", cluster->nodes[i].name,
           (unsigned long long)first, (unsigned long long)(clock_boot_ms() - begin));
    assert_true(clock_boot_ms() - begin < GO_ON_MS);
    caller_deinit(&c);
}

/* It refuses at once: it knows. (Before that it waits, and what waits may be done when links are back.) */
static bool is_alone(void *arg)
{
    unsigned i = *(unsigned *)arg;
    struct view v;

    return cluster_view(cluster, i, 1000, &v) && !v.quorum &&
           once_write(cluster, i, "partition/perhaps", "x", 500) == KV_E_ROFS;
}

static void assert_unavailable(int rv)
{
    assert_true(rv == KV_E_UNAVAILABLE || rv == KV_E_ROFS || rv == KV_E_UNKNOWN);
}

struct refusal {
    char key[48];
    int code;
};

/* A node alone: before it knows, and when it does. */
static void assert_refuses(unsigned i, const char *key, struct refusal *refusal_out)
{
    char out[1024];
    uint64_t begin = clock_boot_ms();
    int rv;

    snprintf(refusal_out->key, sizeof refusal_out->key, "partition/alone-%u", generation);
    refusal_out->code = once_write(cluster, i, refusal_out->key, "x", ANSWER_MS);
    printf("#   %s alone: a write: %s after %llu ms\n", cluster->nodes[i].name, error_text(refusal_out->code),
           (unsigned long long)(clock_boot_ms() - begin));
    assert_unavailable(refusal_out->code);
    assert_true(await(KNOW_MS, is_alone, &i));

    begin = clock_boot_ms();
    assert_int_equal(once_write(cluster, i, "partition/never", "x", ANSWER_MS), KV_E_ROFS);
    assert_true(clock_boot_ms() - begin < 1000);
    begin = clock_boot_ms();
    rv = once_read(cluster, i, key, READ_LINEARIZABLE, ANSWER_MS, out, sizeof out);
    printf("#   a read: %s after %llu ms\n", error_text(rv), (unsigned long long)(clock_boot_ms() - begin));
    assert_unavailable(rv);
    begin = clock_boot_ms();
    assert_int_equal(once_read(cluster, i, key, READ_LOCAL, ANSWER_MS, out, sizeof out), 0);
    assert_string_not_equal(out, "");
    assert_true(clock_boot_ms() - begin < 1000);
    /* The same for people. */
    assert_int_equal(
        run_kvnode(cluster, i, 15000, out, sizeof out,
                   (const char *const[]){"--timeout", "2s", "set", "partition/never", "y", NULL}),
        4);
    assert_int_equal(run_kvnode(cluster, i, 15000, out, sizeof out,
                                (const char *const[]){"--timeout", "2s", "get", key, NULL}),
                     4);
    assert_int_equal(
        run_kvnode(cluster, i, 15000, out, sizeof out, (const char *const[]){"get", "--local", key, NULL}),
        0);
}

/* value: the last that was acknowledged. */
static void assert_heals(const char *key, const char *value, const struct refusal *refusal)
{
    char out[1024];
    uint64_t begin = clock_boot_ms();
    unsigned i;

    join_all();
    assert_int_not_equal(cluster_leader(cluster, HEAL_MS), CLUSTER_MAX);
    for (i = 0; i < NODES; i++) {
        char unused[64];

        assert_true(cluster_runs(cluster, i));
        assert_true(cluster_serves(cluster, i, HEAL_MS));
        /* Whatever it is asked now it may have to wait for its links. */
        while (once_read(cluster, i, key, READ_LINEARIZABLE, ANSWER_MS, out, sizeof out) != 0)
            assert_true(clock_boot_ms() - begin < HEAL_MS);
        if (i == 0)
            assert_string_equal(out, value);
        assert_goes_on(i, "partition/healed", unused, sizeof unused);
    }
    assert_true(cluster_equal(cluster, HEAL_MS));
    printf("#   healed after %llu ms\n", (unsigned long long)(clock_boot_ms() - begin));
    assert_int_equal(once_read(cluster, 0, "partition/never", READ_LINEARIZABLE, ANSWER_MS, out, sizeof out),
                     KV_E_NOENT);
    /* What was refused did not happen, not even later. */
    if (refusal != NULL && refusal->code != KV_E_UNKNOWN)
        assert_int_equal(once_read(cluster, 0, refusal->key, READ_LINEARIZABLE, ANSWER_MS, out, sizeof out),
                         KV_E_NOENT);
}

static void leave_alone(bool the_leader, void (*cut)(unsigned i))
{
    unsigned leader, alone, i;
    struct refusal refusal;
    char key[40], value[64];

    needed(unavailable);
    leader = cluster_leader(cluster, HEAL_MS);
    assert_int_not_equal(leader, CLUSTER_MAX);
    alone = the_leader ? leader : (leader + 1) % NODES;
    snprintf(key, sizeof key, "partition/key-%u", ++generation);
    assert_goes_on(alone, key, value, sizeof value);
    /* So that a read of whatever the node has finds something. */
    assert_true(cluster_equal(cluster, HEAL_MS));
    cut(alone);
    for (i = 0; i < NODES; i++)
        if (i != alone)
            assert_goes_on(i, key, value, sizeof value);
    assert_refuses(alone, key, &refusal);
    assert_heals(key, value, &refusal);
}

static void the_leader_is_cut_off(void **state)
{
    (void)state;
    leave_alone(true, cut_cable);
}

static void a_follower_is_cut_off(void **state)
{
    (void)state;
    leave_alone(false, cut_cable);
}

static void what_the_leader_sends_is_lost(void **state)
{
    (void)state;
    leave_alone(true, lose_what_it_sends);
}

static void what_the_leader_is_sent_is_lost(void **state)
{
    (void)state;
    leave_alone(true, lose_what_it_is_sent);
}

static void what_a_follower_sends_is_lost(void **state)
{
    (void)state;
    leave_alone(false, lose_what_it_sends);
}

static void what_a_follower_is_sent_is_lost(void **state)
{
    (void)state;
    leave_alone(false, lose_what_it_is_sent);
}

/* The third node sees both: whoever leads in the end, somebody does. */
static void two_nodes_that_do_not_hear_each_other_do_not_stop_the_third(void **state)
{
    unsigned leader, third;
    char value[64], key[40];

    (void)state;
    needed(unavailable);
    leader = cluster_leader(cluster, HEAL_MS);
    assert_int_not_equal(leader, CLUSTER_MAX);
    third = (leader + 2) % NODES;
    snprintf(key, sizeof key, "partition/key-%u", ++generation);
    lose_both(leader, (leader + 1) % NODES);
    assert_goes_on(third, key, value, sizeof value);
    assert_goes_on(third, key, value, sizeof value);
    assert_heals(key, value, NULL);
}

static void nobody_writes_when_all_are_alone(void **state)
{
    char value[64], key[40], out[1024];
    unsigned i;

    (void)state;
    needed(unavailable);
    snprintf(key, sizeof key, "partition/key-%u", ++generation);
    assert_goes_on(0, key, value, sizeof value);
    assert_true(cluster_equal(cluster, HEAL_MS));
    for (i = 0; i < NODES; i++)
        cut_cable(i);
    for (i = 0; i < NODES; i++) {
        assert_true(await(KNOW_MS, is_alone, &i));
        assert_int_equal(once_read(cluster, i, key, READ_LOCAL, ANSWER_MS, out, sizeof out), 0);
        assert_string_equal(out, value);
    }
    assert_heals(key, value, NULL);
}

static int setup(void **state)
{
    const struct cluster_options options = {.n = NODES, .namespaces = true};

    (void)state;
    cluster = cluster_new(&options, &unavailable);
    return cluster != NULL || unavailable != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return cluster_free(cluster) ? 0 : -1;
}

static int join(void **state)
{
    (void)state;
    if (cluster != NULL)
        join_all();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_leader_is_cut_off, join),
        cmocka_unit_test_teardown(a_follower_is_cut_off, join),
        cmocka_unit_test_teardown(what_the_leader_sends_is_lost, join),
        cmocka_unit_test_teardown(what_the_leader_is_sent_is_lost, join),
        cmocka_unit_test_teardown(what_a_follower_sends_is_lost, join),
        cmocka_unit_test_teardown(what_a_follower_is_sent_is_lost, join),
        cmocka_unit_test_teardown(two_nodes_that_do_not_hear_each_other_do_not_stop_the_third, join),
        cmocka_unit_test_teardown(nobody_writes_when_all_are_alone, join),
    };

    cmocka_set_test_filter(getenv("KVFS_FAULT_ONLY"));
    return cmocka_run_group_tests(tests, setup, teardown);
}
