/* Where a node's own health comes from. The room on its disk is asked for on a thread
 * of the pool: a disk that hangs must not hang the node with it. */
#include "kvnode/peer/health_look.h"

#include <stdio.h>
#include <string.h>

#include "kvnode/node/node_state.h"
#include "kvnode/peer/door.h"
#include "kvnode/peer/peers.h"
#include "sync/base/clock.h"
#include "sync/wire/feature.h"

#define PROBE_EVERY_MS 1000

static uint64_t flags_of(const struct node *n)
{
    uint64_t flags = 0;

    if (consensus_disk_full(n->group->consensus))
        flags |= HEALTH_LOG_FULL;
    if (n->group->writeback != NULL && writeback_state(n->group->writeback) == WRITEBACK_FULL)
        flags |= HEALTH_STATE_FULL;
    if (n->group->mending)
        flags |= HEALTH_DAMAGED;
    if (n->group->stateless)
        flags |= HEALTH_STATELESS;
    if (door_standing(n->door) == STANDING_GONE_BACK)
        flags |= HEALTH_GONE_BACK;
    if (door_standing(n->door) == STANDING_WAITING)
        flags |= HEALTH_WAITING;
    if (rivals_prevail(&n->rivals, n->config->n_peers + 1))
        flags |= HEALTH_RIVALS;
    if (n->stopping)
        flags |= HEALTH_STOPPING;
    if (n->clock.view.off)
        flags |= HEALTH_CLOCK_OFF;
    return flags;
}

static void add_link(void *arg, const struct peer_view *view)
{
    struct health *h = arg;

    if (view->up && view->fresh && h->n_links < HEALTH_LINKS_MAX)
        h->links[h->n_links++] = view->id;
}

void health_look(const struct node *n, struct health *out)
{
    struct store_usage usage;

    store_usage(n->group->store, &usage);
    *out = (struct health){.flags = flags_of(n),
                           .commit = consensus_commit(n->group->consensus),
                           .last_index = consensus_last(n->group->consensus),
                           .first = consensus_first(n->group->consensus),
                           .durable =
                               n->group->writeback != NULL ? writeback_durable_index(n->group->writeback) : 0,
                           .wall_ns = (int64_t)clock_wall_ns(),
                           .uptime_ms = clock_boot_ms() - n->started_ms,
                           .keys = usage.keys,
                           .live_bytes = usage.bytes,
                           .max_keys = usage.max_keys,
                           .max_bytes = usage.max_bytes,
                           .disk_free = n->probe.disk_free,
                           .disk_total = n->probe.disk_total,
                           .rss = n->probe.rss,
                           .level = FEATURE_LEVEL,
                           .leader = consensus_leader(n->group->consensus)};
    snprintf(out->version, sizeof out->version, "%s", KVFS_VERSION);
    peers_each(n->peers, out, add_link);
}

static void on_statfs(uv_fs_t *request)
{
    struct node *n = request->data;

    if (request->result == 0) {
        const uv_statfs_t *s = request->ptr;

        n->probe.disk_free = s->f_bavail * s->f_bsize;
        n->probe.disk_total = s->f_blocks * s->f_bsize;
    }
    uv_fs_req_cleanup(request);
    n->probe.asked = false;
}

void health_beat(struct node *n, uint64_t now_ms)
{
    size_t rss;

    if (n->probe.asked || now_ms - n->probe.at_ms < PROBE_EVERY_MS)
        return;
    n->probe.at_ms = now_ms;
    if (uv_resident_set_memory(&rss) == 0)
        n->probe.rss = rss;
    n->probe.request.data = n;
    n->probe.asked = uv_fs_statfs(&n->loop, &n->probe.request, n->config->data_dir, on_statfs) == 0;
}
