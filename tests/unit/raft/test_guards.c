/* Every defect of the core that the engine guards against, and the two that an
 * older version had. Where a guard has a knob, the test shows the
 * defect without it, too: so a new version of the core that has mended it, or
 * changed it, is noticed. */
#include "tests/unit/raft/rig.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/base/error.h"

#define TERMS(...) ((const uint64_t[]){__VA_ARGS__, 0})

static void never_commits_an_old_term_by_counting(void **state)
{
    struct rig r;

    rig_init(&r, NULL);
    rig_start(&r, 3, 2, TERMS(2));
    rig_elect(&r); /* its barrier is entry 3 */
    rig_accept(&r, 2, 2);
    assert_int_equal(engine_commit_index(r.engine), 1);
    rig_accept(&r, 2, 3);
    assert_int_equal(engine_commit_index(r.engine), 3);
    rig_deinit(&r);
}

static void never_acknowledges_a_tail_that_the_leader_did_not_verify(void **state)
{
    struct rig r;

    rig_init(&r, NULL);
    rig_start(&r, 3, 2, TERMS(2));
    assert_int_equal(rig_append(&r, 2, 3, 1, 1, 2, NULL), 0);
    assert_int_equal(rig_sent(&r, RAFT_MESSAGE_APPEND_RESULT, 2)->append_result.last_index, 1);
    assert_int_equal(engine_commit_index(r.engine), 1);
    rig_deinit(&r);
}

static void answers_a_stale_leader_without_acknowledging_anything(void **state)
{
    struct rig r;

    rig_init(&r, NULL);
    rig_start(&r, 3, 7, NULL);
    assert_int_equal(rig_append(&r, 2, 6, 0, 0, 0, NULL), 0);
    assert_int_equal(rig_sent(&r, RAFT_MESSAGE_APPEND_RESULT, 2)->term, 7);
    assert_int_equal(rig_sent(&r, RAFT_MESSAGE_APPEND_RESULT, 2)->append_result.last_index, 0);
    rig_deinit(&r);
}

/* A follower whose log was cut gets a message that begins before the cut. */
static int receive_compacted_entries(struct rig *r, const struct engine_knobs *knobs)
{
    rig_init(r, knobs);
    rig_start(r, 3, 1, TERMS(1, 1, 1, 1, 1, 1, 1));
    rig_append(r, 2, 2, 8, 1, 8, NULL);
    assert_int_equal(engine_state_durable(r->engine, r->now, 6), 0);
    assert_int_equal(engine_first_index(r->engine), 7);
    return rig_append(r, 2, 2, 0, 0, 8, TERMS(1, 1));
}

/* Without the guard the core damages its memory: it may report nonsense, or crash. */
static bool survives_in_a_child(const struct engine_knobs *knobs)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        struct rig r;

        signal(SIGSEGV, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        _exit(receive_compacted_entries(&r, knobs) == 0 && engine_last_index(r.engine) == 8 && r.n_saves == 0
                  ? 0
                  : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void skips_entries_that_it_has_compacted_away(void **state)
{
    struct engine_knobs off = {.no_trim = true};
    struct rig r;

    assert_int_equal(receive_compacted_entries(&r, NULL), 0);
    assert_int_equal(r.n_saves, 0);
    assert_int_equal(engine_last_index(r.engine), 8);
    rig_deinit(&r);

    assert_false(survives_in_a_child(&off));
}

static void takes_a_new_term_when_it_restarts_as_sole_voter(void **state)
{
    struct engine_knobs off = {.no_solo_guard = true};
    struct rig r;

    rig_init(&r, NULL);
    rig_start(&r, 1, 7, NULL);
    assert_int_equal(engine_role(r.engine), ENGINE_LEADER);
    assert_int_equal(engine_term(r.engine), 8);
    assert_int_equal(r.term, 8); /* durable */
    rig_deinit(&r);

    rig_init(&r, &off);
    rig_start(&r, 1, 7, NULL);
    assert_int_equal(engine_term(r.engine), 7); /* leads twice in one term */
    rig_deinit(&r);
}

/* commands at 2 and 3, a change at 4, in one message */
static void receive_change_as_third(struct rig *r, const struct engine_knobs *knobs)
{
    struct configuration c = rig_voters(4);
    struct engine_message *m;

    rig_init(r, knobs);
    rig_start(r, 3, 1, NULL);
    m = rig_append_message(r, 2, 2, 1, 1, 1, TERMS(2, 2, 2));
    entry_put(m->entries[2]);
    m->entries[2] = configuration_encode(&c);
    m->entries[2]->term = 2;
    assert_int_equal(engine_receive(r->engine, r->now, m), 0);
}

static void notes_the_index_of_a_change_that_is_not_first_in_its_message(void **state)
{
    struct engine_knobs off = {.no_split = true};
    struct rig r;

    receive_change_as_third(&r, NULL);
    assert_int_equal(engine_uncommitted_change(r.engine), 4);
    assert_int_equal(engine_last_index(r.engine), 4);
    rig_deinit(&r);

    receive_change_as_third(&r, &off);
    assert_int_not_equal(engine_uncommitted_change(r.engine), 4);
    rig_deinit(&r);
}

static int change_before_anything_is_committed(struct rig *r, const struct engine_knobs *knobs)
{
    struct configuration c = rig_voters(4);

    rig_init(r, knobs);
    rig_start(r, 3, 1, NULL);
    rig_elect(r);
    return engine_change(r->engine, r->now, &c);
}

static void refuses_a_change_before_an_entry_of_its_term_is_committed(void **state)
{
    struct engine_knobs off = {.no_barrier = true};
    struct configuration c = rig_voters(4);
    struct rig r;

    assert_int_equal(change_before_anything_is_committed(&r, NULL), KV_E_BUSY);
    assert_int_equal(engine_last_index(r.engine), 2); /* a barrier, though the core needs none */
    rig_accept(&r, 2, 2);
    assert_int_equal(engine_change(r.engine, r.now, &c), 0);
    rig_deinit(&r);

    assert_int_equal(change_before_anything_is_committed(&r, &off), 0);
    rig_deinit(&r);
}

static uint64_t commit_after_a_short_message(struct rig *r, const struct engine_knobs *knobs)
{
    rig_init(r, knobs);
    rig_start(r, 3, 1, TERMS(1, 1, 1, 1, 1, 1, 1));
    rig_append(r, 2, 2, 8, 1, 6, NULL);
    assert_int_equal(engine_commit_index(r->engine), 6);
    rig_append(r, 2, 2, 3, 1, 7, NULL);
    return engine_commit_index(r->engine);
}

static void never_takes_back_a_commit_index(void **state)
{
    struct engine_knobs off = {.raw_commit = true, .no_trim = true};
    struct rig r;

    assert_true(commit_after_a_short_message(&r, NULL) >= 6);
    rig_deinit(&r);
    assert_int_equal(commit_after_a_short_message(&r, &off), 3);
    rig_deinit(&r);
}

static uint64_t refuse_a_pre_vote(struct rig *r, const struct engine_knobs *knobs)
{
    rig_init(r, knobs);
    rig_start(r, 3, 7, NULL);
    r->now += 5000;
    rig_vote_request(r, 2, 3, 50, 2, true);
    assert_false(rig_sent(r, RAFT_MESSAGE_VOTE_RESULT, 2)->vote_result.granted);
    return rig_sent(r, RAFT_MESSAGE_VOTE_RESULT, 2)->term;
}

static void tells_its_term_when_it_refuses_a_pre_vote(void **state)
{
    struct engine_knobs off = {.no_prevote_fix = true};
    struct rig r;

    assert_int_equal(refuse_a_pre_vote(&r, NULL), 7);
    rig_deinit(&r);
    assert_int_equal(refuse_a_pre_vote(&r, &off), 3);
    rig_deinit(&r);
}

static bool vote_as_standby(struct rig *r, const struct engine_knobs *knobs)
{
    struct configuration c = rig_voters(3);

    c.servers[0].role = SERVER_STANDBY;
    rig_init(r, knobs);
    rig_start_with(r, &c, 7, NULL);
    r->now += 5000;
    rig_vote_request(r, 2, 8, 5, 7, false);
    return rig_sent(r, RAFT_MESSAGE_VOTE_RESULT, 2)->vote_result.granted;
}

static void votes_although_its_own_log_says_standby(void **state)
{
    struct engine_knobs off = {.no_vote_fix = true};
    struct configuration c;
    struct rig r;

    assert_true(vote_as_standby(&r, NULL));
    engine_configuration(r.engine, &c);
    assert_int_equal(c.servers[0].role, SERVER_STANDBY); /* the role was only lent */
    rig_deinit(&r);
    assert_false(vote_as_standby(&r, &off));
    rig_deinit(&r);
}

/* Leader 1 demotes server 3; how far do its messages to 3 reach? */
static uint64_t demote_server_3(struct rig *r, const struct engine_knobs *knobs)
{
    struct configuration c = rig_voters(3);
    uint64_t reach = 0;

    rig_init(r, knobs);
    rig_start(r, 3, 1, NULL);
    rig_elect(r);
    rig_accept(r, 2, 2);
    rig_accept(r, 3, 2);
    rig_forget(r);
    c.servers[2].role = SERVER_STANDBY;
    assert_int_equal(engine_change(r->engine, r->now, &c), 0); /* entry 3 */
    for (unsigned i = 0; i < r->n_sent; i++)
        if (r->sent[i]->type == RAFT_MESSAGE_APPEND && r->sent[i]->to == 3)
            reach = r->sent[i]->append.prev_index + r->sent[i]->n_entries;
    return reach;
}

static void shows_a_server_its_demotion_only_when_that_is_committed(void **state)
{
    struct engine_knobs off = {.no_change_guard = true};
    struct rig r;

    assert_true(demote_server_3(&r, NULL) <= 2);
    assert_int_equal(r.n_flushed, 1); /* and the change was durable here before it left */
    rig_save(&r);
    rig_accept(&r, 2, 3);
    assert_int_equal(engine_commit_index(r.engine), 3);
    rig_forget(&r);
    for (int i = 0; i < 3; i++) {
        r.now = engine_timeout(r.engine);
        engine_tick(r.engine, r.now);
        rig_accept(&r, 2, 3);
        rig_reject(&r, 3, 3, 2);
    }
    assert_int_equal(rig_sent(&r, RAFT_MESSAGE_APPEND, 3)->append.prev_index +
                         rig_sent(&r, RAFT_MESSAGE_APPEND, 3)->n_entries,
                     3);
    rig_deinit(&r);

    assert_int_equal(demote_server_3(&r, &off), 3);
    rig_deinit(&r);
}

static void never_demotes_itself(void **state)
{
    struct configuration c = rig_voters(3);
    struct rig r;

    rig_init(&r, NULL);
    rig_start(&r, 3, 1, NULL);
    rig_elect(&r);
    rig_accept(&r, 2, 2);
    c.servers[0].role = SERVER_STANDBY;
    assert_int_equal(engine_change(r.engine, r.now, &c), KV_E_INVAL);
    rig_deinit(&r);
}

/* Server 2 is silent, so that the core probes it from match_index on; then an
 * old rejection arrives. Does 2 get entries again? */
static bool replicate_after_stale_rejection(struct rig *r, const struct engine_knobs *knobs)
{
    const struct engine_message *to_2;
    bool got_entries = false;

    rig_init(r, knobs);
    rig_start(r, 3, 1, TERMS(1, 1, 1));
    rig_elect(r); /* barrier: 5 */
    rig_accept(r, 2, 5);
    rig_accept(r, 3, 5);
    for (int i = 0; i < 30; i++) {
        r->now = engine_timeout(r->engine);
        engine_tick(r->engine, r->now);
        rig_accept(r, 3, 5);
    }
    rig_reject(r, 2, 5, 3);
    rig_submit(r, 1);
    rig_save(r);
    rig_forget(r);
    for (int i = 0; i < 5; i++) {
        r->now = engine_timeout(r->engine);
        engine_tick(r->engine, r->now);
        rig_accept(r, 3, 6);
        to_2 =
            rig_sent(r, RAFT_MESSAGE_APPEND, 2); /* an honest answer acknowledges what the message covers */
        rig_accept(r, 2, to_2->append.prev_index + to_2->n_entries);
    }
    for (unsigned i = 0; i < r->n_sent; i++)
        if (r->sent[i]->type == RAFT_MESSAGE_APPEND && r->sent[i]->to == 2 && r->sent[i]->n_entries > 0)
            got_entries = true;
    return got_entries;
}

static void goes_on_replicating_after_a_stale_rejection(void **state)
{
    struct engine_knobs off = {.no_stale_filter = true};
    struct rig r;

    assert_true(replicate_after_stale_rejection(&r, NULL));
    rig_deinit(&r);
    assert_false(replicate_after_stale_rejection(&r, &off));
    rig_deinit(&r);
}

static void names_a_peer_that_lost_what_it_acknowledged(void **state)
{
    struct rig r;

    rig_init(&r, NULL);
    rig_start(&r, 3, 2, TERMS(2, 2, 2));
    rig_elect(&r);
    rig_accept(&r, 2, 5);
    rig_reject(&r, 3, 4, 2); /* has acknowledged nothing: no news */
    assert_int_equal(r.shorter_peer, 0);
    rig_reject(&r, 2, 5, 2);
    assert_int_equal(r.shorter_peer, 2);
    assert_int_equal(r.shorter_index, 5);
    assert_int_equal(r.shorter_match, 5);
    rig_deinit(&r);
}

/* Entries 1 to 4 are committed here; a leader of term 3 begins before them. */
static int meet_another_truth(struct rig *r, const struct engine_knobs *knobs, uint64_t prev_index,
                              uint64_t prev_term, const uint64_t *terms)
{
    rig_init(r, knobs);
    rig_start(r, 3, 2, TERMS(2, 2, 2));
    rig_append(r, 2, 2, 4, 2, 4, NULL);
    assert_int_equal(engine_commit_index(r->engine), 4);
    return rig_append(r, 3, 3, prev_index, prev_term, 2, terms);
}

static void stops_when_a_leader_has_other_entries_than_were_committed(void **state)
{
    struct engine_knobs off = {.no_agreement = true};
    struct rig r;

    assert_true(meet_another_truth(&r, NULL, 2, 2, TERMS(3, 3, 3)) < 0);
    assert_non_null(strstr(engine_failure(r.engine), "entry 3 is committed here in term 2"));
    assert_non_null(strstr(engine_failure(r.engine), "node 3, which leads, has one of term 3"));
    rig_deinit(&r);
    /* What comes before its entries differs already, or is all that it sends. */
    assert_true(meet_another_truth(&r, NULL, 3, 3, TERMS(3, 3)) < 0);
    rig_deinit(&r);
    assert_true(meet_another_truth(&r, NULL, 4, 3, NULL) < 0);
    rig_deinit(&r);
    /* The same entries once more, or others behind the commit, are no reason. */
    assert_int_equal(meet_another_truth(&r, NULL, 1, 1, TERMS(2, 2, 2, 3)), 0);
    assert_int_equal(engine_last_index(r.engine), 5);
    rig_deinit(&r);
    /* Without the guard its entries go on top of ours, and it is told that we agree. */
    assert_int_equal(meet_another_truth(&r, &off, 2, 2, TERMS(3, 3, 3)), 0);
    assert_int_equal(engine_last_index(r.engine), 5);
    rig_deinit(&r);
}

static uint64_t hint_for_conflicts(struct rig *r, const struct engine_knobs *knobs)
{
    rig_init(r, knobs);
    rig_start(r, 3, 2, TERMS(1, 2, 2, 2, 2, 2, 2));
    rig_append(r, 2, 3, 8, 3, 1, NULL);
    assert_int_equal(rig_sent(r, RAFT_MESSAGE_APPEND_RESULT, 2)->append_result.rejected, 8);
    return rig_sent(r, RAFT_MESSAGE_APPEND_RESULT, 2)->append_result.last_index;
}

static void sends_the_leader_back_to_its_commit_index_at_once(void **state)
{
    struct engine_knobs off = {.no_fast_back = true};
    struct rig r;

    assert_int_equal(hint_for_conflicts(&r, NULL), 1);
    rig_deinit(&r);
    assert_int_equal(hint_for_conflicts(&r, &off), 7);
    rig_deinit(&r);
}

static unsigned vote_right_after_start(struct rig *r, const struct engine_knobs *knobs)
{
    rig_init(r, knobs);
    rig_start(r, 3, 7, NULL);
    r->now += r->config.election_ms - 1;
    rig_vote_request(r, 2, 8, 5, 7, false);
    return rig_count(r, RAFT_MESSAGE_VOTE_RESULT, 2);
}

static void gives_no_vote_for_an_election_timeout_after_a_restart(void **state)
{
    struct engine_knobs off = {.no_start_guard = true};
    struct rig r;

    assert_int_equal(vote_right_after_start(&r, NULL), 0);
    r.now++;
    rig_vote_request(&r, 2, 8, 5, 7, false);
    assert_true(rig_sent(&r, RAFT_MESSAGE_VOTE_RESULT, 2)->vote_result.granted);
    rig_deinit(&r);
    assert_int_equal(vote_right_after_start(&r, &off), 1);
    rig_deinit(&r);
}

/* Whether a vote is promised so long after the leader was heard; our own timeout,
 * which is random, has not fired. */
static bool promises_vote(uint64_t after_ms)
{
    struct rig r;
    bool granted;

    rig_init(&r, NULL);
    rig_start(&r, 3, 7, NULL);
    r.now += 2 * r.config.election_ms; /* the start is forgotten */
    assert_int_equal(rig_append(&r, 2, 7, 1, 1, 0, NULL), 0);
    rig_forget(&r);
    r.now += after_ms;
    assert_int_equal(rig_vote_request(&r, 3, 8, 5, 7, true), 0);
    granted = rig_sent(&r, RAFT_MESSAGE_VOTE_RESULT, 3)->vote_result.granted;
    rig_deinit(&r);
    return granted;
}

static void gives_no_vote_for_the_least_election_timeout_after_the_leader(void **state)
{
    struct engine_config config;

    engine_config_defaults(&config);
    assert_false(promises_vote(0));
    assert_false(promises_vote(config.election_ms - 1));
    assert_true(promises_vote(config.election_ms));
}

static uint64_t heartbeat_during_install(struct rig *r, const struct engine_knobs *knobs)
{
    rig_init(r, knobs);
    rig_start(r, 3, 2, TERMS(1, 2));
    assert_int_equal(rig_install(r, 2, 3, 100, 3), 0);
    assert_int_equal(r->n_installs, 1);
    assert_true(engine_installing(r->engine));
    rig_forget(r);
    assert_int_equal(rig_append(r, 2, 3, 50, 3, 90, NULL), 0);
    return rig_sent(r, RAFT_MESSAGE_APPEND_RESULT, 2)->append_result.rejected;
}

static void accepts_heartbeats_while_a_snapshot_is_installed(void **state)
{
    struct engine_knobs off = {.no_install_hold = true};
    struct rig r;

    assert_int_equal(heartbeat_during_install(&r, NULL), 0);
    assert_int_equal(rig_sent(&r, RAFT_MESSAGE_APPEND_RESULT, 2)->append_result.last_index,
                     0); /* acknowledges nothing */
    assert_int_equal(engine_snapshot_installed(r.engine, r.now), 0);
    assert_int_equal(engine_applied_index(r.engine), 100);
    assert_int_equal(engine_commit_index(r.engine), 100);
    assert_int_equal(rig_sent(&r, RAFT_MESSAGE_APPEND_RESULT, 2)->append_result.last_index, 100);
    rig_deinit(&r);
    assert_int_equal(heartbeat_during_install(&r, &off), 50);
    rig_deinit(&r);
}

/* Entries 3 and 4 of term 2 are on their way to the disk when a new leader
 * replaces them by one of term 3 and sends 4 of term 3 too. */
static uint64_t replace_entries_in_flight(struct rig *r, const struct engine_knobs *knobs)
{
    rig_init(r, knobs);
    rig_start(r, 3, 2, TERMS(2));
    rig_append(r, 2, 2, 2, 2, 1, TERMS(2, 2));
    rig_append(r, 3, 3, 2, 2, 1, TERMS(3, 3));
    assert_int_equal(r->n_saves, 2);
    r->n_saves--;
    assert_int_equal(engine_entries_saved(r->engine, r->now), 0); /* the first of both */
    return engine_stored_index(r->engine);
}

static void counts_a_replaced_write_for_nothing(void **state)
{
    struct engine_knobs off = {.no_write_clip = true};
    struct rig r;

    assert_int_equal(replace_entries_in_flight(&r, NULL), 2);
    rig_save(&r);
    assert_int_equal(engine_stored_index(r.engine), 4);
    rig_deinit(&r);
    assert_int_equal(replace_entries_in_flight(&r, &off), 4); /* of term 3, not durable */
    rig_deinit(&r);
}

static void ignores_a_vote_that_nobody_waits_for(void **state)
{
    struct engine_message *m = message_new(RAFT_MESSAGE_VOTE_RESULT, 2, 1);
    struct rig r;

    rig_init(&r, NULL);
    rig_start(&r, 3, 7, NULL);
    m->term = 9;
    m->vote_result.granted = true;
    assert_int_equal(engine_receive(r.engine, r.now, m), 0);
    assert_int_equal(engine_role(r.engine), ENGINE_FOLLOWER);
    assert_int_equal(engine_term(r.engine), 7);
    rig_deinit(&r);
}

static void ignores_ticks_before_their_time(void **state)
{
    struct rig r;

    rig_init(&r, NULL);
    rig_start(&r, 3, 7, NULL);
    for (int i = 0; i < 900; i++)
        assert_int_equal(engine_tick(r.engine, ++r.now), 0);
    assert_int_equal(engine_role(r.engine), ENGINE_FOLLOWER);
    r.now = engine_timeout(r.engine);
    assert_int_equal(engine_tick(r.engine, r.now), 0);
    assert_int_equal(engine_role(r.engine), ENGINE_CANDIDATE);
    assert_true(engine_timeout(r.engine) > r.now);
    rig_deinit(&r);
}

static void refuses_a_second_leader_of_its_own_term(void **state)
{
    struct rig r;

    rig_init(&r, NULL);
    rig_start(&r, 3, 1, NULL);
    rig_elect(&r);
    assert_int_equal(rig_append(&r, 2, engine_term(r.engine), 1, 1, 1, NULL), KV_E_PROTOCOL);
    assert_int_equal(rig_install(&r, 2, engine_term(r.engine), 9, 1), KV_E_PROTOCOL);
    assert_null(engine_failure(r.engine));
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_commits_an_old_term_by_counting),
        cmocka_unit_test(never_acknowledges_a_tail_that_the_leader_did_not_verify),
        cmocka_unit_test(answers_a_stale_leader_without_acknowledging_anything),
        cmocka_unit_test(skips_entries_that_it_has_compacted_away),
        cmocka_unit_test(takes_a_new_term_when_it_restarts_as_sole_voter),
        cmocka_unit_test(notes_the_index_of_a_change_that_is_not_first_in_its_message),
        cmocka_unit_test(refuses_a_change_before_an_entry_of_its_term_is_committed),
        cmocka_unit_test(never_takes_back_a_commit_index),
        cmocka_unit_test(tells_its_term_when_it_refuses_a_pre_vote),
        cmocka_unit_test(votes_although_its_own_log_says_standby),
        cmocka_unit_test(shows_a_server_its_demotion_only_when_that_is_committed),
        cmocka_unit_test(never_demotes_itself),
        cmocka_unit_test(goes_on_replicating_after_a_stale_rejection),
        cmocka_unit_test(names_a_peer_that_lost_what_it_acknowledged),
        cmocka_unit_test(stops_when_a_leader_has_other_entries_than_were_committed),
        cmocka_unit_test(sends_the_leader_back_to_its_commit_index_at_once),
        cmocka_unit_test(gives_no_vote_for_an_election_timeout_after_a_restart),
        cmocka_unit_test(gives_no_vote_for_the_least_election_timeout_after_the_leader),
        cmocka_unit_test(accepts_heartbeats_while_a_snapshot_is_installed),
        cmocka_unit_test(counts_a_replaced_write_for_nothing),
        cmocka_unit_test(ignores_a_vote_that_nobody_waits_for),
        cmocka_unit_test(ignores_ticks_before_their_time),
        cmocka_unit_test(refuses_a_second_leader_of_its_own_term),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
