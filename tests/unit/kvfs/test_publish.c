/* Publications, and the room for them. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "kvfs/file/publish.h"
#include "sync/base/error.h"
#include "tests/lib/look_again.h"
#include "tests/unit/kvfs/fake_node.h"

static int open_error(struct fixture *f)
{
    struct kernel_inode *inode;
    int err;

    pthread_mutex_lock(&f->fs.hub.lock);
    inode = kernel_inode_find(&f->fs.cache, FILE_INO);
    err = file_take_lost(&f->fs.files, inode->file);
    file_put(&f->fs.files, inode);
    pthread_mutex_unlock(&f->fs.hub.lock);
    return err;
}

/* The first answer is lost, and the session with it. */
static void lose_first_publication(struct fixture *f)
{
    f->node.acts[0] = ACT_SILENT;
    f->node.acts[1] = ACT_SESSION;
    fake_start_publication(f, "ours");
    fake_wait_writes(f, 1);
    fake_start_write(f);
}

static const struct command_body *last_body(const struct fixture *f)
{
    return &f->node.bodies[f->node.n_writes - 1];
}

static void after_a_lost_session_a_publication_is_repeated_on_its_base_only(void **state)
{
    struct fixture *f = *state;

    lose_first_publication(f);
    fake_wait_answers(f, 2);
    assert_int_equal(f->node.n_registered, 2);
    assert_int_equal(f->node.bodies[0].flags, 0);
    assert_int_equal(f->node.writes[2].session, 2);
    assert_int_equal(f->node.writes[2].op, COMMAND_PUBLISH);
    assert_int_equal(f->node.bodies[2].flags, PUBLISH_IF_REVISION);
    assert_int_equal(f->node.bodies[2].version, 40);
    assert_false(fake_is_dirty(f));
}

static void and_fails_if_the_file_has_changed_since(void **state)
{
    struct fixture *f = *state;

    f->node.acts[2] = ACT_OTHER_VERSION;
    lose_first_publication(f);
    f->code = -1;
    pthread_mutex_lock(&f->fs.hub.lock);
    while (f->n_answers < 2) {
        if (f->code > 0)
            assert_int_equal(call_errno(f->code), EIO);
        pthread_cond_wait(&f->answered, &f->fs.hub.lock);
    }
    pthread_mutex_unlock(&f->fs.hub.lock);
    /* It is not tried again in another way, and who closed the file has been told. */
    assert_false(fake_is_dirty(f));
    assert_int_equal(f->node.n_writes, 4);
    assert_int_equal(open_error(f), 0);
}

/* Who opens it to read has not written it. */
static void a_reader_does_not_let_it_replace_what_others_wrote(void **state)
{
    struct command_result ended = {.code = KV_E_SESSION};
    struct fixture *f = *state;
    struct handle *reader;

    fake_set_timeout(f, 300);
    f->node.acts[0] = ACT_WAIT;
    fake_start_publication(f, "late");
    fake_wait_writes(f, 1);
    assert_int_not_equal(fake_wait_answers(f, 1), 0);
    pthread_mutex_lock(&f->fs.hub.lock);
    reader = file_open(&f->fs.files, kernel_inode_find(&f->fs.cache, FILE_INO), O_RDONLY, 0, 0);
    assert_non_null(reader);
    fake_send_result(f->node.waiting_fd, f->node.waiting, &ended);
    pthread_mutex_unlock(&f->fs.hub.lock);
    fake_wait_writes(f, 2);
    fake_wait_clean(f);
    assert_int_equal(f->node.writes[1].session, 2);
    assert_int_equal(last_body(f)->flags, PUBLISH_IF_REVISION);
    assert_int_equal(last_body(f)->version, 40);
    pthread_mutex_lock(&f->fs.hub.lock);
    file_close(&f->fs.files, reader);
    pthread_mutex_unlock(&f->fs.hub.lock);
}

/* Nor what no node has accepted by the deadline. */
static void nor_does_he_keep_what_no_node_took_as_it_was(void **state)
{
    struct fixture *f = *state;
    struct handle *reader;
    const struct file *file;
    uint64_t until = 0;
    bool taken_back = false;
    int i;

    fake_set_timeout(f, 300);
    for (i = 0; i < WRITES_MAX; i++)
        f->node.acts[i] = ACT_UNAVAILABLE;
    fake_start_publication(f, "late");
    pthread_mutex_lock(&f->fs.hub.lock);
    reader = file_open(&f->fs.files, kernel_inode_find(&f->fs.cache, FILE_INO), O_RDONLY, 0, 0);
    assert_non_null(reader);
    pthread_mutex_unlock(&f->fs.hub.lock);
    assert_int_not_equal(fake_wait_answers(f, 1), 0);
    do {
        pthread_mutex_lock(&f->fs.hub.lock);
        file = file_find(&f->fs.files, FILE_INO);
        taken_back = file->publication == NULL && file->refusals > 0;
        if (taken_back || f->node.n_writes > WRITES_MAX / 2)
            memset(f->node.acts, 0, sizeof f->node.acts); /* ACT_DONE */
        pthread_mutex_unlock(&f->fs.hub.lock);
    } while (!taken_back && f->node.n_writes <= WRITES_MAX / 2 && look_again(&until, 10000));
    assert_true(taken_back);
    fake_wait_clean(f);
    assert_int_equal(last_body(f)->flags, PUBLISH_IF_REVISION);
    assert_int_equal(last_body(f)->version, 40);
    pthread_mutex_lock(&f->fs.hub.lock);
    file_close(&f->fs.files, reader);
    pthread_mutex_unlock(&f->fs.hub.lock);
}

static void unless_its_own_event_says_that_it_was_done(void **state)
{
    struct fixture *f = *state;

    f->node.missed = 0;
    f->node.acts[2] = ACT_SILENT;
    lose_first_publication(f);
    fake_wait_answers(f, 2);
    assert_int_equal(f->code, 0);
    assert_false(fake_is_dirty(f));
    assert_int_equal(f->node.bodies[2].flags, PUBLISH_IF_REVISION);
}

static void nobody_who_waits_is_told_success_of_what_was_lost(void **state)
{
    struct fixture *f = *state;

    /* The first publication fails for good; what is written meanwhile is tried on its own,
     * and fails with it: it has the first in it. */
    f->node.acts[0] = ACT_WAIT;
    f->node.acts[1] = ACT_FORBIDDEN;
    fake_start_publication(f, "first");
    fake_wait_writes(f, 1);
    fake_start_publication(f, "later");
    pthread_mutex_lock(&f->fs.hub.lock);
    {
        struct command_result result = {.code = KV_E_ACCES, .revision = 100};

        fake_send_result(f->node.waiting_fd, f->node.waiting, &result);
    }
    pthread_mutex_unlock(&f->fs.hub.lock);
    assert_int_equal(fake_wait_answers(f, 1), KV_E_ACCES);
    assert_int_equal(fake_wait_answers(f, 2), KV_E_ACCES);
    assert_int_equal(f->node.n_writes, 2);
    assert_false(fake_is_dirty(f));
}

static void what_fails_for_now_stays_and_is_tried_again(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = ACT_NO_ROOM;
    f->node.acts[1] = ACT_TOO_LARGE;
    fake_start_publication(f, "patience");
    assert_int_equal(fake_wait_answers(f, 1), KV_E_NOSPC);
    assert_true(fake_is_dirty(f));
    fake_wait_writes(f, 3);
    fake_wait_clean(f);
    /* Who closed it was told that it failed: it does not replace what others wrote since. */
    assert_int_equal(last_body(f)->flags, PUBLISH_IF_REVISION);
    assert_int_equal(last_body(f)->version, 40);
}

static void a_loss_that_nobody_was_told_of_is_told_to_the_next_one(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = ACT_FORBIDDEN;
    pthread_mutex_lock(&f->fs.hub.lock);
    fake_stage_text(f, fake_file(f, FILE_INO), "nobody waits");
    publish_start(&f->fs.files, kernel_inode_find(&f->fs.cache, FILE_INO)->file);
    pthread_mutex_unlock(&f->fs.hub.lock);
    fake_wait_clean(f);
    assert_int_equal(open_error(f), EIO);
    assert_int_equal(open_error(f), 0);
    assert_int_equal(f->fs.files.n_lost, 0);
}

static void start_large(struct fixture *f, uint64_t ino, unsigned n_blocks)
{
    static char block[COMMAND_PART_SIZE];
    struct file *file;
    unsigned i;

    pthread_mutex_lock(&f->fs.hub.lock);
    file = fake_file(f, ino);
    for (i = 0; i < n_blocks; i++)
        assert_int_equal(stage_append(&file->stage, block, sizeof block), 0);
    file_touched(&f->fs.files, file, NULL, 0);
    fake_wait_for_file(f, ino);
    pthread_mutex_unlock(&f->fs.hub.lock);
}

/* The node keeps what is unfinished in memory, within bounds. */
static void large_files_are_published_one_after_the_other(void **state)
{
    struct fixture *f = *state;
    unsigned i, changes = 0;

    /* More parts each than are under way at once. */
    start_large(f, FILE_INO, 12);
    start_large(f, FILE_INO + 1, 12);
    start_large(f, FILE_INO + 2, 12);
    fake_wait_answers(f, 3);
    assert_int_equal(f->code, 0);
    assert_int_equal(f->node.n_writes, 3 * 13);
    for (i = 1; i < f->node.n_writes; i++)
        changes += f->node.writes[i].seq != f->node.writes[i - 1].seq;
    assert_int_equal(changes, 2);
}

static void who_waits_for_the_turn_of_one_that_is_removed_waits_no_longer(void **state)
{
    struct command_result done = {.code = KV_OK};
    struct fixture *f = *state;
    struct attr gone;
    struct file *second;

    f->node.acts[12] = ACT_WAIT; /* the last piece of the first one */
    start_large(f, FILE_INO, 12);
    start_large(f, FILE_INO + 1, 12);
    fake_wait_writes(f, 13);
    pthread_mutex_lock(&f->fs.hub.lock);
    second = file_find(&f->fs.files, FILE_INO + 1);
    assert_true(second->queued);
    gone = second->attr;
    removed_file(&f->fs.files, second, &gone);
    pthread_mutex_unlock(&f->fs.hub.lock);
    assert_int_equal(fake_wait_answers(f, 1), 0);
    pthread_mutex_lock(&f->fs.hub.lock);
    fake_send_result(f->node.waiting_fd, f->node.waiting, &done);
    pthread_mutex_unlock(&f->fs.hub.lock);
    assert_int_equal(fake_wait_answers(f, 2), 0);
    assert_int_equal(f->node.n_writes, 13);
}

static void users_take_turns_with_large_files(void **state)
{
    struct fixture *f = *state;
    uint64_t order[4];
    unsigned i, n = 0;

    pthread_mutex_lock(&f->fs.hub.lock);
    for (i = 0; i < 4; i++)
        fake_file(f, FILE_INO + i)->uid = i == 3 ? 2 : 1;
    pthread_mutex_unlock(&f->fs.hub.lock);
    f->node.acts[12] = ACT_WAIT; /* the end of the first one, until all have come */
    for (i = 0; i < 4; i++)
        start_large(f, FILE_INO + i, 12);
    fake_wait_writes(f, 13);
    pthread_mutex_lock(&f->fs.hub.lock);
    fake_send_result(f->node.waiting_fd, f->node.waiting, &(struct command_result){.revision = 100});
    pthread_mutex_unlock(&f->fs.hub.lock);
    fake_wait_answers(f, 4);
    for (i = 0; i < f->node.n_writes; i++)
        if (f->node.writes[i].op == COMMAND_PUBLISH)
            order[n++] = f->node.writes[i].uid;
    assert_int_equal(n, 4);
    assert_int_equal(order[0], 1);
    assert_int_equal(order[1], 2);
    assert_int_equal(order[2], 1);
}

/* What has been taken is not sent again. */
static void a_part_that_is_too_much_now_is_sent_later(void **state)
{
    struct fixture *f = *state;

    f->node.acts[1] = ACT_BUSY; /* the second part; those behind it are out already */
    f->node.acts[2] = f->node.acts[3] = ACT_SILENT;
    start_large(f, FILE_INO, 3);
    assert_int_equal(fake_wait_answers(f, 1), 0);
    assert_int_equal(f->node.n_writes, 4 + 3);
    assert_int_equal(f->node.writes[6].seq, f->node.writes[0].seq);
    assert_int_equal(f->node.writes[6].op, COMMAND_PUBLISH);
}

/* Nodes take a publication of those only who have the file open. */

static void open_and_write(struct fixture *f, bool close)
{
    struct file *file;
    struct handle *h;

    pthread_mutex_lock(&f->fs.hub.lock);
    file = fake_file(f, FILE_INO);
    h = close ? file_open(&f->fs.files, file->inode, O_WRONLY, 0, 1) : NULL;
    fake_stage_text(f, file, "text");
    if (close)
        file_close(&f->fs.files, h);
    else
        publish_start(&f->fs.files, file);
    pthread_mutex_unlock(&f->fs.hub.lock);
}

static bool is_closed(struct fixture *f)
{
    bool closed;

    pthread_mutex_lock(&f->fs.hub.lock);
    closed = strchr(f->node.trace, 'C') != NULL;
    pthread_mutex_unlock(&f->fs.hub.lock);
    return closed;
}

static void wait_closed(struct fixture *f, const char *want)
{
    uint64_t until = 0;

    while (!is_closed(f) && look_again(&until, 10000))
        ;
    assert_string_equal(f->node.trace, want);
    assert_false(fake_is_dirty(f));
}

static void it_is_closed_when_its_last_edit_is_published(void **state)
{
    open_and_write(*state, true);
    wait_closed(*state, "WC");
}

static void and_opened_again_on_the_next_node_before_that(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = ACT_HANG_UP;
    open_and_write(f, true);
    wait_closed(f, "WHOWC");
}

static void what_is_changed_without_a_handle_is_opened_for_it(void **state)
{
    open_and_write(*state, false);
    wait_closed(*state, "OWC");
}

/* Room */

/* A write(2) of so many bytes at the end of the file. */
static void on_room(struct call *call, int code, const union answer_body *answer)
{
    struct files *files = call->hub->files;
    struct file *file = kernel_inode_find(files->cache, FILE_INO)->file;

    if (code == 0 && !room_fits(files, file, file_size(file) + call->allocate.end, &call->room)) {
        room_wait(call, on_room);
        return;
    }
    if (code == 0) {
        static char bytes[1 << 20];

        assert_int_equal(stage_append(&file->stage, bytes, call->allocate.end), 0);
        file_touched(files, file, NULL, 0);
    }
    fake_on_answer(call, code, answer);
}

static void start_growing(struct fixture *f, size_t size)
{
    struct call *call;

    pthread_mutex_lock(&f->fs.hub.lock);
    fake_file(f, FILE_INO);
    call = call_begin(&f->fs.hub, NULL, CALL_ALLOCATE);
    assert_non_null(call);
    call->allocate.end = size;
    on_room(call, 0, NULL);
    pthread_mutex_unlock(&f->fs.hub.lock);
}

static void set_room(struct fixture *f, uint64_t room)
{
    pthread_mutex_lock(&f->fs.hub.lock);
    f->node.room = room;
    pthread_mutex_unlock(&f->fs.hub.lock);
}

static void a_write_that_has_no_room_fails_and_others_go_on(void **state)
{
    struct fixture *f = *state;

    f->options.commit_ms = 100000;
    set_room(f, 1000);
    start_growing(f, 900);
    assert_int_equal(fake_wait_answers(f, 1), 0);
    start_growing(f, 101);
    assert_int_equal(fake_wait_answers(f, 2), KV_E_NOSPC);
    start_growing(f, 100);
    assert_int_equal(fake_wait_answers(f, 3), 0);
    assert_int_equal(f->fs.files.room.used, 1000);
}

static void writes_far_from_the_limit_do_not_wait(void **state)
{
    struct fixture *f = *state;
    unsigned i;

    set_room(f, 1 << 30);
    start_growing(f, 1);
    assert_int_equal(fake_wait_answers(f, 1), 0);
    for (i = 0; i < 50; i++) {
        start_growing(f, 10000);
        assert_int_equal(f->n_answers, i + 2);
    }
    assert_int_equal(f->node.n_reserves, 1);
}

/* What was published is used up; what is not used is given back. */
static void room_goes_with_what_is_published(void **state)
{
    struct fixture *f = *state;
    uint64_t used, told, until = 0;

    set_room(f, 1 << 30);
    start_growing(f, 100000);
    assert_int_equal(fake_wait_answers(f, 1), 0);
    assert_int_equal(f->fs.files.room.used, 100000);
    pthread_mutex_lock(&f->fs.hub.lock);
    f->node.size = 100000;
    fake_wait_for_file(f, FILE_INO);
    pthread_mutex_unlock(&f->fs.hub.lock);
    assert_int_equal(fake_wait_answers(f, 2), 0);
    do {
        pthread_mutex_lock(&f->fs.hub.lock);
        used = f->fs.files.room.used;
        told = f->fs.files.room.told;
        assert_true(f->fs.files.room.granted <= told || told == 0);
        pthread_mutex_unlock(&f->fs.hub.lock);
    } while ((used > 0 || told > 0) && look_again(&until, 10000));
    assert_int_equal(used, 0);
    assert_int_equal(told, 0);
}

static void a_new_connection_holds_nothing_yet(void **state)
{
    struct fixture *f = *state;

    f->options.commit_ms = 100000;
    set_room(f, 1 << 20);
    start_growing(f, 1000);
    assert_int_equal(fake_wait_answers(f, 1), 0);
    f->node.acts[0] = ACT_HANG_UP;
    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 2), 0);
    set_room(f, 1500);
    start_growing(f, 501);
    assert_int_equal(fake_wait_answers(f, 3), KV_E_NOSPC);
    start_growing(f, 500);
    assert_int_equal(fake_wait_answers(f, 4), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(after_a_lost_session_a_publication_is_repeated_on_its_base_only,
                                        fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(and_fails_if_the_file_has_changed_since, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(a_reader_does_not_let_it_replace_what_others_wrote, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(nor_does_he_keep_what_no_node_took_as_it_was, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(unless_its_own_event_says_that_it_was_done, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(nobody_who_waits_is_told_success_of_what_was_lost, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(what_fails_for_now_stays_and_is_tried_again, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(a_loss_that_nobody_was_told_of_is_told_to_the_next_one, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(who_waits_for_the_turn_of_one_that_is_removed_waits_no_longer,
                                        fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(large_files_are_published_one_after_the_other, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(users_take_turns_with_large_files, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(a_part_that_is_too_much_now_is_sent_later, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(it_is_closed_when_its_last_edit_is_published, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(and_opened_again_on_the_next_node_before_that, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(what_is_changed_without_a_handle_is_opened_for_it, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(a_write_that_has_no_room_fails_and_others_go_on, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(writes_far_from_the_limit_do_not_wait, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(room_goes_with_what_is_published, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(a_new_connection_holds_nothing_yet, fake_setup, fake_teardown),
    };

    return cmocka_run_group_tests_name("publish", tests, NULL, NULL);
}
