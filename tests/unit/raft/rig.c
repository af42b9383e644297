#include "tests/unit/raft/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int save_term(void *ctx, uint64_t term, uint64_t vote)
{
    struct rig *r = ctx;

    r->term = term;
    r->vote = vote;
    r->n_terms_saved++;
    return r->fail_save_term;
}

static int save_entries(void *ctx, uint64_t index, struct entry *const *entries, size_t n, bool flush)
{
    struct rig *r = ctx;

    r->n_saves++;
    r->n_flushed += flush;
    r->saved_index = index;
    r->saved_n = n;
    return r->fail_save_entries;
}

static int trim_log(void *ctx, const struct snapshot_meta *meta, uint64_t keep_from)
{
    struct rig *r = ctx;

    snapshot_meta_deinit(&r->trimmed);
    snapshot_meta_copy(meta, &r->trimmed);
    r->keep_from = keep_from;
    r->n_trims++;
    return 0;
}

static int install(void *ctx, const struct snapshot_meta *meta)
{
    struct rig *r = ctx;

    r->n_installs++;
    return 0;
}

static void send_message(void *ctx, struct engine_message *m)
{
    struct rig *r = ctx;

    assert_true(r->n_sent < RIG_MAX);
    r->sent[r->n_sent++] = m;
}

static void send_snapshot(void *ctx, uint64_t peer)
{
    struct rig *r = ctx;

    r->n_snapshots++;
    r->snapshot_peer = peer;
}

static int apply(void *ctx, uint64_t index, struct entry *e)
{
    struct rig *r = ctx;

    assert_true(r->n_applied < RIG_MAX);
    r->applied[r->n_applied++] = index;
    return r->fail_apply;
}

static void on_role(void *ctx, enum engine_role role, uint64_t term)
{
    struct rig *r = ctx;

    r->role = role;
}

static void on_log_shorter(void *ctx, uint64_t peer, uint64_t index, uint64_t match)
{
    struct rig *r = ctx;

    r->shorter_peer = peer;
    r->shorter_index = index;
    r->shorter_match = match;
}

static void on_read(void *ctx, uint64_t token, uint64_t index, int result)
{
    struct rig *r = ctx;

    r->read_token = token;
    r->read_index = index;
    r->read_result = result;
    r->n_reads++;
}

struct configuration rig_voters(unsigned n)
{
    struct configuration c = {.n = 0};

    for (unsigned i = 1; i <= n; i++) {
        char address[16];

        snprintf(address, sizeof address, "n%u", i);
        assert_int_equal(configuration_add(&c, i, address, SERVER_VOTER), 0);
    }
    return c;
}

void rig_init(struct rig *r, const struct engine_knobs *knobs)
{
    memset(r, 0, sizeof *r);
    engine_config_defaults(&r->config);
    r->config.id = 1;
    r->config.pre_vote = false;
    r->config.trailing = 0;
    r->config.keep_entries = 1;
    r->config.trim_step = 1;
    if (knobs != NULL)
        r->knobs = *knobs;
    r->config.knobs = &r->knobs;
    r->now = 1000000;
}

void rig_start_with(struct rig *r, const struct configuration *c, uint64_t term, const uint64_t *terms)
{
    const struct engine_ops ops = {
        .ctx = r,
        .save_term = save_term,
        .save_entries = save_entries,
        .trim_log = trim_log,
        .install = install,
        .send = send_message,
        .send_snapshot = send_snapshot,
        .apply = apply,
        .on_role = on_role,
        .on_read = on_read,
        .on_log_shorter = on_log_shorter,
    };
    struct entry *entries[RIG_MAX];
    struct engine_stored stored = {.term = term, .start_index = 1, .entries = entries, .n_entries = 1};

    r->term = term;
    assert_int_equal(engine_new(&r->config, &ops, &r->engine), 0);
    entries[0] = configuration_encode(c);
    entries[0]->term = 1;
    for (; terms != NULL && *terms != 0; terms++) {
        entries[stored.n_entries] = entry_new(ENTRY_COMMAND, "command", 8);
        entries[stored.n_entries++]->term = *terms;
    }
    assert_int_equal(engine_start(r->engine, r->now, &stored), 0);
    for (size_t i = 0; i < stored.n_entries; i++)
        entry_put(entries[i]);
}

void rig_start(struct rig *r, unsigned voters, uint64_t term, const uint64_t *terms)
{
    struct configuration c = rig_voters(voters);

    rig_start_with(r, &c, term, terms);
}

void rig_forget(struct rig *r)
{
    for (unsigned i = 0; i < r->n_sent; i++)
        message_free(r->sent[i]);
    r->n_sent = 0;
}

void rig_deinit(struct rig *r)
{
    rig_forget(r);
    engine_free(r->engine);
    snapshot_meta_deinit(&r->trimmed);
}

void rig_save(struct rig *r)
{
    while (r->n_saves > 0) {
        r->n_saves--;
        assert_int_equal(engine_entries_saved(r->engine, r->now), 0);
    }
}

void rig_elect(struct rig *r)
{
    struct configuration c;

    r->now = engine_timeout(r->engine);
    assert_int_equal(engine_tick(r->engine, r->now), 0);
    engine_configuration(r->engine, &c);
    for (unsigned i = 0; i < c.n && engine_role(r->engine) != ENGINE_LEADER; i++) {
        struct engine_message *m;

        if (c.servers[i].id == 1)
            continue;
        m = message_new(RAFT_MESSAGE_VOTE_RESULT, c.servers[i].id, 1);
        m->term = engine_term(r->engine);
        m->vote_result.granted = true;
        assert_int_equal(engine_receive(r->engine, r->now, m), 0);
    }
    assert_int_equal(engine_role(r->engine), ENGINE_LEADER);
    rig_save(r);
}

struct engine_message *rig_sent(struct rig *r, enum raft_message_kind type, uint64_t to)
{
    for (unsigned i = r->n_sent; i > 0; i--)
        if (r->sent[i - 1]->type == type && (to == 0 || r->sent[i - 1]->to == to))
            return r->sent[i - 1];
    return NULL;
}

unsigned rig_count(const struct rig *r, enum raft_message_kind type, uint64_t to)
{
    unsigned n = 0;

    for (unsigned i = 0; i < r->n_sent; i++)
        if (r->sent[i]->type == type && (to == 0 || r->sent[i]->to == to))
            n++;
    return n;
}

struct engine_message *rig_append_message(struct rig *r, uint64_t from, uint64_t term, uint64_t prev_index,
                                          uint64_t prev_term, uint64_t commit, const uint64_t *terms)
{
    struct engine_message *m = message_new(RAFT_MESSAGE_APPEND, from, 1);

    m->term = term;
    m->sent_ms = r->now;
    m->append.prev_index = prev_index;
    m->append.prev_term = prev_term;
    m->append.leader_commit = commit;
    for (; terms != NULL && *terms != 0; terms++) {
        m->entries = realloc(m->entries, (m->n_entries + 1) * sizeof(struct entry *));
        m->entries[m->n_entries] = entry_new(ENTRY_COMMAND, "command", 8);
        m->entries[m->n_entries++]->term = *terms;
    }
    return m;
}

int rig_append(struct rig *r, uint64_t from, uint64_t term, uint64_t prev_index, uint64_t prev_term,
               uint64_t commit, const uint64_t *terms)
{
    return engine_receive(r->engine, r->now,
                          rig_append_message(r, from, term, prev_index, prev_term, commit, terms));
}

int rig_accept(struct rig *r, uint64_t from, uint64_t index)
{
    struct engine_message *m = message_new(RAFT_MESSAGE_APPEND_RESULT, from, 1);

    m->term = engine_term(r->engine);
    m->append_result.last_index = index;
    return engine_receive(r->engine, r->now, m);
}

int rig_reject(struct rig *r, uint64_t from, uint64_t index, uint64_t last)
{
    struct engine_message *m = message_new(RAFT_MESSAGE_APPEND_RESULT, from, 1);

    m->term = engine_term(r->engine);
    m->append_result.rejected = index;
    m->append_result.last_index = last;
    return engine_receive(r->engine, r->now, m);
}

int rig_vote_request(struct rig *r, uint64_t from, uint64_t term, uint64_t last_index, uint64_t last_term,
                     bool pre_vote)
{
    struct engine_message *m = message_new(RAFT_MESSAGE_VOTE, from, 1);

    m->term = term;
    m->vote.last_index = last_index;
    m->vote.last_term = last_term;
    m->vote.pre_vote = pre_vote;
    return engine_receive(r->engine, r->now, m);
}

int rig_install(struct rig *r, uint64_t from, uint64_t term, uint64_t index, uint64_t index_term)
{
    struct configuration c = rig_voters(3);
    struct snapshot_meta meta = {.index = index, .term = index_term, .conf_index = 1};
    struct engine_message *m;

    meta.conf = configuration_encode(&c);
    m = message_new_install(from, 1, term, &meta);
    snapshot_meta_deinit(&meta);
    return engine_receive(r->engine, r->now, m);
}

int rig_submit(struct rig *r, unsigned n)
{
    struct entry *entries[RIG_MAX] = {NULL};
    int result;

    for (unsigned i = 0; i < n; i++)
        entries[i] = entry_new(ENTRY_COMMAND, "command", 8);
    result = engine_submit(r->engine, r->now, entries, n, NULL);
    for (unsigned i = 0; i < n; i++)
        entry_put(entries[i]);
    return result;
}
