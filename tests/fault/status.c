/* What `status` says while something is wrong, asked at the nodes that are well: who
 * cannot take a write is named within two seconds and does not count, and who is well
 * again counts again. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sync/base/clock.h"
#include "tests/fault/lib/caller.h"
#include "tests/fault/lib/needed.h"
#include "tests/fault/lib/net.h"
#include "tests/fault/lib/small_disk.h"

#define NODES 3
#define SOON_MS 2000
#define HEAL_MS 20000 /* redialling has pauses */

static const char *unavailable;

static struct cluster *new_cluster(const struct cluster_options *options)
{
    struct cluster *c = cluster_new(options, &unavailable);

    needed(c == NULL ? unavailable : NULL);
    assert_non_null(c);
    return c;
}

/* What is to be seen at node `at`. */
struct sight {
    struct cluster *c;
    unsigned at, of;
    const char *not_state; /* `of` is in another state than this */
    const char *state;     /* `of` is in this one, or NULL */
    const char *warning;   /* part of one, or NULL */
    unsigned tolerated;
    struct view last;
};

static bool is_seen(void *arg)
{
    struct sight *s = arg;

    return cluster_view(s->c, s->at, 500, &s->last) && s->last.tolerated == s->tolerated &&
           (s->not_state == NULL || strcmp(s->last.states[s->of], s->not_state) != 0) &&
           (s->state == NULL || strcmp(s->last.states[s->of], s->state) == 0) &&
           (s->warning == NULL || strstr(s->last.warnings, s->warning) != NULL);
}

static void assert_seen(struct sight s, unsigned within_ms)
{
    uint64_t begin = clock_boot_ms();

    if (!await(within_ms, is_seen, &s)) {
        fprintf(stderr, "# n%u says after %u ms: n1 %s, n2 %s, n3 %s; %u may fail; %s\n", s.at + 1, within_ms,
                s.last.states[0], s.last.states[1], s.last.states[2], s.last.tolerated, s.last.warnings);
        fail();
    }
    printf("#   n%u names n%u %s after %llu ms\n", s.at + 1, s.of + 1, s.last.states[s.of],
           (unsigned long long)(clock_boot_ms() - begin));
}

static void assert_all_well(struct cluster *c)
{
    unsigned at, of;

    for (at = 0; at < NODES; at++)
        for (of = 0; of < NODES; of++)
            assert_seen((struct sight){.c = c, .at = at, .of = of, .state = "healthy", .tolerated = 1},
                        HEAL_MS);
}

static void assert_sentence(struct cluster *c, unsigned i, int exit, const char *part)
{
    char out[4096];

    assert_int_equal(run_kvnode(c, i, 10000, out, sizeof out, (const char *const[]){"status", NULL}), exit);
    if (strstr(out, part) == NULL) {
        fprintf(stderr, "%s is missing in:\n%s", part, out);
        fail();
    }
}

static void a_full_disk_does_not_count(void **state)
{
    static char value[128 * 1024];
    struct cluster_options options = {.n = NODES, .disk_mb = {400, 400, 16}};
    struct cluster *c = new_cluster(&options);
    struct command_result result;
    struct caller w;
    char folder[200], key[32];
    unsigned n;

    (void)state;
    assert_all_well(c);
    caller_init(&w, c, 0);
    assert_int_equal(caller_register(&w, 10000), 0);
    for (n = 0; n < 200; n++) {
        memset(value, (int)n, sizeof value);
        snprintf(key, sizeof key, "status/%u", n);
        assert_int_equal(caller_set(&w, key, value, sizeof value, 20000, &result), 0);
    }
    for (n = 0; n < 2; n++)
        assert_seen((struct sight){.c = c,
                                   .at = n,
                                   .of = 2,
                                   .state = "disk full",
                                   .warning = "the disk of n3 is full",
                                   .tolerated = 0},
                    10000);
    assert_sentence(c, 0, 0, "No further node may fail.");
    snprintf(folder, sizeof folder, "%s/n3.data", c->dir);
    assert_true(small_disk_grow(folder, SMALL_DISK_MAX_MB));
    assert_all_well(c);
    caller_deinit(&w);
    assert_true(cluster_free(c));
}

static void a_stopped_process_is_not_healthy(void **state)
{
    struct cluster_options options = {.n = NODES};
    struct cluster *c = new_cluster(&options);
    unsigned round, i;

    (void)state;
    assert_all_well(c);
    for (round = 0; round < 2; round++) {
        unsigned leader = cluster_leader(c, 10000), stopped;

        assert_int_not_equal(leader, CLUSTER_MAX);
        stopped = round == 0 ? leader : (leader + 1) % NODES;
        printf("# the %s is stopped\n", round == 0 ? "leader" : "follower");
        cluster_signal(c, stopped, SIGSTOP);
        for (i = 0; i < NODES; i++)
            if (i != stopped)
                assert_seen(
                    (struct sight){.c = c, .at = i, .of = stopped, .not_state = "healthy", .tolerated = 0},
                    SOON_MS);
        assert_int_not_equal(cluster_leader(c, 10000), CLUSTER_MAX);
        assert_sentence(c, (stopped + 1) % NODES, 0, "No further node may fail.");
        cluster_signal(c, stopped, SIGCONT);
        assert_all_well(c);
    }
    assert_true(cluster_free(c));
}

static void without_a_majority_it_says_whom_it_misses(void **state)
{
    struct cluster_options options = {.n = NODES};
    struct cluster *c = new_cluster(&options);

    (void)state;
    assert_all_well(c);
    cluster_signal(c, 1, SIGKILL);
    cluster_signal(c, 2, SIGSTOP);
    assert_seen((struct sight){.c = c, .at = 0, .of = 2, .not_state = "healthy", .tolerated = 0}, SOON_MS);
    assert_sentence(c, 0, 4,
                    "The cluster does not accept writes: 1 of 3 voters can take them, 2 are needed (n2 is "
                    "unreachable, n3 is ");
    cluster_signal(c, 2, SIGCONT);
    assert_true(cluster_start(c, 1));
    assert_all_well(c);
    assert_true(cluster_free(c));
}

static void a_cut_link_is_seen_from_all_sides(void **state)
{
    struct cluster_options options = {.n = NODES, .namespaces = true};
    struct cluster *c = new_cluster(&options);
    unsigned leader, a, b;
    char warning[80];

    (void)state;
    assert_all_well(c);
    leader = cluster_leader(c, 10000);
    assert_int_not_equal(leader, CLUSTER_MAX);
    a = leader == 0 ? 1 : 0;
    b = 3 - leader - a;
    assert_true(net_cut_way(c->net, a, b, true));
    assert_true(net_cut_way(c->net, b, a, true));
    snprintf(warning, sizeof warning, "n%u and n%u do not hear each other", a + 1, b + 1);
    /* The third hears both, and knows that they need it. */
    assert_seen(
        (struct sight){.c = c, .at = leader, .of = a, .state = "healthy", .warning = warning, .tolerated = 0},
        SOON_MS);
    assert_seen((struct sight){.c = c, .at = a, .of = b, .not_state = "healthy", .tolerated = 0}, SOON_MS);
    assert_seen((struct sight){.c = c, .at = b, .of = a, .not_state = "healthy", .tolerated = 0}, SOON_MS);
    assert_sentence(c, leader, 0, "No further node may fail.");
    net_cut_way(c->net, a, b, false);
    net_cut_way(c->net, b, a, false);
    assert_all_well(c);
    /* Now the leader's: who no longer hears it is told where it is. */
    leader = cluster_leader(c, 10000);
    assert_int_not_equal(leader, CLUSTER_MAX);
    a = (leader + 1) % NODES;
    net_cut_way(c->net, a, leader, true);
    net_cut_way(c->net, leader, a, true);
    assert_seen((struct sight){.c = c, .at = a, .of = leader, .not_state = "healthy", .tolerated = 0},
                SOON_MS);
    assert_sentence(c, a, 4, "This node accepts no writes: it does not hear the leader");
    net_cut_way(c->net, a, leader, false);
    net_cut_way(c->net, leader, a, false);
    assert_all_well(c);
    assert_true(cluster_free(c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_does_not_count),
        cmocka_unit_test(a_stopped_process_is_not_healthy),
        cmocka_unit_test(without_a_majority_it_says_whom_it_misses),
        cmocka_unit_test(a_cut_link_is_seen_from_all_sides),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
