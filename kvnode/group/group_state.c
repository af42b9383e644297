/* The state of a group, as a whole: made, taken out of force, replaced, and written behind. A state file may
 * be as large as the state, and both in memory at once would be too much: so the old one goes first. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kvnode/disk/state_db.h"
#include "kvnode/group/events.h"
#include "kvnode/group/group.h"
#include "kvnode/group/leases.h"
#include "kvnode/group/reads.h"
#include "kvnode/group/scrub.h"
#include "kvnode/group/writes.h"
#include "sync/base/log.h"

static void on_event(void *arg, const struct event *event)
{
    struct group *g = arg;

    events_add(g->events, event);
}

static void on_held(void *arg, uint64_t ino, uint64_t bytes)
{
    struct group *g = arg;

    g->owner->on_held(g->owner->arg, ino, bytes);
}

int group_store_new(struct group *g, struct journal **journal_out, struct store **store_out)
{
    struct store_events events = {g, on_event, on_held};

    *journal_out = journal_new();
    if (*journal_out == NULL)
        return -ENOMEM;
    *store_out = store_new(g->number, *journal_out, &events);
    if (*store_out == NULL) {
        journal_free(*journal_out);
        *journal_out = NULL;
        return -ENOMEM;
    }
    return 0;
}

int group_set_aside(struct group *g, char *why)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    char from[4200], to[4300];
    size_t i;

    for (i = 0; i < 3; i++) {
        snprintf(from, sizeof from, "%s%s", g->state_path, suffixes[i]);
        snprintf(to, sizeof to, "%s.damaged%s", g->state_path, suffixes[i]);
        if (rename(from, to) != 0 && errno != ENOENT) {
            snprintf(why, 512, "%.300s: %s", to, strerror(errno));
            return -errno;
        }
    }
    log_warn("%s is kept as %s.damaged; the state is made anew from log.db%s", g->state_path, g->state_path,
             g->owner->config->n_peers > 0 ? ", or fetched from another node: there is nothing to do"
                                           : ", if that reaches back to the beginning");
    store_free(g->store);
    journal_free(g->journal);
    g->store = NULL;
    g->journal = NULL;
    return group_store_new(g, &g->journal, &g->store);
}

/* ---- written behind ---- */

static void on_writeback_notify(void *arg) /* the writer's thread */
{
    struct group *g = arg;

    uv_async_send(&g->writeback_wake);
}

struct state_owner group_state_owner(const struct group *g)
{
    return (struct state_owner){.cluster = g->owner->config->cluster_id,
                                .node = g->owner->config->id,
                                .life = shared_log_life(g->owner->log)};
}

int group_start_writeback(struct group *g, const struct state_owner *own, struct journal *journal,
                          struct store *store, struct writeback **out, char *why)
{
    struct writeback_options options = {.interval_ms = g->owner->config->flush_ms,
                                        .commands = g->owner->config->flush_commands,
                                        .arg = g,
                                        .notify = on_writeback_notify};
    int rv = state_db_claim(g->state_path, own, why);

    if (rv != 0)
        return rv;
    return writeback_start(g->state_path, journal, store, &options, out, why);
}

void group_written_behind(struct group *g)
{
    uint64_t durable;

    if (g->writeback == NULL)
        return;
    if (writeback_state(g->writeback) == WRITEBACK_FATAL) {
        char why[STATE_DB_ERROR_MAX];

        writeback_error(g->writeback, why);
        group_die(why);
    }
    durable = writeback_durable_index(g->writeback);
    if (durable > g->durable_told) {
        g->durable_told = durable;
        consensus_state_durable(g->consensus, durable);
    }
    g->owner->on_written_behind(g->owner->arg);
}

/* ---- replaced ---- */

void group_condition(struct group *g, enum condition to)
{
    bool moved = condition_move(&g->condition, to);

    assert(moved);
    (void)moved;
}

bool group_serves(const struct group *g)
{
    return condition_serves(g->condition);
}

void group_store_drop(struct group *g, enum condition why, struct dropped *dropped_out)
{
    group_condition(g, why);
    g->owner->on_state_dropped(g->owner->arg);
    scrub_pause(g->scrub);
    *dropped_out = (struct dropped){g->writeback, g->store, g->journal};
    g->writeback = NULL;
    if (group_store_new(g, &g->journal, &g->store) != 0)
        group_die("out of memory");
    leases_reset(g->leases);
}

void dropped_free(struct dropped *d)
{
    writeback_free(d->writeback, false, 0);
    store_free(d->store);
    journal_free(d->journal);
    *d = (struct dropped){0};
}

void group_store_replace(struct group *g, struct journal *journal, struct store *store,
                         struct writeback *writeback)
{
    store_free(g->store);
    journal_free(g->journal);
    g->journal = journal;
    g->store = store;
    g->writeback = writeback;
    if (g->condition == CONDITION_REPLACING)
        group_condition(g, CONDITION_SERVING);
    leases_reset(g->leases);
    digest_ring_reset(&g->digests, store_applied(store), store_digest(store));
    scrub_resume(g->scrub);
    events_reset(g->events, store_applied(store));
    g->owner->on_state_replaced(g->owner->arg);
    writes_recheck(g->writes);
    reads_applied(g->reads);
}

void group_healed(struct group *g)
{
    uint64_t have = store_applied(g->store);

    if (have < consensus_applied(g->consensus) && consensus_entry(g->consensus, have + 1) == NULL) {
        group_condition(g, CONDITION_AWAITED); /* older than our log's beginning: once more */
        return;
    }
    group_condition(g, CONDITION_SERVING);
    log_info("state.db is whole again at revision %llu", (unsigned long long)have);
    group_apply(g);
}
