/* A node's read lease (sync/raft/engine/lease.c): while it is held, reads are answered from memory here, on
 * the leader and on followers, and ask nobody. What is acknowledged anywhere has been looked at here before:
 * an answer waits only for those commands of the log that may change it (kvnode/state/touch.h).
 *
 *   an entry is accepted ─► leases_turn_end(): what does it touch? ─► engine: invalidated ─► the leader shows
 * it a read ─► leases_current()? ─► leases_touches(), the newest that touches it ─► applied? ─► answered
 *
 * Asked for while clients read, and given back after IDLE_MS without. Only in clusters at LEASE_LEVEL, with
 * the setting `lease`, and where no member's election timeout is shorter than the leader's: the lease trusts
 * that nobody votes before. Loop thread only. */
#ifndef KVFS_KVNODE_GROUP_LEASES_H
#define KVFS_KVNODE_GROUP_LEASES_H

#include <stdbool.h>
#include <stdint.h>

struct group;
struct leases;
struct touch_list;

struct leases *leases_new(struct group *g); /* NULL: out of memory */
void leases_free(struct leases *l);         /* NULL is ignored */
/* May reads be answered from memory now, but for what pending commands touch? Notes that somebody reads. */
bool leases_current(struct leases *l);
/* Whether the lease runs, and for status. */
bool leases_held(const struct leases *l);
/* What is accepted and not applied; for touch_on() and its like while leases_current(). */
const struct touch_list *leases_touches(const struct leases *l);
/* Entries up to there may be visible elsewhere: only for those may an answer wait. For what is behind, mounts
 * are still to be heard, who may wait for the answer. */
uint64_t leases_forgotten(const struct leases *l);
/* Looks at what was accepted in this turn; before consensus_turn_end(), which tells the leader. */
uint64_t
leases_turn_end(struct leases *l); /* when it wants another turn, ms from now; UINT64_MAX: whenever */
void leases_beat(struct leases *l, uint64_t now_ms);
void leases_applied(struct leases *l, uint64_t index);
/* The state is another one: what was looked at is looked at again. */
void leases_reset(struct leases *l);

#endif
