#include "kvnode/group/leadership.h"

#include "kvnode/group/group.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

/* Who asked looks at the outcome. */
static int on_transfer(void *arg, uint64_t peer, const struct frame *frame)
{
    struct cursor in = cursor_of(frame->payload, frame->len);
    struct group *g = arg;
    uint64_t to;

    if (peer_id_decode(&in, &to) && consensus_is_leader(g->consensus)) {
        log_info("%s passes on that this node is to hand leadership over",
                 config_member_name(g->owner->config, peer));
        consensus_transfer(g->consensus, to);
    }
    return 0;
}

void leadership_init(struct group *g)
{
    peer_handlers_enter(&g->handlers, PEER_TRANSFER, on_transfer, g);
}

int leadership_hand_over(struct group *g, uint64_t to)
{
    const struct peer_links *links = g->owner->links;
    uint64_t leader = consensus_leader(g->consensus);
    struct buffer *b;

    if (group_in_minority(g))
        return KV_E_ROFS;
    if (consensus_is_leader(g->consensus))
        return to == g->owner->config->id ? KV_E_INVAL : consensus_transfer(g->consensus, to);
    b = leader != 0 ? links->begin(links->arg, g->number, leader, PEER_TRANSFER, 0) : NULL;
    if (b == NULL)
        return KV_E_UNAVAILABLE;
    peer_id_encode(b, to);
    links->end(links->arg, leader);
    return KV_OK;
}
