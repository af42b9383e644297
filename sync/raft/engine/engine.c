/* Life cycle, time and accessors. The rest of the engine:
 * step.c (what the core asks for), receive.c (messages), reads.c, membership.c,
 * snapshot.c (what of the log may go), notice.c (commit notices). */
#include "sync/raft/engine/engine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/raft/engine/internal.h"

void engine_config_defaults(struct engine_config *c)
{
    memset(c, 0, sizeof *c);
    c->election_ms = 1000;
    c->heartbeat_ms = 100;
    c->install_ms = 3000;
    c->max_inflight = 256;
    c->max_inflight_bytes = UINT64_C(4) << 20;
    c->pre_vote = true;
    c->keep_entries = 100000;
    c->keep_bytes = UINT64_C(1) << 30;
    c->trailing = 2048;
    c->trim_step = 1024;
    c->drift_permille = 10;
}

int engine_new(const struct engine_config *config, const struct engine_ops *ops, struct engine **out)
{
    struct engine *e;
    int result;

    if (config->id == 0 || config->heartbeat_ms == 0 || config->election_ms <= config->heartbeat_ms ||
        config->max_inflight == 0 || config->max_inflight_bytes == 0 || config->trim_step == 0 ||
        config->lease_ms >= config->election_ms)
        return -EINVAL;
    e = calloc(1, sizeof *e);
    if (e == NULL)
        return -ENOMEM;
    e->config = *config;
    e->ops = *ops;
    if (config->knobs != NULL)
        e->knobs = *config->knobs;
    e->log.first = 1;
    result = core_new(config, &e->core);
    if (result != 0) {
        free(e);
        return result;
    }
    *out = e;
    return 0;
}

void engine_free(struct engine *e)
{
    if (e == NULL)
        return;
    core_free(e->core);
    entry_log_deinit(&e->log);
    write_queue_deinit(&e->writes);
    reads_deinit(&e->reads);
    snapshot_deinit(e);
    free(e);
}

int engine_die(struct engine *e, int error, const char *format, ...)
{
    va_list args;

    if (e->dead != 0)
        return e->dead;
    e->dead = error;
    va_start(args, format);
    vsnprintf(e->failure, sizeof e->failure, format, args);
    va_end(args);
    return error;
}

int engine_check(struct engine *e, int result, const char *what)
{
    if (result >= 0)
        return result;
    return engine_die(e, result, "the consensus core failed at %s: %s", what, strerror(-result));
}

const char *engine_failure(const struct engine *e)
{
    return e->dead != 0 ? e->failure : NULL;
}

/* A record of a server that is no longer in the configuration, for reuse. */
static struct peer *departed_peer(struct engine *e)
{
    for (unsigned i = 0; i < e->n_peers; i++) {
        bool present = false;

        for (unsigned k = 0; k < core_n_servers(e->core); k++)
            present = present || core_server_id(e->core, k) == e->peers[i].id;
        if (!present)
            return &e->peers[i];
    }
    return NULL;
}

struct peer *engine_peer(struct engine *e, uint64_t id)
{
    struct peer *p;

    for (unsigned i = 0; i < e->n_peers; i++)
        if (e->peers[i].id == id)
            return &e->peers[i];
    if (e->n_peers < MAX_PEERS)
        p = &e->peers[e->n_peers++];
    else if ((p = departed_peer(e)) == NULL)
        return NULL;
    memset(p, 0, sizeof *p);
    p->id = id;
    return p;
}

/* ---- start ---- */

/* The newest configuration that storage holds; false: none. */
static bool newest_configuration(const struct engine_stored *s, struct configuration *out)
{
    const struct entry *change = s->snapshot != NULL ? s->snapshot->conf : NULL;

    for (size_t i = s->n_entries; i > 0; i--)
        if (s->entries[i - 1]->type == ENTRY_CHANGE) {
            change = s->entries[i - 1];
            break;
        }
    return change != NULL && configuration_decode(change->data, change->len, out) == 0;
}

/* The core lets a sole voter lead again in the SAME term after a restart;
 * entries of its last life that were sent but not durable would clash with
 * those of this one. So it starts a new term. */
static int leave_old_term(struct engine *e, struct engine_stored *s)
{
    struct configuration c;
    struct server *self;
    int result;

    if (e->knobs.no_solo_guard || !newest_configuration(s, &c) || configuration_voters(&c) != 1)
        return 0;
    self = configuration_find(&c, e->config.id);
    if (self == NULL || self->role != SERVER_VOTER)
        return 0;
    s->term++;
    s->vote = e->config.id;
    result = e->ops.save_term(e->ops.ctx, s->term, s->vote);
    if (result != 0)
        return engine_die(e, result < 0 ? result : -EIO, "term and vote could not be saved");
    return 0;
}

static int check_stored(struct engine *e, const struct engine_stored *s)
{
    uint64_t last = s->start_index + s->n_entries - 1;
    uint64_t snapshot = s->snapshot != NULL ? s->snapshot->index : 0;
    struct configuration c;

    if (s->start_index == 0 || s->start_index > snapshot + 1)
        return engine_die(e, -EBADMSG, "the stored log starts at %" PRIu64 ", behind a snapshot at %" PRIu64,
                          s->start_index, snapshot);
    if (s->snapshot == NULL && s->n_entries > 0 && s->entries[0]->type != ENTRY_CHANGE)
        return engine_die(e, -EBADMSG, "the stored log does not begin with a configuration");
    if (s->term == 0 && (s->n_entries > 0 || s->snapshot != NULL))
        return engine_die(e, -EBADMSG, "the stored log has entries but no term");
    if (last < snapshot)
        return engine_die(e, -EBADMSG, "the stored log ends at %" PRIu64 ", before its snapshot at %" PRIu64,
                          last, snapshot);
    if (s->applied_index > last)
        return engine_die(e, -EBADMSG, "the stored log ends at %" PRIu64 ", but the state contains %" PRIu64,
                          last, s->applied_index);
    if (s->applied_index + 1 < s->start_index)
        return engine_die(e, -EBADMSG, "the state ends at %" PRIu64 ", but the log starts behind %" PRIu64,
                          s->applied_index, s->start_index - 1);
    if (s->snapshot != NULL && configuration_decode(s->snapshot->conf->data, s->snapshot->conf->len, &c) != 0)
        return engine_die(e, -EBADMSG, "the stored snapshot's configuration is malformed");
    for (size_t i = 0; i < s->n_entries; i++)
        if (s->entries[i]->type == ENTRY_CHANGE &&
            configuration_decode(s->entries[i]->data, s->entries[i]->len, &c) != 0)
            return engine_die(e, -EBADMSG, "the stored configuration at %" PRIu64 " is malformed",
                              s->start_index + i);
    return 0;
}

static int fill_log(struct engine *e, const struct engine_stored *s)
{
    e->log.first = s->start_index;
    for (size_t i = 0; i < s->n_entries; i++)
        if (!entry_log_push(&e->log, entry_ref(s->entries[i]))) {
            entry_put(s->entries[i]);
            return engine_die(e, -ENOMEM, "out of memory for the log");
        }
    if (s->snapshot == NULL)
        return 0;
    snapshot_meta_copy(s->snapshot, &e->snapshot);
    /* A state that was replaced by an older one: the log still reaches back to it. */
    e->applied = s->applied_index < s->snapshot->index ? s->applied_index : s->snapshot->index;
    return snapshot_note_configuration(e, s->snapshot->conf_index, s->snapshot->conf);
}

int engine_start(struct engine *e, uint64_t now, const struct engine_stored *stored)
{
    struct engine_stored s = *stored;
    struct core_update u;
    int result;

    if (e->dead != 0)
        return e->dead;
    e->now = e->started_ms = now;
    result = check_stored(e, &s);
    if (result == 0)
        result = leave_old_term(e, &s);
    if (result != 0)
        return result;
    result = fill_log(e, &s);
    if (result != 0)
        return result;
    /* What the state machine contains is committed, though the core learns that
     * only later. A leader must be able to say so at once: it can depend on a
     * follower that needs a snapshot to commit anything. */
    e->fsm_index = s.applied_index;
    e->commit = s.applied_index > e->snapshot.index ? s.applied_index : e->snapshot.index;
    lease_start(e);
    result = engine_check(e, core_start(e->core, now, &s, &u), "start");
    if (result == 0)
        result = step_update(e, &u, NULL);
    if (result == 0)
        lease_started(e);
    return result != 0 ? result : step_advance(e);
}

/* ---- events ---- */

int engine_entries_saved(struct engine *e, uint64_t now)
{
    struct pending_write w;
    struct core_update u;
    int result = 0;

    if (e->dead != 0)
        return e->dead;
    e->now = now;
    if (e->writes.n == 0)
        return engine_die(e, -EINVAL, "a write is reported that was not asked for");
    w = write_queue_pop(&e->writes);
    if (!e->is_installing && w.upto >= w.from && w.upto > core_stored_index(e->core)) {
        step_open_window(e, 0, 0);
        result = engine_check(e, core_entries_saved(e->core, now, w.upto, &u), "durable entries");
        if (result == 0)
            result = step_update(e, &u, NULL);
    }
    return result != 0 ? result : step_advance(e);
}

uint64_t engine_core_timeout(const struct engine *e)
{
    uint64_t at = core_timeout_ms(e->core);

    /* The core can name a time in the past for ever; pace the ticks, but by the
     * last tick, not by the last event, which would starve them under load. */
    if (e->role != ENGINE_LEADER && at < e->lease.promise_ms) /* of a candidacy */
        at = e->lease.promise_ms;
    return at > e->ticked_ms ? at : e->ticked_ms + 1;
}

uint64_t engine_timeout(const struct engine *e)
{
    uint64_t core_at = engine_core_timeout(e);
    uint64_t reads_at = reads_timeout(e);
    uint64_t lease_at = lease_timeout(e);
    uint64_t at = reads_at < core_at ? reads_at : core_at;

    return lease_at < at ? lease_at : at;
}

int engine_tick(struct engine *e, uint64_t now)
{
    struct core_update u;
    int result = 0;

    if (e->dead != 0)
        return e->dead;
    e->now = now;
    /* A tick before its time would make the core take peers for silent. */
    if (now >= engine_core_timeout(e)) {
        e->ticked_ms = now;
        step_open_window(e, 0, 0);
        result = engine_check(e, core_timeout(e->core, now, &u), "tick");
        if (result == 0)
            result = step_update(e, &u, NULL);
    }
    if (result == 0 && now >= reads_timeout(e))
        result = reads_flush(e);
    if (result == 0 && now >= lease_timeout(e))
        result = lease_tick(e);
    return result != 0 ? result : step_advance(e);
}

int engine_submit(struct engine *e, uint64_t now, struct entry *const *entries, size_t n,
                  uint64_t *first_index_out)
{
    if (e->dead != 0)
        return e->dead;
    e->now = now;
    if (n == 0 || n > UINT32_MAX)
        return KV_E_INVAL;
    for (size_t i = 0; i < n; i++)
        if (entries[i]->type != ENTRY_COMMAND)
            return KV_E_INVAL;
    if (e->role != ENGINE_LEADER || engine_transferring(e))
        return KV_E_NOTLEADER;
    /* Nothing commits before it is durable somewhere else: no step_advance(). */
    return step_submit(e, entries, n, first_index_out);
}

static bool is_other_voter(const struct engine *e, uint64_t id)
{
    for (unsigned i = 0; i < core_n_servers(e->core); i++)
        if (core_server_id(e->core, i) == id)
            return id != e->config.id && core_server_votes(e->core, i);
    return false;
}

int engine_transfer(struct engine *e, uint64_t now, uint64_t id)
{
    struct core_update u;
    int result;

    if (e->dead != 0)
        return e->dead;
    e->now = now;
    if (e->role != ENGINE_LEADER)
        return KV_E_NOTLEADER;
    if (engine_transferring(e))
        return KV_E_BUSY;
    e->transferred = true; /* no lease for the rest of this term: TimeoutNow can arrive late */
    if (id != 0 && !is_other_voter(e, id))
        return KV_E_NOENT;
    if (lease_delays_transfer(e, id))
        return 0;
    result = engine_check(e, core_transfer(e->core, now, id, &u), "transfer");
    if (result == 0)
        result = step_update(e, &u, NULL);
    return result != 0 ? result : step_advance(e);
}

/* ---- accessors ---- */

uint64_t engine_id(const struct engine *e)
{
    return e->config.id;
}

enum engine_role engine_role(const struct engine *e)
{
    return e->role;
}

uint64_t engine_term(const struct engine *e)
{
    return core_term(e->core);
}

uint64_t engine_vote(const struct engine *e)
{
    return core_vote(e->core);
}

uint64_t engine_leader(const struct engine *e)
{
    return core_leader(e->core);
}

bool engine_leader_ready(const struct engine *e)
{
    return e->role == ENGINE_LEADER && e->term_first != 0 && e->commit >= e->term_first;
}

bool engine_transferring(const struct engine *e)
{
    return core_transferee(e->core) != 0 || e->lease.transfer_waits;
}

uint64_t engine_commit_index(const struct engine *e)
{
    return e->commit;
}

uint64_t engine_applied_index(const struct engine *e)
{
    return e->applied;
}

uint64_t engine_stored_index(const struct engine *e)
{
    return core_stored_index(e->core);
}

uint64_t engine_snapshot_index(const struct engine *e)
{
    return e->snapshot.index;
}

uint64_t engine_first_index(const struct engine *e)
{
    return e->log.first;
}

uint64_t engine_last_index(const struct engine *e)
{
    return entry_log_last(&e->log);
}

uint64_t engine_log_bytes(const struct engine *e)
{
    return e->log.bytes;
}

struct entry *engine_entry_at(const struct engine *e, uint64_t index)
{
    return entry_log_at(&e->log, index);
}

uint64_t engine_term_at(const struct engine *e, uint64_t index)
{
    const struct entry *entry = entry_log_at(&e->log, index);

    if (entry != NULL)
        return entry->term;
    if (e->is_installing)
        return index == e->installing.index ? e->installing.term : 0;
    return index != 0 && index == e->snapshot.index ? e->snapshot.term : 0;
}

uint64_t engine_match_index(const struct engine *e, uint64_t peer)
{
    uint64_t match;

    return core_match_index(e->core, peer, &match) ? match : 0;
}

void engine_configuration(const struct engine *e, struct configuration *out)
{
    core_configuration(e->core, out);
}

uint64_t engine_uncommitted_change(const struct engine *e)
{
    return core_uncommitted_change(e->core);
}

bool engine_installing(const struct engine *e)
{
    return e->is_installing;
}
