/* What the parts of the link share: uplink.c (messages out and answers in),
 * uplink_connect.c (connecting, taking over, dropping), uplink_thread.c (the node
 * thread). For them only. */
#ifndef KVFS_KVFS_LINK_UPLINK_INTERNAL_H
#define KVFS_KVFS_LINK_UPLINK_INTERNAL_H

#include "kvfs/link/uplink.h"

#define KEEPALIVE_MS 60000      /* at most */
#define LEASE_KEEPALIVE_MS 3000 /* a third of LOCK_LEASE_MS, kvnode/state/store_internal.h */

/* keepalive.c: how long after one the next is due. */
uint64_t uplink_keepalive_ms(const struct uplink *u);

/* uplink.c */
void uplink_flush(struct hub *hub);
/* Sends a call of uplink.wire on the present connection. */
void uplink_send_call(struct call *call);
/* Takes the call off the link and hands it its answer. */
void uplink_deliver(struct call *call, int code, const union answer_body *answer);
/* Handles what has come, up to a number of frames; false: there may be more. */
bool uplink_take_frames(struct hub *hub);
/* An answer that nobody waits for. */
void uplink_on_posted(struct call *call, int code, const union answer_body *answer);

/* uplink_connect.c */
void uplink_drop(struct hub *hub);
/* Asks for a session on the present connection; what waits for one is sent then. */
void uplink_register(struct hub *hub);
/* One attempt at the current node. Without the lock. */
bool uplink_reconnect(struct hub *hub);

#endif
