/* What this node says of its health (sync/wire/health.h), and to itself. Loop thread only. */
#ifndef KVFS_KVNODE_PEER_HEALTH_LOOK_H
#define KVFS_KVNODE_PEER_HEALTH_LOOK_H

#include <stdint.h>

#include "sync/wire/health.h"

struct node;

/* What this node has to say, as of now. */
void health_look(const struct node *n, struct health *out);
/* Every beat: has the disk's room measured now and then, on another thread. */
void health_beat(struct node *n, uint64_t now_ms);

#endif
