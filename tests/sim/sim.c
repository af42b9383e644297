#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/sim/sim.h"

struct options options = {.drift = 10, .real_drift = -1, .fault_ms = 60000, .heal_ms = 40000};
struct world world;
struct counters counters;

static jmp_buf leave_run;
static char replay[512]; /* the command line's options, for repeating a run */

static const struct {
    const char *name;
    size_t offset;
} guards[] = {
#define GUARD(name)                                                                                          \
    {                                                                                                        \
#name, offsetof(struct engine_knobs, name)                                                           \
    }
    GUARD(no_init_fix),       GUARD(no_trim),          GUARD(no_solo_guard),    GUARD(no_split),
    GUARD(no_barrier),        GUARD(raw_commit),       GUARD(no_prevote_fix),   GUARD(no_vote_fix),
    GUARD(no_change_guard),   GUARD(no_stale_filter),  GUARD(no_fast_back),     GUARD(no_start_guard),
    GUARD(no_install_hold),   GUARD(no_write_clip),    GUARD(no_agreement),     GUARD(double_lease),
    GUARD(no_lease_hold),     GUARD(no_lease_promise), GUARD(lease_ungated),    GUARD(lease_from_receipt),
    GUARD(lease_log_end),     GUARD(lease_too_long),   GUARD(lease_short_hold), GUARD(lease_fast_transfer),
    GUARD(lease_fast_change), GUARD(lease_early),
#undef GUARD
};

void trace(const char *format, ...)
{
    va_list args;

    if (options.verbose == 0)
        return;
    printf("%8.3f ", (double)world.now / 1000);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static void print_nodes(void)
{
    for (int i = 1; i <= MAX_NODES; i++) {
        const struct node *n = &world.nodes[i];
        struct configuration c;

        if (!n->up)
            continue;
        engine_configuration(n->engine, &c);
        printf("  node %d role %d term %lu vote %lu leader %lu log %lu..%lu stored %lu commit %lu applied "
               "%lu snapshot "
               "%lu%s writes %zu change %lu servers",
               i, engine_role(n->engine), engine_term(n->engine), engine_vote(n->engine),
               engine_leader(n->engine), engine_first_index(n->engine), engine_last_index(n->engine),
               engine_stored_index(n->engine), engine_commit_index(n->engine),
               engine_applied_index(n->engine), engine_snapshot_index(n->engine),
               engine_installing(n->engine) ? " INSTALLING" : "", n->n_queue,
               engine_uncommitted_change(n->engine));
        for (unsigned k = 0; k < c.n; k++)
            printf(" %lu%s", c.servers[k].id, c.servers[k].role == SERVER_VOTER ? "v" : "s");
        putchar('\n');
    }
}

void violation(const char *format, ...)
{
    va_list args;

    printf("seed %lu, %.3f s: ", world.seed, (double)world.now / 1000);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    if (options.verbose > 0)
        print_nodes();
    fflush(stdout);
    longjmp(leave_run, 1);
}

static void on_abort(int signal_number)
{
    printf("seed %lu aborts at %.3f s\n", world.seed, (double)world.now / 1000);
    fflush(stdout);
    signal(SIGABRT, SIG_DFL);
}

/* ---- one run ---- */

static void random_config(void)
{
    static const uint32_t inflight[] = {8, 32, 32, 256};
    struct engine_config *c = &world.base;

    engine_config_defaults(c);
    c->election_ms = rnd_chance(0.8) ? 1000 : 300;
    c->heartbeat_ms = c->election_ms / 10;
    c->install_ms = rnd_chance(0.5) ? 5000 : 2000;
    c->max_inflight = inflight[rnd_range(0, 3)];
    c->pre_vote = rnd_chance(0.75);
    c->trailing = (uint32_t)rnd_range(0, 60);
    c->keep_entries = (uint32_t)rnd_range(10, 300);
    c->keep_bytes = rnd_chance(0.5) ? UINT64_C(1) << 30 : (uint64_t)rnd_range(1000, 30000);
    c->trim_step = (uint32_t)rnd_range(1, 30);
    c->drift_permille = (uint32_t)options.drift;
    if (options.leases)
        c->lease_ms = c->election_ms == 300 ? 150 : rnd_chance(0.5) ? 200 : 400;
}

static void build_cluster(void)
{
    int voters = options.nodes != 0 ? options.nodes : rnd_chance(0.6) ? 3 : 5;
    struct configuration c = {.n = 0};
    struct entry *first;

    for (int i = 1; i <= voters; i++) {
        char address[16];

        snprintf(address, sizeof address, "n%d", i);
        configuration_add(&c, (uint64_t)i, address, SERVER_VOTER);
    }
    first = configuration_encode(&c);
    first->term = 1;
    for (int i = 1; i <= MAX_NODES; i++) {
        struct node *n = &world.nodes[i];

        n->id = i;
        n->clock_offset = rnd_range(1000, 1000000);
        n->drift = options.real_drift >= 0 ? (int)rnd_range(-options.real_drift, options.real_drift)
                                           : (int)rnd_range(-options.drift, options.drift);
        disk_format(n, i <= voters ? first : NULL);
    }
    truth_on_committed(1, first, 0, 1);
    entry_put(first);
    faults_begin();
    for (int i = 1; i <= voters; i++)
        node_start(&world.nodes[i]);
}

/* The node whose timer is due first, and when. */
static struct node *next_timer(int64_t *t_out)
{
    struct node *first = NULL;

    for (int i = 1; i <= MAX_NODES; i++) {
        struct node *n = &world.nodes[i];
        int64_t t;

        if (!n->up)
            continue;
        t = node_when(n, engine_timeout(n->engine)) + n->tick_jitter;
        if (t < n->paused_until)
            t = n->paused_until;
        if (options.early_ticks && t > (world.now / 10 + 1) * 10)
            t = (world.now / 10 + 1) * 10;
        if (t < world.now)
            t = world.now;
        if (first == NULL || t < *t_out) {
            first = n;
            *t_out = t;
        }
    }
    return first;
}

/* Whose process takes it: it waits for one that is stopped. */
static const struct node *event_for(const struct event *e)
{
    switch (e->type) {
    case EVENT_DISK:
        return &world.nodes[e->node];
    case EVENT_MESSAGE:
        return &world.nodes[((struct engine_message *)e->data)->to];
    case EVENT_SNAPSHOT_FILE:
    case EVENT_SNAPSHOT_FINISHED:
    case EVENT_SNAPSHOT_FAILED:
        return &world.nodes[((struct transfer *)e->data)->from];
    case EVENT_SNAPSHOT_ARRIVES:
        return &world.nodes[((struct transfer *)e->data)->to];
    default:
        return NULL;
    }
}

static void run_one_event(void)
{
    struct event e = events_pop();
    struct node *n = &world.nodes[e.node];
    const struct node *waits;

    if (e.t > world.now)
        world.now = e.t;
    counters.events++;
    waits = event_for(&e);
    if (waits != NULL && waits->paused_until > world.now) {
        events_push_again(&e, waits->paused_until);
        return;
    }
    if (e.type == EVENT_DISK) {
        if (n->up && e.epoch == n->epoch && n->n_queue > 0)
            disk_finish(n);
    } else if (e.type == EVENT_MESSAGE ||
               (e.type >= EVENT_SNAPSHOT_FILE && e.type <= EVENT_SNAPSHOT_FAILED)) {
        network_on_event(&e);
    } else {
        faults_on_event(&e);
    }
}

static void tick(struct node *n, int64_t at)
{
    world.now = at;
    if (world.healed)
        n->tick_jitter = 0;
    else
        n->tick_jitter = rnd_chance(0.05) ? rnd_range(0, 200) : rnd_range(0, 3);
    node_check(n, engine_tick(n->engine, node_clock(n)), "tick");
}

static void free_world(void)
{
    for (int i = 1; i <= MAX_NODES; i++) {
        engine_free(world.nodes[i].engine);
        disk_free(&world.nodes[i]);
    }
    events_reset(0);
}

static bool run(uint64_t seed)
{
    volatile uint64_t steps = 0; /* survives longjmp() */

    memset(&world, 0, sizeof world);
    world.seed = seed;
    events_reset(seed);
    network_reset();
    truth_reset();
    lease_reset();
    if (setjmp(leave_run) != 0)
        return false;
    random_config();
    build_cluster();
    while (world.now < options.fault_ms + options.heal_ms) {
        int64_t timer_at = 0, event_at = 0;
        struct node *n = next_timer(&timer_at);

        if (++steps > 20000000)
            violation("too many events: something runs in circles");
        if (n != NULL && (!events_next(&event_at) || timer_at < event_at))
            tick(n, timer_at);
        else
            run_one_event();
    }
    faults_check_end();
    return true;
}

/* ---- the command ---- */

static const char usage[] =
    "usage: sim [OPTION]... FIRST_SEED [COUNT]\n"
    "  -v, -vv           trace what happens / messages too\n"
    "  -k                go on after a failure\n"
    "  --for TIME        run seeds from FIRST_SEED on for 90s, 30m or 8h\n"
    "  --nodes N         voters at the beginning (1 to 7)\n"
    "  --without GUARD   switch a guard of the engine off: something must be found\n"
    "  --seconds N       of faults (60); --heal N: without them, afterwards (40)\n"
    "  --no-faults --no-crash --no-change --no-transfer --in-order --early-ticks\n"
    "  --no-acknowledge-check\n"
    "  --leases          read leases; with one of these bugs: --no-pending --no-invalidation\n"
    "  --real-drift N    of the clocks, in permille: beyond 10 something must be found\n";

static void fail_usage(const char *text)
{
    fprintf(stderr, "sim: %s\n%s", text, usage);
    exit(2);
}

static void switch_off(const char *guard)
{
    for (size_t i = 0; i < sizeof guards / sizeof guards[0]; i++)
        if (strcmp(guards[i].name, guard) == 0) {
            *((bool *)&options.knobs + guards[i].offset) = true;
            return;
        }
    fprintf(stderr, "sim: the guards are");
    for (size_t i = 0; i < sizeof guards / sizeof guards[0]; i++)
        fprintf(stderr, " %s", guards[i].name);
    fputc('\n', stderr);
    exit(2);
}

static double seconds_of(const char *text)
{
    char *end;
    double v = strtod(text, &end);

    if (*end == 'm')
        return v * 60;
    if (*end == 'h')
        return v * 3600;
    return v;
}

static double elapsed(const struct timespec *since)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - since->tv_sec) + (double)(now.tv_nsec - since->tv_nsec) / 1e9;
}

/* One option at argv[at]; the number of words it took, 0: none is left. */
static int parse_option(int argc, char **argv, int at, bool *keep_going, double *for_seconds)
{
    static const struct {
        const char *name;
        bool *flag;
    } flags[] = {
        {"--no-faults", &options.no_faults},
        {"--no-crash", &options.no_crash},
        {"--no-change", &options.no_change},
        {"--no-transfer", &options.no_transfer},
        {"--leases", &options.leases},
        {"--no-pending", &options.no_pending},
        {"--no-invalidation", &options.no_invalidation},
        {"--in-order", &options.fifo},
        {"--early-ticks", &options.early_ticks},
        {"--no-acknowledge-check", &options.no_acknowledge_check},
    };
    const char *o = argv[at];
    const char *value = at + 1 < argc ? argv[at + 1] : NULL;

    if (o[0] != '-')
        return 0;
    if (strcmp(o, "-v") == 0 || strcmp(o, "-vv") == 0) {
        options.verbose = o[2] == 'v' ? 2 : 1;
        return 1;
    }
    if (strcmp(o, "-k") == 0) {
        *keep_going = true;
        return 1;
    }
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (strcmp(o, flags[i].name) == 0) {
            *flags[i].flag = true;
            return 1;
        }
    if (value == NULL)
        fail_usage("an option is unknown or has no value");
    if (strcmp(o, "--for") == 0)
        *for_seconds = seconds_of(value);
    else if (strcmp(o, "--nodes") == 0)
        options.nodes = atoi(value);
    else if (strcmp(o, "--without") == 0)
        switch_off(value);
    else if (strcmp(o, "--real-drift") == 0)
        options.real_drift = atoi(value);
    else if (strcmp(o, "--seconds") == 0)
        options.fault_ms = atoll(value) * 1000;
    else if (strcmp(o, "--heal") == 0)
        options.heal_ms = atoll(value) * 1000;
    else
        fail_usage("an option is unknown");
    return 2;
}

static void remember_option(char **argv, int at, int words)
{
    if (argv[at][1] == 'v' || argv[at][1] == 'k' || strcmp(argv[at], "--for") == 0)
        return;
    for (int i = 0; i < words; i++) {
        size_t used = strlen(replay);

        snprintf(replay + used, sizeof replay - used, "%s ", argv[at + i]);
    }
}

static void report(uint64_t first, uint64_t count, uint64_t failed, double seconds)
{
    const struct counters *c = &counters;

    printf("%lu seeds from %lu, %lu failed, %.1f s: %lu events, %lu messages (%lu lost), %lu commits, %lu "
           "elections, "
           "%lu starts, %lu crashes, %lu trims, %lu transfers begun, %lu installs, %lu changes, %lu leader "
           "transfers, "
           "%lu reads (%lu failed), lease %lu of %lu\n",
           count, first, failed, seconds, c->events, c->messages, c->lost, c->commits, c->elections,
           c->starts, c->crashes, c->trims, c->transfers_begun, c->installs, c->changes, c->leader_transfers,
           c->reads, c->reads_failed, c->lease_yes, c->lease_yes + c->lease_no);
    if (options.leases)
        printf("leases: %lu reads, %lu of them from caches, %lu not possible, %lu pauses\n", c->lease_reads,
               c->lease_cached, c->lease_without, c->pauses);
}

int main(int argc, char **argv)
{
    uint64_t first = 1, count = 1, done = 0, failed = 0;
    bool keep_going = false;
    double for_seconds = 0;
    struct timespec start;
    int at = 1, words;

    while (at < argc && (words = parse_option(argc, argv, at, &keep_going, &for_seconds)) > 0) {
        remember_option(argv, at, words);
        at += words;
    }
    if (at >= argc)
        fail_usage("no seed");
    first = strtoull(argv[at], NULL, 0);
    if (at + 1 < argc)
        count = strtoull(argv[at + 1], NULL, 0);
    if (options.nodes < 0 || options.nodes > MAX_NODES || options.heal_ms < 20000 || options.fault_ms <= 0)
        fail_usage("a number is out of range");
    signal(SIGABRT, on_abort);
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (uint64_t seed = first; for_seconds > 0 ? elapsed(&start) < for_seconds : seed < first + count;
         seed++) {
        bool passed = run(seed);

        done++;
        free_world();
        if (passed)
            continue;
        failed++;
        printf("replay: %s %s-v %lu\n", argv[0], replay, seed);
        if (!keep_going)
            break;
    }
    report(first, done, failed, elapsed(&start));
    return failed != 0;
}
