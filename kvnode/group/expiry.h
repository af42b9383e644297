/* What has a time to live goes when that is over: the leader looks at every beat, and proposes as many at
 * once as make a short command (COMMAND_EXPIRE), the next when that one was applied. Loop thread only.
 *
 * The elapsed clock is known to the next leader as of the last command only. So while something waits for its
 * time and nobody writes, an empty one carries the clock now and then: of the time that is left, an election
 * adds a 64th at most. */
#ifndef KVFS_KVNODE_GROUP_EXPIRY_H
#define KVFS_KVNODE_GROUP_EXPIRY_H

#include <stdint.h>

struct group;

void expiry_beat(struct group *g); /* after writes_beat() */
/* Before the writes': when there is more to do. When it wants another turn, ms from now; UINT64_MAX:
 * whenever. */
uint64_t expiry_turn_end(struct group *g);

#endif
