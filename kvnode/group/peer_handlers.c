#include "kvnode/group/peer_handlers.h"

#include <assert.h>
#include <stddef.h>

void peer_handlers_enter(struct peer_handlers *h, enum peer_frame type, peer_handler *take, void *arg)
{
    assert(h->of[type - PEER_FIRST].take == NULL);
    h->of[type - PEER_FIRST].take = take;
    h->of[type - PEER_FIRST].arg = arg;
}

int peer_handlers_take(const struct peer_handlers *h, uint64_t peer, const struct frame *frame)
{
    if (frame->type < PEER_FIRST || frame->type > PEER_LAST || h->of[frame->type - PEER_FIRST].take == NULL)
        return 0;
    return h->of[frame->type - PEER_FIRST].take(h->of[frame->type - PEER_FIRST].arg, peer, frame);
}
