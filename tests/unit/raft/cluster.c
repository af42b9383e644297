#include "tests/unit/raft/cluster.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sync/base/digest.h"

/* ---- operations of an engine ---- */

static int save_term(void *ctx, uint64_t term, uint64_t vote)
{
    struct member *m = ctx;

    m->term = term;
    m->vote = vote;
    return 0;
}

static int save_entries(void *ctx, uint64_t index, struct entry *const *entries, size_t n, bool flush)
{
    struct member *m = ctx;

    while (m->n_log > 0 && m->start_index + m->n_log > index)
        entry_put(m->log[--m->n_log]);
    assert_int_equal(m->start_index + m->n_log, index);
    m->log = realloc(m->log, (m->n_log + n) * sizeof(struct entry *));
    for (size_t i = 0; i < n; i++)
        m->log[m->n_log++] = entry_ref(entries[i]);
    m->unsaved++;
    return 0;
}

static void keep_from(struct member *m, uint64_t index)
{
    size_t k = 0;

    while (k < m->n_log && m->start_index + k < index)
        entry_put(m->log[k++]);
    m->n_log -= k;
    memmove(m->log, m->log + k, m->n_log * sizeof(struct entry *));
    m->start_index = index;
}

static int trim_log(void *ctx, const struct snapshot_meta *meta, uint64_t from)
{
    struct member *m = ctx;

    snapshot_meta_deinit(&m->snapshot);
    snapshot_meta_copy(meta, &m->snapshot);
    keep_from(m, from);
    return 0;
}

static int install(void *ctx, const struct snapshot_meta *meta)
{
    struct member *m = ctx;

    snapshot_meta_copy(meta, &m->install);
    m->install_queued = true;
    return 0;
}

static void send_message(void *ctx, struct engine_message *message)
{
    struct member *m = ctx;
    struct cluster *c = m->cluster;

    assert_true(c->n_wire < sizeof c->wire / sizeof c->wire[0]);
    c->wire[c->n_wire++] = message;
}

static void send_snapshot(void *ctx, uint64_t peer)
{
    struct member *m = ctx;

    m->wanted_by = peer;
}

static int apply(void *ctx, uint64_t index, struct entry *e)
{
    struct member *m = ctx;

    assert_int_equal(index, m->state.applied + 1);
    m->state.applied = index;
    m->state.hash = digest64(m->state.hash, e->data, e->len);
    if (index < sizeof m->applied_at / sizeof m->applied_at[0])
        m->applied_at[index] = m->cluster->now;
    return 0;
}

static void on_role(void *ctx, enum engine_role role, uint64_t term)
{
    static const char *const names[] = {"follower", "candidate", "leader"};
    struct member *m = ctx;
    size_t used = strlen(m->cluster->trace);

    snprintf(m->cluster->trace + used, sizeof m->cluster->trace - used, "%lu %s term %lu\n", m->id,
             names[role], term);
}

static void on_read(void *ctx, uint64_t token, uint64_t index, int result)
{
    *(int *)(uintptr_t)token = result == 0 ? (int)index : -result;
}

/* ---- life ---- */

void cluster_start(struct cluster *c, uint64_t id)
{
    struct member *m = &c->members[id];
    const struct engine_ops ops = {
        .ctx = m,
        .save_term = save_term,
        .save_entries = save_entries,
        .trim_log = trim_log,
        .install = install,
        .send = send_message,
        .send_snapshot = send_snapshot,
        .apply = apply,
        .on_role = on_role,
        .on_read = on_read,
    };
    struct engine_stored stored = {
        .term = m->term,
        .vote = m->vote,
        .snapshot = m->snapshot.index != 0 ? &m->snapshot : NULL,
        .start_index = m->start_index,
        .entries = m->log,
        .n_entries = m->n_log,
        .applied_index = m->durable.applied,
    };
    struct engine_config config;
    char path[128];

    engine_config_defaults(&config);
    config.id = id;
    config.seed = (uint32_t)id * 1000 + 7;
    config.keep_entries = (uint32_t)c->keep_entries;
    config.trailing = (uint32_t)c->trailing;
    config.trim_step = 1;
    config.knobs = &c->knobs;
    m->state = m->durable;
    m->up = true;
    snprintf(path, sizeof path, "%s/%lu.incoming", c->directory, id);
    assert_int_equal(snapshot_receiver_new(path, &m->receiver), 0);
    assert_int_equal(engine_new(&config, &ops, &m->engine), 0);
    assert_int_equal(engine_start(m->engine, c->now, &stored), 0);
}

void cluster_stop(struct cluster *c, uint64_t id)
{
    struct member *m = &c->members[id];

    if (!m->up)
        return;
    engine_free(m->engine);
    snapshot_sender_free(m->sender);
    snapshot_receiver_drop(m->receiver);
    snapshot_receiver_free(m->receiver);
    snapshot_meta_deinit(&m->install);
    m->engine = NULL;
    m->sender = NULL;
    m->receiver = NULL;
    m->up = m->install_queued = false;
    m->wanted_by = m->sender_peer = 0;
    m->unsaved = 0;
}

void cluster_setup(struct cluster *c, unsigned n)
{
    struct configuration conf = {.n = 0};
    struct entry *first;

    memset(c, 0, sizeof *c);
    c->now = 5000;
    c->n = n;
    c->keep_entries = 1000;
    c->trailing = 10;
    strcpy(c->directory, "/tmp/kvfs-cluster-XXXXXX");
    assert_non_null(mkdtemp(c->directory));
    for (unsigned i = 1; i <= n; i++) {
        char address[16];

        snprintf(address, sizeof address, "n%u", i);
        configuration_add(&conf, i, address, SERVER_VOTER);
    }
    first = configuration_encode(&conf);
    first->term = 1;
    for (unsigned i = 1; i <= n; i++) {
        struct member *m = &c->members[i];

        m->cluster = c;
        m->id = i;
        m->term = m->start_index = 1;
        m->log = malloc(sizeof(struct entry *));
        m->log[m->n_log++] = entry_ref(first);
        cluster_start(c, i);
    }
    entry_put(first);
}

void cluster_teardown(struct cluster *c)
{
    for (unsigned i = 1; i <= c->n; i++) {
        struct member *m = &c->members[i];

        cluster_stop(c, i);
        for (size_t k = 0; k < m->n_log; k++)
            entry_put(m->log[k]);
        free(m->log);
        snapshot_meta_deinit(&m->snapshot);
    }
    for (unsigned i = 0; i < c->n_wire; i++)
        message_free(c->wire[i]);
    assert_int_equal(rmdir(c->directory), 0);
}

void cluster_isolate(struct cluster *c, uint64_t id, bool isolated)
{
    for (unsigned i = 1; i <= c->n; i++)
        c->cut[id][i] = c->cut[i][id] = isolated;
}

/* ---- what a node does in a millisecond ---- */

static void deliver(struct cluster *c)
{
    struct engine_message *due[8192];
    unsigned n = c->n_wire;

    memcpy(due, c->wire, n * sizeof due[0]);
    c->n_wire = 0;
    for (unsigned i = 0; i < n; i++) {
        struct member *to = &c->members[due[i]->to];
        struct engine_message *decoded;
        struct buffer b = BUFFER_INIT;

        if (!to->up || !c->members[due[i]->from].up || c->cut[due[i]->from][due[i]->to]) {
            message_free(due[i]);
            continue;
        }
        message_encode(due[i], &b);
        message_free(due[i]);
        assert_int_equal(message_decode(b.data, b.len, &decoded), 0);
        buffer_deinit(&b);
        assert_int_equal(engine_receive(to->engine, c->now, decoded), 0);
    }
}

static void finish_writes(struct member *m)
{
    for (; m->unsaved > 0; m->unsaved--)
        assert_int_equal(engine_entries_saved(m->engine, m->cluster->now), 0);
}

/* The received file becomes the state, then the log is reset. */
static void finish_install(struct member *m)
{
    char path[128];
    int fd;

    if (!m->install_queued)
        return;
    m->install_queued = false;
    snprintf(path, sizeof path, "%s/%lu.incoming", m->cluster->directory, m->id);
    fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, &m->durable, sizeof m->durable), sizeof m->durable);
    close(fd);
    unlink(path);
    assert_int_equal(m->durable.applied, m->install.index);
    m->state = m->durable;
    keep_from(m, UINT64_MAX);
    m->start_index = m->install.index + 1;
    snapshot_meta_deinit(&m->snapshot);
    m->snapshot = m->install;
    memset(&m->install, 0, sizeof m->install);
    m->installs++;
    assert_int_equal(engine_snapshot_installed(m->engine, m->cluster->now), 0);
}

static void begin_transfer(struct member *m)
{
    struct snapshot_meta meta;
    char path[128];
    uint8_t *content;
    size_t len = sizeof m->state + CLUSTER_FILE_PADDING;
    int fd;

    snprintf(path, sizeof path, "%s/%lu.copy", m->cluster->directory, m->id);
    content = calloc(1, len);
    memcpy(content, &m->state, sizeof m->state);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, content, len), len);
    unlink(path);
    free(content);
    assert_int_equal(engine_snapshot_meta(m->engine, m->state.applied, &meta), 0);
    assert_int_equal(engine_pin_log(m->engine, meta.index), 0);
    assert_int_equal(
        snapshot_sender_new(fd, m->cluster->now, engine_term(m->engine), &meta, NULL, &m->sender), 0);
    snapshot_meta_deinit(&meta);
    m->sender_peer = m->wanted_by;
    m->wanted_by = 0;
}

static void end_transfer(struct member *m, bool sent)
{
    engine_unpin_log(m->engine, snapshot_sender_index(m->sender));
    if (sent)
        engine_snapshot_sent(m->engine, m->cluster->now, m->sender_peer);
    else
        engine_snapshot_failed(m->engine, m->sender_peer);
    snapshot_sender_free(m->sender);
    m->sender = NULL;
}

static void hand_over(struct member *from, struct member *to, struct buffer *reply)
{
    struct engine_message *message;
    const struct snapshot_meta *meta;
    uint64_t term;

    assert_int_equal(snapshot_receiver_sync(to->receiver), 0);
    meta = snapshot_receiver_meta(to->receiver, &term);
    message = message_new_install(from->id, to->id, term, meta);
    assert_int_equal(engine_receive(to->engine, to->cluster->now, message), 0);
    snapshot_receiver_finish(to->receiver, reply);
}

/* One message of a running transfer. */
static void transfer_step(struct member *m)
{
    struct member *to = &m->cluster->members[m->sender_peer];
    struct buffer out = BUFFER_INIT, reply = BUFFER_INIT;
    int result;

    if (!to->up || m->cluster->cut[m->id][to->id]) {
        end_transfer(m, false);
        return;
    }
    result = snapshot_sender_step(m->sender, &out);
    assert_true(result >= 0);
    if (result == SNAPSHOT_MESSAGE) {
        assert_int_equal(snapshot_receiver_receive(to->receiver, out.data, out.len, &reply), 0);
        if (snapshot_receiver_state(to->receiver) == SNAPSHOT_RECEIVER_VERIFIED)
            hand_over(m, to, &reply);
        if (reply.len > 0)
            assert_int_equal(snapshot_sender_receive(m->sender, reply.data, reply.len), 0);
    } else if (result == SNAPSHOT_DONE) {
        end_transfer(m, true);
    }
    buffer_deinit(&out);
    buffer_deinit(&reply);
}

void cluster_run(struct cluster *c, unsigned ms)
{
    for (unsigned t = 0; t < ms; t++) {
        c->now++;
        deliver(c);
        for (unsigned i = 1; i <= c->n; i++) {
            struct member *m = &c->members[i];

            if (!m->up)
                continue;
            finish_writes(m);
            finish_install(m);
            if (m->wanted_by != 0 && m->sender == NULL)
                begin_transfer(m);
            if (m->sender != NULL)
                transfer_step(m);
            if (c->now >= engine_timeout(m->engine))
                assert_int_equal(engine_tick(m->engine, c->now), 0);
            assert_int_equal(engine_flush(m->engine, c->now), 0);
        }
    }
}

uint64_t cluster_leader(struct cluster *c)
{
    for (unsigned t = 0; t < 20000; t++) {
        for (unsigned i = 1; i <= c->n; i++)
            if (c->members[i].up && engine_leader_ready(c->members[i].engine) && !c->cut[i][i])
                return i;
        cluster_run(c, 1);
    }
    fail_msg("no leader in 20 seconds");
    return 0;
}

void cluster_submit(struct cluster *c, unsigned n, unsigned ms)
{
    struct member *leader = &c->members[cluster_leader(c)];

    for (unsigned i = 0; i < n; i++) {
        struct entry *e = entry_new(ENTRY_COMMAND, &i, sizeof i);

        assert_int_equal(engine_submit(leader->engine, c->now, &e, 1, NULL), 0);
        entry_put(e);
        cluster_run(c, ms);
    }
}

void cluster_write_behind(struct cluster *c, uint64_t id)
{
    struct member *m = &c->members[id];

    m->durable = m->state;
    assert_int_equal(engine_state_durable(m->engine, c->now, m->state.applied), 0);
}

void cluster_assert_equal(struct cluster *c)
{
    const struct member *leader = &c->members[cluster_leader(c)];

    for (unsigned i = 1; i <= c->n; i++) {
        if (!c->members[i].up)
            continue;
        assert_int_equal(c->members[i].state.applied, engine_commit_index(leader->engine));
        assert_int_equal(c->members[i].state.hash, leader->state.hash);
    }
}
