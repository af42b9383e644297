/* What ties the parts of a group together: who is told when an entry is applied, when leadership changes,
 * when a turn of the loop or a heartbeat is over.
 *
 * A turn: input is handled; then group_turn_end() asks for reads, proposes writes, flushes the engine and
 * hands changes to the write-behind. The output is written after that. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kvnode/group/expiry.h"
#include "kvnode/group/group.h"
#include "kvnode/group/level.h"
#include "kvnode/group/incoming.h"
#include "kvnode/group/outgoing.h"
#include "kvnode/group/leases.h"
#include "kvnode/group/reads.h"
#include "kvnode/group/scrub.h"
#include "kvnode/group/writes.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/wire/command.h"

/* Without a majority of links for this long a node knows that it is alone. */
#define MINORITY_MS 2000
/* A full disk for this long is not the moment before a trim. */
#define FULL_MS 1000

bool group_in_minority(const struct group *g)
{
    return g->minority_since_ms != 0 && clock_boot_ms() - g->minority_since_ms >= MINORITY_MS;
}

bool group_disk_full(const struct group *g)
{
    return g->full_since_ms != 0 && clock_boot_ms() - g->full_since_ms >= FULL_MS;
}

/* ---- consensus calls back ---- */

static void on_committed(void *arg)
{
    struct group *g = arg;

    meter_committed(&g->meter, consensus_term(g->consensus), consensus_applied(g->consensus),
                    clock_boot_ns());
    group_apply(g);
}

static void on_leadership(void *arg)
{
    struct group *g = arg;

    reads_retry(g->reads);
    writes_retry(g->writes, false);
}

static void on_read(void *arg, uint64_t token, uint64_t index, int code)
{
    struct group *g = arg;

    if ((token & GROUP_OWNER_TOKEN) == 0)
        reads_answered(g->reads, token, index, code);
    else
        g->owner->on_read(g->owner->arg, token, index, code);
}

void group_linked(struct group *g, uint64_t peer)
{
    reads_retry(g->reads);
    writes_retry(g->writes, true);
    outgoing_linked(g->outgoing, peer);
}

static struct buffer *on_send_begin(void *arg, uint64_t peer, bool lease)
{
    const struct group *g = arg;
    const struct peer_links *links = g->owner->links;

    return links->begin(links->arg, g->number, peer, lease ? PEER_LEASE : PEER_RAFT, 0);
}

static void on_send_end(void *arg, uint64_t peer)
{
    const struct group *g = arg;
    const struct peer_links *links = g->owner->links;

    links->end(links->arg, peer);
}

static void on_send_snapshot(void *arg, uint64_t peer)
{
    struct group *g = arg;

    outgoing_send(g->outgoing, peer);
}

static void on_install(void *arg, const struct snapshot_meta *meta)
{
    struct group *g = arg;

    incoming_install(g->incoming, meta);
}

static void on_log_shorter(void *arg, uint64_t peer, uint64_t index, uint64_t match)
{
    const struct group *g = arg;

    g->owner->on_log_shorter(g->owner->arg, peer, index, match);
}

static void on_contradiction(void *arg)
{
    const struct group *g = arg;

    g->owner->on_contradiction(g->owner->arg);
}

struct consensus_callbacks group_consensus_callbacks(struct group *g)
{
    return (struct consensus_callbacks){.arg = g,
                                        .committed = on_committed,
                                        .on_leadership = on_leadership,
                                        .on_read = on_read,
                                        .send_begin = on_send_begin,
                                        .send_end = on_send_end,
                                        .send_snapshot = on_send_snapshot,
                                        .on_log_shorter = on_log_shorter,
                                        .on_contradiction = on_contradiction,
                                        .install = on_install};
}

/* ---- turns ---- */

uint64_t group_turn_end(struct group *g)
{
    struct turn *turn = g->owner->turn;
    uint64_t since, later, soon, expire;

    group_apply(g);
    since = clock_boot_ns();
    reads_turn_end(g->reads);
    expire = expiry_turn_end(g);
    writes_turn_end(g->writes);
    soon = leases_turn_end(g->leases);
    soon = expire < soon ? expire : soon;
    consensus_turn_end(g->consensus);
    /* Leadership may just have changed: what waited for that goes now. */
    reads_turn_end(g->reads);
    later = writes_turn_end(g->writes);
    later = soon < later ? soon : later;
    since = turn_part(turn, since, "proposals and the log", "", 0);
    incoming_turn_end(g->incoming);
    outgoing_turn_end(g->outgoing);
    since = turn_part(turn, since, "state files", "", 0);
    if (g->writeback != NULL) {
        int error;
        uint64_t wait = writeback_poll(g->writeback, clock_boot_ms(), &error);

        if (error != 0)
            group_die("out of memory while writing behind");
        later = wait < later ? wait : later;
        turn_part(turn, since, "write-behind", "", 0);
    }
    reads_turn_over(g->reads);
    return later;
}

void group_turn_over(struct group *g)
{
    g->apply_until_ns = 0;
}

/* ---- beats ---- */

static void watch_majority(struct group *g, uint64_t now)
{
    const struct peer_links *links = g->owner->links;
    unsigned voters = consensus_voters(g->consensus);

    if (links->up_count(links->arg) + 1 > voters / 2)
        g->minority_since_ms = 0;
    else if (g->minority_since_ms == 0)
        g->minority_since_ms = now;
}

/* A disk that is full has room for something small now and then: what is accepted in
 * such a moment is sent on, and its result is never seen here. */
static void watch_disk(struct group *g, uint64_t now)
{
    if (consensus_disk_full(g->consensus)) {
        g->room_since_ms = 0;
        if (g->full_since_ms == 0)
            g->full_since_ms = now;
    } else if (g->full_since_ms != 0) {
        if (g->room_since_ms == 0)
            g->room_since_ms = now;
        if (g->room_since_ms - g->full_since_ms < FULL_MS || now - g->room_since_ms >= FULL_MS)
            g->full_since_ms = g->room_since_ms = 0;
    }
}

static void watch_leader(struct group *g, uint64_t now)
{
    if (consensus_leader(g->consensus) != 0)
        g->leaderless_since_ms = 0;
    else if (g->leaderless_since_ms == 0)
        g->leaderless_since_ms = now;
}

static void on_root_given(void *arg, int code, const struct command_result *result)
{
    struct group *g = arg;

    if (code != KV_OK || result->code != KV_OK)
        g->root_given = false; /* once more at a later beat */
}

/* A new cluster's root directory belongs to root. Where the nodes run as an ordinary
 * user, it is theirs: else nobody could write. */
static void give_root(struct group *g)
{
    const char *name = g->owner->config->name;
    struct command_body body = {
        .ino = KV_ROOT_INO, .valid = SETATTR_UID | SETATTR_GID, .uid = geteuid(), .gid = getegid()};
    struct command cmd = {
        .op = COMMAND_SETATTR, .flags = COMMAND_TRUSTED, .node = name, .node_len = strlen(name)};
    struct buffer b = BUFFER_INIT;
    struct attr root;

    if (g->root_given || !group_serves(g) || !consensus_leader_ready(g->consensus))
        return;
    g->root_given = true;
    if (geteuid() == 0 || store_getattr(g->store, KV_ROOT_INO, &root) != KV_OK || root.revision != 0)
        return;
    command_body_encode(&b, cmd.op, &body);
    cmd.body = b.data;
    cmd.body_len = b.len;
    if (b.failed || writes_start(g->writes, &cmd, on_root_given, g) != 0)
        g->root_given = false;
    buffer_deinit(&b);
}

void group_beat(struct group *g, uint64_t now_ms)
{
    watch_majority(g, now_ms);
    watch_disk(g, now_ms);
    watch_leader(g, now_ms);
    if (g->condition == CONDITION_AWAITED)
        heal_state(g, now_ms);
    else if (g->condition == CONDITION_MENDING)
        heal_file(g, now_ms);
    clock_lead_beat(g, now_ms);
    give_root(g);
    level_beat(g);
    writes_beat(g->writes, now_ms);
    expiry_beat(g);
    reads_beat(g->reads, now_ms);
    leases_beat(g->leases, now_ms);
    scrub_beat(g->scrub, now_ms);
    meter_beat(&g->meter, now_ms);
}
