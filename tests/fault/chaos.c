/* Everything at once: clients of the nodes' sockets and programs on two mounts
 * write and read a few keys while nodes are killed, stopped and cut off, disks fail,
 * fill up and lose their power, and clocks jump (chaos_faults.c). In the end the
 * history of every key has to be linearizable, every acknowledged write has to be
 * there, the nodes have to be equal; and at no time may a call on a mount hang.
 *
 * How a mount's calls are read: a rename over a key sets it; an open for reading
 * is a read of the content; O_CREAT|O_EXCL creates; unlink deletes; EIO is an
 * unknown outcome. That a name is missing, or there, may come from the kernel's
 * memory (kvfs/DESIGN.md, "What is promised"): ENOENT and EEXIST tell nothing.
 *
 * Clients are processes of their own, one a mount, so that the programs started
 * by the test itself do not inherit open files of the mounts. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include "sync/base/clock.h"
#include "tests/fault/chaos_clients.h"
#include "tests/fault/chaos_faults.h"
#include "tests/fault/lib/needed.h"

/* timeout=5 for each thread: the kernel lets one at a time change a directory. */
#define CALL_LIMIT_MS (THREADS * 5000 + 3000)
#define RECOVER_MS 25000
#define ANSWERS 25 /* that each client gets between two faults */
#define DEFAULT_ROUNDS 13

static struct mounted mounts[MOUNTS];
static unsigned n_rounds, n_keys;
static pid_t crews[MOUNTS + 1];
static struct dice dice;
static const char *unavailable;

/* ---- the crews ---- */

/* path: the mount's; NULL: callers. */
static pid_t start_crew(unsigned crew, const char *path)
{
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    unsigned i;
    pid_t pid = fork();

    if (pid != 0) {
        guard_process(cluster->guard, pid);
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close_range(3, ~0U, 0);
    for (i = 0; i < THREADS; i++) {
        unsigned n = crew * THREADS + i;

        workers[i] = (struct worker){
            .n = n, .path = path, .slot = &watch->slots[n], .dice.state = (clock_wall_ns() + n) | 1};
        if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0)
            _exit(1);
    }
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    _exit(0);
}

static bool crew_ended(void *arg)
{
    pid_t *pid = arg;
    int status;

    if (*pid > 0 && waitpid(*pid, &status, WNOHANG) == *pid) {
        if (status != 0)
            violation("clients ended with status %d", status);
        guard_process_gone(cluster->guard, *pid);
        *pid = 0;
    }
    return *pid <= 0;
}

static void end_crews(void)
{
    unsigned i;

    shared->stop = true;
    for (i = 0; i <= MOUNTS; i++) {
        if (await(2 * CALL_LIMIT_MS + 10000, crew_ended, &crews[i]))
            continue;
        violation("clients of crew %u do not end", i);
        kill(crews[i], SIGKILL);
        await(5000, crew_ended, &crews[i]);
    }
}

/* ---- rounds ---- */

/* Every worker has had some answers since. */
static bool all_go_on(void *arg)
{
    const unsigned *before = arg;
    unsigned i;

    for (i = 0; i < WORKERS; i++)
        if (shared->acknowledged[i] < before[i] + ANSWERS)
            return watch->hung;
    return true;
}

static bool wait_for_progress(void)
{
    unsigned before[WORKERS], i;

    for (i = 0; i < WORKERS; i++)
        before[i] = shared->acknowledged[i];
    if (await(RECOVER_MS, all_go_on, before))
        return true;
    for (i = 0; i < WORKERS; i++)
        if (shared->acknowledged[i] < before[i] + ANSWERS)
            violation("worker %u got %u answers in %u s; last call: %s", i,
                      shared->acknowledged[i] - before[i], RECOVER_MS / 1000, watch->slots[i].what);
    return false;
}

/* ---- the test ---- */

static bool start_mounts(void)
{
    static const unsigned order[MOUNTS][NODES] = {{0, 1, 2}, {1, 2, 0}};
    unsigned i;

    for (i = 0; i < MOUNTS; i++) {
        char name[8];

        snprintf(name, sizeof name, "m%u", i + 1);
        if (!mount_start(&mounts[i], cluster, name, order[i], NODES, "timeout=5"))
            return false;
    }
    return true;
}

/* What is there when all is quiet, seen by a client and through each mount. */
static void read_all(void)
{
    struct worker w = {.n = WORKERS, .slot = &watch->slots[WORKERS], .dice.state = 1};
    struct caller c;
    unsigned key, i;

    caller_init(&c, cluster, 0);
    for (key = 0; key < n_keys && !watch->hung; key++) {
        char name[128];

        snprintf(name, sizeof name, "chaos/k%u", key);
        if (!ask_for(&w, &c, key, name))
            violation("key %u cannot be read", key);
        for (i = 0; i < MOUNTS; i++) {
            w.path = mounts[i].path;
            snprintf(name, sizeof name, "%s/chaos/k%u", w.path, key);
            if (!look(&w, key, name))
                violation("key %u cannot be read in %s", key, w.path);
        }
    }
    caller_deinit(&c);
}

static void print_sums(uint64_t ms)
{
    const struct watched *longest = watch_longest(watch);
    struct history_sums sums;

    history_sum(history, n_keys, &sums);
    printf(
        "# %u rounds in %llu s: %llu operations, %llu acknowledged, %llu refused, %llu unknown; %u programs "
        "started, %u stale handles\n",
        n_rounds, (unsigned long long)ms / 1000, (unsigned long long)sums.ops,
        (unsigned long long)sums.acknowledged, (unsigned long long)sums.refused,
        (unsigned long long)sums.unknown, shared->programs, shared->stale);
    faults_print();
    printf("# the longest call: %llu ms: %s\n", (unsigned long long)longest->longest_ms, longest->longest);
}

static void histories_are_linearizable_and_nothing_hangs(void **state)
{
    uint64_t begin = clock_boot_ms();
    unsigned round, key;
    bool equal;

    (void)state;
    for (round = 0; round < n_rounds && shared->violations == 0 && !watch->hung; round++) {
        char what[160] = "";
        unsigned ms = 200 + (unsigned)dice_roll(&dice, 3500);

        shared->generation = round / 2;
        if (!wait_for_progress())
            break;
        faults_strike(&dice, ms, what, sizeof what);
        faults_heal();
        printf("# round %u: %s for %u ms\n", round + 1, what, ms);
        fflush(stdout);
    }
    faults_heal();
    if (!watch->hung)
        wait_for_progress();
    end_crews();
    equal = cluster_equal(cluster, 30000);
    if (equal && !watch->hung)
        read_all();
    print_sums(clock_boot_ms() - begin);
    for (key = 0; key < n_keys; key++)
        if (!history_check(history, key))
            violation("key %u", key);
    assert_true(equal);
    assert_false(watch->hung);
    assert_int_equal(shared->violations, 0);
}

static int setup(void **state)
{
    struct cluster_options options = {.n = NODES, .clocks = true, .namespaces = geteuid() == 0};
    const char *why = unavailable = mount_unavailable();
    struct command_result result;
    struct caller c;
    unsigned i;

    (void)state;
    n_rounds = rounds(DEFAULT_ROUNDS);
    n_keys = (n_rounds / 2 + 1) * KEYS;
    if (why != NULL)
        return 0;
    /* Shared before the first fork. */
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    history = history_new(n_keys);
    watch = watch_new();
    if (shared == MAP_FAILED || history == NULL || watch == NULL)
        return -1;
    cluster = cluster_make(&options, &why);
    if (cluster == NULL && why != NULL) { /* without cuts, then */
        print_message("# nothing is cut off: %s\n", why);
        options.namespaces = false;
        cluster = cluster_make(&options, &why);
    }
    if (cluster == NULL)
        return -1;
    dice_init(&dice, "chaos");
    if (!faults_init(&dice) || !cluster_up(cluster))
        return -1;
    caller_init(&c, cluster, 0);
    i = caller_register(&c, 10000) == 0 && caller_set(&c, "chaos/ready", "1", 1, 10000, &result) == 0;
    caller_deinit(&c);
    if (i == 0 || !start_mounts() || !watch_start(watch, cluster, mounts, MOUNTS, CALL_LIMIT_MS))
        return -1;
    for (i = 0; i <= MOUNTS; i++)
        crews[i] = start_crew(i, i < MOUNTS ? mounts[i].path : NULL);
    return 0;
}

static int teardown(void **state)
{
    bool ok = true;
    unsigned i;

    (void)state;
    if (cluster == NULL)
        return 0;
    faults_heal();
    end_crews();
    for (i = 0; i < MOUNTS; i++)
        ok = mount_stop(&mounts[i]) && ok;
    ok = watch_free(watch) && ok;
    if (!ok || shared->violations > 0)
        cluster->keep = true;
    ok = faults_deinit() && ok;
    ok = cluster_free(cluster) && ok;
    history_free(history, n_keys);
    return ok ? 0 : -1;
}

static void with_mounts(void **state)
{
    needed(unavailable);
    histories_are_linearizable_and_nothing_hangs(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"histories_are_linearizable_and_nothing_hangs", with_mounts, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
