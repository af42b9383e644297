/* State files for peers that are too far behind for the log: made by VACUUM INTO on a worker thread,
 * streamed over the link in pieces, one file for all laggards. Loop thread only.
 *
 *   ask ─► file at index J ─► stream ─► done
 *
 * What becomes of it there: incoming.h. */
#ifndef KVFS_KVNODE_GROUP_OUTGOING_H
#define KVFS_KVNODE_GROUP_OUTGOING_H

#include <stdbool.h>
#include <stdint.h>

struct group;
struct outgoing;

struct outgoing *outgoing_new(struct group *group); /* NULL: out of memory */
/* A worker thread is at it: not the moment to free anything. */
bool outgoing_busy(const struct outgoing *s);
void outgoing_free(struct outgoing *s); /* NULL is ignored */
/* The engine wants the peer to have a state file. */
void outgoing_send(struct outgoing *s, uint64_t peer);
/* The link is there, perhaps again: what was being sent goes on. Without one it is given up after a while. */
void outgoing_linked(struct outgoing *s, uint64_t peer);
/* End of a turn: goes on streaming. */
void outgoing_turn_end(struct outgoing *s);

#endif
