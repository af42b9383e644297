/* What a group asks of the links to the other nodes. Whoever has the links fills this struct
 * (peers_links(), kvnode/peer/peers.h), before the engine starts. Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_PEER_LINKS_H
#define KVFS_KVNODE_GROUP_PEER_LINKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/wire/peer_frame.h"

/* A peer as it said of itself last. */
struct peer_glance {
    uint64_t id, applied;
    bool up;
    bool fresh;     /* up, and what it said is not old */
    bool damaged;   /* its scrub found its state.db damaged */
    bool stateless; /* it awaits a state, and serves nobody */
    bool useless;   /* it acknowledges no write */
    bool clock_off; /* its clock differs from the majority's */
};

struct peer_links {
    void *arg;

    /* Where to append the body of a frame of that group (PEER_NO_GROUP: of the nodes) to that peer; NULL: no
     * link, or too much waits on it. end() finishes it, before anything else is asked of the links. */
    struct buffer *(*begin)(void *arg, uint16_t group, uint64_t peer, enum peer_frame type, uint64_t id);
    void (*end)(void *arg, uint64_t peer);

    bool (*up)(void *arg, uint64_t peer);
    unsigned (*up_count)(void *arg); /* of those that may take part */
    /* There is a link to it that takes one more frame. */
    bool (*can_send)(void *arg, uint64_t peer);
    /* Bytes that wait to be written to it; the most that waits for any of them. */
    size_t (*pending)(void *arg, uint64_t peer);
    size_t (*pending_most)(void *arg);

    void (*each)(void *arg, void *to, void (*emit)(void *to, const struct peer_glance *peer));
    /* The highest feature level that all members know, who are all heard; 0: one is not. */
    uint64_t (*level)(void *arg);
    /* The shortest election timeout of all members, ms; UINT64_MAX: there are no others; 0: one has not told.
     */
    uint64_t (*election_ms)(void *arg);
};

#endif
