/* What has a time to live goes when that is over, and for no other reason: clocks that are an hour off,
 * thousands that go in the same second while somebody writes, a leader that dies meanwhile.
 *
 * KVFS_EXPIRY_KEYS=100000: so many of them. */
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
#include "sync/base/error.h"
#include "sync/wire/feature.h"
#include "tests/fault/lib/caller.h"
#include "tests/fault/lib/clocks.h"

#define NODES 3
#define WRITE_MS 15000
#define HOUR INT64_C(3600000000000)
#define IN_FLIGHT 400
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KEYS 3000
#define SLOWER 10
#else
#define KEYS 10000
#define SLOWER 1
#endif

static struct cluster *cluster;
static struct caller writer;

/* A new cluster rises by itself, if nothing was written before. */
static bool is_at_its_level(void *arg)
{
    char out[8192], level[32];

    (void)arg;
    snprintf(level, sizeof level, "feature_level = %d", FEATURE_LEVEL);
    return run_kvnode(cluster, 0, 2000, out, sizeof out,
                      (const char *const[]){"config", "--cluster", NULL}) == 0 &&
           strstr(out, level) != NULL;
}

static int setup(void **state)
{
    const struct cluster_options options = {.n = NODES, .clocks = true};
    const char *skip;

    (void)state;
    cluster = cluster_new(&options, &skip);
    if (cluster == NULL)
        return -1;
    assert_true(await(10000, is_at_its_level, NULL));
    caller_init(&writer, cluster, 0);
    return caller_register(&writer, 10000);
}

static int teardown(void **state)
{
    (void)state;
    caller_deinit(&writer);
    return cluster_free(cluster) ? 0 : -1;
}

static struct command_body with_ttl(const char *key, uint64_t ttl_ms)
{
    return (struct command_body){.path = (const uint8_t *)key,
                                 .path_len = strlen(key),
                                 .flags = SET_PARENTS | SET_TTL,
                                 .ttl_ms = ttl_ms,
                                 .mode = 0644,
                                 .value = (const uint8_t *)"v",
                                 .value_len = 1};
}

static void set(const char *key, uint64_t ttl_ms)
{
    const struct command_body body = with_ttl(key, ttl_ms);
    struct command_result result;

    assert_int_equal(caller_write(&writer, COMMAND_SET, &body, WRITE_MS, &result), 0);
}

static bool is_gone(void *arg)
{
    struct attr attr;
    char value[8];
    size_t len;

    return caller_get(&writer, arg, READ_LINEARIZABLE, WRITE_MS, &attr, value, sizeof value, &len) ==
           KV_E_NOENT;
}

static void jump(unsigned i, int64_t wall_ns)
{
    volatile struct clock_offsets *o = cluster->nodes[i].clock;

    o->wall_ns += wall_ns;
}

static void a_wall_clock_an_hour_off_takes_nothing_and_keeps_nothing(void **state)
{
    static const int64_t jumps[] = {HOUR, -2 * HOUR, HOUR};
    uint64_t begin;
    char key[32];

    (void)state;
    set("minute", 60000);
    for (unsigned k = 0; k < sizeof jumps / sizeof jumps[0]; k++) {
        for (unsigned i = 0; i < NODES; i++) {
            jump(i, jumps[k]);
            snprintf(key, sizeof key, "other/%u", i);
            set(key, 60000);
            assert_false(is_gone("minute"));
        }
        begin = clock_boot_ms();
        set("short", 1500);
        assert_true(await(10000, is_gone, "short"));
        assert_in_range(clock_boot_ms() - begin, 1500, 2500 * SLOWER);
        assert_false(is_gone("minute"));
    }
    assert_false(is_gone("other/0"));
}

/* All with the same end; false: it is too late for that. Pipelined: SETs that are not answered yet. */
static bool set_many(const char *directory, unsigned n, uint64_t end_ms)
{
    unsigned sent = 0, answered = 0;
    uint64_t first = writer.seq + 1;
    bool late = false;

    while (answered < n) {
        struct frame frame;

        for (; sent < n && sent - answered < IN_FLIGHT; sent++) {
            char key[32];
            struct command_body body;
            const struct command cmd = {.op = COMMAND_SET,
                                        .flags = COMMAND_TTL,
                                        .session = writer.session,
                                        .seq = first + sent,
                                        .acked_below =
                                            first + (sent > 2 * IN_FLIGHT ? sent - 2 * IN_FLIGHT : 0),
                                        .node = ""};
            struct buffer *b = client_queue(writer.client, MESSAGE_WRITE, 1000000 + sent);

            snprintf(key, sizeof key, "%s/%u", directory, sent);
            late = late || clock_boot_ms() >= end_ms;
            body = with_ttl(key, late ? 1 : end_ms - clock_boot_ms());
            body_encode_request(b, MESSAGE_WRITE, NULL);
            command_encode(b, &cmd);
            command_body_encode(b, COMMAND_SET, &body);
            client_queue_end(writer.client);
        }
        assert_int_equal(client_wait(writer.client, 15000, &frame), 1);
        answered += frame.type == MESSAGE_ANSWER;
    }
    writer.seq = first + n;
    return !late;
}

/* n keys in d and one that stays there; when those end: late enough, by what it takes here to write some. */
static uint64_t fill(unsigned n)
{
    uint64_t begin = clock_boot_ms(), end, tenth;

    set("d/first", 10000000);
    set_many("warm", n / 10, begin + 10000000);
    tenth = clock_boot_ms() - begin;
    do {
        tenth *= 2;
        end = clock_boot_ms() + 1000 + 10 * tenth;
    } while (!set_many("d", n, end));
    return end;
}

/* Another client, that only wants its small writes through. */
struct small {
    pthread_t thread;
    atomic_bool over;
    _Atomic uint64_t worst_ms;
    _Atomic unsigned done;
    _Atomic int failed;
};

static void *small_writes(void *arg)
{
    struct small *s = arg;
    struct command_result result;
    struct caller c;

    caller_init(&c, cluster, 1);
    s->failed = caller_register(&c, WRITE_MS);
    while (!s->over && s->failed == 0) {
        uint64_t begin = clock_boot_ms(), took;

        s->failed = caller_set(&c, "small", &begin, sizeof begin, WRITE_MS, &result);
        took = clock_boot_ms() - begin;
        if (took > s->worst_ms)
            s->worst_ms = took;
        s->done++;
    }
    caller_deinit(&c);
    return NULL;
}

static uint64_t left_in_d(void)
{
    const union request_body body = {.resolve = {.at = READ_LINEARIZABLE, .path = bytes_text("d")}};
    union answer_body answer;

    assert_int_equal(caller_ask(&writer, MESSAGE_RESOLVE, &body, WRITE_MS, &answer), 0);
    return answer.resolve.attr.size;
}

static bool only_one_is_left(void *arg)
{
    (void)arg;
    return left_in_d() == 1;
}

static bool has_passed(void *arg)
{
    return clock_boot_ms() >= *(uint64_t *)arg;
}

static unsigned how_many(void)
{
    const char *n = getenv("KVFS_EXPIRY_KEYS");

    return n != NULL ? (unsigned)atoi(n) : KEYS;
}

static void thousands_go_in_one_second_and_nobody_waits(void **state)
{
    static struct small s;
    unsigned n = how_many();
    uint64_t end = fill(n), took, alone;

    (void)state;
    assert_int_equal(left_in_d(), n + 1);
    assert_int_equal(pthread_create(&s.thread, NULL, small_writes, &s), 0);
    assert_true(await(120000, has_passed, &end));
    alone = s.worst_ms;
    s.worst_ms = 0;
    assert_true(await(60000, only_one_is_left, NULL));
    took = clock_boot_ms() - end;
    s.over = true;
    pthread_join(s.thread, NULL);
    assert_int_equal(s.failed, 0);
    assert_true(s.done > 10);
    printf("# %u keys were gone %llu ms after their time; a write took %llu ms at most (%llu before)\n", n,
           (unsigned long long)took, (unsigned long long)s.worst_ms, (unsigned long long)alone);
    assert_in_range(took, 0, 3000 * SLOWER);
    /* 100, where the disk is this test's alone. */
    assert_in_range(s.worst_ms, 0, (alone > 100 ? 3 * alone : 300) * SLOWER);
    assert_true(cluster_equal(cluster, 15000));
}

static bool some_have_gone(void *arg)
{
    return left_in_d() < *(unsigned *)arg;
}

/* Each takes some from the next leader's time, none is left, none has gone that should not. */
static void they_go_although_leaders_die(void **state)
{
    unsigned n = KEYS / 2, half = n, first;

    (void)state;
    fill(n);
    set("stays", 1000000);
    assert_true(await(60000, some_have_gone, &half));
    first = cluster_leader(cluster, WRITE_MS);
    assert_int_not_equal(first, CLUSTER_MAX);
    cluster_signal(cluster, first, SIGKILL);
    assert_true(await(60000, only_one_is_left, NULL));
    assert_true(cluster_start(cluster, first));
    assert_false(is_gone("stays"));
    assert_false(is_gone("d/first"));
    assert_true(cluster_equal(cluster, 30000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wall_clock_an_hour_off_takes_nothing_and_keeps_nothing),
        cmocka_unit_test(thousands_go_in_one_second_and_nobody_waits),
        cmocka_unit_test(they_go_although_leaders_die),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
