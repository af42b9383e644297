/* The way of a peer's frame to who takes it: by its group and type. Loop thread only. */
#ifndef KVFS_KVNODE_PEER_ROUTE_H
#define KVFS_KVNODE_PEER_ROUTE_H

#include <stdint.h>

#include "kvnode/group/peer_handlers.h"

struct door;

struct route {
    const struct door *door;    /* borrowed */
    struct peer_handlers nodes; /* for what nodes as such say: STATUS, LIVES, ADMISSION, READMIT */
    /* Those of a group; NULL: this node has none of that number. */
    const struct peer_handlers *(*group)(void *arg, uint16_t number);
    void *arg;
};

/* A frame that came after the peer's HELLO; a second HELLO is for whoever has the link. 0: it was
 * taken; or it is of a type that this node does not know, or of a peer that has gone back (door.h), and
 * was dropped. KV_E_PROTOCOL: it is malformed, or of a group that is not here; the link is to be closed. */
int route_take(const struct route *r, uint64_t peer, const struct frame *frame);

#endif
