#include "tests/unit/raft/rig.h"

#include <errno.h>
#include <string.h>

#include "sync/base/error.h"

#define TERMS(...) ((const uint64_t[]){__VA_ARGS__, 0})

/* A leader of three whose barrier (entry 2) is committed. */
static void lead(struct rig *r)
{
    rig_init(r, NULL);
    rig_start(r, 3, 1, NULL);
    rig_elect(r);
    rig_accept(r, 2, 2);
    rig_accept(r, 3, 2);
    assert_true(engine_leader_ready(r->engine));
    rig_forget(r);
}

/* ---- submit ---- */

static void refuses_what_only_a_leader_can_do(void **state)
{
    struct configuration c = rig_voters(2);
    struct rig r;

    rig_init(&r, NULL);
    rig_start(&r, 3, 1, NULL);
    assert_int_equal(rig_submit(&r, 1), KV_E_NOTLEADER);
    assert_int_equal(engine_read_index(r.engine, r.now, 1), KV_E_NOTLEADER);
    assert_int_equal(engine_transfer(r.engine, r.now, 0), KV_E_NOTLEADER);
    assert_int_equal(engine_change(r.engine, r.now, &c), KV_E_NOTLEADER);
    assert_false(engine_lease_valid(r.engine, r.now));
    rig_deinit(&r);
}

static void submits_many_entries_in_one_message_and_one_write(void **state)
{
    struct rig r;

    lead(&r);
    assert_int_equal(rig_submit(&r, 0), KV_E_INVAL);
    assert_int_equal(rig_submit(&r, 100), 0);
    assert_int_equal(r.n_saves, 1);
    assert_int_equal(r.saved_index, 3);
    assert_int_equal(r.saved_n, 100);
    assert_int_equal(rig_count(&r, RAFT_MESSAGE_APPEND, 2), 1);
    assert_int_equal(rig_sent(&r, RAFT_MESSAGE_APPEND, 2)->n_entries, 100);
    rig_deinit(&r);
}

static void splits_messages_by_size_but_sends_one_entry_at_least(void **state)
{
    struct entry *entries[3];
    struct rig r;
    unsigned n = 0;

    lead(&r);
    for (int i = 0; i < 3; i++) {
        entries[i] = entry_new_reserve(ENTRY_COMMAND, RAFT_MESSAGE_SPLIT_BYTES - 100 + (i == 1 ? 200u : 0u));
        memset(entries[i]->data, 0, entries[i]->len);
    }
    assert_int_equal(engine_submit(r.engine, r.now, entries, 3, NULL), 0);
    for (int i = 0; i < 3; i++)
        entry_put(entries[i]);
    for (unsigned i = 0; i < r.n_sent; i++) {
        const struct engine_message *m = r.sent[i];

        if (m->type != RAFT_MESSAGE_APPEND || m->to != 2)
            continue;
        assert_int_equal(m->n_entries, 1);
        assert_int_equal(m->append.prev_index, 2 + n);
        n++;
    }
    assert_int_equal(n, 3);
    rig_deinit(&r);
}

/* The payload of what was sent to a server since rig_forget(). */
static uint64_t bytes_sent(const struct rig *r, uint64_t to, uint64_t *last)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < r->n_sent; i++) {
        const struct engine_message *m = r->sent[i];

        if (m->type != RAFT_MESSAGE_APPEND || m->to != to)
            continue;
        for (unsigned k = 0; k < m->n_entries; k++)
            bytes += m->entries[k]->len;
        if (m->n_entries > 0)
            *last = m->append.prev_index + m->n_entries;
    }
    return bytes;
}

/* Submits n entries of 256 KiB in one go. */
static void submit_large(struct rig *r, unsigned n)
{
    struct entry *entries[64];

    assert_in_range(n, 1, 64);
    for (unsigned i = 0; i < n; i++) {
        entries[i] = entry_new_reserve(ENTRY_COMMAND, 256 * 1024);
        memset(entries[i]->data, 0, entries[i]->len);
    }
    assert_int_equal(engine_submit(r->engine, r->now, entries, n, NULL), 0);
    for (unsigned i = 0; i < n; i++)
        entry_put(entries[i]);
}

static void sends_a_peer_few_megabytes_ahead_of_what_it_has_acknowledged(void **state)
{
    const uint64_t most = UINT64_C(4) << 20;
    uint64_t last = 2, other = 2, acked = 2;
    struct rig r;

    lead(&r);
    submit_large(&r, 60);
    assert_int_equal(bytes_sent(&r, 2, &last), most);
    assert_int_equal(bytes_sent(&r, 3, &other), most);
    assert_int_equal(last, 2 + 16);
    rig_forget(&r);
    submit_large(&r, 1); /* no room: nothing more, but for heartbeats */
    rig_save(&r);
    assert_int_equal(bytes_sent(&r, 2, &last), 0);
    /* What is acknowledged makes room for as much, of each peer by itself, also beyond the small ones behind.
     */
    assert_int_equal(rig_submit(&r, 100), 0);
    while (last < 2 + 61 + 100) {
        acked += 8;
        rig_forget(&r);
        rig_accept(&r, 2, acked < last ? acked : last);
        assert_in_range(bytes_sent(&r, 2, &last), 0, most / 2 + 256 * 1024);
        assert_int_equal(bytes_sent(&r, 3, &other), 0);
        assert_true(acked < 200);
    }
    assert_int_equal(other, 2 + 16);
    rig_deinit(&r);
}

static void commits_when_a_majority_has_it_and_applies_when_it_has_it_itself(void **state)
{
    struct rig r;

    lead(&r);
    assert_int_equal(r.n_applied, 2);
    assert_int_equal(rig_submit(&r, 1), 0);
    rig_accept(&r, 2, 3);
    rig_accept(&r, 3, 3);
    assert_int_equal(engine_commit_index(r.engine), 3);
    assert_int_equal(r.n_applied, 2); /* not durable here yet */
    rig_save(&r);
    assert_int_equal(r.n_applied, 3);
    assert_int_equal(r.applied[2], 3);
    rig_deinit(&r);
}

static void refuses_submits_while_leadership_is_handed_over(void **state)
{
    struct rig r;

    lead(&r);
    assert_int_equal(engine_transfer(r.engine, r.now, 9), KV_E_NOENT);
    assert_int_equal(engine_transfer(r.engine, r.now, 2), 0);
    assert_non_null(rig_sent(&r, RAFT_MESSAGE_TIMEOUT_NOW, 2));
    assert_int_equal(engine_transfer(r.engine, r.now, 3), KV_E_BUSY);
    assert_true(engine_transferring(r.engine));
    assert_int_equal(rig_submit(&r, 1), KV_E_NOTLEADER);
    assert_false(engine_lease_valid(r.engine, r.now));
    rig_deinit(&r);
}

/* ---- commit notices ---- */

static void tells_followers_a_commit_that_no_message_carried(void **state)
{
    const struct engine_message *m;
    struct rig r;

    lead(&r);
    assert_int_equal(engine_flush(r.engine, r.now), 0); /* commit 2 was not told yet */
    assert_int_equal(rig_count(&r, RAFT_MESSAGE_APPEND, 2), 1);
    rig_forget(&r);
    rig_submit(&r, 1);
    rig_save(&r);
    rig_accept(&r, 2, 3); /* commits 3; server 3 has not answered */
    rig_forget(&r);
    assert_int_equal(engine_flush(r.engine, r.now), 0);
    assert_int_equal(rig_count(&r, RAFT_MESSAGE_APPEND, 2), 1);
    assert_int_equal(rig_count(&r, RAFT_MESSAGE_APPEND, 3), 0); /* it is not known to have entry 3 */
    m = rig_sent(&r, RAFT_MESSAGE_APPEND, 2);
    assert_int_equal(m->n_entries, 0);
    assert_int_equal(m->append.prev_index, 3);
    assert_int_equal(m->append.leader_commit, 3);
    assert_int_equal(engine_flush(r.engine, r.now), 0);
    assert_int_equal(rig_count(&r, RAFT_MESSAGE_APPEND, 2), 1); /* once */
    rig_accept(&r, 3, 3);
    assert_int_equal(engine_flush(r.engine, r.now), 0);
    assert_int_equal(rig_count(&r, RAFT_MESSAGE_APPEND, 3), 1);
    rig_deinit(&r);
}

static void sends_no_notice_for_what_an_append_has_told(void **state)
{
    struct rig r;

    lead(&r);
    rig_submit(&r, 1); /* carries commit 2 */
    rig_forget(&r);
    assert_int_equal(engine_flush(r.engine, r.now), 0);
    assert_int_equal(r.n_sent, 0);
    rig_deinit(&r);
}

static void the_answer_to_a_notice_changes_nothing(void **state)
{
    struct rig r;

    lead(&r);
    rig_submit(&r, 5);
    rig_save(&r);
    rig_accept(&r, 2, 5);
    engine_flush(r.engine, r.now);
    rig_forget(&r);
    assert_int_equal(rig_accept(&r, 2, 5), 0);
    assert_int_equal(engine_match_index(r.engine, 2), 5);
    assert_int_equal(r.n_sent, 0);
    rig_deinit(&r);
}

/* ---- reads ---- */

static void pong(struct rig *r, uint64_t from, uint64_t seq, uint64_t peer_term)
{
    struct engine_message *m = message_new(RAFT_MESSAGE_PONG, from, 1);

    m->term = engine_term(r->engine);
    m->ping.seq = seq;
    m->ping.peer_term = peer_term;
    assert_int_equal(engine_receive(r->engine, r->now, m), 0);
}

static void many_reads_share_a_round(void **state)
{
    struct rig r;
    uint64_t seq;

    lead(&r);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(engine_read_index(r.engine, r.now, i), 0);
    assert_int_equal(rig_count(&r, RAFT_MESSAGE_PING, 0), 0);
    engine_flush(r.engine, r.now);
    assert_int_equal(rig_count(&r, RAFT_MESSAGE_PING, 0), 2);
    seq = rig_sent(&r, RAFT_MESSAGE_PING, 2)->ping.seq;
    assert_int_equal(engine_read_index(r.engine, r.now, 10), 0); /* too late for this round */
    pong(&r, 2, seq, engine_term(r.engine));
    assert_int_equal(r.n_reads, 10);
    assert_int_equal(r.read_index, 2);
    assert_int_equal(r.read_result, 0);
    pong(&r, 3, seq, engine_term(r.engine));
    assert_int_equal(r.n_reads, 10);
    engine_flush(r.engine, r.now);
    assert_int_equal(rig_sent(&r, RAFT_MESSAGE_PING, 2)->ping.seq, seq + 1);
    pong(&r, 3, seq, engine_term(r.engine)); /* an old answer proves nothing about a new read */
    assert_int_equal(r.n_reads, 10);
    pong(&r, 3, seq + 1, engine_term(r.engine));
    assert_int_equal(r.n_reads, 11);
    rig_deinit(&r);
}

static void a_voter_with_a_higher_term_does_not_confirm_a_read(void **state)
{
    struct rig r;

    lead(&r);
    engine_read_index(r.engine, r.now, 1);
    engine_flush(r.engine, r.now);
    pong(&r, 2, rig_sent(&r, RAFT_MESSAGE_PING, 2)->ping.seq, engine_term(r.engine) + 1);
    assert_int_equal(r.n_reads, 0);
    rig_deinit(&r);
}

static void asks_again_when_a_round_is_not_answered(void **state)
{
    struct rig r;

    lead(&r);
    engine_read_index(r.engine, r.now, 1);
    engine_flush(r.engine, r.now);
    rig_forget(&r);
    r.now += r.config.heartbeat_ms;
    assert_true(engine_timeout(r.engine) <= r.now);
    engine_tick(r.engine, r.now);
    assert_int_equal(rig_count(&r, RAFT_MESSAGE_PING, 2), 1);
    rig_deinit(&r);
}

static void fails_reads_when_leadership_is_lost(void **state)
{
    struct rig r;

    lead(&r);
    engine_read_index(r.engine, r.now, 1);
    engine_flush(r.engine, r.now);
    engine_read_index(r.engine, r.now, 2);
    rig_append(&r, 2, engine_term(r.engine) + 1, 2, engine_term(r.engine), 2, NULL);
    assert_int_equal(r.n_reads, 2);
    assert_int_equal(r.read_result, KV_E_NOTLEADER);
    rig_deinit(&r);
}

static void refuses_reads_before_an_entry_of_its_term_is_committed(void **state)
{
    struct rig r;

    rig_init(&r, NULL);
    rig_start(&r, 3, 1, NULL);
    rig_elect(&r);
    assert_int_equal(engine_read_index(r.engine, r.now, 1), KV_E_BUSY);
    rig_deinit(&r);
}

static void echo(struct rig *r, uint64_t from, uint64_t sent_ms)
{
    struct engine_message *m = message_new(RAFT_MESSAGE_ECHO, from, 1);

    m->term = engine_term(r->engine);
    m->sent_ms = sent_ms;
    assert_int_equal(engine_receive(r->engine, r->now, m), 0);
}

static void holds_a_lease_from_the_time_that_a_majority_echoed(void **state)
{
    uint64_t lease = 1000 - 2 - 20; /* election timeout, margin, twice one percent */
    struct rig r;

    lead(&r);
    assert_false(engine_lease_valid(r.engine, r.now));
    echo(&r, 2, r.now);
    assert_true(engine_lease_valid(r.engine, r.now + lease - 1));
    assert_false(engine_lease_valid(r.engine, r.now + lease));
    rig_deinit(&r);
}

static void a_follower_echoes_what_it_accepts_some_times_a_heartbeat(void **state)
{
    struct rig r;

    rig_init(&r, NULL);
    rig_start(&r, 3, 1, NULL);
    for (int i = 0; i < 100; i++, r.now++)
        rig_append(&r, 2, 2, 1, 1, 1, NULL);
    assert_int_equal(rig_count(&r, RAFT_MESSAGE_ECHO, 2), 4);
    rig_deinit(&r);
}

/* ---- snapshots and the log's start ---- */

static void keeps_the_log_within_its_budget_behind_the_durable_state(void **state)
{
    struct rig r;

    rig_init(&r, NULL);
    r.config.keep_entries = 10;
    r.config.trailing = 4;
    rig_start(&r, 1, 1, NULL); /* a sole voter: its barrier is 2 */
    rig_save(&r);
    rig_submit(&r, 98);
    rig_save(&r);
    assert_int_equal(engine_applied_index(r.engine), 100);
    assert_int_equal(engine_state_durable(r.engine, r.now, 50), 0);
    assert_int_equal(engine_first_index(r.engine), 47); /* trailing before the budget */
    assert_int_equal(engine_snapshot_index(r.engine), 50);
    assert_int_equal(r.keep_from, 47);
    assert_int_equal(r.trimmed.index, 50);
    assert_int_equal(r.trimmed.conf_index, 1);
    assert_int_equal(engine_state_durable(r.engine, r.now, 100), 0);
    assert_int_equal(engine_first_index(r.engine), 91); /* the budget before trailing */
    assert_int_equal(engine_state_durable(r.engine, r.now, 100), 0);
    assert_int_equal(r.n_trims, 2);
    rig_deinit(&r);
}

static void keeps_the_log_within_its_bytes(void **state)
{
    struct rig r;

    rig_init(&r, NULL);
    r.config.keep_entries = 1000000;
    r.config.keep_bytes = 10 * (8 + 64);
    rig_start(&r, 1, 1, NULL);
    rig_save(&r);
    rig_submit(&r, 98);
    rig_save(&r);
    assert_int_equal(engine_state_durable(r.engine, r.now, 100), 0);
    assert_int_equal(engine_first_index(r.engine), 91);
    assert_int_equal(engine_log_bytes(r.engine), 10 * (8 + 64));
    rig_deinit(&r);
}

static void a_pin_keeps_the_log_from_its_index_on(void **state)
{
    struct snapshot_meta meta;
    struct rig r;

    rig_init(&r, NULL);
    rig_start(&r, 1, 1, NULL);
    rig_save(&r);
    rig_submit(&r, 98);
    rig_save(&r);
    assert_int_equal(engine_snapshot_meta(r.engine, 101, &meta), KV_E_NOENT);
    assert_int_equal(engine_snapshot_meta(r.engine, 40, &meta), 0);
    assert_int_equal(meta.index, 40);
    assert_int_equal(meta.conf_index, 1);
    snapshot_meta_deinit(&meta);
    assert_int_equal(engine_pin_log(r.engine, 40), 0);
    assert_int_equal(engine_pin_log(r.engine, 60), 0);
    assert_int_equal(engine_state_durable(r.engine, r.now, 90), 0);
    assert_int_equal(engine_first_index(r.engine), 40);
    engine_unpin_log(r.engine, 40);
    assert_int_equal(engine_state_durable(r.engine, r.now, 95), 0);
    assert_int_equal(engine_first_index(r.engine), 60);
    engine_unpin_log(r.engine, 60);
    assert_int_equal(engine_state_durable(r.engine, r.now, 100), 0);
    assert_int_equal(engine_pin_log(r.engine, 60), KV_E_NOENT);
    assert_int_equal(engine_snapshot_meta(r.engine, 60, &meta), KV_E_NOENT);
    rig_deinit(&r);
}

static void labels_a_state_behind_the_newest_change_with_the_older_configuration(void **state)
{
    struct configuration c = rig_voters(1), labelled;
    struct snapshot_meta meta;
    struct rig r;

    rig_init(&r, NULL);
    rig_start(&r, 1, 1, NULL);
    rig_save(&r);
    rig_submit(&r, 8); /* 3 .. 10 */
    rig_save(&r);
    configuration_add(&c, 2, "n2", SERVER_STANDBY);
    assert_int_equal(engine_change(r.engine, r.now, &c), 0); /* 11 */
    rig_save(&r);
    rig_submit(&r, 9);
    rig_save(&r);
    assert_int_equal(engine_state_durable(r.engine, r.now, 10), 0);
    assert_int_equal(r.trimmed.conf_index, 1);
    assert_int_equal(engine_snapshot_meta(r.engine, 15, &meta), 0);
    assert_int_equal(meta.conf_index, 11);
    assert_int_equal(configuration_decode(meta.conf->data, meta.conf->len, &labelled), 0);
    assert_int_equal(labelled.n, 2);
    snapshot_meta_deinit(&meta);
    assert_int_equal(engine_state_durable(r.engine, r.now, 15), 0);
    assert_int_equal(r.trimmed.conf_index, 11);
    rig_deinit(&r);
}

/* Leader whose log starts at 95; server 2 is at 2. */
static void lead_with_a_short_log(struct rig *r)
{
    lead(r);
    for (int i = 0; i < 4; i++) {
        rig_submit(r, 25);
        rig_save(r);
        rig_accept(r, 3, 2 + 25 * (uint64_t)(i + 1));
    }
    assert_int_equal(engine_commit_index(r->engine), 102);
    assert_int_equal(engine_state_durable(r->engine, r->now, 95), 0);
    assert_int_equal(engine_first_index(r->engine), 96);
    rig_forget(r);
}

static void asks_for_one_transfer_at_a_time_for_each_peer(void **state)
{
    struct rig r;

    lead_with_a_short_log(&r);
    rig_reject(&r, 2, 102, 2);
    for (int i = 0; i < 40; i++) {
        r.now = engine_timeout(r.engine);
        engine_tick(r.engine, r.now);
        rig_accept(&r, 3, 102);
        rig_reject(&r, 2, 95, 2);
    }
    assert_int_equal(r.n_snapshots, 1);
    assert_int_equal(r.snapshot_peer, 2);
    engine_snapshot_failed(r.engine, 2);
    for (int i = 0; i < 40; i++) {
        r.now = engine_timeout(r.engine);
        engine_tick(r.engine, r.now);
        rig_accept(&r, 3, 102);
        rig_reject(&r, 2, 95, 2);
    }
    assert_int_equal(r.n_snapshots, 2);
    engine_snapshot_sent(r.engine, r.now, 2);
    for (int i = 0; i < 10; i++) { /* it is installing: one second */
        r.now = engine_timeout(r.engine);
        engine_tick(r.engine, r.now);
        rig_accept(&r, 3, 102);
        rig_reject(&r, 2, 95, 2);
    }
    assert_int_equal(r.n_snapshots, 2);
    rig_deinit(&r);
}

static void goes_on_behind_a_snapshot_newer_than_the_core_s(void **state)
{
    const struct engine_message *m;
    struct rig r;

    lead_with_a_short_log(&r);
    while (r.n_snapshots == 0) {
        r.now = engine_timeout(r.engine);
        engine_tick(r.engine, r.now);
        rig_accept(&r, 3, 102);
        rig_reject(&r, 2, 102, 2);
    }
    engine_snapshot_sent(r.engine, r.now, 2);
    rig_forget(&r);
    rig_accept(&r, 2, 100); /* the core's snapshot is at 95 */
    assert_int_equal(engine_match_index(r.engine, 2), 100);
    m = rig_sent(&r, RAFT_MESSAGE_APPEND, 2);
    assert_non_null(m);
    assert_int_equal(m->append.prev_index, 100);
    assert_int_equal(m->n_entries, 2);
    rig_deinit(&r);
}

static void says_that_a_snapshot_is_not_needed(void **state)
{
    struct rig r;

    rig_init(&r, NULL);
    rig_start(&r, 3, 2, TERMS(1, 2));
    assert_int_equal(rig_install(&r, 2, 2, 3, 2), 0);
    assert_false(engine_installing(r.engine));
    assert_int_equal(r.n_installs, 0);
    assert_int_equal(rig_sent(&r, RAFT_MESSAGE_APPEND_RESULT, 2)->append_result.last_index, 3);
    rig_deinit(&r);
}

/* ---- starting ---- */

static int start_with(struct engine_stored *stored, const char *expected)
{
    const struct engine_ops ops = {.ctx = NULL}; /* none is called before the checks */
    struct engine_config config;
    struct engine *e;
    int result;

    engine_config_defaults(&config);
    config.id = 1;
    assert_int_equal(engine_new(&config, &ops, &e), 0);
    result = engine_start(e, 1000, stored);
    if (expected != NULL) {
        assert_non_null(engine_failure(e));
        assert_string_equal(engine_failure(e), expected);
        assert_int_equal(engine_tick(e, 2000), result); /* dead */
        assert_int_equal(engine_submit(e, 2000, NULL, 1, NULL), result);
    }
    engine_free(e);
    return result;
}

static void refuses_a_stored_log_that_contradicts_itself(void **state)
{
    struct configuration c = rig_voters(3);
    struct snapshot_meta meta = {.index = 10, .term = 2, .conf_index = 1};
    struct entry *entries[2] = {configuration_encode(&c), entry_new(ENTRY_COMMAND, "x", 1)};
    struct engine_stored s;

    meta.conf = entry_ref(entries[0]);
    entries[0]->term = entries[1]->term = 1;
    s = (struct engine_stored){.term = 2, .snapshot = &meta, .start_index = 12, .applied_index = 10};
    assert_int_equal(start_with(&s, "the stored log starts at 12, behind a snapshot at 10"), -EBADMSG);
    s.start_index = 9;
    s.entries = entries + 1;
    s.n_entries = 1;
    assert_int_equal(start_with(&s, "the stored log ends at 9, before its snapshot at 10"), -EBADMSG);
    s.start_index = 11;
    s.applied_index = 9;
    assert_int_equal(start_with(&s, "the state ends at 9, but the log starts behind 10"), -EBADMSG);
    s.applied_index = 12;
    assert_int_equal(start_with(&s, "the stored log ends at 11, but the state contains 12"), -EBADMSG);
    s = (struct engine_stored){.term = 1, .start_index = 1, .entries = entries + 1, .n_entries = 1};
    assert_int_equal(start_with(&s, "the stored log does not begin with a configuration"), -EBADMSG);
    s.entries = entries;
    s.term = 0;
    assert_int_equal(start_with(&s, "the stored log has entries but no term"), -EBADMSG);
    snapshot_meta_deinit(&meta);
    entry_put(entries[0]);
    entry_put(entries[1]);
}

static void what_the_state_contains_is_committed_from_the_start(void **state)
{
    struct snapshot_meta meta;
    const struct engine_ops none = {.ctx = NULL};
    struct configuration c = rig_voters(3);
    struct entry *entries[5] = {configuration_encode(&c)};
    struct engine_stored s = {
        .term = 1, .start_index = 1, .entries = entries, .n_entries = 5, .applied_index = 4};
    struct engine_config config;
    struct engine *e;

    engine_config_defaults(&config);
    config.id = 1;
    entries[0]->term = 1;
    for (int i = 1; i < 5; i++) {
        entries[i] = entry_new(ENTRY_COMMAND, "x", 1);
        entries[i]->term = 1;
    }
    assert_int_equal(engine_new(&config, &none, &e), 0);
    assert_int_equal(engine_start(e, 1000, &s), 0);
    assert_int_equal(engine_commit_index(e), 4);
    assert_int_equal(engine_applied_index(e), 4);
    assert_int_equal(engine_snapshot_meta(e, 4, &meta), 0);
    snapshot_meta_deinit(&meta);
    engine_free(e);
    for (int i = 0; i < 5; i++)
        entry_put(entries[i]);
}

static int note_applied(void *ctx, uint64_t index, struct entry *entry)
{
    struct rig *r = ctx;

    r->applied[r->n_applied++] = index;
    return 0;
}

static void a_state_older_than_the_snapshot_is_brought_up_to_it_from_the_log(void **state)
{
    struct rig r = {.n_applied = 0};
    const struct engine_ops ops = {.ctx = &r, .apply = note_applied};
    struct configuration c = rig_voters(3);
    struct entry *entries[5];
    struct snapshot_meta meta = {.index = 10, .term = 1, .conf_index = 9}, label;
    struct engine_stored s = {.term = 1,
                              .snapshot = &meta,
                              .start_index = 7,
                              .entries = entries,
                              .n_entries = 5,
                              .applied_index = 7};
    struct engine_config config;
    struct engine *e;

    engine_config_defaults(&config);
    config.id = 1;
    for (int i = 0; i < 5; i++) {
        entries[i] = i == 2 ? configuration_encode(&c) : entry_new(ENTRY_COMMAND, "x", 1);
        entries[i]->term = 1;
    }
    meta.conf = entry_ref(entries[2]);
    assert_int_equal(engine_new(&config, &ops, &e), 0);
    assert_int_equal(engine_start(e, 1000, &s), 0);
    assert_int_equal(r.n_applied, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(r.applied[i], 8 + i);
    assert_int_equal(engine_applied_index(e), 10);
    assert_int_equal(engine_commit_index(e), 10);
    assert_int_equal(engine_snapshot_meta(e, 10, &label), 0);
    assert_int_equal(label.conf_index, 9);
    snapshot_meta_deinit(&label);
    engine_free(e);
    r.n_applied = 0;
    s.applied_index = 6; /* right before the log's first */
    assert_int_equal(engine_new(&config, &ops, &e), 0);
    assert_int_equal(engine_start(e, 1000, &s), 0);
    assert_int_equal(r.n_applied, 4);
    engine_free(e);
    s.applied_index = 5;
    assert_int_equal(start_with(&s, "the state ends at 5, but the log starts behind 6"), -EBADMSG);
    snapshot_meta_deinit(&meta);
    for (int i = 0; i < 5; i++)
        entry_put(entries[i]);
}

/* ---- failing operations ---- */

static void dies_when_its_storage_fails(void **state)
{
    struct rig r;

    lead(&r);
    r.fail_save_entries = -EIO;
    assert_int_equal(rig_submit(&r, 1), -EIO);
    assert_string_equal(engine_failure(r.engine), "log entries could not be saved");
    assert_int_equal(engine_tick(r.engine, r.now), -EIO);
    assert_int_equal(engine_flush(r.engine, r.now), -EIO);
    assert_int_equal(rig_accept(&r, 2, 3), -EIO);
    assert_false(engine_lease_valid(r.engine, r.now));
    rig_deinit(&r);

    rig_init(&r, NULL);
    rig_start(&r, 3, 1, NULL);
    r.fail_save_term = KV_E_NOSPC;
    assert_int_equal(rig_append(&r, 2, 5, 1, 1, 1, NULL), -EIO);
    assert_int_equal(r.n_sent, 0); /* nothing left before the term was durable */
    rig_deinit(&r);

    lead(&r);
    r.fail_apply = -ENOMEM;
    rig_submit(&r, 1);
    r.n_saves = 0;
    rig_accept(&r, 2, 3);
    assert_int_equal(engine_entries_saved(r.engine, r.now), -ENOMEM);
    assert_string_equal(engine_failure(r.engine), "entry 3 could not be applied");
    rig_deinit(&r);
}

static void dies_when_a_write_is_reported_that_it_did_not_ask_for(void **state)
{
    struct rig r;

    lead(&r);
    assert_int_equal(engine_entries_saved(r.engine, r.now), -EINVAL);
    rig_deinit(&r);
    lead(&r);
    assert_int_equal(engine_snapshot_installed(r.engine, r.now), -EINVAL);
    rig_deinit(&r);
}

static void refuses_messages_for_others_and_from_itself(void **state)
{
    struct engine_message *m;
    struct rig r;

    lead(&r);
    m = message_new(RAFT_MESSAGE_PING, 2, 3);
    assert_int_equal(engine_receive(r.engine, r.now, m), KV_E_PROTOCOL);
    m = message_new(RAFT_MESSAGE_PING, 1, 1);
    assert_int_equal(engine_receive(r.engine, r.now, m), KV_E_PROTOCOL);
    assert_null(engine_failure(r.engine));
    rig_deinit(&r);
}

static void changes_one_server_at_a_time_and_keeps_their_order(void **state)
{
    struct configuration c = rig_voters(5), swapped = rig_voters(3);
    struct server first;
    struct rig r;

    lead(&r);
    assert_int_equal(engine_change(r.engine, r.now, &c), KV_E_INVAL); /* two more */
    c = rig_voters(3);
    assert_int_equal(engine_change(r.engine, r.now, &c), KV_E_INVAL); /* none */
    first = swapped.servers[1];
    swapped.servers[1] = swapped.servers[2];
    swapped.servers[2] = first;
    configuration_add(&swapped, 4, "n4", SERVER_STANDBY);
    assert_int_equal(engine_change(r.engine, r.now, &swapped), KV_E_INVAL);
    configuration_add(&c, 4, "n4", SERVER_STANDBY);
    assert_int_equal(engine_change(r.engine, r.now, &c), 0);
    assert_int_equal(engine_uncommitted_change(r.engine), 3);
    configuration_remove(&c, 4);
    assert_int_equal(engine_change(r.engine, r.now, &c), KV_E_BUSY);
    rig_save(&r);
    rig_accept(&r, 2, 3);
    assert_int_equal(engine_uncommitted_change(r.engine), 0);
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_only_a_leader_can_do),
        cmocka_unit_test(submits_many_entries_in_one_message_and_one_write),
        cmocka_unit_test(splits_messages_by_size_but_sends_one_entry_at_least),
        cmocka_unit_test(sends_a_peer_few_megabytes_ahead_of_what_it_has_acknowledged),
        cmocka_unit_test(commits_when_a_majority_has_it_and_applies_when_it_has_it_itself),
        cmocka_unit_test(refuses_submits_while_leadership_is_handed_over),
        cmocka_unit_test(tells_followers_a_commit_that_no_message_carried),
        cmocka_unit_test(sends_no_notice_for_what_an_append_has_told),
        cmocka_unit_test(the_answer_to_a_notice_changes_nothing),
        cmocka_unit_test(many_reads_share_a_round),
        cmocka_unit_test(a_voter_with_a_higher_term_does_not_confirm_a_read),
        cmocka_unit_test(asks_again_when_a_round_is_not_answered),
        cmocka_unit_test(fails_reads_when_leadership_is_lost),
        cmocka_unit_test(refuses_reads_before_an_entry_of_its_term_is_committed),
        cmocka_unit_test(holds_a_lease_from_the_time_that_a_majority_echoed),
        cmocka_unit_test(a_follower_echoes_what_it_accepts_some_times_a_heartbeat),
        cmocka_unit_test(keeps_the_log_within_its_budget_behind_the_durable_state),
        cmocka_unit_test(keeps_the_log_within_its_bytes),
        cmocka_unit_test(a_pin_keeps_the_log_from_its_index_on),
        cmocka_unit_test(labels_a_state_behind_the_newest_change_with_the_older_configuration),
        cmocka_unit_test(asks_for_one_transfer_at_a_time_for_each_peer),
        cmocka_unit_test(goes_on_behind_a_snapshot_newer_than_the_core_s),
        cmocka_unit_test(says_that_a_snapshot_is_not_needed),
        cmocka_unit_test(refuses_a_stored_log_that_contradicts_itself),
        cmocka_unit_test(what_the_state_contains_is_committed_from_the_start),
        cmocka_unit_test(a_state_older_than_the_snapshot_is_brought_up_to_it_from_the_log),
        cmocka_unit_test(dies_when_its_storage_fails),
        cmocka_unit_test(dies_when_a_write_is_reported_that_it_did_not_ask_for),
        cmocka_unit_test(refuses_messages_for_others_and_from_itself),
        cmocka_unit_test(changes_one_server_at_a_time_and_keeps_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
