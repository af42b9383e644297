/* state.db on a disk that loses its power and fails: what the writer calls
 * durable is there afterwards, and what is there is the state as of some command.
 *
 * A process of its own writes, so that it can end as a node ends: without closing
 * anything. Its commands are the same each time; the test knows the digest behind
 * each of them. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvnode/disk/writeback.h"
#include "sync/base/clock.h"
#include "tests/disk/lib/disk.h"
#include "tests/fault/lib/raw.h"
#include "tests/unit/store/world.h"

#define COMMANDS 6000
#define EXIT_FATAL 70
#define WAIT_MS 30000

struct step {
    struct buffer bytes;
    uint64_t digest; /* behind it */
};

/* Between the writing process and the test. */
struct shared {
    _Atomic uint64_t at, durable; /* applied; durable by the writer's word */
    _Atomic uint64_t last;        /* command that may be applied; the test raises it */
};

static struct step steps[COMMANDS + 1];
static uint64_t n_steps;
static struct shared *shared;
static struct guard *guard;
static struct disk disk;
static struct dice dice;
static char folder[64], path[96];
static pid_t child;

/* ---- the commands ---- */

static void on_command(void *arg, uint64_t index, const void *bytes, size_t len)
{
    (void)arg;
    if (index > COMMANDS)
        return;
    buffer_clear(&steps[index].bytes);
    buffer_put_bytes(&steps[index].bytes, bytes, len);
    n_steps = index;
}

static void make_steps(void)
{
    static char big[200000];
    struct world w;
    unsigned i;

    world_init(&w, false); /* registers a session: the first command */
    on_command(NULL, w.index, w.bytes.data, w.bytes.len);
    steps[w.index].digest = store_digest(w.s);
    w.tap = on_command;
    for (i = 0; w.index < COMMANDS; i++) {
        char key[64], value[64];

        snprintf(key, sizeof key, "d%u/k%u", i % 7, i * 13 % 200);
        snprintf(value, sizeof value, "value %u", i);
        memset(big, 'a' + (int)(i % 26), sizeof big);
        if (i % 9 == 3)
            world_del(&w, key, false);
        else if (i % 9 == 5)
            world_set_bytes(&w, "big", big, (size_t)i * 997 % sizeof big, 0, 0);
        else if (i % 9 == 7)
            world_append(&w, world_ino(&w, "big"), value, strlen(value));
        else
            world_set(&w, key, value);
        steps[w.index].digest = store_digest(w.s);
    }
    world_deinit(&w);
}

/* ---- the writing process ---- */

static void die(const char *what)
{
    fprintf(stderr, "# the writer: %s\n", what);
    _exit(1);
}

/* Applies commands up to the last one, at random paces, and goes on syncing. */
static void write_on(uint64_t seed)
{
    static struct writeback_options options = {.interval_ms = 5, .commands = 50, .durable_ms = 40};
    struct store_events events = {0};
    struct dice d = {seed | 1};
    char error[STATE_DB_ERROR_MAX];
    struct journal *j = journal_new();
    struct store *s = store_new(0, j, &events);
    struct writeback *wb;
    int rv;

    if (state_db_recover(folder, error) != 0)
        die(error);
    rv = state_db_load(path, s, error);
    if (rv != 0 && rv != -ENOENT)
        die(error);
    if (writeback_start(path, j, s, &options, &wb, error) != 0)
        die(error);
    for (;;) {
        uint64_t i = store_applied(s) + 1, last = shared->last;
        struct command_result result;

        if (i <= last && i <= n_steps) {
            if (store_apply(s, i, steps[i].bytes.data, steps[i].bytes.len, &result) != 0)
                die("apply");
        }
        if (i > last || i % 8 == 0)
            pause_ms(1); /* so that the test keeps up */
        writeback_poll(wb, clock_boot_ms(), &rv);
        if (dice_roll(&d, 60) == 0 && writeback_sync(wb) != 0)
            die("sync");
        if (writeback_state(wb) == WRITEBACK_FATAL) {
            writeback_error(wb, error);
            if (strstr(error, "state.db") == NULL)
                die(error);
            _exit(EXIT_FATAL); /* as group_die() */
        }
        shared->durable = writeback_durable_index(wb);
        shared->at = store_applied(s);
        if (writeback_pending_bytes(wb) > 4 << 20)
            pause_ms(2);
    }
}

static void writer_start(uint64_t last)
{
    uint64_t seed = dice_roll(&dice, UINT64_MAX);

    shared->at = shared->durable = 0;
    shared->last = last;
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        write_on(seed);
    guard_process(guard, child);
}

static bool writer_ended(void *status)
{
    if (child == 0 || waitpid(child, status, WNOHANG) != child)
        return false;
    guard_process_gone(guard, child);
    child = 0;
    return true;
}

static bool is_at(void *index)
{
    int status;

    return shared->at >= *(uint64_t *)index || writer_ended(&status);
}

static bool is_durable(void *index)
{
    int status;

    return shared->durable >= *(uint64_t *)index || writer_ended(&status);
}

/* The writer's power goes. What it had called durable before. */
static uint64_t cut(bool torn)
{
    uint64_t durable = shared->durable;
    int status;

    assert_true(disk_order(&disk, "stop", NULL));
    assert_int_not_equal(child, 0); /* it has not ended by itself */
    kill(child, SIGKILL);
    assert_true(await(WAIT_MS, writer_ended, &status));
    assert_true(disk_order(&disk, torn ? "tear" : "drop", NULL));
    return durable;
}

/* Looks at what is on the disk; the index it stands at. */
static uint64_t assert_state(uint64_t durable)
{
    struct store_events events = {0};
    struct store *s = store_new(0, NULL, &events);
    char error[STATE_DB_ERROR_MAX] = "";
    uint64_t index, verified, digest;
    int rv = state_db_recover(folder, error);

    assert_int_equal(rv, 0);
    rv = state_db_load(path, s, error);
    if (rv != 0 && rv != -ENOENT)
        print_message("# %s\n", error);
    assert_true(rv == 0 || (rv == -ENOENT && durable == 0));
    index = store_applied(s);
    if (index < durable)
        print_message("# the state is of %llu, %llu was durable\n", (unsigned long long)index,
                      (unsigned long long)durable);
    assert_true(index >= durable);
    if (index > 0) {
        assert_true(store_digest(s) == steps[index].digest);
        rv = state_db_verify(path, &verified, &digest, error);
        if (rv != 0)
            print_message("# %s\n", error);
        assert_int_equal(rv, 0);
        assert_true(verified == index && digest == steps[index].digest);
    }
    store_free(s);
    return index;
}

/* ---- tests ---- */

static int setup_all(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    if (disk_unavailable() != NULL)
        return 0;
    make_steps();
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return shared != MAP_FAILED ? 0 : -1;
}

static int teardown_all(void **state)
{
    (void)state;
    for (unsigned i = 0; i <= COMMANDS; i++)
        buffer_deinit(&steps[i].bytes);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    if (disk_unavailable() != NULL)
        return 0;
    dice_init(&dice, "state");
    snprintf(folder, sizeof folder, "/tmp/kvfs-disk-XXXXXX");
    guard = guard_start(120 * rounds(1));
    if (guard == NULL || mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/" STATE_DB_NAME, folder);
    return disk_start(&disk, guard, folder, dice_roll(&dice, UINT64_MAX)) ? 0 : -1;
}

static int teardown(void **state)
{
    int status;

    (void)state;
    if (guard == NULL)
        return 0;
    if (child != 0) {
        kill(child, SIGKILL);
        await(WAIT_MS, writer_ended, &status);
    }
    disk_stop(&disk);
    rmdir(folder);
    guard_end(guard);
    guard = NULL;
    return 0;
}

/* From the first command, on an empty disk. */
static void begin_again(void **state)
{
    teardown(state);
    assert_int_equal(setup(state), 0);
}

static void what_was_durable_is_there_when_the_power_is_back(void **state)
{
    unsigned i, n = rounds(30);
    uint64_t index = 0, cuts = 0;

    (void)state;
    disk_needed();
    for (i = 0; i < n; i++) {
        uint64_t upto = index + 1 + dice_roll(&dice, i % 4 == 3 ? 800 : 120), durable;

        if (upto + 1000 > n_steps) {
            begin_again(state);
            index = 0;
            upto = 100;
        }
        writer_start(upto + 40);
        assert_true(await(WAIT_MS, is_at, &upto));
        durable = cut(i % 2 == 1);
        index = assert_state(durable);
        cuts++;
    }
    printf("# %llu power cuts\n", (unsigned long long)cuts);
}

/* The kernel says once that it could not write, and then forgets about it. */
static void after_a_failed_fsync_nothing_is_called_durable_that_is_not(void **state)
{
    unsigned i, n = rounds(12);
    uint64_t index = 0;

    (void)state;
    disk_needed();
    for (i = 0; i < n; i++) {
        /* Twice: a write that failed half-way is a short one, and is gone on with. */
        static const char *const faults[] = {"fsync-errors 1 state.db-wal", "fsync-errors 1 state.db",
                                             "write-errors 2 state.db-wal", "fsync-full 1 state.db"};
        uint64_t upto = index + 1 + dice_roll(&dice, 200), durable;
        int status = 0;

        if (upto + 1000 > n_steps) {
            begin_again(state);
            upto = 100;
        }
        writer_start(upto);
        assert_true(await(WAIT_MS, is_at, &upto));
        assert_true(disk_order(&disk, faults[i % 4], NULL));
        shared->last = n_steps; /* so that there is something to write */
        assert_true(await(WAIT_MS, writer_ended, &status));
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), EXIT_FATAL);
        assert_true(disk_order(&disk, "write-errors 0", NULL));
        writer_start(0); /* takes what is there, and says what of it is durable */
        upto = 1;
        assert_true(await(WAIT_MS, is_durable, &upto));
        durable = cut(false);
        index = assert_state(durable);
    }
    printf("# %u failures\n", i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_durable_is_there_when_the_power_is_back, setup, teardown),
        cmocka_unit_test_setup_teardown(after_a_failed_fsync_nothing_is_called_durable_that_is_not, setup,
                                        teardown),
    };

    cmocka_set_test_filter(getenv("KVFS_FAULT_ONLY"));
    return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
