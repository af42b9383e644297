/* The link: sessions, repetition, other nodes. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "kvfs/link/keepalive.h"
#include "sync/base/error.h"
#include "tests/unit/kvfs/fake_node.h"

static void a_write_is_numbered_and_acknowledged(void **state)
{
    struct fixture *f = *state;

    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 1), 0);
    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 2), 0);
    assert_int_equal(f->node.writes[0].session, 1);
    assert_int_equal(f->node.writes[0].seq, 1);
    assert_int_equal(f->node.writes[1].seq, 2);
    assert_int_equal(f->node.writes[1].acked_below, 2);
    assert_int_equal(f->node.subscribed_after, 50);
}

static void a_write_bears_the_author_where_the_cluster_knows_names(void **state)
{
    char name[] = "deploy";
    struct fixture *f = *state;

    f->options.author = name;
    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 1), 0);
    assert_int_equal(f->node.writes[0].flags & COMMAND_LABEL, 0);
    pthread_mutex_lock(&f->fs.hub.lock);
    f->fs.hub.uplink.node.level = COMMAND_LABEL_LEVEL;
    pthread_mutex_unlock(&f->fs.hub.lock);
    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 2), 0);
    assert_int_equal(f->node.writes[1].flags & COMMAND_LABEL, COMMAND_LABEL);
    assert_int_equal(f->node.writes[1].label_len, 6);
    f->options.author = NULL;
}

static void a_lost_connection_repeats_it_under_its_number(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = ACT_HANG_UP;
    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 1), 0);
    assert_int_equal(f->node.n_connections, 2);
    assert_int_equal(f->node.n_registered, 1);
    assert_int_equal(f->node.n_writes, 2);
    assert_int_equal(f->node.writes[1].session, f->node.writes[0].session);
    assert_int_equal(f->node.writes[1].seq, f->node.writes[0].seq);
}

static void with_read_local_the_session_begins_with_the_first_write(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(f->node.n_connections, 1);
    assert_int_equal(f->node.n_registered, 0);
    fake_start_write(f);
    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 2), 0);
    assert_int_equal(f->node.n_registered, 1);
    assert_int_equal(f->node.n_writes, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(f->node.writes[i].session, 1);
        assert_int_equal(f->node.writes[i].seq, 1 + i);
    }
    assert_int_equal(f->node.n_connections, 1);
}

/* The session is lost with the connection on which it is found out. */
static void with_read_local_another_session_begins_with_the_next_write(void **state)
{
    struct fixture *f = *state;

    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 1), 0);
    f->node.acts[1] = ACT_SESSION;
    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 2), 0);
    assert_int_equal(f->node.n_registered, 2);
    assert_int_equal(f->node.n_writes, 3);
    assert_int_equal(f->node.writes[2].session, 2);
    assert_int_equal(f->node.writes[2].seq, 1);
}

static void an_outcome_is_final_and_a_refusal_to_try_is_not(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = ACT_UNAVAILABLE;
    f->node.acts[1] = ACT_UNAVAILABLE;
    f->node.acts[2] = ACT_REFUSE;
    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 1), KV_E_EXIST);
    assert_int_equal(f->node.n_writes, 3);
    assert_int_equal(f->node.writes[2].seq, 1);
}

static void nobody_leading_ends_with_the_deadline(void **state)
{
    struct fixture *f = *state;
    unsigned i;

    fake_set_timeout(f, 300);
    for (i = 0; i < WRITES_MAX; i++)
        f->node.acts[i] = ACT_UNAVAILABLE;
    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 1), KV_E_UNAVAILABLE);
}

static void silence_after_a_write_is_an_unknown_outcome(void **state)
{
    struct fixture *f = *state;

    fake_set_timeout(f, 300);
    f->node.acts[0] = ACT_SILENT;
    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 1), KV_E_UNKNOWN);
    /* What was given up is not waited for: the cluster may refuse it from now on. */
    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 2), 0);
    assert_int_equal(f->node.writes[1].acked_below, 2);
}

static void a_lost_session_is_replaced_and_the_refused_write_repeated(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = ACT_SESSION;
    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 1), 0);
    assert_int_equal(f->node.n_registered, 2);
    assert_int_equal(f->node.writes[1].session, 2);
    assert_int_equal(f->node.writes[1].seq, 1);
}

static void what_a_lost_session_may_have_done_is_not_repeated(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = ACT_SILENT;  /* sent, and who knows */
    f->node.acts[1] = ACT_SESSION; /* the one that brings it to light */
    fake_start_write(f);
    fake_start_write(f);
    fake_wait_answers(f, 2);
    /* The first came back as unknown, the second was done in the new session. */
    assert_int_equal(f->node.n_writes, 3);
    assert_int_equal(f->node.writes[2].session, 2);
    assert_int_equal(f->node.writes[2].seq, 1);
}

static void a_full_disk_everywhere_is_an_answer(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = f->node.acts[1] = ACT_FULL;
    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 1), KV_E_NOSPC);
    assert_int_equal(f->node.n_writes, 2);
}

static void a_full_disk_sends_the_write_to_the_next_node(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = ACT_FULL;
    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 1), 0);
    assert_int_equal(f->node.n_connections, 2);
    assert_int_equal(f->node.writes[1].seq, f->node.writes[0].seq);
}

/* The first time it was sent it may have been done. */
static void a_full_disk_tells_nothing_of_a_write_whose_answer_was_lost(void **state)
{
    struct fixture *f = *state;

    f->node.acts[0] = ACT_HANG_UP;
    f->node.acts[1] = f->node.acts[2] = ACT_FULL;
    fake_start_write(f);
    assert_int_equal(fake_wait_answers(f, 1), 0);
    assert_int_equal(f->node.n_writes, 4);
    assert_int_equal(f->node.writes[3].seq, f->node.writes[0].seq);
}

static void session_timeout_is_read_from_the_settings(void **state)
{
    static const struct {
        const char *json;
        uint64_t ms;
    } cases[] = {
        {"{\"session_timeout\":{\"value\":\"10s\",\"default\":\"10min\"}}", 10000},
        {"{\"a\":{\"value\":\"1s\"},\"session_timeout\":{\"default\":\"1s\",\"value\":\"10min\"}}", 600000},
        {"{\"session_timeout\":{\"value\":\"2h\"}}", 7200000},
        {"{\"session_timeout\":{\"value\":\"30d\"}}", 30ull * 86400000},
        {"{\"session_timeout\":{\"value\":\"10\"}}", 0},
        {"{\"session_timeout\":{\"value\":\"ms\"}}", 0},
        {"{\"session_timeout\":{\"value\":\"99999999999s\"}}", 0},
        {"{\"session_timeout\":\"10s\"}", 0},
        {"{\"session_timeout\":{\"value\":10}}", 0},
        {"[]", 0},
        {"{", 0},
        {"", 0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(keepalive_parse(cases[i].json, strlen(cases[i].json)), cases[i].ms);
}

static void the_session_is_kept_alive_several_times_in_its_timeout(void **state)
{
    assert_int_equal(keepalive_interval_ms(0), 60000);
    assert_int_equal(keepalive_interval_ms(10000), 2500);
    assert_int_equal(keepalive_interval_ms(600000), 60000);
    assert_int_equal(keepalive_interval_ms(30ull * 86400000), 60000);
}

static void an_idle_mount_keeps_its_session_alive_in_time(void **state)
{
    struct fixture *f = *state;

    pthread_mutex_lock(&f->fs.hub.lock);
    f->node.settings = "{\"session_timeout\":{\"value\":\"10s\",\"default\":\"10min\"}}";
    keepalive_ask(&f->fs.hub); /* as a setting's event does */
    pthread_mutex_unlock(&f->fs.hub.lock);
    fake_wait_writes(f, 2); /* within 10 s */
    assert_int_equal(f->node.writes[0].op, COMMAND_KEEPALIVE);
    assert_int_equal(f->node.writes[1].op, COMMAND_KEEPALIVE);
    assert_int_equal(f->node.writes[1].session, f->node.writes[0].session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(session_timeout_is_read_from_the_settings),
        cmocka_unit_test(the_session_is_kept_alive_several_times_in_its_timeout),
        cmocka_unit_test_setup_teardown(an_idle_mount_keeps_its_session_alive_in_time, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(a_write_is_numbered_and_acknowledged, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(a_write_bears_the_author_where_the_cluster_knows_names, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(a_lost_connection_repeats_it_under_its_number, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(with_read_local_the_session_begins_with_the_first_write,
                                        fake_setup_local, fake_teardown),
        cmocka_unit_test_setup_teardown(with_read_local_another_session_begins_with_the_next_write,
                                        fake_setup_local, fake_teardown),
        cmocka_unit_test_setup_teardown(an_outcome_is_final_and_a_refusal_to_try_is_not, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(nobody_leading_ends_with_the_deadline, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(silence_after_a_write_is_an_unknown_outcome, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(a_lost_session_is_replaced_and_the_refused_write_repeated, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(what_a_lost_session_may_have_done_is_not_repeated, fake_setup,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_everywhere_is_an_answer, fake_setup_two, fake_teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_sends_the_write_to_the_next_node, fake_setup_two,
                                        fake_teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_tells_nothing_of_a_write_whose_answer_was_lost,
                                        fake_setup, fake_teardown),
    };

    return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
