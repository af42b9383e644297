#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sync/base/error.h"
#include "tests/sim/whole/defaults.h"
#include "tests/sim/whole/lockers.h"
#include "tests/sim/whole/whole.h"

/* Calm: when clients end, and how soon an answer has to come once things have settled. */
#define SETTLE (5 * SECOND)
#define CLIENTS_END (4 * SECOND) /* before the end */

struct options options = {.fault_us = 20 * SECOND, .calm_us = 21 * SECOND};
struct world world;
struct counters counters;

const char *const plant_names[PLANT_COUNT] = {
    [PLANT_NONE] = "none",
    [PLANT_EARLY_ACK] = "early-ack",
    [PLANT_LOST_VOTE] = "lost-vote",
    [PLANT_EARLY_TRIM] = "early-trim",
    [PLANT_LOST_RETRY] = "lost-retry",
    [PLANT_LOST_FRAME] = "lost-frame",
    [PLANT_APPLY_TWICE] = "apply-twice",
    [PLANT_LOST_PARTS] = "lost-parts",
    [PLANT_NO_SESSION] = "no-session",
    [PLANT_STALE_READ] = "stale-read",
    [PLANT_LOCAL_CLOCK] = "local-clock",
    [PLANT_NO_WAIT] = "no-wait",
    [PLANT_STILL_CLOCK] = "still-clock",
    [PLANT_HALF_TXN] = "half-txn",
    [PLANT_NO_EXPIRY] = "no-expiry",
    [PLANT_OLD_FENCE] = "old-fence",
    [PLANT_SHORT_LOCK] = "short-lock",
    [PLANT_LOST_RESULT] = "lost-result",
    [PLANT_DOOR_OPEN] = "door-open",
    [PLANT_ANY_CLOCK] = "any-clock",
    [PLANT_EMPTY_PUT] = "empty-put",
    [PLANT_OLD_SESSION] = "old-session",
};

static jmp_buf leave_run;
static char replay[256];

void violation(const char *format, ...)
{
    va_list args;

    printf("seed %lu, %.6f s: ", world.seed, (double)world.now / SECOND);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
    longjmp(leave_run, 1);
}

/* ---- one run ---- */

static void build_host(int id)
{
    struct host *h = &world.hosts[id];
    struct config *c = &h->config;
    size_t k = 0;

    h->id = id;
    snprintf(h->name, sizeof h->name, "n%d", id);
    snprintf(h->dir, sizeof h->dir, "%s/%d", world.dir, id);
    h->boot_offset_us = rnd_range(1, 1000000) * MS;
    h->drift_ppm = rnd_range(-5000, 5000);
    h->wall_offset_us = rnd_range(-SECOND, SECOND);
    /* The first to stamp anything may be ahead of all the others. */
    if (rnd_chance(0.1))
        h->wall_offset_us += rnd_range(0, 7200) * SECOND;
    h->disk.start_index = 1;
    h->founding = id == 1;
    c->name = h->name;
    c->id = (uint16_t)id;
    c->data_dir = h->dir;
    c->cluster_id = 1;
    c->election_ms = world.hosts[1].config.election_ms;
    c->heartbeat_ms = c->election_ms / 10;
    c->flush_ms = (uint32_t)rnd_range(5, 300);
    c->flush_commands = (uint32_t)rnd_range(1, 200);
    c->log_keep_entries = (uint64_t)rnd_range(1, 200);
    c->log_keep_bytes = (uint64_t)rnd_range(1000, 100000);
    c->peers = h->peers;
    for (int i = 1; i <= world.n; i++)
        if (i != id)
            h->peers[k++] = (struct config_peer){.name = world.hosts[i].name, .id = (uint16_t)i};
    c->n_peers = k;
}

static void build(void)
{
    world.n = options.hosts != 0 ? options.hosts : rnd_chance(0.6) ? 3 : (int)rnd_range(3, MAX_HOSTS);
    engine_defaults.trailing = (uint32_t)rnd_range(0, 100);
    engine_defaults.trim_step = (uint32_t)rnd_range(1, 50);
    engine_defaults.max_inflight = rnd_chance(0.5) ? 256 : (uint32_t)rnd_range(4, 64);
    engine_defaults.pre_vote = rnd_chance(0.8);
    world.hosts[1].config.election_ms = rnd_chance(0.7) ? 1000 : 400;
    for (int i = 1; i <= world.n; i++)
        build_host(i);
    world.leases = rnd_chance(0.7);
    world.short_sessions = rnd_chance(0.4);
    clients_start();
    lockers_start();
    faults_start();
    for (int i = 1; i <= world.n; i++)
        host_start(&world.hosts[i]);
}

static void free_world(void)
{
    world.calm = false; /* nobody hears of this end */
    for (int i = 1; i <= world.n; i++) {
        host_crash(&world.hosts[i], false);
        disk_deinit(&world.hosts[i].disk);
    }
    forget_free();
    network_free();
    queue_reset(0);
    clients_free();
    lockers_free();
    truth_reset();
}

static void check_answers(void)
{
    /* As long as states are damaged, there may be none that answers. */
    int64_t from = options.damage || options.forget ? world.settled : options.fault_us + SETTLE;
    int64_t within = ANSWER_WITHIN_ELECTIONS * (int64_t)world.hosts[1].config.election_ms * MS;

    if (!clients_idle())
        violation("liveness: a client waits still");
    for (size_t i = 0; i < op_count(); i++) {
        const struct op *op = op_at(i);

        if (op->call > from &&
            ((op->outcome != OUTCOME_ANSWERED && !op->sessionless && op->code != KV_E_SESSION) ||
             op->answered - op->call > within))
            violation("liveness: op %lu (%s) of client %d took %.3f s without any fault", op->id, op_text(op),
                      op->client, (double)(op->answered - op->call) / SECOND);
    }
}

static bool run(uint64_t seed)
{
    int64_t end = options.fault_us + options.calm_us;

    memset(&world, 0, sizeof world);
    snprintf(world.dir, sizeof world.dir, "/dev/shm/kvfs-whole-%ld", (long)getpid());
    world.seed = seed;
    queue_reset(seed);
    network_reset();
    truth_reset();
    if (setjmp(leave_run) != 0)
        return false;
    build();
    while (queue_step(options.fault_us))
        ;
    world.now = options.fault_us;
    faults_stop();
    while (queue_step(end - CLIENTS_END))
        ;
    clients_stop();
    lockers_stop();
    while (queue_step(end))
        ;
    /* Nobody writes, but what has a time to live goes. */
    while (!truth_is_level() && queue_step(end + SECOND))
        ;
    check_answers();
    truth_check_end();
    history_check();
    return true;
}

/* ---- the command ---- */

static const char usage[] = "usage: whole [OPTION]... FIRST_SEED [COUNT]\n"
                            "  -v, -vv        trace what happens / frames too\n"
                            "  -k             go on after a failure\n"
                            "  --for TIME     run seeds from FIRST_SEED on for 90s, 30m or 8h\n"
                            "  --nodes N      3 to 5\n"
                            "  --seconds N    of faults (20)\n"
                            "  --no-faults    only changes of leadership\n"
                            "  --damage       state.db may be found damaged after a crash\n"
                            "  --forget       a node's files may be put back from an older copy, or lost\n"
                            "  --locks        mounts lock files, too\n"
                            "  --plant NAME   a bug (see README.md); the result is 0 if it was found\n";

static void fail_usage(const char *text) __attribute__((noreturn));
static void fail_usage(const char *text)
{
    fprintf(stderr, "whole: %s\n%s", text, usage);
    exit(2);
}

static void plant(const char *name)
{
    for (int i = 0; i < PLANT_COUNT; i++)
        if (strcmp(plant_names[i], name) == 0) {
            options.plant = (enum plant)i;
            options.forget |= options.plant == PLANT_DOOR_OPEN;
            options.locks |= options.plant == PLANT_EMPTY_PUT || options.plant == PLANT_OLD_SESSION;
            return;
        }
    fputs("whole: the plants are", stderr);
    for (int i = 1; i < PLANT_COUNT; i++)
        fprintf(stderr, " %s", plant_names[i]);
    fputc('\n', stderr);
    exit(2);
}

static double seconds_of(const char *text)
{
    char *end;
    double v = strtod(text, &end);

    return *end == 'm' ? v * 60 : *end == 'h' ? v * 3600 : v;
}

static double elapsed(const struct timespec *since)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - since->tv_sec) + (double)(now.tv_nsec - since->tv_nsec) / 1e9;
}

static void remember(char **argv, int words)
{
    for (int i = 0; i < words; i++) {
        size_t used = strlen(replay);

        snprintf(replay + used, sizeof replay - used, "%s ", argv[i]);
    }
}

/* One option; the number of words it took, 0: none is left. */
static int parse_option(int argc, char **argv, bool *keep_going, double *for_seconds)
{
    const char *value = argc > 1 ? argv[1] : NULL;

    if (argc == 0 || argv[0][0] != '-')
        return 0;
    if (strcmp(argv[0], "-v") == 0 || strcmp(argv[0], "-vv") == 0) {
        options.verbose = argv[0][2] == 'v' ? 2 : 1;
        return 1;
    }
    if (strcmp(argv[0], "-k") == 0) {
        *keep_going = true;
        return 1;
    }
    if (strcmp(argv[0], "--no-faults") == 0 || strcmp(argv[0], "--damage") == 0 ||
        strcmp(argv[0], "--forget") == 0 || strcmp(argv[0], "--locks") == 0) {
        *(argv[0][2] == 'n'   ? &options.no_faults
          : argv[0][2] == 'd' ? &options.damage
          : argv[0][2] == 'l' ? &options.locks
                              : &options.forget) = true;
        remember(argv, 1);
        return 1;
    }
    if (value == NULL)
        fail_usage("an option is unknown or has no value");
    if (strcmp(argv[0], "--for") == 0) {
        *for_seconds = seconds_of(value);
        return 2;
    }
    if (strcmp(argv[0], "--nodes") == 0)
        options.hosts = atoi(value);
    else if (strcmp(argv[0], "--seconds") == 0)
        options.fault_us = atoll(value) * SECOND;
    else if (strcmp(argv[0], "--plant") == 0)
        plant(value);
    else
        fail_usage("an option is unknown");
    remember(argv, 2);
    return 2;
}

static void folders(bool make)
{
    char dir[64], path[80];

    snprintf(dir, sizeof dir, "/dev/shm/kvfs-whole-%ld", (long)getpid());
    if (make && mkdir(dir, 0700) != 0)
        fail_usage("/dev/shm cannot be written");
    for (int i = 1; i <= MAX_HOSTS; i++) {
        static const char *const files[] = {"install.meta", "install.meta.new", "state.db.incoming",
                                            "state.db.outgoing", "readmitted"};

        snprintf(path, sizeof path, "%s/%d", dir, i);
        if (make) {
            mkdir(path, 0700);
            continue;
        }
        for (size_t k = 0; k < sizeof files / sizeof files[0]; k++) {
            snprintf(path, sizeof path, "%s/%d/%s", dir, i, files[k]);
            unlink(path);
        }
        snprintf(path, sizeof path, "%s/%d", dir, i);
        rmdir(path);
    }
    if (!make)
        rmdir(dir);
}

static void report_locks(void)
{
    uint64_t granted, here, given_back;

    lockers_count(&granted, &here, &given_back);
    printf("%lu locks by commands, %lu in tables, %lu tables given back\n", granted, here, given_back);
}

static void report(uint64_t first, uint64_t count, uint64_t failed, double seconds)
{
    const struct counters *c = &counters;

    printf("%lu seeds from %lu, %lu failed, %.1f s: %lu happenings, %lu frames, %lu links, %lu entries;\n",
           count, first, failed, seconds, c->happenings, c->frames, c->links, c->commits);
    printf("%lu writes, %lu reads, %lu answered, %lu open, %lu refused, %lu retries, %lu parts, %lu sessions "
           "lost;\n",
           c->writes, c->reads, c->answered, c->open, c->refused, c->retries, c->parts, c->sessions_lost);
    printf("%lu leaders, %lu transfers, %lu starts, %lu crashes, %lu deaths, %lu installs, %lu heals, %lu "
           "put back, "
           "%lu wiped, %lu readmitted, %lu times set back, %lu reads under a lease\n",
           c->leaders, c->transfers, c->starts, c->crashes, c->deaths, c->installs, c->heals, c->put_back,
           c->wiped, c->readmitted, c->set_back, c->leased);
    if (options.locks)
        report_locks();
}

int main(int argc, char **argv)
{
    uint64_t first, count = 1, done = 0, failed = 0;
    bool keep_going = false;
    double for_seconds = 0;
    struct timespec start;
    int at = 1, words;

    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    while ((words = parse_option(argc - at, argv + at, &keep_going, &for_seconds)) > 0)
        at += words;
    if (at >= argc)
        fail_usage("no seed");
    first = strtoull(argv[at], NULL, 0);
    if (at + 1 < argc)
        count = strtoull(argv[at + 1], NULL, 0);
    if (options.hosts != 0 && (options.hosts < 3 || options.hosts > MAX_HOSTS))
        fail_usage("3 to 5 nodes");
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (uint64_t seed = first; for_seconds > 0 ? elapsed(&start) < for_seconds : seed < first + count;
         seed++) {
        bool passed;

        folders(true);
        passed = run(seed);
        free_world();
        folders(false);
        done++;
        if (passed)
            continue;
        failed++;
        printf("replay: %s %s-v %lu\n", argv[0], replay, seed);
        if (!keep_going)
            break;
    }
    report(first, done, failed, elapsed(&start));
    return options.plant != PLANT_NONE ? failed == 0 : failed != 0;
}
