/* A node that was away for longer than the log reaches back gets the state as a
 * file. It is killed while the file comes and while it is put in force, the sender
 * is killed while it sends: in the end all have the same. */
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "sync/base/clock.h"
#include "tests/fault/lib/caller.h"
#include "tests/fault/lib/raw.h"

#define NODES 3
#define LAGGARD 2
#define BIG (256 * 1024 - 1000)
#define KEYS 120
#define GROUP "groups/0/"

static struct cluster *cluster;
static struct dice dice;
static struct caller writer;
static char *big;
static unsigned generation;

static int setup(void **state)
{
    const struct cluster_options options = {
        .n = NODES, .flags = {"storage.log_keep_entries=2048", "storage.log_keep_bytes=1MiB"}};
    const char *skip_reason;
    unsigned i;

    (void)state;
    dice_init(&dice, "laggard");
    big = malloc(BIG);
    if (big == NULL)
        return -1;
    for (i = 0; i < BIG; i++)
        big[i] = (char)dice_roll(&dice, 256);
    cluster = cluster_new(&options, &skip_reason);
    if (cluster == NULL)
        return -1;
    caller_init(&writer, cluster, 0);
    return caller_register(&writer, 10000);
}

static int teardown(void **state)
{
    (void)state;
    caller_deinit(&writer);
    free(big);
    return cluster_free(cluster) ? 0 : -1;
}

static bool is_durable(void *arg)
{
    struct view v;

    (void)arg;
    for (unsigned i = 0; i < NODES; i++)
        if (i != LAGGARD && (!cluster_view(cluster, i, 1000, &v) || v.log_first <= *(uint64_t *)arg))
            return false;
    return true;
}

/* So many small writes at once that the log behind them goes. */
static void small_writes(unsigned n)
{
    unsigned sent = 0, answered = 0;
    struct command_result result;
    uint64_t first;

    assert_int_equal(caller_set(&writer, "small", "x", 1, 10000, &result), 0);
    first = writer.seq + 1;
    while (answered < n) {
        struct frame frame;

        for (; sent < n && sent - answered < 200; sent++) {
            const struct command cmd = {.op = COMMAND_SET,
                                        .session = writer.session,
                                        .seq = first + sent,
                                        .acked_below = first + (sent > 1000 ? sent - 1000 : 0),
                                        .node = ""};
            const struct command_body body = {.path = (const uint8_t *)"small",
                                              .path_len = 5,
                                              .value = (const uint8_t *)&sent,
                                              .value_len = sizeof sent,
                                              .mode = 0644};
            struct buffer *b = client_queue(writer.client, MESSAGE_WRITE, 1000000 + sent);

            body_encode_request(b, MESSAGE_WRITE, NULL);
            command_encode(b, &cmd);
            command_body_encode(b, COMMAND_SET, &body);
            client_queue_end(writer.client);
        }
        assert_int_equal(client_wait(writer.client, 15000, &frame), 1);
        answered += frame.type == MESSAGE_ANSWER;
    }
    writer.seq = first + n;
}

/* Kills the laggard and writes until the others' logs begin behind its end. */
static void leave_behind(unsigned keys)
{
    struct view v;
    uint64_t left;
    unsigned k;

    assert_true(cluster_view(cluster, LAGGARD, 2000, &v));
    left = v.last;
    cluster_signal(cluster, LAGGARD, SIGKILL);
    generation++;
    for (k = 0; k < keys; k++) {
        struct command_result result;
        char key[32];

        snprintf(key, sizeof key, "big/%u", k);
        memcpy(big, &k, sizeof k);
        memcpy(big + sizeof k, &generation, sizeof generation);
        assert_int_equal(caller_set(&writer, key, big, BIG, 15000, &result), 0);
    }
    small_writes(3400);
    assert_true(await(30000, is_durable, &left));
}

static off_t incoming(void)
{
    char path[300];
    struct stat st;

    snprintf(path, sizeof path, "%s/" GROUP "state.db.incoming", cluster->nodes[LAGGARD].data);
    return stat(path, &st) == 0 ? st.st_size : 0;
}

static bool exists(const char *file)
{
    char path[300];
    struct stat st;

    snprintf(path, sizeof path, "%s/" GROUP "%s", cluster->nodes[LAGGARD].data, file);
    return stat(path, &st) == 0;
}

struct wanted {
    off_t size;
    uint64_t revision; /* of the others, which nobody writes to meanwhile */
};

static struct wanted wanted(uint64_t below)
{
    struct wanted w = {.size = 1 + (off_t)dice_roll(&dice, below)};
    struct view v;

    assert_true(cluster_view(cluster, 0, 5000, &v));
    w.revision = v.applied;
    return w;
}

/* There is nothing to come any more. */
static bool is_through(const struct wanted *w)
{
    struct view v;

    return incoming() == 0 && cluster_view(cluster, LAGGARD, 50, &v) && v.applied >= w->revision;
}

static bool has_come_or_is_through(void *arg)
{
    const struct wanted *w = arg;

    return incoming() >= w->size || is_through(w);
}

static bool installs_or_is_through(void *arg)
{
    return exists("install.meta") || exists("state.db.install") || is_through(arg);
}

static void short_pause(unsigned max_us)
{
    struct timespec t = {.tv_nsec = (long)dice_roll(&dice, max_us) * 1000};

    nanosleep(&t, NULL);
}

static void assert_caught_up(void)
{
    static char want[BIG];
    struct caller r;
    unsigned k;

    assert_true(cluster_serves(cluster, LAGGARD, 30000));
    assert_true(cluster_equal(cluster, 30000));
    caller_init(&r, cluster, LAGGARD);
    r.pinned = true;
    memcpy(want, big, BIG);
    for (k = 0; k < KEYS; k += 7) {
        struct buffer got = BUFFER_INIT;
        struct attr attr;
        char key[32];

        snprintf(key, sizeof key, "big/%u", k);
        assert_int_equal(caller_get_all(&r, key, 10000, &attr, &got), 0);
        assert_int_equal(got.len, BIG);
        memcpy(want, &k, sizeof k);
        assert_memory_equal(got.data, want, sizeof k);
        assert_memory_equal(got.data + 8, want + 8, BIG - 8);
        buffer_deinit(&got);
    }
    caller_deinit(&r);
}

static void a_receiver_killed_under_way_ends_equal(void **state)
{
    unsigned n = rounds(2), i, k, caught[2] = {0};

    (void)state;
    for (i = 0; i < n; i++) {
        leave_behind(i == 0 ? KEYS : 10);
        for (k = 0; k < 5; k++) {
            struct wanted w = wanted((uint64_t)KEYS * BIG);

            assert_true(cluster_start(cluster, LAGGARD));
            if (k % 2 == 0) {
                assert_true(await(30000, has_come_or_is_through, &w));
                if (is_through(&w))
                    break;
                caught[0]++;
            } else {
                assert_true(await(30000, installs_or_is_through, &w));
                if (is_through(&w))
                    break;
                short_pause(200000);
                caught[1]++;
            }
            cluster_signal(cluster, LAGGARD, SIGKILL);
        }
        assert_true(cluster_start(cluster, LAGGARD));
        assert_caught_up();
    }
    printf("# receiver killed: %u times in the transfer, %u times in the install\n", caught[0], caught[1]);
    assert_true(caught[0] > 0);
}

static void a_sender_killed_under_way_is_replaced(void **state)
{
    unsigned n = rounds(1), i;

    (void)state;
    for (i = 0; i < n; i++) {
        struct wanted w;
        unsigned leader;

        leave_behind(10);
        w = wanted((uint64_t)KEYS * BIG / 2);
        leader = cluster_leader(cluster, 15000);
        assert_int_not_equal(leader, CLUSTER_MAX);
        assert_true(cluster_start(cluster, LAGGARD));
        assert_true(await(30000, has_come_or_is_through, &w));
        cluster_signal(cluster, leader, SIGKILL);
        assert_true(cluster_start(cluster, leader));
        assert_caught_up();
    }
}

/* Loading does not look at old versions, so a node may lead with a damaged one: its
 * state must not be what a laggard gets. */
static void a_leader_with_a_damaged_version_gives_no_state(void **state)
{
    char path[300], out[512];
    unsigned victim = 0, now;
    sqlite3 *db;

    (void)state;
    leave_behind(10);
    cluster_signal(cluster, victim, SIGTERM);
    snprintf(path, sizeof path, "%s/" GROUP "state.db", cluster->nodes[victim].data);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    /* A chunk of the first generation, which later ones have replaced. */
    assert_int_equal(
        sqlite3_exec(db,
                     "UPDATE chunk SET data=zeroblob(length(data)) WHERE id=(SELECT min(id) FROM chunk "
                     "WHERE length(data)>60000)",
                     NULL, NULL, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_changes(db), 1);
    sqlite3_close(db);
    assert_true(cluster_start(cluster, victim));
    assert_true(cluster_serves(cluster, victim, 20000));
    now = cluster_leader(cluster, 15000);
    assert_int_not_equal(now, CLUSTER_MAX);
    if (now != victim)
        assert_int_equal(run_kvnode(cluster, now, 10000, out, sizeof out,
                                    (const char *const[]){"transfer", cluster->nodes[victim].name, NULL}),
                         0);
    assert_true(cluster_start(cluster, LAGGARD));
    assert_caught_up();
    assert_true(cluster_logged(cluster, victim, "is damaged: another node shall lead"));
    /* The mend that it names. */
    cluster_signal(cluster, victim, SIGTERM);
    remove(path);
    assert_true(cluster_start(cluster, victim));
    assert_true(cluster_serves(cluster, victim, 20000));
    assert_true(cluster_equal(cluster, 20000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_receiver_killed_under_way_ends_equal),
        cmocka_unit_test(a_sender_killed_under_way_is_replaced),
        cmocka_unit_test(a_leader_with_a_damaged_version_gives_no_state),
    };

    cmocka_set_test_filter(getenv("KVFS_FAULT_ONLY"));
    return cmocka_run_group_tests(tests, setup, teardown);
}
