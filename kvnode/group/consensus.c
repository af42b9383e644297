#include "kvnode/group/consensus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"
#include "sync/raft/engine/engine.h"

#define LEASE_MS 200 /* of a read lease: so long, once, writers wait for a holder that does not answer */
#define EXIT_DAMAGED 70
/* How long a leader with a full disk waits between two tries to hand over, and a
 * node with one before it says so again. */
#define HAND_OVER_EVERY_MS 2000
#define SAY_FULL_EVERY_MS 60000
/* A node that lags by more takes in no more than this a second, so that the leader
 * and those whom it serves hardly notice (DESIGN.md); and always twice as much as
 * the leader commits, so that it does catch up. */
#define PACE_BEHIND 10000
#define PACE_PER_S 35000
#define COMMIT_RATE_MS 200 /* measured over so long */
#define PACE_BURST_NS 20000000
#define PACE_MAX_MS 20 /* at a time */

struct consensus {
    struct consensus_config config;
    struct consensus_callbacks callbacks;
    struct engine *engine;    /* owned */
    struct log_store *store;  /* borrowed from config.log */
    struct log_store_log log; /* what was loaded, until the start */
    struct buffer completed;  /* by log.db, and the engine does not know yet: types, a byte each */
    uv_timer_t timer;
    uv_timer_t pace; /* runs while they have to wait: */
    bool paced;
    uint64_t leader_commit; /* as the leader said last */
    uint64_t rate_from, rate_since_ms, commits_per_s;
    uint64_t paced_until; /* clock_boot_ns() */
    uint64_t timer_at;    /* what the timer is set to, 0: nothing */
    uint64_t hand_over_at, say_full_at;
    unsigned handles; /* not yet closed */
    bool started, closing;
    bool voteless, contradicted;
    bool leadership_changed;
    /* As told last through on_leadership. */
    uint64_t told_leader, told_term;
    bool told_ready;
};

static void die(struct consensus *c, int error, const char *doing)
{
    const char *why = c->engine != NULL ? engine_failure(c->engine) : NULL;

    if (error == ENGINE_CONTRADICTED && !c->contradicted) {
        c->contradicted = true; /* once: writing that down may fail, too */
        log_error("%s: %s", doing, why);
        c->callbacks.on_contradiction(c->callbacks.arg);
        _exit(EXIT_DAMAGED);
    }
    log_error("%s: %s; this process ends, what this node acknowledged is safe in its log.db", doing,
              why != NULL ? why : "the log cannot be written");
    _exit(EXIT_DAMAGED);
}

/* Everything that the engine returns passes here: a dead engine ends the process. */
static int checked(struct consensus *c, int rv, const char *doing)
{
    if (rv < 0)
        die(c, rv, doing);
    return rv;
}

/* ---- the engine's operations ---- */

static int op_save_term(void *ctx, uint64_t term, uint64_t vote)
{
    struct consensus *c = ctx;
    uint64_t since = clock_boot_ns();
    int rv = log_store_save_term(c->store, c->config.group, term, vote);

    shared_log_waited(c->config.log, since);
    return rv;
}

static void note_leader_commit(struct consensus *c, uint64_t commit)
{
    uint64_t now = clock_boot_ms(), ms = now - c->rate_since_ms;

    c->leader_commit = commit;
    if (c->rate_since_ms != 0 && commit >= c->rate_from && ms < COMMIT_RATE_MS)
        return;
    c->commits_per_s =
        c->rate_since_ms != 0 && commit > c->rate_from ? (commit - c->rate_from) * 1000 / ms : 0;
    c->rate_from = commit;
    c->rate_since_ms = now;
}

/* n entries are to be stored: when may the leader learn of it, and send more? */
static void pace(struct consensus *c, uint64_t last, size_t n)
{
    uint64_t per_s = 2 * c->commits_per_s > PACE_PER_S ? 2 * c->commits_per_s : PACE_PER_S;
    uint64_t now = clock_boot_ns();

    if (c->leader_commit < last + PACE_BEHIND)
        return;
    if (c->paced_until + PACE_BURST_NS < now)
        c->paced_until = now - PACE_BURST_NS;
    c->paced_until += n * UINT64_C(1000000000) / per_s;
}

static int op_save_entries(void *ctx, uint64_t index, struct entry *const *entries, size_t n, bool flush)
{
    struct consensus *c = ctx;
    int rv = log_store_append(c->store, c->config.group, index, entries, n);

    pace(c, index + n, n);
    if (rv == 0 && flush)
        rv = shared_log_sync(c->config.log);
    return rv;
}

static int op_trim_log(void *ctx, const struct snapshot_meta *meta, uint64_t keep_from)
{
    struct consensus *c = ctx;

    return log_store_trim(c->store, c->config.group, meta, keep_from);
}

static int op_install(void *ctx, const struct snapshot_meta *meta)
{
    struct consensus *c = ctx;

    c->callbacks.install(c->callbacks.arg, meta);
    return 0;
}

/* Messages that a server without a vote has no part in. */
static bool is_about_votes(const struct engine_message *m)
{
    return m->type == RAFT_MESSAGE_VOTE || m->type == RAFT_MESSAGE_VOTE_RESULT ||
           m->type == RAFT_MESSAGE_TIMEOUT_NOW;
}

static void op_send(void *ctx, struct engine_message *m)
{
    struct consensus *c = ctx;
    struct buffer *out = NULL;

    if (!c->voteless || !is_about_votes(m))
        out = c->callbacks.send_begin(c->callbacks.arg, m->to,
                                      m->type == RAFT_MESSAGE_LEASE || m->type == RAFT_MESSAGE_GRANT);
    if (out != NULL) {
        message_encode(m, out);
        c->callbacks.send_end(c->callbacks.arg, m->to);
    }
    message_free(m);
}

static void op_send_snapshot(void *ctx, uint64_t peer)
{
    struct consensus *c = ctx;

    c->callbacks.send_snapshot(c->callbacks.arg, peer);
}

static int op_apply(void *ctx, uint64_t index, struct entry *e)
{
    struct consensus *c = ctx;

    (void)index;
    (void)e;
    c->callbacks.committed(c->callbacks.arg);
    return 0;
}

static void op_on_role(void *ctx, enum engine_role role, uint64_t term)
{
    static const char *const names[] = {"follows", "stands for election", "leads"};
    struct consensus *c = ctx;

    log_info("%s, term %llu", names[role], (unsigned long long)term);
    c->leadership_changed = true;
}

static void op_on_read(void *ctx, uint64_t token, uint64_t index, int result)
{
    struct consensus *c = ctx;

    c->callbacks.on_read(c->callbacks.arg, token, index, result);
}

static void op_on_log_shorter(void *ctx, uint64_t peer, uint64_t index, uint64_t match)
{
    struct consensus *c = ctx;

    if (c->callbacks.on_log_shorter != NULL)
        c->callbacks.on_log_shorter(c->callbacks.arg, peer, index, match);
}

/* ---- the loop ---- */

static void take_completions(struct consensus *c)
{
    size_t i;

    for (i = 0; i < c->completed.len && c->started; i++) {
        uint64_t now = clock_boot_ms();

        if (c->completed.data[i] == LOG_STORE_APPENDED)
            checked(c, engine_entries_saved(c->engine, now), "after a write of log.db");
        else
            checked(c, engine_snapshot_installed(c->engine, now), "after an install");
    }
    buffer_clear(&c->completed);
}

static void on_completed(void *arg, enum log_store_event_type type)
{
    struct consensus *c = arg;

    if (!c->started)
        return;
    buffer_put_u8(&c->completed, (uint8_t)type);
    if (c->completed.failed)
        die(c, -ENOMEM, "after a write of log.db");
}

static void on_pace(uv_timer_t *timer)
{
    struct consensus *c = timer->data;

    c->paced = false;
    if (!c->closing)
        take_completions(c);
}

static void on_woken(void *arg)
{
    struct consensus *c = arg;
    uint64_t now = clock_boot_ns();
    uint64_t ms = c->paced_until > now ? (c->paced_until - now) / 1000000 : 0;

    if (ms == 0) {
        take_completions(c);
    } else if (!c->paced) {
        c->paced = true;
        uv_timer_start(&c->pace, on_pace, ms < PACE_MAX_MS ? ms : PACE_MAX_MS, 0);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct consensus *c = timer->data;
    uint64_t now = clock_boot_ms();

    c->timer_at = 0;
    if (c->started && now >= engine_timeout(c->engine))
        checked(c, engine_tick(c->engine, now), "in a tick");
}

static void arm(struct consensus *c)
{
    uint64_t at = engine_timeout(c->engine);
    uint64_t now = clock_boot_ms();

    if (c->timer_at == at)
        return;
    c->timer_at = at;
    uv_timer_start(&c->timer, on_timer, at > now ? at - now : 0, 0);
}

static void tell_leadership(struct consensus *c)
{
    uint64_t leader = engine_leader(c->engine), term = engine_term(c->engine);
    bool ready = engine_leader_ready(c->engine);

    if (!c->leadership_changed && leader == c->told_leader && term == c->told_term && ready == c->told_ready)
        return;
    c->leadership_changed = false;
    c->told_leader = leader;
    c->told_term = term;
    c->told_ready = ready;
    c->callbacks.on_leadership(c->callbacks.arg);
}

void consensus_turn_end(struct consensus *c)
{
    uint64_t now = clock_boot_ms();

    if (!c->started || c->closing)
        return;
    checked(c, engine_flush(c->engine, now), "at the end of a turn");
    if (log_store_state(c->store) == LOG_STORE_FULL && now >= c->hand_over_at) {
        c->hand_over_at = now + HAND_OVER_EVERY_MS;
        if (now >= c->say_full_at) {
            c->say_full_at = now + SAY_FULL_EVERY_MS;
            log_error("the disk with log.db is full: this node acknowledges nothing; make room on it");
        }
        if (engine_role(c->engine) == ENGINE_LEADER)
            checked(c, engine_transfer(c->engine, now, 0), "handing over");
    }
    tell_leadership(c);
    arm(c);
}

/* ---- life ---- */

int consensus_open(const struct consensus_config *config, uv_loop_t *loop,
                   const struct consensus_callbacks *callbacks, struct consensus **out, bool *exists_out,
                   char *why)
{
    struct engine_ops ops = {.save_term = op_save_term,
                             .save_entries = op_save_entries,
                             .trim_log = op_trim_log,
                             .install = op_install,
                             .send = op_send,
                             .send_snapshot = op_send_snapshot,
                             .apply = op_apply,
                             .on_role = op_on_role,
                             .on_read = op_on_read,
                             .on_log_shorter = op_on_log_shorter};
    struct shared_log_member member = {
        .group = config->group, .on_completed = on_completed, .on_woken = on_woken};
    struct engine_config ec;
    struct consensus *c = calloc(1, sizeof *c);
    int rv;

    *out = NULL;
    if (c == NULL)
        return -ENOMEM;
    c->config = *config;
    c->callbacks = *callbacks;
    c->store = shared_log_store(config->log);
    c->timer.data = c->pace.data = c;
    uv_timer_init(loop, &c->timer);
    uv_timer_init(loop, &c->pace);
    c->handles = 2;
    member.arg = c;
    rv = shared_log_join(config->log, &member);
    if (rv != 0)
        goto err;
    rv = log_store_load(c->store, config->group, &c->log, why);
    if (rv != 0)
        goto err;
    engine_config_defaults(&ec);
    ec.id = config->id;
    ec.election_ms = config->election_ms;
    ec.heartbeat_ms = config->heartbeat_ms;
    ec.keep_entries = (uint32_t)config->keep_entries;
    ec.keep_bytes = config->keep_bytes;
    if (getrandom(&ec.seed, sizeof ec.seed, 0) != (ssize_t)sizeof ec.seed)
        ec.seed = (uint32_t)clock_boot_ns();
    ops.ctx = c;
    ec.lease_ms = config->election_ms * 2 / 5 < LEASE_MS ? config->election_ms * 2 / 5 : LEASE_MS;
    rv = engine_new(&ec, &ops, &c->engine);
    if (rv == 0)
        engine_refuse_leases(c->engine, true);
    if (rv != 0)
        goto err;
    *exists_out = c->log.n_entries > 0 || c->log.snapshot.index > 0;
    *out = c;
    return 0;

err:
    consensus_close(c);
    return rv;
}

uint64_t consensus_log_begins_behind(const struct consensus *c)
{
    return c->log.start_index > 0 ? c->log.start_index - 1 : 0;
}

int consensus_found(struct consensus *c, const struct configuration *founders, uint64_t term, uint64_t vote)
{
    struct entry *change = configuration_encode(founders);
    uint64_t since = clock_boot_ns();
    int rv;

    if (change == NULL)
        return -ENOMEM;
    change->term = 1;
    /* The term first: a log without one is none that can be started with. */
    rv = log_store_save_term(c->store, c->config.group, term, vote);
    if (rv == 0)
        rv = log_store_append(c->store, c->config.group, 1, &change, 1);
    entry_put(change);
    if (rv == 0)
        rv = log_store_sync(c->store);
    shared_log_waited(c->config.log, since);
    if (rv != 0)
        return rv < 0 ? rv : -ENOSPC;
    log_store_log_deinit(&c->log);
    memset(&c->log, 0, sizeof c->log);
    return 0;
}

void consensus_stored_end(const struct consensus *c, uint64_t *index_out, uint64_t *term_out)
{
    *index_out = c->log.n_entries > 0        ? c->log.start_index + c->log.n_entries - 1
                 : c->log.snapshot.index > 0 ? c->log.start_index - 1
                                             : 0;
    *term_out = c->log.term;
}

bool consensus_started(const struct consensus *c)
{
    return c->started;
}

void consensus_freeze(struct consensus *c)
{
    c->started = false;
    c->leadership_changed = false;
}

void consensus_set_voting(struct consensus *c, bool voting)
{
    c->voteless = !voting;
}

int consensus_finish_install(struct consensus *c, const struct snapshot_meta *meta)
{
    int rv;

    if (c->log.snapshot.index >= meta->index)
        return 0; /* the log had been reset before the end came */
    rv = log_store_reset(c->store, c->config.group, meta);
    if (rv == 0)
        rv = log_store_sync(c->store);
    if (rv != 0)
        return rv < 0 ? rv : -ENOSPC;
    log_store_log_deinit(&c->log);
    memset(&c->log, 0, sizeof c->log);
    return 0;
}

int consensus_start(struct consensus *c, uint64_t applied, char *why)
{
    struct engine_stored stored = {0};
    int rv = 0;

    /* After founding or a completed install the file is the truth. */
    if (!c->log.exists || c->log.start_index == 0)
        rv = log_store_load(c->store, c->config.group, &c->log, why);
    if (rv != 0)
        return rv;
    shared_log_tell(c->config.log); /* of what was stored before the start, nobody waits to hear */
    stored.term = c->log.term;
    stored.vote = c->log.vote;
    stored.snapshot = c->log.snapshot.index > 0 ? &c->log.snapshot : NULL;
    stored.start_index = c->log.start_index;
    stored.entries = c->log.entries;
    stored.n_entries = c->log.n_entries;
    stored.applied_index = applied;
    c->started = true;
    rv = engine_start(c->engine, clock_boot_ms(), &stored);
    log_store_log_deinit(&c->log);
    memset(&c->log, 0, sizeof c->log);
    if (rv != 0) {
        const char *reason = engine_failure(c->engine);

        strncpy(why, reason != NULL ? reason : "the log does not fit the state", LOG_STORE_ERROR_LEN - 1);
        why[LOG_STORE_ERROR_LEN - 1] = '\0';
        return rv < 0 ? rv : -EBADMSG;
    }
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct consensus *c = handle->data;

    if (--c->handles == 0)
        free(c);
}

void consensus_close(struct consensus *c)
{
    if (c == NULL)
        return;
    c->closing = true;
    shared_log_leave(c->config.log, c->config.group);
    engine_free(c->engine);
    log_store_log_deinit(&c->log);
    buffer_deinit(&c->completed);
    uv_close((uv_handle_t *)&c->timer, on_closed);
    uv_close((uv_handle_t *)&c->pace, on_closed);
}

/* ---- requests ---- */

int consensus_receive(struct consensus *c, uint64_t peer, const void *data, size_t len)
{
    struct engine_message *m;
    int rv = message_decode(data, len, &m);

    if (rv != 0)
        return rv > 0 ? rv : KV_E_BUSY;
    /* The link is bound to one identity; nobody speaks for another. */
    if (m->from != peer || m->to != engine_id(c->engine) || m->type == RAFT_MESSAGE_INSTALL) {
        message_free(m);
        return KV_E_PROTOCOL;
    }
    if (!c->started || (c->voteless && is_about_votes(m))) {
        message_free(m);
        return 0;
    }
    if (m->type == RAFT_MESSAGE_APPEND)
        note_leader_commit(c, m->append.leader_commit);
    return checked(c, engine_receive(c->engine, clock_boot_ms(), m), "on a message");
}

int consensus_submit(struct consensus *c, struct entry *const *entries, size_t n)
{
    if (!c->started)
        return KV_E_NOTLEADER;
    return checked(c, engine_submit(c->engine, clock_boot_ms(), entries, n, NULL), "on a submit");
}

int consensus_read_index(struct consensus *c, uint64_t token)
{
    if (!c->started)
        return KV_E_NOTLEADER;
    return checked(c, engine_read_index(c->engine, clock_boot_ms(), token), "on a read");
}

bool consensus_lease_valid(struct consensus *c)
{
    return c->started && engine_lease_valid(c->engine, clock_boot_ms());
}

void consensus_want_lease(struct consensus *c, bool want)
{
    if (c->started && !c->closing)
        checked(c, engine_want_lease(c->engine, clock_boot_ms(), want), "about a lease");
}

void consensus_refuse_leases(struct consensus *c, bool refuse)
{
    engine_refuse_leases(c->engine, refuse);
}

uint64_t consensus_accepted(const struct consensus *c)
{
    return engine_accepted_index(c->engine);
}

void consensus_invalidated(struct consensus *c, uint64_t index)
{
    if (c->started && !c->closing)
        checked(c, engine_invalidated(c->engine, clock_boot_ms(), index), "about a lease");
}

uint64_t consensus_invalidated_index(const struct consensus *c)
{
    return engine_invalidated_index(c->engine);
}

uint64_t consensus_lease_until(const struct consensus *c)
{
    return c->started && !c->closing ? engine_lease_until(c->engine) : 0;
}

int consensus_transfer(struct consensus *c, uint64_t to)
{
    if (!c->started)
        return KV_E_NOTLEADER;
    return checked(c, engine_transfer(c->engine, clock_boot_ms(), to), "on a transfer");
}

void consensus_state_durable(struct consensus *c, uint64_t index)
{
    if (c->started)
        checked(c, engine_state_durable(c->engine, clock_boot_ms(), index), "trimming the log");
}

int consensus_snapshot_meta(struct consensus *c, uint64_t index, struct snapshot_meta *meta_out)
{
    return checked(c, engine_snapshot_meta(c->engine, index, meta_out), "labelling a snapshot");
}

int consensus_pin_log(struct consensus *c, uint64_t index)
{
    return checked(c, engine_pin_log(c->engine, index), "keeping the log");
}

void consensus_unpin_log(struct consensus *c, uint64_t index)
{
    engine_unpin_log(c->engine, index);
}

void consensus_snapshot_sent(struct consensus *c, uint64_t peer)
{
    engine_snapshot_sent(c->engine, clock_boot_ms(), peer);
}

void consensus_snapshot_failed(struct consensus *c, uint64_t peer)
{
    engine_snapshot_failed(c->engine, peer);
}

bool consensus_snapshot_received(struct consensus *c, uint64_t from, uint64_t term,
                                 const struct snapshot_meta *meta)
{
    struct engine_message *m;

    if (!c->started)
        return false;
    m = message_new_install(from, engine_id(c->engine), term, meta);

    if (m == NULL)
        return false;
    checked(c, engine_receive(c->engine, clock_boot_ms(), m), "on a snapshot");
    return engine_installing(c->engine);
}

void consensus_reset_log(struct consensus *c, const struct snapshot_meta *meta)
{
    checked(c, log_store_reset(c->store, c->config.group, meta), "resetting the log");
}

struct entry *consensus_entry(const struct consensus *c, uint64_t index)
{
    return engine_entry_at(c->engine, index);
}

uint64_t consensus_applied(const struct consensus *c)
{
    return engine_applied_index(c->engine);
}

/* ---- accessors ---- */

uint64_t consensus_leader(const struct consensus *c)
{
    return c->started ? engine_leader(c->engine) : 0;
}

bool consensus_is_leader(const struct consensus *c)
{
    return c->started && engine_role(c->engine) == ENGINE_LEADER;
}

bool consensus_leader_ready(const struct consensus *c)
{
    return c->started && engine_leader_ready(c->engine) && !engine_transferring(c->engine);
}

bool consensus_is_candidate(const struct consensus *c)
{
    return c->started && engine_role(c->engine) == ENGINE_CANDIDATE;
}

uint64_t consensus_term(const struct consensus *c)
{
    return engine_term(c->engine);
}

uint64_t consensus_commit(const struct consensus *c)
{
    return engine_commit_index(c->engine);
}

uint64_t consensus_first(const struct consensus *c)
{
    return engine_first_index(c->engine);
}

uint64_t consensus_last(const struct consensus *c)
{
    return engine_last_index(c->engine);
}

uint64_t consensus_stored(const struct consensus *c)
{
    return engine_stored_index(c->engine);
}

uint64_t consensus_match(const struct consensus *c, uint64_t peer)
{
    return consensus_is_leader(c) ? engine_match_index(c->engine, peer) : 0;
}

bool consensus_disk_full(const struct consensus *c)
{
    return log_store_state(c->store) == LOG_STORE_FULL;
}

void consensus_members(const struct consensus *c, void *arg,
                       void (*emit)(void *arg, uint64_t id, const char *address, bool voter))
{
    static struct configuration conf; /* 9 KiB: not on the stack; the loop is one thread */
    unsigned i;

    engine_configuration(c->engine, &conf);
    for (i = 0; i < conf.n; i++)
        emit(arg, conf.servers[i].id, conf.servers[i].address, conf.servers[i].role == SERVER_VOTER);
}

struct entry *consensus_first_entry(const struct consensus *c, uint64_t for_id)
{
    static struct configuration conf;
    struct entry *first = engine_entry_at(c->engine, 1);

    engine_configuration(c->engine, &conf);
    if (configuration_find(&conf, for_id) == NULL)
        return NULL;
    /* Once the first entry is trimmed, a new node gets a state file in its place. */
    return first != NULL ? entry_ref(first) : configuration_encode(&conf);
}

unsigned consensus_voters(const struct consensus *c)
{
    static struct configuration conf;

    engine_configuration(c->engine, &conf);
    return configuration_voters(&conf);
}
