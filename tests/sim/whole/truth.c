/* What must hold whatever happens.
 *
 *   election safety, state machine safety   one leader a term; one entry, one digest and one list of
 *                                           events at an index, on all nodes (Raft, figure 3.2)
 *   durability                              what is applied anywhere is durable on a majority
 *   exactly once                            a request is executed at most once; an acknowledged one
 *                                           exactly once, with the result that its client got
 *   reads                                   none misses what was acknowledged before it began */
#include <stdlib.h>
#include <string.h>

#include "sync/base/digest.h"
#include "sync/base/error.h"
#include "tests/sim/whole/whole.h"

#define MAX_TERM 65536

/* The cluster's log as it was first applied, [1 .. n_log]. */
struct record {
    uint8_t *bytes; /* NULL: no command */
    size_t len;
    uint64_t term;
    uint64_t digest; /* of the state behind it */
    uint64_t events, n_events;
    bool events_known;
};

static struct record *history;
static size_t n_log, cap_log;
static int leader_of[MAX_TERM];
static uint64_t acknowledged;
/* Events of the revision that a node applies just now. */
static struct {
    uint64_t revision, digest, n;
} events[MAX_HOSTS + 1];

/* What has a time to live, and until when. */
static uint64_t live_until[N_LIVE];
static bool has_transactions;
/* Who has the lock of PAIR_ONE, as the log tells it. */
static struct {
    uint64_t ino, session, heard_ms;
    uint64_t fence, before;
} held;

void truth_reset(void)
{
    memset(live_until, 0, sizeof live_until);
    has_transactions = false;
    memset(&held, 0, sizeof held);
    for (size_t i = 1; i <= n_log; i++)
        free(history[i].bytes);
    n_log = 0;
    acknowledged = 0;
    memset(leader_of, 0, sizeof leader_of);
    memset(events, 0, sizeof events);
}

uint64_t truth_last(void)
{
    return n_log;
}

uint64_t truth_acknowledged(void)
{
    return acknowledged;
}

void truth_heard(uint64_t revision)
{
    if (revision > acknowledged)
        acknowledged = revision;
}

void truth_leads(struct host *h, uint64_t term)
{
    if (term >= MAX_TERM)
        violation("n%d leads term %lu", h->id, term);
    if (leader_of[term] != 0 && leader_of[term] != h->id)
        violation("n%d and n%d lead term %lu", leader_of[term], h->id, term);
    if (leader_of[term] == 0) {
        leader_of[term] = h->id;
        counters.leaders++;
        trace("n%d leads term %lu", h->id, term);
    }
}

/* ---- the log ---- */

static uint64_t op_of(const struct command *cmd)
{
    char text[COMMAND_NODE_MAX + 1];
    const char *dot;

    memcpy(text, cmd->node, cmd->node_len);
    text[cmd->node_len] = '\0';
    dot = strchr(text, '.');
    return dot != NULL ? strtoull(dot + 1, NULL, 10) : 0;
}

/* The stored time goes back only to what a majority's clocks are at. What a node knows of the others may
 * be as old as SKEW_FRESH_MS, and the command has been under way for a while: whose clock was set
 * since shortly before says nothing. */
static void check_set_back(uint64_t index, const struct command *cmd)
{
    int agree = 0;

    counters.set_back++;
    trace("%lu: the time is set back to %lu", index, cmd->wall_ns);
    for (int i = 1; i <= world.n; i++) {
        const struct host *one = &world.hosts[i];
        int64_t off =
            (int64_t)(cmd->wall_ns / 1000 - UINT64_C(1700000000) * SECOND) - world.now - one->wall_offset_us;

        agree += (off < 2 * SECOND && off > -20 * SECOND) ||
                 (one->clock_set_us != 0 && world.now - one->clock_set_us < 20 * SECOND);
    }
    if (agree <= world.n / 2)
        violation("%lu sets the time back to %lu, where the clocks of %d of %d nodes are", index,
                  cmd->wall_ns, agree, world.n);
}

bool truth_has_transactions(void)
{
    return has_transactions;
}

uint64_t truth_fenced(void)
{
    return held.ino;
}

uint64_t truth_fence(bool old)
{
    return old ? held.before : held.fence;
}

/* The lock goes to another one only if it was given back, or nothing was heard of who had it for as long as
 * he had asked for; and the fence moves with it. */
static void check_lock(uint64_t index, const struct op *op, const struct command *cmd, uint64_t now_ms)
{
    bool new = cmd->session != held.session;

    if (op->kind == OP_UNLOCK && !new)
        held.session = 0;
    if (op->kind != OP_LOCK || op->truth.created == 0)
        return;
    if (new &&held.session != 0 && now_ms - held.heard_ms <= FENCE_LEASE_MS)
        violation("%lu gives the lock of session %lu away, which was heard of %lu ms before", index,
                  held.session, now_ms - held.heard_ms);
    if (op->truth.base_revision < held.fence || (new && op->truth.base_revision != index))
        violation("%lu grants the lock with fence %lu, the last one was %lu", index, op->truth.base_revision,
                  held.fence);
    if (op->truth.base_revision != held.fence) {
        held.before = held.fence;
        held.fence = op->truth.base_revision;
    }
    held.session = cmd->session;
    held.heard_ms = now_ms;
}

static void check_fenced(uint64_t index, const struct op *op)
{
    bool late = op->expect != held.fence || held.fence == 0;

    if (op->truth.code == KV_OK ? late : op->truth.code == KV_E_VERSION && !late)
        violation("%lu, under fence %lu, is %s; it is at %lu", index, op->expect,
                  op->truth.code == KV_OK ? "done" : "refused", held.fence);
}

static uint64_t number_in(const struct store *s, const char *path)
{
    struct buffer b = BUFFER_INIT;
    const uint8_t *name;
    struct attr attr;
    uint64_t parent, number = 0;
    size_t len;

    if (store_resolve(s, NULL, path, strlen(path), &attr, &parent, &name, &len) == KV_OK &&
        store_read(s, attr.ino, 0, sizeof number, &b) == KV_OK && b.len == sizeof number)
        memcpy(&number, b.data, sizeof number);
    buffer_deinit(&b);
    return number;
}

/* All of a transaction, or nothing. */
static void check_pair(const struct host *h, uint64_t index)
{
    const struct store *s = h->node.group->store;
    uint64_t one = number_in(s, PAIR_ONE), two = number_in(s, PAIR_TWO);

    if (one != two)
        violation("n%d has at %lu of two keys that are set together one of op %lu and one of op %lu", h->id,
                  index, one, two);
}

#define LATE_MS 15000

/* Neither before its time nor long after it. */
static void check_live(const struct host *h, uint64_t index)
{
    const struct store *s = h->node.group->store;
    uint64_t now = store_elapsed_ms(s);

    for (uint64_t k = 0; k < N_LIVE; k++) {
        char path[32];
        bool there;

        if (live_until[k] == 0)
            continue;
        live_path(&(struct op){.id = k}, path);
        there = number_in(s, path) != 0;
        if (!there && now < live_until[k])
            violation("%lu takes %s away, %lu ms too early", index, path, live_until[k] - now);
        if (there && now > live_until[k] + LATE_MS)
            violation("%s is there at %lu, %lu ms after its time", path, index, now - live_until[k]);
        if (!there)
            live_until[k] = 0;
    }
}

static void note_execution(struct host *h, uint64_t index, const void *bytes, size_t len)
{
    struct command_result result;
    struct command cmd;
    struct op *op;

    if (command_decode(bytes, len, &cmd) != KV_OK || cmd.op == COMMAND_PART || cmd.session == 0)
        return;
    op = op_by_id(op_of(&cmd));
    if (options.plant == PLANT_NO_SESSION && op != NULL && op->executed_at != 0) {
        op->executions++;
    } else if (store_session_result(h->node.group->store, cmd.session, cmd.seq, &result) != 1 ||
               result.revision != index || op == NULL) {
        return;
    } else {
        op->executions++;
        op->executed_at = index;
        op->truth = result;
    }
    if (op->kind == OP_LOCK || op->kind == OP_UNLOCK)
        check_lock(index, op, &cmd, store_elapsed_ms(h->node.group->store));
    else if (op->kind == OP_FENCED)
        check_fenced(index, op);
    else if (cmd.op == COMMAND_TXN && op->truth.code == KV_OK)
        live_until[op->id % N_LIVE] = store_elapsed_ms(h->node.group->store) + op_ttl_ms(op);
    trace("%lu: op %lu of client %d is executed: %s", index, op->id, op->client, op_text(op));
    if (op->kind == OP_CLOCK && op->truth.code == KV_OK)
        check_set_back(index, &cmd);
    if (op->executions > 1)
        violation("op %lu is executed again at %lu, it was at %lu", op->id, index, op->executed_at);
    if (op->outcome == OUTCOME_NONE)
        violation("op %lu is executed at %lu, its client was told that it will not be", op->id, index);
}

/* Whoever has the lock has it for so long from here on; it is of the pair's file, once that is there. */
static void note_heard(const struct host *h, const void *bytes, size_t len)
{
    const struct store *s = h->node.group->store;
    const uint8_t *name;
    struct command cmd;
    struct attr attr;
    uint64_t parent;
    uint32_t owner;
    size_t name_len;

    if (bytes == NULL || command_decode(bytes, len, &cmd) != KV_OK)
        return;
    if (held.session != 0 && cmd.session == held.session &&
        store_session_owner(s, cmd.session, &owner) == KV_OK)
        held.heard_ms = store_elapsed_ms(s);
    if (cmd.op == COMMAND_TXN && held.ino == 0 && store_level(s) >= 3 &&
        store_resolve(s, NULL, PAIR_ONE, strlen(PAIR_ONE), &attr, &parent, &name, &name_len) == KV_OK)
        held.ino = attr.ino;
}

static uint64_t term_of(struct host *h, uint64_t index)
{
    const struct disk *d = &h->disk;

    return index >= d->start_index && index - d->start_index < d->n ? d->entries[index - d->start_index]->term
                                                                    : 0;
}

static void check_majority(struct host *h, uint64_t index, uint64_t term)
{
    int have = 0;

    for (int i = 1; i <= world.n; i++)
        have += disk_has(&world.hosts[i], index, term) || index <= world.hosts[i].forgot;
    /* The first entry is stored by each founder before it does anything. */
    if (have <= world.n / 2 && term != 0 && index > 1)
        violation("n%d applies %lu^%lu, which is durable on %d of %d nodes", h->id, index, term, have,
                  world.n);
}

static void add(struct host *h, uint64_t index, const void *bytes, size_t len)
{
    struct record *r;

    if (index != n_log + 1)
        violation("n%d applies %lu, the cluster's log ends at %zu", h->id, index, n_log);
    if (n_log + 2 > cap_log) {
        cap_log = cap_log > 0 ? cap_log * 2 : 4096;
        history = realloc(history, cap_log * sizeof *history);
        if (history == NULL)
            abort();
    }
    r = &history[++n_log];
    *r = (struct record){.len = len, .term = term_of(h, index), .digest = store_digest(h->node.group->store)};
    if (bytes != NULL) {
        r->bytes = malloc(len + 1);
        if (r->bytes == NULL)
            abort();
        memcpy(r->bytes, bytes, len);
    }
    counters.commits++;
    check_majority(h, index, r->term);
    if (bytes != NULL)
        note_execution(h, index, bytes, len);
    note_heard(h, bytes, len);
    has_transactions = store_level(h->node.group->store) >= 2;
    check_live(h, index);
}

void truth_event(struct host *h, uint64_t revision, const void *bytes, size_t len)
{
    if (events[h->id].revision != revision) {
        events[h->id].revision = revision;
        events[h->id].digest = events[h->id].n = 0;
    }
    events[h->id].n++;
    events[h->id].digest = digest64(events[h->id].digest, bytes, len);
}

static void check_events(struct host *h, uint64_t index)
{
    struct record *r = &history[index];
    bool any = events[h->id].revision == index;
    uint64_t n = any ? events[h->id].n : 0, digest = any ? events[h->id].digest : 0;

    events[h->id].revision = 0; /* another life may apply it again */
    if (!r->events_known) {
        r->events_known = true;
        r->n_events = n;
        r->events = digest;
    } else if (r->n_events != n || r->events != digest) {
        violation("n%d reports %lu events at %lu, others reported %lu or of another content", h->id, n, index,
                  r->n_events);
    }
}

void truth_applied(struct host *h, uint64_t index, const void *bytes, size_t len)
{
    const struct record *r;

    if (index > n_log)
        add(h, index, bytes, len);
    r = &history[index];
    /* The leader has stamped the clocks, so the bytes are those of one proposal. */
    if ((bytes == NULL) != (r->bytes == NULL) ||
        (bytes != NULL && (len != r->len || memcmp(bytes, r->bytes, len) != 0)))
        violation("n%d applies another entry at %lu than the first that did", h->id, index);
    if (len > COMMAND_OP_AT && r->bytes[COMMAND_OP_AT] == COMMAND_TXN)
        check_pair(h, index);
    if (store_digest(h->node.group->store) != r->digest)
        violation("n%d has digest %016lx at %lu, the first that applied it %016lx", h->id,
                  store_digest(h->node.group->store), index, r->digest);
    check_events(h, index);
}

/* ---- state.db ---- */

static bool whole_in(const struct command *part, uint64_t index)
{
    for (uint64_t i = 1; i <= index; i++) {
        struct command cmd;

        if (history[i].bytes != NULL && command_decode(history[i].bytes, history[i].len, &cmd) == KV_OK &&
            cmd.session == part->session && cmd.seq == part->seq && cmd.op != COMMAND_PART)
            return true;
    }
    return false;
}

void truth_rebuild(struct host *h, struct store *s, uint64_t index)
{
    struct command_result result;

    for (uint64_t i = 1; i <= index; i++) {
        struct record *r = &history[i];
        struct command cmd;

        if (r->bytes == NULL) {
            store_skip(s, i);
            continue;
        }
        if (options.plant == PLANT_LOST_PARTS && command_decode(r->bytes, r->len, &cmd) == KV_OK &&
            cmd.op == COMMAND_PART && !whole_in(&cmd, index)) {
            store_skip(s, i);
            continue;
        }
        if (options.plant == PLANT_NO_SESSION) {
            uint8_t *copy = malloc(r->len);

            memcpy(copy, r->bytes, r->len);
            truth_forget_number(i, copy, r->len);
            store_apply(s, i, copy, r->len, &result);
            free(copy);
        } else if (store_apply(s, i, r->bytes, r->len, &result) != 0) {
            violation("n%d: out of memory", h->id);
        }
    }
}

void truth_loaded(struct host *h, struct store *s)
{
    uint64_t index = store_applied(s);

    if (index > 0 && store_digest(s) != history[index].digest)
        violation("n%d loads a state of %lu with digest %016lx, it was %016lx", h->id, index, store_digest(s),
                  history[index].digest);
}

void truth_forget_number(uint64_t index, uint8_t *bytes, size_t len)
{
    struct command cmd;
    struct op *op;

    if (command_decode(bytes, len, &cmd) != KV_OK || cmd.op == COMMAND_PART)
        return;
    op = op_by_id(op_of(&cmd));
    if (op != NULL && op->executed_at != 0 && op->executed_at < index)
        memcpy(bytes + 12, &index, sizeof index); /* seq */
}

/* ---- clients ---- */

static bool same(const struct command_result *a, const struct command_result *b)
{
    return a->code == b->code && a->created == b->created && a->revision == b->revision &&
           a->base_version == b->base_version && a->base_revision == b->base_revision &&
           a->removed == b->removed && a->attr.ino == b->attr.ino && a->attr.size == b->attr.size &&
           a->attr.version == b->attr.version && a->attr.revision == b->attr.revision;
}

void truth_check_answer(struct op *op, const struct command_result *result)
{
    if (op->executions != 1)
        violation("op %lu is answered and was executed %u times", op->id, op->executions);
    if (!same(result, &op->truth))
        violation("op %lu of revision %lu is answered with the result of revision %lu: code %u, it was %u",
                  op->id, op->truth.revision, result->revision, result->code, op->truth.code);
}

bool truth_is_level(void)
{
    for (int i = 1; i <= world.n; i++) {
        const struct host *h = &world.hosts[i];

        if (!h->up || !host_serves(h) ||
            store_applied(h->node.group->store) != store_applied(world.hosts[1].node.group->store))
            return false;
    }
    return true;
}

void truth_check_end(void)
{
    uint64_t last = 0;

    for (int i = 1; i <= world.n; i++) {
        struct host *h = &world.hosts[i];

        if (!h->up || !host_serves(h))
            violation("liveness: n%d does not serve at the end", i);
        if (store_applied(h->node.group->store) > last)
            last = store_applied(h->node.group->store);
    }
    for (int i = 1; i <= world.n; i++)
        if (store_applied(world.hosts[i].node.group->store) != last)
            violation("liveness: n%d has applied %lu at the end, another one %lu", i,
                      store_applied(world.hosts[i].node.group->store), last);
    if (last != n_log)
        violation("%lu of %zu entries that were applied are left", last, n_log);
}
