#include "kvnode/group/writes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "kvnode/group/fair_queue.h"
#include "kvnode/group/large_room.h"
#include "kvnode/group/level.h"
#include "kvnode/group/own_session.h"
#include "kvnode/group/stamps.h"
#include "kvnode/group/group.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/hash.h"
#include "sync/base/log.h"
#include "sync/raft/engine/entry.h"

/* Entries proposed and not yet applied; beyond it proposals wait here. */
#define IN_FLIGHT_MAX 8192
/* Commands waiting on this node; beyond it clients are told to come back. */
#define PENDING_MAX 65536
#define PENDING_BYTES_MAX (256UL * 1024 * 1024)
#define SUBMIT_BATCH 512
/* Large ones stop well before the write-behind's cap, at which all do. */
#define LARGE_WRITEBACK_MAX (WRITEBACK_PENDING_MAX / 4 * 3)
/* Of one peer, waiting to be proposed. */
#define PEER_PENDING_MAX 16384
#define PEER_BYTES_MAX (64UL << 20)

enum write_state { WRITE_WAITING, WRITE_QUEUED, WRITE_FORWARDED, WRITE_SUBMITTED };

struct write_key {
    uint64_t session, seq;
    uint64_t part; /* 1 + number of a COMMAND_PART, which shares its command's seq; 0 */
};

struct write {
    struct write_key key;
    struct entry *entry; /* owned; the encoded command */
    enum write_state state;
    struct fair_item *item; /* WRITE_QUEUED: its place */
    bool large;
    uint64_t sent_ms;
    unsigned sent; /* how often it was handed to a log or a peer and not refused: it may have been executed */
    uint64_t batch;    /* with which it was handed to the log last; 0: it was not */
    uint64_t term, to; /* in which it was sent last, and to which leader */
    uint64_t deadline_ms;
    writes_done *done;
    void *arg;
    UT_hash_handle hh;
    TAILQ_ENTRY(write) order; /* in the order of arrival, and so of deadlines */
};

/* What a peer has forwarded and is not proposed. */
struct peer_pending {
    uint64_t peer;
    size_t n, bytes;
};

struct writes {
    struct group *group; /* borrowed */
    struct write *by_key;
    TAILQ_HEAD(write_list, write) all;
    struct fair_queue queue; /* goes out at the end of the turn */
    size_t large_out;        /* bytes of our own large ones, forwarded or submitted */
    struct large_room room;
    struct peer_pending peers[CONFIG_PEERS_MAX];
    size_t n_peers;
    size_t n, bytes;
    uint64_t batch; /* the last that was proposed */
    bool retry;     /* look for WRITE_WAITING at the end of the turn */
    bool lost;

    struct own_session own; /* for writes without a session */

    /* The clock of time in which the cluster could be written to. */
    uint64_t available_ms, last_beat_ms, term;
    uint64_t base_elapsed_ms;

    /* The wall clock; the stored time counts from this index on, which was the log's end
     * when the term began. */
    struct stamps stamps;
    uint64_t stamps_from;

    uint64_t found; /* the log's end when this node began; UINT64_MAX: it is not open yet */
};

static own_session_start start_own;
static peer_handler on_command, on_refused;

struct writes *writes_new(struct group *group)
{
    struct writes *w = calloc(1, sizeof *w);

    if (w == NULL)
        return NULL;
    w->group = group;
    w->found = UINT64_MAX;
    TAILQ_INIT(&w->all);
    fair_queue_init(&w->queue);
    large_room_init(&w->room);
    own_session_init(&w->own, group->owner->config->name, GROUP_REQUEST_MS, start_own, w);
    peer_handlers_enter(&group->handlers, PEER_COMMAND, on_command, w);
    peer_handlers_enter(&group->handlers, PEER_REFUSED, on_refused, w);
    return w;
}

static bool is_out(enum write_state state)
{
    return state == WRITE_FORWARDED || state == WRITE_SUBMITTED;
}

static void set_state(struct writes *w, struct write *x, enum write_state state)
{
    size_t cost = large_room_cost(x->entry->len);

    if (x->large && is_out(x->state))
        w->large_out -= cost;
    if (x->state == WRITE_QUEUED && state == WRITE_WAITING)
        fair_queue_drop(&w->queue, x->item);
    if (state != WRITE_QUEUED)
        x->item = NULL;
    x->state = state;
    if (x->large && is_out(x->state))
        w->large_out += cost;
}

static void write_free(struct writes *w, struct write *x)
{
    set_state(w, x, WRITE_WAITING);
    HASH_DEL(w->by_key, x);
    TAILQ_REMOVE(&w->all, x, order);
    w->n--;
    w->bytes -= x->entry->len;
    entry_put(x->entry);
    free(x);
}

void writes_free(struct writes *w)
{
    if (w == NULL)
        return;
    while (!TAILQ_EMPTY(&w->all))
        write_free(w, TAILQ_FIRST(&w->all));
    fair_queue_deinit(&w->queue);
    own_session_deinit(&w->own);
    free(w);
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

/* ---- on the way out ---- */

static struct peer_pending *pending_of(struct writes *w, uint64_t peer)
{
    size_t i;

    for (i = 0; i < w->n_peers; i++)
        if (w->peers[i].peer == peer)
            return &w->peers[i];
    if (w->n_peers == CONFIG_PEERS_MAX)
        return NULL;
    w->peers[w->n_peers].peer = peer;
    return &w->peers[w->n_peers++];
}

/* False: no link to it. */
static bool send_command(const struct group *g, uint64_t peer, const struct entry *e)
{
    const struct peer_links *links = g->owner->links;
    struct buffer *b = links->begin(links->arg, g->number, peer, PEER_COMMAND, 0);

    if (b == NULL)
        return false;
    buffer_put_bytes(b, e->data, e->len);
    links->end(links->arg, peer);
    return true;
}

static void send_refusal(const struct group *g, uint64_t peer, const struct peer_refused *refused)
{
    const struct peer_links *links = g->owner->links;
    struct buffer *b = links->begin(links->arg, g->number, peer, PEER_REFUSED, 0);

    if (b == NULL)
        return;
    peer_refused_encode(b, refused);
    links->end(links->arg, peer);
}

/* Tells the peer that its command was not taken. */
static void refuse(struct writes *w, uint64_t peer, const void *bytes, size_t len)
{
    struct command cmd;

    if (command_decode(bytes, len, &cmd) == KV_OK)
        send_refusal(w->group, peer,
                     &(struct peer_refused){.session = cmd.session, .seq = cmd.seq, .part = part_of(&cmd)});
}

/* A peer takes this node for the leader. What cannot be taken is refused towards it. */
static int on_command(void *arg, uint64_t peer, const struct frame *frame)
{
    struct writes *w = arg;
    struct peer_pending *pending = pending_of(w, peer);
    struct fair_item *item = NULL;
    struct entry *e = NULL;
    struct command cmd;

    if (command_decode(frame->payload, frame->len, &cmd) != KV_OK ||
        (cmd.session == 0 && cmd.op != COMMAND_REGISTER))
        return KV_E_PROTOCOL;
    if (consensus_is_leader(w->group->consensus) && level_has(w->group->store, &cmd) &&
        !level_awaited(w->group, &cmd) && pending != NULL && pending->n < PEER_PENDING_MAX &&
        pending->bytes < PEER_BYTES_MAX)
        e = entry_new(ENTRY_COMMAND, frame->payload, frame->len);
    if (e != NULL)
        item = fair_queue_add(&w->queue, &cmd, e);
    entry_put(e);
    if (item == NULL) {
        refuse(w, peer, frame->payload, frame->len);
        return 0;
    }
    item->peer = peer;
    pending->n++;
    pending->bytes += frame->len;
    return 0;
}

/* A forwarded one leaves the queue. */
static void forwarded_out(struct writes *w, const struct fair_item *item)
{
    struct peer_pending *pending = pending_of(w, item->peer);

    pending->n--;
    pending->bytes -= item->entry->len;
}

/* A part that comes before the one in front of it is refused (KV_E_PART): if that was turned away, both go at
 * the next beat. */
static bool is_behind_a_waiting_part(struct writes *w, const struct write *x, const struct command *cmd)
{
    struct write_key before = x->key;
    const struct write *part;
    struct cursor piece;
    uint64_t ino;
    uint32_t n_parts;

    if (x->key.part > 0)
        before.part--;
    else if ((cmd->flags & COMMAND_PARTS) != 0 && command_last_piece(cmd, &n_parts, &ino, &piece))
        before.part = n_parts;
    part = before.part > 0 ? find(w, &before) : NULL;
    return part != NULL && part->state == WRITE_WAITING;
}

/* Ours into the queue. What was sent before may be in the log, in use: it stays as it is. */
static void enqueue(struct writes *w, struct write *x)
{
    const struct consensus *c = w->group->consensus;
    struct entry *e;
    struct command cmd;

    if (command_decode(x->entry->data, x->entry->len, &cmd) != KV_OK ||
        (consensus_is_leader(c) ? level_awaited(w->group, &cmd) : consensus_disk_full(c)) ||
        is_behind_a_waiting_part(w, x, &cmd))
        return; /* tried again at the next beat; on a full disk its result would not be seen here */
    e = x->batch > 0 ? entry_new(ENTRY_COMMAND, x->entry->data, x->entry->len) : entry_ref(x->entry);
    if (e != NULL && command_decode(e->data, e->len, &cmd) == KV_OK)
        x->item = fair_queue_add(&w->queue, &cmd, e);
    entry_put(e);
    if (x->item == NULL)
        return; /* tried again at the next beat */
    x->item->own = x;
    x->large = x->item->large;
    set_state(w, x, WRITE_QUEUED);
}

static void sent(struct writes *w, struct write *x, enum write_state state)
{
    set_state(w, x, state);
    x->sent_ms = clock_boot_ms();
    x->sent++;
    x->term = consensus_term(w->group->consensus);
    x->to = consensus_leader(w->group->consensus);
}

static void submitted(struct writes *w, struct write *x)
{
    sent(w, x, WRITE_SUBMITTED);
    x->batch = w->batch;
}

/* Leadership went before it came to the log: its writes were not sent. */
static void batch_refused(struct writes *w)
{
    struct write *x;

    TAILQ_FOREACH (x, &w->all, order) {
        if (x->state == WRITE_SUBMITTED && x->batch == w->batch)
            x->sent--;
    }
    w->lost = true;
}

uint64_t writes_elapsed_ms(const struct writes *w)
{
    uint64_t stored = store_elapsed_ms(w->group->store);
    uint64_t mine = w->base_elapsed_ms + w->available_ms;

    return mine > stored ? mine : stored;
}

static uint64_t wall_now(struct writes *w)
{
    struct group *g = w->group;
    uint64_t stored = store_applied(g->store) >= w->stamps_from ? store_wall_ns(g->store) : 0;

    return stamps_next(&w->stamps, clock_watch_wall_ns(g->owner->clock, store_wall_ns(g->store)),
                       clock_boot_ns(), stored);
}

/* Not shared with anybody before it is in the log: it may still be stamped. */
static void stamp(struct writes *w, struct entry *e, uint64_t elapsed)
{
    bool sets_back = e->data[COMMAND_OP_AT] == COMMAND_CLOCK;
    uint64_t wall = sets_back
                        ? clock_watch_set_back_ns(w->group->owner->clock, store_wall_ns(w->group->store))
                        : wall_now(w);

    if (e->data[COMMAND_OP_AT] == COMMAND_SETTING && level_forbids(w->group, e->data, e->len))
        wall = 0;
    if (sets_back && wall != 0)
        stamps_setting_back(&w->stamps);
    command_set_clocks(e->data, wall, elapsed);
}

/* A leader without a state is about to hand over. */
static uint64_t applied_here(const struct group *g)
{
    return group_serves(g) ? store_applied(g->store) : consensus_commit(g->consensus);
}

/* more: what the batch that is being made has of them. */
static bool may_large(struct writes *w, bool leads, size_t more, uint64_t now)
{
    const struct group *g = w->group;

    if (large_room_link_is_full(&w->room, g->owner->links->pending_most(g->owner->links->arg), now))
        return false;
    if (!leads) /* the leader shares the time out */
        return w->large_out < w->room.room;
    return large_room_has(&w->room, more, now) &&
           (g->writeback == NULL || writeback_pending_bytes(g->writeback) < LARGE_WRITEBACK_MAX);
}

/* ---- out ---- */

/* One batch into the log. False: nothing more may go. */
static bool propose(struct writes *w, uint64_t now)
{
    struct group *g = w->group;
    struct fair_item *items[SUBMIT_BATCH];
    struct entry *batch[SUBMIT_BATCH];
    uint64_t elapsed = writes_elapsed_ms(w);
    size_t k = 0, i, large = 0;
    int rv;

    w->batch++;
    if (consensus_last(g->consensus) - applied_here(g) > IN_FLIGHT_MAX ||
        (g->writeback != NULL && writeback_pending_bytes(g->writeback) > WRITEBACK_PENDING_MAX))
        return false; /* the disk or the peers are behind: let them catch up */
    large_room_applied(&w->room, applied_here(g), now);
    while (k < SUBMIT_BATCH) {
        bool large_too = may_large(w, true, large, now);
        struct fair_item *item;

        /* However many small ones there are, a large one may be in each batch. */
        item = k == 0 && large_too ? fair_queue_take(&w->queue, true) : NULL;
        if (item == NULL)
            item = fair_queue_take(&w->queue, false);
        if (item == NULL && large_too)
            item = fair_queue_take(&w->queue, true);
        if (item == NULL)
            break;
        if (item->large) {
            large += large_room_cost(item->entry->len);
            large_room_large(&w->room, item->session);
        } else {
            large_room_small(&w->room, item->session, now);
        }
        stamp(w, item->entry, elapsed);
        if (item->peer != 0)
            forwarded_out(w, item);
        else
            submitted(w, item->own);
        items[k] = item;
        batch[k++] = item->entry;
    }
    if (k == 0)
        return false;
    meter_proposed(&g->meter, consensus_term(g->consensus), consensus_last(g->consensus) + k, (unsigned)k,
                   clock_boot_ns());
    rv = consensus_submit(g->consensus, batch, k); /* may answer, and so end, any of ours */
    if (rv == 0)
        large_room_proposed(&w->room, consensus_last(g->consensus), large, now);
    for (i = 0; i < k; i++) {
        if (items[i]->peer != 0 && rv != 0)
            refuse(w, items[i]->peer, batch[i]->data, batch[i]->len);
        fair_item_free(items[i]);
    }
    if (rv != 0)
        batch_refused(w);
    return rv == 0;
}

/* One command to the leader. False: nothing more may go. */
static bool forward(struct writes *w, uint64_t leader, uint64_t now)
{
    struct group *g = w->group;
    struct fair_item *item;
    struct write *x;

    if (!g->owner->links->can_send(g->owner->links->arg, leader))
        return false;
    item = fair_queue_take(&w->queue, false);
    if (item == NULL && may_large(w, false, 0, now))
        item = fair_queue_take(&w->queue, true);
    if (item == NULL)
        return false;
    if (item->large)
        large_room_large(&w->room, item->session);
    else
        large_room_small(&w->room, item->session, now);
    if (item->peer != 0) { /* it came while this node led */
        forwarded_out(w, item);
        refuse(w, item->peer, item->entry->data, item->entry->len);
    } else if (send_command(g, leader, item->entry)) {
        sent(w, item->own, WRITE_FORWARDED);
    } else {
        x = item->own; /* tried again at the next beat */
        x->item = NULL;
        x->state = WRITE_WAITING;
    }
    fair_item_free(item);
    return true;
}

uint64_t writes_turn_end(struct writes *w)
{
    struct group *g = w->group;
    uint64_t now = clock_boot_ms(), leader, pause;
    struct write *x;

    if (w->retry) {
        w->retry = false;
        TAILQ_FOREACH (x, &w->all, order) {
            if (x->state == WRITE_WAITING)
                enqueue(w, x);
        }
    }
    if (consensus_is_leader(g->consensus)) {
        while (propose(w, now))
            ;
    } else {
        leader = consensus_leader(g->consensus);
        while (leader != 0 && forward(w, leader, now))
            ;
    }
    if (w->lost) {
        /* Leadership went in this very turn. Ours are tried again at the next beat. */
        w->lost = false;
        TAILQ_FOREACH (x, &w->all, order) {
            if (x->state == WRITE_SUBMITTED)
                set_state(w, x, WRITE_WAITING);
        }
    }
    pause = w->queue.large.n > 0 ? large_room_pause(&w->room, now) : 0;
    return pause > 0 ? pause : UINT64_MAX;
}

/* ---- taking ---- */

static int start(struct writes *w, const struct command *cmd, uint64_t deadline_ms, writes_done *done,
                 void *arg)
{
    size_t size = command_size(cmd);
    struct write *x, *old;

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
    /* A part is long: it is copied once. */
    x->entry = entry_new_reserve(ENTRY_COMMAND, size);
    if (x->entry == NULL) {
        free(x);
        return size > ENTRY_MAX_LEN ? KV_E_FBIG : KV_E_BUSY;
    }
    command_write(x->entry->data, cmd);
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
    enqueue(w, x);
    return 0;
}

/* Under the node's session, or its registration. */
static int start_own(void *owner, struct command *cmd, uint64_t deadline_ms, writes_done *done, void *arg)
{
    struct writes *w = owner;
    const struct write *x;

    if (cmd->session != 0) {
        cmd->acked_below = cmd->seq;
        /* The lowest number of ours that still waits; arrivals are in order. */
        TAILQ_FOREACH (x, &w->all, order) {
            if (x->key.session == cmd->session) {
                cmd->acked_below = x->key.seq;
                break;
            }
        }
    }
    return start(w, cmd, deadline_ms, done, arg);
}

/* ---- the client's side ---- */

/* What raises the level may be on its way: in the log that this node came with, too, of which it does not
 * know yet how much is committed. */
static bool level_may_rise(const struct writes *w)
{
    const struct consensus *c = w->group->consensus;
    uint64_t applied = applied_here(w->group), last = consensus_last(c);

    return applied < consensus_commit(c) || applied < (last < w->found ? last : w->found);
}

int writes_start(struct writes *w, const struct command *cmd, writes_done *done, void *arg)
{
    struct command copy = *cmd;
    struct command_result result;
    struct command_body body;
    int rv;

    if (group_in_minority(w->group))
        return KV_E_ROFS;
    if (group_disk_full(w->group))
        return KV_E_NOSPC;
    if (!level_has(w->group->store, cmd))
        return level_may_rise(w) ? KV_E_UNAVAILABLE : KV_E_NOTSUP;
    if (w->n + w->own.n >= PENDING_MAX || w->bytes + w->own.bytes >= PENDING_BYTES_MAX)
        return KV_E_BUSY;
    if (cmd->op == COMMAND_REGISTER) {
        /* No session yet: the nonce tells it from others. */
        rv = command_body_decode(cmd->op, cmd->body, cmd->body_len, &body);
        if (rv != KV_OK)
            return rv;
        copy.session = 0;
        memcpy(&copy.seq, body.nonce, sizeof copy.seq);
    } else if (cmd->session == 0) {
        return own_session_write(&w->own, cmd, done, arg);
    } else if (own_session_is(&w->own, cmd->session)) {
        return KV_E_SESSION; /* the node's own is lent through 0 only: its numbers are counted here */
    } else if (cmd->op != COMMAND_PART) {
        rv = store_session_result(w->group->store, cmd->session, cmd->seq, &result);
        if (rv == KV_E_DUPLICATE)
            return rv;
        if (rv == 1) {
            done(arg, KV_OK, &result);
            return 0;
        }
    }
    return start(w, &copy, clock_boot_ms() + GROUP_REQUEST_MS, done, arg);
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

    own_session_ended(&w->own);
    if (again)
        rv = own_session_write(&w->own, &cmd, done, arg);
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
    if (x->large && x->state == WRITE_FORWARDED) {
        uint64_t now = clock_boot_ms();

        large_room_took(&w->room, x->entry->len, now - x->sent_ms, now);
    }
    if ((result->code == KV_E_SESSION || result->code == KV_E_DUPLICATE) &&
        own_session_is(&w->own, key.session))
        renew_session(w, x);
    else
        answer(w, x, KV_OK, result);
}

/* The peer did not take a forwarded command: it is tried again soon. */
static int on_refused(void *arg, uint64_t peer, const struct frame *frame)
{
    struct cursor in = cursor_of(frame->payload, frame->len);
    struct peer_refused refused;
    struct writes *w = arg;
    struct write_key key;
    struct write *x;

    (void)peer;
    if (!peer_refused_decode(&in, &refused))
        return 0;
    memset(&key, 0, sizeof key);
    key.session = refused.session;
    key.seq = refused.seq;
    key.part = refused.part;
    x = find(w, &key);
    if (x == NULL || x->state != WRITE_FORWARDED)
        return 0;
    x->sent--;
    set_state(w, x, WRITE_WAITING); /* until leadership changes, or the next beat */
    return 0;
}

void writes_retry(struct writes *w, bool new_link)
{
    uint64_t term = consensus_term(w->group->consensus), leader = consensus_leader(w->group->consensus);
    bool leads = consensus_is_leader(w->group->consensus);
    struct write *x;

    TAILQ_FOREACH (x, &w->all, order) {
        /* The term may be new while the leader known is still the last one's. */
        bool same = x->term == term && x->to == leader;

        /* What is queued goes in again, too, behind what came before it. */
        if ((x->state == WRITE_SUBMITTED && !(same && leads)) ||
            (x->state == WRITE_FORWARDED && (!same || leads || new_link)) || x->state == WRITE_QUEUED)
            set_state(w, x, WRITE_WAITING);
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
        rv = store_session_result(w->group->store, x->key.session, x->key.seq, &result);
        if (rv == 1)
            answer(w, x, KV_OK, &result);
        else if (rv != 0)
            answer(w, x, KV_E_UNKNOWN, NULL);
    }
    writes_retry(w, true);
}

/* What was never sent does not wait for its deadline in a node that refuses such by now. */
static void refuse_unsent(struct writes *w)
{
    struct write *x, *next;

    for (x = TAILQ_FIRST(&w->all); x != NULL; x = next) {
        next = TAILQ_NEXT(x, order);
        if (x->sent == 0)
            answer(w, x, KV_E_ROFS, NULL);
    }
}

void writes_beat(struct writes *w, uint64_t now_ms)
{
    struct group *g = w->group;
    bool full = group_disk_full(g); /* their results would never be seen here */
    bool minority = group_in_minority(g);
    struct write *x;

    if (w->found == UINT64_MAX && consensus_started(g->consensus))
        w->found = consensus_last(g->consensus);
    /* Time counts only while a majority confirms this leader. */
    if (!consensus_is_leader(g->consensus)) {
        w->term = 0;
    } else if (w->term != consensus_term(g->consensus)) {
        w->term = consensus_term(g->consensus);
        w->base_elapsed_ms = store_elapsed_ms(g->store);
        w->available_ms = 0;
        w->stamps = (struct stamps){0};
        w->stamps_from = consensus_last(g->consensus);
    } else if (consensus_lease_valid(g->consensus)) {
        uint64_t beat = g->owner->config->heartbeat_ms, passed = now_ms - w->last_beat_ms;

        w->available_ms += passed < 2 * beat ? passed : beat;
    }
    w->last_beat_ms = now_ms;

    while ((x = TAILQ_FIRST(&w->all)) != NULL && (full || x->deadline_ms <= now_ms))
        answer(w, x, x->sent > 0 ? KV_E_UNKNOWN : full ? KV_E_NOSPC : KV_E_UNAVAILABLE, NULL);
    if (minority)
        refuse_unsent(w);
    own_session_beat(&w->own, now_ms, full ? KV_E_NOSPC : minority ? KV_E_ROFS : KV_OK);
    w->retry = true;
}

void writes_stop(struct writes *w)
{
    struct write *x;

    while ((x = TAILQ_FIRST(&w->all)) != NULL)
        answer(w, x, x->sent > 0 ? KV_E_UNKNOWN : KV_E_UNAVAILABLE, NULL);
    own_session_stop(&w->own);
}
