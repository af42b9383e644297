#include "tests/unit/raft/store_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void check_run(const struct log_store_log *l, uint64_t first, uint64_t last, uint64_t term)
{
    for (uint64_t i = first; i <= last; i++)
        assert_true(store_rig_is(l->entries[i - l->start_index], i, term));
}

static void a_new_log_is_empty(void **state)
{
    struct store_rig r;
    struct log_store_log l;

    store_rig_setup(&r);
    store_rig_load(&r, &l);
    assert_false(l.exists);
    assert_int_equal(l.term, 0);
    assert_int_equal(l.start_index, 1);
    assert_int_equal(l.n_entries, 0);
    assert_int_equal(l.snapshot.index, 0);
    log_store_log_deinit(&l);
    store_rig_teardown(&r);
}

static void what_was_reported_is_there_after_a_restart(void **state)
{
    struct store_rig r;
    struct log_store_log l;

    store_rig_setup(&r);
    store_rig_load(&r, &l);
    assert_int_equal(log_store_save_term(r.store, 0, 5, 2), 0);
    store_rig_append(&r, 1, 10, 5, 100);
    store_rig_append(&r, 11, 1, 5, 0);
    store_rig_append(&r, 12, 2, 5, 70000); /* overflow pages */
    store_rig_wait(&r, 3, 0);
    store_rig_close(&r);

    store_rig_load(&r, &l);
    assert_true(l.exists);
    assert_int_equal(l.term, 5);
    assert_int_equal(l.vote, 2);
    assert_int_equal(l.n_entries, 13);
    check_run(&l, 1, 13, 5);
    log_store_log_deinit(&l);
    store_rig_teardown(&r);
}

static void an_append_replaces_what_was_there(void **state)
{
    struct store_rig r;
    struct log_store_log l;

    store_rig_setup(&r);
    store_rig_load(&r, &l);
    log_store_save_term(r.store, 0, 2, 0);
    store_rig_append(&r, 1, 20, 1, 50);
    store_rig_append(&r, 11, 3, 2, 50); /* in the same transaction, perhaps */
    store_rig_wait(&r, 2, 0);
    store_rig_append(&r, 5, 2, 3, 50);
    store_rig_append(&r, 7, 2, 3, 50);
    store_rig_wait(&r, 4, 0);
    store_rig_close(&r);

    store_rig_load(&r, &l);
    assert_int_equal(l.n_entries, 8);
    check_run(&l, 1, 4, 1);
    check_run(&l, 5, 8, 3);
    log_store_log_deinit(&l);
    store_rig_teardown(&r);
}

static void a_trimmed_log_starts_at_its_new_place(void **state)
{
    struct store_rig r;
    struct log_store_log l;
    struct snapshot_meta meta = store_rig_meta(6000, 1);

    store_rig_setup(&r);
    store_rig_load(&r, &l);
    log_store_save_term(r.store, 0, 1, 0);
    store_rig_append(&r, 1, 10000, 1, 20);
    assert_int_equal(log_store_trim(r.store, 0, &meta, 5001), 0);
    store_rig_append(&r, 10001, 1, 1, 20);
    store_rig_wait(&r, 2, 0);
    store_rig_close(&r); /* with rows still to be swept */

    store_rig_load(&r, &l);
    assert_int_equal(l.start_index, 5001);
    assert_int_equal(l.n_entries, 5001);
    assert_int_equal(l.snapshot.index, 6000);
    assert_int_equal(l.snapshot.conf_index, 1);
    check_run(&l, 5001, 10001, 1);
    log_store_log_deinit(&l);
    snapshot_meta_deinit(&meta);
    meta = store_rig_meta(10001, 1); /* all of it goes */
    assert_int_equal(log_store_trim(r.store, 0, &meta, 10002), 0);
    assert_int_equal(log_store_sync(r.store), 0);
    store_rig_append(&r, 10002, 2, 1, 20);
    store_rig_wait(&r, 1, 0);
    store_rig_close(&r);

    store_rig_load(&r, &l);
    assert_int_equal(l.start_index, 10002);
    assert_int_equal(l.n_entries, 2);
    check_run(&l, 10002, 10003, 1);
    log_store_log_deinit(&l);
    snapshot_meta_deinit(&meta);
    store_rig_teardown(&r);
}

static void a_reset_leaves_nothing_behind(void **state)
{
    struct store_rig r;
    struct log_store_log l;
    struct snapshot_meta meta = store_rig_meta(50, 4);

    store_rig_setup(&r);
    store_rig_load(&r, &l);
    log_store_save_term(r.store, 0, 4, 3);
    store_rig_append(&r, 1, 60, 2, 20);
    assert_int_equal(log_store_reset(r.store, 0, &meta), 0);
    store_rig_append(&r, 51, 2, 4, 20);
    store_rig_wait(&r, 2, 1);
    store_rig_close(&r);

    store_rig_load(&r, &l);
    assert_int_equal(l.term, 4);
    assert_int_equal(l.vote, 3);
    assert_int_equal(l.snapshot.index, 50);
    assert_int_equal(l.snapshot.term, 4);
    assert_int_equal(l.start_index, 51);
    assert_int_equal(l.n_entries, 2);
    check_run(&l, 51, 52, 4);
    log_store_log_deinit(&l);
    snapshot_meta_deinit(&meta);
    store_rig_teardown(&r);
}

static void can_be_loaded_again_when_nothing_is_queued(void **state)
{
    struct store_rig r;
    struct log_store_log l;
    struct snapshot_meta meta = store_rig_meta(50, 4);

    store_rig_setup(&r);
    store_rig_load(&r, &l);
    store_rig_append(&r, 1, 60, 2, 20);
    log_store_reset(r.store, 0, &meta);
    store_rig_append(&r, 51, 2, 4, 20);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(log_store_sync(r.store), 0);
        assert_int_equal(log_store_load(r.store, 0, &l, r.why), 0);
        assert_int_equal(l.snapshot.index, 50);
        assert_int_equal(l.n_entries, 2 + i);
        check_run(&l, 51, 52 + (uint64_t)i, 4);
        log_store_log_deinit(&l);
        store_rig_append(&r, 53 + (uint64_t)i, 1, 4, 20);
    }
    snapshot_meta_deinit(&meta);
    store_rig_teardown(&r);
}

static void reports_in_the_order_of_the_calls(void **state)
{
    struct store_rig r;
    struct log_store_log l;
    struct log_store_event events[3];
    struct snapshot_meta meta = store_rig_meta(50, 4);

    store_rig_setup(&r);
    store_rig_load(&r, &l);
    store_rig_append(&r, 1, 1, 1, 1);
    log_store_reset(r.store, 0, &meta);
    store_rig_append(&r, 51, 1, 4, 1);
    assert_int_equal(log_store_sync(r.store), 0);
    assert_int_equal(log_store_poll(r.store, events, 3), 3);
    assert_int_equal(events[0].type, LOG_STORE_APPENDED);
    assert_int_equal(events[1].type, LOG_STORE_RESET);
    assert_int_equal(events[2].type, LOG_STORE_APPENDED);
    assert_int_equal(log_store_poll(r.store, events, 3), 0);
    assert_int_equal(log_store_queued_bytes(r.store), 0);
    snapshot_meta_deinit(&meta);
    store_rig_teardown(&r);
}

static void many_appends_share_a_transaction(void **state)
{
    struct store_rig r;
    struct log_store_log l;

    store_rig_setup(&r);
    store_rig_load(&r, &l);
    for (uint64_t i = 1; i <= 5000; i++)
        store_rig_append(&r, i, 1, 1, 30);
    store_rig_wait(&r, 5000, 0);
    assert_true(log_store_commits(r.store) < 4000);
    store_rig_close(&r);
    store_rig_load(&r, &l);
    assert_int_equal(l.n_entries, 5000);
    check_run(&l, 1, 5000, 1);
    log_store_log_deinit(&l);
    store_rig_teardown(&r);
}

static void groups_do_not_mix(void **state)
{
    struct store_rig r;
    struct log_store_log l;
    struct entry *e = entry_new(ENTRY_COMMAND, "other", 5);

    e->term = 9;
    store_rig_setup(&r);
    store_rig_load(&r, &l);
    assert_int_equal(log_store_load(r.store, 65535, &l, r.why), 0);
    store_rig_append(&r, 1, 5, 1, 10);
    assert_int_equal(log_store_save_term(r.store, 65535, 9, 9), 0);
    assert_int_equal(log_store_append(r.store, 65535, 1, &e, 1), 0);
    entry_put(e);
    store_rig_wait(&r, 2, 0);
    store_rig_close(&r);

    store_rig_load(&r, &l);
    assert_int_equal(l.n_entries, 5);
    assert_int_equal(l.term, 0);
    log_store_log_deinit(&l);
    assert_int_equal(log_store_load(r.store, 65535, &l, r.why), 0);
    assert_int_equal(l.n_entries, 1);
    assert_int_equal(l.vote, 9);
    assert_memory_equal(l.entries[0]->data, "other", 5);
    log_store_log_deinit(&l);
    store_rig_teardown(&r);
}

static void one_process_at_a_time(void **state)
{
    struct store_rig r;
    struct log_store *second;
    struct log_store_log l;
    char why[LOG_STORE_ERROR_LEN];

    store_rig_setup(&r);
    store_rig_load(&r, &l);
    assert_int_equal(log_store_save_term(r.store, 0, 1, 1), 0);
    assert_int_equal(log_store_open(r.path, NULL, NULL, &second, why), -EBUSY);
    assert_non_null(strstr(why, r.path));
    store_rig_teardown(&r);
}

static void refuses_a_floor_that_is_another_log_s(void **state)
{
    struct store_rig r;
    struct log_store_log l;
    char command[1024];

    store_rig_setup(&r);
    store_rig_load(&r, &l);
    store_rig_append(&r, 1, 1, 1, 1);
    store_rig_wait(&r, 1, 0);
    store_rig_close(&r);
    snprintf(command, sizeof command, "mv %s-floor %s.kept && rm %s", r.path, r.path, r.path);
    assert_int_equal(system(command), 0);
    store_rig_load(&r, &l);
    store_rig_append(&r, 1, 1, 1, 1);
    store_rig_wait(&r, 1, 0);
    store_rig_close(&r);
    /* The same entries, and the same sums. */
    snprintf(command, sizeof command, "mv %s.kept %s-floor", r.path, r.path);
    assert_int_equal(system(command), 0);
    assert_int_equal(store_rig_try_load(&r, &l), -EINVAL);
    assert_non_null(strstr(r.why, "do not belong together"));
    store_rig_teardown(&r);
}

static void run_sql(const struct store_rig *r, const char *sql)
{
    char command[512];

    snprintf(command, sizeof command, "sqlite3 %s '%s'", r->path, sql);
    assert_int_equal(system(command), 0);
}

static void refuses_files_that_are_not_its_own(void **state)
{
    struct store_rig r;
    struct log_store_log l;
    char command[512];
    FILE *f;

    store_rig_setup(&r);
    f = fopen(r.path, "w");
    fputs("this is no database, but it is long enough to have a header "
          "..............................................\n",
          f);
    fclose(f);
    assert_int_equal(store_rig_try_load(&r, &l), -EBADMSG);
    unlink(r.path);
    snprintf(command, sizeof command, "sqlite3 %s 'CREATE TABLE t(a)'", r.path);
    assert_int_equal(system(command), 0);
    assert_int_equal(store_rig_try_load(&r, &l), -EBADMSG);
    unlink(r.path);
    store_rig_load(&r, &l);
    store_rig_append(&r, 1, 1, 1, 1);
    store_rig_wait(&r, 1, 0);
    store_rig_close(&r);
    run_sql(&r, "PRAGMA user_version=5; UPDATE life SET program=\"9.8.7\"");
    assert_int_equal(store_rig_try_load(&r, &l), -EPROTO);
    assert_non_null(strstr(r.why, "has format 5"));
    assert_non_null(strstr(r.why, "use kvnode 9.8.7"));
    run_sql(&r, "PRAGMA user_version=2; ALTER TABLE life DROP COLUMN program");
    assert_int_equal(store_rig_try_load(&r, &l), -EPROTO);
    assert_non_null(strstr(r.why, "use the older program"));
    run_sql(&r, "PRAGMA user_version=3"); /* of the last version: brought up to this one's */
    store_rig_load(&r, &l);
    assert_int_equal(l.n_entries, 1);
    log_store_log_deinit(&l);
    store_rig_close(&r);
    store_rig_teardown(&r);
}

/* A child appends as fast as it can and says what was reported; it is killed. */
static void loses_nothing_that_was_reported_when_it_is_killed(void **state)
{
    struct store_rig r;
    struct log_store_log l;
    uint64_t reported = 0;

    store_rig_setup(&r);
    for (int life = 0; life < 5; life++) {
        int fds[2];
        uint64_t said;
        pid_t pid;

        assert_int_equal(pipe(fds), 0);
        pid = fork();
        if (pid == 0) {
            store_rig_load(&r, &l);
            for (uint64_t i = l.n_entries + 1, n = 0;; i += 3) {
                store_rig_append(&r, i, 3, 1, 200);
                store_rig_wait(&r, (unsigned)++n, 0);
                said = i + 2;
                if (write(fds[1], &said, sizeof said) < 0)
                    _exit(1);
            }
        }
        close(fds[1]);
        for (int i = 0; i < 100 + 70 * life; i++)
            assert_int_equal(read(fds[0], &reported, sizeof reported), sizeof reported);
        kill(pid, SIGKILL);
        while (read(fds[0], &said, sizeof said) == sizeof said)
            reported = said;
        close(fds[0]);
        assert_int_equal(waitpid(pid, NULL, 0), pid);

        store_rig_load(&r, &l);
        assert_true(l.n_entries >= reported);
        check_run(&l, 1, l.n_entries, 1);
        log_store_log_deinit(&l);
        store_rig_close(&r);
    }
    store_rig_teardown(&r);
}

/* ---- the owner's note ---- */

static void a_note_is_as_old_as_the_log_beside_it(void **state)
{
    struct store_rig r;
    struct log_store_log l;
    size_t len;

    store_rig_setup(&r);
    store_rig_load(&r, &l);
    log_store_log_deinit(&l);
    assert_null(log_store_note(r.store, &len));
    assert_int_equal(log_store_save_note(r.store, "first", 5), 0);
    store_rig_close(&r);

    store_rig_load(&r, &l);
    assert_false(l.exists);
    log_store_log_deinit(&l);
    assert_memory_equal(log_store_note(r.store, &len), "first", 5);
    assert_int_equal(len, 5);
    store_rig_append(&r, 1, 3, 1, 10);
    assert_int_equal(log_store_put_note(r.store, "the second", 10), 0);
    assert_int_equal(log_store_sync(r.store), 0);
    store_rig_wait(&r, 1, 0);
    assert_memory_equal(log_store_note(r.store, &len), "first", 5); /* as of the opening */
    store_rig_close(&r);

    store_rig_load(&r, &l);
    check_run(&l, 1, 3, 1);
    log_store_log_deinit(&l);
    assert_memory_equal(log_store_note(r.store, &len), "the second", 10);
    assert_int_equal(len, 10);
    store_rig_teardown(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_log_is_empty),
        cmocka_unit_test(what_was_reported_is_there_after_a_restart),
        cmocka_unit_test(an_append_replaces_what_was_there),
        cmocka_unit_test(a_trimmed_log_starts_at_its_new_place),
        cmocka_unit_test(a_reset_leaves_nothing_behind),
        cmocka_unit_test(can_be_loaded_again_when_nothing_is_queued),
        cmocka_unit_test(reports_in_the_order_of_the_calls),
        cmocka_unit_test(many_appends_share_a_transaction),
        cmocka_unit_test(groups_do_not_mix),
        cmocka_unit_test(one_process_at_a_time),
        cmocka_unit_test(a_note_is_as_old_as_the_log_beside_it),
        cmocka_unit_test(refuses_a_floor_that_is_another_log_s),
        cmocka_unit_test(refuses_files_that_are_not_its_own),
        cmocka_unit_test(loses_nothing_that_was_reported_when_it_is_killed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
