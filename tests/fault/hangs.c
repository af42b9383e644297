/* Nothing hangs. With its node stopped, killed, without a quorum, without its sshd
 * or cut off, every kind of call on a mount comes back within the mount's timeout,
 * with EIO, or EROFS for a change when the node knows that it is in a minority
 * (never with success, never EAGAIN). Afterwards the mount works again. What is staged
 * goes through if the cluster is back in time.
 *
 * The calls are made by a process of its own, a thread each, in folders of their
 * own (the kernel lets one thread at a time change a directory). */
#include <dirent.h>
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
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "tests/fault/lib/caller.h"
#include "tests/fault/lib/needed.h"
#include "tests/fault/lib/net.h"
#include "tests/fault/lib/once.h"
#include "tests/fault/lib/sshd.h"
#include "tests/fault/lib/watch.h"

#define NODES 3
#define TIMEOUT_MS 5000
#define MARGIN_MS 2500 /* for a machine that has other things to do */
#define LIMIT_MS (TIMEOUT_MS + MARGIN_MS)
#define RECOVER_MS 25000

enum call {
    CALL_STAT,
    CALL_STAT_NEW, /* of a name that the kernel has not heard of */
    CALL_READ,
    CALL_CREATE,
    CALL_CLOSE,
    CALL_FSYNC,
    CALL_RENAME,
    CALL_UNLINK,
    CALL_MKDIR,
    CALL_CHMOD,
    CALL_READDIR,
    CALL_STATFS,
    CALLS
};

static const struct {
    const char *name;
    bool changes;
    bool cached;  /* the kernel may know the answer */
    bool local;   /* the node knows it without the others (kvfs/DESIGN.md: only opens are barriers) */
    bool by_name; /* what the name stands for is asked of the cluster first */
} calls[CALLS] = {
    [CALL_STAT] = {.name = "stat", .cached = true, .local = true},
    [CALL_STAT_NEW] = {.name = "stat of an unknown name", .by_name = true},
    [CALL_READ] = {.name = "open to read"},
    [CALL_CREATE] = {.name = "create", .changes = true, .by_name = true},
    [CALL_CLOSE] = {.name = "close", .changes = true},
    [CALL_FSYNC] = {.name = "fsync", .changes = true},
    [CALL_RENAME] = {.name = "rename", .changes = true, .by_name = true},
    [CALL_UNLINK] = {.name = "unlink", .changes = true, .by_name = true},
    [CALL_MKDIR] = {.name = "mkdir", .changes = true, .by_name = true},
    [CALL_CHMOD] = {.name = "chmod", .changes = true, .by_name = true},
    [CALL_READDIR] = {.name = "readdir"},
    [CALL_STATFS] = {.name = "statfs", .local = true},
};

/* Shared with the process that makes the calls. */
struct shared {
    _Atomic unsigned ready, done;
    _Atomic bool go;
    struct {
        int err;
        unsigned ms;
    } results[CALLS];
};

struct maker {
    enum call call;
    const char *path; /* the mount's */
    char unheard[24]; /* a name that nobody has asked for */
};

static struct cluster *cluster;
static struct shared *shared;
static struct watch *watch;
static const char *unavailable;

/* ---- the calls ---- */

static void path_of(const struct maker *m, const char *name, char *out, size_t size)
{
    snprintf(out, size, "%s/hangs/%u/%s", m->path, (unsigned)m->call, name);
}

static int put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ssize_t n = fd >= 0 ? write(fd, text, strlen(text)) : -1;

    return fd >= 0 && close(fd) == 0 && n > 0 ? 0 : -1;
}

static int read_all(const char *path)
{
    char data[64];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, data, sizeof data) : -1;
    int saved = errno;

    if (fd >= 0)
        close(fd);
    errno = saved;
    return n >= 0 ? 0 : -1;
}

static int list(const char *path)
{
    DIR *dir = opendir(path);
    int saved;

    if (dir == NULL)
        return -1;
    errno = 0;
    while (readdir(dir) != NULL)
        ;
    saved = errno;
    closedir(dir);
    errno = saved;
    return saved == 0 ? 0 : -1;
}

static int make(const struct maker *m, int fd)
{
    char path[160], other[160];
    struct statvfs fs;
    struct stat st;

    path_of(m, "old", path, sizeof path);
    path_of(m, "new", other, sizeof other);
    switch (m->call) {
    case CALL_STAT:
        return stat(path, &st);
    case CALL_STAT_NEW:
        path_of(m, m->unheard, other, sizeof other);
        return stat(other, &st);
    case CALL_READ:
        return read_all(path);
    case CALL_CREATE:
        fd = open(other, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        return fd < 0 ? -1 : close(fd);
    case CALL_CLOSE:
        return close(fd);
    case CALL_FSYNC:
        return fsync(fd);
    case CALL_RENAME:
        return rename(path, other);
    case CALL_UNLINK:
        return unlink(path);
    case CALL_MKDIR:
        return mkdir(other, 0755);
    case CALL_CHMOD:
        return chmod(path, 0600);
    case CALL_READDIR:
        path_of(m, "", path, sizeof path);
        return list(path);
    default:
        return statvfs(path, &fs);
    }
}

static void *make_one(void *arg)
{
    const struct maker *m = arg;
    char path[160];
    int fd = -1, rv;
    uint64_t begin;

    path_of(m, "", path, sizeof path);
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        return NULL;
    path_of(m, "new", path, sizeof path); /* from a test before */
    if (remove(path) != 0 && errno != ENOENT)
        return NULL;
    path_of(m, "old", path, sizeof path);
    if (put(path, "before") != 0)
        return NULL;
    if (m->call == CALL_CLOSE || m->call == CALL_FSYNC) {
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "staged", 6) != 6)
            return NULL;
    }
    shared->ready++;
    while (!shared->go)
        pause_ms(1);
    begin = clock_boot_ms();
    watch_enter(&watch->slots[m->call], "%s in %s", calls[m->call].name, m->path);
    rv = make(m, fd);
    watch_leave(&watch->slots[m->call]);
    shared->results[m->call].err = rv != 0 ? errno : 0;
    shared->results[m->call].ms = (unsigned)(clock_boot_ms() - begin);
    shared->done++;
    if (m->call == CALL_FSYNC)
        close(fd); /* this one may take as long once more */
    return NULL;
}

static pid_t start_makers(const char *path, enum call first, enum call last)
{
    struct maker makers[CALLS];
    pthread_t threads[CALLS];
    unsigned i;
    pid_t pid;

    memset(shared, 0, sizeof *shared);
    pid = fork();
    if (pid != 0) {
        guard_process(cluster->guard, pid);
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close_range(3, ~0U, 0);
    for (i = first; i <= last; i++) {
        makers[i] = (struct maker){.call = (enum call)i, .path = path};
        snprintf(makers[i].unheard, sizeof makers[i].unheard, "u%d", (int)getpid());
        if (pthread_create(&threads[i], NULL, make_one, &makers[i]) != 0)
            _exit(1);
    }
    for (i = first; i <= last; i++)
        pthread_join(threads[i], NULL);
    _exit(0);
}

static bool are_ready(void *arg)
{
    return shared->ready == *(unsigned *)arg;
}

static bool are_done(void *arg)
{
    return shared->done == *(unsigned *)arg;
}

struct maker_process {
    pid_t pid;
    int status;
};

static bool has_ended(void *arg)
{
    struct maker_process *p = arg;

    return waitpid(p->pid, &p->status, WNOHANG) == p->pid;
}

/* False: they do not end by themselves. */
static bool end_makers(pid_t pid)
{
    struct maker_process p = {.pid = pid};
    bool ended = await(2 * LIMIT_MS, has_ended, &p);

    if (!ended) {
        kill(pid, SIGKILL);
        await(5000, has_ended, &p);
    }
    guard_process_gone(cluster->guard, pid);
    return ended && p.status == 0;
}

/* ---- the mount ---- */

static bool is_usable(void *arg)
{
    const struct mounted *m = arg;
    char path[100], name[16], out[64];
    const char *const argv[] = {
        "sh", "-c", "echo \"$1\" >\"$0\" && test \"$(cat \"$0\")\" = \"$1\" && rm \"$0\"", path, name, NULL};
    static unsigned n;

    snprintf(path, sizeof path, "%s/usable", m->path);
    snprintf(name, sizeof name, "%u", n++);
    return run_program(argv, LIMIT_MS * 2, out, sizeof out) == 0;
}

struct scene {
    struct mounted mount;
    pid_t pid;
};

static struct scene scene; /* the one of the test that runs */

/* nodes: n_nodes of them, the preferred one first. */
static void begin_scene_on(const char *name, const unsigned *nodes, unsigned n_nodes, enum call first,
                           enum call last)
{
    char path[100];
    unsigned n = last - first + 1;

    needed(unavailable);
    watch = watch_new();
    assert_non_null(watch);
    assert_true(mount_start(&scene.mount, cluster, name, nodes, n_nodes, "timeout=5,commit=600"));
    assert_true(watch_start(watch, cluster, &scene.mount, 1, LIMIT_MS + 4500));
    assert_true(await(RECOVER_MS, is_usable, &scene.mount));
    snprintf(path, sizeof path, "%s/hangs", scene.mount.path);
    assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
    scene.pid = start_makers(scene.mount.path, first, last);
    assert_true(await(RECOVER_MS, are_ready, &n));
}

static void begin_scene(const char *name, unsigned node, enum call first, enum call last)
{
    begin_scene_on(name, &node, 1, first, last);
}

static bool leave_scene(void)
{
    bool ok = true;

    shared->go = true;
    if (scene.pid > 0)
        ok = end_makers(scene.pid);
    ok = mount_stop(&scene.mount) && ok;
    ok = watch_free(watch) && ok;
    scene = (struct scene){0};
    watch = NULL;
    return ok;
}

static void end_scene(void)
{
    assert_true(await(RECOVER_MS, is_usable, &scene.mount));
    assert_true(leave_scene());
}

/* Lets the calls begin, and waits for all of them. */
static void let_go(unsigned n)
{
    shared->go = true;
    assert_true(await(LIMIT_MS + 6000, are_done, &n));
}

/* answers: the node does, it only lacks a majority. */
static bool is_expected(enum call c, int err, bool answers)
{
    return err == EIO || (err == EROFS && calls[c].changes && answers) ||
           (err == 0 && (calls[c].cached || (answers && calls[c].local)));
}

static void assert_all_refused(bool answers)
{
    unsigned i, wrong = 0;

    for (i = 0; i < CALLS; i++) {
        int err = shared->results[i].err;
        unsigned ms = shared->results[i].ms;

        printf("#   %-24s %5u ms: %s\n", calls[i].name, ms, err == 0 ? "ok" : strerror(err));
        if (!is_expected((enum call)i, err, answers) || ms > LIMIT_MS) {
            fprintf(stderr, "# %s: %s after %u ms\n", calls[i].name, strerror(err), ms);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
    assert_false(watch->hung);
}

/* ---- faults ---- */

static void its_node_is_stopped(void **state)
{
    (void)state;
    begin_scene("stopped", 0, 0, CALLS - 1);
    cluster_signal(cluster, 0, SIGSTOP);
    let_go(CALLS);
    cluster_signal(cluster, 0, SIGCONT);
    assert_all_refused(false);
    end_scene();
}

static void its_node_is_killed(void **state)
{
    (void)state;
    begin_scene("killed", 0, 0, CALLS - 1);
    cluster_signal(cluster, 0, SIGKILL);
    let_go(CALLS);
    assert_true(cluster_start(cluster, 0));
    assert_all_refused(false);
    end_scene();
}

/* A read lease outlives the majority that gave it, by 200 ms at most: until then reads are right, and
 * answered. */
static bool has_no_lease(void *arg)
{
    static char out[65536];

    run_kvnode(cluster, *(unsigned *)arg, 2000, out, sizeof out,
               (const char *const[]){"status", "--json", NULL});
    return strstr(out, "\"lease\":false") != NULL;
}

static void both_other_nodes_are_killed(void **state)
{
    (void)state;
    begin_scene("quorum", 0, 0, CALLS - 1);
    cluster_signal(cluster, 1, SIGKILL);
    cluster_signal(cluster, 2, SIGKILL);
    assert_true(await(RECOVER_MS, has_no_lease, &(unsigned){0}));
    let_go(CALLS);
    assert_true(cluster_start(cluster, 1));
    assert_true(cluster_start(cluster, 2));
    assert_all_refused(true);
    end_scene();
}

/* It refuses writes at once, instead of waiting for a leader. */
static bool knows(void *arg)
{
    return once_write(cluster, *(unsigned *)arg, "hangs/unwritten", "x", 200) == KV_E_ROFS;
}

static void its_node_is_cut_off(void **state)
{
    unsigned node = 0, i;

    (void)state;
    needed(cluster != NULL && !cluster->options.namespaces ? "needs network namespaces" : unavailable);
    begin_scene("cut", node, 0, CALLS - 1);
    assert_true(net_cut(cluster->net, node, true));
    assert_true(await(RECOVER_MS, knows, &node));
    let_go(CALLS);
    assert_true(net_cut(cluster->net, node, false));
    assert_all_refused(true);
    for (i = 0; i < CALLS; i++) { /* it need not wait to know, where no name is to be looked up */
        if (calls[i].changes && !calls[i].by_name &&
            (shared->results[i].err != EROFS || shared->results[i].ms > 1500))
            fail_msg("%s: %s after %u ms", calls[i].name, strerror(shared->results[i].err),
                     shared->results[i].ms);
    }
    end_scene();
}

/* ---- the sshd ---- */

/* Links are lost and come back: calls may take that long, and may succeed. */
static void its_sshd_is_killed(void **state)
{
    unsigned leader, node, i, n, wrong = 0;
    pid_t pids[64];

    (void)state;
    needed(unavailable);
    leader = cluster_leader(cluster, RECOVER_MS);
    assert_int_not_equal(leader, CLUSTER_MAX);
    node = (leader + 1) % NODES;
    begin_scene("sshd", node, 0, CALLS - 1);
    n = sshd_find(cluster, node, pids, 64);
    assert_true(n > 0);
    for (i = 0; i < n; i++)
        kill(pids[i], SIGKILL);
    let_go(CALLS);
    for (i = 0; i < CALLS; i++) {
        int err = shared->results[i].err;

        printf("#   %-24s %5u ms: %s\n", calls[i].name, shared->results[i].ms, strerror(err));
        wrong += shared->results[i].ms > LIMIT_MS ||
                 (err != 0 && err != EIO && !(i == CALL_STAT_NEW && err == ENOENT));
    }
    assert_int_equal(wrong, 0);
    end_scene();
}

/* ---- what is staged ---- */

static bool has_content(unsigned node, const char *key, const char *text)
{
    char data[64] = "";
    struct caller c;
    struct attr attr;
    size_t len = 0;
    int rv;

    caller_init(&c, cluster, node);
    rv = caller_get(&c, key, READ_LINEARIZABLE, RECOVER_MS, &attr, data, sizeof data - 1, &len);
    caller_deinit(&c);
    return rv == 0 && len == strlen(text) && memcmp(data, text, len) == 0;
}

/* The calls close() and fsync() are made while the fault lasts, and it ends in time. */
static void assert_goes_through(const char *name, void (*begin)(void), void (*end)(void))
{
    unsigned i, n = 2;
    char key[32];

    begin_scene(name, 0, CALL_CLOSE, CALL_FSYNC);
    begin();
    shared->go = true;
    pause_ms(1500); /* the fault's length */
    assert_int_equal(shared->done, 0);
    end();
    assert_true(await(LIMIT_MS, are_done, &n));
    for (i = CALL_CLOSE; i <= CALL_FSYNC; i++) {
        printf("#   %-24s %5u ms: %s\n", calls[i].name, shared->results[i].ms,
               strerror(shared->results[i].err));
        assert_int_equal(shared->results[i].err, 0);
        snprintf(key, sizeof key, "hangs/%u/old", i);
        assert_true(has_content(1, key, "staged"));
    }
    end_scene();
}

static void stop_node(void)
{
    cluster_signal(cluster, 0, SIGSTOP);
}

static void continue_node(void)
{
    cluster_signal(cluster, 0, SIGCONT);
}

static void kill_node(void)
{
    cluster_signal(cluster, 0, SIGKILL);
}

static void start_node(void)
{
    assert_true(cluster_start(cluster, 0));
}

static void kill_all(void)
{
    unsigned i;

    for (i = 0; i < NODES; i++)
        cluster_signal(cluster, i, SIGKILL);
}

static void start_all(void)
{
    unsigned i;

    for (i = 0; i < NODES; i++)
        assert_true(cluster_start(cluster, i));
}

static void what_is_staged_goes_through_when_its_node_goes_on(void **state)
{
    (void)state;
    assert_goes_through("goes-on", stop_node, continue_node);
}

static void what_is_staged_goes_through_when_its_node_is_back(void **state)
{
    (void)state;
    assert_goes_through("back", kill_node, start_node);
}

static void what_is_staged_goes_through_when_all_are_back(void **state)
{
    (void)state;
    assert_goes_through("all-back", kill_all, start_all);
}

/* ---- a mount of several nodes ---- */

/* The preferred node alone knows that it is in a minority; the others are one. */
static void a_mount_leaves_a_node_that_is_alone(void **state)
{
    static const unsigned order[NODES] = {0, 1, 2};
    unsigned i, node = 0;

    (void)state;
    needed(cluster != NULL && !cluster->options.namespaces ? "needs network namespaces" : unavailable);
    begin_scene_on("leaves", order, NODES, 0, CALLS - 1);
    assert_true(net_cut(cluster->net, node, true));
    assert_true(await(RECOVER_MS, knows, &node));
    let_go(CALLS);
    for (i = 0; i < CALLS; i++) {
        int err = shared->results[i].err;

        printf("#   %-24s %5u ms: %s\n", calls[i].name, shared->results[i].ms, strerror(err));
        assert_int_equal(err, i == CALL_STAT_NEW ? ENOENT : 0);
    }
    assert_true(net_cut(cluster->net, node, false));
    end_scene();
}

static int setup(void **state)
{
    struct cluster_options options = {.n = NODES, .namespaces = geteuid() == 0};

    (void)state;
    unavailable = mount_unavailable();
    if (unavailable != NULL)
        return 0;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return -1;
    cluster = cluster_new(&options, &unavailable);
    if (cluster == NULL && unavailable != NULL) { /* without cuts, then */
        print_message("# nothing is cut off: %s\n", unavailable);
        options.namespaces = false;
        cluster = cluster_new(&options, &unavailable);
    }
    return cluster != NULL ? 0 : -1;
}

/* After a test that failed half-way. */
static int mend(void **state)
{
    unsigned i;

    (void)state;
    for (i = 0; cluster != NULL && i < NODES; i++) {
        if (cluster->options.namespaces)
            net_cut(cluster->net, i, false);
        cluster_signal(cluster, i, SIGCONT);
        cluster_start(cluster, i);
    }
    /* What is unknown to it must not be done in the next test. */
    if (cluster != NULL)
        leave_scene();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return cluster_free(cluster) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(its_node_is_stopped, mend),
        cmocka_unit_test_teardown(its_node_is_killed, mend),
        cmocka_unit_test_teardown(both_other_nodes_are_killed, mend),
        cmocka_unit_test_teardown(its_node_is_cut_off, mend),
        cmocka_unit_test_teardown(its_sshd_is_killed, mend),
        cmocka_unit_test_teardown(what_is_staged_goes_through_when_its_node_goes_on, mend),
        cmocka_unit_test_teardown(what_is_staged_goes_through_when_its_node_is_back, mend),
        cmocka_unit_test_teardown(what_is_staged_goes_through_when_all_are_back, mend),
        cmocka_unit_test_teardown(a_mount_leaves_a_node_that_is_alone, mend),
    };

    cmocka_set_test_filter(getenv("KVFS_FAULT_ONLY"));
    return cmocka_run_group_tests(tests, setup, teardown);
}
