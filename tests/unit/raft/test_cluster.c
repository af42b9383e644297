#include "tests/unit/raft/cluster.h"

#include <string.h>

static void elects_one_leader(void **state)
{
    struct cluster c;

    cluster_setup(&c, 3);
    cluster_run(&c, 5000);
    assert_string_equal(c.trace, "1 candidate term 1\n" /* asks before it takes a new term */
                                 "1 leader term 2\n");
    assert_int_equal(engine_leader(c.members[3].engine), 1);
    assert_int_equal(engine_leader(c.members[2].engine), 1);
    cluster_assert_equal(&c);
    cluster_teardown(&c);
}

static void replicates_to_all(void **state)
{
    struct cluster c;

    cluster_setup(&c, 5);
    cluster_submit(&c, 100, 2);
    cluster_run(&c, 20);
    cluster_assert_equal(&c);
    assert_int_equal(c.members[1].state.applied, 102); /* configuration, barrier, commands */
    cluster_teardown(&c);
}

static void followers_learn_of_a_commit_at_once(void **state)
{
    struct cluster c;
    uint64_t leader;

    cluster_setup(&c, 3);
    leader = cluster_leader(&c);
    cluster_run(&c, 50);
    cluster_submit(&c, 1, 50);
    for (unsigned i = 1; i <= 3; i++) {
        uint64_t behind = c.members[i].applied_at[3] - c.members[leader].applied_at[3];

        assert_true(behind <= 2); /* a link takes one; a heartbeat would come after up to 100 */
    }
    cluster_teardown(&c);
}

static void a_follower_catches_up_from_the_log(void **state)
{
    struct cluster c;
    uint64_t away;

    cluster_setup(&c, 3);
    away = cluster_leader(&c) % 3 + 1;
    cluster_isolate(&c, away, true);
    cluster_submit(&c, 300, 1);
    assert_true(c.members[away].state.applied < 10);
    cluster_isolate(&c, away, false);
    cluster_run(&c, 3000);
    cluster_assert_equal(&c);
    assert_int_equal(c.members[away].installs, 0);
    cluster_teardown(&c);
}

static void a_follower_catches_up_from_a_streamed_snapshot(void **state)
{
    struct cluster c;
    uint64_t leader, away;

    cluster_setup(&c, 3);
    c.keep_entries = 20;
    for (unsigned i = 1; i <= 3; i++) {
        cluster_stop(&c, i);
        cluster_start(&c, i);
    }
    leader = cluster_leader(&c);
    away = leader % 3 + 1;
    cluster_stop(&c, away);
    cluster_submit(&c, 300, 1);
    cluster_run(&c, 5);
    cluster_write_behind(&c, leader);
    assert_true(engine_first_index(c.members[leader].engine) > 250);
    cluster_start(&c, away);
    for (unsigned i = 0; i < 30; i++) { /* the log goes on meanwhile, and so does its start */
        cluster_submit(&c, 10, 1);
        cluster_write_behind(&c, leader);
    }
    cluster_run(&c, 3000);
    assert_int_equal(c.members[away].installs, 1);
    assert_true(c.members[away].snapshot.index >= 300);
    cluster_assert_equal(&c);
    cluster_stop(&c, away); /* and starts from what it was given */
    cluster_start(&c, away);
    cluster_submit(&c, 10, 5);
    cluster_run(&c, 200);
    cluster_assert_equal(&c);
    assert_int_equal(c.members[away].installs, 1);
    cluster_teardown(&c);
}

static void a_transfer_that_was_cut_off_is_made_again(void **state)
{
    struct cluster c;
    uint64_t leader, away;

    cluster_setup(&c, 3);
    c.keep_entries = 20;
    for (unsigned i = 1; i <= 3; i++) {
        cluster_stop(&c, i);
        cluster_start(&c, i);
    }
    leader = cluster_leader(&c);
    away = leader % 3 + 1;
    cluster_stop(&c, away);
    cluster_submit(&c, 300, 1);
    cluster_run(&c, 5);
    cluster_write_behind(&c, leader);
    cluster_start(&c, away);
    while (c.members[leader].sender == NULL)
        cluster_run(&c, 1);
    cluster_run(&c, 3);
    cluster_stop(&c, away);
    cluster_run(&c, 500);
    assert_null(c.members[leader].sender);
    cluster_start(&c, away);
    cluster_run(&c, 8000);
    assert_int_equal(c.members[away].installs, 1);
    cluster_assert_equal(&c);
    cluster_teardown(&c);
}

static void another_leads_when_the_leader_is_gone(void **state)
{
    struct cluster c;
    uint64_t first, second;

    cluster_setup(&c, 3);
    first = cluster_leader(&c);
    cluster_submit(&c, 10, 2);
    cluster_stop(&c, first);
    second = cluster_leader(&c);
    assert_int_not_equal(first, second);
    cluster_submit(&c, 10, 2);
    cluster_start(&c, first);
    cluster_run(&c, 3000);
    cluster_assert_equal(&c);
    assert_int_equal(cluster_leader(&c), second); /* its return disturbs nobody */
    cluster_teardown(&c);
}

static void a_leader_in_a_minority_steps_down_and_its_tail_is_replaced(void **state)
{
    struct cluster c;
    struct entry *e = entry_new(ENTRY_COMMAND, "lost", 4);
    uint64_t first;

    cluster_setup(&c, 3);
    first = cluster_leader(&c);
    cluster_submit(&c, 10, 2);
    cluster_isolate(&c, first, true);
    for (int i = 0; i < 5; i++)
        assert_int_equal(engine_submit(c.members[first].engine, c.now, &e, 1, NULL), 0);
    cluster_run(&c, 2500);
    assert_int_equal(engine_role(c.members[first].engine), ENGINE_FOLLOWER);
    cluster_submit(&c, 20, 2);
    cluster_isolate(&c, first, false);
    cluster_run(&c, 3000);
    cluster_assert_equal(&c);
    entry_put(e);
    cluster_teardown(&c);
}

static void leadership_is_handed_over_on_request(void **state)
{
    struct cluster c;
    uint64_t first, next;

    cluster_setup(&c, 3);
    first = cluster_leader(&c);
    next = first % 3 + 1;
    cluster_submit(&c, 10, 2);
    assert_int_equal(engine_transfer(c.members[first].engine, c.now, next), 0);
    cluster_run(&c, 50); /* far less than an election timeout */
    assert_int_equal(engine_role(c.members[next].engine), ENGINE_LEADER);
    assert_int_equal(engine_role(c.members[first].engine), ENGINE_FOLLOWER);
    cluster_submit(&c, 10, 2);
    cluster_run(&c, 200);
    cluster_assert_equal(&c);
    cluster_teardown(&c);
}

static void everything_survives_restarts(void **state)
{
    struct cluster c;
    uint64_t applied;

    cluster_setup(&c, 3);
    cluster_submit(&c, 20, 2);
    for (unsigned i = 1; i <= 3; i++) { /* each in turn */
        cluster_stop(&c, i);
        cluster_run(&c, 2500);
        cluster_submit(&c, 5, 2);
        cluster_write_behind(&c, i % 3 + 1);
        cluster_start(&c, i);
        cluster_run(&c, 2500);
        cluster_assert_equal(&c);
    }
    applied = c.members[1].state.applied;
    for (unsigned i = 1; i <= 3; i++) /* all at once */
        cluster_stop(&c, i);
    for (unsigned i = 1; i <= 3; i++)
        cluster_start(&c, i);
    cluster_run(&c, 5000);
    cluster_assert_equal(&c);
    assert_true(c.members[1].state.applied > applied); /* a barrier more */
    cluster_teardown(&c);
}

static void a_server_is_added_caught_up_and_made_a_voter(void **state)
{
    struct cluster c;
    struct configuration conf;
    struct engine *leader;

    cluster_setup(&c, 4);
    /* Of the four founders one starts as a stranger with an empty disk. */
    cluster_stop(&c, 4);
    entry_put(c.members[4].log[0]);
    c.members[4].n_log = 0;
    c.members[4].term = 0;
    leader = c.members[cluster_leader(&c)].engine;
    engine_configuration(leader, &conf);
    assert_int_equal(configuration_remove(&conf, 4), 0);
    assert_int_equal(engine_change(leader, c.now, &conf), 0);
    cluster_run(&c, 100);
    cluster_start(&c, 4);
    cluster_submit(&c, 50, 2);
    assert_int_equal(configuration_add(&conf, 4, "n4", SERVER_STANDBY), 0);
    assert_int_equal(engine_change(leader, c.now, &conf), 0);
    cluster_run(&c, 500);
    assert_int_equal(engine_match_index(leader, 4), engine_last_index(leader));
    configuration_find(&conf, 4)->role = SERVER_VOTER;
    assert_int_equal(engine_change(leader, c.now, &conf), 0);
    cluster_run(&c, 500);
    cluster_assert_equal(&c);
    engine_configuration(c.members[4].engine, &conf);
    assert_int_equal(configuration_voters(&conf), 4);
    cluster_teardown(&c);
}

static void reads_are_answered_after_a_round_to_a_majority(void **state)
{
    struct cluster c;
    struct member *leader;
    int answer = 0, minority = 0;

    cluster_setup(&c, 3);
    cluster_submit(&c, 10, 2);
    cluster_run(&c, 20);
    leader = &c.members[cluster_leader(&c)];
    assert_int_equal(engine_read_index(leader->engine, c.now, (uintptr_t)&answer), 0);
    cluster_run(&c, 3);
    assert_int_equal(answer, 12);
    cluster_isolate(&c, leader->id, true);
    assert_int_equal(engine_read_index(leader->engine, c.now, (uintptr_t)&minority), 0);
    cluster_run(&c, 500);
    assert_int_equal(minority, 0); /* not answered */
    cluster_run(&c, 2500);
    assert_true(minority < 0); /* it stepped down */
    cluster_teardown(&c);
}

/* A leader with a lease, a candidate that has not heard it for long, and a
 * voter that restarts just before the candidate asks it. Returns whether the
 * leader ever held its lease while another one had committed something. */
static bool reads_go_stale(const struct engine_knobs *knobs)
{
    struct cluster c;
    struct engine *leader, *candidate;
    uint64_t l, v;
    bool stale = false;

    cluster_setup(&c, 3);
    c.knobs = *knobs;
    for (unsigned i = 1; i <= 3; i++) {
        cluster_stop(&c, i);
        cluster_start(&c, i);
    }
    cluster_submit(&c, 5, 2);
    cluster_run(&c, 2000);
    l = cluster_leader(&c);
    v = l % 3 + 1;
    leader = c.members[l].engine;
    candidate = c.members[6 - l - v].engine;
    c.cut[l][6 - l - v] = c.cut[6 - l - v][l] = true;
    while (engine_role(candidate) != ENGINE_CANDIDATE || engine_timeout(candidate) > c.now + 100)
        cluster_run(&c, 1);
    assert_true(engine_lease_valid(leader, c.now));
    cluster_stop(&c, v);
    cluster_start(&c, v);
    c.cut[l][v] = c.cut[v][l] = true;
    for (int t = 0; t < 5000; t++) {
        cluster_run(&c, 1);
        stale = stale || (engine_leader_ready(candidate) && engine_lease_valid(leader, c.now));
    }
    assert_true(engine_leader_ready(candidate));
    cluster_teardown(&c);
    return stale;
}

static void a_restarted_voter_breaks_no_lease(void **state)
{
    struct engine_knobs on = {.no_start_guard = false}, off = {.no_start_guard = true};

    assert_false(reads_go_stale(&on));
    assert_true(reads_go_stale(&off));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elects_one_leader),
        cmocka_unit_test(replicates_to_all),
        cmocka_unit_test(followers_learn_of_a_commit_at_once),
        cmocka_unit_test(a_follower_catches_up_from_the_log),
        cmocka_unit_test(a_follower_catches_up_from_a_streamed_snapshot),
        cmocka_unit_test(a_transfer_that_was_cut_off_is_made_again),
        cmocka_unit_test(another_leads_when_the_leader_is_gone),
        cmocka_unit_test(a_leader_in_a_minority_steps_down_and_its_tail_is_replaced),
        cmocka_unit_test(leadership_is_handed_over_on_request),
        cmocka_unit_test(everything_survives_restarts),
        cmocka_unit_test(a_server_is_added_caught_up_and_made_a_voter),
        cmocka_unit_test(a_restarted_voter_breaks_no_lease),
        cmocka_unit_test(reads_are_answered_after_a_round_to_a_majority),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
