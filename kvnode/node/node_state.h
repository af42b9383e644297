/* What a node has once, whatever the number of its groups, and how its parts find each other. Each
 * part owns its own state behind its header; this struct only holds them together. Loop thread only.
 *
 *   clients ── web, serve, past ── group ── peers ══ SSH
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
#include "kvnode/peer/self.h"

#define NODE_GROUP 0

struct door;
struct door_owner;
struct past;
struct peers;
struct peers_owner;
struct serve;
struct web;

struct node {
    const struct config *config; /* borrowed */
    uv_loop_t loop;
    struct streams streams;
    struct turn turn;
    uv_timer_t later; /* the next turn that somebody waits for */

    struct shared_log *log;   /* log.db */
    struct group_owner owner; /* of the group: node_owns_group() */
    struct group *group;      /* the only one so far: NODE_GROUP */
    struct self self;         /* and since when it runs, and whether it stops */
    struct door *door;
    struct past *past;
    struct peers *peers;
    struct peer_links links; /* peers_links(), once they are there */
    struct rivals rivals;
    struct serve *serve;
    struct web *web; /* NULL: it is not configured */
    struct clock_watch clock;

    uv_prepare_t turn_end;
    uv_timer_t beat; /* every heartbeat: deadlines, status to peers, the elapsed clock */
    uv_signal_t sigterm, sigint, sighup, sigchld;
    bool anew; /* this node was readmitted: once the loop has stopped, it starts again with an empty log */
    uint64_t stop_deadline_ms;
};

/* Fills n->owner, with what the node has by then; the rest is borrowed from its places in the struct. */
void node_owns_group(struct node *n);
/* Fills n->self, but for the peers. */
void node_knows_itself(struct node *n);
/* What the door uses of the node; once there are log and group. */
struct door_owner node_owns_door(struct node *n);
/* What the links use of it; once there is the door. */
struct peers_owner node_owns_peers(struct node *n);
void node_turn_end(struct node *n); /* the end of each turn of the loop */
void node_beat(struct node *n);     /* each heartbeat */

#endif
