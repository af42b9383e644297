/* The links to the other nodes: dialled through SSH by the node with the lower
 * id, accepted from the bridge by the other. Loop thread only.
 *
 * A link carries frames (sync/wire/frame.h) of the types in sync/wire/peer_frame.h,
 * which are described byte by byte in sync/wire/PROTOCOL.md. It counts as up after the
 * other side's HELLO: cluster, name and id have to be those of the
 * configuration and of the SSH key. */
#ifndef KVFS_KVNODE_PEER_PEERS_H
#define KVFS_KVNODE_PEER_PEERS_H

#include <stdbool.h>
#include <stdint.h>

#include "kvnode/group/peer_links.h"
#include "kvnode/peer/progress.h"
#include "sync/wire/peer_frame.h"

struct door;
struct peer_handlers;
struct peers;
struct rivals;
struct self;
struct skew;
struct streams;

/* What is known of a peer. */
struct peer_view {
    uint64_t id;
    const char *name, *address; /* borrowed from the configuration */
    bool up;
    bool fresh;                /* up, and its last status is no older than PEER_FRESH_MS */
    uint64_t last_seen_ms;     /* clock_boot_ms(), 0: never */
    uint64_t status_ms;        /* clock_boot_ms() when the last status came, 0: none came yet */
    struct peer_status status; /* zeros: none came yet */
    char error[160];           /* why there is no link, or "" */
};
/* A peer's status that is older says nothing of it any more (three heartbeats, if they are longer). */
#define PEER_FRESH_MS 1500

/* What the links use of their node; all borrowed. */
struct peers_owner {
    const struct self *self;
    struct streams *streams;
    struct door *door;
    struct rivals *rivals;
    struct skew *skew;
    void *arg;
    /* Who takes what bears this group; NULL: this node has none of that number. */
    const struct peer_handlers *(*group)(void *arg, uint16_t number);
    /* The link to that peer is there, perhaps again: what was under way may be lost. */
    void (*on_linked)(void *arg, uint64_t peer);
};

/* Opens the peer socket and starts dialling. The owner is copied. 0 or -errno with why (512 bytes); *out is
 * there in any case but without memory for itself (NULL). */
int peers_start(const struct peers_owner *owner, struct peers **out, char *why);
/* Ends all links and joins their threads. */
void peers_stop(struct peers *p);
void peers_free(struct peers *p); /* after the loop has closed the handles */

/* What groups and the door ask of these links. Valid until peers_free(). */
struct peer_links peers_links(struct peers *p);
/* Every heartbeat: status to all, links that have gone silent are closed. */
void peers_beat(struct peers *p, uint64_t now_ms);
/* How the peer gets on; id 0: this node. Never NULL; borrowed. */
const struct progress *peers_progress(const struct peers *p, uint64_t id);
void peers_each(const struct peers *p, void *arg, void (*emit)(void *arg, const struct peer_view *view));

#endif
