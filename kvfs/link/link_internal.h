/* What the parts of the link share: link.c (messages out and answers in),
 * link_connect.c (connecting, taking over, dropping), link_thread.c (the node
 * thread). For them only. */
#ifndef KVFS_KVFS_LINK_LINK_INTERNAL_H
#define KVFS_KVFS_LINK_LINK_INTERNAL_H

#include "kvfs/link/link.h"

#define KEEPALIVE_MS 60000

/* link.c */
void link_flush(struct core *core);
/* Sends a request of link.wire on the present connection. */
void link_send_request(struct request *r);
/* Takes the request off the link and hands it its answer. */
void link_deliver(struct request *r, int code, struct cursor *body);
/* Handles what has come, up to a number of frames; false: there may be more. */
bool link_take_frames(struct core *core);
/* An answer that nobody waits for. */
void link_on_posted(struct request *r, int code, struct cursor *body);

/* link_connect.c */
void link_drop(struct core *core);
/* Asks for a session on the present connection; what waits for one is sent then. */
void link_register(struct core *core);
/* One attempt at the current node. Without the lock. */
bool link_reconnect(struct core *core);

#endif
