/* What disks do to a log: flipped bytes, lost tails, no space, failing fsync.
 * fdatasync() and fsync() are this file's own: SQLite calls them too. */
#include "tests/unit/raft/store_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/base/error.h"
#include "sync/raft/log/log_check.h"

static volatile bool fail_syncs;

int fdatasync(int fd)
{
    if (fail_syncs) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    if (fail_syncs) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

static uint8_t *read_file(const char *path, size_t *len_out)
{
    struct stat st;
    uint8_t *data;
    int fd = open(path, O_RDONLY);

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    data = malloc((size_t)st.st_size + 1);
    *len_out = (size_t)st.st_size;
    assert_int_equal(read(fd, data, *len_out), *len_out);
    close(fd);
    return data;
}

static void write_file(const char *path, const uint8_t *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    close(fd);
}

/* Loads the log: 0 and exactly what was stored (30 entries behind a snapshot), or an error with a reason. */
static int load_and_compare(struct store_rig *r)
{
    struct log_store_log l;
    int result = store_rig_try_load(r, &l);

    if (result == 0) {
        assert_int_equal(l.term, 7);
        assert_int_equal(l.vote, 3);
        assert_int_equal(l.start_index, 11);
        assert_int_equal(l.snapshot.index, 20);
        assert_int_equal(l.n_entries, 30);
        for (uint64_t i = 11; i <= 40; i++)
            assert_true(store_rig_is(l.entries[i - 11], i, 7));
        log_store_log_deinit(&l);
    } else {
        assert_true(result == -EBADMSG || result == -EPROTO || result == -EBUSY || result == -EIO ||
                    result == -EACCES);
        assert_non_null(strstr(r->why, "log.db"));
    }
    store_rig_close(r);
    return result;
}

static void store_small_log(struct store_rig *r)
{
    struct snapshot_meta meta = store_rig_meta(20, 7);
    struct log_store_log l;

    store_rig_setup(r);
    store_rig_load(r, &l);
    assert_int_equal(log_store_save_term(r->store, 0, 7, 3), 0);
    store_rig_append(r, 1, 40, 7, 300);
    log_store_trim(r->store, 0, &meta, 11);
    store_rig_wait(r, 1, 0);
    store_rig_close(r); /* SQLite's close copies the journal into the file */
    snapshot_meta_deinit(&meta);
}

/* KVFS_TEST_FLIPS=N: every N-th byte. */
static void no_flipped_byte_changes_what_is_loaded(void **state)
{
    const char *every = getenv("KVFS_TEST_FLIPS");
    size_t stride = every != NULL && atoi(every) > 0 ? (size_t)atoi(every) : 37;
    struct store_rig r;
    uint8_t *data;
    size_t len, detected = 0, harmless = 0;

    store_small_log(&r);
    assert_int_equal(load_and_compare(&r), 0);
    data = read_file(r.path, &len);
    for (size_t at = 0; at < len; at += at < 1024 ? 1 : stride) {
        data[at] ^= (uint8_t)(1u << at % 8);
        write_file(r.path, data, len);
        *(load_and_compare(&r) != 0 ? &detected : &harmless) += 1;
        data[at] ^= (uint8_t)(1u << at % 8);
    }
    print_message("# %zu of %zu bytes: %zu refused, %zu harmless\n", detected + harmless, len, detected,
                  harmless);
    assert_true(detected > 100); /* 9 kB of entries are among some 20 kB of pages */
    assert_true(harmless > 10);  /* free space */
    write_file(r.path, data, len);
    assert_int_equal(load_and_compare(&r), 0);
    free(data);
    store_rig_teardown(&r);
}

static void no_truncated_file_is_taken_for_a_shorter_log(void **state)
{
    struct store_rig r;
    uint8_t *data;
    size_t len;

    store_small_log(&r);
    data = read_file(r.path, &len);
    for (size_t cut = 0; cut < len; cut += 1024) {
        write_file(r.path, data, cut);
        assert_int_not_equal(load_and_compare(&r), 0);
    }
    unlink(r.path);
    assert_int_not_equal(load_and_compare(&r), 0);
    assert_non_null(strstr(r.why, "kvnode readmit"));
    free(data);
    store_rig_teardown(&r);
}

/* A killed process leaves its journal; a flipped byte in it makes SQLite drop
 * every later transaction without a word. */
static void a_damaged_journal_does_not_lose_acknowledged_entries_in_silence(void **state)
{
    struct store_rig r;
    struct log_store_log l;
    char journal[200];
    uint8_t *data;
    size_t len;
    unsigned detected = 0;
    pid_t pid;
    int status;

    store_rig_setup(&r);
    pid = fork();
    if (pid == 0) {
        store_rig_load(&r, &l);
        log_store_save_term(r.store, 0, 7, 3);
        for (uint64_t i = 1; i <= 40; i++) {
            store_rig_append(&r, i, 1, 7, 300);
            store_rig_wait(&r, (unsigned)i, 0);
        }
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    snprintf(journal, sizeof journal, "%s-wal", r.path);
    data = read_file(journal, &len);
    for (size_t at = 40; at < len; at += len / 40) {
        uint8_t *main_file;
        size_t main_len;
        int result;

        main_file = read_file(r.path, &main_len);
        data[at] ^= 4;
        write_file(journal, data, len);
        result = store_rig_try_load(&r, &l);
        if (result != 0) {
            detected++;
        } else {
            assert_int_equal(l.n_entries, 40);
            log_store_log_deinit(&l);
        }
        store_rig_close(&r);
        data[at] ^= 4;
        write_file(r.path, main_file, main_len);
        free(main_file);
    }
    assert_true(detected > 30);
    write_file(journal, data, len);
    store_rig_load(&r, &l);
    assert_int_equal(l.n_entries, 40);
    log_store_log_deinit(&l);
    free(data);
    store_rig_teardown(&r);
}

static void a_log_restored_from_an_old_copy_is_refused(void **state)
{
    struct store_rig r;
    struct log_store_log l;
    uint8_t *data;
    size_t len;

    store_small_log(&r);
    data = read_file(r.path, &len);
    store_rig_load(&r, &l);
    log_store_log_deinit(&l);
    store_rig_append(&r, 41, 1, 7, 10);
    store_rig_wait(&r, 1, 0);
    store_rig_close(&r);
    write_file(r.path, data, len);
    assert_int_equal(load_and_compare(&r), -EBADMSG);
    assert_non_null(strstr(r.why, "lost"));
    free(data);
    store_rig_teardown(&r);
}

static void a_truncation_may_shorten_the_log(void **state)
{
    struct store_rig r;
    struct log_store_log l;

    store_small_log(&r);
    store_rig_load(&r, &l);
    log_store_log_deinit(&l);
    store_rig_append(&r, 30, 1, 7, 10);
    store_rig_wait(&r, 1, 0);
    store_rig_close(&r);
    store_rig_load(&r, &l);
    assert_int_equal(l.n_entries, 20);
    log_store_log_deinit(&l);
    store_rig_teardown(&r);
}

/* ---- full disk ---- */

static void fill_up(struct store_rig *r, const char *name, size_t leave)
{
    static const uint8_t zeros[4096];
    char path[256];
    int fd;
    off_t size;

    snprintf(path, sizeof path, "%s/%s", r->directory, name);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    while (write(fd, zeros, sizeof zeros) > 0)
        continue;
    size = lseek(fd, 0, SEEK_END);
    assert_int_equal(ftruncate(fd, size > (off_t)leave ? size - (off_t)leave : 0), 0);
    close(fd);
}

static void a_full_disk_delays_and_loses_nothing(void **state)
{
    struct store_rig r;
    struct log_store_log l;
    char filler[256];

    if (!store_rig_setup_small(&r, 12 * 1024)) {
        print_message("needs the right to mount a tmpfs\n");
        assert_null(getenv("CI"));
        skip();
    }
    store_rig_load(&r, &l);
    log_store_save_term(r.store, 0, 1, 0);
    store_rig_append(&r, 1, 10, 1, 1000);
    store_rig_wait(&r, 1, 0);
    fill_up(&r, "filler", 64 * 1024);
    store_rig_append(&r, 11, 1000, 1, 1000);
    store_rig_wait_state(&r, LOG_STORE_FULL);
    assert_int_equal(r.appended, 1);
    assert_true(log_store_queued_bytes(r.store) >= 1000000);
    for (uint64_t term = 2; term < 22; term++) /* from the reserve */
        assert_int_equal(log_store_save_term(r.store, 0, term, 3), 0);
    assert_int_equal(log_store_sync(r.store), KV_E_NOSPC);
    store_rig_append(&r, 1011, 1, 1, 1000);
    snprintf(filler, sizeof filler, "%s/filler", r.directory);
    unlink(filler);
    store_rig_wait_state(&r, LOG_STORE_OK);
    store_rig_wait(&r, 3, 0);
    store_rig_close(&r);
    store_rig_load(&r, &l);
    assert_int_equal(l.term, 21);
    assert_int_equal(l.n_entries, 1011);
    for (uint64_t i = 1; i <= 1011; i++)
        assert_true(store_rig_is(l.entries[i - 1], i, 1));
    log_store_log_deinit(&l);
    store_rig_teardown(&r);
}

/* state.db lies on the same disk, and its writer tries on. */
static void entries_that_do_not_fit_leave_the_reserve_to_the_terms(void **state)
{
    struct store_rig r;
    struct log_store_log l;

    if (!store_rig_setup_small(&r, 6 * 1024)) {
        print_message("needs the right to mount a tmpfs\n");
        assert_null(getenv("CI"));
        return;
    }
    store_rig_load(&r, &l);
    store_rig_append(&r, 1, 1, 1, 1000);
    store_rig_wait(&r, 1, 0);
    fill_up(&r, "filler", 0);
    store_rig_append(&r, 2, 1000, 1, 1000);
    store_rig_wait_state(&r, LOG_STORE_FULL);
    for (uint64_t term = 2; term < 12; term++) {
        fill_up(&r, "more", 0); /* what the last term left over, too */
        assert_int_equal(log_store_save_term(r.store, 0, term, 3), 0);
    }
    /* What is left of it outlives the process. */
    store_rig_close(&r);
    store_rig_load(&r, &l);
    assert_int_equal(l.term, 11);
    log_store_log_deinit(&l);
    fill_up(&r, "more", 0);
    assert_int_equal(log_store_save_term(r.store, 0, 12, 3), 0);
    store_rig_teardown(&r);
}

static void says_no_space_when_even_a_term_does_not_fit(void **state)
{
    struct store_rig r;
    struct log_store_log l;
    int result = 0;

    if (!store_rig_setup_small(&r, 6 * 1024)) {
        print_message("needs the right to mount a tmpfs\n");
        assert_null(getenv("CI"));
        skip();
    }
    store_rig_load(&r, &l);
    store_rig_append(&r, 1, 1, 1, 1000);
    store_rig_wait(&r, 1, 0);
    fill_up(&r, "filler", 0);
    store_rig_append(&r, 2, 1000, 1, 1000);
    store_rig_wait_state(&r, LOG_STORE_FULL);
    for (uint64_t term = 2; term < 5000 && result == 0; term++) {
        result = log_store_save_term(r.store, 0, term, 3);
        if (term == 10)
            fill_up(&r, "more", 0); /* someone takes what the reserve gave */
    }
    assert_int_equal(result, KV_E_NOSPC);
    store_rig_teardown(&r);
}

/* ---- failing fsync ---- */

static void a_failed_sync_is_final_and_the_next_start_copies_the_log(void **state)
{
    struct store_rig r;
    struct log_store_log l;
    struct stat before, after;
    char mark[200];

    store_rig_setup(&r);
    store_rig_load(&r, &l);
    log_store_save_term(r.store, 0, 7, 3);
    store_rig_append(&r, 1, 40, 7, 300);
    store_rig_wait(&r, 1, 0);
    fail_syncs = true;
    store_rig_append(&r, 41, 1, 7, 300);
    store_rig_wait_state(&r, LOG_STORE_FAILED);
    assert_int_equal(log_store_poll(r.store, &(struct log_store_event){0}, 1), 0);
    fail_syncs = false; /* a second fsync would "succeed" */
    assert_int_equal(log_store_append(r.store, 0, 42, NULL, 0), -EIO);
    assert_int_equal(log_store_save_term(r.store, 0, 8, 0), -EIO);
    assert_int_equal(log_store_sync(r.store), -EIO);
    store_rig_close(&r);
    snprintf(mark, sizeof mark, "%s.failed", r.path);
    assert_int_equal(access(mark, F_OK), 0);

    assert_int_equal(stat(r.path, &before), 0);
    store_rig_load(&r, &l);
    assert_int_equal(stat(r.path, &after), 0);
    assert_int_not_equal(before.st_ino, after.st_ino);
    assert_int_not_equal(access(mark, F_OK), 0);
    assert_true(l.n_entries == 40 || l.n_entries == 41);
    assert_int_equal(l.term, 7);
    for (uint64_t i = 1; i <= 40; i++)
        assert_true(store_rig_is(l.entries[i - 1], i, 7));
    log_store_log_deinit(&l);
    store_rig_teardown(&r);
}

static void a_waiting_term_learns_of_the_failure(void **state)
{
    struct store_rig r;
    struct log_store_log l;

    store_rig_setup(&r);
    store_rig_load(&r, &l);
    fail_syncs = true;
    assert_int_equal(log_store_save_term(r.store, 0, 7, 3), -EIO);
    fail_syncs = false;
    store_rig_teardown(&r);
}

static void an_interrupted_copy_is_done_again_or_completed(void **state)
{
    struct store_rig r;
    char mark[200], copy[200];
    uint8_t *data;
    size_t len;

    store_small_log(&r);
    snprintf(mark, sizeof mark, "%s.failed", r.path);
    snprintf(copy, sizeof copy, "%s.rewrite", r.path);
    data = read_file(r.path, &len);
    write_file(mark, (const uint8_t *)"copy", 4); /* killed while copying */
    write_file(copy, data, len / 2);
    assert_int_equal(load_and_compare(&r), 0);
    write_file(mark, (const uint8_t *)"replace", 7); /* killed before the rename */
    write_file(copy, data, len);
    write_file(r.path, data, len / 2);
    assert_int_equal(load_and_compare(&r), 0);
    write_file(mark, (const uint8_t *)"replace", 7); /* killed behind the rename */
    assert_int_equal(load_and_compare(&r), 0);
    assert_int_not_equal(access(mark, F_OK), 0);
    free(data);
    store_rig_teardown(&r);
}

/* What is asked of a node that does not run: the answer of a start, which names the file itself. */
static void a_check_says_what_a_start_says_and_touches_nothing(void **state)
{
    struct store_rig r;
    uint8_t *data, *after;
    char journal[PATH_MAX], why[LOG_STORE_ERROR_LEN] = "";
    size_t len, len_after;
    bool exists = false;

    store_small_log(&r);
    data = read_file(r.path, &len);
    assert_int_equal(log_check(r.path, 0, &exists, why), 0);
    assert_true(exists);
    assert_int_equal(log_check(r.path, 1, &exists, why), 0);
    assert_false(exists);
    write_file(r.path, data, len / 2);
    assert_int_equal(log_check(r.path, 0, &exists, why), -EBADMSG);
    assert_int_equal(strncmp(why, r.path, strlen(r.path)), 0);
    assert_non_null(strstr(why, " is damaged ("));
    assert_non_null(strstr(why, LOG_STORE_MEND));
    after = read_file(r.path, &len_after);
    assert_int_equal(len_after, len / 2);
    assert_memory_equal(after, data, len_after);
    snprintf(journal, sizeof journal, "%s-wal", r.path);
    assert_int_not_equal(access(journal, F_OK), 0);
    unlink(r.path); /* and the floor is there */
    assert_int_equal(log_check(r.path, 0, &exists, why), -EBADMSG);
    assert_int_not_equal(access(r.path, F_OK), 0);
    free(data);
    free(after);
    store_rig_teardown(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_flipped_byte_changes_what_is_loaded),
        cmocka_unit_test(no_truncated_file_is_taken_for_a_shorter_log),
        cmocka_unit_test(a_damaged_journal_does_not_lose_acknowledged_entries_in_silence),
        cmocka_unit_test(a_log_restored_from_an_old_copy_is_refused),
        cmocka_unit_test(a_truncation_may_shorten_the_log),
        cmocka_unit_test(a_full_disk_delays_and_loses_nothing),
        cmocka_unit_test(entries_that_do_not_fit_leave_the_reserve_to_the_terms),
        cmocka_unit_test(says_no_space_when_even_a_term_does_not_fit),
        cmocka_unit_test(a_failed_sync_is_final_and_the_next_start_copies_the_log),
        cmocka_unit_test(a_waiting_term_learns_of_the_failure),
        cmocka_unit_test(an_interrupted_copy_is_done_again_or_completed),
        cmocka_unit_test(a_check_says_what_a_start_says_and_touches_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
