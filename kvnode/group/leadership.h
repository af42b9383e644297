/* Leadership that is handed over because somebody asks for it. Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_LEADERSHIP_H
#define KVFS_KVNODE_GROUP_LEADERSHIP_H

#include <stdint.h>

struct group;

/* Takes PEER_TRANSFER from now on. */
void leadership_init(struct group *g);
/* To the node of that id, 0: to any. A leader itself refuses what it cannot do
 * (consensus_transfer(); KV_E_INVAL: it leads already); what another one passes on to it is seen by
 * the outcome. KV_E_ROFS: no majority; KV_E_UNAVAILABLE: no leader. */
int leadership_hand_over(struct group *g, uint64_t to);

#endif
