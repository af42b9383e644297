#include "kvnode/writes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>

#include "kvnode/node_state.h"
#include "kvnode/peers.h"
#include "kvnode/stamps.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/hash.h"
#include "sync/base/log.h"
#include "sync/raft/entry.h"

/* Entries proposed and not yet applied; beyond it proposals wait here. */
#define IN_FLIGHT_MAX 8192
/* Commands waiting on this node; beyond it clients are told to come back. */
#define PENDING_MAX 65536
#define PENDING_BYTES_MAX (256UL * 1024 * 1024)
#define SUBMIT_BATCH 512

enum write_state { WRITE_WAITING, WRITE_FORWARDED, WRITE_SUBMITTED };

struct write_key {
    uint64_t session, seq;
    uint64_t part; /* 1 + number of a COMMAND_PART, which shares its command's seq; 0 */
};

struct write {
    struct write_key key;
    struct entry *entry; /* owned; the encoded command */
    enum write_state state;
    unsigned sent;     /* how often it was handed to a log or a peer: it may have been executed */
    uint64_t term, to; /* in which it was sent last, and to which leader */
    uint64_t deadline_ms;
    writes_done *done;
    void *arg;
    UT_hash_handle hh;
    TAILQ_ENTRY(write) order; /* in the order of arrival, and so of deadlines */
};

/* A command from a peer that waits for its turn to be proposed. */
struct proposal {
    struct entry *entry; /* owned */
    uint64_t peer;       /* who forwarded it, 0: this node */
    STAILQ_ENTRY(proposal) link;
};

enum session_state { SESSION_NONE, SESSION_ASKED, SESSION_READY };

struct writes {
    struct node *node; /* borrowed */
    struct write *by_key;
    TAILQ_HEAD(write_list, write) all;
    STAILQ_HEAD(, proposal) proposals; /* leader: to be proposed at the end of the turn */
    size_t n, bytes;
    bool retry; /* look for WRITE_WAITING at the end of the turn */
    bool lost;

    /* Writes without a session wait here until the node has one. */
    enum session_state session_state;
    uint64_t session, next_seq;
    uint8_t nonce[16];
    STAILQ_HEAD(, orphan) orphans;
    size_t n_orphans, orphan_bytes;

    /* The clock of time in which the cluster could be written to. */
    uint64_t available_ms, last_beat_ms, term;
    uint64_t base_elapsed_ms;

    /* The wall clock; the stored time counts from this index on, which was the log's end
     * when the term began. */
    struct stamps stamps;
    uint64_t stamps_from;
};

/* A write without a session, while the node's is being registered. */
struct orphan {
    struct command cmd; /* borrows from bytes */
    uint8_t *bytes;     /* owned: groups, node name and body */
    size_t len;
    writes_done *done;
    void *arg;
    uint64_t deadline_ms;
    STAILQ_ENTRY(orphan) link;
};

static void dispatch(struct writes *w, struct write *x);

struct writes *writes_new(struct node *node)
{
    struct writes *w = calloc(1, sizeof *w);

    if (w == NULL)
        return NULL;
    w->node = node;
    TAILQ_INIT(&w->all);
    STAILQ_INIT(&w->proposals);
    STAILQ_INIT(&w->orphans);
    return w;
}

static void write_free(struct writes *w, struct write *x)
{
    HASH_DEL(w->by_key, x);
    TAILQ_REMOVE(&w->all, x, order);
    w->n--;
    w->bytes -= x->entry->len;
    entry_put(x->entry);
    free(x);
}

static struct orphan *orphan_take(struct writes *w)
{
    struct orphan *o = STAILQ_FIRST(&w->orphans);

    STAILQ_REMOVE_HEAD(&w->orphans, link);
    w->n_orphans--;
    w->orphan_bytes -= o->len;
    return o;
}

static void orphan_free(struct orphan *o)
{
    free(o->bytes);
    free(o);
}

void writes_free(struct writes *w)
{
    if (w == NULL)
        return;
    while (!TAILQ_EMPTY(&w->all))
        write_free(w, TAILQ_FIRST(&w->all));
    while (!STAILQ_EMPTY(&w->proposals)) {
        struct proposal *p = STAILQ_FIRST(&w->proposals);

        STAILQ_REMOVE_HEAD(&w->proposals, link);
        entry_put(p->entry);
        free(p);
    }
    while (!STAILQ_EMPTY(&w->orphans))
        orphan_free(orphan_take(w));
    free(w);
}

size_t writes_pending(const struct writes *w)
{
    return w->n;
}

static struct write *find(struct writes *w, const struct write_key *key)
{
    struct write *x;

    HASH_FIND(hh, w->by_key, key, sizeof *key, x);
    return x;
}

/* Ends a write; x is gone afterwards. */
static void answer(struct writes *w, struct write *x, int code, const struct command_result *result)
{
    writes_done *done = x->done;
    void *arg = x->arg;

    write_free(w, x);
    done(arg, code, result);
}

static uint64_t part_of(const struct command *cmd)
{
    struct command_body body;

    if (cmd->op != COMMAND_PART || command_body_decode(cmd->op, cmd->body, cmd->body_len, &body) != KV_OK)
        return 0;
    return (uint64_t)body.part + 1;
}

/* ---- proposing, as leader ---- */

static int propose(struct writes *w, struct entry *e, uint64_t peer)
{
    struct proposal *p = malloc(sizeof *p);

    if (p == NULL)
        return KV_E_BUSY;
    p->entry = entry_ref(e);
    p->peer = peer;
    STAILQ_INSERT_TAIL(&w->proposals, p, link);
    return 0;
}

/* Tells the peer that its command was not taken. */
static void refuse(struct writes *w, uint64_t peer, const void *bytes, size_t len)
{
    struct command cmd;

    if (peer != 0 && command_decode(bytes, len, &cmd) == KV_OK)
        peers_send_refusal(w->node->peers, peer, cmd.session, cmd.seq, part_of(&cmd));
}

static uint64_t elapsed_now(const struct writes *w)
{
    uint64_t stored = store_elapsed_ms(w->node->store);
    uint64_t mine = w->base_elapsed_ms + w->available_ms;

    return mine > stored ? mine : stored;
}

static uint64_t wall_now(struct writes *w)
{
    struct node *n = w->node;
    uint64_t stored = store_applied(n->store) >= w->stamps_from ? store_wall_ns(n->store) : 0;

    return stamps_next(&w->stamps, clock_watch_wall_ns(n), clock_boot_ns(), stored);
}

/* Not shared with anybody before it is in the log: it may still be stamped. */
static void stamp(struct writes *w, struct entry *e, uint64_t elapsed)
{
    if (e->data[COMMAND_OP_AT] == COMMAND_CLOCK)
        stamps_setting_back(&w->stamps);
    command_set_clocks(e->data, wall_now(w), elapsed);
}

/* A leader without a state is about to hand over. */
static uint64_t applied_here(const struct node *n)
{
    return n->stateless ? consensus_commit(n->consensus) : store_applied(n->store);
}

void writes_turn_end(struct writes *w)
{
    struct node *n = w->node;
    struct entry *batch[SUBMIT_BATCH];

    if (w->retry) {
        struct write *x, *next;

        w->retry = false;
        for (x = TAILQ_FIRST(&w->all); x != NULL; x = next) {
            next = TAILQ_NEXT(x, order);
            if (x->state == WRITE_WAITING)
                dispatch(w, x);
        }
    }
    while (!STAILQ_EMPTY(&w->proposals)) {
        uint64_t elapsed = elapsed_now(w);
        size_t k = 0, i;
        struct proposal *p;
        int rv;

        if (consensus_last(n->consensus) - applied_here(n) > IN_FLIGHT_MAX ||
            (n->writeback != NULL && writeback_pending_bytes(n->writeback) > WRITEBACK_PENDING_MAX))
            break; /* the disk or the peers are behind: let them catch up */
        STAILQ_FOREACH(p, &w->proposals, link)
        {
            if (k == SUBMIT_BATCH)
                break;
            batch[k++] = p->entry;
        }
        for (i = 0; i < k; i++)
            stamp(w, batch[i], elapsed);
        rv = consensus_submit(n->consensus, batch, k);
        for (i = 0; i < k; i++) {
            p = STAILQ_FIRST(&w->proposals);
            STAILQ_REMOVE_HEAD(&w->proposals, link);
            if (rv != 0)
                refuse(w, p->peer, p->entry->data, p->entry->len);
            entry_put(p->entry);
            free(p);
        }
        if (rv != 0)
            w->lost = true;
    }
    if (w->lost) {
        /* Leadership went in this very turn. Ours are tried again at the next beat. */
        struct write *x;

        w->lost = false;
        TAILQ_FOREACH (x, &w->all, order) {
            if (x->state == WRITE_SUBMITTED)
                x->state = WRITE_WAITING;
        }
    }
}

int writes_forwarded(struct writes *w, uint64_t peer, const void *bytes, size_t len)
{
    struct command cmd;
    struct entry *e;

    if (command_decode(bytes, len, &cmd) != KV_OK || (cmd.session == 0 && cmd.op != COMMAND_REGISTER))
        return KV_E_PROTOCOL;
    e = consensus_is_leader(w->node->consensus) ? entry_new(ENTRY_COMMAND, bytes, len) : NULL;
    if (e == NULL || propose(w, e, peer) != 0)
        refuse(w, peer, bytes, len);
    entry_put(e);
    return 0;
}

/* ---- sending ---- */

static void dispatch(struct writes *w, struct write *x)
{
    struct node *n = w->node;

    if (consensus_is_leader(n->consensus)) {
        /* What was sent before may be in the log, in use: it stays as it is. */
        struct entry *e =
            x->sent > 0 ? entry_new(ENTRY_COMMAND, x->entry->data, x->entry->len) : entry_ref(x->entry);

        if (e == NULL || propose(w, e, 0) != 0) {
            entry_put(e);
            return;
        }
        entry_put(e);
        x->state = WRITE_SUBMITTED;
    } else if (consensus_leader(n->consensus) == 0 ||
               !peers_send_command(n->peers, consensus_leader(n->consensus), x->entry->data, x->entry->len)) {
        return;
    } else {
        x->state = WRITE_FORWARDED;
    }
    x->sent++;
    x->term = consensus_term(n->consensus);
    x->to = consensus_leader(n->consensus);
}

static int start(struct writes *w, const struct command *cmd, uint64_t deadline_ms, writes_done *done,
                 void *arg)
{
    struct buffer b = BUFFER_INIT;
    struct write *x, *old;
    int rv;

    x = calloc(1, sizeof *x);
    if (x == NULL)
        return KV_E_BUSY;
    x->key.session = cmd->session;
    x->key.seq = cmd->seq;
    x->key.part = part_of(cmd);
    /* A client that asks again (after reconnecting): the new question counts. */
    old = find(w, &x->key);
    if (old != NULL) {
        free(x);
        old->done(old->arg, KV_E_UNKNOWN, NULL);
        old->done = done;
        old->arg = arg;
        old->deadline_ms = deadline_ms;
        TAILQ_REMOVE(&w->all, old, order); /* deadlines grow along the list */
        TAILQ_INSERT_TAIL(&w->all, old, order);
        return 0;
    }
    command_encode(&b, cmd);
    x->entry = b.failed ? NULL : entry_new(ENTRY_COMMAND, b.data, b.len);
    rv = b.failed ? KV_E_BUSY : KV_E_FBIG;
    buffer_deinit(&b);
    if (x->entry == NULL) {
        free(x);
        return rv;
    }
    x->done = done;
    x->arg = arg;
    x->deadline_ms = deadline_ms;
    HASH_ADD(hh, w->by_key, key, sizeof x->key, x);
    if (!HASH_ADDED(hh, x)) {
        entry_put(x->entry);
        free(x);
        return KV_E_BUSY;
    }
    TAILQ_INSERT_TAIL(&w->all, x, order);
    w->n++;
    w->bytes += x->entry->len;
    dispatch(w, x);
    return 0;
}

/* ---- the node's own session ---- */

static void on_registered(void *arg, int code, const struct command_result *result);

static void ask_for_session(struct writes *w)
{
    struct buffer b = BUFFER_INIT;
    struct command_body body = {.nonce = w->nonce, .name = (const uint8_t *)"node", .name_len = 4};
    struct command cmd = {.op = COMMAND_REGISTER, .flags = COMMAND_TRUSTED};
    const char *name = w->node->config->name;

    if (getrandom(w->nonce, sizeof w->nonce, 0) != (ssize_t)sizeof w->nonce)
        return;
    command_body_encode(&b, COMMAND_REGISTER, &body);
    memcpy(&cmd.seq, w->nonce, sizeof cmd.seq);
    cmd.node = name;
    cmd.node_len = strlen(name);
    cmd.body = b.data;
    cmd.body_len = b.len;
    if (!b.failed && start(w, &cmd, clock_boot_ms() + NODE_REQUEST_MS, on_registered, w) == 0)
        w->session_state = SESSION_ASKED;
    buffer_deinit(&b);
}

static void with_node_session(struct writes *w, struct command *cmd)
{
    struct write *x;

    cmd->session = w->session;
    cmd->seq = w->next_seq++;
    cmd->acked_below = cmd->seq;
    /* The lowest number of ours that still waits; arrivals are in order. */
    TAILQ_FOREACH (x, &w->all, order) {
        if (x->key.session == w->session) {
            cmd->acked_below = x->key.seq;
            break;
        }
    }
}

static void on_registered(void *arg, int code, const struct command_result *result)
{
    struct writes *w = arg;
    uint64_t now = clock_boot_ms();
    bool ok = code == 0 && result->code == KV_OK;

    w->session_state = ok ? SESSION_READY : SESSION_NONE;
    if (ok) {
        w->session = result->session;
        w->next_seq = 1;
    } else if (code == 0) {
        code = result->code;
    }
    while (!STAILQ_EMPTY(&w->orphans)) {
        struct orphan *o = orphan_take(w);
        int rv = ok ? 0 : code;

        if (rv == 0 && now < o->deadline_ms) {
            with_node_session(w, &o->cmd);
            rv = start(w, &o->cmd, o->deadline_ms, o->done, o->arg);
        } else if (rv == 0 || rv == KV_E_UNKNOWN) {
            rv = KV_E_UNAVAILABLE; /* only the registration may have happened */
        }
        if (rv != 0)
            o->done(o->arg, rv, NULL);
        orphan_free(o);
    }
}

static int start_orphan(struct writes *w, const struct command *cmd, writes_done *done, void *arg)
{
    size_t groups = (size_t)cmd->n_groups * sizeof(uint32_t);
    struct orphan *o = calloc(1, sizeof *o);

    if (o == NULL)
        return KV_E_BUSY;
    o->len = groups + cmd->node_len + cmd->body_len;
    o->bytes = malloc(o->len + 1);
    if (o->bytes == NULL) {
        free(o);
        return KV_E_BUSY;
    }
    o->cmd = *cmd;
    if (groups > 0)
        memcpy(o->bytes, cmd->groups, groups);
    memcpy(o->bytes + groups, cmd->node, cmd->node_len);
    if (cmd->body_len > 0)
        memcpy(o->bytes + groups + cmd->node_len, cmd->body, cmd->body_len);
    o->cmd.groups = o->bytes;
    o->cmd.node = (const char *)o->bytes + groups;
    o->cmd.body = o->bytes + groups + cmd->node_len;
    o->done = done;
    o->arg = arg;
    o->deadline_ms = clock_boot_ms() + NODE_REQUEST_MS;
    STAILQ_INSERT_TAIL(&w->orphans, o, link);
    w->n_orphans++;
    w->orphan_bytes += o->len;
    if (w->session_state == SESSION_NONE)
        ask_for_session(w);
    return 0;
}

/* ---- the client's side ---- */

int writes_start(struct writes *w, const struct command *cmd, writes_done *done, void *arg)
{
    struct command copy = *cmd;
    struct command_result result;
    struct command_body body;
    int rv;

    if (node_in_minority(w->node))
        return KV_E_ROFS;
    if (node_disk_full(w->node))
        return KV_E_NOSPC;
    if (w->n + w->n_orphans >= PENDING_MAX || w->bytes + w->orphan_bytes >= PENDING_BYTES_MAX)
        return KV_E_BUSY;
    if (cmd->op == COMMAND_REGISTER) {
        /* No session yet: the nonce tells it from others. */
        rv = command_body_decode(cmd->op, cmd->body, cmd->body_len, &body);
        if (rv != KV_OK)
            return rv;
        copy.session = 0;
        memcpy(&copy.seq, body.nonce, sizeof copy.seq);
    } else if (cmd->session == 0) {
        if (w->session_state != SESSION_READY)
            return start_orphan(w, cmd, done, arg);
        with_node_session(w, &copy);
    } else if (cmd->session == w->session) {
        return KV_E_SESSION; /* the node's own is lent through 0 only: its numbers are counted here */
    } else if (cmd->op != COMMAND_PART) {
        rv = store_session_result(w->node->store, cmd->session, cmd->seq, &result);
        if (rv == KV_E_DUPLICATE)
            return rv;
        if (rv == 1) {
            done(arg, KV_OK, &result);
            return 0;
        }
    }
    return start(w, &copy, clock_boot_ms() + NODE_REQUEST_MS, done, arg);
}

/* The node's own session has ended (it was idle for long), or somebody else has
 * used it up through another node (no number of ours can be a duplicate of
 * itself): what was sent only once under it was surely not executed, and goes
 * again under a new one. */
static void renew_session(struct writes *w, struct write *x)
{
    struct command cmd;
    writes_done *done = x->done;
    void *arg = x->arg;
    bool again = x->sent <= 1 && command_decode(x->entry->data, x->entry->len, &cmd) == KV_OK;
    int rv = KV_E_UNKNOWN;

    if (w->session == x->key.session && w->session_state == SESSION_READY)
        w->session_state = SESSION_NONE;
    if (again) {
        rv = start_orphan(w, &cmd, done, arg);
        if (rv == 0 && w->session_state == SESSION_READY)
            on_registered(w, 0, &(struct command_result){.code = KV_OK, .session = w->session});
    }
    write_free(w, x);
    if (rv != 0)
        done(arg, rv, NULL);
}

void writes_applied(struct writes *w, const struct command *cmd, const struct command_result *result)
{
    struct write_key key;
    struct write *x;

    if (cmd->op == COMMAND_CLOCK)
        stamps_set_back(&w->stamps);
    if (w->n == 0)
        return;
    memset(&key, 0, sizeof key);
    key.session = cmd->session;
    key.seq = cmd->seq;
    key.part = part_of(cmd);
    x = find(w, &key);
    if (x == NULL)
        return;
    if ((result->code == KV_E_SESSION || result->code == KV_E_DUPLICATE) && w->session != 0 &&
        key.session == w->session)
        renew_session(w, x);
    else
        answer(w, x, KV_OK, result);
}

void writes_refused(struct writes *w, uint64_t session, uint64_t seq, uint64_t part)
{
    struct write_key key;
    struct write *x;

    memset(&key, 0, sizeof key);
    key.session = session;
    key.seq = seq;
    key.part = part;
    x = find(w, &key);
    if (x != NULL && x->state == WRITE_FORWARDED)
        x->state = WRITE_WAITING; /* until leadership changes, or the next beat */
}

void writes_retry(struct writes *w, bool new_link)
{
    uint64_t term = consensus_term(w->node->consensus), leader = consensus_leader(w->node->consensus);
    bool leads = consensus_is_leader(w->node->consensus);
    struct write *x;

    TAILQ_FOREACH (x, &w->all, order) {
        /* The term may be new while the leader known is still the last one's. */
        bool same = x->term == term && x->to == leader;

        if (x->state == WRITE_SUBMITTED && !(same && leads))
            x->state = WRITE_WAITING;
        else if (x->state == WRITE_FORWARDED && (!same || leads || new_link))
            x->state = WRITE_WAITING;
    }
    w->retry = true;
}

void writes_recheck(struct writes *w)
{
    struct write *x, *next;

    for (x = TAILQ_FIRST(&w->all); x != NULL; x = next) {
        struct command_result result;
        int rv;

        next = TAILQ_NEXT(x, order);
        if (x->key.session == 0 || x->key.part != 0)
            continue; /* asked again; the nonce and the part's number tell duplicates */
        rv = store_session_result(w->node->store, x->key.session, x->key.seq, &result);
        if (rv == 1)
            answer(w, x, KV_OK, &result);
        else if (rv != 0)
            answer(w, x, KV_E_UNKNOWN, NULL);
    }
    writes_retry(w, true);
}

void writes_beat(struct writes *w, uint64_t now_ms)
{
    struct node *n = w->node;
    bool full = node_disk_full(n); /* their results would never be seen here */
    struct write *x;
    struct orphan *o;

    /* Time counts only while a majority confirms this leader. */
    if (!consensus_is_leader(n->consensus)) {
        w->term = 0;
    } else if (w->term != consensus_term(n->consensus)) {
        w->term = consensus_term(n->consensus);
        w->base_elapsed_ms = store_elapsed_ms(n->store);
        w->available_ms = 0;
        w->stamps = (struct stamps){0};
        w->stamps_from = consensus_last(n->consensus);
    } else if (consensus_lease_valid(n->consensus)) {
        uint64_t beat = n->config->heartbeat_ms, passed = now_ms - w->last_beat_ms;

        w->available_ms += passed < 2 * beat ? passed : beat;
    }
    w->last_beat_ms = now_ms;

    while ((x = TAILQ_FIRST(&w->all)) != NULL && (full || x->deadline_ms <= now_ms))
        answer(w, x, x->sent > 0 ? KV_E_UNKNOWN : full ? KV_E_NOSPC : KV_E_UNAVAILABLE, NULL);
    while ((o = STAILQ_FIRST(&w->orphans)) != NULL && (full || o->deadline_ms <= now_ms)) {
        orphan_take(w);
        o->done(o->arg, full ? KV_E_NOSPC : KV_E_UNAVAILABLE, NULL);
        orphan_free(o);
    }
    if (!STAILQ_EMPTY(&w->orphans) && w->session_state == SESSION_NONE)
        ask_for_session(w);
    w->retry = true;
}

void writes_stop(struct writes *w)
{
    struct write *x;
    struct orphan *o;

    while ((x = TAILQ_FIRST(&w->all)) != NULL)
        answer(w, x, x->sent > 0 ? KV_E_UNKNOWN : KV_E_UNAVAILABLE, NULL);
    while (!STAILQ_EMPTY(&w->orphans)) {
        o = orphan_take(w);
        o->done(o->arg, KV_E_UNAVAILABLE, NULL);
        orphan_free(o);
    }
}
