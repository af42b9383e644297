/* Where a node's own health comes from. The room on its disk is asked for on a thread
 * of the pool: a disk that hangs must not hang the node with it. */
#include "kvnode/peer/self.h"

#include <stdio.h>
#include <string.h>

#include "kvnode/config/config.h"
#include "kvnode/group/clock_watch.h"
#include "kvnode/group/group.h"
#include "kvnode/peer/rivals.h"
#include "kvnode/peer/door.h"
#include "kvnode/peer/peers.h"
#include "sync/base/clock.h"
#include "sync/wire/feature.h"

#define PROBE_EVERY_MS 1000

static uint64_t flags_of(const struct self *s)
{
    uint64_t flags = 0;

    if (consensus_disk_full(s->group->consensus))
        flags |= HEALTH_LOG_FULL;
    if (s->group->writeback != NULL && writeback_state(s->group->writeback) == WRITEBACK_FULL)
        flags |= HEALTH_STATE_FULL;
    if (s->group->condition == CONDITION_MENDING)
        flags |= HEALTH_DAMAGED;
    if (!group_serves(s->group))
        flags |= HEALTH_STATELESS;
    if (door_standing(s->door) == STANDING_GONE_BACK)
        flags |= HEALTH_GONE_BACK;
    if (door_standing(s->door) == STANDING_WAITING)
        flags |= HEALTH_WAITING;
    if (rivals_prevail(s->rivals, s->config->n_peers + 1))
        flags |= HEALTH_RIVALS;
    if (s->stopping)
        flags |= HEALTH_STOPPING;
    if (s->clock->view.off)
        flags |= HEALTH_CLOCK_OFF;
    return flags;
}

static void add_link(void *arg, const struct peer_view *view)
{
    struct health *h = arg;

    if (view->up && view->fresh && h->n_links < HEALTH_LINKS_MAX)
        h->links[h->n_links++] = view->id;
}

static void look_at_health(const struct self *s, struct health *out)
{
    struct store_usage usage;

    store_usage(s->group->store, &usage);
    *out = (struct health){.flags = flags_of(s),
                           .commit = consensus_commit(s->group->consensus),
                           .last_index = consensus_last(s->group->consensus),
                           .first = consensus_first(s->group->consensus),
                           .durable =
                               s->group->writeback != NULL ? writeback_durable_index(s->group->writeback) : 0,
                           .wall_ns = (int64_t)clock_wall_ns(),
                           .uptime_ms = clock_boot_ms() - s->started_ms,
                           .keys = usage.keys,
                           .live_bytes = usage.bytes,
                           .max_keys = usage.max_keys,
                           .max_bytes = usage.max_bytes,
                           .disk_free = s->probe.disk_free,
                           .disk_total = s->probe.disk_total,
                           .rss = s->probe.rss,
                           .level = FEATURE_LEVEL,
                           .election_ms = s->config->election_ms,
                           .leader = consensus_leader(s->group->consensus)};
    if (consensus_is_leader(s->group->consensus)) {
        out->commit_p50_us = s->group->meter.p50_us;
        out->commit_p99_us = s->group->meter.p99_us;
    }
    if (s->config->http_host != NULL && s->config->http_host[0] != '\0')
        snprintf(out->http, sizeof out->http, strchr(s->config->http_host, ':') != NULL ? "[%s]:%u" : "%s:%u",
                 s->config->http_host, s->config->http_port);
    snprintf(out->version, sizeof out->version, "%s", KVFS_VERSION);
    peers_each(s->peers, out, add_link);
}

void self_look(const struct self *s, struct peer_status *out)
{
    const struct group *g = s->group;

    *out = (struct peer_status){.role = consensus_is_leader(g->consensus)      ? PEER_LEADER
                                        : consensus_is_candidate(g->consensus) ? PEER_CANDIDATE
                                                                               : PEER_FOLLOWER,
                                .term = consensus_term(g->consensus),
                                .applied = store_applied(g->store),
                                .digest_index = store_applied(g->store),
                                .digest = store_digest(g->store),
                                .flags = (g->condition == CONDITION_MENDING ? PEER_FLAG_DAMAGED : 0) |
                                         (group_serves(g) ? 0 : PEER_FLAG_STATELESS)};
    look_at_health(s, &out->health);
}

const char *self_no_service(const struct self *s)
{
    if (rivals_prevail(s->rivals, s->config->n_peers + 1))
        return "this node serves nobody: its configuration names nodes of another cluster; see kvnode status";
    if (door_standing(s->door) != STANDING_MEMBER)
        return door_text(s->door);
    return group_serves(s->group) ? NULL : "this node is fetching its state from the leader; ask another";
}

static void on_stat(uv_fs_t *request)
{
    struct self *s = request->data;

    if (request->result == 0)
        s->probe.state_bytes = request->statbuf.st_size;
    uv_fs_req_cleanup(request);
    s->probe.asked = false;
}

static void on_statfs(uv_fs_t *request)
{
    struct self *s = request->data;

    if (request->result == 0) {
        const uv_statfs_t *fs = request->ptr;

        s->probe.disk_free = fs->f_bavail * fs->f_bsize;
        s->probe.disk_total = fs->f_blocks * fs->f_bsize;
    }
    uv_fs_req_cleanup(request);
    s->probe.asked = uv_fs_stat(s->loop, request, s->group->state_path, on_stat) == 0;
}

void self_beat(struct self *s, uint64_t now_ms)
{
    size_t rss;

    if (s->probe.asked || now_ms - s->probe.at_ms < PROBE_EVERY_MS)
        return;
    s->probe.at_ms = now_ms;
    if (uv_resident_set_memory(&rss) == 0)
        s->probe.rss = rss;
    s->probe.request.data = s;
    s->probe.asked = uv_fs_statfs(s->loop, &s->probe.request, s->config->data_dir, on_statfs) == 0;
}
