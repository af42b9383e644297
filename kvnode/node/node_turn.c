/* What ties the parts of a running node together: who is told when an entry is
 * applied, when leadership changes, when state.db has got on.
 *
 * A turn of the loop: input is handled; then node_turn_end() asks for reads,
 * proposes writes, flushes the engine, hands changes to the write-behind and
 * writes all output. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kvnode/client/past.h"
#include "kvnode/client/serve.h"
#include "kvnode/group/events.h"
#include "kvnode/group/level.h"
#include "kvnode/group/reads.h"
#include "kvnode/group/scrub.h"
#include "kvnode/group/snapshots.h"
#include "kvnode/group/writes.h"
#include "kvnode/node/node_state.h"
#include "kvnode/peer/door.h"
#include "kvnode/peer/peers.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define EXIT_DAMAGED 70

void node_die(const char *why)
{
    log_error("%s; this process ends", why);
    _exit(EXIT_DAMAGED);
}

bool node_in_minority(const struct node *n)
{
    return n->minority_since_ms != 0 && clock_boot_ms() - n->minority_since_ms >= NODE_MINORITY_MS;
}

bool node_disk_full(const struct node *n)
{
    return n->full_since_ms != 0 && clock_boot_ms() - n->full_since_ms >= NODE_FULL_MS;
}

const char *node_member_name(const struct node *n, uint64_t id)
{
    const struct config_peer *peer;

    if (id == n->config->id)
        return n->config->name;
    peer = id <= UINT16_MAX ? config_peer_by_id(n->config, (uint16_t)id) : NULL;
    return peer != NULL ? peer->name : "-";
}

/* ---- the state machine ---- */

static void on_event(void *arg, const struct event *event)
{
    struct node *n = arg;

    events_add(n->events, event);
}

static void on_held(void *arg, uint64_t ino, uint64_t bytes)
{
    struct node *n = arg;

    serve_held(n->serve, ino, bytes);
}

int node_store_new(struct node *n, struct journal **journal_out, struct store **store_out)
{
    struct store_events events = {n, on_event, on_held};

    *journal_out = journal_new();
    if (*journal_out == NULL)
        return -ENOMEM;
    *store_out = store_new(NODE_GROUP, *journal_out, &events);
    if (*store_out == NULL) {
        journal_free(*journal_out);
        return -ENOMEM;
    }
    return 0;
}

static void on_writeback_notify(void *arg) /* the writer's thread */
{
    struct node *n = arg;

    uv_async_send(&n->writeback_wake);
}

struct state_owner node_state_owner(const struct node *n)
{
    return (struct state_owner){
        .cluster = n->config->cluster_id, .node = n->config->id, .life = shared_log_life(n->log)};
}

int node_start_writeback(struct node *n, const struct state_owner *own, struct journal *journal,
                         struct store *store, struct writeback **out, char *why)
{
    struct writeback_options options = {.interval_ms = n->config->flush_ms,
                                        .commands = n->config->flush_commands,
                                        .arg = n,
                                        .notify = on_writeback_notify};
    int rv = state_db_claim(n->state_path, own, why);

    if (rv != 0)
        return rv;
    return writeback_start(n->state_path, journal, store, &options, out, why);
}

/* A state file may be as large as the state: both at once would be too much. */
void node_store_drop(struct node *n, struct dropped *dropped_out)
{
    n->stateless = true;
    serve_reset(n->serve);
    scrub_pause(n->scrub);
    *dropped_out = (struct dropped){n->writeback, n->store, n->journal};
    n->writeback = NULL;
    if (node_store_new(n, &n->journal, &n->store) != 0)
        node_die("out of memory");
}

void dropped_free(struct dropped *d)
{
    writeback_free(d->writeback, false, 0);
    store_free(d->store);
    journal_free(d->journal);
    *d = (struct dropped){0};
}

void node_store_replace(struct node *n, struct journal *journal, struct store *store,
                        struct writeback *writeback)
{
    store_free(n->store);
    journal_free(n->journal);
    n->journal = journal;
    n->store = store;
    n->writeback = writeback;
    n->stateless = n->healing;
    digest_ring_reset(&n->digests, store_applied(store), store_digest(store));
    n->mending = false;
    scrub_resume(n->scrub);
    events_reset(n->events, store_applied(store));
    past_reopen(n->past);
    writes_recheck(n->writes);
    reads_applied(n->reads);
}

void node_written_behind(struct node *n)
{
    uint64_t durable;

    if (n->writeback == NULL)
        return;
    if (writeback_state(n->writeback) == WRITEBACK_FATAL) {
        char why[STATE_DB_ERROR_MAX];

        writeback_error(n->writeback, why);
        node_die(why);
    }
    durable = writeback_durable_index(n->writeback);
    if (durable > n->durable_told) {
        n->durable_told = durable;
        consensus_state_durable(n->consensus, durable);
    }
    past_flushed(n->past);
}

/* ---- consensus calls back ---- */

static void on_committed(void *arg)
{
    node_apply(arg);
}

void node_healed(struct node *n)
{
    uint64_t have = store_applied(n->store);

    /* The leader's state was older than our log's beginning: once more. */
    n->healing = n->stateless =
        have < consensus_applied(n->consensus) && consensus_entry(n->consensus, have + 1) == NULL;
    if (n->healing)
        return;
    log_info("state.db is whole again at revision %llu", (unsigned long long)have);
    node_apply(n);
}

static void on_leadership(void *arg)
{
    struct node *n = arg;

    reads_retry(n->reads);
    writes_retry(n->writes, false);
}

static void on_read(void *arg, uint64_t token, uint64_t index, int code)
{
    struct node *n = arg;

    if ((token & DOOR_TOKEN) == 0)
        reads_answered(n->reads, token, index, code);
    else if (code == KV_OK)
        door_leads(n->door, token);
}

static struct buffer *on_send_begin(void *arg, uint64_t peer)
{
    struct node *n = arg;

    return n->links.begin(n->links.arg, peer, PEER_RAFT, 0);
}

static void on_send_end(void *arg, uint64_t peer)
{
    struct node *n = arg;

    n->links.end(n->links.arg, peer);
}

static void on_send_snapshot(void *arg, uint64_t peer)
{
    struct node *n = arg;

    snapshots_send(n->snapshots, peer);
}

static void on_install(void *arg, const struct snapshot_meta *meta)
{
    struct node *n = arg;

    snapshots_install(n->snapshots, meta);
}

static void on_log_shorter(void *arg, uint64_t peer, uint64_t index, uint64_t match)
{
    struct node *n = arg;

    door_log_shorter(n->door, peer, index, match);
}

static void on_contradiction(void *arg)
{
    struct node *n = arg;

    door_contradicted(n->door);
}

struct consensus_callbacks node_consensus_callbacks(struct node *n)
{
    return (struct consensus_callbacks){.arg = n,
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

/* ---- turns and beats ---- */

/* The end of this turn looks. */
static void on_later(uv_timer_t *timer)
{
    (void)timer;
}

void node_turn_end(struct node *n)
{
    uint64_t since, later;

    node_apply(n);
    since = clock_boot_ns();
    reads_turn_end(n->reads);
    writes_turn_end(n->writes);
    consensus_turn_end(n->consensus);
    /* Leadership may just have changed: what waited for that goes now. */
    reads_turn_end(n->reads);
    later = writes_turn_end(n->writes);
    since = turn_part(&n->turn, since, "proposals and the log", "", 0);
    snapshots_turn_end(n->snapshots);
    since = turn_part(&n->turn, since, "state files", "", 0);
    if (n->writeback != NULL) {
        int error;
        uint64_t wait = writeback_poll(n->writeback, clock_boot_ms(), &error);

        if (error != 0)
            node_die("out of memory while writing behind");
        later = wait < later ? wait : later;
        turn_part(&n->turn, since, "write-behind", "", 0);
    }
    if (later != UINT64_MAX)
        uv_timer_start(&n->later, on_later, later, 0);
    reads_turn_over(n->reads);
    streams_flush(&n->streams);
    n->apply_until_ns = 0;
    turn_end(&n->turn);
}

const char *node_no_service(const struct node *n)
{
    if (rivals_prevail(&n->rivals, n->config->n_peers + 1))
        return "this node serves nobody: its configuration names nodes of another cluster; see kvnode status";
    if (n->door != NULL && door_standing(n->door) != STANDING_MEMBER)
        return door_text(n->door);
    return n->stateless ? "this node is fetching its state from the leader; ask another" : NULL;
}

static void watch_majority(struct node *n, uint64_t now)
{
    unsigned voters = consensus_voters(n->consensus);

    if (n->links.up_count(n->links.arg) + 1 > voters / 2)
        n->minority_since_ms = 0;
    else if (n->minority_since_ms == 0)
        n->minority_since_ms = now;
}

static void watch_disk(struct node *n, uint64_t now)
{
    if (!consensus_disk_full(n->consensus))
        n->full_since_ms = 0;
    else if (n->full_since_ms == 0)
        n->full_since_ms = now;
}

static void on_root_given(void *arg, int code, const struct command_result *result)
{
    struct node *n = arg;

    if (code != KV_OK || result->code != KV_OK)
        n->root_given = false; /* once more at a later beat */
}

static void watch_leader(struct node *n, uint64_t now)
{
    if (consensus_leader(n->consensus) != 0)
        n->leaderless_since_ms = 0;
    else if (n->leaderless_since_ms == 0)
        n->leaderless_since_ms = now;
}

/* A new cluster's root directory belongs to root. Where the nodes run as an ordinary
 * user, it is theirs: else nobody could write. */
static void give_root(struct node *n)
{
    struct command_body body = {
        .ino = KV_ROOT_INO, .valid = SETATTR_UID | SETATTR_GID, .uid = geteuid(), .gid = getegid()};
    struct command cmd = {.op = COMMAND_SETATTR,
                          .flags = COMMAND_TRUSTED,
                          .node = n->config->name,
                          .node_len = strlen(n->config->name)};
    struct buffer b = BUFFER_INIT;
    struct attr root;

    if (n->root_given || n->stateless || !consensus_leader_ready(n->consensus))
        return;
    n->root_given = true;
    if (geteuid() == 0 || store_getattr(n->store, KV_ROOT_INO, &root) != KV_OK || root.revision != 0)
        return;
    command_body_encode(&b, cmd.op, &body);
    cmd.body = b.data;
    cmd.body_len = b.len;
    if (b.failed || writes_start(n->writes, &cmd, on_root_given, n) != 0)
        n->root_given = false;
    buffer_deinit(&b);
}

void node_beat(struct node *n)
{
    uint64_t now = clock_boot_ms(), since = clock_boot_ns();

    door_beat(n->door, now);
    peers_beat(n->peers, now);
    serve_beat(n->serve, now);
    watch_majority(n, now);
    watch_disk(n, now);
    watch_leader(n, now);
    if (n->healing)
        heal_state(n, now);
    else if (n->mending)
        heal_file(n, now);
    clock_watch_beat(n, now);
    give_root(n);
    level_beat(n);
    writes_beat(n->writes, now);
    reads_beat(n->reads, now);
    turn_part(&n->turn, since, "beat", "", 0);
}
