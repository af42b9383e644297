/* What a node that was away costs the others, and how long it takes.
 *
 *   catch_up log [COMMANDS]    it reads the log of so many commands (100000)
 *   catch_up state [MIB]       it gets the state as a file, with so much in it (256)
 *
 * Three nodes as real processes on loopback, linked over SSH, in a folder of their
 * own under $TMPDIR. Writers go on all the time; every write is durable on a
 * majority before it counts. Prints one JSON object. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "tests/fault/lib/caller.h"

#define NODES 3
#define WRITERS 16
#define VALUE 100
#define BIG ((size_t)1024 * 1024)
#define STEADY_MS 4000
#define WAIT_MS 120000

static struct cluster *cluster;
static unsigned laggard;

struct writer {
    pthread_t thread;
    unsigned number, node;
};

static atomic_bool stop, failed;
static atomic_uint_fast64_t written, slowest_us;

static void die(const char *what)
{
    fprintf(stderr, "catch_up: %s\n", what);
    if (cluster != NULL)
        cluster_free(cluster);
    exit(1);
}

static void note_time(uint64_t us)
{
    uint64_t known = slowest_us;

    while (us > known && !atomic_compare_exchange_weak(&slowest_us, &known, us))
        ;
}

static void *write_on(void *arg)
{
    struct writer *w = arg;
    char key[32], value[VALUE] = "";
    struct caller c;
    unsigned n = 0;

    caller_init(&c, cluster, w->node);
    if (caller_register(&c, 10000) != 0)
        failed = true;
    while (!stop && !failed) {
        struct command_result result;
        uint64_t begin = clock_boot_ns();

        snprintf(key, sizeof key, "small/%u-%u", w->number, n++ % 500);
        memcpy(value, &n, sizeof n);
        if (caller_set(&c, key, value, sizeof value, 15000, &result) != 0 || result.code != 0)
            failed = true;
        note_time((clock_boot_ns() - begin) / 1000);
        written++;
    }
    caller_deinit(&c);
    return NULL;
}

static void start_writers(struct writer *writers, unsigned n)
{
    stop = false;
    for (unsigned i = 0; i < n; i++) {
        writers[i].number = i;
        writers[i].node = (laggard + 1 + i % 2) % NODES;
        if (pthread_create(&writers[i].thread, NULL, write_on, &writers[i]) != 0)
            die("no thread");
    }
}

static void stop_writers(struct writer *writers, unsigned n)
{
    stop = true;
    for (unsigned i = 0; i < n; i++)
        pthread_join(writers[i].thread, NULL);
    if (failed)
        die("a write failed");
}

/* Writes a second over that time. */
static double rate(unsigned ms)
{
    uint64_t begin = clock_boot_ms(), before = written;

    slowest_us = 0;
    pause_ms(ms);
    return (double)(written - before) * 1000 / (double)(clock_boot_ms() - begin);
}

static uint64_t applied(unsigned node)
{
    struct view v;

    return cluster_view(cluster, node, 1000, &v) ? v.applied : 0;
}

/* Resident memory in KiB: field is VmRSS or VmHWM, the largest so far. */
static uint64_t memory_kib(unsigned node, const char *field)
{
    char path[64], line[256];
    unsigned long long kib = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/status", (int)cluster->nodes[node].pid);
    f = fopen(path, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            sscanf(line + strlen(field), ": %llu", &kib);
    if (f != NULL)
        fclose(f);
    return kib;
}

/* What a node's process has used of the processors since its start, in seconds. */
static double cpu_s(unsigned node)
{
    char path[64], text[1024];
    unsigned long user = 0, system = 0;
    const char *p;
    size_t n;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)cluster->nodes[node].pid);
    f = fopen(path, "re");
    if (f == NULL)
        return 0;
    n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    p = strrchr(text, ')'); /* behind it: state, ten fields, utime, stime (proc(5)) */
    if (p == NULL || sscanf(p, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return 0;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* The largest so far is what it is now. */
static void reset_peak(unsigned node)
{
    char path[64];
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/clear_refs", (int)cluster->nodes[node].pid);
    f = fopen(path, "we");
    if (f == NULL || fputs("5", f) < 0 || fclose(f) != 0)
        die("the largest memory so far cannot be reset");
}

/* Starts the laggard; ms until it has applied what had been applied when it started. */
static uint64_t catch_up(unsigned other, double *rate_out)
{
    uint64_t target = applied(other), begin = clock_boot_ms(), before = written, now;

    slowest_us = 0;
    if (!cluster_start(cluster, laggard))
        die("the laggard does not start");
    do {
        pause_ms(20);
        now = clock_boot_ms();
        if (now - begin > WAIT_MS || failed)
            die("the laggard does not catch up");
    } while (applied(laggard) < target);
    *rate_out = (double)(written - before) * 1000 / (double)(now - begin);
    return now - begin;
}

static void finish(void)
{
    if (!cluster_equal(cluster, 60000))
        die("the nodes differ");
    if (!cluster_free(cluster))
        exit(1);
}

static void from_log(uint64_t commands)
{
    struct writer writers[WRITERS] = {0};
    double steady, meanwhile, cpu;
    uint64_t from, ms;
    unsigned leader = cluster_leader(cluster, 15000);

    laggard = (leader + 1) % NODES;
    start_writers(writers, WRITERS);
    rate(1000);
    steady = rate(STEADY_MS); /* of three nodes: this is what the return must not slow */
    cluster_signal(cluster, laggard, SIGKILL);
    from = applied(leader);
    while (applied(leader) < from + commands && !failed)
        pause_ms(50);
    ms = catch_up(leader, &meanwhile);
    cpu = cpu_s(laggard);
    stop_writers(writers, WRITERS);
    finish();
    printf("{\"catch_up\": \"log\", \"commands\": %llu, \"ms\": %llu, \"laggard_cpu_s\": %.2f, "
           "\"writes_per_s\": %.0f, \"writes_per_s_meanwhile\": %.0f, \"slowest_write_ms\": %.1f}\n",
           (unsigned long long)commands, (unsigned long long)ms, cpu, steady, meanwhile,
           (double)slowest_us / 1000);
}

static void from_state(unsigned mib)
{
    struct writer writers[2] = {0};
    char *value = calloc(1, BIG), key[32];
    uint64_t ms, rss[NODES], peak, lag_end;
    double steady, meanwhile;
    unsigned leader = cluster_leader(cluster, 15000), other, i;
    struct view v;
    struct caller c;

    laggard = (leader + 1) % NODES;
    other = (leader + 2) % NODES;
    if (value == NULL || !cluster_view(cluster, laggard, 2000, &v))
        die("out of memory, or the laggard does not answer");
    lag_end = v.last;
    cluster_signal(cluster, laggard, SIGKILL);
    caller_init(&c, cluster, leader);
    if (caller_register(&c, 10000) != 0)
        die("no session");
    for (i = 0; i < mib; i++) {
        struct command_result result;

        for (size_t at = 0; at + 8 < BIG; at += 512)
            memcpy(value + at, &(uint64_t){at * 0x9e3779b97f4a7c15 + i}, 8);
        snprintf(key, sizeof key, "big/%u", i);
        if (caller_set(&c, key, value, BIG, 30000, &result) != 0)
            die("a large write failed");
    }
    free(value);
    caller_deinit(&c);
    start_writers(writers, 2);
    do
        pause_ms(50);
    while (cluster_view(cluster, leader, 1000, &v) && v.log_first <= lag_end && !failed);
    steady = rate(STEADY_MS);
    for (i = 0; i < NODES; i++) {
        if (i == laggard)
            continue;
        reset_peak(i);
        rss[i] = memory_kib(i, "VmRSS");
    }
    ms = catch_up(leader, &meanwhile);
    peak = memory_kib(laggard, "VmHWM");
    stop_writers(writers, 2);
    printf("{\"catch_up\": \"state\", \"mib\": %u, \"ms\": %llu, \"writes_per_s\": %.0f, "
           "\"writes_per_s_meanwhile\": %.0f, "
           "\"slowest_write_ms\": %.1f, \"sender_grew_kib\": %lld, \"other_grew_kib\": %lld, "
           "\"receiver_peak_kib\": %llu, \"sender_kib\": %llu}\n",
           mib, (unsigned long long)ms, steady, meanwhile, (double)slowest_us / 1000,
           (long long)(memory_kib(leader, "VmHWM") - rss[leader]),
           (long long)(memory_kib(other, "VmHWM") - rss[other]), (unsigned long long)peak,
           (unsigned long long)memory_kib(leader, "VmRSS"));
    finish();
}

int main(int argc, char **argv)
{
    struct cluster_options options = {.n = NODES, .seconds = 600};
    const char *skip;
    bool state = argc > 1 && strcmp(argv[1], "state") == 0;
    long long amount = argc > 2 ? atoll(argv[2]) : state ? 256 : 100000;

    if (argc < 2 || argc > 3 || amount <= 0 || (!state && strcmp(argv[1], "log") != 0)) {
        fprintf(stderr, "usage: catch_up log [COMMANDS] | state [MIB]\n");
        return 2;
    }
    if (state) {
        options.flags[0] = "storage.log_keep_entries=2048";
        options.flags[1] = "storage.log_keep_bytes=8MiB";
    } else {
        options.flags[0] = "storage.log_keep_entries=10000000";
        options.flags[1] = "storage.log_keep_bytes=4GiB";
    }
    cluster = cluster_new(&options, &skip);
    if (cluster == NULL)
        return 1;
    if (state)
        from_state((unsigned)amount);
    else
        from_log((uint64_t)amount);
    return 0;
}
