/* Everything at once: clients of the nodes' sockets and programs on two mounts
 * write and read a few keys while nodes are killed, stopped and cut off. In the
 * end the history of every key has to be linearizable, every acknowledged write has to
 * be there, the nodes have to be equal; and at no time may a call on a mount hang.
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
#include "sync/base/error.h"
#include "tests/fault/lib/caller.h"
#include "tests/fault/lib/history.h"
#include "tests/fault/lib/net.h"
#include "tests/fault/lib/raw.h"
#include "tests/fault/lib/watch.h"

#define NODES 3
#define MOUNTS 2
#define THREADS 3 /* a mount, and as many callers */
#define WORKERS ((MOUNTS + 1) * THREADS)
#define KEYS 6 /* in use at a time; each set for two rounds */
/* timeout=5 for each thread: the kernel lets one at a time change a directory. */
#define CALL_LIMIT_MS (THREADS * 5000 + 3000)
#define CALLER_MS 12000
#define RECOVER_MS 25000
#define ANSWERS 25 /* that each client gets between two faults */
#define DEFAULT_ROUNDS 13

struct shared {
    _Atomic bool stop;
    _Atomic unsigned generation;
    _Atomic unsigned acknowledged[WORKERS]; /* operations */
    _Atomic unsigned violations, stale, programs;
};

struct worker {
    unsigned n;           /* among all */
    const char *path;     /* of the mount; NULL: a caller */
    struct watched *slot; /* of the watch */
    struct dice dice;
    unsigned temporaries;
};

static struct cluster *cluster;
static struct mounted mounts[MOUNTS];
static struct shared *shared;
static struct history *history;
static struct watch *watch;
static unsigned n_rounds, n_keys;
static pid_t crews[MOUNTS + 1];

__attribute__((format(printf, 1, 2))) static void violation(const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    shared->violations++;
    fprintf(stderr, "# VIOLATION: %s\n", text);
}

/* Odd keys may be set in place by callers, so they keep one length: a reader may
 * meet an in-place change between two pages. */
static size_t value_len(struct worker *w, unsigned key)
{
    if (key % 2 == 1)
        return VALUE_SMALL;
    return dice_roll(&w->dice, 6) == 0 ? 65536 + dice_roll(&w->dice, VALUE_MAX - 65536)
                                       : VALUE_SMALL + dice_roll(&w->dice, 3000);
}

static unsigned any_key(struct worker *w)
{
    return shared->generation * KEYS + (unsigned)dice_roll(&w->dice, KEYS);
}

/* What a call on the mount may fail with while nodes fail. */
static enum outcome outcome_of(struct worker *w, const char *what, unsigned key, int err, int harmless)
{
    if (err == 0)
        return OUTCOME_OK;
    if (err == EIO)
        return OUTCOME_UNKNOWN;
    if (err == ESTALE)
        shared->stale++;
    else if (err != EROFS && err != harmless && !watch->hung)
        violation("worker %u: %s of key %u: %s", w->n, what, key, strerror(err));
    return OUTCOME_NONE;
}

/* ---- programs on a mount ---- */

/* Every system call between a pair of these is watched. */
#define CALL(w, result, call, ...)                                                                           \
    do {                                                                                                     \
        watch_enter((w)->slot, __VA_ARGS__);                                                                 \
        (result) = (call);                                                                                   \
        watch_leave((w)->slot);                                                                              \
    } while (0)

/* Another program starts, and inherits what is not closed on exec, also from the
 * other threads. */
static void run_true(struct worker *w)
{
    int status = 0;
    pid_t pid;

    watch_enter(w->slot, "a program is started (%s)", w->path);
    pid = fork();
    if (pid == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(9);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        violation("/bin/true: status %d", status);
    watch_leave(w->slot);
    shared->programs++;
}

static int write_all(struct worker *w, int fd, const char *data, size_t len, const char *path)
{
    while (len > 0) {
        size_t piece = len > 50000 ? 50000 : len;
        ssize_t n;

        CALL(w, n, write(fd, data, piece), "write %s", path);
        if (n <= 0)
            return n < 0 ? errno : EIO;
        data += n;
        len -= (size_t)n;
        if (dice_roll(&w->dice, 24) == 0)
            run_true(w);
    }
    return 0;
}

/* A new file with this value, closed. An errno. */
static int write_file(struct worker *w, const char *path, int flags, uint64_t value, size_t len)
{
    static __thread char data[VALUE_MAX];
    int fd, err, rv;

    flags |= dice_roll(&w->dice, 2) == 0 ? O_CLOEXEC : 0;
    CALL(w, fd, open(path, O_WRONLY | O_CREAT | flags, 0644), "open %s to write", path);
    if (fd < 0)
        return errno;
    value_fill(value, data, len);
    err = write_all(w, fd, data, len, path);
    if (err == 0 && dice_roll(&w->dice, 8) == 0) {
        CALL(w, rv, fsync(fd), "fsync %s", path);
        err = rv != 0 ? errno : 0;
    }
    CALL(w, rv, close(fd), "close %s", path);
    return err != 0 ? err : rv != 0 ? errno : 0;
}

static bool replace(struct worker *w, unsigned key, const char *path)
{
    char temporary[128];
    uint64_t value = history_value(history);
    int err, rv, token;
    enum outcome outcome;

    snprintf(temporary, sizeof temporary, "%s/chaos/t%u-%u", w->path, w->n, w->temporaries++);
    err = write_file(w, temporary, O_EXCL, value, value_len(w, key));
    if (err != 0) {
        outcome_of(w, "a temporary file", key, err, 0);
        CALL(w, rv, unlink(temporary), "unlink %s", temporary);
        return false;
    }
    token = history_call(history, key, w->n, LINEAR_SET, value);
    if (token < 0)
        return false;
    CALL(w, rv, rename(temporary, path), "rename %s over %s", temporary, path);
    err = rv != 0 ? errno : 0;
    outcome = outcome_of(w, "rename", key, err, 0);
    history_answer(history, key, token, outcome, err, 0);
    return outcome == OUTCOME_OK;
}

/* Length, or -errno. */
static ssize_t read_file(struct worker *w, const char *path, char *data, size_t size)
{
    size_t len = 0;
    ssize_t n = 1;
    int fd, rv, err = 0, flags = dice_roll(&w->dice, 2) == 0 ? O_CLOEXEC : 0;

    CALL(w, fd, open(path, O_RDONLY | flags), "open %s", path);
    if (fd < 0)
        return -errno;
    while (n > 0 && len < size) {
        CALL(w, n, read(fd, data + len, size - len), "read %s", path);
        if (n < 0)
            err = errno;
        len += n > 0 ? (size_t)n : 0;
    }
    CALL(w, rv, close(fd), "close %s (read)", path);
    if (rv != 0 && !watch->hung)
        violation("worker %u: close of %s: %s", w->n, path, strerror(errno));
    return err != 0 ? -err : (ssize_t)len;
}

static bool look(struct worker *w, unsigned key, const char *path)
{
    static __thread char data[VALUE_MAX + 1];
    uint64_t value, content = LINEAR_EMPTY;
    int token = history_call(history, key, w->n, LINEAR_READ, 0);
    enum outcome outcome;
    ssize_t len;

    if (token < 0)
        return false;
    len = read_file(w, path, data, sizeof data);
    outcome = outcome_of(w, "reading", key, len < 0 ? (int)-len : 0, ENOENT);
    if (len > 0 && value_is(data, (size_t)len, &value))
        content = history_content(value);
    else if (len > 0)
        violation("worker %u: key %u: %zd bytes are no whole value: %.26s", w->n, key, len, data);
    history_answer(history, key, token, outcome, len < 0 ? (int)-len : 0, content);
    return outcome == OUTCOME_OK || len == -ENOENT;
}

static bool make(struct worker *w, unsigned key, const char *path)
{
    int token = history_call(history, key, w->n, LINEAR_CREATE, 0), fd, rv, err;
    bool close_on_exec = dice_roll(&w->dice, 2) == 0;
    enum outcome outcome;

    if (token < 0)
        return false;
    CALL(w, fd, open(path, O_WRONLY | O_CREAT | O_EXCL | (close_on_exec ? O_CLOEXEC : 0), 0644), "create %s",
         path);
    err = fd < 0 ? errno : 0;
    outcome = outcome_of(w, "O_EXCL", key, err, EEXIST);
    history_answer(history, key, token, outcome, err, 0);
    if (err != 0)
        return err == EEXIST;
    if (dice_roll(&w->dice, 2) == 0)
        run_true(w);
    CALL(w, rv, close(fd), "close %s (new)", path);
    if (rv != 0 && !watch->hung)
        violation("worker %u: close of %s: %s", w->n, path, strerror(errno));
    return true;
}

static bool take_away(struct worker *w, unsigned key, const char *path)
{
    int token = history_call(history, key, w->n, LINEAR_DELETE, 0), rv, err;
    enum outcome outcome;

    if (token < 0)
        return false;
    CALL(w, rv, unlink(path), "unlink %s", path);
    err = rv != 0 ? errno : 0;
    outcome = outcome_of(w, "unlink", key, err, ENOENT);
    history_answer(history, key, token, outcome, err, 0);
    return outcome == OUTCOME_OK || err == ENOENT;
}

static bool do_on_mount(struct worker *w)
{
    unsigned key = any_key(w);
    char path[128];

    snprintf(path, sizeof path, "%s/chaos/k%u", w->path, key);
    switch (dice_roll(&w->dice, 10)) {
    case 0:
        return make(w, key, path);
    case 1:
        return take_away(w, key, path);
    case 2:
    case 3:
    case 4:
    case 5:
        return replace(w, key, path);
    default:
        return look(w, key, path);
    }
}

/* ---- callers ---- */

static enum outcome outcome_of_answer(struct worker *w, const char *what, unsigned key, int rv)
{
    if (rv == 0)
        return OUTCOME_OK;
    if (rv == KV_E_NOENT)
        return OUTCOME_REFUSED;
    if (rv != -ETIMEDOUT)
        violation("worker %u: %s of key %u: %d", w->n, what, key, rv);
    return OUTCOME_UNKNOWN;
}

static bool ask_for(struct worker *w, struct caller *c, unsigned key, const char *name)
{
    int token = history_call(history, key, w->n, LINEAR_READ, 0), rv;
    struct buffer data = BUFFER_INIT;
    uint64_t value, content = LINEAR_EMPTY;
    enum outcome outcome;
    struct attr attr;

    if (token < 0)
        return false;
    rv = caller_get_all(c, name, CALLER_MS, &attr, &data);
    outcome = outcome_of_answer(w, "reading", key, rv);
    if (rv == KV_E_NOENT) {
        outcome = OUTCOME_OK;
        content = LINEAR_ABSENT;
    } else if (rv == 0 && data.len > 0) {
        if (value_is((const char *)data.data, data.len, &value))
            content = history_content(value);
        else
            violation("worker %u: key %u: %zu bytes are no whole value", w->n, key, data.len);
    }
    history_answer(history, key, token, outcome, rv, content);
    buffer_deinit(&data);
    return outcome == OUTCOME_OK;
}

static bool do_as_caller(struct worker *w, struct caller *c)
{
    unsigned key = any_key(w);
    bool sets = key % 2 == 1 && dice_roll(&w->dice, 4) > 0;
    uint64_t value = history_value(history);
    struct command_result result;
    char name[64], data[VALUE_SMALL];
    struct command_body body = {.path = (const uint8_t *)name};
    enum outcome outcome;
    int token, rv;

    snprintf(name, sizeof name, "chaos/k%u", key);
    if (dice_roll(&w->dice, 2) == 0)
        return ask_for(w, c, key, name);
    token = history_call(history, key, w->n, sets ? LINEAR_SET : LINEAR_DELETE, value);
    if (token < 0)
        return false;
    body.path_len = strlen(name);
    value_fill(value, data, sizeof data);
    rv = sets ? caller_set(c, name, data, sizeof data, CALLER_MS, &result)
              : caller_write(c, COMMAND_DEL, &body, CALLER_MS, &result);
    outcome = outcome_of_answer(w, sets ? "set" : "delete", key, rv);
    history_answer(history, key, token, outcome, rv, 0);
    return outcome != OUTCOME_UNKNOWN;
}

/* ---- the crews ---- */

static void *work(void *arg)
{
    struct worker *w = arg;
    struct caller c;

    if (w->path == NULL) {
        caller_init(&c, cluster, w->n % NODES);
        while (!shared->stop && caller_register(&c, CALLER_MS) != 0)
            ;
    }
    while (!shared->stop) {
        if (w->path != NULL ? do_on_mount(w) : do_as_caller(w, &c))
            shared->acknowledged[w->n]++;
        pause_ms((unsigned)dice_roll(&w->dice, 12));
    }
    if (w->path == NULL)
        caller_deinit(&c);
    return NULL;
}

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

/* ---- faults ---- */

static bool down[NODES], stopped[NODES], cut[NODES], mute[NODES], deaf[NODES];

static void stop(unsigned i)
{
    cluster_signal(cluster, i, SIGSTOP);
    stopped[i] = true;
}

static void kill_node(unsigned i)
{
    cluster_signal(cluster, i, SIGKILL);
    down[i] = true;
}

static void cut_off(unsigned i)
{
    cut[i] = net_cut(cluster->net, i, true);
}

/* Only what it sends, or only what it is sent, is lost. */
static void cut_one_way(unsigned i, bool out, bool on)
{
    unsigned k;

    for (k = 0; k < NODES; k++)
        if (k != i)
            net_cut_way(cluster->net, out ? i : k, out ? k : i, on);
    *(out ? &mute[i] : &deaf[i]) = on;
}

static void heal(void)
{
    unsigned i;

    for (i = 0; i < NODES; i++) {
        if (mute[i])
            cut_one_way(i, true, false);
        if (deaf[i])
            cut_one_way(i, false, false);
        if (stopped[i])
            cluster_signal(cluster, i, SIGCONT);
        if (cut[i])
            net_cut(cluster->net, i, false);
        if (down[i])
            cluster_start(cluster, i);
        stopped[i] = down[i] = cut[i] = false;
    }
}

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

static void strike(struct dice *dice, const char **what_out)
{
    unsigned leader = cluster_leader(cluster, 15000), other, third, i;

    assert_int_not_equal(leader, CLUSTER_MAX);
    other = (leader + 1 + (unsigned)dice_roll(dice, 2)) % NODES;
    third = NODES - leader - other;
    switch (dice_roll(dice, cluster->options.namespaces ? 13 : 8)) {
    case 0:
        *what_out = "the leader is killed";
        kill_node(leader);
        break;
    case 1:
        *what_out = "a follower is killed";
        kill_node(other);
        break;
    case 2:
        *what_out = "leader and follower are killed";
        kill_node(leader);
        kill_node(other);
        break;
    case 3:
        *what_out = "both followers are killed";
        kill_node(other);
        kill_node(third);
        break;
    case 4:
        *what_out = "all are killed";
        for (i = 0; i < NODES; i++)
            kill_node(i);
        break;
    case 5:
        *what_out = "the leader is stopped";
        stop(leader);
        break;
    case 6:
        *what_out = "a follower is stopped";
        stop(other);
        break;
    case 7:
        *what_out = "leader and follower are stopped";
        stop(leader);
        stop(other);
        break;
    case 8:
        *what_out = "the leader is cut off";
        cut_off(leader);
        break;
    case 9:
        *what_out = "what the leader sends is lost";
        cut_one_way(leader, true, true);
        break;
    case 10:
        *what_out = "what the leader is sent is lost";
        cut_one_way(leader, false, true);
        break;
    case 11:
        *what_out = "a follower is cut off";
        cut_off(other);
        break;
    default:
        *what_out = "the leader is cut off, a follower is killed";
        cut_off(leader);
        kill_node(other);
        break;
    }
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
    printf("# the longest call: %llu ms: %s\n", (unsigned long long)longest->longest_ms, longest->longest);
}

static void histories_are_linearizable_and_nothing_hangs(void **state)
{
    struct dice dice;
    uint64_t begin = clock_boot_ms();
    unsigned round, key;
    bool equal;

    (void)state;
    dice_init(&dice, "chaos");
    for (round = 0; round < n_rounds && shared->violations == 0 && !watch->hung; round++) {
        const char *what = "";
        unsigned ms = 200 + (unsigned)dice_roll(&dice, 3500);

        shared->generation = round / 2;
        if (!wait_for_progress())
            break;
        strike(&dice, &what);
        pause_ms(ms); /* the fault's length */
        heal();
        printf("# round %u: %s for %u ms\n", round + 1, what, ms);
        fflush(stdout);
    }
    heal();
    if (!watch->hung)
        wait_for_progress();
    end_crews();
    equal = cluster_equal(cluster, 30000);
    if (!watch->hung)
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
    struct cluster_options options = {.n = NODES, .namespaces = geteuid() == 0};
    const char *why = mount_unavailable();
    struct command_result result;
    struct caller c;
    unsigned i;

    (void)state;
    n_rounds = rounds(DEFAULT_ROUNDS);
    n_keys = (n_rounds / 2 + 1) * KEYS;
    if (why != NULL) {
        print_message("# skipped: %s\n", why);
        return 0;
    }
    /* Shared before the first fork. */
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    history = history_new(n_keys);
    watch = watch_new();
    if (shared == MAP_FAILED || history == NULL || watch == NULL)
        return -1;
    cluster = cluster_new(&options, &why);
    if (cluster == NULL && why != NULL) { /* without cuts, then */
        print_message("# nothing is cut off: %s\n", why);
        options.namespaces = false;
        cluster = cluster_new(&options, &why);
    }
    if (cluster == NULL)
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
    heal();
    end_crews();
    for (i = 0; i < MOUNTS; i++)
        ok = mount_stop(&mounts[i]) && ok;
    ok = watch_free(watch) && ok;
    if (!ok || shared->violations > 0)
        cluster->keep = true;
    ok = cluster_free(cluster) && ok;
    history_free(history, n_keys);
    return ok ? 0 : -1;
}

static void with_mounts(void **state)
{
    if (cluster == NULL)
        skip();
    histories_are_linearizable_and_nothing_hangs(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"histories_are_linearizable_and_nothing_hangs", with_mounts, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
