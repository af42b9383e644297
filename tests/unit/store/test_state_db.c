/* state.db against what happens to files: the end of the process at any moment,
 * a full disk, flipped bits, half-done installs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#include "sync/base/clock.h"
#include "tests/lib/look_again.h"
#include "tests/unit/store/place.h"

/* The i-th of a fixed sequence of commands that touches every table. */
static void command(struct world *w, int i)
{
    static char big[200000];
    char path[64], value[64];
    uint64_t session, ino;

    snprintf(path, sizeof path, "d%d/k%d", i % 7, i * 13 % 50);
    snprintf(value, sizeof value, "value %d", i);
    memset(big, 'a' + i % 26, sizeof big);
    switch (i % 11) {
    case 3:
        world_del(w, path, false);
        break;
    case 4:
        world_append(w, world_ino(w, "log"), value, strlen(value));
        break;
    case 5:
        world_set_bytes(w, "log", big, (size_t)(i * 997) % sizeof big, 0, 0);
        break;
    case 6:
        world_rename(w, KV_ROOT_INO, "d1", KV_ROOT_INO, "d1~");
        break;
    case 7:
        world_register(w, value[6] == '1' ? "0123456789abcdef" : "fedcba9876543210", &session);
        break;
    case 8:
        ino = world_ino(w, "d2");
        if (ino != 0 && world_create(w, ino, "x~") == KV_OK)
            world_append(w, w->result.attr.ino, value, strlen(value));
        break;
    case 9:
        world_setting(w, "max_dead_names", i % 2 == 0 ? "10" : "default");
        break;
    default:
        world_set(w, i % 5 == 0 ? "log" : path, value);
        break;
    }
}

static void a_store_that_was_killed_is_as_of_some_command(void **state)
{
    _Atomic int *applied =
        mmap(NULL, sizeof *applied, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned seed = 7, n_kept = 0;

    assert_ptr_not_equal(applied, MAP_FAILED);
    for (int round = 0; round < 12; round++) {
        int kill_at = 1 + rand_r(&seed) % 4000;
        uint64_t until = 0;
        char dir[] = "/tmp/kvfs-kill-XXXXXX", path[64], command_line[96], error[STATE_DB_ERROR_MAX];
        struct store *s;
        struct world w;
        pid_t pid;
        int status;

        assert_non_null(mkdtemp(dir));
        snprintf(path, sizeof path, "%s/state.db", dir);
        *applied = 0;
        pid = fork();
        if (pid == 0) {
            struct writeback_options options = {.interval_ms = 1, .commands = 5, .durable_ms = 20};
            struct writeback *wb;
            int e;

            world_init(&w, true);
            if (writeback_start(path, w.j, w.s, &options, &wb, error) != 0)
                _exit(1);
            for (int i = 0;; i++) {
                uint64_t room = 0;

                command(&w, i);
                writeback_poll(wb, clock_boot_ms(), &e);
                while (writeback_pending_bytes(wb) > 4 << 20 && look_again(&room, 10000))
                    ;
                *applied = i + 1;
            }
        }
        while (*applied < kill_at && look_again(&until, 10000))
            ;
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        assert_true(WIFSIGNALED(status));
        assert_true(*applied >= kill_at);

        s = store_new(0, NULL, NULL);
        status = state_db_load(path, s, error);
        if (status != 0 && status != -ENOENT)
            fail_msg("%s", error);
        /* Replay up to the same index: the states must be the same. */
        world_init(&w, false);
        for (int i = 0; w.index < store_applied(s); i++)
            command(&w, i);
        if (w.index == store_applied(s))
            assert_int_equal(store_digest(w.s), store_digest(s));
        else
            assert_int_equal(store_applied(s), 0);
        if (store_applied(s) > 0) {
            uint64_t index, digest;

            assert_int_equal(state_db_verify(path, &index, &digest, error), 0);
            n_kept++;
        }
        store_free(s);
        world_deinit(&w);
        snprintf(command_line, sizeof command_line, "rm -rf %s", dir);
        assert_int_equal(system(command_line), 0);
    }
    munmap(applied, sizeof *applied);
    assert_in_range(n_kept, 6, 12); /* most were killed with something in their file */
}

static int fill(const char *path)
{
    static char bytes[65536];
    int fd = open(path, O_WRONLY | O_CREAT, 0600), n = 0;

    while (write(fd, bytes, sizeof bytes) > 0)
        n++;
    while (write(fd, bytes, 512) > 0)
        n++;
    close(fd);
    return n;
}

static uint64_t modified_ns(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec : 0;
}

/* In a namespace of its own, on a tmpfs of 3 MiB. Exit code 0: passed, 77: cannot. */
static int full_disk(const char *dir)
{
    char path[96], wal[96], filler[96], error[STATE_DB_ERROR_MAX];
    struct writeback *wb;
    struct world w;
    static char big[100000];
    uint64_t until = 0, tried, digest;
    struct store *s;

    if (geteuid() != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
        return 77;
    if (geteuid() == 0 && unshare(CLONE_NEWNS) != 0)
        return 77;
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", dir, "tmpfs", 0, "size=3m") != 0)
        return 77;
    snprintf(path, sizeof path, "%s/state.db", dir);
    snprintf(wal, sizeof wal, "%s/state.db-wal", dir);
    snprintf(filler, sizeof filler, "%s/filler", dir);
    world_init(&w, true);
    if (writeback_start(path, w.j, w.s, NULL, &wb, error) != 0)
        return 1;
    world_set(&w, "k", "before");
    if (writeback_sync(wb) != 0)
        return 2;
    while (writeback_durable_index(wb) < w.index && look_again(&until, 10000))
        ;
    fill(filler);
    for (int i = 0; i < 5; i++) {
        memset(big, 'a' + i, sizeof big);
        world_set_bytes(&w, "k", big, sizeof big, 0, 0);
        if (writeback_sync(wb) != 0)
            return 3;
    }
    until = 0;
    while (writeback_state(wb) != WRITEBACK_FULL && look_again(&until, 10000))
        ;
    if (writeback_state(wb) != WRITEBACK_FULL || writeback_pending_bytes(wb) == 0)
        return 4;
    writeback_error(wb, error);
    if (strstr(error, "state.db") == NULL)
        return 5;
    /* It has tried again, in vain. */
    tried = modified_ns(wal);
    until = 0;
    while (modified_ns(wal) == tried && look_again(&until, 10000))
        ;
    if (modified_ns(wal) == tried)
        return 10;
    if (writeback_durable_index(wb) >= w.index)
        return 6;
    unlink(filler);
    until = 0;
    while (writeback_durable_index(wb) < w.index && look_again(&until, 20000))
        ;
    if (writeback_durable_index(wb) < w.index || writeback_state(wb) != WRITEBACK_OK)
        return 7;
    digest = store_digest(w.s);
    if (!writeback_free(wb, true, 10000))
        return 8;
    s = store_new(0, NULL, NULL);
    if (state_db_load(path, s, error) != 0 || store_digest(s) != digest)
        return 9;
    store_free(s);
    world_deinit(&w);
    umount(dir);
    return 0;
}

static void a_full_disk_loses_nothing(void **state)
{
    char dir[] = "/tmp/kvfs-full-XXXXXX";
    int status;
    pid_t pid;

    assert_non_null(mkdtemp(dir));
    pid = fork();
    if (pid == 0) {
        freopen("/dev/null", "w", stderr);
        _exit(full_disk(dir));
    }
    waitpid(pid, &status, 0);
    rmdir(dir);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: cannot mount a tmpfs\n");
        assert_null(getenv("CI"));
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static uint8_t *read_file(const char *path, size_t *len_out)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    uint8_t *bytes;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    bytes = malloc((size_t)st.st_size);
    assert_int_equal(read(fd, bytes, (size_t)st.st_size), st.st_size);
    close(fd);
    *len_out = (size_t)st.st_size;
    return bytes;
}

static void write_file(const char *path, const uint8_t *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    close(fd);
}

static bool ignore_row(void *arg, const struct version_row *row)
{
    return true;
}

/* Reads of history of a damaged file never show a wrong value. */
static bool history_is_right(const char *path, int n)
{
    struct history_reader *r = history_open(path);
    struct version_row row;
    struct buffer b = BUFFER_INIT;
    char expect[64];
    bool more, right = true;

    if (r == NULL)
        return true;
    history_list(r, KV_ROOT_INO, "k", 1, 0, 1000, NULL, ignore_row, &more);
    for (int i = 0; i < n && right; i++) {
        buffer_clear(&b);
        if (history_read(r, KV_ROOT_INO, "k", 1, (uint64_t)i + 1, 0, 1000, &row, &b) != KV_OK)
            continue;
        snprintf(expect, sizeof expect, "version %d", i);
        right = b.len == strlen(expect) && memcmp(b.data, expect, b.len) == 0;
    }
    buffer_deinit(&b);
    history_close(r);
    return right;
}

/* Either the loader or verify refuses the file by name, or what is read from it is
 * right. What is wrong with that, or NULL. */
static const char *look_at_damaged(const char *path, uint64_t digest, bool *refused_out)
{
    struct store *s = store_new(0, NULL, NULL);
    char error[STATE_DB_ERROR_MAX], verify_error[STATE_DB_ERROR_MAX];
    uint64_t index, found = 0, loaded;
    int rv = state_db_load(path, s, error), verified = state_db_verify(path, &index, &found, verify_error);

    loaded = store_digest(s);
    store_free(s);
    *refused_out = rv != 0 || verified != 0;
    if (rv == 0 && loaded != digest)
        return "another state was loaded";
    if (rv != 0 && strstr(error, "damaged.db") == NULL)
        return "the error does not name the file";
    if (verified == 0 && found != digest)
        return "verify found another state good";
    return history_is_right(path, 60) ? NULL : "history shows another value";
}

/* KVFS_TEST_FLIPS=N: every N-th byte; 1 takes minutes. */
static void flipped_bits_are_refused_or_harmless(void **state)
{
    struct place *p = *state;
    const char *every = getenv("KVFS_TEST_FLIPS");
    size_t stride = every != NULL && atoi(every) > 0 ? (size_t)atoi(every) : 331, n = 0, n_refused = 0, len,
           at;
    const char *wrong = NULL;
    size_t where = 0;
    bool refused;
    uint64_t digest;
    uint8_t *good, *bad;
    char path[128];
    int saved = dup(2), nowhere = open("/dev/null", O_WRONLY);

    for (int i = 0; i < 60; i++) {
        char text[64];

        command(&p->w, i);
        snprintf(text, sizeof text, "version %d", i);
        assert_int_equal(world_set(&p->w, "k", text), KV_OK);
    }
    place_restart(p);
    digest = store_digest(p->w.s);
    writeback_free(p->wb, true, 10000);
    p->wb = NULL;
    good = read_file(p->path, &len);
    bad = malloc(len);
    snprintf(path, sizeof path, "%s/damaged.db", p->dir);
    dup2(nowhere, 2);
    memcpy(bad, good, len);
    for (at = 0; at < len && wrong == NULL; at += stride, n++) {
        bad[at] ^= (uint8_t)(1u << n % 8);
        write_file(path, bad, len);
        wrong = look_at_damaged(path, digest, &refused);
        where = at;
        n_refused += refused;
        bad[at] = good[at];
    }
    for (at = 0; at < len && wrong == NULL; at += 4096) { /* lost pages, and a file that ends early */
        memset(bad + at, 0, 4096);
        write_file(path, bad, len);
        wrong = look_at_damaged(path, digest, &refused);
        memcpy(bad + at, good + at, 4096);
        write_file(path, bad, at);
        if (wrong == NULL)
            wrong = look_at_damaged(path, digest, &refused);
        if (wrong == NULL && !refused)
            wrong = "a file that ends early was taken";
        where = at;
    }
    unlink(path);
    dup2(saved, 2);
    close(saved);
    close(nowhere);
    if (wrong != NULL)
        fail_msg("%s: at %zu", wrong, where);
    print_message("# %zu bytes of %zu: %zu refused\n", n, len, n_refused);
    assert_true(n_refused > n / 100); /* most of the pages is free space */
    free(good);
    free(bad);
}

static void another_file_is_refused(void **state)
{
    struct place *p = *state;
    struct store *s = store_new(0, NULL, NULL);
    char path[128], command_line[256], error[STATE_DB_ERROR_MAX];

    snprintf(path, sizeof path, "%s/other.db", p->dir);
    assert_int_equal(state_db_load(path, s, error), -ENOENT);
    write_file(path, (const uint8_t *)"this is no database at all, but long enough to be looked at", 59);
    assert_int_equal(state_db_load(path, s, error), -EUCLEAN);
    assert_non_null(strstr(error, "other.db"));
    unlink(path);
    snprintf(command_line, sizeof command_line, "sqlite3 %s 'CREATE TABLE t(x)'", path);
    if (system(command_line) == 0)
        assert_int_equal(state_db_load(path, s, error), -EUCLEAN);
    store_free(s);
    s = store_new(3, NULL, NULL);
    place_flush(p);
    assert_int_equal(state_db_load(p->path, s, error), -EUCLEAN);
    assert_non_null(strstr(error, "group"));
    store_free(s);
}

static int load_with(const char *path, const char *sql, uint64_t *digest_out, char error[STATE_DB_ERROR_MAX])
{
    struct store *s = store_new(0, NULL, NULL);
    sqlite3 *db;
    int rv;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    rv = state_db_load(path, s, error);
    *digest_out = rv == 0 ? store_digest(s) : 0;
    store_free(s);
    return rv;
}

/* What format 9 has added; and format 8. */
#define BEFORE_9                                                                                             \
    "DROP TABLE fence; ALTER TABLE session DROP COLUMN lease; ALTER TABLE version DROP COLUMN label;"
#define BEFORE_8                                                                                             \
    BEFORE_9 "ALTER TABLE inode DROP COLUMN ttl; ALTER TABLE inode DROP COLUMN expires;"                     \
             "ALTER TABLE inode DROP COLUMN xattr_size; ALTER TABLE inode DROP COLUMN xattr_digest;"         \
             "ALTER TABLE version DROP COLUMN xattr_size; ALTER TABLE version DROP COLUMN xattr_digest;"     \
             "DROP TABLE lock;"

static void older_formats_are_brought_up_and_newer_ones_refused(void **state)
{
    const struct state_owner own = {.cluster = 7, .node = 1, .life = 9};
    struct place *p = *state;
    char path[128], error[STATE_DB_ERROR_MAX];
    uint64_t index, digest;

    for (int i = 0; i < 100; i++)
        command(&p->w, i);
    place_flush(p);
    snprintf(path, sizeof path, "%s/copy", p->dir);
    assert_int_equal(state_db_snapshot(p->path, path, &index, error), 0);
    assert_int_equal(load_with(path, BEFORE_8 "ALTER TABLE owner DROP COLUMN program; PRAGMA user_version=6",
                               &digest, error),
                     0);
    assert_int_equal(digest, store_digest(p->w.s));
    assert_int_equal(load_with(path, BEFORE_9 "PRAGMA user_version=8", &digest, error), 0);
    assert_int_equal(digest, store_digest(p->w.s));
    assert_int_equal(load_with(path, BEFORE_8 "PRAGMA user_version=7", &digest, error), 0);
    assert_int_equal(digest, store_digest(p->w.s));
    assert_int_equal(load_with(path, BEFORE_8 "DROP TABLE owner; PRAGMA user_version=5", &digest, error), 0);
    assert_int_equal(digest, store_digest(p->w.s));
    assert_int_equal(state_db_claim(path, &own, error), 0);
    assert_int_equal(state_db_check_owner(path, &own, error), 0);
    assert_int_equal(load_with(path, "PRAGMA user_version=4", &digest, error), -EPROTO);
    assert_non_null(strstr(error, "format 4"));
    assert_int_equal(
        load_with(path, "PRAGMA user_version=10; UPDATE owner SET program='9.8.7'", &digest, error), -EPROTO);
    assert_non_null(strstr(error, "format 10, written by kvnode 9.8.7"));
    assert_int_equal(load_with(path, "PRAGMA user_version=9", &digest, error), 0);
    assert_int_equal(load_with(path, "INSERT INTO setting VALUES('feature_level', '4')", &digest, error),
                     -EPROTO);
    assert_non_null(strstr(error, "feature level 4"));
}

static void a_snapshot_is_the_state_of_its_index(void **state)
{
    struct place *p = *state;
    struct store *s = store_new(0, NULL, NULL);
    char path[128], error[STATE_DB_ERROR_MAX];
    uint64_t index, verified, digest, then;

    for (int i = 0; i < 100; i++)
        command(&p->w, i);
    place_flush(p);
    then = store_digest(p->w.s);
    snprintf(path, sizeof path, "%s/snapshot", p->dir);
    assert_int_equal(state_db_snapshot(p->path, path, &index, error), 0);
    assert_int_equal(index, p->w.index);
    assert_int_equal(state_db_snapshot(p->path, path, &index, error), -EEXIST);
    for (int i = 100; i < 150; i++)
        command(&p->w, i);
    assert_int_equal(state_db_verify(path, &verified, &digest, error), 0);
    assert_int_equal(verified, index);
    assert_int_equal(digest, then);
    assert_int_equal(state_db_load(path, s, error), 0);
    assert_int_equal(store_digest(s), then);
    store_free(s);
}

static void install_is_completed_or_discarded(void **state)
{
    struct place *p = *state;
    char incoming[128], install[128], wal[128], error[STATE_DB_ERROR_MAX];
    uint64_t index, then, newer;
    struct store *s;

    for (int i = 0; i < 60; i++)
        command(&p->w, i);
    place_flush(p);
    then = store_digest(p->w.s);
    snprintf(incoming, sizeof incoming, "%s/incoming", p->dir);
    snprintf(install, sizeof install, "%s/state.db.install", p->dir);
    snprintf(wal, sizeof wal, "%s/state.db-wal", p->dir);
    assert_int_equal(state_db_snapshot(p->path, incoming, &index, error), 0);
    for (int i = 60; i < 120; i++)
        command(&p->w, i);
    newer = store_digest(p->w.s);
    writeback_free(p->wb, true, 10000);
    p->wb = NULL;

    /* Nothing decided yet: the old state stays. */
    assert_int_equal(state_db_recover(p->dir, error), 0);
    s = store_new(0, NULL, NULL);
    assert_int_equal(state_db_load(p->path, s, error), 0);
    assert_int_equal(store_digest(s), newer);
    store_free(s);

    /* Ended right behind the deciding rename: the start completes it, and the
     * old WAL does not come along. */
    assert_int_equal(rename(incoming, install), 0);
    write_file(wal, (const uint8_t *)"stale", 5);
    assert_int_equal(state_db_recover(p->dir, error), 0);
    assert_int_not_equal(access(wal, F_OK), 0);
    s = store_new(0, NULL, NULL);
    assert_int_equal(state_db_load(p->path, s, error), 0);
    assert_int_equal(store_digest(s), then);
    store_free(s);

    /* In one go. */
    assert_int_equal(state_db_snapshot(p->path, incoming, &index, error), 0);
    assert_int_equal(state_db_install(p->dir, incoming, &index, error), 0);
    s = store_new(0, NULL, NULL);
    assert_int_equal(state_db_load(p->path, s, error), 0);
    assert_int_equal(store_applied(s), index);
    store_free(s);
}

static void a_damaged_snapshot_is_not_installed(void **state)
{
    struct place *p = *state;
    char incoming[128], error[STATE_DB_ERROR_MAX];
    uint64_t index;
    uint8_t *bytes;
    size_t len;

    for (int i = 0; i < 60; i++)
        command(&p->w, i);
    place_flush(p);
    snprintf(incoming, sizeof incoming, "%s/incoming", p->dir);
    assert_int_equal(state_db_snapshot(p->path, incoming, &index, error), 0);
    bytes = read_file(incoming, &len);
    for (size_t i = 0; i + 8 < len; i++) /* a value */
        if (memcmp(bytes + i, "value 56", 8) == 0)
            bytes[i] = 'V';
    write_file(incoming, bytes, len);
    free(bytes);
    assert_int_equal(state_db_install(p->dir, incoming, &index, error), -EUCLEAN);
    assert_non_null(strstr(error, "incoming"));
    place_restart(p);
}

static void an_idle_sync_makes_what_was_committed_durable(void **state)
{
    struct place *p = *state;
    uint64_t until = 0;

    command(&p->w, 0);
    assert_int_equal(writeback_flush(p->wb), 0);
    while (writeback_flushed_index(p->wb) < p->w.index && look_again(&until, 10000))
        ;
    assert_int_equal(writeback_flushed_index(p->wb), p->w.index);
    assert_true(writeback_durable_index(p->wb) < p->w.index);
    place_flush(p);
    assert_int_equal(writeback_durable_index(p->wb), p->w.index);
}

static void time_alone_makes_it_flushed_and_durable(void **state)
{
    struct place *p = *state;
    uint64_t now = 1000000, next, until = 0;
    int error;

    assert_int_equal(writeback_poll(p->wb, now, &error), 200); /* the registration of the world's session */
    command(&p->w, 0);
    assert_int_equal(writeback_poll(p->wb, now + 100, &error), 100);
    next = writeback_poll(p->wb, now + 200, &error);
    assert_int_equal(next, 5000);
    while (writeback_flushed_index(p->wb) < p->w.index && look_again(&until, 10000))
        ;
    assert_int_equal(writeback_flushed_index(p->wb), p->w.index);
    assert_int_equal(writeback_poll(p->wb, now + 5200, &error), UINT64_MAX);
    until = 0;
    while (writeback_durable_index(p->wb) < p->w.index && look_again(&until, 10000))
        ;
    assert_int_equal(writeback_durable_index(p->wb), p->w.index);
}

/* A batch that was to be durable when it began to ripen is, also if its sync would not be due any more when
 * it is handed over; behind it nothing is left that a further sync were for. */
static void what_became_durable_is_not_synced_again(void **state)
{
    struct place *p = *state;
    const uint64_t now = 1000000;
    struct buffer part = BUFFER_INIT;
    uint64_t session, next, until = 0;
    char path[32];
    int error;

    assert_int_equal(world_register(&p->w, "0123456789abcdef", &session), KV_OK);
    place_flush(p);
    command(&p->w, 0);
    assert_int_equal(writeback_poll(p->wb, now, &error), 200);
    assert_int_equal(writeback_poll(p->wb, now + 200, &error), 5000);
    for (int i = 0; i < 8000; i++) {
        snprintf(path, sizeof path, "d/%d", i);
        assert_int_equal(world_set(&p->w, path, "x"), KV_OK);
    }
    assert_int_equal(writeback_poll(p->wb, now + 5200, &error), 0); /* it ripens, and is to be synced */
    buffer_put_u32(&part, 0);
    buffer_put_string(&part, "part", 4);
    assert_int_equal(world_raw(&p->w, COMMAND_PART, session, 1, part.data, part.len), KV_OK);
    buffer_deinit(&part);
    assert_true(journal_part_bytes(p->w.j) > 0);
    while ((next = writeback_poll(p->wb, now + 5200, &error)) == 0)
        ;
    assert_int_equal(next, UINT64_MAX);
    while (writeback_durable_index(p->wb) < p->w.index && look_again(&until, 10000))
        ;
    assert_int_equal(writeback_durable_index(p->wb), p->w.index);
}

/* A batch that is large is encoded over several turns; what changes meanwhile, also of what is encoded
 * already, is in it all the same. */
static void a_large_batch_is_encoded_over_turns(void **state)
{
    struct place *p = *state;
    uint64_t digest;
    char path[32];
    int error, turns = 0;

    place_flush(p);
    for (int i = 0; i < 8000; i++) {
        snprintf(path, sizeof path, "d/%d", i);
        assert_int_equal(world_set(&p->w, path, "first"), KV_OK);
    }
    while (writeback_poll(p->wb, UINT64_MAX / 2, &error) == 0) {
        assert_int_not_equal(journal_commands(p->w.j), 0); /* nothing of it is handed over yet */
        snprintf(path, sizeof path, "d/%d", turns);
        assert_int_equal(world_set(&p->w, path, "second"), KV_OK);
        snprintf(path, sizeof path, "d/%d", 7999 - turns);
        assert_int_equal(world_del(&p->w, path, false), KV_OK);
        snprintf(path, sizeof path, "d/%d", 4000 + turns);
        assert_int_equal(world_del(&p->w, path, false), KV_OK);
        assert_int_equal(world_set(&p->w, path, "another"), KV_OK);
        turns++;
    }
    assert_int_equal(journal_commands(p->w.j), 0);
    assert_in_range(turns, 5, 100);
    digest = store_digest(p->w.s);
    place_restart(p);
    assert_int_equal(store_digest(p->w.s), digest);
    assert_true(place_verifies(p));
}

/* The writer has a batch in hand that it cannot commit: somebody else writes to
 * the file. */
static void while_the_writer_is_busy_more_is_gathered(void **state)
{
    struct place *p = *state;
    uint64_t now = clock_boot_ms(), until = 0;
    sqlite3 *other;
    int error;

    place_flush(p);
    assert_int_equal(sqlite3_open(p->path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    world_set(&p->w, "k", "v");
    assert_int_equal(writeback_flush(p->wb), 0);
    for (int i = 0; i < 15999; i++)
        world_set(&p->w, "k", i % 2 == 0 ? "even" : "odd");
    writeback_poll(p->wb, now, &error);
    assert_true(writeback_poll(p->wb, now + 300, &error) > 1000); /* no hurry: the writer will say */
    assert_int_equal(journal_commands(p->w.j), 15999);
    world_set(&p->w, "k", "last");
    writeback_poll(p->wb, now + 300, &error);
    assert_int_equal(journal_commands(p->w.j), 0);
    assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    while (writeback_flushed_index(p->wb) < p->w.index && look_again(&until, 30000))
        ;
    assert_int_equal(writeback_flushed_index(p->wb), p->w.index);
    place_restart(p);
    assert_true(place_verifies(p));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, place_setup, place_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_that_was_killed_is_as_of_some_command),
        cmocka_unit_test(a_full_disk_loses_nothing),
        TEST(flipped_bits_are_refused_or_harmless),
        TEST(another_file_is_refused),
        TEST(older_formats_are_brought_up_and_newer_ones_refused),
        TEST(a_snapshot_is_the_state_of_its_index),
        TEST(install_is_completed_or_discarded),
        TEST(a_damaged_snapshot_is_not_installed),
        TEST(an_idle_sync_makes_what_was_committed_durable),
        TEST(time_alone_makes_it_flushed_and_durable),
        TEST(what_became_durable_is_not_synced_again),
        TEST(a_large_batch_is_encoded_over_turns),
        TEST(while_the_writer_is_busy_more_is_gathered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
