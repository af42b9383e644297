/* Read leases: the leader's count and the holder's, what is shown, and what waits for leases to end. */
#include "tests/unit/raft/rig.h"

#include "sync/base/error.h"

#define TERMS(...) ((const uint64_t[]){__VA_ARGS__, 0})
#define LEASE_MS 200

static void init(struct rig *r, const struct engine_knobs *knobs)
{
    rig_init(r, knobs);
    r->config.lease_ms = LEASE_MS;
}

/* Node 1 is another leader of three, its barrier (entry 2) is committed, and both others echo. */
static void lead(struct rig *r, const struct engine_knobs *knobs)
{
    init(r, knobs);
    rig_start(r, 3, 1, NULL);
    rig_elect(r);
    assert_int_equal(rig_accept(r, 2, 2), 0);
    assert_int_equal(engine_commit_index(r->engine), 2);
}

static void echo(struct rig *r, uint64_t from)
{
    struct engine_message *m = message_new(RAFT_MESSAGE_ECHO, from, 1);

    m->term = engine_term(r->engine);
    m->sent_ms = r->now;
    assert_int_equal(engine_receive(r->engine, r->now, m), 0);
}

static int lease(struct rig *r, uint64_t from, enum lease_kind kind, uint64_t invalidated, uint64_t sent_ms)
{
    struct engine_message *m = message_new(RAFT_MESSAGE_LEASE, from, 1);

    m->term = engine_term(r->engine);
    m->sent_ms = sent_ms;
    m->lease.kind = kind;
    m->lease.invalidated = invalidated;
    return engine_receive(r->engine, r->now, m);
}

static void grant_to_three(struct rig *r)
{
    echo(r, 2);
    assert_int_equal(lease(r, 3, LEASE_REQUEST, 2, 77), 0);
    assert_non_null(rig_sent(r, RAFT_MESSAGE_GRANT, 3));
}

/* An entry that a majority has stored. */
static void store_one(struct rig *r)
{
    uint64_t index = engine_last_index(r->engine) + 1;

    assert_int_equal(rig_submit(r, 1), 0);
    rig_save(r);
    assert_int_equal(rig_accept(r, 2, index), 0);
}

static int tick_at(struct rig *r, uint64_t now)
{
    int result = 0;

    while (result == 0 && engine_timeout(r->engine) <= now) {
        r->now = engine_timeout(r->engine);
        result = engine_tick(r->engine, r->now);
    }
    r->now = now;
    return result;
}

/* ---- the leader ---- */

static void shows_nothing_that_a_holder_has_not_invalidated(void **state)
{
    struct engine_knobs off = {.no_lease_hold = true};
    struct rig r;

    lead(&r, NULL);
    grant_to_three(&r);
    store_one(&r);
    assert_int_equal(engine_commit_index(r.engine), 2);
    assert_int_equal(engine_flush(r.engine, r.now), 0);
    assert_int_equal(rig_sent(&r, RAFT_MESSAGE_APPEND, 2)->append.leader_commit, 2);
    assert_int_equal(lease(&r, 3, LEASE_INDEX, 3, 78), 0);
    assert_int_equal(engine_commit_index(r.engine), 3);
    assert_int_equal(r.applied[r.n_applied - 1], 3);
    rig_deinit(&r);

    lead(&r, &off);
    grant_to_three(&r);
    store_one(&r);
    assert_int_equal(engine_commit_index(r.engine), 3);
    rig_deinit(&r);
}

static void goes_on_without_a_holder_that_does_not_answer(void **state)
{
    struct rig r;
    uint64_t began;

    lead(&r, NULL);
    grant_to_three(&r);
    began = r.now;
    store_one(&r);
    for (uint64_t t = began; engine_commit_index(r.engine) == 2; t += 10) {
        assert_true(t <= began + LEASE_MS * 11 / 10);
        r.now = t;
        echo(&r, 2);
        assert_int_equal(tick_at(&r, t), 0);
    }
    assert_true(r.now >= began + LEASE_MS); /* not before its own end */
    rig_forget(&r);
    assert_int_equal(lease(&r, 3, LEASE_REQUEST, 3, 400), 0); /* not yet again */
    assert_null(rig_sent(&r, RAFT_MESSAGE_GRANT, 3));
    r.now += 1100;
    echo(&r, 2);
    assert_int_equal(lease(&r, 3, LEASE_REQUEST, 3, 1500), 0);
    assert_non_null(rig_sent(&r, RAFT_MESSAGE_GRANT, 3));
    rig_deinit(&r);
}

static void grants_nothing_beyond_its_own_lease(void **state)
{
    struct rig r;

    lead(&r, NULL);
    assert_int_equal(lease(&r, 3, LEASE_REQUEST, 2, 77), 0); /* nobody has echoed */
    assert_null(rig_sent(&r, RAFT_MESSAGE_GRANT, 3));
    echo(&r, 2);
    r.now += r.config.election_ms - 122; /* 100 ms are left: 2 ms of rounding, 20 of drift */
    assert_int_equal(lease(&r, 3, LEASE_REQUEST, 2, 78), 0);
    assert_in_range(rig_sent(&r, RAFT_MESSAGE_GRANT, 3)->grant.length_ms, 80, 98);
    rig_forget(&r);
    r.now += 80;
    assert_int_equal(lease(&r, 3, LEASE_REQUEST, 2, 79), 0); /* too short to be of use */
    assert_null(rig_sent(&r, RAFT_MESSAGE_GRANT, 3));
    rig_deinit(&r);
}

static void grants_nothing_to_who_is_far_behind_or_no_member(void **state)
{
    struct rig r;

    lead(&r, NULL);
    echo(&r, 2);
    assert_int_equal(rig_submit(&r, 500), 0);
    assert_int_equal(rig_submit(&r, 505), 0);
    assert_int_equal(lease(&r, 3, LEASE_REQUEST, 2, 77), 0);
    assert_null(rig_sent(&r, RAFT_MESSAGE_GRANT, 3));
    assert_int_equal(lease(&r, 9, LEASE_REQUEST, 1000, 77), 0);
    assert_null(rig_sent(&r, RAFT_MESSAGE_GRANT, 9));
    rig_deinit(&r);
}

static void ignores_what_a_holder_said_earlier(void **state)
{
    struct rig r;

    lead(&r, NULL);
    grant_to_three(&r);
    store_one(&r);
    assert_int_equal(lease(&r, 3, LEASE_INDEX, 3, 76), 0); /* before the request */
    assert_int_equal(engine_commit_index(r.engine), 2);
    assert_int_equal(lease(&r, 3, LEASE_RETURN, 2, 90), 0);
    assert_int_equal(engine_commit_index(r.engine), 3);
    rig_forget(&r);
    assert_int_equal(lease(&r, 3, LEASE_REQUEST, 3, 89), 0); /* from before it gave the lease back */
    assert_null(rig_sent(&r, RAFT_MESSAGE_GRANT, 3));
    rig_deinit(&r);
}

static int vote_request(struct rig *r)
{
    return rig_vote_request(r, 2, engine_term(r->engine) + 1, 100, engine_term(r->engine), false);
}

static void step_down(struct rig *r)
{
    struct engine_message *m = message_new(RAFT_MESSAGE_APPEND_RESULT, 2, 1);

    m->term = engine_term(r->engine) + 1;
    m->append_result.rejected = 1;
    assert_int_equal(engine_receive(r->engine, r->now, m), 0);
    assert_int_equal(engine_role(r->engine), ENGINE_FOLLOWER);
}

static void neither_votes_nor_stands_when_deposed_before_its_leases_end(void **state)
{
    struct engine_knobs off = {.no_lease_promise = true};
    struct rig r;

    lead(&r, NULL);
    r.now += 1000; /* behind the time in which nobody votes after its start */
    echo(&r, 2);
    grant_to_three(&r);
    store_one(&r);
    step_down(&r);
    assert_int_equal(engine_commit_index(r.engine), 2);
    assert_true(engine_timeout(r.engine) >= r.now + LEASE_MS);
    assert_int_equal(vote_request(&r), 0);
    assert_null(rig_sent(&r, RAFT_MESSAGE_VOTE_RESULT, 2));
    r.now += LEASE_MS * 11 / 10;
    assert_int_equal(vote_request(&r), 0);
    assert_true(rig_sent(&r, RAFT_MESSAGE_VOTE_RESULT, 2)->vote_result.granted);
    rig_deinit(&r);

    lead(&r, &off);
    r.now += 1000;
    echo(&r, 2);
    grant_to_three(&r);
    step_down(&r);
    assert_int_equal(vote_request(&r), 0);
    assert_true(rig_sent(&r, RAFT_MESSAGE_VOTE_RESULT, 2)->vote_result.granted);
    rig_deinit(&r);
}

static void hands_over_when_the_leases_are_over(void **state)
{
    struct engine_knobs off = {.lease_fast_transfer = true};
    struct rig r;
    uint64_t began;

    lead(&r, NULL);
    grant_to_three(&r);
    began = r.now;
    assert_int_equal(engine_transfer(r.engine, r.now, 7), KV_E_NOENT);
    assert_int_equal(engine_transfer(r.engine, r.now, 2), 0);
    assert_true(engine_transferring(r.engine));
    assert_int_equal(engine_transfer(r.engine, r.now, 2), KV_E_BUSY);
    assert_int_equal(rig_submit(&r, 1), KV_E_NOTLEADER);
    assert_int_equal(tick_at(&r, began + LEASE_MS), 0);
    assert_null(rig_sent(&r, RAFT_MESSAGE_TIMEOUT_NOW, 2));
    assert_int_equal(tick_at(&r, began + LEASE_MS * 11 / 10), 0);
    assert_non_null(rig_sent(&r, RAFT_MESSAGE_TIMEOUT_NOW, 2));
    rig_deinit(&r);

    lead(&r, &off);
    grant_to_three(&r);
    assert_int_equal(engine_transfer(r.engine, r.now, 2), 0);
    assert_non_null(rig_sent(&r, RAFT_MESSAGE_TIMEOUT_NOW, 2));
    rig_deinit(&r);
}

static void changes_voters_when_the_leases_are_over(void **state)
{
    struct configuration c = rig_voters(3);
    struct rig r;

    configuration_add(&c, 4, "n4", SERVER_STANDBY);
    lead(&r, NULL);
    grant_to_three(&r);
    assert_int_equal(engine_change(r.engine, r.now, &c), KV_E_BUSY);
    rig_forget(&r);
    r.now += LEASE_MS * 11 / 10;
    echo(&r, 2);
    assert_int_equal(lease(&r, 3, LEASE_REQUEST, 2, 300), 0); /* so that the change gets its turn */
    assert_null(rig_sent(&r, RAFT_MESSAGE_GRANT, 3));
    assert_int_equal(engine_change(r.engine, r.now, &c), 0);
    rig_deinit(&r);
}

static void holds_one_itself(void **state)
{
    struct rig r;

    lead(&r, NULL);
    echo(&r, 2);
    assert_int_equal(engine_lease_until(r.engine), 0);
    assert_int_equal(engine_want_lease(r.engine, r.now, true), 0);
    assert_int_equal(engine_invalidated(r.engine, r.now, 99), 0); /* no more than there is */
    r.now += LEASE_MS + 2;
    echo(&r, 2);
    assert_int_equal(engine_flush(r.engine, r.now), 0);
    assert_int_equal(engine_lease_until(r.engine), r.now + LEASE_MS);
    store_one(&r);
    assert_int_equal(engine_commit_index(r.engine), 2);
    assert_int_equal(engine_invalidated(r.engine, r.now, 3), 0);
    assert_int_equal(engine_commit_index(r.engine), 3);
    rig_deinit(&r);
}

static void does_not_hold_up_itself_for_longer_than_once(void **state)
{
    struct rig r;
    uint64_t began;

    lead(&r, NULL);
    assert_int_equal(engine_want_lease(r.engine, r.now, true), 0);
    assert_int_equal(engine_invalidated(r.engine, r.now, 2), 0);
    r.now += LEASE_MS + 2;
    echo(&r, 2);
    assert_int_equal(engine_flush(r.engine, r.now), 0);
    began = r.now;
    assert_int_equal(engine_lease_until(r.engine), began + LEASE_MS);
    store_one(&r); /* its own mounts do not confirm it */
    for (uint64_t t = began; engine_commit_index(r.engine) == 2; t += 10) {
        assert_true(t <= began + LEASE_MS * 11 / 10);
        r.now = t;
        echo(&r, 2);
        assert_int_equal(tick_at(&r, t), 0);
        assert_int_equal(engine_flush(r.engine, t), 0);
    }
    rig_deinit(&r);
}

static void waits_when_it_starts_as_sole_voter(void **state)
{
    struct rig r;

    init(&r, NULL);
    rig_start(&r, 1, 7, NULL);
    rig_save(&r);
    assert_int_equal(engine_role(r.engine), ENGINE_LEADER);
    assert_int_equal(engine_commit_index(r.engine), 0);
    assert_int_equal(tick_at(&r, r.now + LEASE_MS * 11 / 10), 0);
    assert_int_equal(engine_commit_index(r.engine), 2);
    rig_deinit(&r);
}

/* ---- the holder ---- */

static void grant(struct rig *r, uint64_t asked_ms, uint32_t length_ms, uint64_t visible)
{
    struct engine_message *m = message_new(RAFT_MESSAGE_GRANT, 2, 1);

    m->term = engine_term(r->engine);
    m->sent_ms = asked_ms;
    m->grant.length_ms = length_ms;
    m->grant.visible = visible;
    assert_int_equal(engine_receive(r->engine, r->now, m), 0);
}

/* Follows node 2, leader of term 2, with entries up to 3; it may ask for leases. */
static void follow(struct rig *r, const struct engine_knobs *knobs)
{
    init(r, knobs);
    rig_start(r, 3, 1, TERMS(1));
    assert_int_equal(engine_want_lease(r->engine, r->now, true), 0);
    assert_int_equal(rig_append(r, 2, 2, 2, 1, 2, TERMS(2)), 0);
    assert_int_equal(engine_invalidated(r->engine, r->now, 2), 0);
    assert_int_equal(engine_flush(r->engine, r->now), 0);
    assert_null(rig_sent(r, RAFT_MESSAGE_LEASE, 2)); /* its last life's may run */
    r->now += LEASE_MS + 1;
    assert_int_equal(engine_flush(r->engine, r->now), 0);
    assert_int_equal(rig_sent(r, RAFT_MESSAGE_LEASE, 2)->lease.kind, LEASE_REQUEST);
    assert_int_equal(rig_sent(r, RAFT_MESSAGE_LEASE, 2)->sent_ms, r->now);
}

static void counts_its_lease_from_the_request(void **state)
{
    struct rig r;
    uint64_t asked;

    follow(&r, NULL);
    asked = r.now;
    r.now += 50;
    grant(&r, asked, LEASE_MS, 2);
    assert_int_equal(engine_lease_until(r.engine), asked + LEASE_MS);
    grant(&r, asked - LEASE_MS, LEASE_MS * 2, 2); /* asked before it could: another life's */
    assert_int_equal(engine_lease_until(r.engine), asked + LEASE_MS);
    rig_deinit(&r);
}

static void uses_no_lease_before_it_has_invalidated_what_is_shown(void **state)
{
    struct rig r;

    follow(&r, NULL);
    grant(&r, r.now, LEASE_MS, 3);
    assert_int_equal(engine_lease_until(r.engine), 0);
    assert_int_equal(engine_accepted_index(r.engine), 3);
    assert_int_equal(engine_invalidated(r.engine, r.now, 3), 0);
    grant(&r, r.now, LEASE_MS, 3);
    assert_int_equal(engine_lease_until(r.engine), r.now + LEASE_MS);
    rig_deinit(&r);
}

static void tells_at_the_end_of_a_turn_what_it_has_invalidated(void **state)
{
    struct rig r;

    follow(&r, NULL);
    grant(&r, r.now, LEASE_MS, 2);
    rig_forget(&r);
    assert_int_equal(engine_flush(r.engine, r.now), 0);
    assert_null(rig_sent(&r, RAFT_MESSAGE_LEASE, 2));
    assert_int_equal(engine_invalidated(r.engine, r.now, 3), 0);
    assert_int_equal(engine_flush(r.engine, r.now), 0);
    assert_int_equal(rig_sent(&r, RAFT_MESSAGE_LEASE, 2)->lease.kind, LEASE_INDEX);
    assert_int_equal(rig_sent(&r, RAFT_MESSAGE_LEASE, 2)->lease.invalidated, 3);
    rig_deinit(&r);
}

static void counts_only_entries_of_the_present_leader(void **state)
{
    struct engine_knobs off = {.lease_log_end = true};
    struct rig r;

    follow(&r, NULL);
    assert_int_equal(engine_accepted_index(r.engine), 3);
    assert_int_equal(rig_append(&r, 3, 3, 2, 1, 2, NULL),
                     0); /* another leader, who has not told of entry 3 */
    assert_int_equal(engine_accepted_index(r.engine), 2);
    assert_int_equal(engine_lease_until(r.engine), 0);
    rig_deinit(&r);

    follow(&r, &off);
    assert_int_equal(rig_append(&r, 3, 3, 2, 1, 2, NULL), 0);
    assert_int_equal(engine_accepted_index(r.engine), 3);
    rig_deinit(&r);
}

static void gives_it_back(void **state)
{
    struct rig r;
    uint64_t asked;

    follow(&r, NULL);
    asked = r.now;
    grant(&r, asked, LEASE_MS, 2);
    rig_forget(&r);
    assert_int_equal(engine_want_lease(r.engine, r.now, false), 0);
    assert_int_equal(rig_sent(&r, RAFT_MESSAGE_LEASE, 2)->lease.kind, LEASE_RETURN);
    assert_int_equal(engine_lease_until(r.engine), 0);
    assert_int_equal(engine_want_lease(r.engine, r.now, true), 0);
    grant(&r, asked, LEASE_MS, 2); /* the leader does not count on that one any more */
    assert_int_equal(engine_lease_until(r.engine), 0);
    rig_deinit(&r);
}

static void loses_it_to_a_state_file(void **state)
{
    struct rig r;

    follow(&r, NULL);
    grant(&r, r.now, LEASE_MS, 2);
    assert_int_equal(rig_install(&r, 2, 2, 50, 2), 0);
    assert_int_equal(engine_lease_until(r.engine), 0);
    assert_int_equal(engine_snapshot_installed(r.engine, r.now), 0);
    assert_int_equal(engine_lease_until(r.engine), 0);
    assert_int_equal(engine_accepted_index(r.engine), 50);
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_nothing_that_a_holder_has_not_invalidated),
        cmocka_unit_test(goes_on_without_a_holder_that_does_not_answer),
        cmocka_unit_test(grants_nothing_beyond_its_own_lease),
        cmocka_unit_test(grants_nothing_to_who_is_far_behind_or_no_member),
        cmocka_unit_test(ignores_what_a_holder_said_earlier),
        cmocka_unit_test(neither_votes_nor_stands_when_deposed_before_its_leases_end),
        cmocka_unit_test(hands_over_when_the_leases_are_over),
        cmocka_unit_test(changes_voters_when_the_leases_are_over),
        cmocka_unit_test(holds_one_itself),
        cmocka_unit_test(does_not_hold_up_itself_for_longer_than_once),
        cmocka_unit_test(waits_when_it_starts_as_sole_voter),
        cmocka_unit_test(counts_its_lease_from_the_request),
        cmocka_unit_test(uses_no_lease_before_it_has_invalidated_what_is_shown),
        cmocka_unit_test(tells_at_the_end_of_a_turn_what_it_has_invalidated),
        cmocka_unit_test(counts_only_entries_of_the_present_leader),
        cmocka_unit_test(gives_it_back),
        cmocka_unit_test(loses_it_to_a_state_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
