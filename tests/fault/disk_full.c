/* Nodes whose data lies on a small disk (lib/small_disk.h), which is filled. What was acknowledged
 * stays, what cannot be stored is refused or goes through the others, and room is
 * all that it takes to mend it. */
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
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "tests/fault/lib/caller.h"
#include "tests/fault/lib/mount.h"
#include "tests/fault/lib/needed.h"
#include "tests/fault/lib/once.h"
#include "tests/fault/lib/small_disk.h"

#define NODES 3
#define SMALL_MB 16
#define LARGE_MB SMALL_DISK_MAX_MB
#define VALUE_SIZE (128 * 1024)
#define KEYS_MAX 1024

static const char *unavailable;

static struct cluster *new_cluster(unsigned small_nodes)
{
    struct cluster_options options = {.n = NODES, .flags = {"storage.log_keep_bytes=1MiB"}};
    struct cluster *c;
    unsigned i;

    for (i = 0; i < NODES; i++)
        options.disk_mb[i] = (small_nodes >> i & 1) != 0 ? SMALL_MB : LARGE_MB;
    c = cluster_new(&options, &unavailable);
    needed(c == NULL ? unavailable : NULL);
    assert_non_null(c);
    return c;
}

static void resize(struct cluster *c, unsigned i, unsigned mb)
{
    char folder[200];

    snprintf(folder, sizeof folder, "%s/n%u.data", c->dir, i + 1);
    assert_true(small_disk_grow(folder, mb));
}

/* The value of key n, the same every time. */
static void value_of(unsigned n, uint8_t *out)
{
    uint64_t z = n * UINT64_C(0x9e3779b97f4a7c15) + 1;
    size_t i;

    for (i = 0; i < VALUE_SIZE; i += sizeof z) {
        z ^= z << 13;
        z ^= z >> 7;
        z ^= z << 17;
        memcpy(out + i, &z, sizeof z);
    }
}

static int put(struct caller *w, unsigned n, unsigned timeout_ms)
{
    static uint8_t value[VALUE_SIZE];
    struct command_result result;
    char key[32];

    snprintf(key, sizeof key, "full/%u", n);
    value_of(n, value);
    return caller_set(w, key, value, sizeof value, timeout_ms, &result);
}

static void assert_kept(struct cluster *c, unsigned n)
{
    static uint8_t value[VALUE_SIZE];
    struct buffer got = BUFFER_INIT;
    struct attr attr;
    struct caller r;
    unsigned i;

    caller_init(&r, c, 1);
    for (i = 0; i < n; i++) {
        char key[32];

        snprintf(key, sizeof key, "full/%u", i);
        value_of(i, value);
        assert_int_equal(caller_get_all(&r, key, 10000, &attr, &got), 0);
        assert_int_equal(got.len, VALUE_SIZE);
        assert_memory_equal(got.data, value, VALUE_SIZE);
    }
    buffer_deinit(&got);
    caller_deinit(&r);
}

struct full {
    struct cluster *c;
    unsigned i;
    char warnings[512]; /* what says_nothing() saw last */
};

static bool says_full(void *arg)
{
    struct full *f = arg;
    struct view v;

    return cluster_view(f->c, f->i, 500, &v) && strstr(v.warnings, "full") != NULL;
}

static bool says_nothing(void *arg)
{
    struct full *f = arg;
    struct view v;

    if (!cluster_view(f->c, f->i, 500, &v))
        return false;
    snprintf(f->warnings, sizeof f->warnings, "%s", v.warnings);
    return v.warnings[0] == '\0';
}

static void assert_says_nothing(struct full *f)
{
    if (await(20000, says_nothing, f))
        return;
    print_message("# %s says: %s\n", f->c->nodes[f->i].name, f->warnings);
    f->c->keep = true;
    fail();
}

static bool leads_elsewhere(void *arg)
{
    struct full *f = arg;
    unsigned leader = cluster_leader(f->c, 0);

    return leader != CLUSTER_MAX && leader != f->i;
}

static bool leads(void *arg)
{
    struct full *f = arg;

    return cluster_leader(f->c, 0) == f->i;
}

static void lead(struct cluster *c, unsigned i)
{
    struct full f = {.c = c, .i = i};
    char out[512];
    unsigned now = cluster_leader(c, 10000);

    assert_int_not_equal(now, CLUSTER_MAX);
    if (now != i)
        assert_int_equal(run_kvnode(c, now, 10000, out, sizeof out,
                                    (const char *const[]){"transfer", c->nodes[i].name, NULL}),
                         0);
    assert_true(cluster_serves(c, i, 10000));
    assert_true(await(10000, leads, &f));
}

/* 25 MiB of values do not fit into 16. */
static void one_full(unsigned small, unsigned leader)
{
    struct cluster *c = new_cluster(1u << small);
    struct full f = {.c = c, .i = small};
    uint64_t worst_ms = 0;
    struct caller w, there;
    struct command_result result;
    unsigned n, i;

    lead(c, leader);
    caller_init(&w, c, (small + 1) % NODES);
    assert_int_equal(caller_register(&w, 10000), 0);
    for (n = 0; n < 200; n++) {
        uint64_t begin = clock_boot_ms();

        assert_int_equal(put(&w, n, 20000), 0);
        worst_ms = clock_boot_ms() - begin > worst_ms ? clock_boot_ms() - begin : worst_ms;
    }
    printf("# %s full: %u writes of 128 KiB, the slowest took %llu ms\n",
           small == leader ? "leader" : "follower", n, (unsigned long long)worst_ms);
    assert_true(await(10000, says_full, &f));
    assert_true(await(10000, leads_elsewhere, &f));
    /* Clients of the full node are told at once; those that can go elsewhere do. */
    for (i = 0; i < 2; i++) {
        uint64_t begin = clock_boot_ms();

        caller_init(&there, c, small);
        there.pinned = i == 0;
        if (i == 0)
            assert_int_equal(put(&there, KEYS_MAX, 12000), KV_E_NOSPC);
        else
            assert_int_equal(caller_register(&there, 12000), 0);
        assert_in_range(clock_boot_ms() - begin, 0, 4000);
        caller_deinit(&there);
    }
    assert_int_equal(caller_set(&w, "other", "x", 1, 5000, &result), 0);
    there = w; /* has seen what the full node has not */
    there.client = NULL;
    there.at = small;
    {
        uint64_t begin = clock_boot_ms();
        struct attr attr;
        char got[4];
        size_t len;

        assert_int_equal(caller_get(&there, "other", READ_LINEARIZABLE, 12000, &attr, got, sizeof got, &len),
                         0);
        assert_in_range(clock_boot_ms() - begin, 0, 4000);
        caller_deinit(&there);
    }
    resize(c, small, LARGE_MB);
    assert_says_nothing(&f);
    assert_true(cluster_equal(c, 30000));
    assert_int_equal(put(&w, 200, 20000), 0);
    assert_kept(c, 201);
    caller_deinit(&w);
    assert_true(cluster_free(c));
}

static void a_full_follower_holds_nobody_up(void **state)
{
    (void)state;
    one_full(2, 0);
}

static void a_full_leader_hands_over(void **state)
{
    (void)state;
    one_full(0, 0);
}

static void all_full_refuse_and_recover(void **state)
{
    struct cluster *c = new_cluster(7);
    struct caller w, r;
    unsigned n, i, kept;
    struct attr attr;
    char got[16];
    size_t len;
    int rv = 0;

    (void)state;
    caller_init(&w, c, 0);
    assert_int_equal(caller_register(&w, 10000), 0);
    for (n = 0; n < 200 && rv == 0; n++)
        rv = put(&w, n, 6000);
    assert_int_not_equal(rv, 0);
    /* A full disk has room for something small now and then: the last node asked may have had hope just then.
     */
    for (i = 0; i < 3 && rv == -ETIMEDOUT; i++)
        rv = put(&w, KEYS_MAX, 6000);
    kept = n - 1; /* the last one's outcome is not known */
    printf("# all full: %u writes of 128 KiB, then: %s\n", kept, rv > 0 ? error_text(rv) : strerror(-rv));
    assert_int_equal(rv, KV_E_NOSPC);
    caller_init(&r, c, 1);
    assert_int_equal(caller_get(&r, "full/0", READ_LOCAL, 5000, &attr, got, sizeof got, &len), 0);
    for (i = 0; i < NODES; i++) {
        struct full f = {.c = c, .i = i};

        assert_true(cluster_runs(c, i));
        assert_true(await(10000, says_full, &f));
    }
    for (i = 0; i < NODES; i++)
        resize(c, i, LARGE_MB);
    assert_int_equal(put(&w, KEYS_MAX, 30000), 0);
    for (i = 0; i < NODES; i++) {
        struct full f = {.c = c, .i = i};

        assert_says_nothing(&f);
    }
    assert_true(cluster_equal(c, 30000));
    assert_kept(c, kept);
    caller_deinit(&w);
    caller_deinit(&r);
    assert_true(cluster_free(c));
}

/* What a node leaves of its disk, somebody else fills. */
static void fill(struct cluster *c, unsigned i)
{
    static const uint8_t block[4096];
    char path[200];
    int fd;

    snprintf(path, sizeof path, "%s/n%u.data/filler", c->dir, i + 1);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    assert_true(fd >= 0);
    while (write(fd, block, sizeof block) > 0)
        ;
    assert_int_equal(errno, ENOSPC);
    close(fd);
}

static bool runs_or_has_ended(void *arg)
{
    struct full *f = arg;
    struct view v;

    return cluster_ended(f->c, f->i, 0) || cluster_view(f->c, f->i, 500, &v);
}

/* Stopped with a full disk, killed with a full disk: it starts again, or says why
 * not and starts when there is room. */
static void a_full_node_that_ends_comes_back(void **state)
{
    struct cluster *c = new_cluster(4);
    struct full f = {.c = c, .i = 2};
    struct caller w;
    unsigned n, k;

    (void)state;
    lead(c, 0);
    caller_init(&w, c, 0);
    assert_int_equal(caller_register(&w, 10000), 0);
    for (n = 0; n < 150; n++)
        assert_int_equal(put(&w, n, 20000), 0);
    assert_true(await(10000, says_full, &f));
    for (k = 0; k < 2; k++) {
        fill(c, 2);
        cluster_signal(c, 2, k == 0 ? SIGTERM : SIGKILL);
        fill(c, 2);
        c->nodes[2].dead = false; /* what it says at its end is not the point */
        assert_true(cluster_start(c, 2));
        assert_true(await(30000, runs_or_has_ended, &f));
        if (c->nodes[2].pid == 0) {
            assert_true(cluster_logged(c, 2, "cannot start"));
            printf("# a full node does not start (%s)\n", k == 0 ? "stopped" : "killed");
            break;
        }
        assert_int_equal(put(&w, n++, 20000), 0);
    }
    if (c->nodes[2].pid != 0) {
        assert_true(cluster_runs(c, 2));
        resize(c, 2, LARGE_MB);
    } else {
        resize(c, 2, LARGE_MB);
        assert_true(cluster_start(c, 2));
    }
    assert_true(cluster_serves(c, 2, 20000));
    assert_true(cluster_equal(c, 30000));
    assert_kept(c, n);
    caller_deinit(&w);
    assert_true(cluster_free(c));
}

/* ---- programs on a mount ---- */

#define LARGE_SIZE 3000000 /* more parts than are sent at a time */

/* Has a new file open, and writes it when told to. */
struct program {
    pid_t pid;
    int go;
    int status;
};

static int write_and_close(int fd)
{
    static char data[LARGE_SIZE];
    size_t at = 0;
    ssize_t n = 1;

    memset(data, 'p', sizeof data);
    for (; at < sizeof data && n > 0; at += (size_t)n)
        n = write(fd, data + at, sizeof data - at);
    if (n <= 0)
        return errno;
    return close(fd) == 0 ? 0 : errno;
}

static void program_start(struct program *p, struct cluster *c, const char *path)
{
    int go[2], ready[2], fd;
    char byte;

    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    p->pid = fork();
    if (p->pid == 0) {
        close(go[1]);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 || write(ready[1], "r", 1) != 1 || read(go[0], &byte, 1) != 1)
            _exit(255);
        _exit(write_and_close(fd));
    }
    guard_process(c->guard, p->pid);
    close(go[0]);
    close(ready[1]);
    p->go = go[1];
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
}

static bool has_ended(void *arg)
{
    struct program *p = arg;

    return waitpid(p->pid, &p->status, WNOHANG) == p->pid;
}

/* What its write or its close failed with, or 0. */
static int program_writes(struct program *p, struct cluster *c)
{
    assert_int_equal(write(p->go, "g", 1), 1);
    close(p->go);
    assert_true(await(30000, has_ended, p));
    guard_process_gone(c->guard, p->pid);
    assert_true(WIFEXITED(p->status));
    return WEXITSTATUS(p->status);
}

static bool refuses(void *arg)
{
    struct full *f = arg;

    return once_write(f->c, f->i, "full/asked", "x", 3000) == KV_E_NOSPC;
}

static void programs_write_through_a_node_that_has_room(void **state)
{
    static const unsigned order[NODES] = {2, 0, 1};
    struct cluster *c;
    struct full f = {.i = 2};
    struct program p;
    struct mounted m;
    struct caller w;
    char path[100];
    unsigned n;

    (void)state;
    needed(mount_unavailable());
    f.c = c = new_cluster(4);
    lead(c, 0);
    assert_true(mount_start(&m, c, "m", order, NODES, "timeout=10"));
    snprintf(path, sizeof path, "%s/file", m.path);
    program_start(&p, c, path);
    caller_init(&w, c, 0);
    assert_int_equal(caller_register(&w, 10000), 0);
    for (n = 0; n < 150; n++)
        assert_int_equal(put(&w, n, 20000), 0);
    assert_true(await(10000, refuses, &f));
    assert_int_equal(program_writes(&p, c), 0);
    resize(c, 2, LARGE_MB);
    assert_true(cluster_equal(c, 30000));
    assert_true(mount_stop(&m));
    caller_deinit(&w);
    assert_true(cluster_free(c));
}

static void programs_are_told_when_all_are_full(void **state)
{
    static const unsigned order[NODES] = {0, 1, 2};
    struct program p;
    struct cluster *c;
    struct mounted m;
    struct caller w;
    char path[100];
    unsigned n, i;
    int rv = 0;

    (void)state;
    needed(mount_unavailable());
    c = new_cluster(7);
    assert_true(mount_start(&m, c, "m", order, NODES, "timeout=10"));
    snprintf(path, sizeof path, "%s/file", m.path);
    program_start(&p, c, path);
    caller_init(&w, c, 0);
    assert_int_equal(caller_register(&w, 10000), 0);
    for (n = 0; n < 200 && rv == 0; n++)
        rv = put(&w, n, 6000);
    for (i = 0; i < NODES; i++)
        fill(c, i);
    for (i = 0; i < NODES; i++)
        assert_true(await(20000, refuses, &(struct full){c, i}));
    assert_int_equal(program_writes(&p, c), ENOSPC);
    for (i = 0; i < NODES; i++)
        resize(c, i, LARGE_MB);
    assert_true(cluster_equal(c, 30000));
    assert_true(mount_stop(&m));
    caller_deinit(&w);
    assert_true(cluster_free(c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_follower_holds_nobody_up),
        cmocka_unit_test(a_full_leader_hands_over),
        cmocka_unit_test(all_full_refuse_and_recover),
        cmocka_unit_test(a_full_node_that_ends_comes_back),
        cmocka_unit_test(programs_write_through_a_node_that_has_room),
        cmocka_unit_test(programs_are_told_when_all_are_full),
    };

    cmocka_set_test_filter(getenv("KVFS_FAULT_ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
