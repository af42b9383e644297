/* The parts of a running node and how they find each other. Each part owns its
 * own state behind its header; this struct only holds them together. Loop
 * thread only.
 *
 *   clients ── serve ──┬─ writes ──┐               ┌── peers ══ SSH
 *                      ├─ reads  ──┼── consensus ──┤
 *                      └─ past     │     │ apply   └── snapshots
 *                         events ◄─┴── store ── journal ── writeback ── state.db
 */
#ifndef KVFS_KVNODE_NODE_NODE_STATE_H
#define KVFS_KVNODE_NODE_NODE_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "kvnode/config/config.h"
#include "kvnode/group/consensus.h"
#include "kvnode/group/digest_ring.h"
#include "kvnode/group/heal.h"
#include "kvnode/group/clock_watch.h"
#include "kvnode/group/peer_links.h"
#include "kvnode/state/journal.h"
#include "kvnode/group/reserve.h"
#include "kvnode/group/rivals.h"
#include "kvnode/state/store.h"
#include "kvnode/loop/stream.h"
#include "kvnode/loop/turn.h"
#include "kvnode/disk/writeback.h"

#define NODE_GROUP 0
/* Longer than a client's own deadline would be waiting for nothing. */
#define NODE_REQUEST_MS 9500
/* Without a majority of links for this long a node knows that it is alone. */
#define NODE_MINORITY_MS 2000
/* A full disk for this long is not the moment before a trim. */
#define NODE_FULL_MS 1000

struct door;
struct events;
struct past;
struct peers;
struct reads;
struct scrub;
struct serve;
struct snapshots;
struct verify;
struct writes;

struct node {
    const struct config *config; /* borrowed */
    uv_loop_t loop;
    struct streams streams;

    /* The state machine. Replaced as a whole by an install. */
    struct journal *journal;
    struct store *store;
    struct writeback *writeback; /* NULL while an install is under way */
    uv_async_t writeback_wake;
    struct digest_ring digests;
    uv_timer_t later;        /* the next turn that somebody waits for */
    uv_idle_t behind;        /* runs while node_apply() has more to do */
    uint64_t apply_until_ns; /* clock_boot_ns(): when applying has had its time of this turn; 0: not begun */
    bool applying;           /* node_apply() is under way */
    struct turn turn;
    uint64_t durable_told; /* what consensus knows to be durable */
    char group_dir[4000];  /* data_dir/groups/0: what belongs to one shard */
    char state_path[4096]; /* group_dir/state.db */

    struct shared_log *log; /* log.db */
    struct consensus *consensus;
    struct door *door;
    struct events *events;
    struct past *past;
    struct peers *peers;
    struct peer_links links; /* peers_links(), once they are there */
    struct reads *reads;
    struct reserve reserve; /* promised to clients */
    struct rivals rivals;
    struct scrub *scrub;
    struct serve *serve;
    struct snapshots *snapshots;
    struct verify *verify;
    struct writes *writes;

    uv_prepare_t turn_end;
    uv_timer_t beat; /* every heartbeat: deadlines, status to peers, the elapsed clock */
    uv_signal_t sigterm, sigint, sighup, sigchld;
    uint64_t started_ms;          /* clock_boot_ms() */
    uint64_t minority_since_ms;   /* 0: a majority is linked */
    uint64_t leaderless_since_ms; /* 0: a leader is known */
    uint64_t full_since_ms;       /* 0: log.db's disk has room */
    struct {
        uv_fs_t request;
        bool asked;                          /* the request is under way */
        uint64_t at_ms;                      /* clock_boot_ms() of the last one */
        uint64_t disk_free, disk_total, rss; /* bytes; 0: not known yet */
    } probe;                                 /* see health_beat() */
    bool healing;                            /* state.db was damaged: see heal_state() */
    bool mending;                            /* state.db is damaged, memory is not: see heal_file() */
    struct heal heal;
    struct clock_watch clock;
    bool stateless;   /* a state file is awaited or being loaded: nobody is served, `store` is empty */
    bool root_given;  /* the owner of a new cluster's root directory is settled */
    bool level_asked; /* a new cluster's feature level is being raised, or was: see level_beat() */
    bool stopping;
    bool anew; /* this node was readmitted: once the loop has stopped, it starts again with an empty log */
    uint64_t stop_deadline_ms;
};

/* Why this node serves nobody: it has no state, is no member yet, has gone back, or its peers belong to
 * another cluster; NULL: it serves. */
const char *node_no_service(const struct node *n);
/* This node knows that it cannot reach a majority. */
bool node_in_minority(const struct node *n);
/* This node's log.db has had no room for a while: it stores and applies nothing, so
 * that its clients are better served by another node. */
bool node_disk_full(const struct node *n);
/* The name of a member by its id: "n2", or "-". Borrowed from the configuration. */
const char *node_member_name(const struct node *n, uint64_t id);
/* Makes a fresh store with its journal, events connected. 0 or -ENOMEM. */
int node_store_new(struct node *n, struct journal **journal_out, struct store **store_out);
/* The state is about to be replaced: takes it out of force, and serves nobody until
 * then. dropped_free() ends the writer and frees all; any thread, and before the new
 * state is loaded. */
struct dropped {
    struct writeback *writeback;
    struct store *store;
    struct journal *journal;
};
void node_store_drop(struct node *n, struct dropped *dropped_out);
void dropped_free(struct dropped *d);
/* Puts a loaded store in force, with its write-behind (the old one is freed). */
void node_store_replace(struct node *n, struct journal *journal, struct store *store,
                        struct writeback *writeback);
/* The state that was asked for while healing is in force: applies what the log has
 * beyond it, and serves. */
void node_healed(struct node *n);
/* What state.db has to be marked with here. */
struct state_owner node_state_owner(const struct node *n);
/* Waits for the disk: any thread. 0 or -errno with why. */
int node_start_writeback(struct node *n, const struct state_owner *own, struct journal *journal,
                         struct store *store, struct writeback **out, char *why);
/* The writer of state.db has got on, or changed its state. */
void node_written_behind(struct node *n);
struct consensus_callbacks node_consensus_callbacks(struct node *n);
/* Applies what is committed, as far as this turn has time for it. */
void node_apply(struct node *n);
/* There is more to do: the loop does not sleep before the next turn. */
void node_turn_again(struct node *n);
void node_turn_end(struct node *n); /* the end of each turn of the loop */
void node_beat(struct node *n);     /* each heartbeat */
/* Ends the process after a failure that must not be survived. */
void node_die(const char *why) __attribute__((noreturn));

#endif
