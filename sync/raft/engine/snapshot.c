/* Snapshots: the state machine's file is durable up to some index behind what
 * is applied, so the log up to there may go, but for what laggards, running
 * transfers and the budget keep. The core's own idea of a snapshot is moved
 * along with every cut: it keeps (index, term) runs of what is in the log. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sync/base/error.h"
#include "sync/raft/engine/internal.h"

/* ---- the configurations in force ---- */

int snapshot_note_configuration(struct engine *e, uint64_t index, struct entry *change)
{
    /* After a restart committed changes are applied again: those that the snapshot has. */
    if (e->n_configurations > 0 && index <= e->configurations[e->n_configurations - 1].index)
        return 0;
    if (e->n_configurations == e->cap_configurations) {
        size_t cap = e->cap_configurations > 0 ? e->cap_configurations * 2 : 8;
        struct applied_configuration *grown = realloc(e->configurations, cap * sizeof *grown);

        if (grown == NULL)
            return engine_die(e, -ENOMEM, "out of memory for configurations");
        e->configurations = grown;
        e->cap_configurations = cap;
    }
    e->configurations[e->n_configurations++] = (struct applied_configuration){index, entry_ref(change)};
    return 0;
}

static const struct applied_configuration *configuration_at(const struct engine *e, uint64_t index)
{
    for (size_t i = e->n_configurations; i > 0; i--)
        if (e->configurations[i - 1].index <= index)
            return &e->configurations[i - 1];
    return NULL;
}

/* Drops those that no snapshot at or behind index needs. */
static void forget_configurations(struct engine *e, uint64_t index)
{
    size_t drop = 0;

    while (drop + 1 < e->n_configurations && e->configurations[drop + 1].index <= index)
        entry_put(e->configurations[drop++].entry);
    e->n_configurations -= drop;
    memmove(e->configurations, e->configurations + drop, e->n_configurations * sizeof *e->configurations);
}

void snapshot_deinit(struct engine *e)
{
    for (size_t i = 0; i < e->n_configurations; i++)
        entry_put(e->configurations[i].entry);
    free(e->configurations);
    snapshot_meta_deinit(&e->snapshot);
    snapshot_meta_deinit(&e->installing);
}

int engine_snapshot_meta(const struct engine *e, uint64_t index, struct snapshot_meta *out)
{
    const struct applied_configuration *c = configuration_at(e, index);

    memset(out, 0, sizeof *out);
    if (index == 0 || index > e->applied || engine_term_at(e, index) == 0 || c == NULL)
        return KV_E_NOENT;
    out->index = index;
    out->term = engine_term_at(e, index);
    out->conf_index = c->index;
    out->conf = entry_ref(c->entry);
    return 0;
}

/* ---- what may go ---- */

int engine_pin_log(struct engine *e, uint64_t index)
{
    if (e->n_pins == ENGINE_MAX_PINS)
        return KV_E_BUSY;
    if (engine_term_at(e, index) == 0)
        return KV_E_NOENT;
    e->pins[e->n_pins++] = index;
    return 0;
}

void engine_unpin_log(struct engine *e, uint64_t index)
{
    for (unsigned i = 0; i < e->n_pins; i++)
        if (e->pins[i] == index) {
            e->pins[i] = e->pins[--e->n_pins];
            return;
        }
}

/* The first index to keep when the state is durable up to `durable`. */
static uint64_t keep_from(const struct engine *e, uint64_t durable)
{
    uint64_t limit = durable > e->config.trailing ? durable - e->config.trailing + 1 : 1;
    uint64_t keep = e->log.first;
    uint64_t bytes = e->log.bytes;

    for (unsigned i = 0; i < e->n_pins; i++)
        if (e->pins[i] < limit)
            limit = e->pins[i];
    while (keep < limit &&
           (entry_log_last(&e->log) - keep + 1 > e->config.keep_entries || bytes > e->config.keep_bytes)) {
        bytes -= entry_log_at(&e->log, keep)->len + ENTRY_LOG_OVERHEAD;
        keep++;
    }
    return keep;
}

int engine_state_durable(struct engine *e, uint64_t now, uint64_t index)
{
    struct snapshot_meta meta;
    struct core_update u;
    uint64_t keep;
    int result;

    if (e->dead != 0)
        return e->dead;
    e->now = now;
    if (e->is_installing)
        return 0;
    if (index > e->applied)
        index = e->applied;
    if (index > core_stored_index(e->core))
        index = core_stored_index(e->core);
    if (index <= e->snapshot.index || engine_term_at(e, index) == 0)
        return 0;
    keep = keep_from(e, index);
    if (keep < e->log.first + e->config.trim_step || engine_snapshot_meta(e, index, &meta) != 0)
        return 0;
    /* Cut exactly where the core cuts its runs: it keeps index - trailing + 1 on. */
    result = engine_check(e, core_snapshot_taken(e->core, now, &meta, (unsigned)(index + 1 - keep), &u),
                          "snapshot");
    if (result == 0) {
        snapshot_meta_deinit(&e->snapshot);
        e->snapshot = meta; /* consumed */
        entry_log_cut_head(&e->log, keep);
        forget_configurations(e, index);
        result = e->ops.trim_log(e->ops.ctx, &e->snapshot, keep);
        if (result != 0)
            result = engine_die(e, result < 0 ? result : -EIO, "the log could not be trimmed");
    } else {
        snapshot_meta_deinit(&meta);
    }
    if (result == 0)
        result = step_update(e, &u, NULL);
    return result != 0 ? result : step_advance(e);
}

/* ---- transfers ---- */

void snapshot_request(struct engine *e, uint64_t id)
{
    struct peer *peer = engine_peer(e, id);

    /* The core asks again and again: whenever the peer refuses a heartbeat that
     * is anchored at a snapshot which it is still waiting for. */
    if (peer == NULL || peer->snapshot_running)
        return;
    if (peer->snapshot_ms != 0 && e->now < peer->snapshot_ms + e->config.install_ms)
        return;
    peer->snapshot_running = true;
    e->ops.send_snapshot(e->ops.ctx, id);
}

void engine_snapshot_sent(struct engine *e, uint64_t now, uint64_t id)
{
    struct peer *peer = engine_peer(e, id);

    if (peer == NULL)
        return;
    peer->snapshot_running = false;
    peer->snapshot_ms = now;
}

void engine_snapshot_failed(struct engine *e, uint64_t id)
{
    struct peer *peer = engine_peer(e, id);

    if (peer != NULL)
        peer->snapshot_running = false;
}

int engine_snapshot_installed(struct engine *e, uint64_t now)
{
    struct core_update u;
    int result;

    if (e->dead != 0)
        return e->dead;
    e->now = now;
    if (!e->is_installing)
        return engine_die(e, -EINVAL, "an install is reported that was not asked for");
    e->is_installing = false;
    snapshot_meta_deinit(&e->snapshot);
    e->snapshot = e->installing; /* consumed */
    memset(&e->installing, 0, sizeof e->installing);
    for (size_t i = 0; i < e->n_configurations; i++)
        entry_put(e->configurations[i].entry);
    e->n_configurations = 0;
    e->n_pins = 0;
    e->applied = e->snapshot.index;
    if (e->commit < e->snapshot.index)
        e->commit = e->snapshot.index;
    if (e->fsm_index < e->snapshot.index)
        e->fsm_index = e->snapshot.index;
    result = snapshot_note_configuration(e, e->snapshot.conf_index, e->snapshot.conf);
    if (result == 0)
        result = engine_check(e, core_snapshot_installed(e->core, now, &u), "installed snapshot");
    if (result == 0)
        result = step_update(e, &u, NULL);
    return result != 0 ? result : step_advance(e);
}
