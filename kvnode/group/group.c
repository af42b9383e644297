/* A group's start and end. What is on the disk is read first, and written only when it is known to be this
 * node's (its owner looks at that between group_open() and group_recover()); the engine goes live last, when
 * all that it calls is there. The end goes the other way round. */
#include "kvnode/group/group.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvnode/disk/state_db_internal.h"
#include "kvnode/group/events.h"
#include "kvnode/group/leadership.h"
#include "kvnode/group/leases.h"
#include "kvnode/group/mounts.h"
#include "kvnode/group/incoming.h"
#include "kvnode/group/install_meta.h"
#include "kvnode/group/outgoing.h"
#include "kvnode/group/reads.h"
#include "kvnode/group/scrub.h"
#include "kvnode/group/verify.h"
#include "kvnode/group/writes.h"
#include "sync/base/clock.h"
#include "sync/base/log.h"

#define EXIT_DAMAGED 70
#define FLUSH_MS 30000

void group_die(const char *why)
{
    log_error("%s; this process ends", why);
    _exit(EXIT_DAMAGED);
}

static void on_writeback_wake(uv_async_t *wake)
{
    struct group *g = wake->data;
    uint64_t since = clock_boot_ns();

    group_written_behind(g);
    turn_part(g->owner->turn, since, "what is written behind", "", 0);
}

static int on_raft(void *arg, uint64_t peer, const struct frame *frame)
{
    struct group *g = arg;

    return consensus_receive(g->consensus, peer, frame->payload, frame->len);
}

int group_new(uint16_t number, const char *dir, const struct group_owner *owner, struct group **out)
{
    struct group *g = calloc(1, sizeof *g);

    *out = g;
    if (g == NULL)
        return -ENOMEM;
    g->owner = owner;
    g->number = number;
    snprintf(g->dir, sizeof g->dir, "%s", dir);
    snprintf(g->state_path, sizeof g->state_path, "%s/" STATE_DB_NAME, g->dir);
    uv_async_init(owner->loop, &g->writeback_wake, on_writeback_wake);
    uv_idle_init(owner->loop, &g->behind);
    g->writeback_wake.data = g->behind.data = g;
    peer_handlers_enter(&g->handlers, PEER_RAFT, on_raft, g);
    peer_handlers_enter(&g->handlers, PEER_LEASE, on_raft, g);
    leadership_init(g);
    g->events = events_new();
    g->reads = reads_new(g);
    g->mounts = mounts_new();
    g->leases = leases_new(g);
    g->writes = writes_new(g);
    g->outgoing = outgoing_new(g);
    g->incoming = incoming_new(g);
    g->verify = verify_new(g);
    return g->events != NULL && g->reads != NULL && g->leases != NULL && g->mounts != NULL &&
                   g->writes != NULL && g->outgoing != NULL && g->incoming != NULL && g->verify != NULL
               ? 0
               : -ENOMEM;
}

/* What is told of the state begins with what was loaded. */
static void begin_at_state(struct group *g)
{
    events_reset(g->events, store_applied(g->store));
    digest_ring_reset(&g->digests, store_applied(g->store), store_digest(g->store));
}

static int open_state(struct group *g, char *why)
{
    char *mend;
    int rv;

    rv = state_db_recover(g->dir, why);
    if (rv != 0)
        return rv;
    rv = group_store_new(g, &g->journal, &g->store);
    if (rv != 0)
        return rv;
    rv = state_db_load(g->state_path, g->store, why);
    if (rv == -ENOENT)
        return 0;
    if (rv != -EUCLEAN)
        return rv;
    /* What to do about it is for those who find it in a running node. */
    mend = strstr(why, "; " STATE_DB_MEND);
    if (mend != NULL)
        *mend = '\0';
    log_error("%s", why);
    return group_set_aside(g, why);
}

int group_open(struct group *g, bool *has_log_out, char *why)
{
    const struct config *config = g->owner->config;
    struct consensus_callbacks callbacks = group_consensus_callbacks(g);
    struct consensus_config cc = {.group = g->number,
                                  .id = config->id,
                                  .log = g->owner->log,
                                  .election_ms = config->election_ms,
                                  .heartbeat_ms = config->heartbeat_ms,
                                  .keep_entries = config->log_keep_entries,
                                  .keep_bytes = config->log_keep_bytes};
    int rv = open_state(g, why);

    if (rv != 0)
        return rv;
    begin_at_state(g);
    rv = consensus_open(&cc, g->owner->loop, &callbacks, &g->consensus, &g->has_log, why);
    *has_log_out = g->has_log;
    return rv;
}

int group_recover(struct group *g, char *why)
{
    struct snapshot_meta meta = {0};
    int rv = 0;

    if (g->has_log)
        rv = install_meta_recover(g->dir, store_applied(g->store), &meta);
    if (rv < 0)
        snprintf(why, 512, "%.300s/install.meta: %s: check the disk and the permissions", g->dir,
                 strerror(-rv));
    if (rv == 1) {
        rv = consensus_finish_install(g->consensus, &meta);
        snapshot_meta_deinit(&meta);
    }
    if (rv == 0)
        install_meta_remove(g->dir);
    if (rv == 0 && !g->has_log && store_applied(g->store) > 0) {
        log_warn("%s is there without its log: it is not used", g->state_path);
        rv = group_set_aside(g, why);
        if (rv == 0)
            begin_at_state(g);
    }
    return rv;
}

/* Mended where there are others to do it from. */
static void on_scrubbed(void *arg, bool damaged)
{
    struct group *g = arg;

    if (damaged && g->condition == CONDITION_SERVING && g->owner->config->n_peers > 0)
        group_condition(g, CONDITION_MENDING);
    else if (!damaged && g->condition == CONDITION_MENDING)
        group_condition(g, CONDITION_SERVING);
}

int group_start(struct group *g, bool takes_part, char *why)
{
    const struct config *config = g->owner->config;
    struct scrub_options scrub = {.path = g->state_path,
                                  .interval_ms = config->scrub_interval_s * UINT64_C(1000),
                                  .bytes_per_s = config->scrub_bytes_per_s,
                                  .node = config->id,
                                  .digests = &g->digests,
                                  .mends = config->n_peers > 0,
                                  .arg = g,
                                  .on_found = on_scrubbed};
    struct state_owner own = group_state_owner(g);
    int rv;

    if (takes_part && store_applied(g->store) < consensus_log_begins_behind(g->consensus))
        g->condition = CONDITION_AWAITED;
    if (!group_serves(g) && config->n_peers == 0) {
        snprintf(
            why, 512,
            "%.300s is missing or damaged and log.db does not reach back to the beginning: put a backup of "
            "state.db in its place",
            g->state_path);
        return -EUCLEAN;
    }
    rv = group_start_writeback(g, &own, g->journal, g->store, &g->writeback, why);
    if (rv != 0)
        return rv;
    g->scrub = scrub_new(&scrub);
    if (g->scrub == NULL)
        return -ENOMEM;
    if (!group_serves(g))
        log_warn("the state is asked for at the leader; until it has come this node serves nobody");
    if (!takes_part)
        return 0;
    return consensus_start(
        g->consensus, group_serves(g) ? store_applied(g->store) : consensus_log_begins_behind(g->consensus),
        why);
}

/* ---- the end ---- */

void group_end_requests(struct group *g)
{
    if (g->reads != NULL)
        reads_stop(g->reads);
    if (g->writes != NULL)
        writes_stop(g->writes);
}

bool group_stop(struct group *g)
{
    consensus_close(g->consensus);
    g->consensus = NULL;
    if (g->scrub != NULL)
        scrub_pause(g->scrub);
    if (g->writeback != NULL && !writeback_free(g->writeback, true, FLUSH_MS))
        log_warn("state.db is not up to date; the next start replays log.db");
    g->writeback = NULL;
    scrub_free(g->scrub);
    g->scrub = NULL;
    if ((g->outgoing != NULL && outgoing_busy(g->outgoing)) ||
        (g->incoming != NULL && incoming_busy(g->incoming)))
        return false;
    outgoing_free(g->outgoing);
    g->outgoing = NULL;
    incoming_free(g->incoming);
    g->incoming = NULL;
    uv_close((uv_handle_t *)&g->writeback_wake, NULL);
    uv_close((uv_handle_t *)&g->behind, NULL);
    return true;
}

void group_free(struct group *g)
{
    if (g == NULL)
        return;
    verify_free(g->verify);
    writes_free(g->writes);
    leases_free(g->leases);
    mounts_free(g->mounts);
    reads_free(g->reads);
    store_free(g->store);
    journal_free(g->journal);
    events_free(g->events);
    free(g);
}
