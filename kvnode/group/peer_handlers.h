/* Which part of a group takes which frame of a peer. The parts enter themselves when they are made;
 * whoever has the links (kvnode/peer/route.h) looks here for what bears this group. Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_PEER_HANDLERS_H
#define KVFS_KVNODE_GROUP_PEER_HANDLERS_H

#include <stdint.h>

#include "sync/wire/frame.h"
#include "sync/wire/peer_frame.h"

/* frame: borrowed for the call. 0; KV_E_PROTOCOL: malformed, and the link is closed. */
typedef int peer_handler(void *arg, uint64_t peer, const struct frame *frame);

/* Zeros: nobody takes anything. */
struct peer_handlers {
    struct {
        peer_handler *take;
        void *arg;
    } of[PEER_LAST + 1 - PEER_FIRST];
};

/* One for each type. */
void peer_handlers_enter(struct peer_handlers *h, enum peer_frame type, peer_handler *take, void *arg);
/* As the handler says. A type that nobody takes, a newer node's perhaps, is ignored: 0. */
int peer_handlers_take(const struct peer_handlers *h, uint64_t peer, const struct frame *frame);

#endif
