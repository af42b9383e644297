#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "tests/sim/sim.h"

uint64_t node_clock(const struct node *n)
{
    return (uint64_t)(n->clock_offset + world.now * (1000 + n->drift) / 1000);
}

int64_t node_when(const struct node *n, uint64_t clock)
{
    int64_t t = ((int64_t)clock - n->clock_offset) * 1000 / (1000 + n->drift);

    while (n->clock_offset + t * (1000 + n->drift) / 1000 < (int64_t)clock)
        t++;
    return t;
}

bool node_leads(const struct node *n)
{
    return n->up && engine_role(n->engine) == ENGINE_LEADER;
}

/* ---- operations of the engine ---- */

static int save_term(void *ctx, uint64_t term, uint64_t vote)
{
    struct node *n = ctx;

    truth_on_term(n, term, vote);
    n->disk.term = term;
    n->disk.vote = vote;
    return 0;
}

static int save_entries(void *ctx, uint64_t index, struct entry *const *entries, size_t count, bool flush)
{
    struct node *n = ctx;
    struct disk_operation *o = disk_queue(n, DISK_APPEND);

    o->index = index;
    o->entries = malloc(count * sizeof(struct entry *));
    if (o->entries == NULL)
        abort();
    for (o->n = 0; o->n < count; o->n++)
        o->entries[o->n] = entry_ref(entries[o->n]);
    truth_on_append(n, index, entries, count);
    if (flush)
        disk_flush(n);
    disk_kick(n);
    return 0;
}

static int trim_log(void *ctx, const struct snapshot_meta *meta, uint64_t keep_from)
{
    struct node *n = ctx;
    struct disk_operation *o = disk_queue(n, DISK_TRIM);

    o->index = keep_from;
    snapshot_meta_copy(meta, &o->meta);
    counters.trims++;
    trace("node %d trims its log: starts at %lu behind %lu", n->id, keep_from, meta->index);
    disk_kick(n);
    return 0;
}

static int install(void *ctx, const struct snapshot_meta *meta)
{
    struct node *n = ctx;
    struct disk_operation *o = disk_queue(n, DISK_INSTALL);

    if (n->arriving == NULL || n->arriving->applied != meta->index)
        violation("node %d installs a snapshot at %lu without its file", n->id, meta->index);
    snapshot_meta_copy(meta, &o->meta);
    o->file = *n->arriving;
    counters.installs++;
    trace("node %d installs the snapshot at %lu", n->id, meta->index);
    disk_kick(n);
    return 0;
}

static void send_message(void *ctx, struct engine_message *m)
{
    network_send(ctx, m);
}

static void send_snapshot(void *ctx, uint64_t peer)
{
    network_request_snapshot(ctx, peer);
}

static int apply(void *ctx, uint64_t index, struct entry *e)
{
    truth_on_apply(ctx, index, e);
    lease_on_apply(ctx, index, e);
    return 0;
}

static void on_role(void *ctx, enum engine_role role, uint64_t term)
{
    truth_on_role(ctx, role, term);
}

static void on_read(void *ctx, uint64_t token, uint64_t index, int result)
{
    truth_read_answered(token, index, result);
}

/* No node forgets here, so where messages keep their order that is never reported. */
static void on_log_shorter(void *ctx, uint64_t peer, uint64_t index, uint64_t match)
{
    struct node *n = ctx;

    if (options.fifo)
        violation("node %d says that node %lu has lost entry %lu, acknowledged up to %lu", n->id, peer, index,
                  match);
}

/* ---- life ---- */

void node_check(struct node *n, int result, const char *what)
{
    if (result != 0)
        violation("node %d: %s gives %d (%s)", n->id, what, result,
                  result < 0 && engine_failure(n->engine) != NULL ? engine_failure(n->engine)
                                                                  : error_text(result));
    truth_check(n);
    if (!n->up || rnd_chance(0.15)) /* the turn of a loop holds more than one event */
        return;
    lease_turn(n);
    result = engine_flush(n->engine, node_clock(n));
    if (result != 0)
        violation("node %d: flush gives %d (%s)", n->id, result, engine_failure(n->engine));
    truth_check(n);
}

void node_start(struct node *n)
{
    const struct engine_ops ops = {
        .ctx = n,
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
    struct engine_config config = world.base;
    struct engine_stored stored;
    int result;

    if (n->disk.half_installed)
        disk_complete_install(&n->disk);
    config.id = (uint64_t)n->id;
    config.seed = (uint32_t)rnd();
    config.knobs = &options.knobs;
    n->up = true;
    n->paused_until = 0;
    n->epoch++;
    n->lives++;
    n->state = n->disk.state;
    n->checked_commit = n->disk.snapshot.index;
    n->max_term = n->disk.term;
    counters.starts++;
    trace("node %d starts: term %lu, log %lu..%lu behind %lu, state %lu", n->id, n->disk.term,
          n->disk.start_index, disk_last(&n->disk), n->disk.snapshot.index, n->state.applied);
    if (engine_new(&config, &ops, &n->engine) != 0)
        abort();
    stored = (struct engine_stored){
        .term = n->disk.term,
        .vote = n->disk.vote,
        .snapshot = n->disk.snapshot.index != 0 ? &n->disk.snapshot : NULL,
        .start_index = n->disk.start_index,
        .entries = n->disk.entries,
        .n_entries = n->disk.n,
        .applied_index = n->state.applied,
    };
    result = engine_start(n->engine, node_clock(n), &stored);
    lease_on_start(n);
    node_check(n, result, "start");
}

void node_crash(struct node *n)
{
    if (!n->up)
        return;
    trace("node %d crashes with %zu writes in flight", n->id, n->n_queue);
    disk_crash(n);
    n->up = false;
    n->paused_until = 0;
    n->epoch++;
    engine_free(n->engine);
    n->engine = NULL;
    counters.crashes++;
}
