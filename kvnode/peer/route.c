#include "kvnode/peer/route.h"

#include <stdbool.h>
#include <stddef.h>

#include "kvnode/peer/door.h"
#include "sync/base/error.h"

static bool is_of_nodes(uint8_t type)
{
    return type == PEER_STATUS || type == PEER_LIVES || type == PEER_ADMISSION || type == PEER_READMIT;
}

/* What it knows of the log and of votes is not what it acknowledged. */
static bool counts_from_a_node_gone_back(uint8_t type)
{
    return type == PEER_STATUS || type == PEER_LIVES || type == PEER_ADMISSION;
}

int route_take(const struct route *r, uint64_t peer, const struct frame *frame)
{
    const struct peer_handlers *handlers = &r->nodes;

    if (!is_of_nodes(frame->type))
        handlers = r->group(r->arg, frame->group);
    else if (frame->group != PEER_NO_GROUP)
        handlers = NULL;
    if (handlers == NULL)
        return KV_E_PROTOCOL;
    if (!counts_from_a_node_gone_back(frame->type) && door_shut(r->door, peer, NULL))
        return 0;
    return peer_handlers_take(handlers, peer, frame);
}
