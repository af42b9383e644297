/* What a node has once, whatever the number of its groups, and how its parts find each other. Each
 * part owns its own state behind its header; this struct only holds them together. Loop thread only.
 *
 *   clients ── serve, past ── group ── peers ══ SSH
 *                               └───── log.db, groups/0/state.db
 */
#ifndef KVFS_KVNODE_NODE_NODE_STATE_H
#define KVFS_KVNODE_NODE_NODE_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "kvnode/config/config.h"
#include "kvnode/group/clock_watch.h"
#include "kvnode/group/group.h"
#include "kvnode/group/peer_links.h"
#include "kvnode/peer/rivals.h"
#include "kvnode/loop/stream.h"
#include "kvnode/loop/turn.h"

#define NODE_GROUP 0

struct door;
struct past;
struct peers;
struct serve;

struct node {
    const struct config *config; /* borrowed */
    uv_loop_t loop;
    struct streams streams;
    struct turn turn;
    uv_timer_t later; /* the next turn that somebody waits for */

    struct shared_log *log;   /* log.db */
    struct group_owner owner; /* of the group: node_owns_group() */
    struct group *group;      /* the only one so far: NODE_GROUP */
    struct door *door;
    struct past *past;
    struct peers *peers;
    struct peer_links links; /* peers_links(), once they are there */
    struct rivals rivals;
    struct serve *serve;
    struct clock_watch clock;

    uv_prepare_t turn_end;
    uv_timer_t beat; /* every heartbeat: deadlines, status to peers, the elapsed clock */
    uv_signal_t sigterm, sigint, sighup, sigchld;
    uint64_t started_ms; /* clock_boot_ms() */
    struct {
        uv_fs_t request;
        bool asked;                          /* the request is under way */
        uint64_t at_ms;                      /* clock_boot_ms() of the last one */
        uint64_t disk_free, disk_total, rss; /* bytes; 0: not known yet */
    } probe;                                 /* see health_beat() */
    bool stopping;
    bool anew; /* this node was readmitted: once the loop has stopped, it starts again with an empty log */
    uint64_t stop_deadline_ms;
};

/* Why this node serves nobody: it has no state, is no member yet, has gone back, or its peers belong to
 * another cluster; NULL: it serves. */
const char *node_no_service(const struct node *n);
/* Fills n->owner, with what the node has by then; the rest is borrowed from its places in the struct. */
void node_owns_group(struct node *n);
void node_turn_end(struct node *n); /* the end of each turn of the loop */
void node_beat(struct node *n);     /* each heartbeat */

#endif
