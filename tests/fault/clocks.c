/* Clocks that jump, one node's at a time, while clients write. The time of day
 * decides nothing: no lost session, no election but a handover from a leader whose
 * clock is not the majority's, and what the cluster stamps never runs backwards. A
 * machine that slept finds its way back. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "sync/base/clock.h"
#include "tests/fault/lib/caller.h"
#include "tests/fault/lib/clocks.h"

#define NODES 3
#define WRITERS 3
#define WRITE_MS 10000
#define PROGRESS 40 /* writes of each writer between two jumps */
#define SECOND INT64_C(1000000000)
#define HOUR (3600 * SECOND)

struct writer {
    struct cluster *c;
    unsigned n;
    pthread_t thread;
    _Atomic unsigned done;
    _Atomic uint64_t worst_ms; /* since it was set to 0 */
    _Atomic int64_t stamp;     /* of the last write */
    char wrong[160];           /* the first broken promise */
};

static struct cluster *cluster;
static struct writer writers[WRITERS];
static atomic_bool over;
static _Atomic unsigned set_backs; /* of the cluster's time, by the command */

/* Sets its key to 1, 2, 3, … */
static void *write_on(void *arg)
{
    struct writer *w = arg;
    uint64_t revision = 0, value = 0;
    unsigned set_back = 0;
    struct command_result result;
    struct caller c;
    char key[16];

    caller_init(&c, w->c, w->n % NODES);
    c.pinned = true;
    snprintf(key, sizeof key, "clock%u", w->n);
    if (caller_register(&c, WRITE_MS) != 0)
        snprintf(w->wrong, sizeof w->wrong, "no session");
    while (!over && w->wrong[0] == '\0') {
        uint64_t begin = clock_boot_ms(), took;
        int rv;

        value++;
        rv = caller_set(&c, key, &value, sizeof value, WRITE_MS, &result);
        took = clock_boot_ms() - begin;
        if (took > w->worst_ms)
            w->worst_ms = took;
        if (rv != 0)
            snprintf(w->wrong, sizeof w->wrong, "write %llu: %d", (unsigned long long)value, rv);
        else if (result.attr.mtime_ns <= w->stamp && set_back != set_backs)
            set_back = set_backs;
        else if (result.attr.mtime_ns <= w->stamp)
            snprintf(w->wrong, sizeof w->wrong, "write %llu is stamped %lld ms before the one before it",
                     (unsigned long long)value, (long long)(w->stamp - result.attr.mtime_ns) / 1000000);
        else if (result.revision <= revision || result.attr.version != value)
            snprintf(w->wrong, sizeof w->wrong, "write %llu made version %llu", (unsigned long long)value,
                     (unsigned long long)result.attr.version);
        w->stamp = result.attr.mtime_ns;
        revision = result.revision;
        w->done++;
    }
    caller_deinit(&c);
    return NULL;
}

static bool all_have_written(void *arg)
{
    const unsigned *upto = arg;
    unsigned i;

    for (i = 0; i < WRITERS; i++)
        if (writers[i].done < upto[i] && writers[i].wrong[0] == '\0')
            return false;
    return true;
}

static unsigned leader(void)
{
    unsigned i = cluster_leader(cluster, 15000);

    assert_int_not_equal(i, CLUSTER_MAX);
    return i;
}

static uint64_t term(void)
{
    struct view v;

    assert_true(cluster_view(cluster, leader(), 5000, &v));
    return v.term;
}

/* The longest that a writer waited. */
static uint64_t assert_writes_go_on(void)
{
    unsigned upto[WRITERS], i;
    uint64_t worst = 0;

    for (i = 0; i < WRITERS; i++)
        upto[i] = writers[i].done + PROGRESS;
    assert_true(await(30000, all_have_written, upto));
    for (i = 0; i < WRITERS; i++) {
        assert_string_equal(writers[i].wrong, "");
        worst = writers[i].worst_ms > worst ? writers[i].worst_ms : worst;
        writers[i].worst_ms = 0;
    }
    return worst;
}

static void jump(unsigned i, int64_t wall_ns, int64_t boot_ns)
{
    volatile struct clock_offsets *o = cluster->nodes[i].clock;

    o->wall_ns += wall_ns;
    o->boot_ns += boot_ns;
}

static void the_time_of_day_decides_nothing(void **state)
{
    static const int64_t jumps[] = {HOUR,         -2 * HOUR,       30 * SECOND,
                                    -30 * SECOND, 24 * 365 * HOUR, -24 * 366 * HOUR};
    uint64_t before, worst = 0;
    unsigned i, k, first;

    (void)state;
    assert_writes_go_on();
    before = term();
    for (k = 0; k < sizeof jumps / sizeof jumps[0]; k++) {
        first = leader();
        for (i = 0; i < NODES; i++) {
            uint64_t waited;

            jump((first + i) % NODES, jumps[k], 0);
            waited = assert_writes_go_on();
            worst = waited > worst ? waited : worst;
        }
        if (k == 0) /* they do jump */
            assert_true(writers[0].stamp > (int64_t)clock_wall_ns() + HOUR / 2);
    }
    assert_in_range(term(), before, before + k * NODES); /* a leader may have handed over */
    assert_true(cluster_equal(cluster, 15000));
    printf("# %u jumps of the time of day: the longest write took %llu ms\n", k * NODES,
           (unsigned long long)worst);
}

/* CLOCK_BOOTTIME goes on in a machine that sleeps: when it wakes, every deadline has passed. */
static void a_machine_that_slept_finds_its_way_back(void **state)
{
    static const int64_t sleeps[] = {5 * SECOND, 60 * SECOND, 12 * HOUR};
    uint64_t worst = 0;
    unsigned i, k;

    (void)state;
    for (k = 0; k < sizeof sleeps / sizeof sleeps[0]; k++) {
        for (i = 0; i < NODES; i++) {
            uint64_t waited;

            jump((leader() + i) % NODES, sleeps[k], sleeps[k]);
            waited = assert_writes_go_on();
            worst = waited > worst ? waited : worst;
        }
    }
    assert_true(cluster_equal(cluster, 15000));
    printf("# %u sleeps: the longest write took %llu ms\n", k * NODES, (unsigned long long)worst);
}

struct leads {
    unsigned not, now;
};

static bool another_leads(void *arg)
{
    struct leads *l = arg;

    l->now = cluster_leader(cluster, 1000);
    return l->now != CLUSTER_MAX && l->now != l->not ;
}

static int64_t newest_stamp(void)
{
    int64_t newest = 0;
    unsigned i;

    assert_writes_go_on();
    for (i = 0; i < WRITERS; i++)
        newest = writers[i].stamp > newest ? writers[i].stamp : newest;
    return newest;
}

/* It may lead for a moment, until the others have said what time it is. */
static void a_leader_whose_clock_is_off_stamps_nothing_and_hands_over(void **state)
{
    static const int64_t jumps[] = {24 * 365 * HOUR, -24 * 365 * HOUR, 5 * SECOND};
    struct leads l;
    unsigned k;

    (void)state;
    newest_stamp(); /* a cluster that has stamped nothing yet has nothing to go on from */
    for (k = 0; k < sizeof jumps / sizeof jumps[0]; k++) {
        l.not = leader();
        jump(l.not, jumps[k], 0);
        assert_true(await(15000, another_leads, &l));
        assert_true(cluster_logs(cluster, l.not, "this node's clock is", 5000));
        assert_in_range(newest_stamp() - (int64_t)clock_wall_ns() + 60 * SECOND, 0, 62 * SECOND);
        assert_true(cluster->nodes[l.not ].pid != 0);
        jump(l.not, -jumps[k], 0);
        assert_true(cluster_logs(cluster, l.not, "agrees with those of the majority again", 5000));
        newest_stamp();
    }
    assert_true(cluster_equal(cluster, 15000));
}

static bool has_passed(void *arg)
{
    return clock_boot_ns() >= *(uint64_t *)arg;
}

static bool clocks_agree(void *arg)
{
    static char text[4096];
    const char *const args[] = {"clock", NULL};
    unsigned i;

    for (i = 0; i < NODES; i++)
        if (run_kvnode(cluster, i, 5000, text, sizeof text, args) != 0 || strstr(text, arg) == NULL)
            return false;
    return true;
}

/* All clocks were wrong, and are right again: the time goes on from where it was,
 * as fast as time passes, and a command sets it back. */
static void the_time_of_a_cluster_that_was_ahead_goes_on_and_can_be_set_back(void **state)
{
    const char *const set_back[] = {"clock", "--set-back", "--yes", NULL}, *const ask[] = {
                                                                               "clock", "--set-back", NULL};
    static char text[4096];
    int64_t first, second;
    uint64_t before, begin, then;
    unsigned i;

    (void)state;
    for (i = 0; i < NODES; i++)
        jump(i, 48 * HOUR, 0);
    assert_true(await(10000, clocks_agree, "not ahead of the clocks"));
    assert_true(newest_stamp() > (int64_t)clock_wall_ns() + 47 * HOUR);
    for (i = 0; i < NODES; i++)
        jump(i, -48 * HOUR, 0);
    before = clock_boot_ns();
    first = newest_stamp(); /* is of a moment between the two */
    begin = clock_boot_ns();
    then = begin + 2 * SECOND;
    assert_true(await(10000, has_passed, &then));
    second = newest_stamp();
    assert_true(first > (int64_t)clock_wall_ns() + 47 * HOUR);
    assert_in_range(second - first, 19 * SECOND / 10, clock_boot_ns() - before + SECOND / 10);

    assert_true(await(10000, clocks_agree, "s ahead of the clocks"));
    assert_int_not_equal(run_kvnode(cluster, 0, 10000, text, sizeof text, ask), 0);
    assert_true(newest_stamp() > (int64_t)clock_wall_ns() + 47 * HOUR);
    set_backs++;
    assert_int_equal(run_kvnode(cluster, 0, 10000, text, sizeof text, set_back), 0);
    first = newest_stamp();
    assert_in_range(first, clock_wall_ns() - 30 * SECOND, clock_wall_ns() + SECOND);
    assert_int_not_equal(run_kvnode(cluster, 0, 10000, text, sizeof text, set_back), 0);
    assert_non_null(strstr(text, "not ahead"));
    assert_true(cluster_equal(cluster, 15000));
}

static int setup(void **state)
{
    const struct cluster_options options = {.n = NODES, .clocks = true};
    const char *skip;
    unsigned i;

    (void)state;
    cluster = cluster_new(&options, &skip);
    if (cluster == NULL)
        return -1;
    for (i = 0; i < WRITERS; i++) {
        writers[i].c = cluster;
        writers[i].n = i;
        if (pthread_create(&writers[i].thread, NULL, write_on, &writers[i]) != 0)
            return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    unsigned i;

    (void)state;
    over = true;
    for (i = 0; i < WRITERS; i++)
        pthread_join(writers[i].thread, NULL);
    return cluster_free(cluster) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leader_whose_clock_is_off_stamps_nothing_and_hands_over),
        cmocka_unit_test(the_time_of_a_cluster_that_was_ahead_goes_on_and_can_be_set_back),
        cmocka_unit_test(the_time_of_day_decides_nothing),
        cmocka_unit_test(a_machine_that_slept_finds_its_way_back),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
