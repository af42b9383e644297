/* How long writers wait when the leader goes: killed, told to stop, or to hand over. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sync/base/clock.h"
#include "tests/fault/lib/caller.h"

#define NODES 3
#define WRITE_MS 10000
#define SLOW_MS 3000 /* the nodes' logs are kept then */

static int by_size(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void print_times(const char *what, uint64_t *us, unsigned n)
{
    qsort(us, n, sizeof *us, by_size);
    printf("# %s: %u times, median %llu ms, worst %llu ms\n", what, n, (unsigned long long)us[n / 2] / 1000,
           (unsigned long long)us[n - 1] / 1000);
}

enum way { KILLED, STOPPED, TRANSFERRED };

struct handover {
    struct cluster *c;
    unsigned leader;
    atomic_bool over;
};

static void *transfer(void *arg)
{
    const char *const args[] = {"transfer", NULL};
    struct handover *h = arg;
    char out[512];

    if (run_kvnode(h->c, h->leader, 10000, out, sizeof out, args) != 0)
        fprintf(stderr, "# transfer: %s\n", out);
    h->over = true;
    return NULL;
}

static bool is_over(struct handover *h, enum way way)
{
    return way == TRANSFERRED ? (bool)h->over : cluster_ended(h->c, h->leader, way == KILLED ? 5000 : 0);
}

/* The longest that a client of another node waits for a write while the leader
 * goes, over and over. */
static void measure(struct cluster *c, enum way way, unsigned n, uint64_t *us)
{
    struct command_result result;
    unsigned i;

    for (i = 0; i < n; i++) {
        struct handover h = {.c = c, .leader = cluster_leader(c, 15000)};
        pthread_t thread;
        struct caller w;
        bool gone;

        assert_int_not_equal(h.leader, CLUSTER_MAX);
        assert_true(cluster_equal(c, 15000));
        caller_init(&w, c, (h.leader + 1) % NODES);
        w.pinned = true;
        assert_int_equal(caller_register(&w, WRITE_MS), 0);
        assert_int_equal(caller_set(&w, "failover", &i, sizeof i, WRITE_MS, &result), 0);
        if (way == TRANSFERRED)
            assert_int_equal(pthread_create(&thread, NULL, transfer, &h), 0);
        else
            kill(c->nodes[h.leader].pid, way == KILLED ? SIGKILL : SIGTERM);
        us[i] = 0;
        do {
            uint64_t before = result.revision, begin, took;

            gone = is_over(&h, way);
            begin = clock_boot_ns();
            assert_int_equal(caller_set(&w, "failover", &begin, sizeof begin, WRITE_MS, &result), 0);
            took = (clock_boot_ns() - begin) / 1000;
            assert_true(result.revision > before);
            us[i] = took > us[i] ? took : us[i];
            if (took > SLOW_MS * 1000) {
                printf("# round %u: %llu ms, %s led before; asked %llu ms after boot\n", i,
                       (unsigned long long)took / 1000, c->nodes[h.leader].name,
                       (unsigned long long)begin / 1000000);
                c->keep = true;
            }
        } while (!gone);
        caller_deinit(&w);
        if (way == TRANSFERRED) {
            pthread_join(thread, NULL);
            assert_int_not_equal(cluster_leader(c, 15000), h.leader);
            continue;
        }
        assert_true(cluster_start(c, h.leader));
        assert_true(cluster_serves(c, h.leader, 15000));
    }
}

static void repeat(const char *what, enum way way, unsigned n, uint64_t worst_ms)
{
    const struct cluster_options options = {.n = NODES};
    uint64_t *us = calloc(n, sizeof *us);
    const char *skip;
    struct cluster *c = cluster_new(&options, &skip);

    assert_non_null(c);
    measure(c, way, n, us);
    assert_true(cluster_free(c));
    print_times(what, us, n);
    assert_in_range(us[n - 1], 0, worst_ms * 1000);
    free(us);
}

/* The bounds are for a busy machine; the figures are what counts. */
static void a_killed_leader_is_replaced_within_seconds(void **state)
{
    (void)state;
    repeat("leader killed", KILLED, rounds(8), 4000);
}

static void a_leader_that_stops_hands_over(void **state)
{
    (void)state;
    repeat("leader told to stop", STOPPED, rounds(5), 1500);
}

static void a_leader_that_is_told_so_hands_over(void **state)
{
    (void)state;
    repeat("leadership transferred", TRANSFERRED, rounds(8), 1500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_leader_is_replaced_within_seconds),
        cmocka_unit_test(a_leader_that_stops_hands_over),
        cmocka_unit_test(a_leader_that_is_told_so_hands_over),
    };

    cmocka_set_test_filter(getenv("KVFS_FAULT_ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
